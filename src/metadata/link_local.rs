//! Where OpenStack's service is in a network of IPv6 alone: at `fe80::a9fe:a9fe` on the link,
//! and so on each interface for itself (Nova's documentation, "Metadata service").

use crate::host::{Host, kernel_file};

/// The base URLs to try; none where IPv4 has a route to 169.254.169.254.
pub(super) fn services(host: &Host) -> Vec<String> {
    let read = |path| kernel_file::read_text(host.path(path)).unwrap_or_default();
    if has_route(&read("/proc/net/route")) {
        return Vec::new();
    }
    interfaces(&read("/proc/net/if_inet6"))
        .into_iter()
        .map(|interface| format!("http://[fe80::a9fe:a9fe%25{interface}]"))
        .collect()
}

/// Whether a route leads to 169.254.169.254: columns 2, 4 and 8 are destination, flags and
/// mask, addresses as the kernel has them in memory (proc(5), `/proc/net/route`).
fn has_route(routes: &str) -> bool {
    const UP: u32 = 0x1;
    const REJECT: u32 = 0x200;
    let service = u32::from_ne_bytes([169, 254, 169, 254]);
    routes.lines().skip(1).any(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let number = |column: usize| u32::from_str_radix(fields.get(column)?, 16).ok();
        let (Some(destination), Some(flags), Some(mask)) = (number(1), number(3), number(7)) else {
            return false;
        };
        flags & (UP | REJECT) == UP && service & mask == destination
    })
}

/// The interfaces with an address of the link: fields are address, index, length of the prefix,
/// scope (20: link), flags, name.
fn interfaces(addresses: &str) -> Vec<String> {
    let mut found = Vec::new();
    for line in addresses.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        if let [_, _, _, "20", _, name] = fields[..]
            && name != "lo"
            && found.len() < MOST_INTERFACES
            && !found.iter().any(|known| known == name)
        {
            found.push(name.to_string());
        }
    }
    found
}

/// More are not tried: each may take as long as a request.
const MOST_INTERFACES: usize = 4;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    const HEAD: &str = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n";
    const ADDRESSES: &str = "\
00000000000000000000000000000001 01 80 10 80       lo
fe800000000000000000000000000001 01 40 20 80       lo
fd000000000000000000000000000002 02 40 00 80     eth0
fe80000000000000f8163efffe000001 02 40 20 80     eth0
fe80000000000000f8163efffe000002 03 40 20 80     eth1
";

    /// Of these routes, each with its destination, flags and mask.
    fn found(routes: &[[&str; 3]]) -> Vec<String> {
        let lines = routes
            .iter()
            .map(|[to, flags, mask]| format!("eth0\t{to}\t0\t{flags}\t0\t0\t0\t{mask}\t0\n"));
        let routes = HEAD.to_string() + &lines.collect::<String>();
        let files = [
            ("proc/net/route", routes.as_str()),
            ("proc/net/if_inet6", ADDRESSES),
        ];
        services(&Tree::new(&files).host())
    }

    #[test]
    fn the_link_is_tried_where_ipv4_has_no_route_to_the_service() {
        let address = |bytes: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(bytes));
        let (nothing, service) = (address([0; 4]), address([169, 254, 169, 254]));
        let (link, private) = (address([169, 254, 0, 0]), address([10, 0, 0, 0]));
        let (short, long) = (address([255, 255, 0, 0]), address([255; 4]));
        let on_the_link = [
            "http://[fe80::a9fe:a9fe%25eth0]",
            "http://[fe80::a9fe:a9fe%25eth1]",
        ];
        let cases: [(&[[&str; 3]], bool); 7] = [
            (&[], false),
            (&[[&private, "0001", &short]], false),
            (&[[&nothing, "0003", &nothing]], true),
            (&[[&link, "0001", &short]], true),
            (&[[&service, "0007", &long]], true),
            (&[[&service, "0205", &long]], false),
            (&[["?", "0001", ""]], false),
        ];
        for (routes, has_route) in cases {
            let expected: &[&str] = if has_route { &[] } else { &on_the_link };
            assert_eq!(found(routes), expected, "{routes:?}");
        }
    }

    #[test]
    fn without_ipv6_there_is_nothing_to_try() {
        assert_eq!(services(&Tree::new(&[]).host()), [""; 0]);
    }
}
