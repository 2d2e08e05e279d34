"""Several local disks that become one: what mdadm makes of them, and what the next boot finds."""

import images
from cases import case, check, reasons
from evidence import INSTANCE_STORAGE
from guests import Disk
from hanging import BESIDE_A_HUNG_DISK, SLACK, does_not_answer
from images import blank
from sealed import CASES
from vm import PATIENT

__all__ = ["CASES"]

STRIPE = '[metadata]\nsources = []\n[staging]\nwait = "2s"\ncombine = "stripe"\n'
FIRST, SECOND = "/dev/nvme0n1", "/dev/nvme1n1"
BOTH = f"{FIRST} and {SECOND}"


def local(number, **options):
    return Disk(blank(), "nvme", f"AWS1234567890ABCDE{number}", **options)


DISKS = [local(0), local(1)]

# Runs before the guest's init, at each boot: what a boot is to go without.
SETUP = """\
for file in /usr/sbin/mdadm /usr/lib/udev/rules.d/64-md-raid-assembly.rules; do
    [ ! -e "/etc/without-${file##*/}" ] || rm -f "$file"
done
"""
RULES = ["01-md-raid-creating.rules", "63-md-raid-arrays.rules", "64-md-raid-assembly.rules"]
# What mdadm and mkfs.ext4 need where there is nothing but busybox.
LIBRARIES = {
    "libc.so.6": "libc6",
    "libudev.so.1": "libudev1",
    "libext2fs.so.2": "libext2fs2",
    "libe2p.so.2": "libext2fs2",
    "libcom_err.so.2": "libcom-err2",
    "libblkid.so.1": "libblkid1",
    "libuuid.so.1": "libuuid1",
}


def of_package(package, name):
    """A file of a Debian package, wherever that has it."""
    # Cases run side by side, and only one of them downloads it.
    with images.PACKAGING:
        return next(path for path in sorted(images.downloaded(package).rglob(name)) if path.is_file())


def without_mdadm():
    """A guest of busybox and Debian's mkfs, whose disks are EC2's once /of-ec2 has run."""
    own = {"/usr/sbin/mkfs.ext4": of_package("e2fsprogs", "sbin/mke2fs"), "/setup": SETUP}
    own["/lib64/ld-linux-x86-64.so.2"] = of_package("libc6", "ld-linux-x86-64.so.2").resolve()
    for name, package in LIBRARIES.items():
        own[f"/lib/x86_64-linux-gnu/{name}"] = of_package(package, name).resolve()
    return INSTANCE_STORAGE | own


def with_mdadm():
    return without_mdadm() | {"/usr/sbin/mdadm": of_package("mdadm", "sbin/mdadm")}


def with_udev():
    """Debian's rules, by which udev puts arrays together."""
    rules = {f"/usr/lib/udev/rules.d/{name}": of_package("mdadm", name) for name in RULES}
    return INSTANCE_STORAGE | rules | {"/usr/sbin/mdadm": of_package("mdadm", "sbin/mdadm"), "/setup": SETUP}


def boot(guest):
    """What systemd does in its guests by itself: vmstage runs on a machine of EC2's."""
    guest.wait_booted()
    return guest.sh("sh /of-ec2; vmstage boot", timeout=400)


def is_made_of_both(guest):
    """The array is staged, whatever it is called."""
    device = guest.mounted()[0]
    check("what is mounted", guest.mounted()[1], "ext4")
    status = guest.status()
    check("the outcome", (status["outcome"], status["staging"]["device"]), ("ready", device))
    check("what it is made of", status["staging"]["made_of"], [FIRST, SECOND])
    check("the level", guest.sh(f"cat /sys/block/{device.removeprefix('/dev/')}/md/level").output, "raid0")
    assert status["staging"]["size_bytes"] > 90 << 20, status["staging"]
    for disk in FIRST, SECOND:
        assert f"is a part of {device}" in reasons(status, disk), status["verdicts"]
    guest.wait_console(rf"vmstage: ready: {device} \(ext4, LABEL=ephemeral0, made of {BOTH}\)", timeout=30)
    return status


def reset(guest, *commands):
    """Resets the machine, without any notice to the guest, after these."""
    for command in (*commands, "sync"):
        check(command, guest.sh(command, timeout=200).code, 0)
    guest.qmp("system_reset")
    guest.wait_shell()


