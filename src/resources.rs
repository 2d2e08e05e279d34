//! What a VM is asked to have, in the ways in which people write it.

/// Each part in its unit; None where nothing was said of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) memory_mib: Option<u64>,
    pub(crate) cores: Option<u64>,
    /// The size of the ephemeral disk.
    pub(crate) scratch_mib: Option<u64>,
    /// The size of the root disk, which only SCS's names say.
    pub(crate) root_mib: Option<u64>,
}

pub(crate) const MIB_PER_GIB: u64 = 1024;

/// More is a mistake of the unit.
const MOST_MEMORY_MIB: u64 = 8 << 20;
const MOST_CORES: u64 = 8192;
const MOST_DISK_MIB: u64 = 4 << 30;

impl Request {
    /// What `memory=1G,cores=1,scratch=10G` or a flavor's name asks for.
    ///
    /// # Errors
    ///
    /// What was expected instead.
    pub(crate) fn parse(text: &str) -> Result<Request, String> {
        let text = text.trim();
        if !text.contains('=') {
            let request = Request::by_convention(text).ok_or_else(|| {
                format!(
                    "\"{text}\" is no request: it is written as memory=1G,cores=1,scratch=10G, \
                     m1024c1s10, c8-30gb-186 or SCS-2V-4-20"
                )
            })?;
            return match request.mistake() {
                Some(mistake) => Err(mistake),
                None => Ok(request),
            };
        }
        let mut request = Request::default();
        for part in text.split(',') {
            let (key, value) = part.split_once('=').unwrap_or((part, ""));
            let place = match key.trim() {
                "memory" => &mut request.memory_mib,
                "cores" => &mut request.cores,
                "scratch" => &mut request.scratch_mib,
                other => {
                    return Err(format!(
                        "\"{other}\" cannot be asked for; memory, cores and scratch can"
                    ));
                }
            };
            let value = match key.trim() {
                "memory" => memory_mib(value),
                "cores" => cores(value),
                _ => disk_mib(value),
            };
            if place.replace(value?).is_some() {
                return Err(format!("{} is asked for twice", key.trim()));
            }
        }
        Ok(request)
    }

    /// What the name of a flavor says; None where it follows no convention that is known, or
    /// cannot mean it.
    pub(crate) fn from_name(name: &str) -> Option<Request> {
        Request::by_convention(name).filter(|request| request.mistake().is_none())
    }

    /// Whether it is one, be it one that cannot be meant.
    pub(crate) fn is_written_as(text: &str) -> bool {
        text.contains('=') || Request::by_convention(text).is_some()
    }

    /// `m1024c1s10`: MiB, cores, GiB of scratch. `c8-30gb-186`: cores, GiB, GiB of scratch.
    /// `SCS-2V-4-20`: cores, GiB, GiB of the root disk (SCS-0100, version 3 and 4).
    fn by_convention(name: &str) -> Option<Request> {
        let name = name.trim().to_ascii_lowercase();
        match name.strip_prefix("scs-") {
            Some(rest) => from_scs_name(rest),
            None => from_canfar_name(&name).or_else(|| from_compute_canada_name(&name)),
        }
    }

    /// Why it cannot be meant.
    fn mistake(&self) -> Option<String> {
        let disk = self.scratch_mib.max(self.root_mib).unwrap_or(0);
        let (cores, memory) = (self.cores.unwrap_or(0), self.memory_mib.unwrap_or(0));
        mistake(cores, memory, disk)
    }
}

/// Why this cannot be meant, and is a mistake of a unit.
pub(crate) fn mistake(cores: u64, memory_mib: u64, disk_mib: u64) -> Option<String> {
    if cores > MOST_CORES {
        return Some(format!("{cores} cores are taken for a mistake"));
    }
    let (mib, of_what) = match (memory_mib > MOST_MEMORY_MIB, disk_mib > MOST_DISK_MIB) {
        (true, _) => (memory_mib, "memory"),
        (false, true) => (disk_mib, "disk"),
        (false, false) => return None,
    };
    let size = size_in_words(mib);
    Some(format!(
        "{size} of {of_what} is taken for a mistake of its unit"
    ))
}

/// `m1024c1s10`, `m4096c2s0-bfv`.
fn from_canfar_name(name: &str) -> Option<Request> {
    let (memory, rest) = name.strip_prefix('m')?.split_once('c')?;
    let (cores, scratch) = rest.split_once('s')?;
    let scratch = scratch.split('-').next()?;
    Some(Request {
        memory_mib: Some(digits(memory)?),
        cores: Some(digits(cores)?),
        scratch_mib: Some(digits(scratch)?.saturating_mul(MIB_PER_GIB)),
        root_mib: None,
    })
}

/// `c8-30gb-186`, `p2-3gb`, `c16-7.5gb-31-avx2`.
fn from_compute_canada_name(name: &str) -> Option<Request> {
    let mut parts = name.strip_prefix(['c', 'p'])?.split('-');
    let cores = digits(parts.next()?)?;
    let memory = gib(parts.next()?.strip_suffix("gb")?)?;
    let scratch = parts.next().and_then(digits);
    Some(Request {
        memory_mib: Some(memory),
        cores: Some(cores),
        scratch_mib: scratch.map(|gib| gib.saturating_mul(MIB_PER_GIB)),
        root_mib: None,
    })
}

