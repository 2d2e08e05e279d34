//! Whose disk a disk is: the cloud's local scratch disk, somebody's persistent volume, or
//! neither as far as can be known. A pure function of what the kernel says of it.
//!
//! A persistent disk is not taken because of its name, and never formatted. One mark is
//! enough for that, on any cloud. A local disk may be formatted where it is blank: for that
//! a mark of the disk's own is needed, with which all else agrees.

pub(crate) mod attributes;
#[cfg(test)]
mod tests;

use std::fmt;

use crate::host::cloud::Cloud;
use attributes::{Attributes, Driver};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Identity {
    LocalScratch(Scratch),
    Persistent(Persistent),
    Unknown,
}

/// A disk that the cloud gives a machine for scratch space, and empties when it likes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scratch {
    Ec2InstanceStorage,
    GoogleLocalSsd,
    /// Also called the resource disk. cloud-init and waagent format it.
    AzureTemporaryDisk,
    AzureLocalNvme,
}

/// A disk that outlives the machine: somebody's data are on it, or will be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Persistent {
    OpenStackVolume {
        serial: String,
    },
    EbsVolume {
        /// As EC2's interfaces write it: `vol-0123456789abcdef0`.
        id: Option<String>,
    },
    GooglePersistentDisk,
    /// Of Azure, or the first disk of another Hyper-V machine.
    AzureOsDisk,
    AzureDataDisk {
        lun: Option<u64>,
    },
    /// Azure Disk Encryption keeps its keys there (WALinuxAgent, pull request 1287).
    AzureKeyDisk,
    /// On the controller of the OS disk and of the temporary disk, and not shown to be the latter.
    AzureDisk,
}

/// Whose disk this is.
pub(crate) fn identity(attributes: &Attributes) -> Identity {
    // Where marks contradict each other, the persistent one counts.
    if let Some(persistent) = persistent(attributes) {
        return Identity::Persistent(persistent);
    }
    match scratch(attributes) {
        Some(scratch) => Identity::LocalScratch(scratch),
        None => Identity::Unknown,
    }
}

fn persistent(disk: &Attributes) -> Option<Persistent> {
    let serial = disk.serial.as_deref().unwrap_or_default();
    if is_volume_serial(serial) {
        let serial = serial.to_string();
        return Some(Persistent::OpenStackVolume { serial });
    }
    let id = ebs_volume_id(serial);
    if id.is_some() || is(&disk.model, EBS) {
        return Some(Persistent::EbsVolume { id });
    }
    let is_google = |text| is(text, "nvme_card-pd") || is(text, "PersistentDisk");
    if is_google(&disk.model) || is_google(&disk.serial) {
        return Some(Persistent::GooglePersistentDisk);
    }
    if begins(&disk.model, AZURE_REMOTE_NVME) {
        return Some(match disk.namespace {
            Some(1) => Persistent::AzureOsDisk,
            namespace => Persistent::AzureDataDisk {
                lun: namespace.and_then(|id| u64::from(id).checked_sub(2)),
            },
        });
    }
    match azure_place(disk)? {
        AzurePlace::Os => Some(Persistent::AzureOsDisk),
        AzurePlace::Data => Some(Persistent::AzureDataDisk { lun: disk.lun }),
        AzurePlace::Keys => Some(Persistent::AzureKeyDisk),
        AzurePlace::Unclear => Some(Persistent::AzureDisk),
        AzurePlace::Temporary(_) => None,
    }
}

fn scratch(disk: &Attributes) -> Option<Scratch> {
    let (scratch, firmware) = marked_as_scratch(disk)?;
    let named = disk.dmi.clouds();
    let agrees = match firmware {
        Firmware::MustNameTheCloud => !named.is_empty(),
        Firmware::MayBeSilent => true,
    };
    // A host may hand a disk of its own on to its guests: then it is whatever the host says.
    let is_contradicted = named.iter().any(|cloud| *cloud != scratch.cloud());
    (agrees && !is_contradicted).then_some(scratch)
}

/// What is asked of the firmware beside the disk's own mark.
enum Firmware {
    MustNameTheCloud,
    /// It must not name another cloud.
    MayBeSilent,
}

/// What the disk's own marks say that it is.
fn marked_as_scratch(disk: &Attributes) -> Option<(Scratch, Firmware)> {
    match disk.driver {
        Driver::Nvme => nvme_marked_as_scratch(disk),
        Driver::Scsi => scsi_marked_as_scratch(disk),
        Driver::Other => None,
    }
}

