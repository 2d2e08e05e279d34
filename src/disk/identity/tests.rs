//! Machines and their disks: what sysfs has of each, and whose disk it is.

use std::fs;
use std::os::unix::fs::symlink;

use proptest::prelude::*;

use super::attributes::{Attributes, read_dmi};
use super::*;
use crate::host::cloud::Dmi;
use crate::host::tree::Tree;

const UNKNOWN: &str = "(nothing says whether it is local or persistent)";
const UUID: &str = "0e4d1c2b-8f6a-4b3c-9d7e-5a4b3c2d1e0f";

const STORE: &str = "Amazon EC2 NVMe Instance Storage";
const AWS: &str = "AWS24BBF51AF55097008";
const VOL: &str = "vol0546d3c3b0af0bf6d";

// Hyper-V's virtual controllers.
const IDE_0: &str = "00000000-0000-8899-0000-000000000000";
const IDE_1: &str = "00000000-0001-8899-0000-000000000000";
const IDE_3: &str = "00000001-0001-8899-0000-000000000000";
const SCSI: &str = "f8b3781a-1e82-4818-a1c3-63d806ec15bb";
const SCSI_B: &str = "f8b3781b-1e82-4818-a1c3-63d806ec15bb";
const SCSI_C: &str = "f8b3781c-1e82-4818-a1c3-63d806ec15bb";
const SCSI_D: &str = "f8b3781d-1e82-4818-a1c3-63d806ec15bb";

const REMOTE: &str = "MSFT NVMe Accelerator v1.0";
const DIRECT: &str = "Microsoft NVMe Direct Disk";

/// A machine that is being described: its firmware, and one disk.
#[derive(Default)]
struct Machine {
    directories: Vec<String>,
    links: Vec<(String, String)>,
    files: Vec<(String, Vec<u8>)>,
    /// The kernel's name of the disk, or of its partition, that is asked for.
    asked_for: String,
}

/// With these `sys_vendor`, `product_name` and `chassis_asset_tag`.
fn machine(dmi: [&str; 3]) -> Machine {
    let id = "sys/devices/virtual/dmi/id";
    let fields = ["sys_vendor", "product_name", "chassis_asset_tag"];
    let machine = Machine::default()
        .directory(id)
        .link("sys/class/dmi/id", "../../devices/virtual/dmi/id");
    let fields = fields.into_iter().zip(dmi);
    fields.fold(machine, |machine, (field, text)| {
        machine.file(&format!("{id}/{field}"), text)
    })
}

fn no_dmi() -> Machine {
    machine(["", "", ""])
}

fn openstack() -> Machine {
    machine(["OpenStack Foundation", "OpenStack Nova", ""])
}

fn ec2() -> Machine {
    machine(["Amazon EC2", "i4i.large", "Amazon EC2"])
}

fn xen() -> Machine {
    machine(["Xen", "HVM domU", ""])
}

fn google() -> Machine {
    machine(["Google", "Google Compute Engine", ""])
}

fn azure() -> Machine {
    let asset_tag = "7783-7084-3265-9085-8269-3286-77";
    machine(["Microsoft Corporation", "Virtual Machine", asset_tag])
}

fn hyperv() -> Machine {
    let asset_tag = "3513-7459-1063-7245-7062-4423-35";
    machine(["Microsoft Corporation", "Virtual Machine", asset_tag])
}

impl Machine {
    fn directory(mut self, path: &str) -> Machine {
        self.directories.push(path.into());
        self
    }

    fn link(mut self, path: &str, target: &str) -> Machine {
        self.links.push((path.into(), target.into()));
        self
    }

    /// An attribute; an empty one is missing.
    fn file(mut self, path: &str, text: &str) -> Machine {
        if !text.is_empty() {
            self.files
                .push((path.into(), format!("{text}\n").into_bytes()));
        }
        self
    }