/// What follows `SCS-`: `2V-4-20`, `2V:4:20`, `4Ti-16u-2x50s_kvm`, `1L-1`.
fn from_scs_name(rest: &str) -> Option<Request> {
    let plain = rest.split('_').next()?;
    let mut parts = plain.split(['-', ':']);
    let cores = parts.next()?.trim_end_matches('i');
    let cores = digits(cores.strip_suffix(['v', 't', 'c', 'l'])?)?;
    let memory = gib(parts.next()?.trim_end_matches(['u', 'o']))?;
    let root = match parts.next().filter(|part| !part.is_empty()) {
        None => None,
        Some(disk) => {
            let disk = disk.trim_end_matches(['n', 'h', 's', 'p']);
            // Of several, the first is the root disk.
            let size = disk.split_once('x').map_or(disk, |(_, size)| size);
            Some(digits(size)?.saturating_mul(MIB_PER_GIB))
        }
    };
    Some(Request {
        memory_mib: Some(memory),
        cores: Some(cores),
        scratch_mib: None,
        root_mib: root,
    })
}

/// Of what GiB are written: `7.5`.
fn gib(text: &str) -> Option<u64> {
    mib(text, MIB_PER_GIB << 10)
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| is_number)
}

/// MiB, rounded up, of a number in a unit of so many KiB.
fn mib(number: &str, unit_kib: u64) -> Option<u64> {
    let kib = u128::from(thousandths(number)?) * u128::from(unit_kib);
    u64::try_from(kib.div_ceil(1000 * 1024)).ok()
}

/// A number with at most three decimals, in thousandths.
pub(crate) fn thousandths(number: &str) -> Option<u64> {
    let (whole, decimals) = number.split_once('.').unwrap_or((number, "0"));
    let decimals = match decimals.len() {
        1..=3 => digits(decimals)? * [100, 10, 1][decimals.len() - 1],
        _ => return None,
    };
    digits(whole)?.checked_mul(1000)?.checked_add(decimals)
}

/// MiB of memory that a text asks for.
///
/// # Errors
///
/// What was expected instead.
pub(crate) fn memory_mib(text: &str) -> Result<u64, String> {
    size(text, MOST_MEMORY_MIB, "memory")
}

/// MiB of disk that a text asks for.
///
/// # Errors
///
/// What was expected instead.
pub(crate) fn disk_mib(text: &str) -> Result<u64, String> {
    size(text, MOST_DISK_MIB, "disk")
}

/// A number of cores.
///
/// # Errors
///
/// What was expected instead.
pub(crate) fn cores(text: &str) -> Result<u64, String> {
    match digits(text.trim()) {
        Some(cores @ ..=MOST_CORES) => Ok(cores),
        Some(_) => Err(format!("{} cores are taken for a mistake", text.trim())),
        None => Err(format!(
            "a number of cores is expected, not \"{}\"",
            text.trim()
        )),
    }
}

/// A size with its unit: `10G`, `7.5 GiB`, `512MB`. K, M, G and T are powers of 1024, whatever
/// follows: nobody gets less than was asked for.
fn size(text: &str, most: u64, of_what: &str) -> Result<u64, String> {
    let text = text.trim();
    let end = text.find(|c: char| !matches!(c, '0'..='9' | '.'));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit_kib = match unit.trim_start().to_ascii_lowercase().as_str() {
        "k" | "kb" | "kib" => 1,
        "m" | "mb" | "mib" => 1 << 10,
        "g" | "gb" | "gib" => 1 << 20,
        "t" | "tb" | "tib" => 1 << 30,
        // Nothing is nothing in each unit.
        "" if digits(number) == Some(0) => 1,
        "" if digits(number).is_some() => {
            return Err(format!(
                "{number} is without a unit; {number}M or {number}G is expected"
            ));
        }
        _ => {
            return Err(format!(
                "a size such as 512M or 10G is expected, not \"{text}\""
            ));
        }
    };
    match mib(number, unit_kib) {
        Some(mib) if mib <= most => Ok(mib),
        Some(_) => Err(format!(
            "{text} of {of_what} is taken for a mistake of its unit"
        )),
        None => Err(format!(
            "a size such as 512M or 7.5G is expected, not \"{text}\""
        )),
    }
}

