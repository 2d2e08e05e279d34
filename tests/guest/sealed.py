"""A machine that ran is sealed and saved; the image is launched as another machine and as itself."""

import json
import shutil

import images
from cases import NOBODY_ASKED, SCRATCH, Case, check, is_staged
from guests import SYSTEMS, Guest
from installed import CASES

__all__ = ["CASES"]

ITSELF, ANOTHER = "0b1e0a3c-6a1b-4c57-8f5e-5d2d7d1d4e10", "7c55e2b4-93d1-4f0a-a6b2-0c8f6e1d2a31"
LEASE = NOBODY_ASKED + '[deadline]\nmax_lifetime = "36h"\n'
# What a machine that ran for a while has, beside what this guest makes itself.
LEFT = {
    "/etc/ssh/ssh_host_rsa_key": "the key of the machine that was saved\n",
    # sshd-keygen as Red Hat has it.
    "/usr/lib/systemd/system/sshd-keygen@.service": "[Service]\nType=oneshot\nExecStart=/bin/true /usr/libexec/openssh/sshd-keygen %i\n",
    "/etc/rc.d/init.d/sshd": "KEYGEN=/usr/bin/ssh-keygen\n",
    "/etc/udev/rules.d/70-persistent-net.rules": "# eth0\n",
    "/var/lib/dhcp/dhclient.leases": "lease {}\n",
    "/var/lib/urandom/random-seed": "the seed of the machine that was saved\n",
    "/root/.ssh/authorized_keys": "ssh-rsa x operator\n",
    "/etc/condor/config.d/00-site.config": "# of the site\n",
}
# What tells one machine from another: a name, and the command that shows it.
FACTS = {
    "machine id": "cat /etc/machine-id",
    "dbus machine id": "cat /var/lib/dbus/machine-id",
    "host key": "cat /etc/ssh/ssh_host_rsa_key",
    "random seeds": "cat /var/lib/systemd/random-seed /var/lib/urandom/random-seed | sha256sum | grep -v e3b0c44298",
    "persistent names": "cat /etc/udev/rules.d/70-persistent-net.rules",
    "leases": "cat /var/lib/dhcp/dhclient.leases",
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
    if records[0] & records[1]:
        common.add("a record of the first boot of the machine that was saved")
    return common


def a_machine_that_was_sealed_is_another_in_its_clone_and_itself_again(system):
    def launch(directory, root, uuid, disks=(), files=None):
        directory.mkdir()
        return Guest(directory, system, "virtio", disks, LEASE, files=files, root=root, uuid=uuid)

    def run(directory):
        root = directory / "root"
        shutil.copy(images.root_disk(SYSTEMS[system].root), root)
        with launch(directory / "saved", root, ITSELF, SCRATCH, LEFT) as guest:
            guest.wait_shell()
            is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
            guest.sh("mount --bind / /mnt; mkdir -p /mnt/staging/tmp/left /mnt/staging/condor; umount /mnt")
            before, first = facts(guest), record(guest, ITSELF)
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
        clone = directory / "clone"
        shutil.copy(root, clone)
        with launch(directory / "another", clone, ANOTHER) as guest:
            guest.wait_shell()
            guest.wait_booted()
            another = facts(guest)
            check("the operator's key", guest.sh("cat /root/.ssh/authorized_keys").code, 0)
            check("HTCondor's own files", guest.sh("ls /etc/condor/config.d/00-site.config").code, 0)
            check("without the disk", guest.sh("vmstage status").code, 3)
            clones = record(guest, ANOTHER)
        with launch(directory / "itself", root, ITSELF, SCRATCH) as guest:
            guest.wait_shell()
            guest.wait_booted()
            check("what is mounted", guest.mounted()[:1], ["/dev/vdb"])
            check("what lies below it", guest.below(), ["tmp"])
            itself = facts(guest)
            again = record(guest, ITSELF)
        for name, machine in (("saved", before), ("itself", itself)):
            common = same(another, machine)
            print(f"       the same in the clone and in the machine ({name}): {', '.join(sorted(common)) or 'nothing'}", flush=True)
            check(f"what the clone shares with the machine ({name})", common, MEANT)
        # Its lease goes on, and the clone's begins.
        check("the first boot", again["first_boot"], first["first_boot"])
        assert clones["first_boot"] > first["first_boot"], f"{clones}, {first}"

    return run


NAME = a_machine_that_was_sealed_is_another_in_its_clone_and_itself_again.__name__
CASES.extend(
    Case(f"{system}/{NAME}", system, a_machine_that_was_sealed_is_another_in_its_clone_and_itself_again(system), False)
    for system in ("systemd", "sysvinit")
)
