//! Machine/Job Features (HSF-TN-2016-02): one value a file, in a directory or below a
//! URL, named by the environment, by the instance's `meta` or by the configuration.

mod directory;
pub(crate) mod published;
mod session;

use std::collections::BTreeMap;
use std::time::Duration;

use super::NoAnswer;
use super::portion::Portion;
use crate::config::{self, FeaturesLocation};
use crate::deadline::limit::{self, Limit, When, whole_number};
use crate::deadline::origin::{LimitSource, Origin};
use crate::deadline::site_grace;
use crate::http::{Cause, Client};
use crate::text::excerpt;
use crate::url::shown;

pub(crate) use directory::Directories;
pub(crate) use session::{Places, Session};

const MACHINE_KEYS: [&str; 3] = ["shutdowntime", "grace_secs", "total_cpu"];

const JOB_KEYS: [&str; 6] = [
    "shutdowntime_job",
    "grace_secs_job",
    "wall_limit_secs",
    "jobstart_secs",
    "job_id",
    "allocated_cpu",
];

/// A grace longer than this is a mistake: no work would ever start.
const LONGEST_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// Where the features are, as far as somebody said.
#[derive(Debug, Clone, PartialEq, Default)]
pub(crate) struct Locations {
    pub(crate) machine: Option<FeaturesLocation>,
    pub(crate) job: Option<FeaturesLocation>,
}

/// What the environment says.
#[derive(Debug, Clone, Default)]
pub struct Environment {
    /// `$MACHINEFEATURES`.
    pub machine: Option<String>,
    /// `$JOBFEATURES`.
    pub job: Option<String>,
}

impl Environment {
    pub(crate) fn read() -> Environment {
        let variable = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
        Environment {
            machine: variable("MACHINEFEATURES"),
            job: variable("JOBFEATURES"),
        }
    }
}

/// The environment before the instance's `meta` before the configuration: what was said
/// nearest to this process holds. Where none of them names a place, sites put them into
/// `/etc` and say nothing. Also says what was passed over, and why.
pub(crate) fn locate(
    directories: &mut Directories,
    environment: &Environment,
    meta: &BTreeMap<String, String>,
    config: &config::Metadata,
) -> (Locations, Vec<String>) {
    let mut passed_over = Vec::new();
    let mut first =
        |candidates: [(&str, Option<FeaturesLocationText>); 3], usual: &str, keys: &[&str]| {
            if candidates.iter().all(|(_, location)| location.is_none()) {
                return directories
                    .has_others(usual.as_ref(), keys)
                    .then(|| FeaturesLocation::Directory(usual.into()));
            }
            candidates.into_iter().find_map(|(origin, location)| {
                match location?.and_then(|location| not_our_own(directories, location)) {
                    Ok(location) => Some(location),
                    Err(reason) => {
                        passed_over.push(format!("{origin}: {reason}; ignored"));
                        None
                    }
                }
            })
        };
    let text = |text: Option<&String>| text.cloned().map(FeaturesLocation::try_from);
    let machine = [
        ("$MACHINEFEATURES", text(environment.machine.as_ref())),
        ("machinefeatures in meta", text(meta.get("machinefeatures"))),
        (
            "metadata.machinefeatures",
            config.machinefeatures.clone().map(Ok),
        ),
    ];
    let job = [
        ("$JOBFEATURES", text(environment.job.as_ref())),
        ("jobfeatures in meta", text(meta.get("jobfeatures"))),
        ("metadata.jobfeatures", config.jobfeatures.clone().map(Ok)),
    ];
    let locations = Locations {
        machine: first(machine, published::MACHINE, &MACHINE_KEYS[..]),
        job: first(job, published::JOB, &JOB_KEYS[..]),
    };
    (locations, passed_over)
}

type FeaturesLocationText = Result<FeaturesLocation, String>;

