"""A cloud says that it is about to end the VM: everybody is told, `drain` runs, HTCondor takes no more jobs, and the VM
goes off when it was said to."""

import json
import re
import time

from cases import SCRATCH, case, check, is_staged
from clouds import EC2, Azure, Google
from evidence import CASES
from images import debugfs, say

__all__ = ["CASES"]

# Whom to ask the firmware says. `min_uptime` is longer than any of these guests lives: a notice does not wait for it.
ENDS = """\
[deadline]
action = "poweroff"
drain = ["/bin/sh", "-c", 'echo "drain: $VMSTAGE_DEADLINE, $VMSTAGE_SECONDS_LEFT s left: $VMSTAGE_REASON" >/dev/console']
"""
# Reads its configuration when it starts and when it is told to, and goes by what it read, as HTCondor does.
MASTER = r"""#!/bin/sh
read_drop_in() {
    drop_in=/etc/condor/config.d/99-vmstage.config
    end=$(sed -n 's/^MJF_MACHINE_SHUTDOWNTIME = //p' $drop_in)
    grace=$(sed -n 's/^MJF_MACHINE_GRACE_SECS = //p' $drop_in)
    grep -qxF "START = time() >= $((end - grace)) ? False : \$(START)" $drop_in || end=
}
# Not from within the trap: another signal would have it begin anew in the middle.
trap told=yes HUP
told=yes
while :; do
    [ -z "$told" ] || { told=; read_drop_in; }
    start="takes jobs"
    if [ -n "$end" ]; then
        start="takes jobs until $((end - grace))"
        [ "$(date +%s)" -lt $((end - grace)) ] || start="takes no more jobs"
    fi
    [ "$start" = "$said" ] || echo "condor: $start" >/dev/console
    said=$start
    sleep 1 &
    wait $!
done
"""
UNIT = "[Unit]\nAfter=vmstage.service\n[Service]\nExecStart=/usr/sbin/condor_master\n[Install]\nWantedBy=multi-user.target\n"
CONDOR = {
    "/usr/sbin/condor_master": MASTER,
    "/etc/systemd/system/condor-master.service": UNIT,
    "/setup": "mkdir -p /etc/condor/config.d\nsystemctl --quiet enable condor-master.service\n",
}
IN_A_CLOUD = {"on": "systemd", "disks": SCRATCH, "config": ENDS, "files": CONDOR, "waits": 40}
# From when the power is ordered off until it is, on a slow machine.
SHUTDOWN = 60


def is_up(guest, source, instance):
    """The VM is staged, has asked the service of its cloud alone who it is, and nothing ends it."""
    status = is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    check("the sources", {asked["source"]: asked["error"] for asked in status["sources"]}, {source: None})
    check("the instance", status["instance"]["id"], instance)
    check("the deadline", status["deadline"], None)
    guest.wait_console("condor: takes jobs$")


def drains(guest, reason, within):
    """Drain runs and knows why and until when. Returns until when and for how long."""
    noticed = time.time()
    line = guest.wait_console(r"drain: (\d+), (\d+) s left: (.*)$", timeout=within)
    took = time.time() - noticed
    check("the reason", line[3], reason)
    at, left = int(line[1]), int(line[2])
    guest.wait_console("condor: takes no more jobs$", timeout=20)
    assert abs(at - left - noticed - took) < 5, f"drain was told {left} s, {at - noticed - took:.0f} s before the end"
    return at, took


def is_known(guest, at, source, key, detail, notice=True):
    """The status says who ends the VM, and by what."""
    deadline = guest.status()["deadline"]
    given_by = {"source": source, "key": key} | ({"detail": detail} if detail else {})
    check("who gave the deadline", (deadline["given_by"], deadline["notice"]), (given_by, notice))
    check("the deadline", (deadline["at"], deadline["unconfirmed"], deadline["action"]), (at, False, "poweroff"))
    said = guest.sh("cat /etc/machinefeatures/shutdowntime").output
    check("shutdowntime", said, str(at))


def goes_off(guest, at, took):
    """At its end, and not before; in order, as init does it."""
    guest.wait_off(timeout=at - time.time() + SHUTDOWN)
    late = time.time() - at
    say(f"{type(guest.metadata).__name__}: drain ran {took:.1f} s after the notice, the VM was off {late:.1f} s after its time")
    assert late > -1, f"off {-late:.0f} s before its end"
    disk = debugfs(guest.directory / "disk1", "stats -h")
    assert re.search(r"^Filesystem state: +clean$", disk, re.MULTILINE), "the disk was not unmounted"


def is_near(until, at):
    """The guest goes by the Date of the answers where its own clock is another: a busy machine's is seconds late."""
    assert abs(until - at) <= 5, f"VMSTAGE_DEADLINE: found {until}, expected {at}"


