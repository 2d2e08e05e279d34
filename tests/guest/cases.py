"""What vmstage promises, looked at in whole guests. Each case is a claim; `on` names the systems it is looked at on."""

import json
import re
import time
from datetime import datetime
from typing import NamedTuple

from guests import Disk, Guest
from images import blank, config_drive, corrupt, debugfs, filesystem, swap
from machine import MACHINE
from metadata import Metadata

CASES = []


class Case(NamedTuple):
    name: str
    system: str
    run: callable
    waits: int  # for so many seconds it computes nothing


# What most cases have in common
NOBODY_ASKED = "[metadata]\nsources = []\n"
LEASE = {"meta": {"vmstage_lifetime": "36h"}}
SCRATCH = [Disk(filesystem("ext2", label="ephemeral0"))]


def case(on, disks=(), config=NOBODY_ASKED, metadata=None, cloud=None, waits=0, **options):
    """Makes cases of a function: one for each system of `on`, with `+scsi` or `+xvdb` for how the disks are attached.
    `metadata` is what the service at 169.254.169.254 starts with; None: nothing answers there, or another `cloud`'s does."""

    def make(function, where):
        system, _, bus = where.partition("+")

        def run(directory):
            service = cloud(directory / "metadata") if cloud else None
            service = service if metadata is None else Metadata(directory / "metadata", **metadata)
            with Guest(directory, system, bus or "virtio", disks, config, metadata=service, **options) as guest:
                guest.wait_shell()
                function(guest)

        return Case(f"{where}/{function.__name__}", system, run, waits)

    def register(function):
        CASES.extend(make(function, where) for where in on.split())
        return function

    return register


# What a person would look at


def check(what, found, expected):
    assert found == expected, f"{what}: found {found!r}, expected {expected!r}"


def is_staged(guest, device, kind, label=None):
    """The disk is on /staging, with its directories, and everybody was told so."""
    guest.wait_booted()
    known_by = f"{kind}, LABEL={label}" if label else f"{kind}, (?:empty|ours)"
    line = rf"vmstage: ready: {device} \({known_by}\) on /staging, [\d.]+ [MG]iB free, condor tmp\b"
    guest.wait_console(line, timeout=30)

    source, mounted_kind, options = guest.mounted()
    check("the mounted device", source, device)
    check("the mounted file system", mounted_kind, kind)
    assert {"rw", "nosuid", "nodev"} <= set(options.split(",")), f"mount options are {options}"
    check("what /etc/mtab says", guest.in_mtab(), [device, kind])
    check("/staging/condor", guest.owner_and_mode("/staging/condor"), "condor:condor 755 directory")
    check("/staging/tmp", guest.owner_and_mode("/staging/tmp"), "root:root 1777 directory")

    status = guest.status()
    check("the outcome", (status["outcome"], status["exit_code"], status["error"]), ("ready", 0, None))
    staging = status["staging"]
    check("the device in the status", (staging["device"], staging["filesystem"], staging["label"]), (device, kind, label))
    check("the directories", [entry["path"] for entry in status["directories"]], ["/staging/condor", "/staging/tmp"])
    check("the status file's mode", guest.owner_and_mode("/run/vmstage/status.json"), "root:root 644 regular file")
    check("the exit code of vmstage status", guest.sh("vmstage status").code, 0)

    check("what is below /staging on the root disk", guest.below(), [])
    check("condor runs", guest.condor_runs(), True)
    return status


def has_failed(guest, code, why):
    """Nothing is staged, everybody was told why, and nothing was written where the scratch disk would be."""
    guest.wait_booted()
    guest.wait_console(rf"vmstage: FAILED\({code}\): .*{why}", timeout=30)

    status = guest.status()
    check("the outcome", (status["outcome"], status["exit_code"], status["staging"]), ("failed", code, None))
    assert re.search(why, status["error"]), f"the error in the status is {status['error']!r}"
    check("the exit code of vmstage status", guest.sh("vmstage status").code, code)

    check("what is mounted on /staging", guest.mounted(), [])
    check("what /etc/mtab says", guest.in_mtab(), [])
    check("/staging on the root disk", guest.below(), None)
    # One SysV script cannot require another: there condor is started, and finds no place for its jobs.
    check("condor was started", guest.condor_was_started(), guest.system.endswith("sysvinit"))
    check("condor runs", guest.condor_runs(), False)
    return status


def reasons(status, device):
    """Why a device was not taken."""
    return " ".join(entry["reason"] or "" for entry in status["verdicts"] if entry["device"] == device)


EVERYWHERE = "minimal minimal+scsi minimal+xvdb systemd systemd+scsi systemd+xvdb sl ubuntu sysvinit"


# Which disk is taken


