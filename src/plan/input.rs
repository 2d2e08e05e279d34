//! What other programs printed, read so that an error says where and what was expected.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use anyhow::{Context, anyhow};
use serde_json::{Map, Value};

use crate::text;

/// A cloud of ten thousand images prints 30 MiB.
const MOST_BYTES: u64 = 64 << 20;

/// What is read, as people call it; `-` is standard input.
pub(crate) fn name(file: &Path) -> String {
    match file.as_os_str() == "-" {
        true => "standard input".into(),
        false => text::printable(&file.to_string_lossy()),
    }
}

/// Opens a file, a pipe (`<(openstack …)`) or, for `-`, standard input.
///
/// # Errors
///
/// Those of open(2), with the file's name.
pub(crate) fn open(file: &Path) -> anyhow::Result<Box<dyn Read>> {
    if file.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let opened = File::open(file).with_context(|| format!("cannot open {}", name(file)))?;
    Ok(Box::new(opened))
}

/// A value that is neither a list nor an object nor a string, as JSON has it.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(number), _, _) => number.to_string(),
            (_, Some(number), _) => number.to_string(),
            (_, _, number) => format!("{:.6}", number.unwrap_or_default()),
        },
        Value::Bool(true) => "true".into(),
        Value::Bool(false) => "false".into(),
        Value::Array(_) => "[]".into(),
        Value::Object(_) => "{}".into(),
        Value::Null | Value::String(_) => "null".into(),
    }
}

/// What a file holds.
pub(crate) struct Document {
    name: String,
    value: Value,
}

impl Document {
    /// Reads the one document of a file, or of standard input for `-`.
    ///
    /// # Errors
    ///
    /// That it cannot be read, and that it is not one JSON document, and what it may be instead.
    pub(crate) fn read(file: &Path) -> anyhow::Result<Document> {
        let mut documents = Document::read_all(file)?;
        match (documents.pop(), documents.is_empty()) {
            (Some(document), true) => Ok(document),
            _ => Err(anyhow!(
                "{}: one JSON document is expected, and there are several",
                name(file)
            )),
        }
    }

    /// Reads all documents of a file, one after the other, such as several `server show` print.
    ///
    /// # Errors
    ///
    /// Likewise, and that there is none.
    pub(crate) fn read_all(file: &Path) -> anyhow::Result<Vec<Document>> {
        let mut bytes = Vec::new();
        let read = open(file)?.take(MOST_BYTES + 1).read_to_end(&mut bytes);
        read.with_context(|| format!("cannot read {}", name(file)))?;
        if bytes.len() as u64 > MOST_BYTES {
            return Err(anyhow!("{}: it is larger than 64 MiB", name(file)));
        }
        Document::parse_all(&name(file), &bytes)
    }

    /// Likewise, of bytes that were read already.
    ///
    /// # Errors
    ///
    /// What is wrong with it, with its name and the place in it.
    pub(crate) fn parse_all(name: &str, bytes: &[u8]) -> anyhow::Result<Vec<Document>> {
        // What PowerShell puts before a text.
        let bytes = bytes.strip_prefix("\u{feff}".as_bytes()).unwrap_or(bytes);
        let instead = match bytes.trim_ascii_start().first() {
            None => Some("it is empty; did the command that was to print it fail?"),
            Some(b'<') => {
                Some("JSON is expected, and it is HTML or XML, as a proxy or a login page gives it")
            }
            Some(b'+' | b'|') => Some("JSON is expected, and it is a table; add -f json"),
            _ => None,
        };
        if let Some(instead) = instead {
            return Err(anyhow!("{name}: {instead}"));
        }
        let values = serde_json::Deserializer::from_slice(bytes).into_iter::<Value>();
        let mut documents = Vec::new();
        for value in values {
            let value = value.map_err(|e| anyhow!("{name}: it is not JSON: {e}"))?;
            let many = !documents.is_empty();
            documents.push(Document {
                name: match many {
                    true => format!("{name} ({}.)", documents.len() + 1),
                    false => name.to_string(),
                },
                value,
            });
        }
        Ok(documents)
    }

