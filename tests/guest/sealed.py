"""A machine that ran is sealed and saved; the image is launched as another machine and as itself."""

import json
import shutil

import images
from cases import NOBODY_ASKED, SCRATCH, Case, case, check, is_staged
from guests import SYSTEMS, Guest
from installed import CASES
from metadata import Metadata

__all__ = ["CASES"]

ITSELF, ANOTHER = "0b1e0a3c-6a1b-4c57-8f5e-5d2d7d1d4e10", "7c55e2b4-93d1-4f0a-a6b2-0c8f6e1d2a31"
THIRD = "c2a9d0f7-1e64-4b8a-9a35-70d3f4b1e892"
LEASE = NOBODY_ASKED + '[deadline]\nmax_lifetime = "36h"\n'
# HTCondor 23.9 as Debian packs it, and what its daemons leave when their machine goes.
CONDOR = {
    "/etc/condor/condor_config": """\
RELEASE_DIR = /usr
LOCAL_DIR = /var
LOCAL_CONFIG_FILE = /etc/condor/condor_config.local
REQUIRE_LOCAL_CONFIG_FILE = false
LOCAL_CONFIG_DIR = /usr/share/condor/config.d,/etc/condor/config.d
RUN     = $(LOCAL_DIR)/run/condor
LOG     = $(LOCAL_DIR)/log/condor
LOCK    = $(LOCAL_DIR)/lock/condor
SPOOL   = $(LOCAL_DIR)/spool/condor
EXECUTE = $(LOCAL_DIR)/lib/condor/execute
ETC     = /etc/condor
""",
    "/etc/condor/condor_config.local": "STARTD_ADDRESS_FILE = /var/lib/condor/startd.address\n",
    "/etc/condor/config.d/00-site.config": "# of the site\n",
    "/etc/condor/tokens.d/pool": "a token\n",
    "/var/spool/condor/job_queue.log": "107 1 CreationTimestamp 1795430460\n101 0.0 Job Machine\n105\n101 1.0 Job Machine\n106\n102 1.0\n",
    "/var/spool/condor/.schedd_address": "<169.254.0.15:9618?sock=schedd_1_a>\n$CondorVersion: 23.9.6 $\n",
    "/var/spool/condor/history": "a job\n",
    "/var/lib/condor/execute/dir_4711/_condor_stdout": "a job\n",
    "/var/lib/condor/startd.address": "<169.254.0.15:9618?sock=startd_1_a>\n",
    "/var/log/condor/StartLog": "a line\n",
    "/var/log/condor/.master_address": "<169.254.0.15:9618>\n",
    "/var/log/condor/.startd_claim_id.slot1": "<169.254.0.15:9618?sock=startd_1_a>#1795430460#1#secret\n",
}
# What a machine that ran for a while has, beside what this guest makes itself.
LEFT = CONDOR | {
    "/etc/ssh/ssh_host_rsa_key": "the key of the machine that was saved\n",
    "/etc/udev/rules.d/70-persistent-net.rules": "# eth0\n",
    "/var/lib/dhcp/dhclient.leases": "lease {}\n",
    "/var/lib/urandom/random-seed": "the seed of the machine that was saved\n",
    "/root/.ssh/authorized_keys": "ssh-rsa x operator\n",
}
# What makes host keys, as the images have it: cloud-init, which runs ssh-keygen; the unit of
# Red Hat 7; the script of Red Hat 6 under the name and with the header that Debian's has.
SSH_KEYGEN = """\
#!/bin/sh
# Stand-in: a key is anything that is another one each time.
file=/etc/ssh/ssh_host_rsa_key
while [ $# -gt 0 ]; do
    [ "$1" != -f ] || file=$2
    shift
done
[ -s "$file" ] || { cat /proc/sys/kernel/random/uuid >"$file" && cp "$file" "$file.pub"; }
"""
MAKES_KEYS = {
    "cloud-init": {"/etc/cloud/clean.d/50-vmstage": images.REPOSITORY / "packaging/cloud-init/50-vmstage"},
    "systemd": {
        "/usr/lib/systemd/system/sshd-keygen.service": """\
[Unit]
ConditionFileNotEmpty=|!/etc/ssh/ssh_host_rsa_key
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/usr/bin/ssh-keygen -A
[Install]
WantedBy=multi-user.target
""",
        "/setup": "systemctl enable sshd-keygen.service\n",
    },
    "sysvinit": {
        "/etc/init.d/ssh": """\
#!/bin/sh
### BEGIN INIT INFO
# Provides:          sshd
# Required-Start:    $remote_fs $syslog
# Required-Stop:     $remote_fs $syslog
# Default-Start:     2 3 4 5
# Default-Stop:
### END INIT INFO
RSA_KEY=/etc/ssh/ssh_host_rsa_key
KEYGEN=/usr/bin/ssh-keygen
[ "$1" != start ] || [ -s $RSA_KEY ] || $KEYGEN -q -t rsa -f $RSA_KEY -C '' -N ''
""",
        "/setup": "update-rc.d ssh defaults\n",
    },
}
# What tells one machine from another: a name, and the command that shows it.
FACTS = {
    "machine id": "cat /etc/machine-id",
    "dbus machine id": "cat /var/lib/dbus/machine-id",
    "host key": "cat /etc/ssh/ssh_host_rsa_key",
    "random seeds": "cat /var/lib/systemd/random-seed /var/lib/urandom/random-seed | sha256sum | grep -v e3b0c44298",
    "persistent names": "cat /etc/udev/rules.d/70-persistent-net.rules",
    "leases": "cat /var/lib/dhcp/dhclient.leases",
    "cloud-init's instance": "cat /var/lib/cloud/data/instance-id",
    "cloud-init's instances": "ls /var/lib/cloud/instances | grep .",
    "HTCondor's spool": "ls -A /var/spool/condor | grep .",
    "HTCondor's jobs": "ls -A /var/lib/condor/execute | grep .",
    "HTCondor's logs and claims": "ls -A /var/log/condor | grep .",
    "HTCondor's address": "cat /var/lib/condor/startd.address",
    "records of first boots": "cd /var/lib/vmstage && ls first-boot*",
    "boot": "cat /proc/sys/kernel/random/boot_id",
}
# It counts for the machine that has that UUID alone, whose lease must not be renewed.
MEANT = {"a record of the first boot of the machine that was saved"}


