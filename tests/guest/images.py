"""What guests are made of: a kernel, an initramfs, root disks and scratch disks, all under target/guest."""

import atexit
import functools
import hashlib
import json
import os
import re
import shutil
import struct
import subprocess
import tempfile
import threading
from pathlib import Path

from machine import MACHINE

REPOSITORY = Path(__file__).resolve().parents[2]
INSIDE = Path(__file__).with_name("inside")
WORK = REPOSITORY / "target" / MACHINE.folder
# Drivers that Debian's cloud kernel has as modules: those of every guest, and what asks for more.
EVERYWHERE = ("virtio_pci", "virtio_blk", "loop")
DRIVERS = {
    "scsi": ("virtio_scsi", "sd_mod"),
    "nvme": ("raid0",),  # the driver itself is built in: of these disks an array is made
    "network": ("virtio_net",),
    "iso9660": ("isofs",),
    "vfat": ("vfat", "nls_ascii", "nls_cp437"),
}
MIB = 1 << 20
PACKAGING = threading.Lock()


def say(text):
    print(f"guest: {text}", flush=True)


def run(*command, **options):
    """Runs a command of the host; what it printed is in the error if it fails."""
    done = subprocess.run(
        [str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, **options,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{' '.join(map(str, command))} ended with {done.returncode}:\n{done.stdout}")
    return done.stdout


# The kernel and the initramfs


@functools.cache
def kernel():
    """Debian's cloud kernel: the image and the folder of its modules."""
    latest = f"linux-image-cloud-{MACHINE.debian}:{MACHINE.debian}"
    (package,) = re.findall(r"Depends: (linux-image-[^\s:]+)", run("apt-cache", "depends", latest))
    folder = downloaded(package)
    (image,) = folder.glob("boot/vmlinuz-*")
    (modules,) = folder.glob("lib/modules/*")
    return unpacked(image), modules


def unpacked(image):
    """A kernel of x86 unpacks itself, which takes an emulated processor half a second. QEMU starts one that is unpacked
    already, too, if it is built for that (PVH), as Debian's is. Others stay as they are."""
    packed = image.read_bytes()
    # The setup header: its magic, the setup's length in sectors, where the payload is after that, and its length.
    if packed[0x202:0x206] != b"HdrS":
        return image
    offset, length = struct.unpack_from("<II", packed, 0x248)
    begin = (packed[0x1F1] + 1) * 512 + offset
    # Behind the payload is its size when unpacked.
    payload = packed[begin : begin + length - 4]
    if not payload.startswith(b"\x02\x21\x4c\x18"):
        return image
    result = WORK / image.name.replace("vmlinuz", "vmlinux")
    if not result.exists():
        written = result.with_name(f"{result.name}.{os.getpid()}")
        with open(written, "wb") as out:
            subprocess.run(["lz4", "-dc"], input=payload, stdout=out, check=True)
        written.rename(result)
    return result


def busybox():
    return downloaded("busybox-static") / "bin" / "busybox"


@functools.cache
def downloaded(package):
    """The contents of a Debian package, which is not installed for it."""
    folder = WORK / package
    if not folder.exists():
        say(f"downloading {package}")
        unpacked = fresh(folder.with_suffix(".new"))
        run("apt-get", "download", f"{package}:{MACHINE.debian}", cwd=unpacked)
        (file,) = unpacked.glob("*.deb")
        run("dpkg-deb", "--extract", file, unpacked)
        file.unlink()
        unpacked.rename(folder)
    return folder


def initramfs(directory, files, needs):
    """An initramfs that loads the drivers for what the guest `needs`, puts `files` (path in the guest → content, or a
    file of the host) on the guest's root disk, runs /setup there if that is one of them, and starts the guest's init."""
    image = directory / "initramfs"
    with open(image, "wb") as out:
        out.write(base_initramfs().read_bytes())
        out.write(bytes(-out.tell() % 4))  # the kernel looks for the next archive at multiples of four
        entries = {f"payload{path}": content for path, content in files.items()}
        out.write(cpio({"modules/order": drivers(needs)} | entries))
    return image


def base_initramfs():
    """The part that every guest has: busybox, all drivers, /init and the shell on the second serial port. Not packed:
    to unpack it takes an emulated processor a tenth of all that the kernel does before /init."""
    image = WORK / "initramfs"
    init, shell = INSIDE / "init", INSIDE / "guest-shell"
    newest_source = max(file.stat().st_mtime for file in (init, shell, Path(__file__)))
    if image.exists() and image.stat().st_mtime > newest_source:
        return image
    files, order = module_files(), []
    for name in (*EVERYWHERE, *(name for names in DRIVERS.values() for name in names)):
        load_order(name, files, order)
    entries = {"init": init, "bin/busybox": busybox(), "payload/usr/sbin/guest-shell": shell}
    entries |= {f"modules/{name}.ko": files[name] for name in order}
    written = image.with_suffix(f".{os.getpid()}")
    written.write_bytes(cpio(entries))
    written.rename(image)
    return image


@functools.cache
def module_files():
    """The kernel's modules: the name of each and its file."""
    _, modules = kernel()
    return {file.stem: file for file in modules.rglob("*.ko")}


def drivers(needs):
    """The modules that a guest loads, a line each: loading one costs an emulated processor up to a tenth of a second."""
    order = []
    for name in (*EVERYWHERE, *(name for need in sorted(needs) for name in DRIVERS.get(need, ()))):
        load_order(name, module_files(), order)
    return "".join(f"{name}\n" for name in order)


def load_order(name, files, order):
    """Appends a module to `order` behind those it depends on, as its .modinfo section names them."""
    _, _, rest = files[name].read_bytes().partition(b"\0depends=")
    for dependency in rest.partition(b"\0")[0].decode().split(","):
        if dependency and dependency.replace("-", "_") not in order:
            load_order(dependency if dependency in files else dependency.replace("_", "-"), files, order)
    if name not in order:
        order.append(name)


def cpio(entries):
    """A cpio archive in the kernel's "newc" form."""
    out = bytearray()

    def add(name, mode, content=b""):
        numbers = (0, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
        out.extend(b"070701" + b"".join(b"%08X" % number for number in numbers) + name.encode() + b"\0")
        out.extend(b"\0" * (-len(out) % 4))
        out.extend(content)
        out.extend(b"\0" * (-len(out) % 4))

    folders = set()
    for name, content in entries.items():
        for folder in reversed(Path(name).parents[:-1]):
            if folder not in folders:
                folders.add(folder)
                add(str(folder), 0o040755)
        if isinstance(content, Path) and content.is_symlink():
            add(name, 0o120777, os.readlink(content).encode())
        elif isinstance(content, Path):
            add(name, 0o100000 | content.stat().st_mode & 0o7777, content.read_bytes())
        else:
            # A text that starts as a script does is one.
            add(name, 0o100755 if content.startswith("#!") else 0o100644, content.encode())
    add("TRAILER!!!", 0)
    return bytes(out)


def tree(folder):
    """The files under a folder of the host, as `initramfs` takes them."""
    return {f"/{file.relative_to(folder)}": file for file in sorted(folder.rglob("*")) if not file.is_dir() or file.is_symlink()}


# Root disks


def root_disk(name):
    return minimal() if name == "minimal" else debian(name)


def minimal():
    """The root disk of a guest that is busybox and nothing else."""
    image = WORK / "minimal.img"
    if not image.exists():
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            root = Path(folder) / "root"
            for name in ("bin", "sbin", "usr/bin", "usr/sbin", "etc", "dev", "proc", "sys", "run", "tmp", "mnt", "var/log"):
                (root / name).mkdir(parents=True)
            (root / "var/run").symlink_to("/run")
            shutil.copy(busybox(), root / "bin")
            # Not by its --install, for which one must be root.
            for applet in run(*MACHINE.runs_here, busybox(), "--list-full").split():
                if applet != "bin/busybox":
                    (root / applet).symlink_to("/bin/busybox")
            written = Path(folder) / "image"
            filesystem("ext4", label="guest-root", size=64, contents=root)(written)
            written.rename(image)
    return image


DEBIAN = {
    "systemd": "systemd-sysv udev dbus kmod",
    "sysvinit": "sysvinit-core initscripts sysv-rc udev kmod procps inetutils-syslogd",
    "cloud-init": "systemd-sysv udev dbus kmod iproute2 cloud-init",
    "selinux": "systemd-sysv udev dbus kmod selinux-basics selinux-policy-default auditd policycoreutils selinux-utils",
}
# Nobody waits for these in a throw-away guest, and they take the processor from what is measured.
MASKED = "apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service"
MASKED += " fstrim.timer systemd-tmpfiles-clean.timer getty@tty1.service serial-getty@ttyS0.service"
CUSTOMIZE = f"""\
useradd --system --user-group --home-dir /nonexistent --shell /usr/sbin/nologin condor
passwd -d root
echo guest >/etc/hostname
echo 'LABEL=guest-root / ext4 defaults 0 0' >/etc/fstab
for unit in {MASKED}; do ln -sf /dev/null /etc/systemd/system/$unit; done
[ ! -e /lib/systemd/systemd ] || systemd-machine-id-setup
"""
FILE_CONTEXTS = "/etc/selinux/default/contexts/files/file_contexts"
# The kernel takes labels before it has a policy, and a host without SELinux as well.
MORE = {
    "selinux": f"""\
sed -i s/^SELINUX=.*/SELINUX=enforcing/ /etc/selinux/config
mount -t proc proc /proc
setfiles -F {FILE_CONTEXTS} /
umount /proc
"""
}


def debian(name):
    """The root disk of a Debian guest, made once from the mirror that apt is configured with."""
    suite = os_release()["VERSION_CODENAME"]
    customize = CUSTOMIZE + MORE.get(name, "")
    recipe = json.dumps([suite, DEBIAN[name], customize])
    image = WORK / f"debian-{name}-{hashlib.sha256(recipe.encode()).hexdigest()[:12]}.img"
    if image.exists():
        return image
    say(f"making the root disk of {image.stem} ({DEBIAN[name]})")
    with tempfile.TemporaryDirectory(dir=WORK) as folder:
        root = Path(folder) / "root"
        run(
            "mmdebstrap", "--mode=root", "--variant=minbase", "--quiet", f"--include={DEBIAN[name].replace(' ', ',')}",
            *(f"--dpkgopt=path-exclude=/usr/share/{docs}/*" for docs in ("doc", "man", "locale")),
            f"--customize-hook=chroot \"$1\" sh -ec '{customize.replace(chr(39), chr(34))}'",
            suite, root, *apt_sources(suite),
        )  # fmt: skip
        written = Path(folder) / "image"
        filesystem("ext4", label="guest-root", size=1024, contents=root)(written)
        written.rename(image)
    return image


def os_release():
    lines = Path("/etc/os-release").read_text().splitlines()
    return {key: value.strip('"') for key, _, value in (line.partition("=") for line in lines)}


def apt_sources(suite):
    """The lines of a sources.list for the Debian that this host's apt is configured with."""
    index = run(
        "apt-get", "indextargets", "--format", "deb $(REPO_URI) $(RELEASE) $(COMPONENT)",
        "Created-By: Packages", "Origin: Debian", f"Codename: {suite}",
    )  # fmt: skip
    lines = sorted({line for line in index.splitlines() if line.endswith(" main")})
    if not lines:
        raise RuntimeError(f"apt has no source for Debian {suite}; run apt-get update")
    return lines


@functools.cache
def installed():
    """What `make install` puts into a guest. In a folder of this run's own: another run may be reading its."""
    folder = Path(tempfile.mkdtemp(dir=WORK, prefix="installed-"))
    atexit.register(shutil.rmtree, folder)
    run("make", "install", f"TARGET={MACHINE.target}", f"DESTDIR={folder}", "PREFIX=/usr", cwd=REPOSITORY)
    return tree(folder)


@functools.cache
def enabled():
    """The links by which systemd starts what is installed. In a guest it takes `systemctl` more than a second to make
    them, each time."""
    folder = Path(tempfile.mkdtemp(dir=WORK, prefix="enabled-"))
    atexit.register(shutil.rmtree, folder)
    units = {path: file for path, file in installed().items() if path.startswith("/usr/lib/systemd/system/")}
    for path, file in units.items():
        (folder / path[1:]).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file, folder / path[1:])
    run("systemctl", f"--root={folder}", "--quiet", "enable", "vmstage.service", "vmstage-watch.service")
    return {path: file for path, file in tree(folder).items() if path not in units}


def package():
    """Debian's package. Cases run side by side, and only one of them makes it."""
    with PACKAGING:
        return packaged()


@functools.cache
def packaged():
    """Kept where the next `make dist` does not remove it."""
    run("make", "dist", f"TARGET={MACHINE.target}", cwd=REPOSITORY)
    (made,) = (REPOSITORY / "target" / "dist").glob(f"*_{MACHINE.debian}.deb")
    return Path(shutil.copy(made, WORK / "vmstage.deb"))


def prepare(names):
    """Makes what guests with these root disks need, so that none of them waits for another."""
    WORK.mkdir(parents=True, exist_ok=True)
    enabled()
    kernel()
    base_initramfs()
    for name in sorted(names):
        root_disk(name)


# Scratch disks: each of these returns a function that writes the image to a path


def filesystem(kind, label="", size=256, contents=None):
    """An ext2, ext3 or ext4 file system on the whole disk, with a copy of the folder `contents` in it."""

    def write(path):
        blank(size)(path)
        run(f"mkfs.{kind}", "-q", "-L", label, *(["-m0", "-d", contents] if contents else []), path)

    return write


def swap(size=64):
    def write(path):
        blank(size)(path)
        run("mkswap", path)

    return write


def blank(size=64):
    def write(path):
        with open(path, "wb") as disk:
            disk.truncate(size * MIB)

    return write


def corrupt(label=""):
    """An ext4 file system whose superblock is whole and whose group descriptors are not."""

    def write(path):
        filesystem("ext4", label)(path)
        with open(path, "r+b") as disk:
            disk.seek(1024)
            (log_block_size,) = struct.unpack_from("<I", disk.read(1024), 24)
            block = 1024 << log_block_size
            disk.seek(2 * block if block == 1024 else block)
            disk.write(b"\xff" * block)

    return write


def config_drive(meta_data):
    """A config drive as Nova makes it: ISO 9660 with the label config-2."""

    def write(path):
        with tempfile.TemporaryDirectory(dir=WORK) as folder:
            tree = Path(folder) / "openstack" / "latest"
            tree.mkdir(parents=True)
            (tree / "meta_data.json").write_text(json.dumps(meta_data))
            run("genisoimage", "-quiet", "-R", "-J", "-V", "config-2", "-o", path, folder)

    write.needs = "iso9660"
    return write


def debugfs(image, command):
    """What debugfs says about a file system that is not mounted."""
    return subprocess.run(
        ["debugfs", "-R", command, image], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True
    ).stdout


def fresh(folder):
    """An empty folder, whatever was there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
