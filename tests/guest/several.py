"""Several local disks that become one: what mdadm makes of them, and what the next boot finds."""

import images
from cases import case, check, has_failed, is_staged, reasons
from evidence import INSTANCE_STORAGE
from guests import Disk
from images import blank
from sealed import CASES

__all__ = ["CASES"]

STRIPE = '[metadata]\nsources = []\n[staging]\nwait = "2s"\ncombine = "stripe"\n'
FIRST, SECOND = "/dev/nvme0n1", "/dev/nvme1n1"
BOTH = f"{FIRST} and {SECOND}"
DISKS = [Disk(blank(), "nvme", f"AWS1234567890ABCDE{number}") for number in range(2)]

# Runs before the guest's init, at each boot: what a boot is to go without.
SETUP = """\
for file in /usr/sbin/mdadm /usr/lib/udev/rules.d/64-md-raid-assembly.rules; do
    [ ! -e "/etc/without-${file##*/}" ] || rm -f "$file"
done
"""
MDADM = ["usr/sbin/mdadm", "sbin/mdadm"]
RULES = ["01-md-raid-creating.rules", "63-md-raid-arrays.rules", "64-md-raid-assembly.rules"]


def without_mdadm(**more):
    """The guest's own files, but for mdadm."""
    return lambda: INSTANCE_STORAGE | more


def with_mdadm(before="", **more):
    """Debian's mdadm, and the rules by which udev puts arrays together. `before` runs once, before vmstage."""

    def files():
        package = images.downloaded("mdadm")
        (program,) = (package / path for path in MDADM if (package / path).exists())
        (rules,) = {file.parent for file in package.rglob(RULES[-1])}
        own = {f"/usr/lib/udev/rules.d/{name}": rules / name for name in RULES}
        once = f"[ ! -e /etc/was-before ] || exit 0\ntouch /etc/was-before\n{before}"
        own["/of-ec2"] = INSTANCE_STORAGE["/of-ec2"] + once
        return INSTANCE_STORAGE | own | {"/usr/sbin/mdadm": program, "/setup": SETUP} | more

    return files


def is_made_of_both(guest):
    """The array, whatever it is called, is staged."""
    guest.wait_booted()
    device = guest.mounted()[0] if guest.mounted() else guest.sh("ls -d /dev/md[0-9]*").output
    status = is_staged(guest, device, "ext4", "ephemeral0", made_of=BOTH)
    check("what it is made of", status["staging"]["made_of"], [FIRST, SECOND])
    (state,) = {guest.sh(f"cat /sys/block/{device.removeprefix('/dev/')}/md/{name}").output for name in ["level"]}
    check("the level", state, "raid0")
    assert status["staging"]["size_bytes"] > 90 << 20, status["staging"]
    for disk in FIRST, SECOND:
        assert f"is a part of {device}" in reasons(status, disk), status["verdicts"]
    return status


def boot_again(guest, *commands):
    """Resets the machine, without any notice to the guest, after these."""
    for command in commands:
        done = guest.sh(command)
        check(command, done.code, 0)
    guest.sh("sync")
    guest.qmp("system_reset")
    guest.wait_shell()


def replace(*disks):
    """Another disk in place of each, and none of the array's superblocks in memory."""
    empty = " && ".join(f"dd if=/dev/zero of={disk} bs=1M count=64 conv=fsync" for disk in disks)
    stop = "systemctl stop vmstage-watch vmstage; umount /staging && for md in /dev/md[0-9]*; do mdadm --stop $md; done"
    return f"{stop}; {empty}"


KEEP = "echo thesis >/staging/tmp/thesis && sync"


def has_thesis(guest, expected):
    check("a file of before", guest.sh("test -e /staging/tmp/thesis").code == 0, expected)


@case("systemd", disks=DISKS, config=STRIPE, files=with_mdadm(), reboots=True)
def blank_local_disks_become_one_that_the_next_boot_finds_whoever_puts_it_together(guest):
    status = is_made_of_both(guest)
    check("the warnings", status["warnings"], [])
    detail = guest.sh("mdadm --detail /dev/md[0-9]* && mdadm --examine /dev/nvme0n1").output
    for said in "raid0", "Chunk Size : 512K", "Name : any:ephemeral0", "Version : 1.2":
        assert said in detail, detail
    # Once by udev, once by vmstage with mdadm, and once by the kernel alone.
    for without in "", "64-md-raid-assembly.rules", "mdadm":
        boot_again(guest, KEEP, f"touch /etc/without-{without}")
        status = is_made_of_both(guest)
        check("the warnings", status["warnings"], [])
        has_thesis(guest, True)
    probe = guest.sh("vmstage probe").output
    assert f"made of {BOTH}" in probe, probe


