//! Writing a file so that a reader sees the old one or the new one, whole.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Replaces `path` by a file of this content and mode: a temporary file beside it
/// (its name begins with a dot: readers of `*.d` directories skip it), fsync, rename.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    put(path, content, mode, true)
}

/// `durable` waits until the content is on the disk.
fn put(path: &Path, content: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let temporary = temporary_beside(path)?;
    // One that a crash left behind, or a link that somebody laid there.
    remove_if_there(&temporary)?;
    let written =
        write_new(&temporary, content, mode, durable).and_then(|()| fs::rename(&temporary, path));
    if written.is_err() {
        // The error being reported says more than a failure to tidy up would.
        let _ = fs::remove_file(&temporary);
    }
    written
}

/// For what every boot writes anew: leaves a file alone that already has this content,
/// and does not wait for the disk. Says whether it wrote. What is there and is not a
/// regular file is somebody else's, and an error.
pub fn replace_if_changed(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(there) if !there.is_file() => {
            return Err(io::Error::new(
                ErrorKind::AlreadyExists,
                "what is there is not a regular file, and is left alone",
            ));
        }
        _ => {}
    }
    match fs::read(path) {
        Ok(present) if present == content => Ok(false),
        _ => put(path, content, mode, false).map(|()| true),
    }
}

/// Removes a file that may not be there. Says whether it was.
pub fn remove_if_there(path: &Path) -> io::Result<bool> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(false),
        Err(e) => Err(e),
    }
}

fn temporary_beside(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(ErrorKind::InvalidInput)?;
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    // Two processes may write the same file at once.
    hidden.push(format!(".{}.new", std::process::id()));
    Ok(path.with_file_name(hidden))
}

fn write_new(path: &Path, content: &[u8], mode: u32, durable: bool) -> io::Result<()> {
    let mut file: File = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    // The mode given to open is cut by the umask.
    file.set_permissions(fs::Permissions::from_mode(mode))?;
    file.write_all(content)?;
    if durable { file.sync_all() } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> PathBuf {
        let directory = std::env::temp_dir().join(format!("vmstage-{}-{name}", std::process::id()));
        fs::create_dir_all(&directory).unwrap();
        directory
    }

    #[test]
    fn a_replaced_file_has_the_content_and_mode_and_nothing_lies_beside_it() {
        let directory = scratch("replace");
        let file = directory.join("status.json");
        replace(&file, b"one", 0o600).unwrap();
        replace(&file, b"two", 0o644).unwrap();
        assert_eq!(fs::read(&file).unwrap(), b"two");
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o7777,
            0o644
        );
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_link_laid_at_the_temporary_name_is_not_written_through() {
        let directory = scratch("link");
        let victim = directory.join("victim");
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, temporary_beside(&directory.join("f")).unwrap())
            .unwrap();
        replace(&directory.join("f"), b"new", 0o644).unwrap();
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn a_link_or_a_directory_in_the_way_is_an_error_and_stays() {
        let directory = scratch("in-the-way");
        let (victim, link, folder) = (
            directory.join("victim"),
            directory.join("link"),
            directory.join("folder"),
        );
        fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, &link).unwrap();
        fs::create_dir(&folder).unwrap();
        for path in [&link, &folder] {
            replace_if_changed(path, b"new", 0o644).unwrap_err();
        }
        assert_eq!(fs::read_link(&link).unwrap(), victim);
        assert_eq!(fs::read(&victim).unwrap(), b"mine");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 3);
        fs::remove_dir_all(directory).unwrap();
    }

    #[test]
    fn an_unchanged_file_is_left_alone() {
        let directory = scratch("unchanged");
        let file = directory.join("f");
        assert!(replace_if_changed(&file, b"same", 0o644).unwrap());
        assert!(!replace_if_changed(&file, b"same", 0o644).unwrap());
        assert!(replace_if_changed(&file, b"other", 0o644).unwrap());
        fs::remove_dir_all(directory).unwrap();
    }
}