@case(EVERYWHERE, disks=SCRATCH)
def a_labelled_disk_is_staged(guest):
    status = is_staged(guest, guest.scratch, "ext2", "ephemeral0")
    check("the warnings", status["warnings"], [])


@case("minimal minimal+scsi minimal+xvdb systemd sl", disks=[Disk(filesystem("ext4"))])
def a_disk_without_label_is_found_by_its_name(guest):
    is_staged(guest, guest.scratch, "ext4")


@case("minimal systemd", disks=[Disk(swap()), Disk(filesystem("ext3", label="ephemeral0"))])
def a_swap_disk_in_front_is_passed_over_for_the_label(guest):
    is_staged(guest, "/dev/vdc", "ext3", "ephemeral0")


@case("minimal ubuntu", disks=[Disk(swap()), Disk(blank(), bus="scsi"), Disk(filesystem("ext4"), bus="scsi")])
def a_swap_disk_in_front_is_passed_over_for_the_next_name(guest):
    status = is_staged(guest, "/dev/sdb", "ext4")
    assert "swap" in reasons(status, "/dev/vdb"), status["verdicts"]


@case("minimal", disks=[Disk(filesystem("ext4"), serial="6f2c9a54-0f5d-4f0e-8")])
def a_persistent_volume_is_not_taken_by_its_name(guest):
    status = has_failed(guest, 3, "no usable disk")
    assert "volume" in reasons(status, "/dev/vdb"), status["verdicts"]


@case("minimal", disks=[Disk(filesystem("ext2", label="ephemeral0")), Disk(filesystem("ext2", label="ephemeral0"))])
def of_two_disks_with_one_label_the_first_is_taken_with_a_warning(guest):
    status = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    assert any("/dev/vdb" in warning and "/dev/vdc" in warning for warning in status["warnings"]), status["warnings"]


@case("minimal systemd sl ubuntu sysvinit")
def without_a_disk_nothing_is_made_and_condor_does_not_start(guest):
    has_failed(guest, 3, "no usable disk")


@case("minimal systemd sl", disks=[Disk(corrupt(label="ephemeral0")), Disk(filesystem("ext4"), bus="scsi")])
def a_corrupt_labelled_disk_ends_the_search(guest):
    has_failed(guest, 4, r"cannot mount /dev/vdb \(ext4\) on /staging: Structure needs cleaning \(os error 117\); run fsck on it")


LATE = NOBODY_ASKED + '[staging]\nwait = "300s"\n'


@case("minimal systemd ubuntu", disks=[Disk(filesystem("ext4", label="ephemeral0"), late=True)], config=LATE)
def a_disk_that_is_plugged_in_late_is_waited_for(guest):
    guest.sh("until pidof vmstage; do sleep 0.1; done", timeout=200)
    time.sleep(2)
    guest.plug("disk1")
    is_staged(guest, "/dev/vdb", "ext4", "ephemeral0")


INSTANCE = {"uuid": "0b1e0a3c-6a1b-4c57-8f5e-5d2d7d1d4e10"} | LEASE
BEHIND = [Disk(config_drive(INSTANCE)), Disk(filesystem("ext4", label="ephemeral0"))]


@case("minimal systemd", disks=BEHIND, config="")
def a_config_drive_in_front_is_passed_over_and_says_when_the_vm_must_be_gone(guest):
    status = is_staged(guest, "/dev/vdc", "ext4", "ephemeral0")
    assert "config" in reasons(status, "/dev/vdb"), status["verdicts"]
    check("the instance", status["instance"]["id"], INSTANCE["uuid"])
    deadline_is_known(guest, status, 36 * 3600)


@case("minimal", disks=[Disk(config_drive(INSTANCE))])
def a_config_drive_alone_is_not_a_scratch_disk(guest):
    status = has_failed(guest, 3, "no usable disk")
    assert "config" in reasons(status, "/dev/vdb"), status["verdicts"]


@case("minimal", disks=[Disk(blank())])
def a_blank_disk_is_left_alone(guest):
    status = has_failed(guest, 3, "no usable disk")
    assert "blank" in reasons(status, "/dev/vdb"), status["verdicts"]


FORMAT = NOBODY_ASKED + '[staging]\nformat = "blank"\n'


@case("systemd", disks=[Disk(blank(256))], config=FORMAT)
def a_blank_disk_gets_a_file_system_where_that_is_configured(guest):
    is_staged(guest, "/dev/vdb", "ext4", "ephemeral0")


# Guests with something in the way


FSTAB = {
    "/etc/fstab": "LABEL=guest-root / ext4 defaults 0 0\nLABEL=ephemeral0 /staging ext4 defaults,nosuid,nodev 0 0\n",
    "/setup": "mkdir /staging\n",
}


