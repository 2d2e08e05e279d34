//! systemd/: what systemd itself makes of the units, in a machine with cloud-init and
//! HTCondor as Ubuntu orders them.

use std::collections::{BTreeMap, BTreeSet};

use super::guest::{Guest, System, repository, shipped};
use crate::common::{skip, tool};

claims![
    systemd_finds_no_fault_with_the_units,
    boot_waits_for_local_file_systems_and_not_for_the_network,
    with_the_drop_in_for_accounts_boot_waits_for_those_that_know_them,
    watch_comes_after_boot_and_waits_for_no_network,
    condor_requires_staging_and_stops_before_it_is_unmounted,
    the_mount_is_made_for_the_whole_machine,
    the_boot_unit_is_ready_when_the_program_says_so_and_stays_active,
    a_process_that_no_signal_reaches_holds_up_no_stop,
    the_watch_unit_restarts_and_lasts_until_the_end_of_a_shutdown,
];

const SYSTEMD: &str = "/usr/lib/systemd/systemd";

const SHIPPED: [&str; 3] = [
    "vmstage.service",
    "vmstage-watch.service",
    "condor.service.d/vmstage.conf",
];

/// Units that stand beside ours, as far as order goes.
const BESIDE: [(&str, &str); 3] = [
    (
        "networking.service",
        "[Unit]\nDefaultDependencies=no\nBefore=network.target network-online.target\n",
    ),
    (
        "cloud-init.service",
        "[Unit]\nDefaultDependencies=no\nAfter=networking.service\n\
         Before=network-online.target sysinit.target\n",
    ),
    (
        "condor.service",
        "[Unit]\nAfter=network-online.target\nWants=network-online.target\n",
    ),
];

/// What knows the accounts, as sssd's unit is.
const SSSD: &str = "[Unit]\nBefore=nss-user-lookup.target\nWants=nss-user-lookup.target\n";

fn guest_with_units() -> Guest {
    tool("systemd-analyze");
    if !repository(SYSTEMD).exists() {
        skip("systemd is not installed");
    }
    let guest = Guest::new(System::Debian);
    for unit in SHIPPED {
        let text = shipped(&format!("systemd/{unit}"));
        guest.write(&format!("/etc/systemd/system/{unit}"), &text);
    }
    for (unit, text) in BESIDE {
        let text = format!("{text}[Service]\nExecStart=/usr/bin/true\n");
        guest.write(&format!("/etc/systemd/system/{unit}"), &text);
    }
    let prepared = guest.run(&[
        "sh",
        "-ec",
        "cd /etc/systemd/system
         mkdir multi-user.target.wants sysinit.target.wants
         for unit in vmstage vmstage-watch condor; do
             ln -s ../$unit.service multi-user.target.wants/
         done
         for unit in networking cloud-init; do ln -s ../$unit.service sysinit.target.wants/; done
         echo 0123456789abcdef0123456789abcdef >/etc/machine-id
         mkdir /run/systemd
         chmod 1777 /run /run/systemd /tmp",
    ]);
    assert_eq!(prepared.code, Some(0), "{}", prepared.stderr);
    guest
}

/// The units as systemd has loaded them: each one's properties, in order.
struct Loaded(BTreeMap<String, Vec<(String, String)>>);

impl Loaded {
    fn by_systemd() -> Loaded {
        Loaded::in_guest(&guest_with_units())
    }

    /// Runs the service manager up to the point where it would start the first unit.
    fn in_guest(guest: &Guest) -> Loaded {
        // It refuses to do this as root.
        let command = [
            "--test",
            "--system",
            "--unit=multi-user.target",
            "--log-target=console",
        ];
        let dump = guest.run_as(65534, &[&[SYSTEMD], &command[..]].concat());
        assert_eq!(dump.code, Some(0), "{}", dump.stderr);
        let mut units: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
        let mut properties = None;
        for line in dump.stdout.lines().map(str::trim) {
            if let Some(unit) = line.strip_prefix("-> Unit ") {
                properties = Some(units.entry(unit.trim_end_matches(':').into()).or_default());
            } else if let (Some(properties), Some((key, value))) =
                (&mut properties, line.split_once(": "))
            {
                properties.push((key.into(), value.into()));
            }
        }
        Loaded(units)
    }