    /// A disk whose directory is in `parent`, both below `sys/devices` as `device` is.
    fn disk(mut self, name: &str, parent: &str, device: &str) -> Machine {
        self.asked_for = name.into();
        let disk = format!("sys/devices/{parent}/{name}");
        let up = "../".repeat(disk.matches('/').count());
        self.directory(&format!("{disk}/{name}p1"))
            .directory(&format!("{disk}/{name}1"))
            .directory(&format!("sys/devices/{device}"))
            .link(&format!("sys/block/{name}"), &format!("../../{disk}"))
            .link(&format!("{disk}/device"), &format!("{up}devices/{device}"))
    }

    /// Its partition is asked for.
    fn partition(mut self) -> Machine {
        let separator = if self.asked_for.ends_with('1') {
            "p1"
        } else {
            "1"
        };
        self.asked_for.push_str(separator);
        self
    }

    fn nvme(self, model: &str, serial: &str) -> Machine {
        let controller = "pci0000:00/0000:00:1f.0/nvme/nvme1";
        let at = |file: &str| format!("sys/devices/{controller}/{file}");
        self.disk("nvme1n1", controller, controller)
            .file(&at("model"), &format!("{model:40}"))
            .file(&at("serial"), &format!("{serial:20}"))
    }

    fn transport(self, transport: &str) -> Machine {
        self.file("sys/block/nvme1n1/device/transport", transport)
    }

    fn namespace(self, id: &str) -> Machine {
        self.file("sys/block/nvme1n1/nsid", id)
    }

    fn virtio(self, serial: &str) -> Machine {
        let device = "pci0000:00/0000:00:05.0/virtio2";
        self.disk("vdb", &format!("{device}/block"), device)
            .file(&format!("sys/devices/{device}/vendor"), "0x1af4")
            .file("sys/block/vdb/serial", serial)
    }

    fn xvd(self) -> Machine {
        self.disk("xvdb", "vbd-51728/block", "vbd-51728")
    }

    fn scsi(self, vendor: &str, model: &str) -> Machine {
        self.scsi_at("pci0000:00/0000:00:03.0/virtio0", "1:0:0:1", vendor, model)
    }

    /// At this address on a host that is at this place below `sys/devices`.
    fn scsi_at(self, host: &str, address: &str, vendor: &str, model: &str) -> Machine {
        let device = format!("{host}/host1/target1:0:0/{address}");
        let at = |file: &str| format!("sys/devices/{device}/{file}");
        self.disk("sdb", &format!("{device}/block"), &device)
            .file(&at("vendor"), &format!("{vendor:8}"))
            .file(&at("model"), &format!("{model:16}"))
    }

    /// In page 0x80.
    fn scsi_serial(mut self, serial: &str) -> Machine {
        let mut page = vec![0, 0x80, 0, serial.len() as u8];
        page.extend(serial.bytes());
        self.files
            .push(("sys/block/sdb/device/vpd_pg80".into(), page));
        self
    }

    /// Hyper-V's disk at this address of the virtual controller of this id.
    fn vmbus(self, id: &str, address: &str) -> Machine {
        self.vmbus_of("Msft", "Virtual Disk", id, address)
    }

    fn vmbus_of(self, vendor: &str, model: &str, id: &str, address: &str) -> Machine {
        let controller = format!("LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/{id}");
        let file = format!("sys/devices/{controller}/device_id");
        self.scsi_at(&controller, address, vendor, model)
            .file(&file, &format!("{{{id}}}"))
    }

    fn attributes(&self) -> Attributes {
        let tree = Tree::new(&[]);
        let at = |path: &str| tree.root().join(path);
        let make_parent = |path: &str| fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        for path in &self.directories {
            fs::create_dir_all(at(path)).unwrap();
        }
        for (path, target) in &self.links {
            make_parent(path);
            symlink(target, at(path)).unwrap();
        }
        for (path, content) in &self.files {
            make_parent(path);
            fs::write(at(path), content).unwrap();
        }
        Attributes::read(&tree.host(), &self.asked_for, || read_dmi(&tree.host()))
    }
}

