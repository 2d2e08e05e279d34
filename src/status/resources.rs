//! Whether a VM has what was asked for.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::disk::inventory;
use crate::host::regular_file::MIB;
use crate::host::{Host, machine};
use crate::metadata::Instance;
use crate::resources::{Request, size_in_words};

/// What the kernel's text and tables and the firmware take of the memory, which `MemTotal` does
/// not have: a sixteenth (a page's own entry is 64 bytes of 4096), and 64 MiB.
const KERNELS_SHARE: u64 = 16;
const KERNELS_OWN: u64 = 64 * MIB;

/// A partition table, or what LVM needs: a hundredth of the disk.
const TABLES_SHARE: u64 = 100;

/// In names of flavors people round, and write GB: a tenth. What is requested is not rounded, in
/// whatever way it is written; `plan flavor` has it so, too.
const NAMES_SHARE: u64 = 10;

/// What was asked for, what there is, and what is short of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Resources {
    pub(crate) asked: Asked,
    pub(crate) got: Amounts,
    /// What there is less of than was asked for.
    pub(crate) short_of: Vec<Resource>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Asked {
    /// `vmstage_request`, or `flavor` where its name says it.
    pub(crate) by: String,
    #[serde(flatten)]
    pub(crate) amounts: Amounts,
    /// The numbers of the flavor's own name may be, and its GB be smaller.
    #[serde(skip)]
    pub(crate) is_rounded: bool,
}

/// None where it is not known, or nobody asked for it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Amounts {
    pub(crate) memory_bytes: Option<u64>,
    pub(crate) cores: Option<u64>,
    /// Of the block device, not of the file system on it.
    pub(crate) scratch_bytes: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Resource {
    Memory,
    Cores,
    Scratch,
}

impl Resource {
    pub(crate) const ALL: [Resource; 3] = [Resource::Memory, Resource::Cores, Resource::Scratch];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Resource::Memory => "memory",
            Resource::Cores => "cores",
            Resource::Scratch => "scratch",
        }
    }
}

impl Amounts {
    pub(crate) fn of(&self, resource: Resource) -> Option<u64> {
        match resource {
            Resource::Memory => self.memory_bytes,
            Resource::Cores => self.cores,
            Resource::Scratch => self.scratch_bytes,
        }
    }

    /// `1 GiB` of memory, `2` cores.
    pub(crate) fn in_words(&self, resource: Resource) -> Option<String> {
        self.of(resource).map(|amount| match resource {
            Resource::Cores => amount.to_string(),
            Resource::Memory | Resource::Scratch => size_in_words(amount / MIB),
        })
    }

    fn asked(request: &Request) -> Amounts {
        let bytes = |mib: Option<u64>| mib.map(|mib| mib.saturating_mul(MIB));
        Amounts {
            memory_bytes: bytes(request.memory_mib),
            cores: request.cores,
            scratch_bytes: bytes(request.scratch_mib),
        }
    }

    /// What this machine has; the scratch space is that of the staged device.
    pub(super) fn got(host: &Host, staged: Option<&str>) -> Amounts {
        Amounts {
            memory_bytes: machine::memory_bytes(host),
            cores: machine::processors_online(host),
            scratch_bytes: match staged {
                Some(device) => inventory::size_of(host, Path::new(device)),
                None => Some(0),
            },
        }
    }
}

impl Resources {
    /// `short of scratch: 5 GiB of 10 GiB`; None where nothing is short.
    pub(crate) fn shortage(&self) -> Option<String> {
        let one = |resource: &Resource| {
            let (got, of) = (&self.got, &self.asked.amounts);
            let (got, of) = (got.in_words(*resource)?, of.in_words(*resource)?);
            Some(format!("{}: {got} of {of}", resource.name()))
        };
        let all: Vec<String> = self.short_of.iter().filter_map(one).collect();
        (!all.is_empty()).then(|| format!("short of {}", all.join(", ")))
    }

    pub(crate) fn of(asked: Asked, got: Amounts) -> Resources {
        let is_short = |resource: &Resource| {
            let of = asked.amounts.of(*resource)?;
            let least = least(*resource, of, asked.is_rounded);
            Some(got.of(*resource)? < least)
        };
        let all = Resource::ALL.into_iter();
        let short_of = all.filter(|one| is_short(one) == Some(true)).collect();
        Resources {
            asked,
            got,
            short_of,
        }
    }
}

impl Asked {
    /// What an instance's metadata asks for, else the name of its flavor. And what is wrong with
    /// a request that is none.
    pub(super) fn of(instance: &Instance) -> (Option<Asked>, Option<String>) {
        let (request, wrong) = match instance.request.as_deref().map(Request::parse) {
            Some(Ok(request)) => (Some(request), None),
            Some(Err(wrong)) => (None, Some(format!("vmstage_request: {wrong}"))),
            None => (None, None),
        };
        let by_name = || Request::from_name(instance.flavor.as_deref()?);
        let asked = match request {
            Some(request) => Some(("vmstage_request", request, false)),
            None => by_name().map(|request| ("flavor", request, true)),
        };
        let asked = asked.map(|(by, request, is_rounded)| Asked {
            by: by.into(),
            amounts: Amounts::asked(&request),
            is_rounded,
        });
        (asked, wrong)
    }
}

