//! The machine's own identity.

use super::{Host, kernel_file};

/// Where firmware and hypervisor put the UUID: Nova and EC2 put the instance's there.
const PLACES: [&str; 2] = ["/sys/class/dmi/id/product_uuid", "/sys/hypervisor/uuid"];

/// The machine's UUID, in lower case; None where it is not known, or is one that many have.
pub(crate) fn uuid(host: &Host) -> Option<String> {
    PLACES.iter().find_map(|place| {
        let text = kernel_file::read_text(host.path(place)).ok()?;
        let uuid = text.trim().to_ascii_lowercase();
        let is_one = uuid.len() == 36 && uuid.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
        let digits = || uuid.bytes().filter(|b| *b != b'-');
        // Firmware without one says all zeros or all ones.
        let is_own = !digits().all(|b| b == b'0') && !digits().all(|b| b == b'f');
        (is_one && is_own).then_some(uuid)
    })
}

/// The bytes of memory that this machine has, as far as the kernel shows them: what it may use
/// (`MemTotal` of /proc/meminfo), and what it keeps for a crash (`kexec_crash_size`, Linux
/// 2.6.28). Its own text, and what firmware takes, are in neither. None where it is not known.
pub(crate) fn memory_bytes(host: &Host) -> Option<u64> {
    let table = kernel_file::read_text(host.path("/proc/meminfo")).ok()?;
    let mut lines = table.lines();
    let total = lines.find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kib: u64 = total.trim().strip_suffix("kB")?.trim().parse().ok()?;
    let kept = kernel_file::read_text(host.path("/sys/kernel/kexec_crash_size"));
    let kept: u64 = kept
        .ok()
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    Some(kib.saturating_mul(1024).saturating_add(kept))
}

/// How many processors are online by the kernel's list of them: `0-3,6` (documented since Linux
/// 2.6.30). None where there is none.
fn processors_listed(host: &Host) -> Option<u64> {
    let list = kernel_file::read_text(host.path("/sys/devices/system/cpu/online")).ok()?;
    let counts = list.trim().split(',').map(|part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        Some(u64::from(last.checked_sub(first)?) + 1)
    });
    counts.sum()
}

/// How many processors are online; None where it is not known. `/proc/stat`, as `/proc/cpuinfo`,
/// has a line for each of them, which the kernel takes long to make up.
pub(crate) fn processors_online(host: &Host) -> Option<u64> {
    if let Some(listed) = processors_listed(host) {
        return Some(listed);
    }
    let table = kernel_file::read_text(host.path("/proc/stat")).ok()?;
    let is_one = |line: &&str| {
        let number = line.strip_prefix("cpu");
        number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
    };
    let online = table.lines().filter(is_one).count() as u64;
    (online > 0).then_some(online)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn memory_is_what_the_kernel_may_use_and_what_it_keeps_for_a_crash() {
        const TABLE: &str = "MemTotal:         993804 kB\nMemFree:          123456 kB\n";
        type Files<'a> = &'a [(&'a str, &'a str)];
        let (meminfo, crash) = ("proc/meminfo", "sys/kernel/kexec_crash_size");
        let cases: [(Files, Option<u64>); 5] = [
            (&[], None),
            (&[(meminfo, "MemTotal: much kB\n")], None),
            (&[(meminfo, TABLE)], Some(993_804 << 10)),
            (&[(meminfo, TABLE), (crash, "0\n")], Some(993_804 << 10)),
            (
                &[(meminfo, TABLE), (crash, "134217728\n")],
                Some((993_804 << 10) + (128 << 20)),
            ),
        ];
        for (files, expected) in cases {
            assert_eq!(memory_bytes(&Tree::new(files).host()), expected);
        }
        let here = memory_bytes(&Host::this_machine());
        assert!(here.is_some_and(|bytes| bytes > 64 << 20));
    }

    #[test]
    fn processors_that_are_online_are_counted() {
        const STAT: &str = "cpu  1 2 3\ncpu0 1 2 3\ncpu2 1 2 3\nintr 5 cpu\nctxt 7\n";
        for (stat, expected) in [(STAT, Some(2)), ("cpu  1 2 3\n", None)] {
            let tree = Tree::new(&[("proc/stat", stat)]);
            assert_eq!(processors_online(&tree.host()), expected);
        }
        assert!(processors_online(&Host::this_machine()).is_some());
        // The kernel's list says the same, and comes first.
        let (stat, list) = (
            ("proc/stat", STAT),
            ("sys/devices/system/cpu/online", "0-2,5\n"),
        );
        for (files, expected) in [
            (&[stat, list][..], Some(4)),
            (&[list], Some(4)),
            (&[], None),
        ] {
            assert_eq!(processors_online(&Tree::new(files).host()), expected);
        }
    }

    #[test]
    fn processors_are_counted_in_the_kernel_s_list() {
        for (list, expected) in [
            ("0\n", Some(1)),
            ("0-1\n", Some(2)),
            ("0-3,6,8-127\n", Some(125)),
            ("", None),
            ("\n", None),
            ("3-0\n", None),
            ("0-18446744073709551615\n", None),
            ("0,many\n", None),
        ] {
            let tree = Tree::new(&[("sys/devices/system/cpu/online", list)]);
            assert_eq!(processors_listed(&tree.host()), expected, "{list:?}");
        }
        assert_eq!(processors_listed(&Tree::new(&[]).host()), None);
    }

    #[test]
    fn the_first_place_that_has_one_counts() {
        const UUID: &str = "0E4D1C2B-8f6a-4b3c-9d1e-000000000001";
        let (dmi, xen) = ("sys/class/dmi/id/product_uuid", "sys/hypervisor/uuid");
        let zeros = "00000000-0000-0000-0000-000000000000\n";
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Files, Option<&str>); 5] = [
            (&[], None),
            (&[(dmi, UUID)], Some(UUID)),
            (&[(dmi, zeros), (xen, UUID)], Some(UUID)),
            (&[(dmi, "Not Settable\n")], None),
            (&[(dmi, "")], None),
        ];
        for (files, expected) in cases {
            let expected = expected.map(str::to_ascii_lowercase);
            assert_eq!(uuid(&Tree::new(files).host()), expected, "{files:?}");
        }
    }
}
