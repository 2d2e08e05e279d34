#!/usr/bin/env -S python3 -B
"""Boots a throw-away VM with a scratch disk and a metadata service, and shows what a person at its console sees.

    tests/guest/demo.py [DISK]     DISK is one of those below
"""

import sys
import threading
import time

import images
from guests import Disk, Guest
from images import blank, config_drive, corrupt, filesystem, swap
from machine import MACHINE
from metadata import Metadata
from vm import accelerator

LABELLED = filesystem("ext2", label="ephemeral0", size=4096)
DISKS = {
    "labelled": ("a file system labelled ephemeral0 on /dev/vdb", [Disk(LABELLED)]),
    "swap-first": ("swap on /dev/vdb, the scratch disk behind it", [Disk(swap()), Disk(LABELLED)]),
    "blank": ("nothing at all on /dev/vdb", [Disk(blank())]),
    "late": ("a disk that is plugged in while vmstage is waiting for it", [Disk(LABELLED, late=True)]),
    "two-with-one-label": ("two disks labelled ephemeral0", [Disk(LABELLED), Disk(LABELLED)]),
    "config-drive-on-vdb": (
        "a config drive on /dev/vdb, the scratch disk behind it",
        [Disk(config_drive({"uuid": "6f2c9a54-0f5d-4f0e-8a35-1c51a6b0d9d3"})), Disk(LABELLED)],
    ),
    "corrupt": ("a broken file system labelled ephemeral0", [Disk(corrupt(label="ephemeral0"))]),
    "none": ("no disk besides the root disk", []),
}


def main(name="labelled"):
    if name not in DISKS:
        print(__doc__, *(f"    {disk:22}{what}" for disk, (what, _) in DISKS.items()), sep="\n")
        return 0 if name == "help" else 2
    what, disks = DISKS[name]
    images.prepare({"minimal"})
    directory = images.fresh(images.WORK / "demo")
    # What the VM has: the name of its flavor, as it was recorded, says more.
    asked_for = {"vmstage_request": "memory=256M,cores=1,scratch=4G"}
    service = Metadata(directory / "metadata", meta={"vmstage_lifetime": "36h"} | asked_for)
    config = '[staging]\nwait = "2m"\n' if name == "late" else ""

    heading(f"a VM with {what}, under {accelerator()[1]} ({MACHINE.target})")
    with Guest(directory, "minimal", "virtio", disks, config, metadata=service) as guest:
        booted = threading.Event()
        console = threading.Thread(target=follow, args=(guest, booted))
        console.start()
        try:
            guest.wait_shell()
            if name == "late":
                guest.sh("until pidof vmstage; do sleep 0.1; done")
                time.sleep(2)
                print("       (the disk is plugged in)", flush=True)
                guest.plug("disk1")
            guest.wait_booted()
        finally:
            booted.set()
            console.join()
        for command in ("vmstage status", "vmstage probe", "df -h /staging; ls -l /staging"):
            heading(f"# {command}")
            print(guest.sh(command).output)
        heading("poweroff")
        guest.tell("poweroff -f")
        guest.wait_off()
    return 0


def heading(text):
    print(f"\n\033[1m{text}\033[0m" if sys.stdout.isatty() else f"\n=== {text}", flush=True)


def follow(guest, booted):
    """Prints the guest's console as it grows."""
    shown = 0
    while True:
        last_look = booted.wait(0.1)
        lines = guest.console().splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n") and not last_look:
            lines.pop()
        for line in lines[shown:]:
            print(f"  | {line.rstrip()}", flush=True)
        shown = len(lines)
        if last_look:
            return


if __name__ == "__main__":
    sys.exit(main(*filter(None, sys.argv[1:2])))
