//! The values of Machine/Job Features, one a line as `key value`, and each of them as
//! the plain keys in `meta` take it.
#![no_main]

use std::collections::BTreeMap;
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vmstage::clock;
use vmstage::config::FeaturesLocation;
use vmstage::deadline::decide::decide;
use vmstage::deadline::limit::{Limit, When};
use vmstage::deadline::origin::{LimitSource, Origin};
use vmstage::metadata::machine_features::understand;

fuzz_target!(|text: &str| {
    let values: BTreeMap<String, String> = text
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    let understood = understand(&values);
    assert!(understood.grace.is_none_or(|g| g <= Duration::from_secs(30 * 86400)));

    let mut limits = understood.limits;
    for value in values.values() {
        for when in [When::from_instant(value), When::from_lifetime(value)] {
            limits.push(Limit::new(Origin::new(LimitSource::Openstack, value), when));
        }
        let _ = FeaturesLocation::try_from(value.clone());
    }
    let decision = decide(&limits, clock::EARLIEST, Duration::ZERO);
    if let Some(deadline) = decision.deadline {
        assert!((clock::EARLIEST..=clock::LATEST).contains(&deadline.at));
    }
});
