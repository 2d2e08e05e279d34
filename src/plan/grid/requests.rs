//! Requests, one a line, as HTCondor's history has them or by name.

use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, anyhow};

use super::waste::{Point, fold};
use crate::resources::{self, Request};
use crate::text;

/// More different ones do not fit into the memory of a small machine.
const MOST_DIFFERENT: usize = 4_000_000;
const LONGEST_LINE: u64 = 4096;
/// How many lines that are left out are told one by one.
const MOST_TOLD: usize = 3;

pub(super) struct Requests {
    /// In ascending order, each different.
    pub(super) points: Vec<Point>,
    pub(super) warnings: Vec<String>,
}

/// Reads all lines. Those that cannot be used are told, and counted.
///
/// # Errors
///
/// Those of read(2), and that no line can be used.
pub(super) fn read(name: &str, from: impl Read) -> anyhow::Result<Requests> {
    let mut from = BufReader::with_capacity(1 << 16, from);
    let mut points = Vec::new();
    let mut warnings = Vec::new();
    let (mut number, mut left_out, mut undefined) = (0_u64, 0_u64, 0_u64);
    let mut fold_at = 1 << 20;
    let mut line = Vec::new();
    loop {
        line.clear();
        let limited = (&mut from).take(LONGEST_LINE).read_until(b'\n', &mut line);
        limited.with_context(|| format!("cannot read {name}"))?;
        if line.is_empty() {
            break;
        }
        number += 1;
        match point(&line) {
            Ok(None) => {}
            Ok(Some(point)) => points.push(point),
            Err(why) => {
                left_out += 1;
                undefined += u64::from(why.is_none());
                if let Some(why) = why.filter(|_| warnings.len() < MOST_TOLD) {
                    warnings.push(format!("{name}: line {number}: {why}; left out"));
                }
            }
        }
        if line.last() != Some(&b'\n') && line.len() as u64 == LONGEST_LINE {
            return Err(anyhow!(
                "{name}: line {number} is longer than {LONGEST_LINE} bytes"
            ));
        }
        if points.len() >= fold_at {
            fold(&mut points);
            fold_at = (2 * points.len()).max(1 << 20);
            if points.len() > MOST_DIFFERENT {
                return Err(anyhow!(
                    "{name}: there are more than {MOST_DIFFERENT} different requests"
                ));
            }
        }
    }
    fold(&mut points);
    if left_out > 0 {
        let all = format!("{left_out} of {number} lines were left out");
        warnings.push(match undefined {
            0 => format!("{name}: {all}"),
            _ => format!("{name}: {all}, {undefined} of them because something is undefined"),
        });
    }
    if points.is_empty() {
        let why = match warnings.is_empty() {
            true => format!("{name}: there is no request in it"),
            false => warnings.join("; "),
        };
        return Err(anyhow!("{why}"));
    }
    Ok(Requests { points, warnings })
}

/// None for an empty line; an error without words where something is undefined.
fn point(line: &[u8]) -> Result<Option<Point>, Option<String>> {
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    let words = [words.next(), words.next(), words.next(), words.next()];
    let undefined: &[u8] = b"undefined";
    if words.contains(&Some(undefined)) {
        return Err(None);
    }
    let asked = match words {
        [None, ..] => return Ok(None),
        [Some(memory), Some(cores), Some(disk), None] => {
            let columns = (number(memory), number(cores), number(disk));
            let (Some(memory), Some(cores), Some(disk)) = columns else {
                return Err(Some(unusable(line)));
            };
            [cores, memory, disk.div_ceil(1024)]
        }
        _ => {
            let text = String::from_utf8_lossy(line);
            let request = Request::parse(&text).map_err(|why| {
                Some(match Request::is_written_as(&text) {
                    true => told(line, &why),
                    false => unusable(line),
                })
            })?;
            let parts = [request.cores, request.memory_mib, request.scratch_mib];
            parts.map(Option::unwrap_or_default)
        }
    };
    let [cores, memory, scratch] = asked;
    if let Some(mistake) = resources::mistake(cores, memory, scratch) {
        return Err(Some(told(line, &mistake)));
    }
    // There is no flavor without a core or without memory.
    let asked = [cores.max(1), memory.max(1), scratch];
    Ok(Some(Point { asked, count: 1 }))
}

