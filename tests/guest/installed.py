"""Images as they were before vmstage, moved to it by `vmstage install --root DIR --replace-old`; and out of it again."""

from cases import SCRATCH, case, check, has_failed, is_staged
from selinux import CASES

__all__ = ["CASES"]

OLD = "old-minimal old-systemd old-sysvinit"


def was_moved(guest):
    """What staged the disk before is gone, and kept beside."""
    assert "guest: /outside failed" not in guest.console(), guest.console()
    check("fstab", guest.sh("grep -c /staging /etc/fstab").output, "0")
    check("the old fstab", guest.sh("grep -c /dev/sdb /etc/fstab.before-vmstage").output, "1")
    check("commands of rc.local", guest.sh("grep -E '^(mkdir|chown|chmod) .*/staging' /etc/rc.local").output, "")
    check("the old script", guest.sh("test -e /etc/init.d/mount_staging").code, 1)
    check("the old script, kept", guest.owner_and_mode("/etc/init.d/mount_staging.before-vmstage"), "root:root 644 regular file")


def watch_runs(guest):
    return guest.sh("pgrep -f 'vmstage watc[h]' || pidof vmstage").code == 0


# fstab had /dev/sdb for the disk, which is vdb here.
@case(f"{OLD} old-systemd+scsi old-sysvinit+scsi", disks=SCRATCH)
def an_old_image_that_was_moved_stages_its_disk_whatever_its_name(guest):
    is_staged(guest, guest.scratch, "ext2", "ephemeral0")
    was_moved(guest)
    check("watch runs", watch_runs(guest), True)


@case(OLD)
def an_old_image_that_was_moved_comes_up_without_a_disk(guest):
    has_failed(guest, 3, "no usable disk")
    was_moved(guest)


@case("old-systemd old-sysvinit", disks=SCRATCH, reboots=True, waits=80)
def vmstage_is_taken_out_of_a_machine_that_runs(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    done = guest.sh("cp -a /usr/sbin/vmstage /root/vmstage && /root/vmstage uninstall --root /")
    check("the exit code of uninstall", (done.code, done.output if done.code else ""), (0, ""))
    assert "vmstage watch is stopped" in done.output, done.output
    assert "/dev/vdb stays mounted on /staging" in done.output, done.output
    check("watch runs", watch_runs(guest), False)
    check("what is mounted", guest.mounted()[:1], ["/dev/vdb"])
    # Longer than watch would take to tell it all again.
    left = guest.sh("sleep 80; find / -xdev -name '*vmstage*' -not -path '/root/*' -not -path '/proc/*'", timeout=120).output
    check("what is left", sorted(left.split()), ["/etc/vmstage.toml", "/vmstage-to-install"])
    check("what is left of this boot", guest.sh("ls /run/vmstage /run/motd.d/vmstage 2>/dev/null").output, "")
    # What was there before is there again.
    check("the old fstab", guest.sh("grep -c /dev/sdb /etc/fstab").output, "1")
    assert guest.sh("test -x /etc/init.d/mount_staging").code == 0


# Of the site, beside which vmstage puts its own.
SITE = {"/etc/condor/config.d/00-site.config": "# of the site\n"}


@case("package-systemd package-sysvinit", disks=SCRATCH, files=SITE, waits=80)
def a_package_is_purged_from_a_machine_that_runs(guest):
    is_staged(guest, "/dev/vdb", "ext2", "ephemeral0")
    drop_in = "/etc/condor/config.d/99-vmstage.config"
    check("HTCondor is told", guest.sh(f"test -e {drop_in}").code, 0)
    check("watch runs", watch_runs(guest), True)
    done = guest.sh("dpkg -P vmstage", timeout=120)
    check("the exit code of dpkg", (done.code, done.output if done.code else ""), (0, ""))
    stopped, first = done.output.index("vmstage watch is stopped"), done.output.index("remove /")
    assert stopped < first == done.output.index(f"remove {drop_in}"), done.output
    assert "/dev/vdb stays mounted on /staging" in done.output, done.output
    check("watch runs", watch_runs(guest), False)
    check("what is mounted", guest.mounted()[:1], ["/dev/vdb"])
    # Longer than watch would take to tell it all again.
    left = guest.sh("sleep 80; find / -xdev -name '*vmstage*' -not -path '/proc/*'", timeout=120).output
    check("what is left", left, "")
    check("what is left of this boot", guest.sh("ls -d /run/vmstage /run/motd.d/vmstage 2>/dev/null").output, "")
    check("what is left of the features", guest.sh("ls -d /etc/machinefeatures /etc/jobfeatures 2>/dev/null").output, "")
    check("what is the site's", guest.sh("ls /etc/condor/config.d").output, "00-site.config")
