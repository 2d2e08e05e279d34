//! What the name of one of udev's links says of the device that it is to lead to, also where
//! there is no such link: udev has not made it yet, or there is no udev.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// A text as udev writes it into a link's name: `my\x20disk` (encode_devnode_name).
pub(super) fn encode(value: &[u8]) -> OsString {
    let mut name = Vec::new();
    for chunk in value.utf8_chunks() {
        for character in chunk.valid().chars() {
            let stays = character.is_ascii_alphanumeric() || "#+-.:=@_".contains(character);
            match stays || !character.is_ascii() {
                true => name.extend(character.to_string().bytes()),
                false => name.extend(format!("\\x{:02x}", character as u32).bytes()),
            }
        }
        for byte in chunk.invalid() {
            name.extend(format!("\\x{byte:02x}").bytes());
        }
    }
    OsString::from_vec(name)
}

/// The reverse of [`encode`].
pub(super) fn decode(name: &[u8]) -> Vec<u8> {
    let mut value = Vec::with_capacity(name.len());
    let mut rest = name;
    while let [first, tail @ ..] = rest {
        let (byte, after) = match rest.strip_prefix(b"\\x").and_then(hex_byte) {
            Some(byte) => (byte, &rest[4..]),
            None => (*first, tail),
        };
        value.push(byte);
        rest = after;
    }
    value
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digits = digits.first_chunk::<2>()?;
    let value = |digit: u8| (digit as char).to_digit(16);
    Some((value(digits[0])? * 16 + value(digits[1])?) as u8)
}

/// The name of a partition's link is that of its disk's and the partition's number:
/// `virtio-scratch-part1`.
pub(super) fn split_partition(name: &str) -> (&str, Option<u32>) {
    let split = name
        .rsplit_once("-part")
        .and_then(|(disk, number)| Some((disk, number.parse().ok()?)));
    match split {
        Some((disk, number)) => (disk, Some(number)),
        None => (name, None),
    }
}

/// Whether a link in `/dev/disk/by-id` is named for this serial number or WWID. Its name is
/// the bus and a number: `virtio-SERIAL`, `ata-MODEL_SERIAL`, `scsi-0VENDOR_MODEL_SERIAL`,
/// `scsi-3WWID`, `wwn-0xWWID`, `nvme-eui.WWID`, `nvme-MODEL_SERIAL_NAMESPACE`.
pub(super) fn is_named_for(name: &str, identifier: &str) -> bool {
    let Some((bus, named)) = name.split_once('-') else {
        return false;
    };
    let named = named.to_ascii_lowercase();
    let identifier = in_a_name(identifier);
    // The kernel says which kind of WWID it is; udev has a digit for that, or nothing.
    let kinds = ["naa.", "eui.", "t10."];
    let without_kind = kinds.iter().find_map(|kind| identifier.strip_prefix(kind));
    let is_it = |named: &str, identifier: &str| {
        !identifier.is_empty()
            && match named.strip_suffix(identifier) {
                Some("" | "0x") => true,
                Some(kind) if bus == "scsi" && kind.len() == 1 => true,
                Some(before) => before.ends_with('_'),
                None => false,
            }
    };
    let of_a_namespace = match (bus, named.rsplit_once('_')) {
        ("nvme", Some((disk, number))) if number.bytes().all(|b| b.is_ascii_digit()) => Some(disk),
        _ => None,
    };
    [Some(identifier.as_str()), without_kind]
        .into_iter()
        .flatten()
        .any(|identifier| {
            is_it(&named, identifier) || of_a_namespace.is_some_and(|disk| is_it(disk, identifier))
        })
}

/// As udev writes an identifier into a name: `_` for blanks and for what a name cannot hold.
fn in_a_name(identifier: &str) -> String {
    let words: Vec<&str> = identifier.split_whitespace().collect();
    words
        .join("_")
        .replace(
            |character: char| {
                character.is_ascii()
                    && !character.is_ascii_alphanumeric()
                    && !"#+-.:=@_".contains(character)
            },
            "_",
        )
        .to_ascii_lowercase()
}

