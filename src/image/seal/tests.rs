use std::fs;
use std::os::unix::fs::symlink;

use super::*;
use crate::host::tree::Tree;
use crate::image::init::Init;

const UUID: &str = "0e4d1c2b-8f6a-4b3c-9d1e-000000000001";
const OTHER: &str = "0e4d1c2b-8f6a-4b3c-9d1e-000000000002";

fn tree(files: &[(&str, &str)]) -> (Tree, Root) {
    let tree = Tree::new(&[&[("etc/", ""), ("usr/", ""), ("var/lib/", "")], files].concat());
    let root = Root::open(tree.root()).unwrap();
    (tree, root)
}

/// Seals, and gives what is left and what was said to stay. A second time there is nothing.
fn seal(tree: &Tree, root: &Root, host: Option<&Host>, wish: Wish) -> (Vec<String>, Vec<String>) {
    let config = Config::default();
    let mount_point = config.staging.mount_point.as_path();
    let items = plan(root, host, &config, wish);
    let kept = items.iter().flat_map(|item| item.kept.clone()).collect();
    for item in &items {
        let outcome = item.carry_out(root, mount_point);
        assert_eq!(outcome.failed, [""; 0], "{}", item.id);
    }
    for item in plan(root, host, &config, wish) {
        let still: Vec<String> = item.steps.iter().map(ToString::to_string).collect();
        assert_eq!(still, [""; 0], "{}", item.id);
    }
    (tree.names(""), kept)
}

#[test]
fn a_running_machine_keeps_its_first_boot_and_no_other_record() {
    let record = |id: &str| format!("var/lib/vmstage/first-boot-{id}.json");
    let (ours, others, by_machine) = (
        record(UUID),
        record(OTHER),
        record(&OTHER.replace('2', "3")),
    );
    let machine = format!("{{\"machine\": \"{UUID}\"}}");
    let files = [
        ("sys/class/dmi/id/product_uuid", UUID),
        (&ours, "{}"),
        (&others, "{}"),
        (&by_machine, &machine),
        ("var/lib/vmstage/first-boot-i-00000001.json", "{}"),
        ("var/lib/vmstage/end.json", "{}"),
        ("run/vmstage/status.json", "{}"),
    ];
    let (tree, root) = tree(&files);
    let (left, kept) = seal(&tree, &root, Some(&tree.host()), Wish::default());
    let uuid = "sys/class/dmi/id/product_uuid".to_string();
    let mut expected = vec![uuid, ours.clone(), by_machine.clone()];
    expected.sort();
    assert_eq!(left, expected);
    assert_eq!(kept.len(), 2);

    // Nobody knows whose an image's records by UUID are.
    let (tree, root) = self::tree(&files);
    let (left, _) = seal(&tree, &root, None, Wish::default());
    assert!(left.contains(&others) && !left.iter().any(|path| path.contains("i-0000")));
}

const KEY: (&str, &str) = ("etc/ssh/ssh_host_rsa_key", "x");
const UNITS: &str = "usr/lib/systemd/system";

/// Whether a system with these files makes new host keys. A content that begins with `-> ` makes
/// a link; `UNITS/` is the directory of units.
fn keys_go(init: Init, files: &[(&str, &str)]) -> bool {
    let (_tree, root) = system(init, files);
    host_keys::are_made_anew(&root).is_ok()
}

fn system(init: Init, files: &[(&str, &str)]) -> (Tree, Root) {
    let (tree, root) = tree(&[KEY, ("sbin/", ""), ("etc/systemd/system/", "")]);
    match init {
        Init::Systemd => symlink("/lib/systemd/systemd", tree.root().join("sbin/init")).unwrap(),
        _ => fs::create_dir_all(tree.root().join("etc/rc.d/init.d")).unwrap(),
    }
    let systemd = ("lib/systemd/systemd", "");
    for (path, content) in files.iter().chain([&systemd]) {
        let path = tree.root().join(path.replace("UNITS", UNITS));
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::remove_file(&path).ok();
        match content.strip_prefix("-> ") {
            Some(text) => symlink(text, path).unwrap(),
            None => fs::write(path, content).unwrap(),
        }
    }
    (tree, root)
}