KEEP = "echo thesis >/staging/tmp/thesis"
STOP = "umount /staging && mdadm --stop /dev/md127"


def replaced(*disks):
    """Another disk in place of each."""
    return " && ".join(f"dd if=/dev/zero of={disk} bs=1M count=64 conv=fsync" for disk in disks)


def has_thesis(guest, expected):
    check("a file of before", guest.sh("test -e /staging/tmp/thesis").code == 0, expected)


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm, reboots=True)
def blank_local_disks_become_one_that_the_next_boot_puts_together(guest):
    boot(guest)
    check("the warnings", is_made_of_both(guest)["warnings"], [])
    detail = guest.sh(f"mdadm --detail /dev/md127 && mdadm --examine {FIRST}").output
    for said in "raid0", "Chunk Size : 512K", "Name : any:ephemeral0", "Version : 1.2":
        assert said in detail, detail
    # Once with mdadm, and once by the kernel alone.
    for without in "nothing", "mdadm":
        reset(guest, KEEP, f"touch /etc/without-{without}")
        boot(guest)
        is_made_of_both(guest)
        has_thesis(guest, True)
    probe = guest.sh("vmstage probe").output
    assert f"made of {BOTH}" in probe, probe


@case("systemd", disks=DISKS, config=STRIPE, files=with_udev, reboots=True)
def an_array_that_udev_puts_together_is_staged_by_its_label(guest):
    for _ in range(2):
        guest.wait_booted()
        is_made_of_both(guest)
        reset(guest, KEEP)
    guest.wait_booted()
    is_made_of_both(guest)
    has_thesis(guest, True)


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm, reboots=True)
def an_array_of_which_a_member_was_replaced_is_made_anew_and_so_is_one_of_new_disks(guest):
    boot(guest)
    is_made_of_both(guest)
    reset(guest, KEEP, STOP, replaced(SECOND))
    boot(guest)
    status = is_made_of_both(guest)
    assert "is left and the others are gone" in " ".join(status["warnings"]), status["warnings"]
    has_thesis(guest, False)
    reset(guest, KEEP, STOP, replaced(FIRST, SECOND))
    boot(guest)
    check("the warnings", is_made_of_both(guest)["warnings"], [])
    has_thesis(guest, False)


@case("minimal", disks=DISKS, config=STRIPE, files=without_mdadm)
def without_mdadm_the_first_blank_local_disk_is_staged(guest):
    boot(guest)
    status = guest.status()
    check("what is staged", (guest.mounted()[:2], status["staging"]["label"]), ([FIRST, "ext4"], "ephemeral0"))
    assert f"no mdadm: {FIRST} is used alone" in " ".join(status["warnings"]), status["warnings"]
    check("what is on the other", guest.sh(f"tr -d '\\0' <{SECOND} | wc -c", timeout=200).output, "0")


CREATE = f"mdadm --create /dev/md9 --run --level=0 --raid-devices=2 --homehost=any {FIRST} {SECOND}"


def is_refused(guest, name, *commands):
    """An array that somebody else made is not touched."""
    guest.wait_booted()
    for command in (f"{CREATE} --name={name}", "mdadm --stop /dev/md9", *commands):
        check(command, guest.sh(command, timeout=200).code, 0)
    sum_of_both = f"cat {FIRST} {SECOND} | md5sum"
    before = guest.sh(sum_of_both, timeout=200).output
    check("the exit code", boot(guest).code, 3)
    check("what is on them", guest.sh(sum_of_both, timeout=200).output, before)
    return guest.status()


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm)
def the_members_of_a_foreign_array_are_left_alone(guest):
    status = is_refused(guest, "data")
    for disk in FIRST, SECOND:
        assert "is a member of an array that is not this program's" in reasons(status, disk), status["verdicts"]


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm)
def what_is_left_of_an_array_that_nobody_recorded_is_left_alone(guest):
    status = is_refused(guest, "ephemeral0", replaced(SECOND))
    assert "nothing says that this program made it" in reasons(status, FIRST), status["verdicts"]
    assert "may belong to the array" in reasons(status, SECOND), status["verdicts"]