def facts(guest):
    found = {name: guest.sh(command) for name, command in FACTS.items()}
    return {name: answer.output for name, answer in found.items() if answer.code == 0 and answer.output}


def record(guest, uuid):
    """Of the first boot of the machine with this UUID."""
    return json.loads(guest.sh(f"cat /var/lib/vmstage/first-boot-{uuid}.json").output)


def same(one, other):
    """What two machines have in common."""
    common = {name for name in one.keys() & other.keys() if one[name] == other[name] and name != "records of first boots"}
    records = [set(facts.get("records of first boots", "").split()) for facts in (one, other)]
    if f"first-boot-{ITSELF}.json" in records[0] & records[1]:
        common.add("a record of the first boot of the machine that was saved")
    return common


def is_sealed(image):
    """What is in the image that is saved."""
    for path in ("/var/spool/condor", "/var/lib/condor/execute", "/var/log/condor"):
        names = [line.split("/")[5] for line in images.debugfs(image, f"ls -p {path}").splitlines() if line]
        check(f"what is in {path}", sorted(names), [".", ".."])
    # SysV's script writes one whatever was stopped before.
    seeds = images.debugfs(image, "ls -p /var/lib/systemd")
    assert "/random-seed/" not in seeds, seeds
    check("the machine id", images.debugfs(image, "cat /etc/machine-id"), "")
    assert "cloudconfig" not in images.debugfs(image, "cat /etc/fstab")