/// One machine a row, and whose disk its disk is, in words.
fn assert_identities<const N: usize>(rows: [(&str, Machine, &str); N]) {
    for (what, machine, expected) in rows {
        let identity = identity(&machine.attributes());
        assert_eq!(identity.to_string(), expected, "{what}");
    }
}

#[test]
fn on_openstack_a_disk_with_a_volumes_uuid_is_persistent_and_the_others_are_unknown() {
    let begin = &UUID[..20];
    let capitals = &UUID.to_uppercase();
    let volume = |serial| format!("(persistent: its serial number {serial} is a volume's UUID)");
    let virtio = &volume(begin);
    let qemu = || openstack().scsi("QEMU", "QEMU HARDDISK");
    #[rustfmt::skip]
    assert_identities([
        ("virtio shows 20 characters", openstack().virtio(begin), virtio),
        ("its partition", openstack().virtio(begin).partition(), virtio),
        ("on another cloud", google().virtio(begin), virtio),
        ("without DMI", no_dmi().virtio(begin), virtio),
        ("SCSI shows all of it", qemu().scsi_serial(UUID), &volume(UUID)),
        ("in capitals", qemu().scsi_serial(capitals), &volume(capitals)),
        ("an ephemeral disk", openstack().virtio(""), UNKNOWN),
        ("SCSI", qemu(), UNKNOWN),
        ("a serial number of somebody's own", openstack().virtio("scratch"), UNKNOWN),
        ("a UUID that is cut short", openstack().virtio(&UUID[..19]), UNKNOWN),
        ("no UUID", openstack().virtio("0e4d1c2b_8f6a_4b3c_9"), UNKNOWN),
        ("no disk at all", openstack(), UNKNOWN),
        ("bare metal", openstack().scsi("ATA", "ST1000NM0011").scsi_serial("Z1N12345"), UNKNOWN),
    ]);
}

#[test]
fn on_ec2_the_model_and_the_serial_number_must_both_say_local() {
    let local = "(local: EC2 instance storage)";
    let ebs = "(persistent: an EBS volume)";
    let volume = "(persistent: an EBS volume, vol-0546d3c3b0af0bf6d)";
    let old_volume = "(persistent: an EBS volume, vol-1234abcd)";
    #[rustfmt::skip]
    assert_identities([
        ("Nitro", ec2().nvme(STORE, AWS).transport("pcie"), local),
        ("its partition", ec2().nvme(STORE, AWS).partition(), local),
        ("Xen", xen().nvme(STORE, AWS), local),
        ("without DMI", no_dmi().nvme(STORE, AWS), local),
        ("EBS", ec2().nvme(EBS, VOL).transport("pcie"), volume),
        ("its partition", ec2().nvme(EBS, VOL).partition(), volume),
        ("with a dash", ec2().nvme("", "vol-0546d3c3b0af0bf6d"), volume),
        ("in capitals", ec2().nvme("", &VOL.to_uppercase()), volume),
        ("an old id", ec2().nvme(EBS, "vol1234abcd"), old_volume),
        ("the model alone", ec2().nvme(EBS, ""), ebs),
        ("the model in capitals", ec2().nvme(&EBS.to_uppercase(), ""), ebs),
        ("the serial number alone", ec2().nvme("a new model", VOL), volume),
        ("on another cloud", google().nvme(EBS, VOL), volume),
        ("storage with a volume's serial number", ec2().nvme(STORE, VOL), volume),
        ("EBS with a storage's", ec2().nvme(EBS, AWS), ebs),
        ("storage with an OpenStack volume's", ec2().nvme(STORE, &UUID[..20]),
         "(persistent: its serial number 0e4d1c2b-8f6a-4b3c-9 is a volume's UUID)"),
        ("storage without a serial number", ec2().nvme(STORE, ""), UNKNOWN),
        ("storage with another one", ec2().nvme(STORE, "S3X9NX0J"), UNKNOWN),
        ("a longer model", ec2().nvme(&format!("{STORE} 2"), AWS), UNKNOWN),
        ("no volume's id", ec2().nvme("a new model", "volatile"), UNKNOWN),
        ("a storage server's disk", ec2().nvme(STORE, AWS).transport("tcp"), UNKNOWN),
        ("handed on to a guest", openstack().nvme(STORE, AWS), UNKNOWN),
        ("Xen's own disks", xen().xvd(), UNKNOWN),
        ("SCSI", ec2().scsi("Amazon", "EC2 NVMe Instanc").scsi_serial(AWS), UNKNOWN),
        ("DMI alone", ec2().nvme("", ""), UNKNOWN),
    ]);
}