/// Read back, an old deadline would confirm itself and never move.
fn not_our_own(
    directories: &mut Directories,
    location: FeaturesLocation,
) -> Result<FeaturesLocation, String> {
    match &location {
        FeaturesLocation::Directory(directory) if directories.is_own(directory) => {
            let shown = directory.display();
            Err(format!("{shown} is what vmstage itself publishes"))
        }
        _ => Ok(location),
    }
}

impl Locations {
    pub(crate) fn is_empty(&self) -> bool {
        *self == Locations::default()
    }

    /// As it is shown to people.
    pub(crate) fn place(&self) -> String {
        let places: Vec<String> = [&self.machine, &self.job]
            .into_iter()
            .flatten()
            .map(in_words)
            .collect();
        places.join(", ")
    }

    fn with_keys(&self) -> [(Option<&FeaturesLocation>, &'static [&'static str]); 2] {
        [
            (self.machine.as_ref(), &MACHINE_KEYS),
            (self.job.as_ref(), &JOB_KEYS),
        ]
    }
}

/// A place, as it is shown to people.
fn in_words(location: &FeaturesLocation) -> String {
    match location {
        FeaturesLocation::Url(url) => shown(url.as_written()),
        FeaturesLocation::Directory(directory) => directory.display().to_string(),
    }
}

/// How places are read: on which machine, through which client, and how much of them.
pub(crate) struct Reader<'a, 'h> {
    pub(crate) directories: &'a mut Directories<'h>,
    pub(crate) client: &'a Client,
    pub(crate) portion: Portion,
}

impl Reader<'_, '_> {
    /// None where there is no such key, which is the rule for most of them. Without a name
    /// of one it is the place itself.
    fn read(
        &mut self,
        location: &FeaturesLocation,
        key: &str,
    ) -> Result<Option<Vec<u8>>, NoAnswer> {
        match location {
            FeaturesLocation::Url(url) => self.read_url(&url_of(url.as_written(), key)),
            FeaturesLocation::Directory(directory) => self.directories.read(directory, key),
        }
    }

    fn read_url(&self, url: &str) -> Result<Option<Vec<u8>>, NoAnswer> {
        match self.client.get(url, &[], self.portion.until) {
            Ok(response) => Ok(Some(response.body)),
            Err(failure) if matches!(failure.cause, Cause::Status(404, _)) => Ok(None),
            Err(failure) => Err(NoAnswer::Http(failure)),
        }
    }
}

/// A query, which may be a signature, stays at the end.
fn url_of(place: &str, key: &str) -> String {
    let (path, query) = match place.find('?') {
        Some(at) => place.split_at(at),
        None => (place, ""),
    };
    format!("{}/{key}{query}", path.trim_end_matches('/'))
}

/// What the values of the known keys mean.
#[derive(Debug, PartialEq, Default)]
pub struct Understood {
    /// At most one of each key.
    pub limits: Vec<Limit>,
    /// The longer of the two, where there is one.
    pub grace: Option<Duration>,
    pub(crate) warnings: Vec<String>,
}

/// Reads the values of a place, by key.
pub fn understand(values: &BTreeMap<String, String>) -> Understood {
    let mut understood = Understood::default();
    let value = |key: &str| values.get(key).map(String::as_str);

    for key in ["shutdowntime", "shutdowntime_job"] {
        if let Some(text) = value(key) {
            let when = unix_seconds(text).map_or_else(When::Unusable, When::At);
            understood.limits.push(limit(key, when));
        }
    }
    if let Some(length) = value("wall_limit_secs") {
        let end = wall_limit(value("jobstart_secs"), length);
        understood.limits.push(limit("wall_limit_secs", end));
    }
    for key in site_grace::KEYS {
        match value(key).map(grace) {
            Some(Ok(grace)) => understood.grace = understood.grace.max(Some(grace)),
            Some(Err(reason)) => understood
                .warnings
                .push(format!("{key}: {reason}; ignored")),
            None => {}
        }
    }
    understood
}