/// The least that is no shortage, where so much was asked for.
fn least(resource: Resource, asked: u64, is_rounded: bool) -> u64 {
    let named = match (resource, is_rounded) {
        (Resource::Memory | Resource::Scratch, true) => asked - asked / NAMES_SHARE,
        _ => asked,
    };
    match resource {
        Resource::Cores => named,
        Resource::Scratch => named - named / TABLES_SHARE,
        // Of a very small machine at least half.
        Resource::Memory => {
            let taken = named / KERNELS_SHARE + KERNELS_OWN;
            named - taken.min(named / 2)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tree::Tree;

    const GIB: u64 = 1 << 30;

    fn amounts(memory_bytes: u64, cores: u64, scratch_bytes: u64) -> Amounts {
        Amounts {
            memory_bytes: Some(memory_bytes),
            cores: Some(cores),
            scratch_bytes: Some(scratch_bytes),
        }
    }

    fn instance(request: Option<&str>, flavor: &str) -> Instance {
        Instance {
            request: request.map(String::from),
            flavor: Some(flavor.into()),
            ..Instance::default()
        }
    }

    #[test]
    fn what_is_short_of_what_was_asked_for() {
        // MemTotal of QEMU's machines with Linux 6.1, and one whose kernel keeps nothing.
        let (of_1_gib, of_30_gib) = (993_804 << 10, 30_800_000 << 10);
        for (request, flavor, got, shortage) in [
            ("m1024c1s10", "", amounts(of_1_gib, 1, 10 * GIB), None),
            ("m1024c1s10", "", amounts(GIB, 2, 20 * GIB), None),
            // A partition of the disk.
            ("m1024c1s10", "", amounts(GIB, 1, 10 * GIB - 2 * MIB), None),
            (
                "memory=1G,cores=2,scratch=10G",
                "",
                amounts(of_1_gib, 1, 5 * GIB),
                Some("short of cores: 1 of 2, scratch: 5 GiB of 10 GiB"),
            ),
            (
                "memory=2G",
                "m1024c1s10",
                amounts(of_1_gib, 1, 0),
                Some("short of memory: 970 MiB of 2 GiB"),
            ),
            ("cores=1", "m9999c9s9", amounts(of_1_gib, 1, 0), None),
            // The name's GB are 10^9 bytes here.
            (
                "",
                "c8-30gb-186",
                amounts(of_30_gib, 8, 186_000_000_000),
                None,
            ),
            // A request's are GiB.
            (
                "c8-30gb-186",
                "c8-30gb-186",
                amounts(of_30_gib, 8, 186_000_000_000),
                Some("short of scratch: 173.2 GiB of 186 GiB"),
            ),
            ("c8-30gb-186", "", amounts(of_30_gib, 8, 186 * GIB), None),
            (
                "",
                "c8-30gb-186",
                amounts(of_30_gib, 8, 0),
                Some("short of scratch: 0 MiB of 186 GiB"),
            ),
            ("", "SCS-2V-4-20", amounts(4 * GIB, 2, 0), None),
            ("", "m1.large", amounts(1, 1, 0), None),
        ] {
            let request = Some(request).filter(|request| !request.is_empty());
            let (asked, wrong) = Asked::of(&instance(request, flavor));
            assert_eq!(wrong, None);
            let told = asked.and_then(|asked| Resources::of(asked, got).shortage());
            assert_eq!(told.as_deref(), shortage, "{request:?} {flavor}");
        }
    }

    #[test]
    fn what_is_not_known_is_not_short() {
        let (asked, _) = Asked::of(&instance(Some("m1024c1s10"), ""));
        let resources = Resources::of(asked.unwrap(), Amounts::default());
        assert_eq!(resources.shortage(), None);
    }

    #[test]
    fn a_request_that_is_none_is_said_and_the_flavor_counts() {
        let (asked, wrong) = Asked::of(&instance(Some("a lot"), "m1024c1s10"));
        assert!(wrong.unwrap().contains("\"a lot\" is no request"));
        assert_eq!(asked.unwrap().by, "flavor");
    }

    #[test]
    fn what_this_machine_has() {
        let tree = Tree::new(&[
            ("proc/meminfo", "MemTotal: 1048576 kB\n"),
            ("proc/stat", "cpu 1\ncpu0 1\n"),
        ]);
        let host = tree.with_devices(&["vdb"], None);
        let got = Amounts::got(&host, Some("/dev/vdb"));
        let listed = tree.text("proc/partitions");
        let blocks = listed.lines().last().unwrap().split_whitespace().nth(2);
        let kib: u64 = blocks.unwrap().parse().unwrap();
        assert_eq!(got, amounts(GIB, 1, kib * 1024));
        assert_eq!(Amounts::got(&host, None).scratch_bytes, Some(0));
    }
}
