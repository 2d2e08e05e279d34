//! Users and groups by name.
//!
//! The lists in `/etc` are read here, and those in `/usr/lib` where a system has them (ostree,
//! nss-altfiles): musl's look-up would ask nscd, and wait for one that does not answer. Accounts
//! that come from elsewhere (LDAP, sssd) are known to the guest's own `getent`.

use std::io::ErrorKind;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::bounded::Limit;
use super::regular_file::{self, MIB};
use super::{Host, program};
use crate::config::Account;
use crate::text;

/// For one question to `getent`, which may ask the network.
const LIMIT: Duration = Duration::from_secs(5);

/// A list of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Database {
    Users,
    Groups,
}

impl Database {
    fn name(self) -> &'static str {
        match self {
            Database::Users => "passwd",
            Database::Groups => "group",
        }
    }

    /// How many fields a line has (passwd(5), group(5)).
    fn fields(self) -> usize {
        match self {
            Database::Users => 7,
            Database::Groups => 4,
        }
    }

    /// What people call one, and the key of the configuration that names it.
    fn words(self) -> (&'static str, &'static str) {
        match self {
            Database::Users => ("user", "owner"),
            Database::Groups => ("group", "group"),
        }
    }
}

/// The accounts of a machine, as one run asks for them.
pub(crate) struct Accounts<'a> {
    host: &'a Host,
    limit: Duration,
    /// `getent` was not done in time: nobody waits for it again.
    is_silent: bool,
}

impl<'a> Accounts<'a> {
    pub(crate) fn of(host: &'a Host) -> Accounts<'a> {
        Accounts {
            host,
            limit: LIMIT,
            is_silent: false,
        }
    }

    /// The number of an account; root's where none is given.
    ///
    /// # Errors
    ///
    /// That nobody knows it, and who was asked.
    pub(crate) fn number(&mut self, database: Database, account: Option<&Account>) -> Result<u32> {
        let name = match account {
            None => return Ok(0),
            Some(Account::Number(number)) => return Ok(*number),
            Some(Account::Name(name)) => name,
        };
        let mut lists = String::new();
        for directory in ["/etc", "/usr/lib"] {
            let mut file = [directory, "/", database.name()].concat();
            match regular_file::read(&self.host.path(&file), 16 * MIB) {
                Ok(text) => {
                    if let Some(number) = number_in(&String::from_utf8_lossy(&text), name) {
                        return Ok(number);
                    }
                }
                // Few systems have lists in /usr/lib.
                Err(e) if e.kind() == ErrorKind::NotFound && directory != "/etc" => continue,
                Err(e) => file += &format!(" (which cannot be read: {e})"),
            }
            if !lists.is_empty() {
                lists += " and ";
            }
            lists += &file;
        }
        self.ask_getent(database, name).map_err(|why| {
            let (kind, key) = database.words();
            anyhow!(
                "there is no {kind} {name} in {lists}; getent {} {name} {why}; create it, or set the directory's {key}",
                database.name()
            )
        })
    }

    /// Asks the guest's `getent`. The error says what became of that.
    fn ask_getent(&mut self, database: Database, name: &str) -> Result<u32> {
        let Some(program) = program::find(self.host, "getent") else {
            bail!("could not be asked, for this system has none");
        };
        // What begins with a dash is an option, and no account.
        if self.is_silent || name.starts_with('-') {
            bail!("was not asked");
        }
        let mut command = Command::new(program);
        command.args([database.name(), name]);
        let done = program::run(command, Limit::after(self.limit));
        self.is_silent = done.is_err();
        let done = done?;
        match done.status.code() {
            Some(0) => answer_of(&done.stdout, database, name)
                .with_context(|| format!("answered {:?}", text::excerpt(&done.stdout))),
            // getent(1): "One or more supplied key could not be found".
            Some(2) => bail!("knows none"),
            _ => bail!("ended with {}", done.status),
        }
    }
}

/// The third field of the line that begins with this name (passwd(5), group(5)).
pub(crate) fn number_in(text: &str, name: &str) -> Option<u32> {
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(name)).then_some(())?;
        number_of(fields.nth(1)?)
    })
}