#[test]
fn host_keys_go_where_new_ones_are_made_and_else_it_is_said_that_they_stay() {
    for (init, files) in [
        (Init::Systemd, &RED_HATS[..]),
        (Init::Systemd, &CLOUD_INIT),
        (Init::Systemd, &[]),
        (Init::Chkconfig, &RED_HATS),
        (Init::Chkconfig, &RED_HATS_SCRIPT),
    ] {
        let (tree, root) = system(init, files);
        let are_made_anew = host_keys::are_made_anew(&root).is_ok();
        let (left, kept) = seal(&tree, &root, None, Wish::default());
        let stay = left.contains(&KEY.0.to_string());
        let mut said = kept.iter();
        let is_said = said.any(|line| line.starts_with("/etc/ssh/ssh_host_* stay"));
        assert_eq!(
            (stay, is_said),
            (!are_made_anew, !are_made_anew),
            "{kept:?}"
        );
    }
}

/// As Red Hat has it.
const RED_HATS: [(&str, &str); 4] = [
    (
        "etc/systemd/system/multi-user.target.wants/sshd.service",
        "",
    ),
    ("UNITS/sshd.service", "[Unit]\nWants=sshd-keygen.target\n"),
    (
        "UNITS/sshd-keygen.target",
        "[Unit]\nWants=sshd-keygen@rsa.service\n",
    ),
    (
        "UNITS/sshd-keygen@.service",
        "[Service]\nExecStart=/usr/libexec/openssh/sshd-keygen %i\n",
    ),
];
const CLOUD_INIT: [(&str, &str); 4] = [
    (
        "etc/systemd/system/cloud-init.target.wants/cloud-init.service",
        "",
    ),
    ("UNITS/cloud-init.service", "[Service]\n"),
    ("usr/bin/cloud-init", ""),
    (
        "etc/cloud/cloud.cfg",
        "cloud_init_modules:\n - ssh\nssh_deletekeys: false\n",
    ),
];

const RED_HATS_SCRIPT: [(&str, &str); 2] = [
    (
        "etc/rc.d/init.d/sshd",
        "KEYGEN=/usr/bin/ssh-keygen\nif $KEYGEN -q -t rsa -f $KEY; then :; fi\n",
    ),
    ("etc/rc.d/rc3.d/S55sshd", ""),
];

