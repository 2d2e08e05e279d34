//! `.depend.start` and `.depend.stop`, in the form of a makefile, which insserv(8) writes and
//! startpar(8) reads:
//!
//! ```text
//! TARGETS = rsyslog vmstage condor
//! INTERACTIVE =
//! vmstage: rsyslog
//! condor: vmstage
//! ```

const TARGETS: &str = "TARGETS =";

/// The services in such a file.
pub(crate) fn targets(text: &str) -> Vec<&str> {
    let line = text.lines().find_map(|line| line.strip_prefix(TARGETS));
    line.unwrap_or_default().split_whitespace().collect()
}

/// What has to be done before a service.
pub(crate) fn prerequisites<'a>(text: &'a str, service: &str) -> Vec<&'a str> {
    let names = text
        .lines()
        .filter_map(|line| names_before(line, service))
        .flat_map(str::split_whitespace);
    names.collect()
}

fn names_before<'a>(line: &'a str, service: &str) -> Option<&'a str> {
    let (name, names) = line.split_once(':')?;
    (name == service).then_some(names)
}

/// The text with a service among the targets: after `after`, and before `before`, of those
/// that are targets.
pub(crate) fn with(text: &str, service: &str, after: &[String], before: &[String]) -> String {
    let present = targets(text);
    let is_target = |name: &&String| present.contains(&name.as_str());
    let after: Vec<&String> = after.iter().filter(is_target).collect();
    let before: Vec<&String> = before.iter().filter(is_target).collect();
    let mut text = text.to_string();
    if !present.contains(&service) {
        let mut names: Vec<&str> = present.clone();
        let is_later = |name: &&str| before.iter().any(|later| later == name);
        let place = names.iter().position(is_later).unwrap_or(names.len());
        names.insert(place, service);
        let line = format!("{TARGETS} {}\n", names.join(" "));
        text = replace_line(&text, |line| line.starts_with(TARGETS), &line);
    }
    for name in after {
        text = require(&text, service, name);
    }
    for name in before {
        text = require(&text, name, service);
    }
    text
}

/// The text in which whatever waits for a service waits for all that the service waits for, too.
pub(crate) fn passed_on(text: &str, service: &str) -> String {
    let inherited = prerequisites(text, service);
    let lines = text.split_inclusive('\n').map(|line| {
        let Some((name, names)) = line.split_once(':') else {
            return line.to_string();
        };
        let mut names: Vec<&str> = names.split_whitespace().collect();
        if !names.contains(&service) || name == service {
            return line.to_string();
        }
        for other in &inherited {
            if !names.contains(other) && *other != name {
                names.push(other);
            }
        }
        format!("{name}: {}\n", names.join(" "))
    });
    lines.collect()
}

/// The text without a service.
pub(crate) fn without(text: &str, service: &str) -> String {
    let lines = text.split_inclusive('\n').map(|line| {
        let Some(at) = line.find([':', '=']) else {
            return line.to_string();
        };
        let (head, names) = line.split_at(at + 1);
        if head.strip_suffix(':') == Some(service) {
            return String::new();
        }
        if !names.split_whitespace().any(|name| name == service) {
            return line.to_string();
        }
        let is_kept = |name: &&str| *name != service;
        let kept: Vec<&str> = names.split_whitespace().filter(is_kept).collect();
        match kept.is_empty() && head.ends_with(':') {
            true => String::new(),
            false => format!("{head} {}\n", kept.join(" ")),
        }
    });
    lines.collect()
}

/// Whether a service waits for another, also by way of a third.
pub(crate) fn waits_for(text: &str, service: &str, other: &str) -> bool {
    let mut seen = vec![service];
    let mut next = 0;
    while let Some(service) = seen.get(next) {
        let new = prerequisites(text, service);
        let new: Vec<&str> = new
            .into_iter()
            .filter(|name| !seen.contains(name))
            .collect();
        seen.extend(new);
        next += 1;
    }
    seen[1..].contains(&other)
}

/// Has a service wait for another.
fn require(text: &str, service: &str, other: &str) -> String {
    if waits_for(text, service, other) {
        return text.to_string();
    }
    let mut names = prerequisites(text, service);
    names.push(other);
    let line = format!("{service}: {}\n", names.join(" "));
    replace_line(text, |line| names_before(line, service).is_some(), &line)
}

