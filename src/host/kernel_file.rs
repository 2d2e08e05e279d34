//! Reading files of `/proc` and `/sys`.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::libc::{O_NOCTTY, O_NONBLOCK};

/// The whole of a file that the kernel makes up as it is read. It says that its size is
/// 0, and std would begin with reads of 32 bytes, for each of which some kernels write
/// the text anew. A named pipe in its place holds nobody.
///
/// # Errors
///
/// Those of open(2) and read(2).
pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    content(&open(path)?)
}

/// Such a file, to be read with [`content`].
///
/// # Errors
///
/// Those of open(2).
pub(super) fn open(path: impl AsRef<Path>) -> io::Result<File> {
    File::options()
        .read(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY)
        .open(path)
}

/// What is left to be read of one.
///
/// # Errors
///
/// Those of read(2).
pub(super) fn content(file: &File) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(2048);
    // Through an adapter, of which std does not ask for size and place first.
    file.take(u64::MAX).read_to_end(&mut content)?;
    Ok(content)
}

/// Likewise, of a file that holds text.
///
/// # Errors
///
/// Those of [`read`], and that it is not UTF-8.
pub(crate) fn read_text(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

/// A UUID of random numbers that the kernel draws (random(4)); there since Linux 2.4. Unlike
/// `/dev/urandom` it needs no node, which may be missing, or anything.
///
/// # Errors
///
/// Those of [`read_text`].
pub(crate) fn random_uuid() -> io::Result<String> {
    let text = read_text("/proc/sys/kernel/random/uuid")?;
    match text.trim() {
        "" => Err(io::ErrorKind::InvalidData.into()),
        uuid => Ok(uuid.into()),
    }
}