#[test]
fn on_google_the_models_tell_local_from_persistent() {
    let local = "(local: Google local SSD)";
    let persistent = "(persistent: a Google persistent disk)";
    let two_clouds = || machine(["Google", "OpenStack Nova", ""]);
    #[rustfmt::skip]
    assert_identities([
        ("one controller", google().nvme("nvme_card", "nvme_card").namespace("2"), local),
        ("one controller a disk", google().nvme("nvme_card0", "nvme_card0"), local),
        ("many of them", google().nvme("nvme_card15", "nvme_card15").partition(), local),
        ("SCSI", google().scsi("Google", "EphemeralDisk"), local),
        ("SCSI without DMI", no_dmi().scsi("Google", "EphemeralDisk").partition(), local),
        ("persistent", google().nvme("nvme_card-pd", "nvme_card-pd"), persistent),
        ("SCSI, persistent", google().scsi("Google", "PersistentDisk"), persistent),
        ("on another cloud", azure().scsi("Google", "PersistentDisk"), persistent),
        ("a persistent serial number", google().nvme("nvme_card", "nvme_card-pd"), persistent),
        ("a persistent model", google().nvme("nvme_card-pd", "nvme_card"), persistent),
        ("such a card elsewhere", hyperv().nvme("nvme_card", "nvme_card"), UNKNOWN),
        ("such a card without DMI", no_dmi().nvme("nvme_card", "nvme_card"), UNKNOWN),
        ("two clouds at once", two_clouds().nvme("nvme_card", "nvme_card"), UNKNOWN),
        ("another card", google().nvme("nvme_card-x", "nvme_card-x"), UNKNOWN),
        ("a storage server's", google().nvme("nvme_card", "").transport("rdma"), UNKNOWN),
        ("another vendor's", google().scsi("LIO-ORG", "EphemeralDisk"), UNKNOWN),
        ("handed on to a guest", openstack().scsi("Google", "EphemeralDisk"), UNKNOWN),
        ("NVMe's model of a SCSI disk", google().scsi("Google", "nvme_card"), UNKNOWN),
        ("DMI alone", google().scsi("QEMU", "QEMU HARDDISK"), UNKNOWN),
    ]);
}

