//! Where the configuration is read from.

use std::io::ErrorKind;
use std::path::Path;

use crate::config::{Config, ConfigError};
use crate::host::Host;
use crate::host::regular_file::{self, MIB};

/// Where `vmstage` looks when no `--config` is given.
const DEFAULT_PATH: &str = "/etc/vmstage.toml";

/// Reads `given`, the file that the command line names, or [`DEFAULT_PATH`]. Only the latter
/// may be missing: then the defaults hold.
///
/// # Errors
///
/// What is wrong with it, in one line: file, line, key, and why.
pub(crate) fn load(host: &Host, given: Option<&Path>) -> Result<Config, ConfigError> {
    let file = given.map_or_else(|| host.path(DEFAULT_PATH), Path::to_path_buf);
    match regular_file::read(&file, MIB) {
        Ok(bytes) => Config::from_bytes(&bytes).map_err(|wrong| wrong.within(&file, &bytes)),
        // A link to nowhere was meant to lead somewhere.
        Err(e) if e.kind() == ErrorKind::NotFound && given.is_none() && !file.is_symlink() => {
            Ok(Config::default())
        }
        Err(e) => Err(ConfigError::unreadable(&file, &e)),
    }
}

#[cfg(test)]
mod tests {
    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn only_the_default_file_may_be_missing() {
        let tree = Tree::new(&[("etc/", "")]);
        assert_eq!(load(&tree.host(), None).unwrap(), Config::default());
        let missing = tree.root().join("nonexistent.toml");
        let error = load(&tree.host(), Some(&missing)).unwrap_err().to_string();
        assert!(error.contains("nonexistent.toml"), "{error}");
    }

    #[test]
    fn a_pipe_is_refused_and_dev_null_is_an_empty_file() {
        let tree = Tree::new(&[("etc/", "")]);
        let pipe = tree.host().path(DEFAULT_PATH);
        mkfifo(&pipe, Mode::S_IRWXU).unwrap();
        for given in [None, Some(pipe.as_path())] {
            let error = load(&tree.host(), given).unwrap_err().to_string();
            assert!(
                error.ends_with("vmstage.toml: it is a named pipe, not a regular file"),
                "{error}"
            );
        }
        let null = Path::new("/dev/null");
        assert_eq!(load(&tree.host(), Some(null)).unwrap(), Config::default());
    }

    #[test]
    fn an_error_names_the_file() {
        let tree = Tree::new(&[("etc/vmstage.toml", "\n[stagin]\n")]);
        let error = load(&tree.host(), None).unwrap_err().to_string();
        assert!(
            error.contains("etc/vmstage.toml, line 2: unknown field"),
            "{error}"
        );
    }
}