    /// What a unit's property is; for a relation, the names of the other units.
    fn all(&self, unit: &str, property: &str) -> BTreeSet<&str> {
        let properties = self.0.get(unit).map_or(&[][..], Vec::as_slice);
        let values = properties.iter().filter(|(key, _)| key == property);
        values
            .map(|(_, value)| value.split(" (").next().unwrap())
            .collect()
    }

    fn one(&self, unit: &str, property: &str) -> &str {
        let all = self.all(unit, property);
        assert_eq!(all.len(), 1, "{property} of {unit}: {all:?}");
        all.first().unwrap()
    }

    /// All that has to be started first if it is started at all, at any remove.
    fn waits_for(&self, unit: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut next: Vec<&str> = self.all(unit, "After").into_iter().collect();
        while let Some(unit) = next.pop() {
            if found.insert(unit) {
                next.extend(self.all(unit, "After"));
            }
        }
        found
    }
}

/// Whatever waits for one of these can wait for the network, or for every device.
const NEVER_WAITED_FOR: [&str; 9] = [
    "sysinit.target",
    "basic.target",
    "network-pre.target",
    "network.target",
    "network-online.target",
    "networking.service",
    "cloud-init.service",
    "remote-fs.target",
    "systemd-udev-settle.service",
];

fn systemd_finds_no_fault_with_the_units() {
    let guest = guest_with_units();
    let verify = [
        "systemd-analyze",
        "verify",
        "--man=no",
        "--recursive-errors=yes",
    ];
    let units = ["vmstage.service", "vmstage-watch.service", "condor.service"]
        .map(|unit| format!("/etc/systemd/system/{unit}"));
    let units = units.each_ref().map(String::as_str);
    let verified = guest.run(&[&verify[..], &units].concat());
    assert_eq!((verified.stdout + &verified.stderr).as_str(), "");
    assert_eq!(verified.code, Some(0));
}

fn boot_waits_for_local_file_systems_and_not_for_the_network() {
    let units = Loaded::by_systemd();
    let first = units.waits_for("vmstage.service");
    assert!(first.contains("local-fs.target"), "{first:?}");
    for unit in NEVER_WAITED_FOR {
        assert!(!first.contains(unit), "vmstage.service waits for {unit}");
    }
    // That this machine is one in which it could go wrong.
    let sysinit = units.waits_for("sysinit.target");
    assert!(sysinit.contains("cloud-init.service") && sysinit.contains("networking.service"));
}

fn with_the_drop_in_for_accounts_boot_waits_for_those_that_know_them() {
    let name = "vmstage.service.d/nss-user-lookup.conf";
    let guest = guest_with_units();
    let sssd = format!("{SSSD}[Service]\nExecStart=/usr/bin/true\n");
    guest.write("/etc/systemd/system/sssd.service", &sssd);
    let prepared = guest.run(&[
        "ln",
        "-s",
        "../sssd.service",
        "/etc/systemd/system/multi-user.target.wants/",
    ]);
    assert_eq!(prepared.code, Some(0), "{}", prepared.stderr);
    let without = Loaded::in_guest(&guest);
    assert!(
        !without
            .waits_for("vmstage.service")
            .contains("sssd.service")
    );

    guest.write(
        &format!("/etc/systemd/system/{name}"),
        &shipped(&format!("systemd/{name}")),
    );
    let units = Loaded::in_guest(&guest);
    let first = units.waits_for("vmstage.service");
    assert!(first.contains("sssd.service"), "{first:?}");
    // Nothing goes round in a circle, which systemd would cut somewhere.
    assert!(!first.contains("vmstage.service"), "{first:?}");
    assert!(units.waits_for("condor.service").contains("sssd.service"));
}

fn watch_comes_after_boot_and_waits_for_no_network() {
    let units = Loaded::by_systemd();
    let first = units.waits_for("vmstage-watch.service");
    assert!(first.contains("vmstage.service"), "{first:?}");
    for unit in NEVER_WAITED_FOR {
        assert!(
            !first.contains(unit),
            "vmstage-watch.service waits for {unit}"
        );
    }
}

fn condor_requires_staging_and_stops_before_it_is_unmounted() {
    let units = Loaded::by_systemd();
    assert!(
        units
            .all("condor.service", "Requires")
            .contains("vmstage.service")
    );
    let after = units.all("condor.service", "After");
    assert!(after.contains("vmstage.service"), "{after:?}");
    // The drop-in holds also under another unit's name, which ours does not know.
    assert!(shipped("systemd/condor.service.d/vmstage.conf").contains("\nAfter=vmstage.service\n"));
    // systemd stops in the reverse order.
    assert!(after.contains("staging.mount"), "{after:?}");
    // A fstab line for /staging that fails is no reason against a disk that is mounted.
    let requires = units.all("condor.service", "Requires");
    assert!(!requires.contains("staging.mount"), "{requires:?}");
}

