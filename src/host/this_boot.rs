//! Files that count only in the boot that wrote them: `/var/run` may survive a reboot, and
//! `/var/lib` does.

use std::io::{self, ErrorKind};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Host;
use super::regular_file::{self, MIB};

/// A file of JSON, in which the kernel's identifier of the boot is the field `boot_id`.
pub(crate) struct ThisBoot<T> {
    path: PathBuf,
    boot_id: Option<String>,
    content: PhantomData<T>,
}

/// Larger ones are none of this program's.
const LARGEST: u64 = MIB;

#[derive(Deserialize)]
struct OfBoot {
    boot_id: String,
}

#[derive(Serialize)]
struct Written<'a, T> {
    boot_id: &'a str,
    #[serde(flatten)]
    content: &'a T,
}

impl<T> ThisBoot<T> {
    pub(crate) fn at(host: &Host, path: PathBuf) -> ThisBoot<T> {
        ThisBoot {
            path,
            boot_id: host.boot_id().ok(),
            content: PhantomData,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    fn boot_id(&self) -> Result<&str> {
        let id = self.boot_id.as_deref();
        id.context("nobody knows which boot this is; is /proc mounted?")
    }
}

impl<T: DeserializeOwned> ThisBoot<T> {
    /// What was written in this boot; None where nothing was.
    ///
    /// # Errors
    ///
    /// That it cannot be read, or not understood.
    pub(crate) fn read(&self) -> Result<Option<T>> {
        let text = match regular_file::read(&self.path, LARGEST) {
            Ok(text) => text,
            Err(e) if is_missing(&e) => return Ok(None),
            Err(e) => {
                return Err(e).with_context(|| format!("cannot read {}", self.path.display()));
            }
        };
        let damaged = || format!("{} is damaged", self.path.display());
        let boot_id = self.boot_id()?;
        // Version 0.1.0 wrote nothing but the id where there is nothing else to say.
        if text.trim_ascii() == boot_id.as_bytes() {
            return serde_json::from_slice(b"{}")
                .map(Some)
                .with_context(damaged);
        }
        // Another boot's may be of another version, and have other fields.
        let of: OfBoot = serde_json::from_slice(&text).with_context(damaged)?;
        if of.boot_id != boot_id {
            return Ok(None);
        }
        serde_json::from_slice(&text)
            .map(Some)
            .with_context(damaged)
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

impl<T: Serialize> ThisBoot<T> {
    /// The text of the file.
    ///
    /// # Errors
    ///
    /// That nobody knows which boot this is.
    pub(crate) fn text(&self, content: &T) -> Result<Vec<u8>> {
        let boot_id = self.boot_id()?;
        let mut text = serde_json::to_vec(&Written { boot_id, content })?;
        text.push(b'\n');
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::host::tree::Tree;

    const BOOT_ID: &str = "proc/sys/kernel/random/boot_id";

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Count {
        count: u32,
    }

    fn in_boot(tree: &Tree, id: &str) -> ThisBoot<Count> {
        fs::write(tree.root().join(BOOT_ID), id).unwrap();
        ThisBoot::at(&tree.host(), tree.root().join("file"))
    }

    #[test]
    fn what_was_written_counts_in_this_boot_only() {
        let tree = Tree::new(&[(BOOT_ID, "")]);
        let first = in_boot(&tree, "first\n");
        assert_eq!(first.read().unwrap(), None);
        let text = first.text(&Count { count: 7 }).unwrap();
        assert_eq!(text, b"{\"boot_id\":\"first\",\"count\":7}\n");
        fs::write(first.path(), text).unwrap();
        assert_eq!(first.read().unwrap(), Some(Count { count: 7 }));
        assert_eq!(in_boot(&tree, "second\n").read().unwrap(), None);
    }

    #[test]
    fn a_damaged_file_is_an_error_unless_it_is_another_boots() {
        let tree = Tree::new(&[(BOOT_ID, ""), ("file", "{")]);
        let error = in_boot(&tree, "first").read().unwrap_err().to_string();
        assert!(error.ends_with("/file is damaged"), "{error}");
        fs::write(tree.root().join("file"), r#"{"boot_id":"first"}"#).unwrap();
        in_boot(&tree, "first").read().unwrap_err();
        assert_eq!(in_boot(&tree, "second").read().unwrap(), None);
    }

    #[test]
    fn the_mere_id_that_0_1_0_wrote_is_understood() {
        #[derive(Debug, PartialEq, Deserialize)]
        struct Nothing {}
        let tree = Tree::new(&[(BOOT_ID, "first\n"), ("file", "first")]);
        let file = ThisBoot::at(&tree.host(), tree.root().join("file"));
        assert_eq!(file.read().unwrap(), Some(Nothing {}));
        in_boot(&tree, "first").read().unwrap_err();
    }

    #[test]
    fn without_a_boot_id_nothing_counts() {
        let tree = Tree::new(&[("file", r#"{"boot_id":"","count":7}"#)]);
        let file: ThisBoot<Count> = ThisBoot::at(&tree.host(), tree.root().join("file"));
        assert!(file.read().is_err() && file.text(&Count { count: 7 }).is_err());
    }
}
