"""Suspended devices of device-mapper, which hold back every request: they stop neither boot, nor probe, nor watch."""

import time

import images
from cases import SCRATCH, case, check, is_staged
from guests import Disk
from hanging import STOP_WATCH, does_not_answer
from images import blank, filesystem
from several import CASES, of_package, without_mdadm

__all__ = ["CASES"]

# Device-mapper holds back whatever is asked of a device while that is suspended, as while a volume is moved.
SUSPENDED = """\
mount -t proc proc /proc; mount -t sysfs sysfs /sys
for module in MODULES; do insmod /modules/$module.ko; done 2>/dev/null
for disk in vdc vdd vde vdf; do
    dmsetup create --noudevsync "of-$disk" --table "0 $(cat /sys/block/$disk/size) linear /dev/$disk 0"
done
mkswap /dev/dm-0 && swapon /dev/dm-0
mdadm --create /dev/md9 --run --level=0 --raid-devices=2 --homehost=any --name=data /dev/dm-2 /dev/dm-3
for disk in vdc vdd vde; do dmsetup suspend --noflush --nolockfs --noudevsync "of-$disk"; done
umount /sys /proc
"""
# What dmsetup needs beside what mdadm does.
DMSETUP = {
    "libdevmapper.so.1.02.1": "libdevmapper1.02.1",
    "libselinux.so.1": "libselinux1",
    "libpcre2-8.so.0": "libpcre2-8-0",
    "libm.so.6": "libc6",
}
OF_SUSPENDED = [*SCRATCH, Disk(blank()), Disk(filesystem("ext2", label="config-2")), Disk(blank()), Disk(blank())]


def suspended():
    modules, order = images.module_files(), []
    for name in "dm-mod", "raid0":
        images.load_order(name, modules, order)
    files = without_mdadm() | {f"/modules/{name}.ko": modules[name] for name in order}
    for name, package in DMSETUP.items():
        files[f"/lib/x86_64-linux-gnu/{name}"] = of_package(package, name).resolve()
    for name in "dmsetup", "mdadm":
        files[f"/usr/sbin/{name}"] = of_package(name, f"sbin/{name}")
    return files | {"/setup": SUSPENDED.replace("MODULES", " ".join(order))}


@case("minimal", disks=OF_SUSPENDED, config='[metadata]\nsources = ["config-drive"]\n', files=suspended, waits=70)
def suspended_devices_as_swap_config_drive_and_member_of_an_array_stop_nothing(guest):
    status = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    swaps = guest.sh("cat /proc/swaps; cat /sys/block/dm-*/dm/suspended; cat /proc/mdstat").output
    check("what is suspended", [line for line in swaps.splitlines() if line in ("0", "1")], ["1", "1", "1", "0"])
    assert "/dev/dm-0" in swaps and "md9 : active raid0" in swaps, swaps
    does_not_answer(status, "/dev/dm-1", "/dev/md9")
    check("the exit code of probe", guest.sh("vmstage probe", timeout=60).code, 0)
    check("watch is stopped", guest.sh(STOP_WATCH), ("", 0))
    guest.tell("vmstage watch >/dev/null 2>&1 &")
    guest.sh("until grep -q pid /run/vmstage/watch.lock; do sleep 0.1; done")
    # Its first round comes within a minute.
    time.sleep(70)
    check("the exit code of end", guest.sh("vmstage end --in 1h", timeout=60).code, 0)
    assert "vmstage end" in guest.sh("vmstage status").output
