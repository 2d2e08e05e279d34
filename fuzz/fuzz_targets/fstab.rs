//! `/etc/fstab`: what was read out of it can be written and read again.
#![no_main]

use std::os::unix::ffi::OsStrExt;

use libfuzzer_sys::fuzz_target;
use vmstage::host::fstab::Fstab;

fuzz_target!(|text: &[u8]| {
    for line in Fstab::parse(text).lines {
        assert!(!line.text.contains(char::is_control));
        assert!(line.text.chars().count() <= 255);
        let _ = line.is_of_cloud_init();

        let options = line.options.join(",");
        let fields = [
            line.source.as_bytes(),
            line.mount_point.as_os_str().as_bytes(),
            line.filesystem.as_bytes(),
            options.as_bytes(),
        ];
        let written = fields.map(escape_all).join(" ");
        let again = Fstab::parse(written.as_bytes()).lines;
        assert_eq!(again.len(), 1);
        assert_eq!(again[0].source, line.source);
        assert_eq!(again[0].mount_point, line.mount_point);
        assert_eq!(again[0].filesystem, line.filesystem);
        assert_eq!(again[0].options, line.options);
    }
});

fn escape_all(field: &[u8]) -> String {
    field.iter().map(|byte| format!("\\{byte:03o}")).collect()
}