fn told(line: &[u8], why: &str) -> String {
    let line = text::excerpt(&String::from_utf8_lossy(line.trim_ascii()));
    format!("\"{line}\": {}", text::excerpt(why))
}

fn unusable(line: &[u8]) -> String {
    let text = text::excerpt(&String::from_utf8_lossy(line.trim_ascii()));
    format!("\"{text}\" is neither MiB, cores and KiB of disk nor a request such as m1024c1s10")
}

/// HTCondor computes some of them, and then they are floats.
fn number(word: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(word).ok()?;
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) {
        return None;
    }
    let is_more = decimals.bytes().any(|digit| digit != b'0');
    whole.parse::<u64>().ok()?.checked_add(u64::from(is_more))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests(text: &str) -> Result<Requests, String> {
        read("f", text.as_bytes()).map_err(|e| format!("{e:#}"))
    }

    fn point(asked: [u64; 3], count: u64) -> Point {
        Point { asked, count }
    }

    #[test]
    fn three_columns_are_mib_cores_and_kib_and_a_word_is_a_name() {
        let text = "1024 1 10485760\n\n 2048\t2.0 1.5 \nm1024c1s10\nmemory=1G, cores=1\n0 0 0\n";
        let requests = requests(text).unwrap();
        let expected = [
            point([1, 1, 0], 1),
            point([1, 1024, 0], 1),
            point([1, 1024, 10240], 2),
            point([2, 2048, 1], 1),
        ];
        assert_eq!(requests.points, expected);
        assert_eq!(requests.warnings, [""; 0]);
    }

    #[test]
    fn lines_that_cannot_be_used_are_counted_and_the_first_told() {
        let text = "RequestMemory RequestCpus RequestDisk\nundefined 1 1024\n1024 1 1024\n\
                    -1 1 1\n1 2\n1 2 3 4\n10485760 1 1024\n<html>";
        let requests = requests(text).unwrap();
        assert_eq!(requests.points, [point([1, 1024, 1], 1)]);
        let [header, negative, short, all] = &requests.warnings[..] else {
            panic!("{:?}", requests.warnings)
        };
        assert!(header.starts_with("f: line 1: \"RequestMemory"), "{header}");
        assert!(
            negative.starts_with("f: line 4: \"-1 1 1\" is neither MiB"),
            "{negative}"
        );
        assert!(short.starts_with("f: line 5: \"1 2\""), "{short}");
        assert_eq!(
            all,
            "f: 7 of 8 lines were left out, 1 of them because something is undefined"
        );
        for (mixed_up, why) in [
            (
                "10485760 1 1024",
                "10240 GiB of memory is taken for a mistake of its unit",
            ),
            (
                "m10485760c1s1",
                "10240 GiB of memory is taken for a mistake of its unit",
            ),
            ("1 10485760 1024", "10485760 cores are taken for a mistake"),
            (
                "memory=10T",
                "10T of memory is taken for a mistake of its unit",
            ),
            ("memory=10", "10 is without a unit; 10M or 10G is expected"),
        ] {
            let left_out = self::requests(&format!("{mixed_up}\n1 1 1")).unwrap();
            let expected = format!("f: line 1: \"{mixed_up}\": {why}; left out");
            assert_eq!(left_out.warnings[0], expected);
        }
    }

    #[test]
    fn without_any_that_can_be_used_there_is_no_answer() {
        for (text, words) in [
            ("", "f: there is no request in it"),
            ("\n\n", "f: there is no request in it"),
            (
                "undefined undefined undefined\n",
                "1 of 1 lines were left out, 1 of them",
            ),
            ("<html>\n<body>\n", "f: line 1: \"<html>\" is neither"),
            ("\0\u{1b}[2J", "\u{fffd}[2J\" is neither"),
        ] {
            let error = requests(text).err().unwrap();
            assert!(error.contains(words), "{text:?}: {error}");
        }
        assert!(
            requests(&"1 ".repeat(10_000))
                .err()
                .unwrap()
                .contains("longer than 4096")
        );
    }
}