#[test]
fn on_azure_a_scsi_disk_is_known_by_its_place_on_the_bus() {
    let local = "(local: Azure temporary disk)";
    let os = "(persistent: the OS disk of an Azure or Hyper-V machine)";
    let keys = "(persistent: an IDE disk of Azure or Hyper-V that may hold encryption keys)";
    let unclear = "(persistent: an Azure disk, not shown to be the temporary one)";
    let data_0 = "(persistent: an Azure data disk, LUN 0)";
    let data_1 = "(persistent: an Azure data disk, LUN 1)";
    let volume = &format!("(persistent: its serial number {UUID} is a volume's UUID)");
    let capitals = &SCSI.to_uppercase();
    #[rustfmt::skip]
    assert_identities([
        ("generation 1", azure().vmbus(IDE_1, "1:0:1:0"), local),
        ("its partition", azure().vmbus(IDE_1, "1:0:1:0").partition(), local),
        ("generation 1, OS disk", azure().vmbus(IDE_0, "0:0:0:0"), os),
        ("generation 1, keys", azure().vmbus(IDE_3, "2:0:1:0"), keys),
        ("generation 2", azure().vmbus(SCSI, "0:0:0:1"), local),
        ("in capitals", azure().vmbus_of("MSFT", "VIRTUAL DISK", capitals, "0:0:0:1"), local),
        ("generation 2 without DMI", no_dmi().vmbus(SCSI, "0:0:0:1").partition(), local),
        ("generation 2, OS disk", azure().vmbus(SCSI, "0:0:0:0"), os),
        ("generation 2, another LUN", azure().vmbus(SCSI, "0:0:0:2"), unclear),
        ("generation 2, no LUN", azure().vmbus(SCSI, "0:0:0"), unclear),
        ("data disk", azure().vmbus(SCSI_B, "1:0:0:0"), data_0),
        ("at the temporary disk's LUN", azure().vmbus(SCSI_C, "1:0:0:1"), data_1),
        ("on another cloud", google().vmbus(SCSI_D, "1:0:0:1"), data_1),
        ("of another vendor", azure().vmbus_of("ATA", "", SCSI_B, "1:0:0:1"), data_1),
        ("with a volume's UUID", azure().vmbus(SCSI, "0:0:0:1").scsi_serial(UUID), volume),
        // There it is any disk of the owner's.
        ("another Hyper-V machine", hyperv().vmbus(IDE_1, "1:0:1:0"), UNKNOWN),
        ("generation 1 without DMI", no_dmi().vmbus(IDE_1, "1:0:1:0"), UNKNOWN),
        ("another cloud", openstack().vmbus(SCSI, "0:0:0:1"), UNKNOWN),
        ("another vendor", azure().vmbus_of("ATA", "Virtual Disk", SCSI, "0:0:0:1"), UNKNOWN),
        ("another model", azure().vmbus_of("Msft", "Virtual HD", IDE_1, "1:0:1:0"), UNKNOWN),
        ("no GUID", azure().vmbus("00000000-0001-8899", "1:0:1:0"), UNKNOWN),
        ("another GUID", azure().vmbus(UUID, "1:0:0:1"), UNKNOWN),
        ("no bus", azure().scsi("Msft", "Virtual Disk"), UNKNOWN),
    ]);
}

#[test]
fn on_azure_the_nvme_models_tell_local_from_remote() {
    let local = "(local: Azure local NVMe)";
    let os = "(persistent: the OS disk of an Azure or Hyper-V machine)";
    let data = "(persistent: an Azure data disk)";
    let data_3 = "(persistent: an Azure data disk, LUN 3)";
    let direct = |version: &str| azure().nvme(&format!("{DIRECT}{version}"), "1cf3ab3ce1db0001");
    let remote = |namespace| azure().nvme(REMOTE, "SN: 00001").namespace(namespace);
    // PCI devices are on the bus as well, by ids that say nothing of a disk.
    let vmbus_id = |id| direct("").file("sys/devices/pci0000:00/device_id", id);
    #[rustfmt::skip]
    assert_identities([
        ("first version", direct(""), local),
        ("second version", direct(" v2").partition(), local),
        ("of a bus id", vmbus_id("{00000000-0000-8899-0000-000000000000}"), local),
        ("OS disk", remote("1"), os),
        ("data disk", remote("5"), data_3),
        ("data disk, its partition", remote("5").partition(), data_3),
        ("no namespace", remote(""), data),
        ("a namespace that there cannot be", remote("0"), data),
        ("a new version", azure().nvme("MSFT NVMe Accelerator v2.0", "").namespace("1"), os),
        ("on another cloud", ec2().nvme(REMOTE, "").namespace("5"), data_3),
        ("a version that nobody knows", direct(" v3"), UNKNOWN),
        ("handed on to a guest", openstack().nvme(DIRECT, "1cf3ab3ce1db0001"), UNKNOWN),
        ("a storage server's", direct("").transport("tcp"), UNKNOWN),
    ]);
}

