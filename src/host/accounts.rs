//! Users and groups by name.
//!
//! `/etc/passwd` and `/etc/group` are read here: musl's look-up would ask nscd, and wait for
//! one that does not answer. Accounts that come from elsewhere (LDAP, sssd) are known to the
//! guest's own `getent`.

use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::unistd::{Gid, Uid};

use super::bounded::Limit;
use super::regular_file::{self, MIB};
use super::{Host, program};
use crate::config::Account;

/// For one question to `getent`, which may ask the network.
const LIMIT: Duration = Duration::from_secs(5);

/// Where accounts of one kind are listed, and what people call one.
struct Database {
    name: &'static str,
    file: &'static str,
    kind: &'static str,
}

const USERS: Database = Database {
    name: "passwd",
    file: "/etc/passwd",
    kind: "user",
};

const GROUPS: Database = Database {
    name: "group",
    file: "/etc/group",
    kind: "group",
};

/// The number of a user.
///
/// # Errors
///
/// That nobody knows it, and who was asked.
pub(crate) fn user(host: &Host, account: &Account) -> Result<Uid> {
    number(host, account, &USERS).map(Uid::from_raw)
}

/// The number of a group.
///
/// # Errors
///
/// That nobody knows it, and who was asked.
pub(crate) fn group(host: &Host, account: &Account) -> Result<Gid> {
    number(host, account, &GROUPS).map(Gid::from_raw)
}

fn number(host: &Host, account: &Account, database: &Database) -> Result<u32> {
    let name = match account {
        Account::Number(number) => return Ok(*number),
        Account::Name(name) => name,
    };
    let (file, kind) = (database.file, database.kind);
    let text = regular_file::read(&host.path(file), 16 * MIB)
        .with_context(|| format!("cannot read {file}"))?;
    if let Some(number) = number_in(&String::from_utf8_lossy(&text), name) {
        return Ok(number);
    }
    let asked = ask_getent(host, name, database)
        .with_context(|| format!("there is no {kind} {name} in {file}, and getent"))?;
    match asked {
        Some(Some(number)) => Ok(number),
        Some(None) => bail!(
            "there is no {kind} {name} in {file}, and getent knows none; create it, or set the directory's {}",
            database.setting()
        ),
        None => bail!(
            "there is no {kind} {name} in {file}; create it, or set the directory's {}",
            database.setting()
        ),
    }
}

impl Database {
    fn setting(&self) -> &'static str {
        match self.name {
            "passwd" => "owner",
            _ => "group",
        }
    }
}

/// None where there is no `getent`, Some(None) where it knows no such account.
fn ask_getent(host: &Host, name: &str, database: &Database) -> Result<Option<Option<u32>>> {
    let Some(program) = program::find(host, "getent") else {
        return Ok(None);
    };
    let mut command = Command::new(program);
    command.args([database.name, name]).stdin(Stdio::null());
    let done = program::run(command, Limit::after(LIMIT))?;
    Ok(Some(number_in(&done.stdout, name)))
}

/// The third field of the line that begins with this name (passwd(5), group(5)).
pub(crate) fn number_in(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        fields.nth(1)?.parse().ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_the_line_that_begins_with_its_name() {
        let text = "# comment\nroot:x:0:0:root:/root:/bin/sh\ncondor2:x:7:7::/:\ncondor:x:64:65:HTCondor:/:/bin/false\n+::::::\nbroken\nodd:x:x:1\n";
        let cases = [
            ("root", Some(0)),
            ("condor", Some(64)),
            ("odd", None),
            ("broken", None),
            ("nobody", None),
        ];
        for (name, expected) in cases {
            assert_eq!(number_in(text, name), expected, "{name}");
        }
    }
}