@case("systemd", disks=DISKS, config=STRIPE, files=with_mdadm(), reboots=True)
def an_array_of_which_a_member_was_replaced_is_made_anew_and_so_is_one_of_new_disks(guest):
    is_made_of_both(guest)
    boot_again(guest, KEEP, replace(SECOND))
    status = is_made_of_both(guest)
    assert f"{FIRST} is left and the others are gone" in " ".join(status["warnings"]), status["warnings"]
    has_thesis(guest, False)
    boot_again(guest, KEEP, replace(FIRST, SECOND))
    status = is_made_of_both(guest)
    check("the warnings", status["warnings"], [])
    has_thesis(guest, False)


@case("systemd", disks=DISKS, config=STRIPE, files=without_mdadm())
def without_mdadm_the_first_blank_local_disk_is_staged(guest):
    status = is_staged(guest, FIRST, "ext4", "ephemeral0")
    assert f"no mdadm: {FIRST} is used alone" in " ".join(status["warnings"]), status["warnings"]
    check("what is on the other", guest.sh(f"tr -d '\\0' <{SECOND} | wc -c").output, "0")


CREATE = f"mdadm --create /dev/md9 --run --level=0 --raid-devices=2 --homehost=any {FIRST} {SECOND}"
STOP = "mdadm --stop /dev/md9\n"


@case("systemd", disks=DISKS, config=STRIPE, files=with_mdadm(f"{CREATE} --name=data\n{STOP}"))
def the_members_of_a_foreign_array_are_left_alone(guest):
    before = guest.sh(f"cat {FIRST} {SECOND} | md5sum").output
    status = has_failed(guest, 3, "")
    for disk in FIRST, SECOND:
        assert "is not this program's" in reasons(status, disk) or "in use" in reasons(status, disk), status["verdicts"]
    check("what is on them", guest.sh(f"cat {FIRST} {SECOND} | md5sum").output, before)


HALF = f"dd if=/dev/zero of={SECOND} bs=1M count=64 conv=fsync\n"


@case("systemd", disks=DISKS, config=STRIPE, files=with_mdadm(f"{CREATE} --name=ephemeral0\n{STOP}{HALF}"))
def what_is_left_of_an_array_that_nobody_recorded_is_left_alone(guest):
    status = has_failed(guest, 3, "1 of its 2 disks are missing, and nothing says that this program made it")
    assert "may belong to the array" in reasons(status, SECOND), status["verdicts"]
    check("what is on the other", guest.sh(f"tr -d '\\0' <{SECOND} | wc -c").output, "0")


def dies_once(name, then, real):
    """A program in whose place the machine is reset, the first time and after `then`."""
    script = f"#!/bin/sh\nif [ ! -e /etc/died ] && [ -e /etc/to-die ]; then\n  touch /etc/died; sync\n  {then}\n"
    return {f"/usr/local/sbin/{name}": f'{script}  echo b >/proc/sysrq-trigger; sleep 60\nfi\nexec {real} "$@"\n'}


DIES_IN_MKFS = dies_once("mkfs.ext4", "", "/sbin/mkfs.ext4") | {"/etc/to-die": ""}


@case("systemd", disks=DISKS, config=STRIPE, files=with_mdadm(**DIES_IN_MKFS), reboots=True)
def a_boot_that_ends_between_mdadm_and_mkfs_is_made_good_by_the_next(guest):
    guest.sh("until [ -e /run/guest-booted ]; do sleep 0.2; done", timeout=400)
    check("it died", guest.sh("test -e /etc/died").code, 0)
    is_made_of_both(guest)


# mdadm takes the superblock of what is left away before it writes its own.
DIES_IN_MDADM = dies_once("mdadm", f"{'/usr/sbin/mdadm'} --zero-superblock {FIRST}; sync", "/usr/sbin/mdadm")


@case("systemd", disks=DISKS, config=STRIPE, files=with_mdadm(**DIES_IN_MDADM), reboots=True)
def a_boot_that_ends_while_an_array_is_made_anew_is_made_good_by_the_next(guest):
    is_made_of_both(guest)
    boot_again(guest, KEEP, replace(SECOND), "touch /etc/to-die")
    guest.sh("until [ -e /run/guest-booted ]; do sleep 0.2; done", timeout=400)
    check("it died", guest.sh("test -e /etc/died").code, 0)
    is_made_of_both(guest)
    has_thesis(guest, False)
