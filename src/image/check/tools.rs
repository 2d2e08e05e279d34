//! Programs of the guest and drivers of its kernels that the configuration asks for.

use super::finding::Findings;
use super::finding::Severity::Warning;
use super::subject::Subject;
use crate::config::{Combine, Format, Spec};
use crate::host::regular_file::MIB;
use crate::image::files::CONFIGURATION;
use crate::image::root::Kind;

const PROGRAMS: [&str; 5] = ["/sbin", "/usr/sbin", "/bin", "/usr/bin", "/usr/local/sbin"];

fn has_program(subject: &Subject, name: &str) -> bool {
    let mut directories = PROGRAMS.iter();
    directories.any(|directory| {
        let path = format!("{directory}/{name}");
        let entry = subject.root.entry(path.as_ref()).ok().flatten();
        entry.is_some_and(|entry| entry.kind == Kind::File && entry.mode & 0o111 != 0)
    })
}

/// A blank disk stays blank without it.
pub(super) fn no_mkfs(subject: &Subject, found: &mut Findings) {
    let staging = &subject.config.staging;
    let name = format!("mkfs.{}", staging.filesystem);
    if staging.format != Format::Never && !has_program(subject, &name) {
        let what = format!("staging.format asks for {name} on a blank disk, and there is none");
        let cure =
            "install it (e2fsprogs, xfsprogs, btrfs-progs), or set staging.format = \"never\"";
        found.add(Warning, "no-mkfs", CONFIGURATION, what, cure);
    }
}

/// Nobody makes several disks one, or assembles an array that the configuration names.
pub(super) fn no_mdadm(subject: &Subject, found: &mut Findings) {
    let is_array = |spec: &&Spec| match spec {
        Spec::Name(path) => {
            path.starts_with("/dev/md") || path.to_string_lossy().starts_with("/dev/md")
        }
        Spec::Label(_) | Spec::Local => false,
    };
    let staging = &subject.config.staging;
    if has_program(subject, "mdadm") {
        return;
    }
    if staging.combine == Combine::Stripe && staging.format != Format::Never {
        let what = "staging.combine asks for mdadm to make several disks one, and there is none";
        let cure = "install mdadm, or set staging.combine = \"first\"";
        found.add(Warning, "no-mdadm", CONFIGURATION, what, cure);
    }
    if let Some(array) = staging.devices.iter().find(is_array) {
        let what =
            format!("staging.devices asks for {array}, and there is no mdadm to assemble it");
        found.add(Warning, "no-mdadm", CONFIGURATION, what, "install mdadm");
    }
}

/// What a scratch disk needs of a kernel, with the modules one of which does.
const DRIVERS: [(&str, &[&str]); 7] = [
    ("ext2", &["ext2", "ext4"]),
    ("ext3", &["ext3", "ext4"]),
    ("ext4", &["ext4", "ext4dev"]),
    ("vfat", &["vfat"]),
    ("virtio_blk", &["virtio_blk"]),
    ("xen-blkfront", &["xen_blkfront", "xen_vbd", "xenblk"]),
    ("nvme", &["nvme"]),
];

/// What several disks need besides to be one.
const OF_AN_ARRAY: (&str, &[&str]) = ("raid0", &["raid0"]);

/// The option of a kernel's configuration, where it has no list of what is built in.
fn option(module: &str) -> String {
    let name = match module {
        "ext2" | "ext3" | "ext4" | "vfat" => format!("{module}_fs"),
        "xen_blkfront" => "xen_blkdev_frontend".into(),
        "nvme" => "blk_dev_nvme".into(),
        "raid0" => "md_raid0".into(),
        other => other.into(),
    };
    format!("CONFIG_{}=y", name.to_ascii_uppercase())
}

/// For each kernel of the image.
pub(super) fn no_driver(subject: &Subject, found: &mut Findings) {
    let directory = ["/lib/modules", "/usr/lib/modules"]
        .into_iter()
        .find(|directory| !subject.paths_in(directory).is_empty());
    let kernels = directory.map(|directory| subject.paths_in(directory));
    for kernel in kernels.unwrap_or_default() {
        let read = |path: String| {
            let content = subject.root.read(path.as_ref(), 16 * MIB).ok().flatten();
            content.map(|content| String::from_utf8_lossy(&content).into_owned())
        };
        let release = kernel.rsplit('/').next().unwrap_or_default();
        let modules = read(format!("{kernel}/modules.dep"));
        let built_in = read(format!("{kernel}/modules.builtin"));
        let options = read(format!("/boot/config-{release}"));
        let Some(modules) = modules else {
            continue;
        };
        let is_known = built_in.is_some() || options.is_some();
        let built_in = built_in.unwrap_or_default();
        let options = options.unwrap_or_default();
        let is_there = |module: &&str| {
            has_module(&modules, module)
                || has_module(&built_in, module)
                || options.lines().any(|line| line == option(module))
        };
        let is_array = subject.config.staging.combine == Combine::Stripe;
        let needed = DRIVERS.iter().chain(is_array.then_some(&OF_AN_ARRAY));
        let missing = needed.filter(|(_, any)| !any.iter().any(is_there));
        let missing: Vec<&str> = missing.map(|(name, _)| *name).collect();
        if !missing.is_empty() {
            let missing = missing.join(", ");
            let what = match is_known {
                true => format!("this kernel has no driver for {missing}"),
                false => format!(
                    "this kernel has no module for {missing}, and nothing says whether that is \
                     built in (there is no modules.builtin, and no /boot/config-{release})"
                ),
            };
            let cure =
                "install the package with the rest of its modules, where such disks are to be used";
            found.add(Warning, "no-driver", kernel, what, cure);
        }
    }
}

/// Whether a list has a module by its file: `kernel/fs/ext4/ext4.ko.xz: …`.
fn has_module(list: &str, module: &str) -> bool {
    list.lines().any(|line| {
        let path = line.split(':').next().unwrap_or_default();
        let name = path.rsplit('/').next().unwrap_or_default();
        let name = name.split(".ko").next().unwrap_or_default();
        name.replace('-', "_") == module
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_found_by_its_file_however_it_is_packed_and_spelt() {
        let list = "kernel/fs/ext4/ext4.ko.xz: kernel/fs/jbd2/jbd2.ko.xz\n\
                    kernel/drivers/block/xen-blkfront.ko:\n/lib/modules/2.6.18/kernel/fs/vfat/vfat.ko: x";
        for (module, expected) in [
            ("ext4", true),
            ("xen_blkfront", true),
            ("vfat", true),
            ("jbd2", false),
            ("ext3", false),
        ] {
            assert_eq!(has_module(list, module), expected, "{module}");
        }
        assert_eq!(option("xen_blkfront"), "CONFIG_XEN_BLKDEV_FRONTEND=y");
        assert_eq!(option("ext4"), "CONFIG_EXT4_FS=y");
    }
}
