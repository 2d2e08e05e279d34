"""On an enforcing system confined programs can work on the scratch disk. One of them is busybox as ntpd_t."""

import tempfile
from pathlib import Path

import images
from cases import NOBODY_ASKED, case, check, is_staged
from evidence import vfat
from guests import Disk
from images import debugfs, filesystem
from notices import CASES

__all__ = ["CASES"]


def context(name):
    return f"system_u:object_r:{name}:s0"


UNLABELLED, ROOT, CONDOR, TMP, NTPD_TMP = map(context, ("unlabeled_t", "var_t", "var_lib_t", "tmp_t", "ntpd_tmp_t"))
# The type of a file is what makes a service of init's a confined one.
CONFINED = {"/usr/local/sbin/busybox": images.busybox()}


def confined(guest, command):
    """Runs one of busybox's commands as ntpd_t."""
    guest.sh("chcon -t ntpd_exec_t /usr/local/sbin/busybox")
    domain = guest.sh("/usr/local/sbin/busybox cat /proc/self/attr/current").output.rstrip("\0")
    check("the confined domain", domain, "system_u:system_r:ntpd_t:s0")
    return guest.sh(f"/usr/local/sbin/busybox {command}")


def contexts(guest, *paths):
    return guest.sh(f"stat -c %C {' '.join(paths)}").output.split()


def is_ready_on(guest, device, kind, mount_point="/staging", directories=("condor", "tmp")):
    """Somewhat less than cases.is_staged, which mounts what mount(8) may not mount here."""
    status = guest.status()
    check("the outcome", (status["outcome"], status["error"]), ("ready", None))
    check("what is mounted", guest.mounted(mount_point)[:2], [device, kind])
    check("the directories", [entry["path"] for entry in status["directories"]], [f"{mount_point}/{name}" for name in directories])
    check("the mode of SELinux", guest.sh("getenforce").output, "Enforcing")
    return status


def are_usable(guest, mount_point="/staging", root=ROOT, condor=CONDOR, tmp=TMP):
    """The three have these contexts, and a confined program can do its work in tmp."""
    paths = (mount_point, f"{mount_point}/condor", f"{mount_point}/tmp")
    check("the contexts", contexts(guest, *paths), [root, condor, tmp])
    check("a confined program in tmp", confined(guest, f"touch {mount_point}/tmp/of-ntpd"), ("", 0))
    check("the context of its file", contexts(guest, f"{mount_point}/tmp/of-ntpd"), [NTPD_TMP])


def boot_with(guest, mount_point, config):
    """Stages one more disk."""
    guest.sh(f"cat >/etc/{mount_point}.toml <<'END'\n{config}\nEND")
    booted = guest.sh(f"vmstage boot --config /etc/{mount_point}.toml")
    check("the exit code of vmstage boot", booted.code, 0)


def on(label, mount_point, more=""):
    return f'[metadata]\nsources = []\n[staging]\nformat = "never"\nmount_point = "/{mount_point}"\ndevices = ["LABEL={label}"]\n{more}'


# A new disk, and what it is like without vmstage


def xfs(path):
    images.blank(320)(path)
    images.run("mkfs.xfs", "-q", "-L", "xfs0", path)


def xfs_modules():
    files, order = images.module_files(), []
    images.load_order("xfs", files, order)
    setup = "".join(f"insmod /modules/{name}.ko 2>/dev/null || :\n" for name in order)
    return {f"/modules/{name}.ko": files[name] for name in order} | {"/setup": setup}


OTHERS = """\
context = "system_u:object_r:usr_t:s0"
[[directory]]
path = "condor"
context = "system_u:object_r:nosuch_t:s0"
[[directory]]
path = "tmp"
mode = "1777"
context = "system_u:object_r:ntpd_tmp_t:s0"
[[directory]]
path = "more"
context = "system_u:object_r:nosuch_too_t:s0"
"""
# The first is found by its name, so that its mark is made first.
NEW = [Disk(filesystem("ext4")), Disk(filesystem("ext4", label="before")), Disk(xfs), Disk(filesystem("ext4", label="others"))]


@case("selinux", disks=NEW, files=CONFINED | xfs_modules())
def selinux_on_a_new_disk(guest):
    guest.wait_booted()
    check("the warnings", is_ready_on(guest, "/dev/vdb", "ext4")["warnings"], [])

    made = guest.sh("mkdir /before && mount -t ext4 /dev/vdc /before && mkdir -m 1777 /before/tmp && chcon -t root_t /")
    check("mounting another disk by hand", made, ("", 0))
    check("the contexts before", contexts(guest, "/before", "/before/tmp"), [UNLABELLED, UNLABELLED])
    before = confined(guest, "touch /before/tmp/of-ntpd")
    check("a confined program before", before, ("touch: /before/tmp/of-ntpd: Permission denied", 1))
    are_usable(guest)
    check("the context of the mark", contexts(guest, "/staging/.vmstage"), [ROOT])

    # What somebody has changed stays.
    guest.sh("chcon -t var_log_t /staging/condor; chcon -t usr_t /staging")
    check("a second boot", guest.sh("vmstage boot").code, 0)
    are_usable(guest, root=context("usr_t"), condor=context("var_log_t"))

    boot_with(guest, "xfs", on("xfs0", "xfs"))
    check("the warnings", is_ready_on(guest, "/dev/vdd", "xfs", "/xfs")["warnings"], [])
    are_usable(guest, "/xfs")

    # What the policy does not know is told once.
    boot_with(guest, "others", on("others", "others", OTHERS))
    status = is_ready_on(guest, "/dev/vde", "ext4", "/others", ("condor", "tmp", "more"))
    are_usable(guest, "/others", context("usr_t"), context("usr_t"), NTPD_TMP)
    (warning,) = status["warnings"]
    assert all(word in warning for word in ("/others/condor", "nosuch_t", "policy")), warning


