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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

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