/// Whether a link of this name in `/dev/disk/by-id` could be that of a SCSI disk: udev names
/// those of other disks and devices for what they are.
pub(super) fn may_be_of_scsi(name: &str) -> bool {
    const OTHERS: [&str; 7] = ["virtio", "nvme", "mmc", "memstick", "dm", "md", "lvm"];
    let bus = name.split_once('-').map_or(name, |(bus, _)| bus);
    !OTHERS.contains(&bus)
}

/// Whether a link of this name in `/dev/disk/by-path` could lead to a device at this place in
/// sysfs: `pci-0000:00:05.0-scsi-0:0:1:0` to
/// `/sys/devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:1/2:0:1:0`. It could unless
/// an address in the name is another than the device's.
pub(super) fn may_lead_to(name: &str, place: &Path) -> bool {
    let parts: Vec<&str> = name.split('-').collect();
    let steps: Vec<&str> = place.iter().filter_map(|step| step.to_str()).collect();
    // A namespace that several controllers could lead to is below none of them.
    if steps.contains(&"nvme-subsystem") {
        return true;
    }
    let has = |is_it: &dyn Fn(&str) -> bool| steps.iter().any(|step| is_it(step));

    let last_pci = |among: &[&str]| {
        let found = among.iter().rev().find(|step| is_pci_address(step));
        found.map(|address| address.to_ascii_lowercase())
    };
    let named_pci = last_pci(&parts);
    if named_pci.is_some() && named_pci != last_pci(&steps) {
        return false;
    }
    parts.windows(2).all(|pair| match pair {
        ["acpi" | "ccw" | "platform", address] => has(&|step| step.starts_with(address)),
        ["vbd", number] => has(&|step| step.strip_prefix("vbd-") == Some(number)),
        ["nvme", _] => has(&|step| step == "nvme"),
        // The number of the host in the name is counted from that of the controller's first.
        ["scsi", address] => match scsi_address(address) {
            Some([_, named @ ..]) => {
                has(&|step| scsi_address(step).is_some_and(|[_, rest @ ..]| rest == named))
            }
            None => true,
        },
        ["lun", number] => match number.parse::<u64>() {
            Ok(named) => has(&|step| scsi_address(step).is_some_and(|[.., lun]| lun == named)),
            Err(_) => true,
        },
        _ => true,
    })
}

/// `0000:00:05.0`
fn is_pci_address(text: &str) -> bool {
    let fields: Vec<&str> = text.split([':', '.']).collect();
    let [domain, bus, device, function] = fields[..] else {
        return false;
    };
    let is_hex = |field: &&str| field.bytes().all(|byte| byte.is_ascii_hexdigit());
    let lengths = (domain.len(), bus.len(), device.len(), function.len());
    matches!(lengths, (4.., 2, 2, 1)) && fields.iter().all(is_hex)
}