#[test]
fn host_keys_go_where_a_unit_of_the_boot_makes_new_ones() {
    const OWN: &str = "UNITS/host-keys.service";
    const WANTED: (&str, &str) = (
        "etc/systemd/system/sshd.service.wants/host-keys.service",
        "",
    );
    let own = |command| (OWN, command);
    let drop_in = "etc/systemd/system/sshd-keygen@.service.d/disable-if-cloud-init-active.conf";
    let not_with_cloud_init = "[Unit]\nConditionPathExists=\
        !/run/systemd/generator.early/multi-user.target.wants/cloud-init.target\n";
    let (sshd, keygen) = (&RED_HATS[..2], &RED_HATS[..]);
    let with = |files: &[(&str, &str)], more: &[(&str, &str)]| {
        keys_go(Init::Systemd, &[files, more].concat())
    };
    let makes = own("ExecStart=/bin/sh -c 'exec ssh-keygen -A'\n");
    assert!(with(keygen, &[]));
    assert!(with(keygen, &[(drop_in, not_with_cloud_init)]));
    assert!(with(sshd, &[makes, WANTED]));
    assert!(with(
        sshd,
        &[own("ExecStart=/usr/bin/ssh-keygen -q -t rsa\n"), WANTED]
    ));
    let requires = (
        "etc/systemd/system/sshd.service.d/x.conf",
        "[Unit]\nRequires=host-keys.service\n",
    );
    assert!(with(sshd, &[makes, requires]));
    assert!(with(
        &[],
        &[makes, ("UNITS/sysinit.target.wants/host-keys.service", "")]
    ));

    for (files, more) in [
        (sshd, &[makes][..]),
        // Nothing starts sshd.
        (&keygen[1..], &[]),
        (&[], &[makes, WANTED]),
        (
            sshd,
            &[
                own("ExecStart=/usr/bin/ssh-keygen -l -f /etc/ssh/x\n"),
                WANTED,
            ],
        ),
        (
            sshd,
            &[
                own("#ExecStart=/usr/bin/ssh-keygen -A\nExecStart=/bin/true\n"),
                WANTED,
            ],
        ),
        (
            sshd,
            &[
                own("ExecStart=/usr/bin/ssh-keygen -A\nExecStart=\n"),
                WANTED,
            ],
        ),
        (
            sshd,
            &[
                own("ConditionFirstBoot=yes\nExecStart=ssh-keygen -A\n"),
                WANTED,
            ],
        ),
        (
            sshd,
            &[
                makes,
                WANTED,
                ("etc/systemd/system/host-keys.service", "-> /dev/null"),
            ],
        ),
        (
            keygen,
            &[("etc/systemd/system/sshd-keygen.target", "-> /dev/null")],
        ),
        (
            keygen,
            &[("etc/systemd/system/sshd-keygen@.service", "-> /dev/null")],
        ),
        (keygen, &[("etc/systemd/system/sshd-keygen@.service", "")]),
        (
            keygen,
            &[("etc/systemd/system/sshd.service", "-> /dev/null")],
        ),
        (
            keygen,
            &[(
                "UNITS/sshd-keygen@.service",
                "[Service]\nExecStart=/bin/true\n",
            )],
        ),
        (
            sshd,
            &[
                (drop_in, not_with_cloud_init),
                ("UNITS/sshd-keygen.target", ""),
            ],
        ),
        // What SysV init ran before.
        (
            sshd,
            &[
                ("etc/rc.d/init.d/sshd", "ssh-keygen -A\n"),
                ("etc/rc.d/rc3.d/S55sshd", ""),
            ],
        ),
    ] {
        assert!(!with(files, more), "{files:?} {more:?}");
    }
    // Red Hat's cloud-init sees to them, or nobody does.
    let no_module = (
        "etc/cloud/cloud.cfg.d/10.cfg",
        "cloud_init_modules: [bootcmd]\n",
    );
    let both = [keygen, &CLOUD_INIT, &[(drop_in, not_with_cloud_init)]].concat();
    assert!(with(&both, &[]));
    assert!(!with(&both, &[no_module]));
    assert!(with(
        &both,
        &[no_module, ("etc/cloud/cloud-init.disabled", "")]
    ));
}

#[test]
fn host_keys_go_where_cloud_init_makes_new_ones() {
    let configuration = |text| ("etc/cloud/cloud.cfg", text);
    let replaced = |text| ("etc/cloud/cloud.cfg.d/99-mine.cfg", text);
    let unit = "etc/systemd/system/cloud-init.service";
    let null = "-> /dev/null";
    for (more, expected) in [
        (("etc/x", ""), true),
        (configuration("cloud_init_modules: [bootcmd, ssh]\n"), true),
        (
            configuration("cloud_init_modules:\n - [ ssh, always ]\n"),
            true,
        ),
        (
            configuration("cloud_init_modules:\n - ssh-import-id\n"),
            false,
        ),
        (configuration("cloud_config_modules:\n - ssh\n"), false),
        (replaced("cloud_init_modules: [bootcmd]\n"), false),
        (replaced("cloud_init_modules:\n- bootcmd\n"), false),
        (
            ("etc/cloud/cloud.cfg.d/99-mine", "cloud_init_modules: []\n"),
            true,
        ),
        (replaced("ssh_genkeytypes: []\n"), false),
        (replaced("ssh_genkeytypes: ~\n"), false),
        (
            replaced("ssh_genkeytypes: [rsa]\nssh_deletekeys: false\n"),
            true,
        ),
        (("etc/cloud/cloud-init.disabled", ""), false),
        ((unit, null), false),
        (("etc/systemd/system/cloud-init.target", null), false),
        (
            ("etc/systemd/system-generators/cloud-init-generator", null),
            false,
        ),
    ] {
        let files = [&CLOUD_INIT[..], &[more]].concat();
        assert_eq!(keys_go(Init::Systemd, &files), expected, "{more:?}");
    }
    assert!(!keys_go(Init::Systemd, &CLOUD_INIT[1..]));
    let script = ("etc/rc.d/init.d/cloud-init", "");
    let of_sysv = [&CLOUD_INIT[2..], &[script]].concat();
    assert!(!keys_go(Init::Chkconfig, &of_sysv));
    let link = ("etc/rc.d/rc3.d/S50cloud-init", "");
    assert!(keys_go(Init::Chkconfig, &[&of_sysv[..], &[link]].concat()));
}

