//! `make boot-order`: which functions a boot runs, for the linker to put them side by side.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::common::{self, Machine};

const HEAD: &str = "\
/* The functions that a boot runs are kept together, first those of the child that reads the
   disks, and last those of its parent alone: the kernel maps 64 KiB around each page that is
   touched, in each process anew, and unmaps them again. Written by `make boot-order`.
   Nothing depends on it but how quick a boot is: a function that is missing here is elsewhere,
   and a name that is none any more is passed over. */
SECTIONS
{
  .text.boot :
  {
";
/// What the compiler shares between functions has other names in each build.
const TAIL: &str = "    *(.text.OUTLINED_FUNCTION_*)
  }
}
INSERT BEFORE .text;
";

/// Who runs a function, as steps.c has it.
const COMMAND: u64 = 1;
const CHILD: u64 = 2;

/// Runs a boot step by step, of a program that has its symbols, and writes the linker script.
pub fn write(machine: &Machine) {
    let mut stepped = machine.command("/steps", None);
    let output = stepped.args(["/usr/sbin/vmstage", "boot"]).output();
    let output = output.unwrap();
    assert!(output.status.success(), "{output:?}");
    let steps = fs::read_to_string(machine.path("/run/steps")).unwrap();
    let steps: BTreeMap<u64, u64> = steps
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(offset, who)| (number(offset), number(who)))
        .collect();

    let nm = ["--defined-only", "--print-size"];
    let symbols = Command::new("nm").args(nm).arg(common::program()).output();
    let symbols = String::from_utf8(symbols.unwrap().stdout).unwrap();
    let mut names: BTreeMap<String, u64> = BTreeMap::new();
    for line in symbols.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let [at, size, "t" | "T" | "w" | "W", name] = fields[..] else {
            continue;
        };
        let at = number(at);
        let who = steps.range(at..at + number(size));
        let who = who.fold(0, |all, (_, who)| all | who);
        if who != 0 && !name.starts_with("OUTLINED_FUNCTION_") {
            *names.entry(in_any_build(name)).or_default() |= who;
        }
    }
    assert!(!names.is_empty(), "a program without symbols");

    // What both run lies between what one of them does not need.
    let of = |who: u64| names.iter().filter(move |(_, by)| **by == who);
    let in_order = [CHILD, CHILD | COMMAND, COMMAND].into_iter().flat_map(of);
    let lines: String = in_order
        .map(|(name, _)| format!("    *(.text.{name})\n"))
        .collect();
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/boot-order.ld");
    fs::write(&file, [HEAD, &lines, TAIL].concat()).unwrap();
    println!("{}: {} functions", file.display(), names.len());
}

fn number(hexadecimal: &str) -> u64 {
    u64::from_str_radix(hexadecimal, 16).unwrap()
}

/// A name without what another build of the same, or another compiler, changes in it: the hash
/// at the end of Rust's older names (`17h0123456789abcdefE`), those of the crates in its newer
/// ones (`Cs0123456789a_`), and the number of a copy that the compiler made (`.123`).
fn in_any_build(name: &str) -> String {
    if let Some((name, copy)) = name.rsplit_once('.')
        && copy.bytes().all(|byte| byte.is_ascii_digit())
    {
        return in_any_build(name) + ".*";
    }
    let hash = name
        .len()
        .checked_sub(20)
        .and_then(|at| name.split_at_checked(at));
    if let Some((begin, hash)) = hash
        && hash.starts_with("17h")
        && hash.ends_with('E')
    {
        return format!("{begin}17h*E");
    }
    let mut parts = name.split("Cs");
    let mut text = parts.next().unwrap_or_default().to_string();
    for part in parts {
        let is_hash = |hash: &str| hash.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let rest = part.split_once('_').filter(|(hash, _)| is_hash(hash));
        match rest.filter(|_| name.starts_with("_R")) {
            Some((_, rest)) => text.extend(["Cs*_", rest]),
            None => text.extend(["Cs", part]),
        }
    }
    text
}