/// Replaces the first line of its kind, and adds one where there is none.
fn replace_line(text: &str, is_it: impl Fn(&str) -> bool, line: &str) -> String {
    let mut is_done = false;
    let lines = text.split_inclusive('\n').map(|old| {
        if is_done || !is_it(old) {
            return old;
        }
        is_done = true;
        line
    });
    let mut text: String = lines.collect();
    if !is_done {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    // What insserv 1.24 wrote in Debian 12, first without vmstage, then with it.
    const BEFORE: &str = "\
TARGETS = inetutils-syslogd killprocs bootlogs rmnologin single condor rc.local
INTERACTIVE =
single: killprocs
rc.local: condor inetutils-syslogd bootlogs rmnologin
";

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_comes_in_as_insserv_would_have_it_and_goes_again() {
        let syslog = names(&["inetutils-syslogd", "rsyslog"]);
        let later = names(&["condor", "rc.local", "elsewhere"]);
        let text = with(BEFORE, "vmstage", &syslog, &later);
        assert_eq!(
            text,
            "\
TARGETS = inetutils-syslogd killprocs bootlogs rmnologin single vmstage condor rc.local
INTERACTIVE =
single: killprocs
rc.local: condor inetutils-syslogd bootlogs rmnologin
vmstage: inetutils-syslogd
condor: vmstage
"
        );
        assert_eq!(with(&text, "vmstage", &syslog, &later), text);
        assert_eq!(prerequisites(&text, "condor"), ["vmstage"]);
        assert_eq!(without(&text, "vmstage"), BEFORE);
    }

    #[test]
    fn what_waits_by_way_of_another_waits_also_where_they_go_in_a_circle() {
        let text = "TARGETS = a b c\na: b\nb: c a\nc: b\n";
        for (service, other, waits) in [
            ("a", "b", true),
            ("a", "c", true),
            ("c", "d", false),
            ("d", "a", false),
        ] {
            assert_eq!(waits_for(text, service, other), waits, "{service} {other}");
        }
        // As insserv has it: rc.local waits for condor.
        let text = "TARGETS = rsyslog vmstage condor rc.local\nvmstage: rsyslog\n\
                    condor: vmstage\nrc.local: condor rsyslog\n";
        let later = names(&["condor", "rc.local"]);
        assert_eq!(with(text, "vmstage", &names(&["rsyslog"]), &later), text);
    }

    #[test]
    fn a_file_without_anything_gets_what_it_needs() {
        let text = with("", "vmstage", &[], &names(&["condor"]));
        assert_eq!(text, "TARGETS = vmstage\n");
        assert_eq!(without(&text, "vmstage"), "TARGETS = \n");
    }

    #[test]
    fn what_waits_for_a_service_can_wait_for_what_that_waits_for() {
        let text = "TARGETS = rsyslog cron vmstage condor\nINTERACTIVE =\nvmstage: rsyslog cron\n\
                    condor: cron vmstage\nother: rsyslog\n";
        let without = without(&passed_on(text, "vmstage"), "vmstage");
        let expected = "TARGETS = rsyslog cron condor\nINTERACTIVE =\ncondor: cron rsyslog\n\
                        other: rsyslog\n";
        assert_eq!(without, expected);
        let circle = "vmstage: condor\ncondor: vmstage\n";
        assert_eq!(passed_on(circle, "vmstage"), circle);
    }

    proptest::proptest! {
        #[test]
        fn whatever_the_lines_are_a_service_comes_in_once_and_goes_again(
            text in "(TARGETS = |[ab]:| a| b| condor|\n){0,30}"
        ) {
            let new = with(&text, "vmstage", &names(&["a"]), &names(&["condor"]));
            let again = with(&new, "vmstage", &names(&["a"]), &names(&["condor"]));
            proptest::prop_assert_eq!(&again, &new);
            proptest::prop_assert!(targets(&new).contains(&"vmstage"));
            proptest::prop_assert!(!without(&new, "vmstage").contains("vmstage"));
        }
    }

    #[test]
    fn a_service_waits_for_another_also_through_those_between() {
        let depend = "TARGETS = a b c\nc: b\nb: a\na: c\n";
        assert!(waits_for(depend, "c", "a"));
        assert!(!waits_for("c: b\n", "c", "a"));
        assert!(!waits_for("", "c", "c"));
    }
}