#[test]
fn host_keys_go_where_red_hats_script_makes_new_ones() {
    let [makes, link] = RED_HATS_SCRIPT;
    let script = |text| ("etc/rc.d/init.d/sshd", text);
    for (files, expected) in [
        (&[makes, link][..], true),
        (&[makes], false),
        (&[script("# ssh-keygen -A\n"), link], false),
        (&[script("ssh-keygen -l -f $KEY\n"), link], false),
    ] {
        assert_eq!(keys_go(Init::Chkconfig, files), expected, "{files:?}");
    }
    // Nothing heeds units there.
    assert!(!keys_go(Init::Chkconfig, &RED_HATS));
}

#[test]
fn ids_seeds_and_keys() {
    let files = [
        ("etc/machine-id", "0123\n"),
        ("var/lib/dbus/machine-id", "0123\n"),
        ("var/lib/systemd/random-seed", "x"),
        ("etc/ssh/ssh_host_rsa_key", "x"),
        ("etc/ssh/ssh_host_rsa_key.pub", "x"),
        ("etc/ssh/sshd_config", "x"),
        ("root/.ssh/authorized_keys", "x"),
    ];
    let (tree, root) = tree(&files);
    let (left, kept) = seal(&tree, &root, None, Wish::default());
    // Nothing makes new host keys.
    let expected = [
        "etc/machine-id",
        "etc/ssh/ssh_host_rsa_key",
        "etc/ssh/ssh_host_rsa_key.pub",
        "etc/ssh/sshd_config",
        "root/.ssh/authorized_keys",
    ];
    assert_eq!(left, expected);
    assert_eq!(tree.text("etc/machine-id"), "");
    assert!(
        kept.iter()
            .any(|line| line.starts_with("/etc/ssh/ssh_host_* stay"))
    );
    assert!(
        kept.iter()
            .any(|line| line.starts_with("/root/.ssh/authorized_keys stays"))
    );
}

/// One file for both must not be missing: systemd would enable and disable units anew.
#[test]
fn an_id_that_is_that_of_dbus_is_made_empty() {
    for text in ["/var/lib/dbus/machine-id", "../var/lib/dbus/machine-id"] {
        let (tree, root) = tree(&[("var/lib/dbus/machine-id", "1234\n")]);
        symlink(text, tree.root().join("etc/machine-id")).unwrap();
        seal(&tree, &root, None, Wish::default());
        assert_eq!(tree.text("var/lib/dbus/machine-id"), "");
        assert!(tree.root().join("etc/machine-id").is_symlink());
    }
}

#[test]
fn a_file_system_that_is_not_mounted_in_the_image_is_said() {
    for (line, file, expected) in [
        ("LABEL=var /var ext4 defaults 0 2", "", 1),
        ("LABEL=var /var ext4 defaults 0 2", "var/lib/x", 0),
        ("LABEL=lib /var/lib ext4 defaults 0 2", "var/cache/x", 1),
        ("LABEL=home /home ext4 defaults 0 2", "", 0),
    ] {
        let tree = Tree::new(&[("etc/fstab", line), ("usr/", ""), ("var/", "")]);
        if !file.is_empty() {
            fs::create_dir_all(tree.root().join(file)).unwrap();
        }
        let root = Root::open(tree.root()).unwrap();
        let items = plan(&root, None, &Config::default(), Wish::default());
        let failed = items.iter().flat_map(|item| &item.failed);
        assert_eq!(failed.count(), expected, "{line}");
    }
    let tree = Tree::new(&[("etc/", ""), ("usr/", "")]);
    symlink("/mnt/var", tree.root().join("var")).unwrap();
    let root = Root::open(tree.root()).unwrap();
    let items = plan(&root, None, &Config::default(), Wish::default());
    assert_eq!(items[0].failed.len(), 1);
}

#[test]
fn a_link_for_the_id_of_dbus_stays() {
    let (tree, root) = tree(&[("etc/machine-id", "0123\n"), ("var/lib/dbus/", "")]);
    symlink(
        "/etc/machine-id",
        tree.root().join("var/lib/dbus/machine-id"),
    )
    .unwrap();
    let (left, _) = seal(&tree, &root, None, Wish::default());
    assert_eq!(left, ["etc/machine-id", "var/lib/dbus/machine-id"]);
}