# A used disk: files that were made where there was no SELinux, and a directory that has a label


def used(path):
    with tempfile.TemporaryDirectory(dir=images.WORK) as folder:
        for name in ("tmp/old", "condor/job", "jobs"):
            (Path(folder) / name).mkdir(parents=True)
        (Path(folder) / "tmp/file").touch()
        filesystem("ext4", label="ephemeral0", contents=folder)(path)
    # The kernel writes the second on what is made in an unlabelled directory, as version 0.1.0 did.
    for name, given in (("condor", "var_spool_t"), ("tmp", "unlabeled_t")):
        images.run("debugfs", "-w", "-R", rf'ea_set /{name} security.selinux "{context(given)}\000"', path)


JOBS = NOBODY_ASKED + """\
[[directory]]
path = "condor"
owner = "condor"
[[directory]]
path = "tmp"
mode = "1777"
[[directory]]
path = "jobs/new"
"""
FSTAB = {
    "/etc/fstab": "LABEL=guest-root / ext4 defaults 0 0\nLABEL=ephemeral0 /staging ext4 defaults 0 0\n",
    "/setup": "mkdir /staging\n",
}


@case("selinux", disks=[Disk(used)], config=JOBS, files=CONFINED | FSTAB)
def selinux_on_a_used_disk_that_fstab_mounts(guest):
    guest.wait_booted()
    status = is_ready_on(guest, "/dev/vdb", "ext4", directories=("condor", "tmp", "jobs/new"))
    check("already mounted", status["staging"]["already_mounted"], True)
    check("the warnings", status["warnings"], [])
    are_usable(guest, condor=context("var_spool_t"))
    check("what is on the way", contexts(guest, "/staging/jobs", "/staging/jobs/new"), [ROOT, ROOT])
    within = contexts(guest, "/staging/tmp/old", "/staging/tmp/file", "/staging/condor/job")
    check("what is in them", within, [UNLABELLED] * 3)


# A disk that carries no labels. Nothing is made on it, so that it need not keep owners either

VFAT = "directory = []\n"


def mounted_with(guest, device, mount_point):
    """The context= of what is mounted."""
    is_ready_on(guest, device, "vfat", mount_point, ())
    options = guest.mounted(mount_point)[2]
    return [option for option in options.split(",") if option.startswith("context=")]


@case(
    "selinux",
    disks=[Disk(vfat(label)) for label in ("EPHEMERAL0", "BEFORE", "OF_NTPD", "UNKNOWN")],
    config=VFAT + NOBODY_ASKED + '[staging]\nformat = "never"\n',
    files=CONFINED,
)
def selinux_on_a_disk_that_carries_no_labels(guest):
    guest.wait_booted()
    check("the context of all", mounted_with(guest, "/dev/vdb", "/staging"), [f"context={ROOT}"])
    check("the context of its root", contexts(guest, "/staging"), [ROOT])
    guest.sh("mkdir /before && mount -t vfat /dev/vdc /before && chcon -t root_t /")
    before = confined(guest, "ls /before")
    check("a confined program before", before, ("ls: /before: Permission denied", 1))
    check("a confined program", confined(guest, "ls /staging").code, 0)

    boot_with(guest, "second", VFAT + on("OF_NTPD", "second", f'context = "{NTPD_TMP}"'))
    check("the context of all", mounted_with(guest, "/dev/vdd", "/second"), [f"context={NTPD_TMP}"])
    check("a confined program that writes", confined(guest, "touch /second/x"), ("", 0))

    boot_with(guest, "third", VFAT + on("UNKNOWN", "third", 'context = "system_u:object_r:nosuch_t:s0"'))
    check("the context of all", mounted_with(guest, "/dev/vde", "/third"), [])
    (warning,) = [text for text in guest.status()["warnings"] if "SELinux" in text]
    assert "/dev/vde" in warning, warning


@case("selinux", disks=[Disk(filesystem("ext4", label="ephemeral0"))], cmdline="security=apparmor")
def selinux_that_is_off(guest):
    is_staged(guest, "/dev/vdb", "ext4", "ephemeral0")
    check("SELinux", guest.sh("grep selinuxfs /proc/mounts").output, "")
    guest.sh("sync")
    labels = [debugfs(guest.directory / "disk1", f"ea_list /{name}") for name in ("", "condor", "tmp", ".vmstage")]
    check("the labels", "".join(labels), "")
