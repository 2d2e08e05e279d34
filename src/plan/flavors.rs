//! The flavors of a cloud, as `openstack flavor list --long --all -f json` prints them.

use serde_json::Value;

use super::input::{Document, Place};
use super::properties::{self, Properties};
use crate::resources::{MIB_PER_GIB, Request, size_in_words};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Flavor {
    pub(crate) name: String,
    pub(crate) cores: u64,
    pub(crate) memory_mib: u64,
    /// The ephemeral disk.
    pub(crate) scratch_mib: u64,
    /// 0: as large as the image, whatever that is.
    pub(crate) root_mib: u64,
    pub(crate) swap_mib: u64,
    /// None where the input has no such column.
    pub(super) properties: Option<Properties>,
    pub(crate) is_disabled: bool,
}

/// Reads lists of flavors, or single ones as `flavor show` prints them.
///
/// # Errors
///
/// What is wrong, with file and place.
pub(crate) fn read(documents: &[Document]) -> anyhow::Result<Vec<Flavor>> {
    let mut flavors = Vec::new();
    for document in documents {
        let root = document.root();
        match root.field(&["Name", "name"]) {
            Some(_) => flavors.push(flavor(&root)?),
            None => {
                for element in root.list("flavors")? {
                    flavors.push(flavor(&element)?);
                }
            }
        }
    }
    Ok(flavors)
}

/// Reads lists of flavors of which one is to be chosen.
///
/// # Errors
///
/// What is wrong, with file and place; and that there is none.
pub(crate) fn read_some(documents: &[Document]) -> anyhow::Result<Vec<Flavor>> {
    let flavors = read(documents)?;
    match (flavors.is_empty(), documents.first()) {
        (true, Some(document)) => Err(document.root().error("there is no flavor in it")),
        _ => Ok(flavors),
    }
}

/// That nobody knows which of them need hosts that have to be asked for.
pub(crate) fn without_properties(flavors: &[Flavor]) -> Option<String> {
    let without = |flavor: &&Flavor| flavor.properties.is_none();
    let number = flavors.iter().filter(without).count();
    (number > 0).then(|| {
        format!(
            "Properties is missing from {number} of {} flavors: which of them need a GPU, a trait or \
             dedicated hosts cannot be told; `openstack flavor list --long --all -f json` prints it",
            flavors.len()
        )
    })
}

/// Under the names that `flavor list` and `flavor show` have for them.
fn flavor(place: &Place) -> anyhow::Result<Flavor> {
    place.object("a flavor")?;
    let gib = |names: &[&str]| {
        let place = place.needed(names)?;
        let size = place.number("GiB")?.checked_mul(MIB_PER_GIB);
        size.ok_or_else(|| place.wrong("a number of GiB"))
    };
    // Older clients print "" for none.
    let swap = place.field(&["Swap", "swap"]);
    let swap = swap.filter(|swap| swap.value().as_str() != Some(""));
    const PROPERTIES: [&str; 2] = ["Properties", "properties"];
    let properties = match place.field(&PROPERTIES) {
        Some(place) => Some(properties::read(&place)?),
        None => place.has(&PROPERTIES).then(Vec::new),
    };
    let is_disabled = place.field(&["OS-FLV-DISABLED:disabled", "Disabled", "disabled"]);
    Ok(Flavor {
        name: place.needed(&["Name", "name"])?.text("a name")?.to_string(),
        cores: place.needed(&["VCPUs", "vcpus"])?.number("cores")?,
        memory_mib: place.needed(&["RAM", "ram"])?.number("MiB")?,
        scratch_mib: gib(&["Ephemeral", "OS-FLV-EXT-DATA:ephemeral", "ephemeral"])?,
        root_mib: gib(&["Disk", "disk"])?,
        swap_mib: swap.map_or(Ok(0), |swap| swap.number("MiB"))?,
        properties,
        is_disabled: is_disabled.is_some_and(|place| match place.value() {
            Value::String(text) => text.eq_ignore_ascii_case("true"),
            value => value == &Value::Bool(true),
        }),
    })
}

impl Flavor {
    /// Whether it can be launched, and needs no hosts that have to be asked for.
    pub(super) fn is_for_everybody(&self) -> bool {
        !self.is_disabled && !self.needs().any(|_| true)
    }

    /// What has to be asked for, as far as its properties are known.
    pub(super) fn needs(&self) -> impl Iterator<Item = &(String, String)> {
        let properties = self.properties.iter().flatten();
        properties.filter(|property| properties::is_a_need(property))
    }

    /// What its name says, where that is not so. A tenth more or less is no lie.
    pub(crate) fn lie(&self) -> Option<String> {
        let said = Request::from_name(&self.name)?;
        let parts = [
            ("memory", said.memory_mib, self.memory_mib),
            ("scratch", said.scratch_mib, self.scratch_mib),
            ("root disk", said.root_mib, self.root_mib),
        ];
        let is_wrong = |said: u64, is: u64| u128::from(said.abs_diff(is)) * 10 > u128::from(said);
        let mut wrong: Vec<String> = parts
            .into_iter()
            .filter_map(|(what, said, is)| {
                let said = said.filter(|said| is_wrong(*said, is))?;
                Some(format!(
                    "{} of {what}, and it has {}",
                    size_in_words(said),
                    size_in_words(is)
                ))
            })
            .collect();
        if let Some(cores) = said.cores.filter(|cores| *cores != self.cores) {
            wrong.insert(0, format!("{cores} cores, and it has {}", self.cores));
        }
        let wrong = wrong.join("; ");
        (!wrong.is_empty()).then(|| format!("the name of {} says {wrong}", self.name))
    }
}

#[cfg(test)]
pub(super) mod example {
    use super::Flavor;