#[test]
fn why_a_disk_is_rejected_is_one_sentence() {
    let serial = UUID.to_string();
    let volume = Persistent::OpenStackVolume { serial };
    assert_eq!(
        volume.to_string(),
        format!("is a persistent volume (its serial number {UUID} is a volume's UUID)")
    );
    let id = ebs_volume_id("vol0546d3c3b0af0bf6d");
    assert_eq!(
        Persistent::EbsVolume { id }.to_string(),
        "is a persistent volume (an EBS volume, vol-0546d3c3b0af0bf6d)"
    );
}

/// Attributes as local disks have them.
fn local_disks() -> [Attributes; 6] {
    let machines = [
        ec2().nvme(STORE, AWS).transport("pcie"),
        google().nvme("nvme_card7", "nvme_card7"),
        google().scsi("Google", "EphemeralDisk"),
        azure().nvme(DIRECT, "1cf3ab3ce1db0001"),
        azure().vmbus(IDE_1, "1:0:1:0"),
        azure().vmbus(SCSI, "0:0:0:1"),
    ];
    machines.map(|machine| machine.attributes())
}

/// The texts that mean something, and any others.
fn text() -> impl Strategy<Value = Option<String>> {
    let known = [
        STORE,
        AWS,
        VOL,
        EBS,
        "Google",
        "EphemeralDisk",
        "PersistentDisk",
        "nvme_card",
        "nvme_card0",
        "nvme_card-pd",
        "Msft",
        "Virtual Disk",
        REMOTE,
        DIRECT,
        UUID,
        SCSI,
        IDE_0,
        IDE_1,
        "Amazon EC2",
        "Google Compute Engine",
        "OpenStack Nova",
        "7783-7084-3265-9085-8269-3286-77",
    ];
    let known = prop::sample::select(known.to_vec()).prop_map(String::from);
    prop::option::of(prop_oneof![known, ".{0,40}"])
}

fn firmware() -> impl Strategy<Value = Dmi> {
    [text(), text(), text()].prop_map(|[sys_vendor, product_name, chassis_asset_tag]| Dmi {
        sys_vendor,
        product_name,
        chassis_asset_tag,
    })
}

fn driver() -> impl Strategy<Value = Driver> {
    prop::sample::select(vec![Driver::Nvme, Driver::Scsi, Driver::Other])
}

fn any_disk() -> impl Strategy<Value = Attributes> {
    let transports = prop::sample::subsequence(vec!["pcie".to_string(), "tcp".into()], 0..=2);
    let numbers = (prop::option::of(0..4_u32), prop::option::of(0..4_u64));
    let texts = [text(), text(), text(), text()];
    (driver(), texts, numbers, transports, firmware()).prop_map(
        |(driver, [vendor, model, serial, vmbus_id], (namespace, lun), transports, dmi)| {
            Attributes {
                driver,
                vendor,
                model,
                serial,
                namespace,
                transports,
                lun,
                vmbus_id,
                dmi,
            }
        },
    )
}

/// A disk with everything that a local one has, or any.
fn local_or_any_disk() -> impl Strategy<Value = Attributes> {
    prop_oneof![prop::sample::select(local_disks().to_vec()), any_disk()]
}

/// Puts one mark of a persistent disk among the attributes.
fn mark(disk: &mut Attributes, mark: PersistentMark) {
    match mark {
        PersistentMark::Serial(serial) => disk.serial = Some(serial),
        PersistentMark::Model(model) => disk.model = Some(model),
        PersistentMark::Place(id, lun) => {
            disk.driver = Driver::Scsi;
            disk.vmbus_id = Some(id);
            disk.lun = lun;
        }
    }
}