def dies_in(guest, program, real, first=":"):
    """The next boot ends when it runs this program, after a first command."""
    script = f"#!/bin/sh\\n[ -e /etc/died ] && exec {real} \"$@\"\\ntouch /etc/died; {first}; sync; kill -9 $PPID; exit 1"
    commands = (
        f"mkdir -p /usr/local/sbin; printf '{script}' >/usr/local/sbin/{program}; chmod 755 /usr/local/sbin/{program}",
        f"PATH=/usr/local/sbin:$PATH; sh /of-ec2; vmstage boot; test -e /etc/died && rm /usr/local/sbin/{program}",
    )
    for command in commands:
        check(command, guest.sh(command, timeout=400).code, 0)
    check("what is mounted", guest.mounted(), [])


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm)
def what_mdadm_wrote_before_it_failed_is_taken_back_and_the_first_disk_is_staged(guest):
    guest.wait_booted()
    # As where the kernel does not run what mdadm made: it is stopped again.
    script = '#!/bin/sh\\n/usr/sbin/mdadm "$@" && /usr/sbin/mdadm --stop $2\\necho no RUN_ARRAY >&2; exit 1'
    mdadm = "/usr/local/sbin/mdadm"
    commands = (
        f"mkdir -p /usr/local/sbin; printf '{script}' >{mdadm}; chmod 755 {mdadm}",
        "PATH=/usr/local/sbin:$PATH; sh /of-ec2; vmstage boot",
    )
    for command in commands:
        check(command, guest.sh(command, timeout=400).code, 0)
    check("what is staged", guest.mounted()[:2], [FIRST, "ext4"])
    warnings = " ".join(guest.status()["warnings"])
    assert "no RUN_ARRAY; the search goes on without an array" in warnings, warnings
    check("what is on the other", guest.sh(f"tr -d '\\0' <{SECOND} | wc -c", timeout=200).output, "0")


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm, reboots=True)
def a_boot_that_ends_between_mdadm_and_mkfs_is_made_good_by_the_next(guest):
    guest.wait_booted()
    dies_in(guest, "mkfs.ext4", "/usr/sbin/mkfs.ext4")
    reset(guest)
    boot(guest)
    is_made_of_both(guest)


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm, reboots=True)
def a_boot_that_ends_while_an_array_is_made_anew_is_made_good_by_the_next(guest):
    boot(guest)
    is_made_of_both(guest)
    reset(guest, KEEP, STOP, replaced(SECOND))
    guest.wait_booted()
    # mdadm takes away the superblock of what is left before it writes its own.
    dies_in(guest, "mdadm", "/usr/sbin/mdadm", f"/usr/sbin/mdadm --zero-superblock {FIRST} {SECOND}")
    reset(guest)
    boot(guest)
    is_made_of_both(guest)
    has_thesis(guest, False)


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm, reboots=True)
def the_record_of_an_array_is_on_the_disk_before_the_array_is(guest):
    boot(guest)
    is_made_of_both(guest)
    script = '#!/bin/sh\\n/usr/sbin/mdadm "$@"; echo b >/proc/sysrq-trigger'
    mdadm = "/usr/local/sbin/mdadm"
    commands = (
        f"{KEEP}; {STOP}; {replaced(SECOND)}",
        f"mkdir -p /usr/local/sbin; printf '{script}' >{mdadm}; chmod 755 {mdadm}; sync",
        # What nobody asks for is written out after five seconds otherwise.
        "mount -o remount,commit=600 /",
    )
    for command in commands:
        check(command, guest.sh(command, timeout=200).code, 0)
    guest.tell("PATH=/usr/local/sbin:$PATH; sh /of-ec2; vmstage boot")
    guest.wait_shell()
    boot(guest)
    is_made_of_both(guest)
    has_thesis(guest, False)


# Disks that hang

# How long vmstage waits for a disk by default, in seconds.
PATIENCE = 10


def booting(guest, limit, path="$PATH"):
    """Starts a boot. Returns what waits for its exit code, and fails where that took longer than the limit, in seconds."""
    now = "cut -d. -f1 /proc/uptime"
    guest.tell(f"(rm -f /run/took; PATH={path}; sh /of-ec2; begin=$({now}); vmstage boot; echo $? $(($({now}) - begin)) >/run/took) &")

    def wait():
        guest.sh("until [ -s /run/took ]; do sleep 0.2; done", timeout=limit + 2 * SLACK)
        code, took = map(int, guest.sh("cat /run/took").output.split())
        assert took < limit + SLACK, f"it took {took} s"
        return code

    return wait


