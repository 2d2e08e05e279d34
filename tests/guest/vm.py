"""One virtual machine under QEMU: started, read on its console, talked to over a second serial line, ended."""

import functools
import json
import os
import re
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import NamedTuple

from machine import MACHINE
from metadata import Metadata

# The guest's only network: a link-local one in which QEMU itself answers, and that leads nowhere else.
NETWORK = "user,id=net,restrict=on,net=169.254.0.0/16,host=169.254.0.2,dns=169.254.0.3,dhcpstart=169.254.0.15"
# What the kernel may leave out where every instruction is emulated: tests of its own cryptography, which are nearly
# a fifth of what Debian's systemd executes in a boot; memory that is cleared before it is used, checks on what is
# copied, and another place for each program in each process.
CHEAP = "cryptomgr.notests init_on_alloc=0 hardened_usercopy=off norandmaps"
# A request to QEMU's NVMe disks did not come back once, on a busy machine: the kernel looks again after so long, and that is
# within what vmstage waits for a disk.
NVME = "nvme_core.io_timeout=3"
# As EC2 asks of images, where a disk hangs: the kernel would delete the queue of a request that has not come back, and
# QEMU then waits for the request, and the whole machine stands still with it.
PATIENT = "nvme_core.io_timeout=4294967295"
SHELL_IS_UP = b"guest-shell: ready\n"
PAUSED = b"guest: paused\r?\n"
# The processor time that the machines of a thread have taken so far.
USED = threading.local()


class Answer(NamedTuple):
    """What a command in the guest printed, on both of its outputs, and its exit code."""

    output: str
    code: int


class Drive(NamedTuple):
    """A disk image and how the guest gets to see it."""

    path: Path
    bus: str = "virtio"  # or "scsi", or "nvme"
    serial: str = ""
    throw_away: bool = False  # what the guest writes is forgotten, the image stays as it was
    late: bool = False  # not there at boot: plugged in by VM.plug
    hangs: bool = False  # from when the kernel has found it on