/// Of `getent`'s answer, which must be one whole line of this account.
fn answer_of(answer: &str, database: Database, name: &str) -> Option<u32> {
    let line = answer.strip_suffix('\n')?;
    let is_whole = !line.contains('\n') && line.split(':').count() == database.fields();
    number_in(line, name).filter(|_| is_whole)
}

/// The last number is chown(2)'s "leave as it is".
fn number_of(field: &str) -> Option<u32> {
    let is_plain = field.bytes().all(|byte| byte.is_ascii_digit());
    let number = field.parse().ok()?;
    (is_plain && number != u32::MAX).then_some(number)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::host::tree::Tree;

    #[test]
    fn an_account_is_the_line_that_begins_with_its_name() {
        let text = "# comment\nroot:x:0:0:root:/root:/bin/sh\ncondor2:x:7:7::/:\ncondor:x:64:65:HTCondor:/:/bin/false\n+::::::\nbroken\nodd:x:x:1\nplus:x:+5:5\nlast:x:4294967295:5\nlarge:x:4294967296:5\n";
        let cases = [
            ("root", Some(0)),
            ("condor", Some(64)),
            ("odd", None),
            ("broken", None),
            ("nobody", None),
            ("plus", None),
            ("last", None),
            ("large", None),
        ];
        for (name, expected) in cases {
            assert_eq!(number_in(text, name), expected, "{name}");
        }
    }

    #[test]
    fn an_answer_is_one_whole_line_of_the_account() {
        use Database::{Groups, Users};
        let cases = [
            (Users, "condor:x:64:65:HTCondor:/:/bin/false\n", Some(64)),
            (Users, "condor:*:64:65:::\n", Some(64)),
            (Groups, "condor:x:65:\n", Some(65)),
            (Groups, "condor:x:65:anna,ben\n", Some(65)),
            (Users, "", None),
            (Users, "\n", None),
            // What a pipe that broke leaves.
            (Users, "condor:x:64:65:HTCondor:/:/bin/fal", None),
            (Users, "condor:x:64:65:\n", None),
            (Groups, "condor:x:65:::::\n", None),
            (Users, "Condor:x:64:65:::\n", None),
            (Users, "condor@example.org:x:64:65:::\n", None),
            (Users, "condor:x:64:65:::\ncondor:x:66:65:::\n", None),
            (Users, "warning\ncondor:x:64:65:::\n", None),
            (Users, "condor:x:-1:65:::\n", None),
            (Users, "condor:x:4294967295:65:::\n", None),
            (Users, "condor:x::65:::\n", None),
            (Users, "condor:x:64 :65:::\n", None),
        ];
        for (database, answer, expected) in cases {
            let found = answer_of(answer, database, "condor");
            assert_eq!(found, expected, "{answer:?}");
        }
    }

    /// What becomes of the user condor where `getent` is this shell script, and how long it takes.
    fn asked(files: &[(&str, &str)], getent: Option<&str>) -> (Result<u32, String>, Duration) {
        let tree = Tree::new(files);
        if let Some(script) = getent {
            tree.script("usr/bin/getent", script);
        }
        let host = tree.host();
        let mut accounts = Accounts::of(&host);
        accounts.limit = Duration::from_millis(500);
        let account = Account::Name("condor".into());
        let start = Instant::now();
        let number = accounts.number(Database::Users, Some(&account));
        (number.map_err(|error| error.to_string()), start.elapsed())
    }

    const ETC: (&str, &str) = ("etc/passwd", "root:x:0:0::/root:/bin/sh\n");

    #[test]
    fn the_lists_are_read_in_turn_and_getent_is_asked_last() {
        let of = |number: u32| format!("condor:x:{number}:9::/:/bin/false\n");
        let (first, second) = (of(1), of(2));
        let (in_etc, in_usr) = (
            ("etc/passwd", first.as_str()),
            ("usr/lib/passwd", second.as_str()),
        );
        let getent = Some("echo $1 $2 >&2; echo condor:x:3:9::/:/bin/false");
        let cases: [(&[(&str, &str)], _, _); 5] = [
            (&[in_etc, in_usr], getent, 1),
            (&[ETC, in_usr], getent, 2),
            (&[in_usr], getent, 2),
            (&[ETC], getent, 3),
            (&[], getent, 3),
        ];
        for (files, getent, expected) in cases {
            assert_eq!(asked(files, getent).0, Ok(expected), "{files:?}");
        }
    }

    #[test]
    fn where_nobody_knows_it_the_error_says_who_was_asked() {
        const LINE: &str = "condor:x:3:9::/:/bin/false";
        let answers = |text: &str| format!("getent passwd condor answered {text};");
        let cases = [
            (
                None,
                "getent passwd condor could not be asked, for this system has none".to_string(),
            ),
            (
                Some("exit 2".to_string()),
                "getent passwd condor knows none".into(),
            ),
            (
                Some(format!("echo {LINE}; exit 2")),
                "getent passwd condor knows none".into(),
            ),
            (
                Some(format!("echo {LINE}; exit 1")),
                "getent passwd condor ended with exit status: 1".into(),
            ),
            (
                Some(format!("echo {LINE}; kill -9 $$")),
                "getent passwd condor ended with signal: 9 (SIGKILL)".into(),
            ),
            (
                Some("exec sleep 30".into()),
                "getent passwd condor was not done in time and was killed".into(),
            ),
            (
                Some(format!("echo {LINE}; exec sleep 30")),
                "getent passwd condor was not done in time and was killed".into(),
            ),
            (Some(":".into()), answers("\"\"")),
            (
                Some("echo anna:x:3:9::/:/bin/false".into()),
                answers("\"anna:x:3:9::/:/bin/false\u{fffd}\""),
            ),
            (
                Some(format!("yes {LINE}")),
                "getent passwd condor was not done in time and was killed".into(),
            ),
            (Some(format!("yes {LINE} | head -c 1000000")), String::new()),
        ];
        for (getent, expected) in cases {
            let (found, took) = asked(&[ETC], getent.as_deref());
            let said = found.unwrap_err();
            assert!(
                said.starts_with("there is no user condor in /etc/passwd; getent "),
                "{said}"
            );
            assert!(said.contains(&expected), "{getent:?}: {said}");
            assert!(
                said.ends_with("; create it, or set the directory's owner"),
                "{said}"
            );
            assert!(said.len() < 600, "{said}");
            assert!(took < Duration::from_secs(5), "{getent:?}: {took:?}");
        }
    }

    #[test]
    fn a_grandchild_that_keeps_the_output_open_is_not_waited_for() {
        let script = "sleep 30 & echo condor:x:3:9::/:/bin/false; sleep 0.1";
        let (found, took) = asked(&[ETC], Some(script));
        assert_eq!(found, Ok(3));
        assert!(took < Duration::from_millis(400), "{took:?}");
    }

    #[test]
    fn a_getent_that_was_silent_once_is_not_asked_again() {
        let script = "echo $2 >>${0%/*}/asked; case $2 in slow) exec sleep 30 ;; esac; echo $2:x:3:9::/:/bin/false";
        let tree = Tree::new(&[ETC]);
        tree.script("usr/bin/getent", script);
        let host = tree.host();
        let mut accounts = Accounts::of(&host);
        accounts.limit = Duration::from_millis(500);
        let names = ["a", "slow", "b"].map(|name| Account::Name(name.into()));
        let found = names
            .each_ref()
            .map(|name| accounts.number(Database::Users, Some(name)).ok());
        assert_eq!(found, [Some(3), None, None]);
        assert_eq!(tree.text("usr/bin/asked"), "a\nslow\n");
    }

    #[test]
    fn numbers_and_what_is_not_given_need_no_list() {
        let tree = Tree::new(&[]);
        let host = tree.host();
        let mut accounts = Accounts::of(&host);
        let number = Account::Number(7);
        assert_eq!(accounts.number(Database::Users, Some(&number)).unwrap(), 7);
        assert_eq!(accounts.number(Database::Groups, None).unwrap(), 0);
    }

    #[test]
    fn a_list_that_cannot_be_read_is_named_and_the_next_is_asked() {
        let (found, _) = asked(&[("etc/passwd/", ""), ("usr/lib/passwd/", "")], None);
        let said = found.unwrap_err();
        for list in ["/etc", "/usr/lib"] {
            let expected = format!(
                "{list}/passwd (which cannot be read: it is a directory, not a regular file)"
            );
            assert!(said.contains(&expected), "{said}");
        }
    }
}