BESIDE = [*DISKS, Disk(blank(), hangs=True), Disk(blank(), "scsi", hangs=True)]


@case("minimal", disks=BESIDE, config=STRIPE, files=with_mdadm, waits=2 * PATIENCE)
def beside_hung_disks_that_are_not_local_an_array_is_made(guest):
    guest.wait_booted()
    check("the exit code", booting(guest, PATIENCE)(), 0)
    does_not_answer(is_made_of_both(guest), "/dev/vdb", "/dev/sda")


OF_FOUR = [*DISKS, local(2, hangs=True), local(3, hangs=True)]


@case("minimal", disks=OF_FOUR, config=STRIPE, files=with_mdadm, waits=2 * PATIENCE)
def of_four_local_disks_of_which_two_hang_the_others_become_one(guest):
    guest.wait_booted()
    check("the exit code", booting(guest, PATIENCE)(), 0)
    does_not_answer(is_made_of_both(guest), "/dev/nvme2n1", "/dev/nvme3n1")


def with_udev_beside_a_hung_disk():
    return with_udev() | {"/etc/fstab": BESIDE_A_HUNG_DISK["/etc/fstab"]}


@case("systemd", disks=OF_FOUR, config=STRIPE, files=with_udev_beside_a_hung_disk, waits=2 * PATIENCE)
def of_four_local_disks_of_which_two_hang_the_others_become_one_under_udev_too(guest):
    guest.wait_booted()
    does_not_answer(is_made_of_both(guest), "/dev/nvme2n1", "/dev/nvme3n1")


def fails_where_one_hangs_from(guest, name, program, limit):
    """Boots a machine of which a disk begins to hang when a program is to be run, and ends to when nothing is staged."""
    own = f"/usr/local/sbin/{program}"
    pause = "echo guest: paused >/dev/console; until [ -e /run/go-on ]; do sleep 0.1; done"
    script = f"#!/bin/sh\\n{pause}\\nexec /usr/sbin/{program} \"$@\"\\n"
    command = f"mkdir -p /usr/local/sbin; printf '{script}' >{own}; chmod 755 {own}"
    check(command, guest.sh(command).code, 0)
    code = booting(guest, limit, "/usr/local/sbin:$PATH")
    guest.wait_console("guest: paused", timeout=100)
    guest.hang(name)
    guest.sh("touch /run/go-on")
    check("the exit code", code(), 3)
    check("what is mounted", guest.mounted(), [])
    status = guest.status()
    guest.answer(name)
    guest.sh(f"while pidof {program}; do sleep 0.2; done")
    return status


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm, cmdline=PATIENT, waits=4 * PATIENCE)
def a_disk_that_hangs_once_mdadm_writes_to_it_is_named_and_when_it_answers_the_next_boot_makes_the_array(guest):
    guest.wait_booted()
    status = fails_where_one_hangs_from(guest, "disk1", "mdadm", 3 * PATIENCE)
    does_not_answer(status, FIRST)
    boot(guest)
    is_made_of_both(guest)


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm, cmdline=PATIENT, waits=4 * PATIENCE)
def a_disk_that_hangs_once_mkfs_writes_to_the_array_stops_no_boot_and_when_it_answers_the_next_makes_it_good(guest):
    guest.wait_booted()
    status = fails_where_one_hangs_from(guest, "disk2", "mkfs.ext4", 3 * PATIENCE)
    does_not_answer(status, "/dev/md127")
    boot(guest)
    is_made_of_both(guest)


@case("minimal", disks=DISKS, config=STRIPE, files=with_mdadm, cmdline=PATIENT, waits=4 * PATIENCE, reboots=True)
def a_disk_that_hangs_once_its_array_is_put_together_stops_no_boot_and_when_it_answers_nothing_is_lost(guest):
    boot(guest)
    is_made_of_both(guest)
    reset(guest, KEEP)
    guest.wait_booted()
    status = fails_where_one_hangs_from(guest, "disk2", "mdadm", 3 * PATIENCE)
    does_not_answer(status, SECOND)
    boot(guest)
    is_made_of_both(guest)
    has_thesis(guest, True)