fn nvme_marked_as_scratch(disk: &Attributes) -> Option<(Scratch, Firmware)> {
    // A storage server on the network may give its disks any model and serial number.
    if disk.transports.iter().any(|transport| transport != "pcie") {
        return None;
    }
    if is(&disk.model, EC2_STORAGE) && begins(&disk.serial, "AWS") {
        return Some((Scratch::Ec2InstanceStorage, Firmware::MayBeSilent));
    }
    if is_google_local_ssd(&disk.model) {
        // Anybody might call an NVMe card so.
        return Some((Scratch::GoogleLocalSsd, Firmware::MustNameTheCloud));
    }
    let is_azure = AZURE_LOCAL_NVME.iter().any(|model| is(&disk.model, model));
    is_azure.then_some((Scratch::AzureLocalNvme, Firmware::MayBeSilent))
}

/// Of Google's vendor and models scsi_id makes `Google_EphemeralDisk_…` and
/// `Google_PersistentDisk_…`, which guest-configs gives to NVMe disks too
/// (65-gce-disk-naming.rules, google_nvme_id). Hyper-V's are those of 80-azure-disk.rules.
fn scsi_marked_as_scratch(disk: &Attributes) -> Option<(Scratch, Firmware)> {
    if is(&disk.vendor, "Google") && is(&disk.model, "EphemeralDisk") {
        return Some((Scratch::GoogleLocalSsd, Firmware::MayBeSilent));
    }
    if !is(&disk.vendor, "Msft") || !is(&disk.model, "Virtual Disk") {
        return None;
    }
    match azure_place(disk)? {
        // Every Hyper-V machine of generation 1 has this place, and may have any disk there.
        AzurePlace::Temporary(Generation::One) => {
            Some((Scratch::AzureTemporaryDisk, Firmware::MustNameTheCloud))
        }
        AzurePlace::Temporary(Generation::Two) => {
            Some((Scratch::AzureTemporaryDisk, Firmware::MayBeSilent))
        }
        AzurePlace::Os | AzurePlace::Keys | AzurePlace::Data | AzurePlace::Unclear => None,
    }
}

impl Scratch {
    fn cloud(self) -> Cloud {
        match self {
            Scratch::Ec2InstanceStorage => Cloud::Ec2,
            Scratch::GoogleLocalSsd => Cloud::Google,
            Scratch::AzureTemporaryDisk | Scratch::AzureLocalNvme => Cloud::Azure,
        }
    }
}

/// The model of an EBS volume (amazon-ec2-utils, 70-ec2-nvme-devices.rules and ebsnvme-id).
const EBS: &str = "Amazon Elastic Block Store";

/// The model of an instance's local disk (the same rules). Its serial number begins with AWS.
const EC2_STORAGE: &str = "Amazon EC2 NVMe Instance Storage";

/// What begins the model of Azure's OS and data disks, `MSFT NVMe Accelerator v1.0`. The first
/// namespace is the OS disk, the data disk of LUN n is namespace n + 2 (azure-vm-utils,
/// 80-azure-disk.rules).
const AZURE_REMOTE_NVME: &str = "MSFT NVMe Accelerator";

/// The models of Azure's local disks (the same rules).
const AZURE_LOCAL_NVME: [&str; 2] = [
    "Microsoft NVMe Direct Disk",
    "Microsoft NVMe Direct Disk v2",
];

/// `nvme_card` where all local SSDs are on one controller, else `nvme_card0`, `nvme_card1` …
/// (Google's guest-configs, 65-gce-disk-naming.rules).
fn is_google_local_ssd(model: &Option<String>) -> bool {
    let model = model.as_deref().unwrap_or_default().to_ascii_lowercase();
    let number = model.strip_prefix("nvme_card");
    number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
}

/// OpenStack gives a volume its UUID as serial number, of which virtio shows the first 20
/// characters (VIRTIO_BLK_ID_BYTES) and SCSI all; its other disks get none.
fn is_volume_serial(serial: &str) -> bool {
    (serial.len() == 20 || serial.len() == UUID_FORM.len()) && begins_a_uuid(serial)
}

/// EBS writes the volume's id without its dash, to fit into the 20 characters that NVMe has:
/// `vol0123456789abcdef0` (ebsnvme-id). The ids of before 2016 have 8 digits.
fn ebs_volume_id(serial: &str) -> Option<String> {
    let (begin, digits) = serial.split_at_checked(3)?;
    let digits = digits.strip_prefix('-').unwrap_or(digits);
    let is_id = begin.eq_ignore_ascii_case("vol")
        && (8..=17).contains(&digits.len())
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then(|| format!("vol-{}", digits.to_ascii_lowercase()))
}

