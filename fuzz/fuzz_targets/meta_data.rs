//! What a metadata service says: `meta_data.json`, and a spot notice.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vmstage::deadline::decide::decide;
use vmstage::metadata::{ec2, openstack};
use vmstage::clock;
use vmstage::deadline::first_boot;

fuzz_target!(|text: &[u8]| {
    let mut limits = vec![ec2::spot_limit(text)];
    if let Ok(answer) = openstack::parse(text, "fuzz") {
        let instance = &answer.instance;
        if let Some(id) = &instance.id {
            assert_eq!(first_boot::usable_id(id), Ok(id.as_str()));
        }
        let shown = [&instance.name, &instance.project, &instance.availability_zone];
        let texts = shown.into_iter().flatten().chain(&answer.warnings);
        for text in texts {
            assert!(!text.contains(char::is_control), "{text:?}");
        }
        assert!(answer.warnings.len() < 10);
        limits.extend(answer.limits);
    }
    if let Some(deadline) = decide(&limits, clock::EARLIEST, Duration::ZERO).deadline {
        assert!((clock::EARLIEST..=clock::LATEST).contains(&deadline.at));
    }
});
