//! How each kind of file system is mounted so that nothing is written.

/// A driver with options by which it writes nothing. Tried in turns.
pub(super) struct Way {
    pub(super) driver: &'static str,
    pub(super) data: &'static str,
    /// That it comes to this one shows that a log is to be replayed.
    pub(super) shows_pending: bool,
}

/// Without `noload` and its like a journal would be replayed, which a read-only device
/// refuses. The ext2 driver knows no such option and needs none; xfs shows by refusing to
/// mount without one that its log is not clean; btrfs calls it differently since Linux 5.9.
///
/// A superblock of ext2 to 4 may ask for a panic where the file system is damaged
/// (`tune2fs -e panic`), which Linux since 5.11 obeys on a read-only mount too.
pub(super) fn ways(filesystem: &str) -> Vec<Way> {
    let way = |driver, data| Way {
        driver,
        data,
        shows_pending: false,
    };
    match filesystem {
        "ext2" => vec![
            way("ext4", "noload,errors=continue"),
            way("ext3", "noload,errors=continue"),
            way("ext2", "errors=continue"),
        ],
        "ext3" | "ext4" => vec![
            way("ext4", "noload,errors=continue"),
            way("ext3", "noload,errors=continue"),
        ],
        "xfs" => vec![
            way("xfs", "nouuid"),
            Way {
                shows_pending: true,
                ..way("xfs", "nouuid,norecovery")
            },
        ],
        "btrfs" => vec![
            way("btrfs", "rescue=nologreplay"),
            way("btrfs", "norecovery"),
            way("btrfs", "nologreplay"),
        ],
        "vfat" => vec![way("vfat", "")],
        "ntfs" => vec![way("ntfs3", ""), way("ntfs", "")],
        "exfat" => vec![way("exfat", "")],
        "f2fs" => vec![
            way("f2fs", "norecovery"),
            way("f2fs", "disable_roll_forward"),
        ],
        "jfs" => vec![way("jfs", "")],
        "reiserfs" => vec![way("reiserfs", "nolog")],
        _ => Vec::new(),
    }
}

/// The options that select what is seen of a file system, one mount each: first what
/// mount(2) will show, given `staging.options`, then what may lie beside it. A btrfs shows
/// one of its subvolumes, and the others only at its top, which has the number 5.
pub(super) fn views(filesystem: &str, options: &[String]) -> Vec<String> {
    if filesystem != "btrfs" {
        return vec![String::new()];
    }
    let selects = |option: &&String| {
        let mut names = ["subvol=", "subvolid="].into_iter();
        names.any(|name| option.starts_with(name))
    };
    let selected: Vec<&str> = options.iter().filter(selects).map(|s| s.as_str()).collect();
    vec![selected.join(","), "subvolid=5".into()]
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a kernel without such an option it is not looked into: read-only alone promises
    /// nothing.
    #[test]
    fn what_has_a_journal_is_only_looked_into_with_an_option_that_leaves_it_alone() {
        let options = [
            "noload",
            "nologreplay",
            "norecovery",
            "nolog",
            "disable_roll_forward",
        ];
        for kind in ["ext3", "ext4", "btrfs", "f2fs", "reiserfs"] {
            assert!(!ways(kind).is_empty());
            for way in ways(kind) {
                let is_one = |option: &str| way.data.contains(option);
                assert!(
                    options.iter().any(|one| is_one(one)),
                    "{kind}: {}",
                    way.data
                );
            }
        }
        // What nobody has thought about.
        assert!(ways("zonefs").is_empty());
    }

    #[test]
    fn no_superblock_has_the_kernel_panic_over_a_look() {
        for kind in ["ext2", "ext3", "ext4"] {
            for way in ways(kind) {
                assert!(way.data.contains("errors=continue"), "{}", way.data);
            }
        }
    }

    #[test]
    fn of_btrfs_what_is_staged_is_seen_and_all_that_lies_beside() {
        assert_eq!(views("ext4", &["subvol=x".into()]), [""]);
        assert_eq!(views("btrfs", &["noatime".into()]), ["", "subvolid=5"]);
        let options = ["noatime".into(), "subvol=scratch".into()];
        assert_eq!(views("btrfs", &options), ["subvol=scratch", "subvolid=5"]);
    }
}
