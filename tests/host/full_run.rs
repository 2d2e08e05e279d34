//! `/run` is in memory, and anybody may fill it.

use crate::common::{Image, Machine};

claims!(a_ready_machine_says_so_also_where_run_is_full);

fn a_ready_machine_says_so_also_where_run_is_full() {
    let machine = Machine::new();
    machine.disk("vdb", &Image::ext2("ephemeral0"));
    machine.sh("mount -t tmpfs -o size=64k tmpfs /run
        dd if=/dev/zero of=/run/full bs=1k 2> /dev/null || true");
    let said = machine.sh("vmstage boot 2>&1");
    let warning = "warning: the status file could not be told: cannot write \
                   /run/vmstage/status.json: No space left on device";
    assert!(said.contains(warning), "{said}");
    assert!(said.contains("vmstage: ready: /dev/vdb"), "{said}");
    for format in ["text", "json"] {
        let said = machine.sh(&format!("vmstage status --wait=1 --format {format}"));
        assert!(said.contains("/dev/vdb"), "{said}");
    }
    let status = machine.run_as_nobody(&["status"]);
    assert_eq!(status.code, 0, "{status}");
    assert!(status.stdout.starts_with("ready: /dev/vdb"), "{status}");

    // It is in its own place again as soon as there is room.
    machine.sh("rm /run/full");
    machine.sh("vmstage boot");
    machine.sh("test -e /run/vmstage/status.json");
    machine.sh("test ! -e /var/lib/vmstage/status.json");
    machine.sh("vmstage status");
}