/// Whether this can be the value of that key, or why not.
fn check(key: &str, text: &str) -> Result<(), String> {
    match key {
        "shutdowntime" | "shutdowntime_job" | "jobstart_secs" => unix_seconds(text).map(drop),
        "wall_limit_secs" if seconds(text)? == 0 => Err("it is zero".into()),
        "grace_secs" | "grace_secs_job" => grace(text).map(drop),
        "job_id" => match text.bytes().all(|b| b.is_ascii_graphic() && b != b'<') {
            true if !text.is_empty() => Ok(()),
            _ => Err(format!("{:?} is not an identifier", excerpt(text))),
        },
        _ => seconds(text).map(drop),
    }
}

fn grace(text: &str) -> Result<Duration, String> {
    match Duration::from_secs(seconds(text)?) {
        grace if grace <= LONGEST_GRACE => Ok(grace),
        grace => Err(format!("{} s is more than 30 days", grace.as_secs())),
    }
}

fn limit(key: &str, when: When) -> Limit {
    Limit::new(Origin::new(LimitSource::MachineFeatures, key), when)
}

fn seconds(text: &str) -> Result<u64, String> {
    whole_number(text).unwrap_or_else(|| Err(format!("{:?} is not a whole number", excerpt(text))))
}

fn unix_seconds(text: &str) -> Result<u64, String> {
    match limit::unix_seconds(text) {
        Some(_) => limit::instant(text),
        None => Err(format!("{:?} is not Unix seconds", excerpt(text))),
    }
}

