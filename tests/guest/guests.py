"""The systems that vmstage is booted in, and one such guest as a case sees it."""

import json
from typing import NamedTuple

import images
from vm import PATIENT, VM, Drive

COMMON = images.tree(images.INSIDE / "common")
MOUNTED = "findmnt -rno SOURCE,FSTYPE,OPTIONS {0} 2>/dev/null || awk '$2 == \"{0}\" {{ print $1, $3, $4 }}' /proc/mounts"


class System(NamedTuple):
    root: str  # name of the root disk
    own: str  # the folder under inside/ with what makes it a guest
    rc_local: str = ""  # the snippet in /etc/rc.local; the path of it in what `make install` puts there
    setup: str = ""  # run in the guest's root before its init is started
    cmdline: str = ""
    enabled: bool = False  # systemd starts what is installed
    package: bool = False  # what is installed is Debian's package
    outside: str = ""  # run after that from outside, the guest's root being /root: makes an image that is old a new one


SL, UBUNTU = "/usr/share/doc/vmstage/rc.local.sl", "/usr/share/doc/vmstage/rc.local.ubuntu"
PACKAGE = "dpkg -i /vmstage.deb >/dev/null\nrm /vmstage.deb\n"
# What was put on the root disk after it was labelled.
LABEL = f"mount -t proc proc /proc\nsetfiles -F {images.FILE_CONTEXTS} /etc /usr/sbin /usr/lib/systemd /usr/local\numount /proc\n"
# Of an old image: what it had, and how it is moved.
OLD = {
    "/etc/fstab": "LABEL=guest-root / ext4 defaults 0 0\n/dev/sdb /staging ext2 defaults 0 0\n",
    "/etc/rc.local": f"#!/bin/sh\n{(images.REPOSITORY / 'benches/old/rc.local').read_text()}exit 0\n",
    "/etc/init.d/mount_staging": images.REPOSITORY / "benches/old/mount_staging",
    # A real one wants the log, and so has a later number.
    "/etc/init.d/condor": (images.INSIDE / "common/etc/init.d/condor").read_text().replace("$local_fs", "$local_fs $syslog", 1),
}
INSTALL = "/root/vmstage-to-install install --root /root --replace-old\n"
# busybox starts nothing by itself.
BY_HAND = """\
sed -i '/^exit 0/d' /root/etc/rc.local
cat /root/usr/share/doc/vmstage/rc.local.ubuntu >>/root/etc/rc.local
"""
# journald has the kernel keep a record of each system call; where there is SELinux it is looked at.
NO_AUDIT = "audit=0"
# As inside/systemd has it for systemd: of the several hundred devices and drivers udev is asked for what a test looks at.
FEWER_EVENTS = """\
sed -i -e 's/if udevadm trigger --type=subsystems .*;/if :;/' \
    -e 's/trigger --type=devices/& --subsystem-match=block --subsystem-match=net --subsystem-match=scsi*/' /etc/init.d/udev
"""
SYSTEMS = {
    # busybox, no udev, /etc/mtab a file
    "minimal": System("minimal", "minimal", rc_local=UBUNTU),
    # Debian with systemd and udev
    "systemd": System("systemd", "systemd", enabled=True, cmdline=NO_AUDIT),
    # Debian with SysV init, as Scientific Linux 5 and Ubuntu 12.04 did it, and with the init script
    "sl": System("sysvinit", "sysvinit", rc_local=SL),
    "ubuntu": System("sysvinit", "sysvinit", rc_local=UBUNTU),
    "sysvinit": System("sysvinit", "sysvinit", setup="update-rc.d vmstage defaults\nupdate-rc.d condor defaults\n"),
    # Images as they were before vmstage, which `vmstage install` has moved to it
    "old-minimal": System("minimal", "minimal", outside=f"{INSTALL.strip()} --init=none\n{BY_HAND}"),
    "old-systemd": System("systemd", "systemd", outside=INSTALL, cmdline=NO_AUDIT),
    "old-sysvinit": System("sysvinit", "sysvinit", setup="update-rc.d condor defaults\n", outside=INSTALL),
    # Debian's package
    "package-systemd": System("systemd", "systemd", setup=PACKAGE, package=True, cmdline=NO_AUDIT),
    "package-sysvinit": System("sysvinit", "sysvinit", setup=PACKAGE + "update-rc.d condor defaults\n", package=True),
    # Debian with systemd and cloud-init, which mounts ephemeral0 on /mnt
    "cloud-init": System("cloud-init", "systemd", enabled=True, cmdline=NO_AUDIT),
    # Debian with systemd and SELinux, enforcing
    "selinux": System("selinux", "systemd", setup=LABEL, enabled=True, cmdline="security=selinux enforcing=1"),
}