@case(cloud=EC2, **IN_A_CLOUD)
def an_ec2_spot_notice_drains_and_ends_the_vm(guest):
    is_up(guest, "ec2", "i-1234567890abcdef0")
    # `boot` asks once, `watch` again and again.
    guest.metadata.wait_asked("spot/instance-action", times=3)
    at = int(time.time()) + 40
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    guest.metadata.say_also("spot/instance-action", json.dumps({"action": "terminate", "time": when}))
    until, took = drains(guest, "spot/instance-action (terminate) in the ec2 metadata", within=20)
    is_near(until, at)
    is_known(guest, at, "ec2", "spot/instance-action", "terminate")
    goes_off(guest, at, took)


SOON = ENDS + 'grace = "30s"\nmin_uptime = "30s"\n'


@case(cloud=EC2, **IN_A_CLOUD | {"config": SOON, "waits": 130})
def an_ec2_instance_that_is_retired_ends_in_time(guest):
    is_up(guest, "ec2", "i-1234567890abcdef0")
    at = int(time.time()) + 130
    times = [time.strftime("%d %b %Y %H:%M:%S GMT", time.gmtime(unix)) for unix in (at, at + 3600)]
    event = {"NotBefore": times[0], "NotAfter": times[1], "Code": "instance-retirement", "State": "active"}
    event |= {"EventId": "instance-event-0d59937288b749b32", "Description": "The instance is running on degraded hardware"}
    before = dict(event, Code="instance-stop", State="canceled", NotBefore=times[1], EventId="instance-event-0a1")
    guest.metadata.say_also("events/maintenance/scheduled", json.dumps([before, event]))
    key = "events/maintenance/scheduled/instance-event-0d59937288b749b32"
    until, took = drains(guest, f"{key} (instance-retirement) in the ec2 metadata", within=130)
    is_near(until, at)
    assert at - 31 <= time.time(), "drain ran before grace"
    is_known(guest, at, "ec2", key, "instance-retirement", notice=False)
    goes_off(guest, at, took)


@case(cloud=Google, **IN_A_CLOUD)
def a_google_preemption_drains_and_ends_the_vm(guest):
    is_up(guest, "google", "4520031799277581759")
    guest.metadata.wait_asked("wait_for_change=true")
    # The VM moves to another host, which is no end.
    guest.metadata.say_also(maintenanceEvent="MIGRATE_ON_HOST_MAINTENANCE")
    guest.metadata.wait_asked("wait_for_change=true", times=2)
    noticed = time.time()
    guest.metadata.say_also(preempted="TRUE")
    until, took = drains(guest, "preempted in the google metadata", within=10)
    # By the guest's clock, from when it heard of it.
    end = noticed + 30
    is_near(until, end + took)
    is_known(guest, until, "google", "preempted", None)
    goes_off(guest, end, took)


@case(cloud=Azure, **IN_A_CLOUD)
def an_azure_vm_that_is_preempted_drains_and_ends(guest):
    is_up(guest, "azure", "13f56399-bd52-4150-9748-7190aae1ff21")
    guest.metadata.wait_asked("scheduledevents", times=3)
    at = int(time.time()) + 40
    event = guest.metadata.say_event("Preempt", "Platform", at)
    until, took = drains(guest, f"scheduledevents/{event} (Preempt) in the azure metadata", within=20)
    is_near(until, at)
    is_known(guest, at, "azure", f"scheduledevents/{event}", "Preempt")
    goes_off(guest, at, took)
    check("what was acknowledged", guest.metadata.acknowledged(), [])


SLOWLY = ENDS.replace(" >/dev/console", " >/dev/console; sleep 15; echo drained >/dev/console")


@case(cloud=Azure, **IN_A_CLOUD | {"config": SLOWLY})
def azure_is_told_to_go_on_with_what_the_owner_asked_for_once_drain_has_ended(guest):
    is_up(guest, "azure", "13f56399-bd52-4150-9748-7190aae1ff21")
    guest.metadata.wait_asked("scheduledevents", times=3)
    at = int(time.time()) + 60
    event = guest.metadata.say_event("Terminate", "User", at)
    until, took = drains(guest, f"scheduledevents/{event} (Terminate) in the azure metadata", within=20)
    is_near(until, at)
    is_known(guest, at, "azure", f"scheduledevents/{event}", "Terminate")
    while not (acknowledged := guest.metadata.acknowledged()):
        assert time.time() < at, "it was not acknowledged in time"
        time.sleep(0.1)
    begun = time.time()
    guest.wait_console("drained$", timeout=0)
    check("what was acknowledged", acknowledged, [{"StartRequests": [{"EventId": event}]}])
    # The event begins then: there is nothing left to wait for.
    goes_off(guest, begun, took)
    check("how often it was acknowledged", len(guest.metadata.acknowledged()), 1)