/// `10 GiB`, `7.5 GiB`, `512 MiB`: for people.
pub(crate) fn size_in_words(mib: u64) -> String {
    match (mib / MIB_PER_GIB, mib % MIB_PER_GIB) {
        (gib @ 1.., 0) => format!("{gib} GiB"),
        (gib @ 1.., 512) => format!("{gib}.5 GiB"),
        (0, _) => format!("{mib} MiB"),
        (gib, rest) => match rest * 10 / MIB_PER_GIB {
            0 => format!("{mib} MiB"),
            tenth => format!("{gib}.{tenth} GiB"),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(memory_mib: u64, cores: u64, scratch_gib: u64) -> Request {
        Request {
            memory_mib: Some(memory_mib),
            cores: Some(cores),
            scratch_mib: Some(scratch_gib * 1024),
            root_mib: None,
        }
    }

    fn without_scratch(memory_mib: u64, cores: u64, root_gib: Option<u64>) -> Request {
        Request {
            memory_mib: Some(memory_mib),
            cores: Some(cores),
            scratch_mib: None,
            root_mib: root_gib.map(|gib| gib * 1024),
        }
    }

    #[test]
    fn what_names_of_flavors_say() {
        let cases = [
            ("m1024c1s10", request(1024, 1, 10)),
            ("m98304c16s0", request(98304, 16, 0)),
            ("m4096c2s0-bfv", request(4096, 2, 0)),
            ("c8-30gb-186", request(30 * 1024, 8, 186)),
            ("c2-7.5gb-31", request(7680, 2, 31)),
            ("c16-60gb-392-avx2", request(60 * 1024, 16, 392)),
            ("p2-3gb", without_scratch(3072, 2, None)),
            ("SCS-2V-4-20", without_scratch(4096, 2, Some(20))),
            ("SCS-2V:4:20", without_scratch(4096, 2, Some(20))),
            ("SCS-1L-0.5", without_scratch(512, 1, None)),
            ("SCS-4Ti-16u-2x50s_kvm", without_scratch(16384, 4, Some(50))),
            ("SCS-8C-32-", without_scratch(32768, 8, None)),
        ];
        for (name, expected) in cases {
            assert_eq!(Request::from_name(name), Some(expected), "{name}");
            assert_eq!(Request::parse(name), Ok(expected), "{name}");
        }
        let others = [
            "",
            "m1.large",
            "m5.xlarge",
            "m1024",
            "m1024c1",
            "mc1s1",
            "c4",
            "c4-large",
            "c8-30",
            "g1-8gb-c4-22gb",
            "SCS-2-4-20",
            "SCS-",
            "SCS-2V",
            "SCS-2V-4-x",
            "c1-1.2345gb",
            "m99999999999999999999c1s1",
            "m18446744073709551615c1s1",
            "m10485760c1s1",
            "m1c1s18446744073709551615",
            "m+1c1s1",
            "é",
        ];
        for name in others {
            assert_eq!(Request::from_name(name), None, "{name}");
        }
    }

    #[test]
    fn what_is_asked_for_by_key() {
        let all = Request::parse("memory=1G,cores=1,scratch=10G");
        assert_eq!(all, Ok(request(1024, 1, 10)));
        assert_eq!(
            Request::parse(" scratch = 1.5 TiB , cores=4"),
            Ok(Request {
                cores: Some(4),
                scratch_mib: Some(1536 * 1024),
                ..Request::default()
            })
        );
        for (text, words) in [
            ("", "is no request"),
            ("m1.large", "is no request"),
            ("memory=", "is expected, not \"\""),
            ("memory=1024", "1024M or 1024G is expected"),
            ("memory=1G,disk=10G", "\"disk\" cannot be asked for"),
            ("memory=1G,memory=2G", "memory is asked for twice"),
            ("memory=10T", "10T of memory is taken for a mistake"),
            ("cores=many", "a number of cores is expected"),
            ("cores=-1", "a number of cores is expected"),
            ("cores=1.5", "a number of cores is expected"),
            (
                "cores=99999999999999999999",
                "a number of cores is expected",
            ),
            ("cores=10240", "taken for a mistake"),
            ("cores=1,", "\"\" cannot be asked for"),
            (
                "m10485760c1s1",
                "10240 GiB of memory is taken for a mistake",
            ),
            ("c10000-30gb-186", "10000 cores are taken for a mistake"),
            (
                "m1c1s99999999",
                "of disk is taken for a mistake of its unit",
            ),
            (
                "m1c1s18446744073709551615",
                "of disk is taken for a mistake",
            ),
            ("SCS-2V-99999-20", "99999 GiB of memory is taken for"),
        ] {
            let error = Request::parse(text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }

    #[test]
    fn sizes_have_a_unit_and_are_rounded_up_to_mib() {
        for (text, mib) in [
            ("0", 0),
            ("1K", 1),
            ("1025k", 2),
            ("512MB", 512),
            ("1.001M", 2),
            ("10G", 10240),
            ("7.5 GiB", 7680),
            ("2tb", 2 << 20),
        ] {
            assert_eq!(disk_mib(text), Ok(mib), "{text}");
        }
        for text in [
            "",
            "G",
            ".5G",
            "1.G",
            "1..5G",
            "1.2345G",
            "-1G",
            "1e3G",
            "10X",
            "10 G B",
            "5P",
            "99999999999999999999G",
            "5000T",
        ] {
            assert!(disk_mib(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_told_in_the_unit_that_people_use() {
        for (mib, words) in [
            (0, "0 MiB"),
            (512, "512 MiB"),
            (1024, "1 GiB"),
            (1030, "1030 MiB"),
            (7680, "7.5 GiB"),
            (7700, "7.5 GiB"),
            (10240, "10 GiB"),
        ] {
            assert_eq!(size_in_words(mib), words);
        }
    }
}