fn wall_limit(start: Option<&str>, length: &str) -> When {
    let end = || {
        let start = start.ok_or("there is no jobstart_secs to count from")?;
        let start = unix_seconds(start).map_err(|reason| format!("jobstart_secs: {reason}"))?;
        match seconds(length)? {
            0 => Err("it is zero".into()),
            length => Ok(start.saturating_add(length)),
        }
    };
    match end() {
        Ok(end) => When::from_instant(&end.to_string()),
        Err(reason) => When::Unusable(reason),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Instant;

    use super::*;
    use crate::host::Host;
    use crate::metadata::portion::Pace;

    fn values<const N: usize>(pairs: [(&str, &str); N]) -> BTreeMap<String, String> {
        pairs.map(|(k, v)| (k.into(), v.into())).into()
    }

    fn directory(path: &str) -> Option<FeaturesLocation> {
        Some(FeaturesLocation::Directory(PathBuf::from(path)))
    }

    #[test]
    fn the_three_limits_are_read() {
        let understood = understand(&values([
            ("shutdowntime", "1795430460"),
            ("shutdowntime_job", "1795430000.25"),
            ("jobstart_secs", "1795000000.5"),
            ("wall_limit_secs", "3600"),
            ("total_cpu", "8"),
        ]));
        let whens: Vec<&When> = understood.limits.iter().map(|l| &l.when).collect();
        let expected = [1_795_430_460, 1_795_430_000, 1_795_003_600].map(When::At);
        assert_eq!(whens, expected.iter().collect::<Vec<_>>());
        assert_eq!(understood.warnings, [""; 0]);
    }

    #[test]
    fn a_value_that_is_no_number_of_that_kind_is_no_limit() {
        let wrong = [
            "",
            "-1",
            "1.5",
            "soon",
            "1e10",
            "0x10",
            "2026-11-23T10:41:00Z",
        ];
        for text in wrong {
            for key in ["shutdowntime", "shutdowntime_job", "wall_limit_secs"] {
                let start = ("jobstart_secs", "1795000000");
                let understood = understand(&values([(key, text), start]));
                let when = &understood.limits[0].when;
                assert!(
                    matches!(when, When::Unusable(_)),
                    "{key}={text:?}: {when:?}"
                );
            }
        }
    }

    #[test]
    fn a_wall_limit_needs_a_start_and_a_length() {
        let cases = [
            (None, "3600", "there is no jobstart_secs"),
            (
                Some("x"),
                "3600",
                "jobstart_secs: \"x\" is not Unix seconds",
            ),
            (Some("0"), "3600", "jobstart_secs: 0 is 1970"),
            (Some("1795000000"), "0", "it is zero"),
            (
                Some("1795000000"),
                "18446744073709551615",
                "too large|after the year 9999",
            ),
        ];
        for (start, length, expected) in cases {
            let When::Unusable(reason) = wall_limit(start, length) else {
                panic!("{start:?} + {length} is a limit");
            };
            let found = expected.split('|').any(|e| reason.contains(e));
            assert!(found, "{start:?} + {length}: {reason}");
        }
        assert_eq!(
            understand(&values([("jobstart_secs", "5")])),
            Understood::default()
        );
    }

    #[test]
    fn the_longer_grace_holds_and_nonsense_is_a_warning() {
        let grace = |machine, job| {
            let understood =
                understand(&values([("grace_secs", machine), ("grace_secs_job", job)]));
            (
                understood.grace.map(|g| g.as_secs()),
                understood.warnings.len(),
            )
        };
        assert_eq!(grace("600", "3600"), (Some(3600), 0));
        assert_eq!(grace("3600", "600"), (Some(3600), 0));
        assert_eq!(grace("-1", "600"), (Some(600), 1));
        assert_eq!(grace("99999999999", "x"), (None, 2));
        assert_eq!(understand(&values([])).grace, None);
    }

    #[test]
    fn the_environment_comes_before_meta_before_the_configuration() {
        let environment = Environment {
            machine: Some("/env".into()),
            job: None,
        };
        let meta = values([("machinefeatures", "/meta"), ("jobfeatures", "/metajob")]);
        let config = config::Metadata {
            machinefeatures: directory("/config"),
            jobfeatures: directory("/configjob"),
            ..config::Metadata::default()
        };
        let nowhere = Host::at("/nonexistent");
        let located = |environment: &Environment, meta: &BTreeMap<_, _>| {
            locate(&mut Directories::new(&nowhere), environment, meta, &config).0
        };
        let nothing = Environment::default();
        assert_eq!(located(&environment, &meta).machine, directory("/env"));
        assert_eq!(located(&environment, &meta).job, directory("/metajob"));
        assert_eq!(located(&nothing, &meta).machine, directory("/meta"));
        assert_eq!(located(&nothing, &values([])).machine, directory("/config"));
        assert_eq!(located(&nothing, &values([])).job, directory("/configjob"));
    }

    #[test]
    fn a_key_is_put_before_the_query_of_its_place() {
        for (place, url) in [
            ("http://host", "http://host/key"),
            ("http://host/mf//", "http://host/mf/key"),
            ("http://host/mf/?sig=a/", "http://host/mf/key?sig=a/"),
        ] {
            assert_eq!(url_of(place, "key"), url);
        }
    }

    #[test]
    fn what_vmstage_publishes_is_not_read_back() {
        let path = std::env::temp_dir().join(format!("vmstage-own-{}", std::process::id()));
        let (own, providers) = (path.join("own"), path.join("providers"));
        for directory in [&own, &providers] {
            std::fs::create_dir_all(directory).unwrap();
        }
        std::fs::write(own.join(published::MARK), "").unwrap();
        let environment = Environment {
            machine: Some(format!("{}/", own.display())),
            job: Some(providers.display().to_string()),
        };
        let config = config::Metadata::default();
        let (locations, passed_over) = locate(
            &mut Directories::new(&Host::this_machine()),
            &environment,
            &values([]),
            &config,
        );
        assert_eq!(locations.machine, None);
        assert_eq!(locations.job, Some(FeaturesLocation::Directory(providers)));
        assert_eq!(passed_over.len(), 1);
        assert!(passed_over[0].starts_with("$MACHINEFEATURES: "));
        assert!(passed_over[0].contains("is what vmstage itself publishes"));
        std::fs::remove_dir_all(path).unwrap();
    }

    #[test]
    fn a_location_that_is_none_is_said_and_the_next_one_counts() {
        let meta = values([
            ("machinefeatures", "https://x/"),
            ("jobfeatures", "relative"),
        ]);
        let config = config::Metadata {
            machinefeatures: directory("/config"),
            ..config::Metadata::default()
        };
        let (locations, passed_over) = locate(
            &mut Directories::new(&Host::at("/nonexistent")),
            &Environment::default(),
            &meta,
            &config,
        );
        assert_eq!(locations.machine, directory("/config"));
        assert_eq!(locations.job, None);
        assert_eq!(passed_over.len(), 2);
    }

    #[test]
    fn features_are_read_from_a_directory_and_a_pipe_does_not_hold_it() {
        let path = std::env::temp_dir().join(format!("vmstage-mjf-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        std::fs::write(path.join("shutdowntime"), "1795430460\n").unwrap();
        std::fs::write(path.join("grace_secs"), "900").unwrap();
        nix::unistd::mkfifo(&path.join("total_cpu"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let locations = Locations {
            machine: Some(FeaturesLocation::Directory(path.clone())),
            job: None,
        };
        let client = Client::new(Duration::from_secs(1), crate::host::resolve::addresses);
        let host = Host::this_machine();
        let mut reader = Reader {
            directories: &mut Directories::new(&host),
            client: &client,
            portion: Portion::new(Pace::Whole, Instant::now(), Duration::ZERO),
        };
        let mut session = Session::default();
        let answer = session
            .ask(&locations, &[], Places::All, &mut reader)
            .unwrap();
        assert_eq!(answer.limits[0].when, When::At(1_795_430_460));
        assert_eq!(answer.grace, Some(Duration::from_secs(900)));
        let warning = answer.warnings.join(" ");
        assert!(
            warning.contains("total_cpu: it is a named pipe, not a regular file"),
            "{warning}"
        );
        std::fs::remove_dir_all(&path).unwrap();

        reader.directories.begin_round();
        let gone = session.ask(&locations, &[], Places::All, &mut reader);
        let Err(NoAnswer::Local(why)) = gone else {
            panic!("a missing directory is an answer");
        };
        assert!(why.contains("No such file"), "{why}");
        assert_eq!(session.limits(), answer.limits);
    }

    #[test]
    fn the_usual_place_is_read_where_nobody_names_one_and_others_have_put_files_there() {
        use crate::host::tree::Tree;

        let mark = "# head\nshutdowntime 1\ngrace_secs 600\n";
        let etc = |name: &str| format!("etc/machinefeatures/{name}");
        let (end, grace, own) = (etc("shutdowntime"), etc("grace_secs"), etc(".vmstage"));
        type Files<'a> = &'a [(&'a str, &'a str)];
        let cases: [(Files, bool); 6] = [
            (&[], false),
            (&[("etc/machinefeatures/", "")], false),
            (&[("etc/machinefeatures/README", "x")], false),
            (&[(&end, "1795430460\n")], true),
            (&[(&own, mark), (&end, "1"), (&grace, "600")], false),
            (&[(&own, mark), (&end, "1"), (&grace, "900")], true),
        ];
        let nothing = Environment::default();
        let config = config::Metadata::default();
        for (files, is_read) in cases {
            let tree = Tree::new(files);
            let host = tree.host();
            let (locations, passed_over) =
                locate(&mut Directories::new(&host), &nothing, &values([]), &config);
            let usual = directory("/etc/machinefeatures").filter(|_| is_read);
            assert_eq!(
                (locations.machine, locations.job),
                (usual, None),
                "{files:?}"
            );
            assert_eq!(passed_over, [""; 0]);
        }
        // Of both only what others wrote.
        let tree = Tree::new(cases[5].0);
        let host = tree.host();
        let mut directories = Directories::new(&host);
        let mut read = |key| directories.read(published::MACHINE.as_ref(), key).unwrap();
        assert_eq!(read("shutdowntime"), None);
        assert_eq!(read("grace_secs").as_deref(), Some(&b"900"[..]));
        // Somebody names another place.
        let meta = values([("machinefeatures", "/elsewhere")]);
        let (locations, _) = locate(&mut directories, &nothing, &meta, &config);
        assert_eq!(locations.machine, directory("/elsewhere"));
    }
}