#[test]
fn cloud_init_and_the_network() {
    let files = [
        (
            "etc/fstab",
            "/dev/vda1 / ext4\n/dev/vdb /mnt auto nofail,comment=cloudconfig 0 2\n# end",
        ),
        ("usr/bin/cloud-init", ""),
        ("etc/cloud/cloud.cfg", ""),
        ("var/lib/cloud/instances/i-1/x", ""),
        ("var/lib/cloud/data/x", ""),
        ("var/lib/cloud/sem/x", ""),
        ("var/lib/cloud/seed/nocloud/meta-data", ""),
        ("var/lib/cloud/scripts/per-boot/mine", ""),
        ("etc/netplan/50-cloud-init.yaml", ""),
        ("etc/netplan/01-mine.yaml", ""),
        ("etc/netplan/99-after-cloud-init-by-me.yaml", ""),
        ("etc/network/interfaces.d/50-cloud-init", ""),
        ("etc/network/interfaces.d/50-cloud-init.cfg", ""),
        ("etc/network/interfaces.d/50-cloud-init-mine", ""),
        ("etc/systemd/network/10-cloud-init-eth0.network", ""),
        ("etc/systemd/network/10-cloud-init.network", ""),
        ("etc/NetworkManager/conf.d/99-cloud-init.conf", ""),
        (
            "etc/sysconfig/network-scripts/ifcfg-eth1",
            "# Created by cloud-init on instance boot automatically, do not edit.\n#\nDEVICE=eth1\n",
        ),
        (
            "etc/sysconfig/networking/devices/ifcfg-eth0",
            "DEVICE=eth0\nHWADDR=aa\n",
        ),
        ("etc/udev/rules.d/70-persistent-net.rules", ""),
        ("etc/udev/rules.d/70-mine.rules", ""),
        (
            "etc/sysconfig/network-scripts/ifcfg-eth0",
            "DEVICE=eth0\nHWADDR=aa\nUUID=bb\nONBOOT=yes\n",
        ),
        ("var/lib/dhcp/dhclient.eth0.leases", ""),
        ("var/lib/NetworkManager/internal-x-eth0.lease", ""),
        ("var/lib/NetworkManager/secret_key", ""),
        ("var/lib/dhcpcd5/dhcpcd-eth0.lease", ""),
        ("var/lib/dhcpcd/duid", ""),
        ("var/lib/wicked/lease-eth0-dhcp-ipv4.xml", ""),
        ("var/lib/wicked/state-1.xml", ""),
    ];
    let (tree, root) = tree(&files);
    let (left, _) = seal(&tree, &root, None, Wish::default());
    let expected = [
        "etc/cloud/cloud.cfg",
        "etc/fstab",
        "etc/netplan/01-mine.yaml",
        "etc/netplan/99-after-cloud-init-by-me.yaml",
        "etc/network/interfaces.d/50-cloud-init-mine",
        "etc/sysconfig/network-scripts/ifcfg-eth0",
        "etc/sysconfig/networking/devices/ifcfg-eth0",
        "etc/systemd/network/10-cloud-init.network",
        "etc/udev/rules.d/70-mine.rules",
        "usr/bin/cloud-init",
        "var/lib/NetworkManager/secret_key",
        "var/lib/cloud/scripts/per-boot/mine",
        "var/lib/cloud/seed/nocloud/meta-data",
        "var/lib/wicked/state-1.xml",
    ];
    assert_eq!(left, expected);
    assert_eq!(tree.text("etc/fstab"), "/dev/vda1 / ext4\n# end");
    let interface = tree.text("etc/sysconfig/network-scripts/ifcfg-eth0");
    assert_eq!(interface, "DEVICE=eth0\nONBOOT=yes\n");
    let same = tree.text("etc/sysconfig/networking/devices/ifcfg-eth0");
    assert_eq!(same, "DEVICE=eth0\n");

    // Where cloud-init leaves the network alone, nothing would make its file again.
    let alone = (
        "etc/cloud/cloud.cfg.d/99.cfg",
        "network: {config: disabled}\n",
    );
    let (tree, root) = self::tree(&[&files[..], &[alone]].concat());
    let (left, kept) = seal(&tree, &root, None, Wish::default());
    assert!(left.contains(&"etc/netplan/50-cloud-init.yaml".to_string()));
    assert!(
        kept[0].starts_with("/etc/netplan/50-cloud-init.yaml stays"),
        "{kept:?}"
    );
}

