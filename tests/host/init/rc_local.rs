//! sysvinit/rc.local.sl and sysvinit/rc.local.ubuntu.

use super::guest::{Guest, Outcome, System, shipped};

claims![
    rc_local_starts_watch_and_condor_when_ready,
    rc_local_starts_watch_without_condor_when_boot_failed,
    rc_local_goes_on_without_watch_and_directories_when_the_configuration_is_wrong,
    rc_local_goes_on_when_condor_does_not_start,
];

/// rc.local as the distribution has it, with the snippet pasted in, and what runs it.
struct RcLocal {
    system: System,
    snippet: &'static str,
    shell: &'static [&'static str],
    last_lines: &'static str,
}

const SL: RcLocal = RcLocal {
    system: System::Sl5,
    snippet: "sysvinit/rc.local.sl",
    shell: &["bash", "--posix"],
    last_lines: "touch /fake/local\n",
};
const UBUNTU: RcLocal = RcLocal {
    system: System::Debian,
    snippet: "sysvinit/rc.local.ubuntu",
    shell: &["dash", "-e"],
    last_lines: "touch /fake/local\nexit 0\n",
};
const UBUNTU_WITH_BUSYBOX: RcLocal = RcLocal {
    system: System::Busybox,
    shell: &["busybox", "sh", "-e"],
    ..UBUNTU
};

const EVERY_RC_LOCAL: [RcLocal; 3] = [SL, UBUNTU, UBUNTU_WITH_BUSYBOX];

impl RcLocal {
    fn guest(&self) -> Guest {
        let guest = Guest::new(self.system);
        guest.write(
            "/etc/rc.local",
            &format!(
                "touch /fake/first\n{}{}",
                shipped(self.snippet),
                self.last_lines
            ),
        );
        guest.write_program(
            "/usr/sbin/service",
            "#!/fake/bash\necho \"$*\" >>/fake/service\nexit \"$(</fake/condor)\"\n",
        );
        if !guest.exists("/sbin/service") {
            let shared = guest.run(&["ln", "-s", "/usr/sbin/service", "/sbin/service"]);
            assert_eq!(shared.code, Some(0));
        }
        guest.answers("condor", "0");
        guest
    }

    fn run(&self, guest: &Guest) -> Outcome {
        let outcome = guest.run(&[self.shell, &["/etc/rc.local"]].concat());
        assert!(guest.exists("/fake/first") && guest.exists("/fake/local"));
        assert_eq!(outcome.code, Some(0));
        outcome
    }
}

fn rc_local_starts_watch_and_condor_when_ready() {
    for rc_local in EVERY_RC_LOCAL {
        let guest = rc_local.guest();
        let outcome = rc_local.run(&guest);
        assert_eq!(outcome.stderr, "boot's own line\n");
        assert_eq!(guest.read("/fake/service"), "condor start\n");
        guest.wait_until("watch is running", |guest| guest.watches().len() == 1);
        // Its session is its own: rc's terminal ends without it.
        let pid = guest.watches()[0];
        assert_eq!(guest.stat(pid).session, pid);
    }
}

fn rc_local_starts_watch_without_condor_when_boot_failed() {
    for rc_local in EVERY_RC_LOCAL {
        for code in [1, 3, 4, 5, 137] {
            let guest = rc_local.guest();
            fails(&rc_local, &guest, code);
            guest.wait_until("watch is running", |guest| guest.watches().len() == 1);
            assert_eq!(guest.calls(), ["boot", "watch"]);
        }
    }
}

fn rc_local_goes_on_without_watch_and_directories_when_the_configuration_is_wrong() {
    for rc_local in EVERY_RC_LOCAL {
        let guest = rc_local.guest();
        let before = guest.tree();
        fails(&rc_local, &guest, 6);
        assert_eq!(guest.calls(), ["boot"]);
        guest.assert_tree(&before);
    }
}

fn fails(rc_local: &RcLocal, guest: &Guest, code: i32) {
    guest.answers("boot", &code.to_string());
    let outcome = rc_local.run(guest);
    let said = format!("vmstage: boot failed (exit code {code}); condor is not started\n");
    assert_eq!(outcome.stderr, format!("boot's own line\n{said}"));
    assert_eq!(guest.read("/fake/service"), "");
}

fn rc_local_goes_on_when_condor_does_not_start() {
    for rc_local in EVERY_RC_LOCAL {
        let guest = rc_local.guest();
        guest.answers("condor", "2");
        rc_local.run(&guest);
        assert_eq!(guest.read("/fake/service"), "condor start\n");
    }
}
