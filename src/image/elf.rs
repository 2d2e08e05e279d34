//! For which processor a program is.

use std::path::Path;

use super::root::Root;

/// `e_machine` of an ELF file, whatever the order of its bytes (elf.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Machine(u16);

/// As much of a file as tells.
const HEAD: usize = 20;

impl Machine {
    /// None where it is no program.
    pub(crate) fn of(program: &[u8]) -> Option<Machine> {
        let head = program.get(..HEAD)?;
        let bytes = [head[18], head[19]];
        (head.starts_with(b"\x7fELF")).then_some(Machine(match head[5] {
            2 => u16::from_be_bytes(bytes),
            _ => u16::from_le_bytes(bytes),
        }))
    }

    /// That of a system, by the programs that each has; None where none of them is there.
    pub(crate) fn of_system(root: &Root) -> Option<Machine> {
        use std::io::Read;
        let programs = ["/sbin/init", "/bin/sh", "/bin/cat", "/usr/bin/env"];
        programs.iter().find_map(|path| {
            let mut head = Vec::new();
            let file = root.open_file(Path::new(path)).ok()??;
            file.take(HEAD as u64).read_to_end(&mut head).ok()?;
            Machine::of(&head)
        })
    }

    /// As uname(1) has it.
    pub(crate) fn name(self) -> String {
        let name = match self.0 {
            3 => "i386",
            21 => "ppc64",
            22 => "s390x",
            40 => "arm",
            62 => "x86_64",
            183 => "aarch64",
            243 => "riscv",
            other => return format!("machine {other} of ELF"),
        };
        name.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read_in_either_order_of_bytes() {
        let elf = |order: u8, machine: [u8; 2]| {
            let mut head = b"\x7fELF\x02\x01".to_vec();
            head[5] = order;
            head.resize(18, 0);
            head.extend(machine);
            Machine::of(&head).map(Machine::name)
        };
        assert_eq!(elf(1, [62, 0]).unwrap(), "x86_64");
        assert_eq!(elf(1, [183, 0]).unwrap(), "aarch64");
        assert_eq!(elf(2, [0, 22]).unwrap(), "s390x");
        for none in [&b"#!/bin/sh\n"[..], b"\x7fELF"] {
            assert_eq!(Machine::of(none), None);
        }
    }
}