#[test]
fn below_the_mount_point_only_what_is_empty_goes() {
    let files = [
        ("staging/condor/", ""),
        ("staging/tmp/x", "12345"),
        ("staging/mine/", ""),
    ];
    let (tree, root) = tree(&files);
    let (_, kept) = seal(&tree, &root, None, Wish::default());
    assert!(!tree.root().join("staging/condor").exists());
    assert!(tree.root().join("staging/mine").exists());
    assert_eq!(tree.text("staging/tmp/x"), "12345");
    assert!(
        kept.iter()
            .any(|line| line.starts_with("/staging/tmp stays: 5 B")),
        "{kept:?}"
    );
}

/// As Debian's package has it.
const CONDOR_CONFIG: &str = "LOCAL_DIR = /var\nLOCAL_CONFIG_FILE = /etc/condor/condor_config.local\n\
                             LOCAL_CONFIG_DIR = /usr/share/condor/config.d,/etc/condor/config.d\n\
                             RUN = $(LOCAL_DIR)/run/condor\nLOG = $(LOCAL_DIR)/log/condor\n\
                             LOCK = $(LOCAL_DIR)/lock/condor\nSPOOL = $(LOCAL_DIR)/spool/condor\n\
                             EXECUTE = $(LOCAL_DIR)/lib/condor/execute\n";

/// Seals a system with these lines in HTCondor's local file; what is left of these files, and
/// what is said of HTCondor.
fn seal_condor(local: &str, files: &[(&str, &str)], wish: Wish) -> (Vec<String>, Vec<String>) {
    let own = [
        ("etc/passwd", "condor:x:64:64::/var/lib/condor:/bin/false\n"),
        ("etc/condor/condor_config", CONDOR_CONFIG),
        ("etc/condor/condor_config.local", local),
    ];
    let (tree, root) = tree(&[&own, files].concat());
    let (left, kept) = seal(&tree, &root, None, wish);
    let others = ["whoever it lets in", "which the scratch disk hides"];
    let of_condor = |line: &String| !others.iter().any(|other| line.contains(other));
    let left = left
        .into_iter()
        .filter(|path| files.iter().any(|(file, _)| file == path));
    (left.collect(), kept.into_iter().filter(of_condor).collect())
}

#[test]
fn a_spool_with_jobs_needs_a_word() {
    let queue = "101 0.0 Job Machine\n101 1.0 Job Machine\n";
    let files = [
        ("etc/condor/tokens.d/pool", ""),
        ("staging/condor/dir_2/x", ""),
        ("var/lib/condor/execute/dir_1/x", ""),
        ("var/log/condor/.startd_claim_id", ""),
        ("var/spool/condor/job_queue.log", queue),
    ];
    // Its execute directory is on the scratch disk, which is others' business.
    let local = "EXECUTE = /staging/condor\n";
    let (left, kept) = seal_condor(local, &files, Wish::default());
    let all_but_logs = |path: &&str| !path.starts_with("var/log");
    let expected: Vec<&str> = files
        .iter()
        .map(|(path, _)| *path)
        .filter(all_but_logs)
        .collect();
    assert_eq!(left, expected);
    assert_eq!(
        kept,
        ["/var/spool/condor stays: jobs are in it (1); --condor removes them"]
    );
    let wish = Wish {
        spool_with_jobs: true,
        ..Wish::default()
    };
    let (left, kept) = seal_condor(local, &files, wish);
    assert_eq!(left, expected[..3]);
    assert_eq!(kept, [""; 0]);
}

