"""What a guest's architecture decides: that of TARGET in the environment, as the Makefile has it."""

import os
import sys
from typing import NamedTuple


class Machine(NamedTuple):
    target: str  # what the binary is built for
    debian: str  # what Debian calls the architecture
    folder: str  # under target/: what its guests are made of
    qemu: tuple  # QEMU's program, machine and processor
    accelerators: tuple  # what QEMU may run it with, here
    cmdline: str  # what its kernel has to be told
    console: str  # the kernel's name of the first serial port
    shell: str  # and of the second
    second_serial: tuple  # what makes the second one of the character device `shell`
    late_port: str = ""  # the device that takes a drive that is plugged in late; empty: none is needed
    runs_here: tuple = ()  # what runs its programs on this machine
    roots: tuple = ()  # the root disks that can be made; empty: all


MACHINES = [
    Machine(
        "x86_64-unknown-linux-musl", "amd64", "guest", ("qemu-system-x86_64", "-machine", "pc", "-cpu", "Nehalem"),
        # With one processor the kernel would replace its locked instructions, of which each is translated anew then.
        ("kvm", "tcg"), "mitigations=off no_timer_check noreplace-smp", "ttyS0", "ttyS1", ("-serial", "chardev:shell"),
    ),
    # It has one serial port of its own. To install Debian's packages their scripts would have to be
    # emulated: a quarter of an hour for each root disk.
    Machine(
        "aarch64-unknown-linux-musl", "arm64", "guest-aarch64", ("qemu-system-aarch64", "-machine", "virt", "-cpu", "cortex-a57"),
        ("tcg",), "mitigations=off", "ttyAMA0", "ttyS0", ("-device", "pci-serial,chardev=shell"),
        late_port="pcie-root-port", runs_here=("qemu-aarch64-static",), roots=("minimal",),
    ),
]  # fmt: skip


def asked_for():
    target = os.environ.get("TARGET", MACHINES[0].target)
    for machine in MACHINES:
        if machine.target == target:
            return machine
    sys.exit(f"TARGET must be one of {' '.join(machine.target for machine in MACHINES)}, not {target!r}")


MACHINE = asked_for()
