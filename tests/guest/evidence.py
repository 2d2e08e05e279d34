"""A disk is used for a reason. What nothing but its name leads to must be empty or ours, and nobody else's."""

import shutil

import images
from cases import case, check, has_failed, is_staged
from guests import Disk
from hanging import CASES
from images import blank, filesystem

__all__ = ["CASES"]


def vfat(label, size=64):
    """As Nova makes it where the image has no os_type, and as cloud-init's seed disk may be."""

    def write(path):
        blank(size)(path)
        images.run("mkfs.vfat", "-n", label, path)

    write.needs = "vfat"
    return write


def evidence(status, device):
    """Why a device was taken."""
    (said,) = {entry["evidence"] for entry in status["verdicts"] if entry["device"] == device and entry["evidence"]}
    return said


def is_refused(guest, device, why):
    """Nothing is staged, and nothing was made on the disk."""
    status = has_failed(guest, 3, rf"{device} {why}")
    mounted = guest.sh(f"mkdir -p /run/looked-at && mount -o ro {device} /run/looked-at")
    check("mounting it to look", mounted, ("", 0))
    names = guest.sh("ls -A /run/looked-at").output.split()
    guest.sh("umount /run/looked-at")
    check("what vmstage made on it", {"condor", ".vmstage"} & set(names), set())
    return status


# Disks of somebody else

# With nofail, local-fs.target does not wait for the disk, so that who is first is chance: here vmstage is.
LATE = {
    "/etc/fstab": "LABEL=guest-root / ext4 defaults 0 0\nLABEL=data /data ext4 defaults,nofail 0 0\n",
    "/etc/systemd/system/data.mount.d/late.conf": "[Unit]\nAfter=vmstage.service\n",
}


@case("systemd", disks=[Disk(filesystem("ext4", label="data"))], files=LATE)
def a_disk_that_fstab_mounts_elsewhere_later_is_not_taken_by_its_name(guest):
    has_failed(guest, 3, r"/dev/vdb has another place: .*/data")
    guest.sh("until findmnt /data; do sleep 0.2; done")
    check("what fstab mounts", guest.mounted("/data")[:2], ["/dev/vdb", "ext4"])
    check("what is on the disk", guest.sh("ls -A /data").output, "lost+found")


def copy_of_the_root(path):
    shutil.copy(images.minimal(), path)


@case("minimal", disks=[Disk(copy_of_the_root)])
def a_system_that_is_to_be_rescued_is_not_taken_by_its_name(guest):
    is_refused(guest, "/dev/vdb", "has the same UUID as /dev/vda, which is mounted")


@case("minimal systemd", disks=[Disk(vfat("cidata"))])
def the_seed_disk_of_cloud_init_is_not_taken_by_its_name(guest):
    is_refused(guest, "/dev/vdb", "is cloud-init's seed disk")


# EC2's disks

# QEMU's model cannot be chosen, and its firmware says OpenStack: what the kernel says of them is replaced.
INSTANCE_STORAGE = {
    "/of-ec2": """\
for model in /sys/class/nvme/*/model; do mount --bind /etc/model $model; done
for field in sys_vendor product_name; do mount --bind /etc/$field /sys/class/dmi/id/$field; done
""",
    "/etc/model": "Amazon EC2 NVMe Instance Storage\n",
    "/etc/sys_vendor": "Amazon EC2\n",
    "/etc/product_name": "m5d.large\n",
    "/etc/systemd/system/vmstage.service.d/of-ec2.conf": "[Service]\nExecStartPre=/bin/sh /of-ec2\n",
}


@case("systemd", disks=[Disk(blank(), "nvme", "AWS1234567890ABCDEF")], files=INSTANCE_STORAGE, reboots=True)
def blank_instance_storage_gets_a_file_system_and_is_known_by_its_label_then(guest):
    status = is_staged(guest, "/dev/nvme0n1", "ext4", "ephemeral0")
    said = {entry["evidence"] for entry in status["verdicts"] if entry["device"] == "/dev/nvme0n1"}
    check("the evidence", said, {"LABEL=ephemeral0", "local: EC2 instance storage"})
    guest.qmp("system_reset")
    guest.wait_shell()
    is_staged(guest, "/dev/nvme0n1", "ext4", "ephemeral0")


EBS = {"/setup": "ln -s nvme0n1 /dev/sdb\n"}


@case("minimal", disks=[Disk(blank(), "nvme", "vol0123456789abcdef0")], files=EBS)
def a_blank_ebs_volume_that_udev_calls_sdb_is_not_formatted(guest):
    has_failed(guest, 3, r"/dev/sdb .*vol-0123456789abcdef0")
    check("what is on it", guest.sh("tr -d '\\0' </dev/nvme0n1 | wc -c").output, "0")


@case("minimal", disks=[Disk(filesystem("ext4"), "nvme", "vol0123456789abcdef0")], files=EBS)
def an_empty_ebs_volume_that_udev_calls_sdb_is_not_taken(guest):
    is_refused(guest, "/dev/sdb", r".*vol-0123456789abcdef0")


# Nova's file system that keeps no owners

CURES = "set os_type=linux on the image or default_ephemeral_format=ext4"
# The kernel of whoever runs the tests may have no vfat.
ONE_FILE = {"/setup": "mount -t vfat /dev/vdb /mnt\necho mine >/mnt/thesis\numount /mnt\n"}


@case("systemd", disks=[Disk(vfat("EPHEMERAL0"))])
def an_empty_vfat_with_the_label_in_capitals_is_made_anew(guest):
    status = is_staged(guest, "/dev/vdb", "ext4", "ephemeral0")
    check("the evidence", evidence(status, "/dev/vdb"), "LABEL=ephemeral0")


@case("minimal systemd", disks=[Disk(vfat("EPHEMERAL0"))], files=ONE_FILE)
def a_vfat_with_a_file_in_it_stays_and_the_cause_is_told(guest):
    is_refused(guest, "/dev/vdb", rf"holds vfat, which keeps no owners, and is not empty \(thesis\); {CURES}")
    check("the file", guest.sh("mount -o ro /dev/vdb /mnt && cat /mnt/thesis; umount /mnt").output, "mine")


NEVER = '[metadata]\nsources = []\n[staging]\nformat = "never"\n'


@case("minimal", disks=[Disk(vfat("EPHEMERAL0"))], config=NEVER)
def an_empty_vfat_stays_where_nothing_may_be_made(guest):
    is_refused(guest, "/dev/vdb", rf'holds vfat, which keeps no owners, and staging.format is "never"; {CURES}')


# What was staged by its name stays known


@case("minimal systemd", disks=[Disk(filesystem("ext4"))], reboots=True)
def after_a_reset_right_after_the_first_ready_the_disk_is_ours(guest):
    guest.wait_console("vmstage: ready:", timeout=400)
    guest.qmp("system_reset")
    guest.wait_shell()
    status = is_staged(guest, "/dev/vdb", "ext4")
    check("the evidence", evidence(status, "/dev/vdb"), "ours")


# HTCondor has not even been told then.
FIRST_WORD = "until [ -e /run/vmstage/status.json ]; do :; done; echo b >/proc/sysrq-trigger"


@case("minimal", disks=[Disk(filesystem("ext4"))], reboots=True)
def after_a_reset_at_the_first_word_of_readiness_the_machine_is_ready_again(guest):
    guest.tell(FIRST_WORD)
    guest.wait_shell()
    is_staged(guest, "/dev/vdb", "ext4")