#[test]
fn what_htcondor_has_is_found_by_all_of_its_configuration() {
    let all = [
        ("srv/condor/spool/x", "1"),
        ("srv/condor/run/node7/x", "1"),
        ("srv/condor/slot1/dir_1/x", "1"),
        ("srv/condor/second/x", "1"),
        ("var/log/condor/StartLog", "1"),
        ("etc/my.address", "<192.0.2.1:9618?addrs=x>\n"),
    ];
    let local = "spool = $(DISK)/spool\ndisk=/srv/condor\nSTARTD.EXECUTE = \\\n$(DISK)/run/$(HOSTNAME)\n\
                 SLOT1_EXECUTE = $(DISK)/slot1\nSCHEDD.OTHER.SPOOL = $(DISK)/second\n\
                 MASTER_ADDRESS_FILE = /etc/my.address\n";
    let files = [&all[..], &[("etc/hostname", "node7.example.org\n")]].concat();
    let (left, kept) = seal_condor(local, &files, Wish::default());
    assert_eq!((left, kept), (vec!["etc/hostname".to_string()], vec![]));
    // What is an address says so.
    let (left, _) = seal_condor(
        "STARTD_ADDRESS_FILE = /etc/site\n",
        &[("etc/site", "mine")],
        Wish::default(),
    );
    assert_eq!(left, ["etc/site"]);
}

#[test]
fn what_cannot_be_told_of_htcondor_stays_and_is_said() {
    let files = [
        ("var/spool/condor/x", "1"),
        ("srv/condor/x", "1"),
        ("var/log/condor/x", "1"),
    ];
    let program = "a program says what is set, and none is run here";
    for (local, said) in [
        (
            "SPOOL = /srv/$ENV(X)\n",
            "SPOOL of HTCondor stays: $ENV(X) is not worked out here".to_string(),
        ),
        (
            "if version > 9\nSPOOL = /srv/condor\nendif\n",
            "SPOOL of HTCondor stays: whether SPOOL is set at \
             /etc/condor/condor_config.local:2, a condition decides"
                .into(),
        ),
        (
            "SPOOL = $(UNHEARD_OF)/spool\n",
            "SPOOL of HTCondor stays: $(UNHEARD_OF) is not set in its files".into(),
        ),
        (
            "SPOOL = /srv/none\ninclude : /bin/make |\n",
            format!("what /etc/condor/condor_config.local:2 sets of HTCondor stays: {program}"),
        ),
    ] {
        let (left, kept) = seal_condor(local, &files, Wish::default());
        assert_eq!(left, ["srv/condor/x", "var/spool/condor/x"], "{local}");
        assert_eq!(kept, [said]);
    }
}

#[test]
fn a_directory_that_may_hold_more_than_htcondors_stays() {
    let files = [
        ("etc/condor/tokens.d/pool", ""),
        ("home/me/results", ""),
        ("home/me/jobs/results", ""),
        ("usr/lib/systemd/unit", ""),
        ("var/log/messages", ""),
        ("var/spool/condor/x", ""),
    ];
    for (path, gone) in [
        ("/home/me", false),
        ("/home/me/jobs", false),
        ("/usr/lib/systemd", false),
        ("/var/log", false),
        ("/", false),
        ("/etc/condor/tokens.d", false),
        ("/var/spool/condor/../../log", false),
        ("work", false),
        ("/var/spool/condor", true),
    ] {
        let local = format!("SPOOL = /nowhere\nEXECUTE = {path}\nLOCK = {path}\n");
        let (left, kept) = seal_condor(&local, &files, Wish::default());
        assert_eq!(left.len(), files.len() - usize::from(gone), "{path}");
        let is_said = kept
            .iter()
            .any(|line| line.contains("more than HTCondor's EXECUTE"));
        assert_eq!(is_said, !gone && path.starts_with('/'), "{path}: {kept:?}");
    }
}

#[test]
fn what_lasts_stays_also_within_htcondors_directories() {
    let files = [
        ("var/lib/condor/spool/x", ""),
        ("var/lib/condor/secrets/pool_password", ""),
        (
            "var/lib/condor/condor_config.more",
            "SPOOL = /var/lib/condor/spool\n",
        ),
        ("var/lib/condor/old/x", ""),
        ("var/lib/condor/execute/x", ""),
        ("var/lib/condor/.condor/tokens.d/x", ""),
    ];
    let local = "LOG = /var/lib/condor\nSEC_PASSWORD_FILE = $(LOG)/secrets/pool_password\n\
                 include : $(LOG)/condor_config.more\n";
    let (left, kept) = seal_condor(local, &files, Wish::default());
    let expected = [
        "var/lib/condor/.condor/tokens.d/x",
        "var/lib/condor/condor_config.more",
        "var/lib/condor/secrets/pool_password",
    ];
    assert_eq!(left, expected);
    let said = "/var/lib/condor/secrets stays: /var/lib/condor/secrets/pool_password is in it";
    assert_eq!(kept, ["/var/lib/condor/.condor stays", said]);
}

