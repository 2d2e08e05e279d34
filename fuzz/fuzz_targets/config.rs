//! The configuration file.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmstage::config::Config;

fuzz_target!(|text: &str| {
    match Config::parse(text) {
        Ok(config) => {
            let mount_point = config.staging.mount_point.as_path();
            assert!(mount_point.is_absolute() && mount_point.parent().is_some());
            for directory in &config.directories {
                assert!(directory.path.as_path().is_relative());
                assert_eq!(directory.mode.bits() & !0o7777, 0);
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
});