fn the_mount_is_made_for_the_whole_machine() {
    // systemd.exec(5): each of these gives the service a mount namespace of its own.
    // RuntimeDirectory= would take the status file away when the unit stops.
    let forbidden = [
        "Private",
        "Protect",
        "ProcSubset",
        "ReadOnly",
        "ReadWrite",
        "Inaccessible",
        "Exec",
        "NoExec",
        "TemporaryFileSystem",
        "Bind",
        "Root",
        "Mount",
        "Extension",
        "DynamicUser",
        "LogNamespace",
        "RuntimeDirectory",
    ];
    for unit in ["vmstage.service", "vmstage-watch.service"] {
        for line in shipped(&format!("systemd/{unit}")).lines() {
            let Some((key, _)) = line.split_once('=').filter(|_| !line.starts_with('#')) else {
                continue;
            };
            let allowed = ["ExecStart", "ExecReload"].contains(&key)
                || !forbidden.iter().any(|prefix| key.starts_with(prefix));
            assert!(allowed, "{unit} has {line}");
        }
    }
    let units = Loaded::by_systemd();
    for unit in ["vmstage.service", "vmstage-watch.service"] {
        for property in [
            "PrivateTmp",
            "PrivateDevices",
            "ProtectSystem",
            "ProtectHome",
        ] {
            assert_eq!(units.one(unit, property), "no", "{property} of {unit}");
        }
    }
}

fn the_boot_unit_is_ready_when_the_program_says_so_and_stays_active() {
    let units = Loaded::by_systemd();
    let unit = "vmstage.service";
    assert_eq!(units.one(unit, "Type"), "notify");
    assert_eq!(units.one(unit, "NotifyAccess"), "main");
    assert_eq!(units.one(unit, "RemainAfterExit"), "yes");
    // Longer than the nine minutes after which the program gives up by itself.
    assert_eq!(units.one(unit, "TimeoutStartSec"), "10min");
    assert_eq!(units.one(unit, "Restart"), "no");
    assert_eq!(units.one(unit, "StandardOutput"), "journal");
    assert_eq!(units.one(unit, "StandardError"), "journal");
    assert_eq!(
        units.all(unit, "Command Line"),
        BTreeSet::from(["/usr/sbin/vmstage boot"])
    );
    assert!(units.all(unit, "Conflicts").contains("shutdown.target"));
    // Also without the drop-in, which says the same and would hide it from the dump.
    assert!(shipped("systemd/vmstage.service").contains("\nBefore=condor.service\n"));
    assert!(units.all(unit, "WantedBy").contains("multi-user.target"));
    // Whatever machine this is, boot is to run and say what it finds.
    assert!(!shipped("systemd/vmstage.service").contains("\nCondition"));
}

fn a_process_that_no_signal_reaches_holds_up_no_stop() {
    let units = Loaded::by_systemd();
    for unit in ["vmstage.service", "vmstage-watch.service"] {
        assert_eq!(units.one(unit, "KillMode"), "process", "{unit}");
        assert_eq!(units.one(unit, "TimeoutStopSec"), "5s", "{unit}");
    }
}

fn the_watch_unit_restarts_and_lasts_until_the_end_of_a_shutdown() {
    let units = Loaded::by_systemd();
    let unit = "vmstage-watch.service";
    assert_eq!(units.one(unit, "Type"), "notify");
    assert_eq!(units.one(unit, "NotifyAccess"), "main");
    assert_eq!(units.one(unit, "Restart"), "on-failure");
    let commands = units.all(unit, "Command Line");
    assert!(commands.contains("/usr/sbin/vmstage watch"), "{commands:?}");
    assert!(
        shipped("systemd/vmstage-watch.service").contains("\nExecReload=/bin/kill -HUP $MAINPID\n")
    );
    // What stops a unit in a shutdown: a conflict with it, or a unit that it requires.
    assert!(units.all(unit, "Conflicts").is_empty());
    assert_eq!(
        units.all(unit, "Requires"),
        BTreeSet::from(["system.slice"])
    );
    assert!(units.all(unit, "WantedBy").contains("multi-user.target"));
}