#[test]
fn a_lock_directory_below_todays_link_is_emptied() {
    let files = [
        ("etc/condor/condor_config", CONDOR_CONFIG),
        ("run/lock/condor/InstanceLock", ""),
    ];
    let (tree, root) = tree(&files);
    symlink("/run/lock", tree.root().join("var/lock")).unwrap();
    let (left, _) = seal(&tree, &root, None, Wish::default());
    assert_eq!(left, ["etc/condor/condor_config", "var/lock"]);
    assert!(tree.root().join("run/lock/condor").is_dir());
}

#[test]
fn what_a_link_leads_htcondor_to_stays_and_is_said() {
    let files = [
        ("etc/condor/condor_config", CONDOR_CONFIG),
        ("srv/log/condor/StartLog", ""),
    ];
    let (tree, root) = tree(&files);
    fs::create_dir_all(tree.root().join("var/log")).unwrap();
    symlink("/srv/log/condor", tree.root().join("var/log/condor")).unwrap();
    let (left, kept) = seal(&tree, &root, None, Wish::default());
    assert!(left.contains(&"srv/log/condor/StartLog".into()), "{left:?}");
    assert_eq!(kept, ["what is in /var/log/condor stays: it is a link"]);
}

#[test]
fn logs_go_where_they_are_asked_for() {
    let files = [
        ("var/log/messages", "x"),
        ("var/log/messages.1", "x"),
        ("var/log/wtmp", "x"),
        ("var/log/journal/0123/system.journal", "x"),
        ("root/.bash_history", "x"),
        ("home/me/.bash_history", "x"),
        ("home/me/results", "x"),
        ("tmp/x", "x"),
    ];
    let (tree, root) = tree(&files);
    let before = tree.names("");
    assert_eq!(seal(&tree, &root, None, Wish::default()).0, before);
    let wish = Wish {
        logs: true,
        ..Wish::default()
    };
    let (left, _) = seal(&tree, &root, None, wish);
    assert_eq!(
        left,
        ["home/me/results", "var/log/messages", "var/log/wtmp"]
    );
    assert_eq!(tree.text("var/log/wtmp"), "");
}

#[test]
fn nothing_goes_through_a_link() {
    let files = [
        ("srv/volume/instances/x", "mine"),
        ("srv/volume/random-seed", "mine"),
        ("srv/id", "0123"),
        ("usr/bin/cloud-init", ""),
        ("etc/cloud/cloud.cfg", ""),
    ];
    let (tree, root) = tree(&files);
    for (path, text) in [
        ("var/lib/cloud", "/srv/volume"),
        ("var/lib/systemd", "../../srv/volume"),
        ("etc/machine-id", "/srv/id"),
        ("tmp", "/srv"),
    ] {
        symlink(text, tree.root().join(path)).unwrap();
    }
    let before = fs::read_dir(tree.root().join("srv")).unwrap().count();
    let wish = Wish {
        logs: true,
        ..Wish::default()
    };
    let (left, kept) = seal(&tree, &root, None, wish);
    for path in ["srv/volume/instances/x", "srv/volume/random-seed", "srv/id"] {
        assert!(left.contains(&path.to_string()), "{path}: {left:?}");
    }
    assert_eq!(
        fs::read_dir(tree.root().join("srv")).unwrap().count(),
        before
    );
    assert!(
        kept.iter().any(|line| line.contains("a link leads there")),
        "{kept:?}"
    );
    assert_eq!(tree.text("srv/id"), "0123");
}

#[test]
fn the_part_for_cloud_init_is_vmstages_own() {
    let files = [
        ("etc/machine-id", "0123"),
        ("etc/condor/config.d/99-vmstage.config", "START = False\n"),
        ("var/lib/vmstage/first-boot.json", "{}"),
        ("var/lib/systemd/random-seed", "x"),
    ];
    let (tree, root) = tree(&files);
    let wish = Wish {
        own_part_only: true,
        ..Wish::default()
    };
    let (left, _) = seal(&tree, &root, None, wish);
    assert_eq!(left, ["etc/machine-id", "var/lib/systemd/random-seed"]);
}