/// Host, channel, target and unit: `2:0:1:0`.
fn scsi_address(text: &str) -> Option<[u64; 4]> {
    let numbers: Result<Vec<u64>, _> = text.split(':').map(str::parse).collect();
    numbers.ok()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_value_is_written_into_a_name_as_udev_does() {
        let cases: [(&[u8], &str); 6] = [
            (b"data", "data"),
            (b"my disk", "my\\x20disk"),
            (b"/boot", "\\x2fboot"),
            (b"a\\b\"", "a\\x5cb\\x22"),
            ("é#+-.:=@_".as_bytes(), "é#+-.:=@_"),
            (b"a\xff", "a\\xff"),
        ];
        for (value, name) in cases {
            assert_eq!(encode(value), *name, "{name}");
            assert_eq!(decode(name.as_bytes()), value, "{name}");
        }
        // Not an escape.
        for name in ["\\x2", "\\x", "\\xg0", "\\x+1", "\\"] {
            assert_eq!(decode(name.as_bytes()), name.as_bytes());
        }
    }

    #[test]
    fn the_name_of_a_partition_is_the_disks_and_a_number() {
        assert_eq!(split_partition("virtio-a"), ("virtio-a", None));
        assert_eq!(split_partition("virtio-a-part12"), ("virtio-a", Some(12)));
        assert_eq!(split_partition("x-part1-part2"), ("x-part1", Some(2)));
        for whole in ["virtio-a-part", "virtio-a-partx", "virtio-a-part1x", ""] {
            assert_eq!(split_partition(whole), (whole, None));
        }
    }

    #[test]
    fn names_in_by_id_are_matched_with_serial_numbers_and_wwids() {
        const UUID: &str = "0e4d1c2b-8f6a-4b3c-9d5e-1a2b3c4d5e6f";
        let cases = [
            ("virtio-0e4d1c2b-8f6a-4b3c-9", "0e4d1c2b-8f6a-4b3c-9", true),
            ("virtio-0E4D1C2B-8F6A-4B3C-9", "0e4d1c2b-8f6a-4b3c-9", true),
            ("virtio-my_serial_x", "my serial/x", true),
            ("virtio-my-data", "data", false),
            ("virtio-", "", false),
            ("virtio-x", "", false),
            ("virtio", "virtio", false),
            (&format!("scsi-0QEMU_QEMU_HARDDISK_{UUID}"), UUID, true),
            (&format!("scsi-SQEMU_QEMU_HARDDISK_{UUID}"), UUID, true),
            (&format!("scsi-0QEMU_QEMU_HARDDISK_{UUID}x"), UUID, false),
            (
                "scsi-0QEMU_QEMU_HARDDISK_drive-scsi0-0-0-1",
                "t10.QEMU    QEMU HARDDISK   drive-scsi0-0-0-1",
                true,
            ),
            (
                "scsi-0QEMU_QEMU_HARDDISK_drive-scsi0-0-0-1",
                "t10.QEMU    QEMU HARDDISK   drive-scsi0-0-0-2",
                false,
            ),
            (
                "scsi-360022480c0ffee00c0ffee00c0ffee00",
                "naa.60022480c0ffee00c0ffee00c0ffee00",
                true,
            ),
            (
                "wwn-0x60022480c0ffee00c0ffee00c0ffee00",
                "naa.60022480c0ffee00c0ffee00c0ffee00",
                true,
            ),
            ("wwn-0x5000c500a0b1c2d3", "naa.5000c500a0b1c2d4", false),
            ("ata-QEMU_HARDDISK_QM00002", "QM00002", true),
            ("google-scratch", "scratch", true),
            ("scsi-0Google_PersistentDisk_data", "data", true),
            (
                "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0",
                "vol0123456789abcdef0",
                true,
            ),
            (
                "nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0_1",
                "vol0123456789abcdef0",
                true,
            ),
            ("nvme-eui.0025385b21404321", "eui.0025385b21404321", true),
            (
                "nvme-nvme.1d0f-766f-416d-00000001",
                "nvme.1d0f-766f-416d-00000001",
                true,
            ),
        ];
        for (name, identifier, expected) in cases {
            assert_eq!(
                is_named_for(name, identifier),
                expected,
                "{name} {identifier}"
            );
        }
    }

    #[test]
    fn names_in_by_path_are_matched_with_places_in_sysfs() {
        const VIRTIO: &str = "/sys/devices/pci0000:00/0000:00:05.0/virtio2";
        const BRIDGED: &str = "/sys/devices/pci0000:00/0000:00:02.1/0000:02:00.0/virtio2";
        const SCSI: &str = "/sys/devices/pci0000:00/0000:00:10.0/virtio1/host2/target2:0:1/2:0:1:3";
        const NVME: &str = "/sys/devices/pci0000:00/0000:00:1f.0/nvme/nvme1";
        const SUBSYSTEM: &str = "/sys/devices/virtual/nvme-subsystem/nvme-subsys1";
        const MAPPED: &str = "/sys/devices/virtual/block/dm-0";
        const XEN: &str = "/sys/devices/vbd-51728";
        const AZURE: &str = "/sys/devices/LNXSYSTM:00/LNXSYBUS:00/PNP0A03:00/device:07/VMBUS:01/\
            00000000-0001-8899-0000-000000000000/host1/target1:0:1/1:0:1:0";
        const MAINFRAME: &str = "/sys/devices/css0/0.0.0001/0.0.0001/virtio1";
        let cases = [
            ("pci-0000:00:05.0", VIRTIO, true),
            ("virtio-pci-0000:00:05.0", VIRTIO, true),
            ("pci-0000:00:05.0-virtio-pci-virtio2", VIRTIO, true),
            ("pci-0000:00:06.0", VIRTIO, false),
            ("virtio-pci-0000:00:06.0", VIRTIO, false),
            ("pci-0000:00:05.0-scsi-0:0:0:0", VIRTIO, false),
            ("pci-0000:00:05.0-nvme-1", VIRTIO, false),
            ("pci-0000:02:00.0", BRIDGED, true),
            ("pci-0000:00:02.1", BRIDGED, false),
            ("pci-0000:00:10.0-scsi-0:0:1:3", SCSI, true),
            ("pci-0000:00:10.0-scsi-0:0:1:0", SCSI, false),
            ("pci-0000:00:10.0-scsi-0:0:0:3", SCSI, false),
            ("pci-0000:00:11.0-scsi-0:0:1:3", SCSI, false),
            // Which port of the controller it is does not show.
            ("pci-0000:00:10.0-ata-1", SCSI, true),
            ("pci-0000:00:10.0-sas-0x5000c500-lun-3", SCSI, true),
            ("pci-0000:00:10.0-sas-0x5000c500-lun-4", SCSI, false),
            (
                "ip-192.0.2.1:3260-iscsi-iqn.2020-01.org.example:x-lun-3",
                SCSI,
                true,
            ),
            ("pci-0000:00:1F.0-nvme-1", NVME, true),
            ("pci-0000:00:1e.0-nvme-1", NVME, false),
            ("pci-0000:00:1e.0-nvme-1", SUBSYSTEM, true),
            ("pci-0000:00:05.0", MAPPED, false),
            ("xen-vbd-51728", XEN, true),
            ("xen-vbd-51744", XEN, false),
            ("pci-0000:00:05.0", XEN, false),
            ("acpi-VMBUS:01-scsi-0:0:1:0", AZURE, true),
            ("acpi-VMBUS:00-scsi-0:0:1:0", AZURE, false),
            ("acpi-VMBUS:01-scsi-0:0:0:0", AZURE, false),
            (
                "acpi-VMBUS:01-vmbus-000000000001889900000000-lun-0",
                AZURE,
                true,
            ),
            ("ccw-0.0.0001", MAINFRAME, true),
            ("ccw-0.0.0002", MAINFRAME, false),
            ("platform-a003e00.virtio_mmio", VIRTIO, false),
            // A rule of the site's own.
            ("slot7", VIRTIO, true),
            ("", VIRTIO, true),
        ];
        for (name, place, expected) in cases {
            assert_eq!(
                may_lead_to(name, Path::new(place)),
                expected,
                "{name} {place}"
            );
        }
    }

    proptest! {
        #[test]
        fn what_was_encoded_is_decoded(value in prop::collection::vec(any::<u8>(), 0..40)) {
            prop_assert_eq!(decode(encode(&value).as_bytes()), value);
        }

        #[test]
        fn no_name_makes_it_panic(
            name in "[a-z0-9:._\\-]{0,30}|.{0,30}",
            other in "[a-z0-9:._\\-/]{0,30}|.{0,30}",
        ) {
            let (disk, _) = split_partition(&name);
            is_named_for(disk, &other);
            may_be_of_scsi(disk);
            may_lead_to(disk, Path::new(&other));
        }
    }
}