    /// Without swap and properties.
    pub(crate) fn flavor(
        name: &str,
        memory_mib: u64,
        cores: u64,
        scratch_gib: u64,
        root_gib: u64,
    ) -> Flavor {
        Flavor {
            name: name.into(),
            cores,
            memory_mib,
            scratch_mib: scratch_gib * 1024,
            root_mib: root_gib * 1024,
            swap_mib: 0,
            properties: Some(Vec::new()),
            is_disabled: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flavors(json: &str) -> Result<Vec<Flavor>, String> {
        let documents = Document::parse_all("f.json", json.as_bytes());
        let read = documents.and_then(|documents| read_some(&documents));
        read.map_err(|e| format!("{e:#}"))
    }

    const OLD: &str = r#"[{"ID": "1", "Name": "m1024c1s10", "RAM": "1024", "Disk": 20,
        "Ephemeral": "10", "VCPUs": 1, "Is Public": true, "Swap": "", "RXTX Factor": "1.0",
        "Properties": "trait:CUSTOM_X='required'"}]"#;

    #[test]
    fn old_and_new_clients_say_the_same() {
        let new = OLD
            .replace("\"1024\"", "1024")
            .replace("\"\"", "0")
            .replace(
                "\"trait:CUSTOM_X='required'\"",
                r#"{"trait:CUSTOM_X": "required"}"#,
            );
        let show = r#"{"name": "m1024c1s10", "ram": 1024, "disk": 20, "vcpus": 1, "swap": 0,
            "OS-FLV-EXT-DATA:ephemeral": 10, "OS-FLV-DISABLED:disabled": false,
            "properties": {"trait:CUSTOM_X": "required"}}"#;
        let expected = Flavor {
            properties: Some(vec![("trait:CUSTOM_X".into(), "required".into())]),
            ..example::flavor("m1024c1s10", 1024, 1, 10, 20)
        };
        assert_eq!(
            flavors(OLD).unwrap()[..],
            std::slice::from_ref(&expected)[..]
        );
        assert_eq!(flavors(&new).unwrap(), flavors(OLD).unwrap());
        assert_eq!(
            flavors(&format!("{show}\n{show}")).unwrap(),
            [expected.clone(), expected]
        );
        for disabled in ["true", "\"True\""] {
            let show = show.replace(": false", &format!(": {disabled}"));
            assert!(flavors(&show).unwrap()[0].is_disabled);
        }
    }

    #[test]
    fn a_column_that_is_missing_is_not_one_that_is_empty() {
        let with = |from: &str, to: &str| flavors(&OLD.replace(from, to)).unwrap();
        let properties = "\"Properties\": \"trait:CUSTOM_X='required'\"";
        let short = with(&format!(",\n        {properties}"), "");
        assert_eq!(short[0].properties, None);
        let words = without_properties(&short).unwrap();
        assert!(words.starts_with("Properties is missing from 1 of 1 flavors"));
        for empty in ["null", "\"\"", "{}"] {
            let long = with(properties, &format!("\"Properties\": {empty}"));
            assert_eq!(long[0].properties, Some(Vec::new()), "{empty}");
            assert_eq!(without_properties(&long), None);
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (from, to, words) in [
            (
                "\"1024\"",
                "\"x\"",
                "f.json: [0].RAM: a number of MiB is expected, not \"x\"",
            ),
            (
                "\"1024\"",
                "-1",
                "f.json: [0].RAM: a number of MiB is expected, not -1",
            ),
            (
                "\"Ephemeral\"",
                "\"E\"",
                "f.json: [0]: Ephemeral is missing",
            ),
            (
                "\"10\"",
                "18446744073709551615",
                "[0].Ephemeral: a number of GiB is expected",
            ),
            ("\"m1024c1s10\"", "7", "[0].Name: a name is expected, not 7"),
            (
                "='required'",
                "=required",
                "[0].Properties: an object, or a text such as",
            ),
            (
                "\"\"",
                "[]",
                "[0].Swap: a number of MiB is expected, not a list",
            ),
        ] {
            let broken = OLD.replace(from, to);
            let error = flavors(&broken).unwrap_err();
            assert!(error.contains(words), "{broken}: {error}");
        }
        for (json, words) in [
            ("{}", "f.json: a list of flavors is expected, not an object"),
            ("[]", "f.json: there is no flavor in it"),
            (
                "[[]]",
                "f.json: [0]: a flavor, as an object, is expected, not a list",
            ),
            ("7", "f.json: a list of flavors is expected, not 7"),
        ] {
            assert_eq!(flavors(json).unwrap_err(), words, "{json}");
        }
    }

    #[test]
    fn a_name_that_says_something_else_is_told() {
        for (flavor, said) in [
            (example::flavor("m1024c1s10", 1024, 1, 10, 0), None),
            (example::flavor("c8-30gb-186", 30_000, 8, 180, 20), None),
            (example::flavor("m1.large", 1, 1, 0, 0), None),
            (example::flavor("SCS-2V-4-20", 4096, 2, 0, 20), None),
            (
                example::flavor("m1024c1s10", 1024, 1, 0, 20),
                Some("the name of m1024c1s10 says 10 GiB of scratch, and it has 0 MiB"),
            ),
            (
                example::flavor("SCS-2V-4-20", 2048, 1, 20, 0),
                Some(
                    "the name of SCS-2V-4-20 says 2 cores, and it has 1; 4 GiB of memory, and it \
                     has 2 GiB; 20 GiB of root disk, and it has 0 MiB",
                ),
            ),
            (
                example::flavor("m1024c1s0", 1024, 1, 1, 0),
                Some("the name of m1024c1s0 says 0 MiB of scratch, and it has 1 GiB"),
            ),
        ] {
            assert_eq!(flavor.lie().as_deref(), said);
        }
    }
}