    pub(crate) fn root(&self) -> Place<'_> {
        Place {
            document: &self.name,
            path: String::new(),
            value: &self.value,
        }
    }
}

/// A value, and where it is.
#[derive(Clone)]
pub(crate) struct Place<'a> {
    document: &'a str,
    /// From the document's root: `[3].RAM`.
    path: String,
    value: &'a Value,
}

impl<'a> Place<'a> {
    pub(crate) fn value(&self) -> &'a Value {
        self.value
    }

    /// The elements of a list.
    ///
    /// # Errors
    ///
    /// That it is none: `flavors.json: a list of flavors is expected, not an object`.
    pub(crate) fn list(&self, of_what: &str) -> anyhow::Result<Vec<Place<'a>>> {
        let Value::Array(elements) = self.value else {
            return Err(self.wrong(&format!("a list of {of_what}")));
        };
        let element = |(at, value)| Place {
            document: self.document,
            path: format!("{}[{at}]", self.path),
            value,
        };
        Ok(elements.iter().enumerate().map(element).collect())
    }

    /// The entries of an object.
    ///
    /// # Errors
    ///
    /// That it is none: `image.json: an image, as an object, is expected, not a list`.
    pub(crate) fn object(&self, what: &str) -> anyhow::Result<&'a Map<String, Value>> {
        let object = self.value.as_object();
        object.ok_or_else(|| self.wrong(&format!("{what}, as an object,")))
    }

    /// A field of an object under the first of these names that it has; null and missing are
    /// the same.
    pub(crate) fn field(&self, names: &[&str]) -> Option<Place<'a>> {
        let object = self.value.as_object()?;
        names.iter().find_map(|name| {
            let value = object.get(*name).filter(|value| !value.is_null())?;
            Some(Place {
                document: self.document,
                path: match self.path.is_empty() {
                    true => (*name).to_string(),
                    false => format!("{}.{name}", self.path),
                },
                value,
            })
        })
    }

    /// Whether it has a field under one of these names, be it null: `list` without `--long`
    /// prints fewer columns.
    pub(crate) fn has(&self, names: &[&str]) -> bool {
        let object = self.value.as_object();
        object.is_some_and(|object| names.iter().any(|name| object.contains_key(*name)))
    }

    /// A field that has to be there.
    ///
    /// # Errors
    ///
    /// That it is missing: `flavors.json: [3]: RAM is missing`.
    pub(crate) fn needed(&self, names: &[&str]) -> anyhow::Result<Place<'a>> {
        self.field(names)
            .ok_or_else(|| self.error(&format!("{} is missing", names[0])))
    }

    /// A whole number that is not negative, also where it is written as a string.
    ///
    /// # Errors
    ///
    /// `flavors.json: [3].RAM: a number of MiB is expected, not "x"`.
    pub(crate) fn number(&self, of_what: &str) -> anyhow::Result<u64> {
        let number = match self.value {
            Value::Number(number) => number.as_u64().or_else(|| {
                // Some clients print 1024.0.
                let whole = number.as_f64().filter(|number| {
                    number.fract() == 0.0 && (0.0..9_007_199_254_740_992.0).contains(number)
                })?;
                Some(whole as u64)
            }),
            Value::String(text) => {
                let text = text.trim();
                text.strip_suffix(".0").unwrap_or(text).parse().ok()
            }
            _ => None,
        };
        number.ok_or_else(|| self.wrong(&format!("a number of {of_what}")))
    }

    /// A string.
    ///
    /// # Errors
    ///
    /// That it is none.
    pub(crate) fn text(&self, what: &str) -> anyhow::Result<&'a str> {
        self.value.as_str().ok_or_else(|| self.wrong(what))
    }

    /// What is wrong here, with file and place.
    pub(crate) fn wrong(&self, expected: &str) -> anyhow::Error {
        let there = match self.value {
            Value::Null => "null".into(),
            Value::Array(_) => "a list".into(),
            Value::Object(_) => "an object".into(),
            Value::String(text) => format!("\"{}\"", text::excerpt(text)),
            other => plain(other),
        };
        self.error(&format!("{expected} is expected, not {there}"))
    }

    /// Says something of what is here, with file and place.
    pub(crate) fn error(&self, what: &str) -> anyhow::Error {
        match self.path.is_empty() {
            true => anyhow!("{}: {what}", self.document),
            false => anyhow!("{}: {}: {what}", self.document, text::excerpt(&self.path)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn documents(text: &str) -> Result<Vec<Document>, String> {
        Document::parse_all("f.json", text.as_bytes()).map_err(|e| format!("{e:#}"))
    }

    #[test]
    fn what_is_no_json_is_told_in_plain_words() {
        for (text, words) in [
            ("", "f.json: it is empty"),
            (" \n", "f.json: it is empty"),
            ("<html>", "it is HTML or XML"),
            ("+----+\n| ID |", "it is a table; add -f json"),
            (
                "No flavors",
                "it is not JSON: expected value at line 1 column 1",
            ),
            ("[{\"RAM\": 1", "it is not JSON: EOF"),
            ("[1e999]", "it is not JSON: number out of range"),
        ] {
            let error = documents(text).err().unwrap();
            assert!(error.contains(words), "{text}: {error}");
        }
        let deep = "[".repeat(1_000_000);
        assert!(documents(&deep).err().unwrap().contains("recursion limit"));
        assert!(Document::parse_all("f.json", b"[\"\xff\"]").is_err());
    }

    #[test]
    fn several_documents_follow_each_other_and_have_their_numbers() {
        let two = documents("\u{feff}{\"a\": 1}\n[2]").unwrap();
        assert_eq!(two.len(), 2);
        let error = two[1].root().object("a server").unwrap_err();
        assert_eq!(
            error.to_string(),
            "f.json (2.): a server, as an object, is expected, not a list"
        );
    }

    #[test]
    fn a_number_may_be_a_string_and_is_neither_negative_nor_broken() {
        let cases = [
            ("1024", Some(1024)),
            ("\"1024\"", Some(1024)),
            ("1024.0", Some(1024)),
            ("0", Some(0)),
            ("-1", None),
            ("\"-1\"", None),
            ("1.5", None),
            ("\"\"", None),
            ("\"x\"", None),
            ("true", None),
            ("99999999999999999999", None),
            ("{}", None),
        ];
        for (json, expected) in cases {
            let document = &documents(&format!("[{{\"RAM\": {json}}}]")).unwrap()[0];
            let flavor = &document.root().list("flavors").unwrap()[0];
            let number = flavor.needed(&["RAM"]).unwrap().number("MiB");
            assert_eq!(number.as_ref().ok().copied(), expected, "{json}");
        }
        let document = &documents("[{\"RAM\": \"x\\u001b\"}]").unwrap()[0];
        let flavor = &document.root().list("flavors").unwrap()[0];
        assert_eq!(
            flavor
                .field(&["RAM"])
                .unwrap()
                .number("MiB")
                .unwrap_err()
                .to_string(),
            "f.json: [0].RAM: a number of MiB is expected, not \"x\u{fffd}\""
        );
        assert_eq!(
            flavor.needed(&["Disk", "disk"]).err().unwrap().to_string(),
            "f.json: [0]: Disk is missing"
        );
    }

    #[test]
    fn null_is_as_missing_and_a_list_is_no_object() {
        let document = &documents("{\"size\": null}").unwrap()[0];
        assert!(document.root().field(&["size"]).is_none());
        assert_eq!(
            document.root().list("flavors").err().unwrap().to_string(),
            "f.json: a list of flavors is expected, not an object"
        );
    }
}
