//! Reading files that somebody else may have laid there.

use std::fs::{self, File, FileType};
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use memchr::memchr_iter;
use nix::libc::{ELOOP, ENXIO, O_NOCTTY, O_NOFOLLOW, O_NONBLOCK};
use nix::sys::stat::makedev;

use super::block_device::kind_in_words;
use super::silent;

pub(crate) const MIB: u64 = 1 << 20;

/// The whole of a regular file of at most so many bytes. A named pipe in its place cannot
/// hold the caller. `/dev/null`, to which people link what they turn off, is an empty file.
///
/// # Errors
///
/// Those of open(2) and read(2), that it is something else than a regular file, and that it
/// is too large.
pub(crate) fn read(path: &Path, at_most: u64) -> io::Result<Vec<u8>> {
    let try_it = &mut || drop(read_some(path, at_most, Links::Followed));
    if let Some(directory) = path.parent() {
        silent::see_that_it_answers(directory, try_it)?;
    }
    let content = match read_some(path, at_most, Links::Refused) {
        // A link may lead to where nobody answers.
        Err(e) if e.raw_os_error() == Some(ELOOP) => {
            silent::see_that_it_answers(path, try_it)?;
            read_some(path, at_most, Links::Followed)?
        }
        read => read?,
    };
    if content.len() as u64 > at_most {
        return Err(io::Error::new(
            ErrorKind::FileTooLarge,
            format!("it is larger than {at_most} bytes"),
        ));
    }
    Ok(content)
}

/// Likewise, of a file that holds text.
///
/// # Errors
///
/// Those of [`read`], and that it is not UTF-8.
pub(crate) fn read_text(path: &Path, at_most: u64) -> io::Result<String> {
    String::from_utf8(read(path, at_most)?).map_err(|e| io::Error::new(ErrorKind::InvalidData, e))
}

/// What becomes of a link in the place of the file.
#[derive(Debug, Clone, Copy)]
enum Links {
    Followed,
    /// With ELOOP.
    Refused,
}

/// Up to a byte more.
fn read_some(path: &Path, at_most: u64, links: Links) -> io::Result<Vec<u8>> {
    let (file, size) = open(path, links)?;
    // Room for all of it, and one byte to see that there is no more: std would begin with 32.
    let mut content = Vec::with_capacity(size.min(at_most) as usize + 1);
    file.take(at_most.saturating_add(1))
        .read_to_end(&mut content)?;
    Ok(content)
}

/// The file, and how many bytes are in it now.
fn open(path: &Path, links: Links) -> io::Result<(File, u64)> {
    let links = match links {
        Links::Followed => 0,
        Links::Refused => O_NOFOLLOW,
    };
    let opened = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY | links)
        .open(path);
    let file = opened.map_err(|e| match e.raw_os_error() {
        // Also of a device without a driver.
        Some(ENXIO) => match fs::metadata(path) {
            Ok(there) if there.file_type().is_socket() => not_regular(there.file_type()),
            _ => e,
        },
        _ => e,
    })?;
    let there = file.metadata()?;
    let is_null = there.file_type().is_char_device() && there.rdev() == makedev(1, 3);
    match there.is_file() || is_null {
        true => Ok((file, there.len())),
        false => Err(not_regular(there.file_type())),
    }
}

fn not_regular(kind: FileType) -> io::Error {
    io::Error::new(
        ErrorKind::InvalidInput,
        format!("it is {}, not a regular file", kind_in_words(kind)),
    )
}

/// Whether what was read has these bytes in it, of which there is one at least.
pub(crate) fn has(content: &[u8], part: &[u8]) -> bool {
    memchr_iter(part[0], content).any(|at| content[at..].starts_with(part))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::os::unix::net::UnixListener;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn what_is_in_a_program_is_found_also_at_its_ends() {
        for content in [
            "/run/motd.d",
            "\u{7f}ELF/run//run/motd.d",
            "\0/run/motd.d\0/run",
        ] {
            assert!(has(content.as_bytes(), b"/run/motd.d"), "{content:?}");
        }
        for content in [
            "",
            "/run/motd",
            "run/motd.d",
            "/run/mot\0/run/motd.",
            "\u{ff}/",
        ] {
            assert!(!has(content.as_bytes(), b"/run/motd.d"), "{content:?}");
        }
    }

    #[test]
    fn a_regular_file_is_read_up_to_its_largest_size() {
        let tree = Tree::new(&[("file", "12345")]);
        let file = tree.root().join("file");
        assert_eq!(read(&file, 5).unwrap(), b"12345");
        let error = read(&file, 4).unwrap_err().to_string();
        assert_eq!(error, "it is larger than 4 bytes");
        let missing = read(&tree.root().join("missing"), 5).unwrap_err();
        assert_eq!(missing.kind(), ErrorKind::NotFound);
    }

    #[test]
    fn what_is_no_regular_file_is_refused_and_holds_nobody() {
        let tree = Tree::new(&[("directory/", "")]);
        let (pipe, socket) = (tree.root().join("pipe"), tree.root().join("socket"));
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        let _listener = UnixListener::bind(&socket).unwrap();
        for (path, kind) in [
            (pipe, "a named pipe"),
            (socket, "a socket"),
            (tree.root().join("directory"), "a directory"),
            ("/dev/zero".into(), "a character device"),
        ] {
            let error = read(&path, MIB).unwrap_err().to_string();
            assert_eq!(error, format!("it is {kind}, not a regular file"));
        }
    }

    #[test]
    fn a_link_to_dev_null_is_an_empty_file() {
        let tree = Tree::new(&[]);
        let link = tree.root().join("off");
        symlink("/dev/null", &link).unwrap();
        assert_eq!(read(&link, MIB).unwrap(), b"");
    }
}
