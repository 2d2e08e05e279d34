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
    let mut content = Vec::with_capacity(2048);
    let file = File::options()
        .read(true)
        .custom_flags(O_NONBLOCK | O_NOCTTY)
        .open(path)?;
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