@case("systemd sysvinit", disks=[Disk(filesystem("ext4", label="ephemeral0"))], files=FSTAB)
def a_disk_that_fstab_has_mounted_is_ready_all_the_same(guest):
    status = is_staged(guest, "/dev/vdb", "ext4", "ephemeral0")
    check("already mounted", status["staging"]["already_mounted"], True)


READ_ONLY = {"cmdline": "guest.read-only ro", "files": {"/etc/fstab": "LABEL=guest-root / ext4 ro 0 0\n"}}


@case("systemd", disks=SCRATCH, **READ_ONLY)
def a_read_only_root_without_mount_point_is_an_error_that_says_so(guest):
    has_failed(guest, 4, r"/staging.*Read-only file system")


BAKED_IN = READ_ONLY | {"files": READ_ONLY["files"] | {"/setup": "mkdir /staging\n"}}


@case("systemd", disks=SCRATCH, **BAKED_IN)
def on_a_read_only_root_with_a_mount_point_the_disk_is_staged(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")


# Down to the last block, in large steps first.
FILL = """\
for size in 256M 64M 16M 4M 1M 256K 64K 16K 4K; do
    while fallocate -l $size /var/filling-$((number += 1)) 2>/dev/null; do :; done
done
"""


@case("ubuntu", disks=SCRATCH, files={"/setup": FILL})
def a_full_root_without_mount_point_is_an_error_that_says_so(guest):
    has_failed(guest, 4, r"/staging.*No space left on device")


@case("systemd ubuntu", disks=SCRATCH, files={"/setup": "mkdir /staging\n" + FILL})
def on_a_full_root_with_a_mount_point_the_disk_is_staged(guest):
    guest.wait_booted()
    check("what is free on the root disk", guest.sh("df --output=avail / | tail -n 1").output.strip(), "0")
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")


@case("systemd", disks=SCRATCH)
def a_scratch_disk_that_is_pulled_out_is_noticed_by_the_next_boot_and_fills_no_root_disk(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    guest.unplug("disk1")
    guest.sh("until [ ! -e /dev/vdb ]; do sleep 0.1; done")

    # The dead file system stays mounted, so that what jobs write fails instead of ending up below it.
    again = guest.sh("vmstage boot")
    check("the exit code of vmstage boot", again.code, 5)
    assert "I/O error" in again.output, again.output
    check("the outcome", (guest.status()["outcome"], guest.status()["exit_code"]), ("failed", 5))
    check("a job that writes", guest.sh("touch /staging/condor/more").code, 1)
    check("what is below /staging on the root disk", guest.below(), [])


# As init and the kernel may be at it when the line is due.
FLOOD = "(for n in $(seq 600); do head -c 3000 /dev/zero | tr '\\0' x; echo; done) >/dev/console 2>&1 &"


@case("minimal", disks=SCRATCH)
def a_console_that_others_write_to_gets_every_line(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    guest.sh(FLOOD)
    check("warnings of the console", guest.sh("for n in $(seq 10); do vmstage boot; done 2>&1 | grep 'the console'", timeout=120).output, "")
    check("lines on the console", guest.console().count("vmstage: ready:"), 11)


# cloud-init mounts the same disk on /mnt, before or after


@case("cloud-init", disks=SCRATCH, config="", metadata=LEASE)
def a_disk_that_cloud_init_mounts_afterwards_stays_staged(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    check("what cloud-init mounted on /mnt", guest.mounted("/mnt")[:2], ["/dev/vdb", "ext2"])
    cloud_init = json.loads(guest.sh("cat /run/cloud-init/status.json").output)["v1"]
    assert "OpenStack" in cloud_init["datasource"], cloud_init
    check("the errors of cloud-init", cloud_init["init"]["errors"], [])


AFTER = {"/etc/systemd/system/vmstage.service.d/order.conf": "[Unit]\nAfter=cloud-init.service\n"}


@case("cloud-init", disks=SCRATCH, config="", metadata=LEASE, files=AFTER)
def a_disk_that_cloud_init_has_mounted_is_staged_with_a_warning(guest):
    status = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    check("where else it is mounted", status["staging"]["also_mounted_on"], ["/mnt"])
    assert any("/mnt" in warning for warning in status["warnings"]), status["warnings"]


# The metadata service and the deadline


def deadline_is_known(guest, status, lifetime):
    """The deadline is `lifetime` seconds after the guest's start, and everybody was told."""
    deadline = status["deadline"]
    left = deadline["at"] - guest.now()
    assert lifetime - 600 < left <= lifetime, f"{left} s are left of {lifetime}"
    assert "vmstage_lifetime" in deadline["origin"], deadline
    check("shutdowntime", guest.sh("cat /etc/machinefeatures/shutdowntime").output, str(deadline["at"]))
    return deadline


@case("minimal systemd sl", disks=SCRATCH, config="", metadata=LEASE)
def the_lifetime_in_the_metadata_becomes_the_deadline(guest):
    status = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    deadline = deadline_is_known(guest, status, 36 * 3600)
    guest.wait_console(rf"vmstage: ready: .*; must be gone by {deadline['at_utc']} \(in ", timeout=30)


def ready_before_the_answer(guest):
    """vmstage was ready, so that condor could start, long before it gave up asking for the deadline."""
    status = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    check("the deadline", status["deadline"], None)
    assert any(source["error"] for source in status["sources"]), status["sources"]
    ready, ended = (
        int(guest.sh(f"systemctl show vmstage.service -p {time}TimestampMonotonic --value").output) / 1e6
        for time in ("ActiveEnter", "ExecMainExit")
    )
    assert 10 < ended - ready < 30, f"boot ended {ended - ready} s after it was ready"


@case("systemd", disks=SCRATCH, config="", network=True)
def an_absent_metadata_service_delays_nothing(guest):
    ready_before_the_answer(guest)


@case("systemd", disks=SCRATCH, config="", metadata={"delay": 60})
def a_slow_metadata_service_delays_nothing(guest):
    ready_before_the_answer(guest)


@case("systemd ubuntu", disks=SCRATCH, config="", metadata={"status": 503}, waits=90)
def a_metadata_service_that_comes_up_after_a_minute_is_heard(guest):
    status = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    check("the deadline", status["deadline"], None)
    time.sleep(60)
    guest.metadata.answer(**LEASE)
    end = time.monotonic() + 180
    while not (status := guest.status())["deadline"]:
        assert time.monotonic() < end, "the deadline is not known three minutes after the service came up"
        time.sleep(2)
    deadline_is_known(guest, status, 36 * 3600)


@case("systemd ubuntu", disks=SCRATCH, config="", metadata=LEASE, reboots=True)
def a_reboot_changes_nothing_and_renews_no_lease(guest):
    before = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    guest.sh("echo kept >/staging/condor/file; sync")
    guest.tell("reboot")
    guest.wait_shell()
    # The last line of the second boot: until then the status may have no deadline.
    guest.wait_console(r"(?s)(?:vmstage: ready: .*?){2}; must be gone by", timeout=60)
    after = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    assert before["boot_id"] != after["boot_id"], "the guest has not rebooted"
    check("the deadline after the reboot", after["deadline"]["at"], before["deadline"]["at"])
    check("a file on the scratch disk", guest.sh("cat /staging/condor/file").output, "kept")


# busybox's login and who, which are glibc's in what they keep in utmp: its records differ between architectures.
LOG_IN = """\
: >/var/run/utmp
for terminal in tty1 {console}; do
    setsid login -f root <>/dev/$terminal >&0 2>&1 &
    until who | grep -q " $terminal "; do sleep 0.1; done
done
"""


@case("minimal", disks=SCRATCH, metadata=LEASE, config="")
def the_terminals_of_logged_in_users_are_warned(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    guest.sh(LOG_IN.format(console=MACHINE.console))
    # It takes `watch` a moment to be there.
    guest.sh("until vmstage end --in 30m --reason maintenance; do sleep 0.2; done")
    # Its bell comes first: the log has these words as well. The first that logged in is not the last that is read.
    guest.wait_console(r"\x07vmstage: this VM goes away in .*\(maintenance\); save your work")
    said = guest.sh("cat /dev/vcs1").output
    assert "vmstage: this VM goes away in " in said, said


END = """\
[deadline]
action = "poweroff"
min_uptime = "30s"
grace = "30s"
drain = ["/bin/sh", "-c", "date +%s >/staging/tmp/drained"]
"""


@case("systemd ubuntu minimal", disks=SCRATCH, config=END, metadata={"meta": {"vmstage_lifetime": "4m"}}, waits=220)
def at_the_deadline_the_vm_drains_and_goes_off(guest):
    line = guest.wait_console(r"vmstage: ready: .*; must be gone by (\S+) ", timeout=400)
    deadline = datetime.fromisoformat(line[1]).timestamp()
    guest.wait_off(timeout=600)
    off = time.time()
    scratch = guest.directory / "disk1"
    drained = debugfs(scratch, "cat /tmp/drained")
    assert drained, "drain has not run"
    drained = int(drained)
    assert 0 < deadline - drained <= 31, f"drained {deadline - drained:.0f} s before the deadline"
    assert deadline <= off, f"off {deadline - off:.0f} s before the deadline"
    # Not the power cut that follows when init does not come to an end.
    assert re.search(r"^Filesystem state: +clean$", debugfs(scratch, "stats -h"), re.MULTILINE), "the disk was not unmounted"
