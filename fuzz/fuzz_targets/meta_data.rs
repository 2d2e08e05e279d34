//! What a metadata service says: OpenStack's `meta_data.json` and `vendor_data2.json`,
//! Google's and Azure's documents, Azure's and EC2's events.
#![no_main]

use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vmstage::clock;
use vmstage::deadline::decide::decide;
use vmstage::deadline::first_boot;
use vmstage::deadline::origin::LimitSource;
use vmstage::metadata::ec2::said;
use vmstage::metadata::{Answer, azure, google, openstack};

fuzz_target!(|text: &[u8]| {
    let answers = [
        openstack::parse(text, LimitSource::Openstack),
        openstack::parse_vendor_data(text),
        google::parse(text),
        azure::parse(text),
        azure::parse_events(text, "vm_0"),
    ];
    let mut limits = Vec::new();
    for answer in answers.into_iter().flatten() {
        look_at(&answer);
        limits.extend(answer.limits);
    }
    let said = [
        said::spot(text),
        said::lifecycle(text),
        said::events(text),
        said::tag("vmstage_deadline", text),
        said::tag("vmstage_lifetime", text),
    ];
    for said in said {
        assert!(said.limits.len() + said.warnings.len() <= 32);
        assert!(said.warnings.iter().all(|text| !text.contains(char::is_control)));
        limits.extend(said.limits);
    }
    for limit in &limits {
        assert!(!limit.origin.to_string().contains(char::is_control), "{:?}", limit.origin);
    }
    if let Some(deadline) = decide(&limits, clock::EARLIEST, Duration::ZERO).deadline {
        assert!((clock::EARLIEST..=clock::LATEST).contains(&deadline.at));
    }
});

fn look_at(answer: &Answer) {
    let instance = &answer.instance;
    if let Some(id) = &instance.id {
        assert_eq!(first_boot::usable_id(id), Ok(id.as_str()));
    }
    let shown = [
        &instance.name,
        &instance.project,
        &instance.availability_zone,
        &instance.flavor,
    ];
    for text in shown.into_iter().flatten().chain(&answer.warnings) {
        assert!(!text.contains(char::is_control), "{text:?}");
    }
    assert!(answer.warnings.len() <= 40);
    assert!(answer.meta.len() <= 68);
    assert!(answer.limits.len() <= 34);
}