#[derive(Debug, Clone)]
enum PersistentMark {
    Serial(String),
    Model(String),
    /// The id of the virtual controller, and the LUN.
    Place(String, Option<u64>),
}

fn persistent_mark() -> impl Strategy<Value = PersistentMark> {
    const HEX: &str = "[0-9a-fA-F]";
    let uuid = format!("{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}{{12}}");
    let begin_of_uuid = format!("{HEX}{{8}}-{HEX}{{4}}-{HEX}{{4}}-{HEX}");
    let ebs = format!("[vV][oO][lL]-?{HEX}{{17}}");
    let serial = [uuid, begin_of_uuid, ebs, "nvme_card-pd".into()];
    let serial = serial.map(|form| prop::string::string_regex(&form).unwrap());
    let serial = proptest::strategy::Union::new(serial);
    let model = prop::sample::select(vec![EBS, "nvme_card-pd", "PersistentDisk", REMOTE]);
    let lun = || prop::option::of(any::<u64>());
    let any_lun = prop::sample::select(vec![IDE_0, IDE_3, SCSI_B, SCSI_C, SCSI_D]);
    let not_the_temporary_disks = lun().prop_filter("the temporary disk", |lun| *lun != Some(1));
    prop_oneof![
        serial.prop_map(PersistentMark::Serial),
        (model, any::<bool>()).prop_map(|(model, capitals)| PersistentMark::Model(
            match capitals {
                true => model.to_uppercase(),
                false => model.into(),
            }
        )),
        (any_lun, lun()).prop_map(|(id, lun)| PersistentMark::Place(format!("{{{id}}}"), lun)),
        not_the_temporary_disks.prop_map(|lun| PersistentMark::Place(SCSI.into(), lun)),
    ]
}

#[test]
fn the_local_disks_of_the_properties_are_local() {
    for disk in local_disks() {
        let identity = identity(&disk);
        assert!(matches!(identity, Identity::LocalScratch(_)), "{disk:?}");
    }
}

proptest! {
    #[test]
    fn one_persistent_mark_is_enough_whatever_else_is_said(
        mut disk in local_or_any_disk(),
        persistent in persistent_mark(),
    ) {
        mark(&mut disk, persistent);
        let identity = identity(&disk);
        prop_assert!(matches!(identity, Identity::Persistent(_)), "{identity}");
    }

    #[test]
    fn the_firmware_alone_makes_no_disk_local(dmi in firmware(), driver in driver()) {
        let disk = Attributes { driver, dmi, ..Attributes::default() };
        prop_assert_eq!(identity(&disk), Identity::Unknown);
    }

    #[test]
    fn no_disk_is_local_on_a_machine_of_another_cloud(
        local in prop::sample::select(local_disks().to_vec()),
        dmi in firmware(),
    ) {
        let cloud = scratch(&local).unwrap().cloud();
        let is_another = dmi.clouds().iter().any(|named| *named != cloud);
        let is_local = matches!(
            identity(&Attributes { dmi, ..local }),
            Identity::LocalScratch(_)
        );
        prop_assert!(!(is_another && is_local));
    }

    /// A local disk's own attributes must all be there.
    #[test]
    fn without_one_of_its_attributes_no_disk_is_local(
        local in prop::sample::select(local_disks().to_vec()),
        other in ".{0,40}",
    ) {
        let with = |change: &dyn Fn(&mut Attributes)| {
            let mut disk = local.clone();
            change(&mut disk);
            matches!(identity(&disk), Identity::LocalScratch(_))
        };
        prop_assert!(!with(&|disk| disk.model = Some(other.clone())));
        prop_assert!(!with(&|disk| disk.driver = Driver::Other));
        if local.driver == Driver::Scsi {
            prop_assert!(!with(&|disk| disk.vendor = Some(other.clone())));
        }
        if local.vmbus_id.is_some() {
            prop_assert!(!with(&|disk| disk.vmbus_id = Some(other.clone())));
        }
    }
}
