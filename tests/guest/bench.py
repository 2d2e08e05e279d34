#!/usr/bin/env -S python3 -B
"""Measures vmstage beside the shell script that it replaces and beside cloud-init, on one disk, in the same boots.

    tests/guest/bench.py [BOOTS]

All times are from when systemd started the program until the disk was mounted and, for the first two, its directories
were made: what `systemd-analyze blame` says of a unit. Of these two the one goes first in one boot and the other in the
next, and neither asks for metadata. cloud-init's mount is the last event of its module `mounts` in `cloud-init analyze`,
counted from that module's start, from the start of the unit in which it mounts, and from the start of its first unit.
"""

import json
import os
import re
import statistics
import sys

import images
from cases import NOBODY_ASKED, SCRATCH
from guests import Guest
from metadata import Metadata
from vm import accelerator

# Only the mount point is another, so that both can run in one boot.
OLD = {
    path: (images.REPOSITORY / "benches/old" / name).read_text().replace("/staging", "/staging-old")
    for path, name in (("/usr/sbin/old-staging", "rc.local"), ("/etc/init.d/mount_staging", "mount_staging"))
}
# "InactiveExit" is when systemd started a unit, "ActiveEnter" when the unit was done or said READY=1.
TIMES = "systemctl show {unit} -p InactiveExitTimestampMonotonic -p ActiveEnterTimestampMonotonic"
ROWS = {
    "vmstage": "`vmstage boot`, start to READY=1",
    "old script": "the shell script as a oneshot unit, start to exit",
    "mounts": "cloud-init, its module `mounts` alone",
    "cloud-init": "cloud-init, start of cloud-init.service to mounted",
    "cloud-init-local": "cloud-init, start of cloud-init-local.service to mounted",
}


# Whoever is second finds the disk's blocks in the cache.
ORDER = "/etc/systemd/system/old-staging.service.d/order.conf"
ORDERS = ["[Unit]\nAfter=vmstage.service\n", "[Unit]\nBefore=vmstage.service\n"]


def main(boots=6):
    images.prepare({"cloud-init"})
    seconds = {row: [] for row in ROWS}
    since_boot = {"vmstage": [], "cloud-init": []}
    for number in range(1, boots + 1):
        for row, value in measure(seconds_of := one_boot(number)).items():
            seconds[row].append(value)
        since_boot["vmstage"].append(seconds_of["vmstage"][1])
        since_boot["cloud-init"].append(seconds_of["mounted"])
        print(f"boot {number} of {boots}: " + ", ".join(f"{row} {seconds[row][-1]:.3f} s" for row in ROWS), flush=True)

    print(f"\n| from → to (median of {boots} boots) | s | lowest to highest | beside vmstage |\n| --- | --- | --- | --- |")
    ours = statistics.median(seconds["vmstage"])
    for row, what in ROWS.items():
        values = sorted(seconds[row])
        median = statistics.median(values)
        print(f"| {what} | {median:.3f} | {values[0]:.3f} to {values[-1]:.3f} | {median / ours:.1f} times |")
    staged = {who: statistics.median(values) for who, values in since_boot.items()}
    print(f"\nAfter the kernel's start: staged by vmstage at {staged['vmstage']:.1f} s, by cloud-init at {staged['cloud-init']:.1f} s.")
    print("Of units: systemd's InactiveExit to ActiveEnter, in turns the one and the other first; of cloud-init: its own `analyze`.")
    print("All of one virtio disk, ext2 labelled ephemeral0, in the same boots, beside everything else that starts then.")
    system = f"Debian {images.os_release()['VERSION_ID']} with {os.path.basename(images.kernel()[0])}, one processor"
    print(f"{system}, QEMU {accelerator()[1]} on {os.cpu_count()} × {processor()}.")


def one_boot(number):
    """Boots once. Returns start and end of each unit, and when cloud-init had mounted: seconds since the kernel's start."""
    directory = images.fresh(images.WORK / "bench")
    service = Metadata(directory / "metadata")
    files = images.tree(images.INSIDE / "bench") | OLD | {ORDER: ORDERS[number % 2]}
    with Guest(directory, "cloud-init", "virtio", SCRATCH, NOBODY_ASKED, files=files, metadata=service) as guest:
        guest.wait_shell()
        guest.wait_booted()
        for path in ("/staging", "/staging-old", "/mnt"):
            assert guest.mounted(path)[:1] == ["/dev/vdb"], f"nothing is mounted on {path}: see {directory}"
        times = {}
        for unit in ("vmstage", "old-staging", "cloud-init-local", "cloud-init"):
            shown = guest.sh(TIMES.format(unit=f"{unit}.service")).output
            times[unit] = [int(time) / 1e6 for time in re.findall(r"=(\d+)", shown)]
        boot = float(guest.sh("echo $(date +%s.%N) $(cut -d' ' -f1 /proc/uptime) | awk '{ printf \"%.3f\", $1 - $2 }'").output)
        events = json.loads(guest.sh("cloud-init analyze dump 2>/dev/null", timeout=120).output)
        for event in events:
            if event["name"] == "init-network/config-mounts":
                times["mounts started" if event["event_type"] == "start" else "mounted"] = event["timestamp"] - boot
    return times


def measure(times):
    def took(unit):
        return times[unit][1] - times[unit][0]

    return {
        "vmstage": took("vmstage"),
        "old script": took("old-staging"),
        "mounts": times["mounted"] - times["mounts started"],
        "cloud-init": times["mounted"] - times["cloud-init"][0],
        "cloud-init-local": times["mounted"] - times["cloud-init-local"][0],
    }


def processor():
    with open("/proc/cpuinfo", encoding="utf-8") as cpuinfo:
        return re.search(r"model name\s*: (.*)", cpuinfo.read())[1]


if __name__ == "__main__":
    main(*map(int, sys.argv[1:2]))