class VM:
    """A machine that exists for the length of a `with` block. Its logs stay in `directory`.

    `metadata` answers at 169.254.169.254; with `network` alone there is a network in which nobody does."""

    def __init__(self, directory, kernel, initramfs, drives=(), cmdline="", metadata=None, network=False, memory=384, reboots=False, uuid=None):
        self.directory = Path(directory)
        self.drives = {f"disk{number}": drive for number, drive in enumerate(drives)}
        self.console_log = self.directory / "console.log"
        self.metadata = metadata
        self._received = b""
        self._arguments = [
            # QEMU dies with us, however we die.
            "setpriv", "--pdeathsig", "KILL", *MACHINE.qemu, *accelerator(), "-smp", "1", "-m", str(memory),
            "-nodefaults", "-display", "none", "-rtc", "base=utc",
            "-action", f"reboot={'reset' if reboots else 'shutdown'}",
            "-kernel", str(kernel), "-initrd", str(initramfs),
            "-append", f"console={MACHINE.console} guest.shell={MACHINE.shell} loglevel=4 {MACHINE.cmdline} {CHEAP} {NVME} net.ifnames=0 panic=-1 {cmdline}",
            "-chardev", f"file,id=console,path={escaped(self.console_log)}", "-serial", "chardev:console",
        ]  # fmt: skip
        if any(drive.bus == "scsi" for drive in drives):
            self._arguments += ["-device", "virtio-scsi-pci,id=scsi"]
        if uuid:
            self._arguments += ["-uuid", uuid]
        for table in (metadata or Metadata).firmware:
            self._arguments += ["-smbios", table]
        for name, drive in self.drives.items():
            snapshot = "on" if drive.throw_away else "off"
            self._arguments += [
                "-drive",
                f"if=none,id={name}-image,format=raw,discard=unmap,snapshot={snapshot},file={escaped(drive.path)}",
            ]
            if not drive.late:
                self._arguments += ["-device", json.dumps(self._device(name))]
            elif MACHINE.late_port:
                self._arguments += ["-device", f"{MACHINE.late_port},id={name}-port,chassis={len(self._arguments)}"]
        if metadata:
            answer = f"{sys.executable} -IS {metadata.program} {metadata.directory}"
            service = f",guestfwd=tcp:169.254.169.254:80-cmd:{escaped(answer)}"
        if metadata or network:
            self._arguments += ["-netdev", NETWORK + (service if metadata else "")]
            self._arguments += ["-device", "virtio-net-pci,netdev=net,romfile="]

    def _device(self, name):
        drive = self.drives[name]
        device = {"driver": "virtio-blk-pci", "id": name, "drive": f"{name}-image"}
        if drive.late and MACHINE.late_port:
            device["bus"] = f"{name}-port"
        if drive.bus == "scsi":
            device |= {"driver": "scsi-hd", "bus": "scsi.0"}
        elif drive.bus == "nvme":
            # QEMU wants a serial number.
            device |= {"driver": "nvme", "serial": drive.serial or name}
        if drive.serial:
            device["serial"] = drive.serial
        return device

    def __enter__(self):
        self._shell, shell = socket.socketpair()
        self._monitor, monitor = socket.socketpair()
        with shell, monitor, open(self.directory / "qemu.log", "wb") as log:
            self._qemu = subprocess.Popen(
                [
                    *self._arguments,
                    "-chardev", f"socket,id=shell,fd={shell.fileno()}", *MACHINE.second_serial,
                    "-chardev", f"socket,id=monitor,fd={monitor.fileno()}", "-mon", "chardev=monitor,mode=control",
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=(shell.fileno(), monitor.fileno()),
                env=os.environ | {"TMPDIR": str(self.directory)},  # for what the guest writes on throw-away drives
            )  # fmt: skip
        self._monitor.settimeout(60)
        self._monitor_lines = self._monitor.makefile("r", encoding="utf-8")
        json.loads(self._monitor_lines.readline() or "null")  # the greeting
        self.qmp("qmp_capabilities")
        return self

    def __exit__(self, *_):
        # Not by Popen, which would reap it without saying what it has used.
        os.kill(self._qemu.pid, signal.SIGKILL)
        _, status, usage = os.wait4(self._qemu.pid, 0)
        self._qemu.returncode = os.waitstatus_to_exitcode(status)
        USED.seconds = getattr(USED, "seconds", 0) + usage.ru_utime + usage.ru_stime
        self._monitor_lines.close()
        self._monitor.close()
        self._shell.close()

    def qmp(self, command, **arguments):
        """A command for QEMU itself."""
        self._monitor.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        for line in self._monitor_lines:
            reply = json.loads(line)
            if "return" in reply:
                return reply["return"]
            if "error" in reply:
                raise RuntimeError(f"QEMU refused {command}: {reply['error']['desc']}")
        raise RuntimeError(f"QEMU is gone: {(self.directory / 'qemu.log').read_text()}")

    def plug(self, name):
        """Puts a late drive into the running machine."""
        self.qmp("device_add", **self._device(name))

    def unplug(self, name):
        """Pulls a drive out of the running machine."""
        self.qmp("device_del", id=name)

    def hang(self, name):
        """From now on the drive takes requests and answers none. Nothing in the guest takes notice of that: virtio has
        no time limit, and NVMe none that is over in a test where the guest is PATIENT."""
        self._throttle(name, bps=1)
        # The first request still passes, at the cost of all that follow: one byte a second.
        self.qmp("human-monitor-command", **{"command-line": f'qemu-io {name}-image "read 0 64k"'})

    def answer(self, name):
        """Has a drive that hangs answer again, also what it was asked meanwhile."""
        self._throttle(name)

    def _throttle(self, name, **limits):
        none = dict.fromkeys(("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr"), 0)
        self.qmp("block_set_io_throttle", device=f"{name}-image", **none | limits)

    def tell(self, command):
        """Runs a shell command in the guest that nobody waits for: poweroff, reboot."""
        self._shell.sendall(f"{command}\n".encode())

    def wait_shell(self, timeout=400):
        """Waits until the guest takes commands."""
        if hanging := [name for name, drive in self.drives.items() if drive.hangs]:
            self._receive_until(PAUSED, timeout)
            for name in hanging:
                self.hang(name)
            self.tell("")
        self._receive_until(SHELL_IS_UP, timeout)

    def sh(self, command, timeout=60):
        """Runs a shell command in the guest."""
        self._shell.sendall(f"sh -c {shlex.quote(command)} </dev/null 2>&1; printf '\\n%d :end\\n' $?\n".encode())
        answer = self._receive_until(rb"\n(\d+) :end\n", timeout)
        return Answer(answer.string[: answer.start()].decode(errors="replace").rstrip("\n"), int(answer[1]))

    def _receive_until(self, pattern, timeout):
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self._received)):
            readable, _, _ = select.select([self._shell], [], [], max(0, end - time.monotonic()))
            more = self._shell.recv(65536) if readable else b""
            if not more:
                what = "did not answer within {timeout} s" if not readable else "went off"
                raise TimeoutError(f"the guest {what.format(timeout=timeout)}; it last said {self._received[-500:]!r}")
            with open(self.directory / "shell.log", "ab") as log:
                log.write(more)
            self._received += more
        self._received = self._received[found.end() :]
        return found

    def console(self):
        """Everything the guest has written on its console so far."""
        return self.console_log.read_bytes().decode(errors="replace").replace("\r", "")

    def wait_console(self, pattern, timeout=120):
        """Waits for a line on the console."""
        end = time.monotonic() + timeout
        while not (found := re.search(pattern, self.console(), re.MULTILINE)):
            if time.monotonic() > end:
                raise TimeoutError(f"{pattern!r} was not on the console within {timeout} s")
            time.sleep(0.1)
        return found

    def wait_off(self, timeout=120):
        """Waits until the guest has switched its machine off."""
        end = time.monotonic() + timeout
        # It stays a zombie until the end, when it says what it has used.
        while not os.waitid(os.P_PID, self._qemu.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG):
            if time.monotonic() > end:
                raise TimeoutError(f"the guest was still running after {timeout} s")
            time.sleep(0.1)


def escaped(value):
    """A comma ends a value on QEMU's command line, two are one."""
    return str(value).replace(",", ",,")


@functools.cache
def accelerator():
    """KVM if a virtual machine really runs under it, and runs fast: a /dev/kvm alone says neither."""
    if "kvm" not in MACHINE.accelerators:
        return ("-accel", "tcg")
    # A boot sector that writes 0x10 to QEMU's exit port, which ends QEMU with code 0x21.
    sector = bytes.fromhex("b010e6f4f4").ljust(510, b"\0") + b"\x55\xaa"
    with tempfile.NamedTemporaryFile() as disk:
        disk.write(sector)
        disk.flush()
        try:
            trial = subprocess.run(
                [
                    *MACHINE.qemu, "-accel", "kvm", "-nodefaults", "-display", "none", "-device", "isa-debug-exit,iobase=0xf4,iosize=1",
                    "-drive", f"format=raw,file={disk.name},snapshot=on",
                ],
                stdin=subprocess.DEVNULL, capture_output=True, timeout=2,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return ("-accel", "tcg")
    return ("-accel", "kvm" if trial.returncode == 0x21 else "tcg")