def a_machine_that_was_sealed_is_another_in_its_clones_and_itself_again(system):
    has_cloud_init = system == "cloud-init"

    def launch(directory, root, uuid, disks=(), files=None):
        directory.mkdir()
        metadata = Metadata(directory / "metadata", uuid=uuid) if has_cloud_init else None
        return Guest(directory, system, "virtio", disks, LEASE, files=files, root=root, uuid=uuid, metadata=metadata)

    def look(guest):
        """At a clone."""
        guest.wait_shell()
        guest.wait_booted()
        check("the operator's key", guest.sh("cat /root/.ssh/authorized_keys").code, 0)
        check("HTCondor's own files", guest.sh("ls /etc/condor/config.d/00-site.config /etc/condor/tokens.d/pool").code, 0)
        found = facts(guest)
        expected = {"host key"} | ({"cloud-init's instance"} if has_cloud_init else set())
        check("what the clone lacks", expected - found.keys(), set())
        return found

    def run(directory):
        root = directory / "root"
        files = LEFT | {"/usr/bin/ssh-keygen": SSH_KEYGEN} | MAKES_KEYS[system]
        shutil.copy(images.root_disk(SYSTEMS[system].root), root)
        with launch(directory / "saved", root, ITSELF, SCRATCH, files) as guest:
            guest.wait_shell()
            is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
            guest.sh("mount --bind / /mnt; mkdir -p /mnt/staging/tmp/left /mnt/staging/condor; umount /mnt")
            before, first = facts(guest), record(guest, ITSELF)
            missing = {"HTCondor's spool", "HTCondor's jobs", "HTCondor's logs and claims", "HTCondor's address", "host key"} - before.keys()
            check("what this machine lacks", missing, set())
            warned = guest.sh("vmstage check")
            assert " machine-id /etc/machine-id: " in warned.output or "machine id" not in before, warned.output
            assert " below-mount /staging: " in warned.output, warned.output
            check("what nobody agreed to", guest.sh("vmstage seal").code, 2)
            rehearsed = guest.sh("vmstage seal --dry-run")
            check("the exit code of a dry run", (rehearsed.code, facts(guest)), (0, before))
            guest.tell("vmstage seal --yes --poweroff >/dev/console 2>&1")
            guest.wait_off()
            console = guest.console()
            assert "stopped: vmstage watch" in console, console
            assert "below-mount: /staging/tmp stays" in console, console
            assert "secrets: /root/.ssh/authorized_keys stays" in console, console
            assert "condor: remove /var/lib/condor/startd.address" in console, console
            check("cloud-init's own clean", "cloud-init: run cloud-init clean" in console, has_cloud_init)
        is_sealed(root)
        clones = []
        for name, uuid, disks in (("another", ANOTHER, ()), ("third", THIRD, SCRATCH)):
            clone = directory / f"root-{name}"
            shutil.copy(root, clone)
            with launch(directory / name, clone, uuid, disks) as guest:
                clones.append(look(guest))
                check("the outcome", guest.sh("vmstage status").code, 0 if disks else 3)
                check("what is mounted", guest.mounted()[:1], ["/dev/vdb"] if disks else [])
                # Its own lease begins.
                begun = record(guest, uuid)
                assert begun["first_boot"] > first["first_boot"], f"{begun}, {first}"
            clone.unlink()
        with launch(directory / "itself", root, ITSELF, SCRATCH) as guest:
            guest.wait_shell()
            guest.wait_booted()
            check("what is mounted", guest.mounted()[:1], ["/dev/vdb"])
            check("what lies below it", guest.below(), ["tmp"])
            itself = facts(guest)
            # Its lease goes on.
            check("the first boot", record(guest, ITSELF)["first_boot"], first["first_boot"])
        another, third = clones
        machines = {"the machine that was saved": before, "it, booted again": itself, "a third, with another disk": third}
        for name, machine in machines.items():
            common = same(another, machine)
            print(f"       {system}: the same in a clone and in {name}: {', '.join(sorted(common)) or 'nothing'}", flush=True)
            check(f"what the clone shares with {name}", common, MEANT)
        check("what the clone with a disk shares with the machine that was saved", same(third, before), MEANT)

    return run


NAME = a_machine_that_was_sealed_is_another_in_its_clones_and_itself_again.__name__
CASES.extend(
    Case(f"{system}/{NAME}", system, a_machine_that_was_sealed_is_another_in_its_clones_and_itself_again(system), 0)
    for system in ("systemd", "sysvinit", "cloud-init")
)


# It answers long after `boot` is ready, so that `boot` still asks.
LATER = {"meta": {"vmstage_lifetime": "36h"}, "delay": 3}
PATIENT = '[metadata]\nrequest_timeout = "30s"\ntimeout = "60s"\n'
BOOT = """\
rm -rf /run/vmstage
(vmstage boot >/run/boot.log 2>&1; date +%s >/run/boot-ended) &
until [ -e /run/vmstage/status.json ]; do sleep 0.1; done
"""
# What `boot` tells in the image: a sealed one has none of it, nor has one without vmstage.
TOLD = "ls -d /etc/machinefeatures /etc/jobfeatures /etc/condor/config.d/99-vmstage.config /var/lib/vmstage/first-boot.json 2>/dev/null; grep -s vmstage: /etc/motd"


@case("minimal", disks=SCRATCH, metadata=LATER, config=PATIENT, waits=60)
def what_a_boot_that_still_asks_would_write_is_not_in_the_image(guest):
    guest.wait_booted()
    assert guest.sh(TOLD).output, "boot tells nothing here"
    for taken_back in ("vmstage seal --own-part --yes", "vmstage uninstall --root / --keep-files"):
        guest.sh("rm -f /run/boot-ended")
        guest.sh(BOOT)
        check("boot has ended", guest.sh("test -e /run/boot-ended").code, 1)
        done = guest.sh(taken_back)
        check(f"the exit code of {taken_back}", (done.code, done.output if done.code else ""), (0, ""))
        check("boot has ended", guest.sh("test -e /run/boot-ended").code, 0)
        check("what is left", guest.sh(TOLD).output, "")
        check("what boot wrote later", guest.sh(f"sleep 12; {TOLD}").output, "")