class Disk(NamedTuple):
    """A disk of a case, next to the root disk."""

    write: callable  # one of those in images
    bus: str = ""  # "virtio", "scsi" or "nvme"; empty: the bus of the case
    serial: str = ""
    late: bool = False
    hangs: bool = False


class Guest(VM):
    """A guest of a case: its root disk is disk0, the case's disks are disk1 and so on."""

    def __init__(self, directory, system, bus, disks, config, files=None, cmdline="", root=None, **options):
        self.system = system
        # The root disk is on the same bus, so this is what the first of the case's disks is called.
        self.scratch = {"virtio": "/dev/vdb", "scsi": "/dev/sdb", "xvdb": "/dev/xvdb"}[bus]
        recipe = SYSTEMS[system]
        installed = images.installed()
        own = COMMON | images.tree(images.INSIDE / recipe.own) | {"/etc/vmstage.toml": config}
        if recipe.package:
            own |= {"/vmstage.deb": images.package()}
        elif recipe.outside:
            own |= OLD | {"/vmstage-to-install": installed["/usr/sbin/vmstage"], "/outside": recipe.outside}
        else:
            # The case's own configuration is not the one that is shipped.
            own = own | installed | (images.enabled() if recipe.enabled else {}) | {"/etc/vmstage.toml": config}
        if recipe.rc_local:
            own["/etc/rc.local"] = f"#!/bin/sh -e\n{installed[recipe.rc_local].read_text()}exit 0\n"
        files = own | ((files() if callable(files) else files) or {})
        fewer_events = FEWER_EVENTS if recipe.own == "sysvinit" else ""
        files["/setup"] = fewer_events + recipe.setup + files.get("/setup", "")
        root_bus = "scsi" if bus == "scsi" else "virtio"
        needs = {root_bus} | ({"network"} if options.get("metadata") or options.get("network") else set())
        # One of the case's own keeps what is written on it.
        drives = [Drive(root or images.root_disk(recipe.root), root_bus, throw_away=root is None)]
        for number, disk in enumerate(disks, 1):
            path = directory / f"disk{number}"
            disk.write(path)
            needs |= {getattr(disk.write, "needs", ""), disk.bus or root_bus}
            drives.append(Drive(path, disk.bus or root_bus, disk.serial, late=disk.late, hangs=disk.hangs))
        super().__init__(
            directory, images.kernel()[0], images.initramfs(directory, files, needs), drives,
            f"root=/dev/{'sda' if bus == 'scsi' else 'vda'} {'guest.xvdb' * (bus == 'xvdb')} "
            f"{f'guest.pause {PATIENT}' * any(disk.hangs for disk in disks)} {recipe.cmdline} {cmdline}",
            **options,
        )  # fmt: skip

    def wait_booted(self):
        """Waits until the guest's init has nothing left to start."""
        self.sh("until [ -e /run/guest-booted ]; do sleep 0.5; done", timeout=400)

    def status(self):
        """What `vmstage status` has to say, as its JSON."""
        return json.loads(self.sh("vmstage status --format json").output)

    def mounted(self, path="/staging"):
        """The device, file system type and options that are mounted on a path; empty if nothing is."""
        return self.sh(MOUNTED.format(path)).output.split()

    def in_mtab(self, path="/staging"):
        """The device and file system type that /etc/mtab names for a path, be it a file or a link to the kernel's table."""
        return self.sh(f"awk '$2 == \"{path}\" {{ print $1, $3 }}' /etc/mtab").output.split()

    def below(self, path="/staging"):
        """What is under a path on the root disk, below anything mounted there; None if it does not exist."""
        self.sh("mkdir -p /run/below && mount --bind / /run/below")
        answer = self.sh(f"ls -A /run/below{path}")
        self.sh("umount /run/below")
        return answer.output.split() if answer.code == 0 else None

    def now(self):
        """The guest's clock, in Unix seconds."""
        return int(self.sh("date +%s").output)

    def owner_and_mode(self, path):
        return self.sh(f"stat -c '%U:%G %a %F' {path}").output

    def condor_was_started(self):
        """Whether init has started the stand-in for HTCondor."""
        return self.sh("test -e /run/condor-started").code == 0

    def condor_runs(self):
        """Whether it also could write where its jobs would."""
        return self.sh("test -e /staging/condor/job").code == 0