/// Where on Hyper-V's bus a SCSI disk is, as far as Azure gives the place a meaning.
enum AzurePlace {
    Os,
    Temporary(Generation),
    Keys,
    Data,
    Unclear,
}

/// Of virtual machines: with a BIOS and IDE, or with UEFI and SCSI.
enum Generation {
    One,
    Two,
}

/// The controllers' ids are those of WALinuxAgent's 66-azure-storage.rules, which
/// azure-vm-utils's 80-azure-disk.rules repeat.
fn azure_place(disk: &Attributes) -> Option<AzurePlace> {
    // Azure hands PCI devices on by this bus too, and NVMe disks are such.
    if disk.driver != Driver::Scsi {
        return None;
    }
    let id = disk.vmbus_id.as_deref()?;
    let id = id.trim_matches(['{', '}']).to_ascii_lowercase();
    if id.len() != UUID_FORM.len() || !begins_a_uuid(&id) {
        return None;
    }
    // Generation 1: the numbers of the IDE controller and of the place on it.
    match &id[..14] {
        "00000000-0000-" => return Some(AzurePlace::Os),
        "00000000-0001-" => return Some(AzurePlace::Temporary(Generation::One)),
        "00000001-0001-" => return Some(AzurePlace::Keys),
        _ => {}
    }
    // Generation 2: OS disk and temporary disk, and on further controllers the data disks;
    // data disks of generation 1 too.
    let controller = id.strip_suffix("-1e82-4818-a1c3-63d806ec15bb")?;
    match (controller, disk.lun) {
        ("f8b3781a", Some(0)) => Some(AzurePlace::Os),
        ("f8b3781a", Some(1)) => Some(AzurePlace::Temporary(Generation::Two)),
        ("f8b3781a", _) => Some(AzurePlace::Unclear),
        _ if controller.starts_with("f8b3781") => Some(AzurePlace::Data),
        _ => None,
    }
}

/// Whether an attribute is this text, in any case.
fn is(attribute: &Option<String>, text: &str) -> bool {
    let attribute = attribute.as_deref();
    attribute.is_some_and(|attribute| attribute.eq_ignore_ascii_case(text))
}

/// Whether an attribute begins with this text, in any case.
fn begins(attribute: &Option<String>, text: &str) -> bool {
    let begin = attribute.as_deref().and_then(|all| all.get(..text.len()));
    begin.is_some_and(|begin| begin.eq_ignore_ascii_case(text))
}

const UUID_FORM: &str = "xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx";

fn begins_a_uuid(text: &str) -> bool {
    text.bytes()
        .zip(UUID_FORM.bytes())
        .all(|(byte, place)| match place {
            b'-' => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// For a line that names the disk: `/dev/nvme1n1 (local: EC2 instance storage)`.
impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Identity::LocalScratch(scratch) => write!(f, "(local: {scratch})"),
            Identity::Persistent(persistent) => write!(f, "(persistent: {})", persistent.mark()),
            Identity::Unknown => write!(f, "(nothing says whether it is local or persistent)"),
        }
    }
}

impl fmt::Display for Scratch {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Scratch::Ec2InstanceStorage => "EC2 instance storage",
            Scratch::GoogleLocalSsd => "Google local SSD",
            Scratch::AzureTemporaryDisk => "Azure temporary disk",
            Scratch::AzureLocalNvme => "Azure local NVMe",
        })
    }
}

/// Why a disk is rejected: `/dev/vdb is a persistent volume (…)`.
impl fmt::Display for Persistent {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "is a persistent volume ({})", self.mark())
    }
}

impl Persistent {
    /// What shows it.
    fn mark(&self) -> String {
        match self {
            Persistent::OpenStackVolume { serial } => {
                format!("its serial number {serial} is a volume's UUID")
            }
            Persistent::EbsVolume { id: Some(id) } => format!("an EBS volume, {id}"),
            Persistent::EbsVolume { id: None } => "an EBS volume".into(),
            Persistent::GooglePersistentDisk => "a Google persistent disk".into(),
            Persistent::AzureOsDisk => "the OS disk of an Azure or Hyper-V machine".into(),
            Persistent::AzureDataDisk { lun: Some(lun) } => {
                format!("an Azure data disk, LUN {lun}")
            }
            Persistent::AzureDataDisk { lun: None } => "an Azure data disk".into(),
            Persistent::AzureKeyDisk => {
                "an IDE disk of Azure or Hyper-V that may hold encryption keys".into()
            }
            Persistent::AzureDisk => "an Azure disk, not shown to be the temporary one".into(),
        }
    }
}
