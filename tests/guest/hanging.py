"""Disks that take requests and never answer, as when a cloud's storage is down: they stop no boot, and keep no VM from
its end."""

import time

from cases import CASES, NOBODY_ASKED, SCRATCH, case, check, has_failed, is_staged
from guests import Disk
from images import filesystem

# The rest of a guest has to get along with the disk as well. mount(8) looks for a label of /etc/fstab on every disk, and
# SysV's start of udev waits two minutes for each.
BESIDE_A_HUNG_DISK = {
    "/etc/fstab": "/dev/vda / ext4 defaults 0 0\n",
    "/setup": "[ ! -e /etc/rcS.d ] || update-rc.d udev remove\n",
}
LABELLED = filesystem("ext2", label="ephemeral0")
UNRELATED = Disk(filesystem("ext4"), hangs=True)


def does_not_answer(status, *devices):
    """Each of them is named in a warning."""
    for device in devices:
        assert any(f"{device} does not answer" in warning for warning in status["warnings"]), status["warnings"]


@case("minimal systemd sl sysvinit", disks=[*SCRATCH, UNRELATED], files=BESIDE_A_HUNG_DISK)
def a_hung_disk_beside_the_labelled_one_stops_no_boot(guest):
    status = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    does_not_answer(status, "/dev/vdc")


@case("minimal", disks=[Disk(filesystem("ext2")), UNRELATED, UNRELATED])
def two_hung_disks_beside_one_that_only_its_name_leads_to_stop_no_boot(guest):
    status = is_staged(guest, "/dev/vdb", "ext2")
    does_not_answer(status, "/dev/vdc", "/dev/vdd")


@case("minimal systemd sysvinit", disks=[Disk(LABELLED, hangs=True)], files=BESIDE_A_HUNG_DISK)
def a_hung_scratch_disk_is_no_scratch_disk(guest):
    status = has_failed(guest, 3, "/dev/vdb does not answer")
    does_not_answer(status, "/dev/vdb")


# systemd-shutdown gives a disk this long: 30 s to its own sync(2), 90 s to SIGTERM and 90 s to SIGKILL to end what is in
# state D, and 30 s to another sync(2).
SYSTEMD_SHUTDOWN = 240
# A slow machine, beside what is computed.
SLACK = 60


@case("systemd", disks=[*SCRATCH, UNRELATED], files=BESIDE_A_HUNG_DISK, waits=SYSTEMD_SHUTDOWN)
def a_hung_disk_beside_the_labelled_one_keeps_no_vm_from_being_powered_off(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    guest.tell("systemctl poweroff")
    # Here all units are stopped. By default, each that has a process in state D takes three minutes.
    guest.wait_console("Reached target .*poweroff.target", timeout=SLACK)
    guest.wait_off(timeout=SYSTEMD_SHUTDOWN + SLACK)


# watch, and a deadline that comes to be known when the disk hangs already

END = """\
[deadline]
action = "poweroff"
min_uptime = "0s"
grace = "10s"
"""
# watch asks once a minute, and once more before it does anything.
KNOWN_AFTER = 66 + 20
# How long after the deadline a VM is gone in any case: what watch leaves to init, what it then gives sync(2).
PATIENCE = 180 + 30
WATCHED = {"config": END, "metadata": {}, "waits": KNOWN_AFTER + SYSTEMD_SHUTDOWN}


def goes_off_in_time(guest):
    left = KNOWN_AFTER + 10
    guest.metadata.answer(meta={"vmstage_deadline": str(guest.now() + left)})
    guest.wait_off(timeout=left + max(PATIENCE, SYSTEMD_SHUTDOWN) + SLACK)


@case("systemd sysvinit", disks=[*SCRATCH, Disk(filesystem("ext4"))], **WATCHED)
def where_another_disk_begins_to_hang_watch_ends_the_vm_in_time(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    guest.hang("disk2")
    goes_off_in_time(guest)


@case("systemd sysvinit", disks=SCRATCH, **WATCHED)
def where_the_scratch_disk_begins_to_hang_watch_ends_the_vm_in_time(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    # As a job does, so that there is something to be written out.
    guest.sh("head -c 1000000 /dev/zero >/staging/condor/file")
    guest.hang("disk1")
    goes_off_in_time(guest)


# How long watch may be silent, init be at it, and sync(2) take.
SILENCE, INIT, SYNC = 30, 180, 30
DEAF = """\
rm -f /sbin/poweroff
printf '#!/bin/sh\\nexec sleep 1000\\n' >/sbin/poweroff
chmod 755 /sbin/poweroff
"""


# Also where children of `boot` hang, which have its name.
STOP_WATCH = """\
until grep -q pid /run/vmstage/watch.lock; do sleep 0.1; done
pid=$(sed 's/.*"pid":\\([0-9]*\\).*/\\1/' /run/vmstage/watch.lock)
kill $pid
while [ -e /proc/$pid ]; do sleep 0.1; done
rm -f /run/vmstage/watch.lock
"""


@case("minimal", disks=[*SCRATCH, Disk(filesystem("ext4"))], config=NOBODY_ASKED + END, files={"/setup": DEAF}, waits=True)
def where_neither_watch_nor_init_answers_the_kernel_switches_the_vm_off(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    # Its guard has nobody else to say anything to.
    check("watch is stopped", guest.sh(STOP_WATCH), ("", 0))
    guest.tell("busybox syslogd -O /dev/console; vmstage watch >/dev/null 2>&1 &")
    guest.sh("until grep -q pid /run/vmstage/watch.lock; do sleep 0.1; done")
    # A sync(2) that never ends has something to write.
    guest.sh("mkdir -p /data && mount /dev/vdc /data && head -c 1000000 /dev/zero >/data/file")
    guest.hang("disk2")
    left = 20
    stopped = guest.sh(f"vmstage end --in {left}s && kill -STOP $(sed 's/.*pid\":\\([0-9]*\\).*/\\1/' /run/vmstage/watch.lock)")
    assert stopped.code == 0, stopped
    guest.wait_console("watch hangs: its child does what is due", timeout=left + SILENCE + SLACK)
    guest.wait_console("asking the kernel", timeout=INIT + SLACK)
    start = time.monotonic()
    guest.wait_off(timeout=SYNC + SLACK)
    took = time.monotonic() - start
    assert SYNC - 2 < took < SYNC + SLACK / 4, took
