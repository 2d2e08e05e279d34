//! Mount options and drivers.

use sys_mount::MountFlags;

/// Splits options as mount(8) does: those that are flags of mount(2), those that only
/// mount(8) and fstab(5) know, and the rest, which is the file system's.
pub(super) fn flags_and_data(options: &[String]) -> (MountFlags, String) {
    let mut flags = MountFlags::empty();
    let mut data = Vec::new();
    // What an option that only mount(8) knows stands for (mount(8), "user").
    let for_a_user = MountFlags::NOSUID | MountFlags::NODEV;
    for option in options {
        match option.as_str() {
            "nosuid" => flags |= MountFlags::NOSUID,
            "nodev" => flags |= MountFlags::NODEV,
            "noexec" => flags |= MountFlags::NOEXEC,
            "suid" => flags -= MountFlags::NOSUID,
            "dev" => flags -= MountFlags::NODEV,
            "exec" => flags -= MountFlags::NOEXEC,
            "user" | "users" => flags |= for_a_user | MountFlags::NOEXEC,
            "owner" | "group" => flags |= for_a_user,
            "silent" => flags |= MountFlags::SILENT,
            "sync" => flags |= MountFlags::SYNCHRONOUS,
            "dirsync" => flags |= MountFlags::DIRSYNC,
            "mand" => flags |= MountFlags::MANDLOCK,
            "noatime" => flags |= MountFlags::NOATIME,
            "nodiratime" => flags |= MountFlags::NODIRATIME,
            "relatime" => flags |= MountFlags::RELATIME,
            "strictatime" => flags |= MountFlags::STRICTATIME,
            "norelatime" | "nostrictatime" | "diratime" | "nomand" | "nolazytime" | "nouser"
            | "nousers" | "noowner" | "nogroup" | "defaults" | "rw" | "async" | "atime"
            | "loud" | "auto" | "noauto" | "nofail" | "_netdev" => {}
            other
                if ["x-", "X-", "comment="]
                    .iter()
                    .any(|own| other.starts_with(own)) => {}
            other => data.push(other),
        }
    }
    (flags, data.join(","))
}

/// ext2 and ext3 are mounted by the ext4 driver where the kernel has none of their own
/// (since Linux 2.6.29, and it need not have those names: CONFIG_EXT4_USE_FOR_EXT2).
pub(super) fn drivers(filesystem: &str) -> Vec<&str> {
    match filesystem {
        "ext2" | "ext3" => vec![filesystem, "ext4"],
        other => vec![other],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_split_as_mount_does() {
        let options = [
            "nosuid",
            "nodev",
            "noatime",
            "x-systemd.device-timeout=5",
            "defaults",
            "data=writeback",
            "nobarrier",
        ];
        let (flags, data) = flags_and_data(&options.map(String::from));
        assert_eq!(
            flags,
            MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOATIME
        );
        assert_eq!(data, "data=writeback,nobarrier");
    }

    #[test]
    fn the_last_of_two_options_holds_and_those_for_users_imply_others() {
        let flags = |options: &[&str]| {
            let options: Vec<String> = options.iter().map(ToString::to_string).collect();
            let (flags, data) = flags_and_data(&options);
            assert_eq!(data, "");
            flags
        };
        let (nosuid, nodev) = (MountFlags::NOSUID, MountFlags::NODEV);
        assert_eq!(flags(&["nosuid", "nodev", "suid"]), nodev);
        assert_eq!(flags(&["user"]), nosuid | nodev | MountFlags::NOEXEC);
        assert_eq!(flags(&["user", "exec"]), nosuid | nodev);
        assert_eq!(flags(&["owner", "X-mount.mkdir"]), nosuid | nodev);
        assert_eq!(flags(&["silent"]), MountFlags::SILENT);
    }
}
