//! The links in the directories of the run levels, by which SysV init starts and stops.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::init::Init;
use super::root::Root;
use crate::host::regular_file::MIB;

/// The run levels, of which 2 to 5 are those that work is done in, and Debian's of the boot.
pub(crate) const LEVELS: [char; 8] = ['0', '1', '2', '3', '4', '5', '6', 'S'];

/// `S85vmstage` in the directory of a run level.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub level: char,
    pub action: Action,
    pub number: u8,
    pub service: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Action {
    Start,
    Stop,
}

impl Link {
    /// None for what init does not heed.
    pub(crate) fn parse(level: char, name: &str) -> Option<Link> {
        let action = match name.as_bytes().first()? {
            b'S' => Action::Start,
            b'K' => Action::Stop,
            _ => return None,
        };
        let number = name
            .get(1..3)
            .filter(|n| n.bytes().all(|b| b.is_ascii_digit()))?;
        Some(Link {
            level,
            action,
            number: number.parse().ok()?,
            service: name.get(3..).filter(|service| !service.is_empty())?.into(),
        })
    }

    /// Where it is.
    pub(crate) fn path(&self, init: Init) -> PathBuf {
        let letter = match self.action {
            Action::Start => 'S',
            Action::Stop => 'K',
        };
        let name = format!("{letter}{:02}{}", self.number, self.service);
        Path::new(&init.run_level(self.level)).join(name)
    }

    /// Whether it leads to the service's script, which need not be there yet; a script of its own
    /// in the directory is meant.
    pub(crate) fn leads_to_script(&self, root: &Root, init: Init) -> bool {
        let path = self.path(init);
        let script = Path::new(init.scripts()).join(&self.service);
        match (root.real_path(&path), root.real_path(&script)) {
            (Ok(real), Ok(script)) if real == script => true,
            _ => !matches!(root.link_text(&path), Ok(Some(_))),
        }
    }

    /// Whether a service is started by it in a level in which work is done.
    pub(crate) fn starts(&self, service: &str) -> bool {
        self.action == Action::Start && self.service == service && ('2'..='5').contains(&self.level)
    }
}

/// The run level that a system boots into.
pub(crate) fn default_level(root: &Root, init: Init) -> char {
    let of_inittab = root.text("/etc/inittab").lines().find_map(|line| {
        let mut fields = line.split(':').skip(1);
        let level = fields.next()?.chars().next()?;
        (fields.next()? == "initdefault" && !line.starts_with('#')).then_some(level)
    });
    of_inittab.unwrap_or(match init {
        Init::Chkconfig | Init::Suse => '3',
        _ => '2',
    })
}

/// All links of a system. A name that is no text is nobody's that is asked for.
///
/// # Errors
///
/// That a directory cannot be read.
pub(crate) fn links(root: &Root, init: Init) -> Result<Vec<Link>> {
    let mut links = Vec::new();
    for level in LEVELS {
        links.extend(links_of(root, init, level)?);
    }
    Ok(links)
}

/// Those of a run level.
///
/// # Errors
///
/// That its directory cannot be read.
pub(crate) fn links_of(root: &Root, init: Init, level: char) -> Result<Vec<Link>> {
    let directory = init.run_level(level);
    let names = root
        .names(directory.as_ref())
        .with_context(|| root.cannot("read", directory.as_ref()))?;
    let links = names
        .iter()
        .filter_map(|name| Link::parse(level, name.to_str()?));
    Ok(links.collect())
}

/// The number that a service is started with: the lowest, if levels differ.
pub(crate) fn start_number(links: &[Link], service: &str) -> Option<u8> {
    let starts = links.iter().filter(|link| link.starts(service));
    starts.map(|link| link.number).min()
}

/// The services that write the system's log, by their names.
pub(crate) fn writes_log(service: &str) -> bool {
    service.contains("syslog") || service == "sysklogd"
}

/// Whether a script's header (LSB) has it started after all others.
pub(crate) fn is_after_all(root: &Root, init: Init, service: &str) -> bool {
    let script = Path::new(init.scripts()).join(service);
    let content = root.read(&script, MIB).ok().flatten().unwrap_or_default();
    String::from_utf8_lossy(&content).lines().any(|line| {
        let needs = line.starts_with("# Required-Start:") || line.starts_with("# Should-Start:");
        needs && line.split_whitespace().any(|word| word == "$all")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_from_its_name_and_gives_it_back() {
        let link = Link::parse('3', "S85vmstage").unwrap();
        let path = Path::new("/etc/rc.d/rc3.d/S85vmstage");
        assert_eq!(link.path(Init::Chkconfig), path);
        assert_eq!(Link::parse('1', "K02condor").unwrap().action, Action::Stop);
        for name in ["README", "S8vmstage", "S85", "K", "Söö", "s85vmstage"] {
            assert_eq!(Link::parse('3', name), None, "{name}");
        }
    }
}
