//! The mount table: what was read out of it can be written and read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use vmstage::host::mount_table::{escape, parse};

fuzz_target!(|table: &[u8]| {
    for mount in parse(table) {
        let mut line = escape(&mount.source);
        line.push(b' ');
        line.extend(escape(&mount.mount_point));
        line.extend(format!(" {} {} 0 0\n", mount.filesystem, mount.options).bytes());
        assert_eq!(parse(&line), [mount]);
    }
});
