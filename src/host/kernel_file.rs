//! Reading files of `/proc` and `/sys`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// The whole of a file that the kernel makes up as it is read. It says that its size is
/// 0, and std would begin with reads of 32 bytes, for each of which some kernels write
/// the text anew.
///
/// # Errors
///
/// Those of open(2) and read(2).
pub(crate) fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(2048);
    // Through an adapter, of which std does not ask for size and place first.
    File::open(path)?.take(u64::MAX).read_to_end(&mut content)?;
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
