//! What is decided before a VM is launched, from what people already have: the JSON that
//! `openstack … -f json` prints. No network and no credentials; [`input`] alone reads files.

pub(crate) mod expire;
pub(crate) mod flavor;
pub(crate) mod flavors;
pub(crate) mod grid;
pub(crate) mod image;
mod images;
pub(crate) mod input;
mod properties;
mod servers;
pub(crate) mod shell;
pub(crate) mod snapshot;

use serde_json::Value;

use crate::text;

/// What a command prints on standard output, and its exit code.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    pub(crate) exit_code: u8,
    /// For standard error.
    pub(crate) warnings: Vec<String>,
}

pub(crate) const FOUND: u8 = 0;

/// A document for programs. Not serde_json's text: its floats come with a table of 17 KiB.
fn json(value: &Value) -> String {
    let mut text = String::new();
    write_json(value, "\n", &mut text);
    text::printable_json(&text) + "\n"
}

fn write_json(value: &Value, line: &str, text: &mut String) {
    let inner = format!("{line}  ");
    let mut between = "";
    match value {
        Value::Array(elements) if !elements.is_empty() => {
            text.push('[');
            for element in elements {
                *text += between;
                *text += &inner;
                write_json(element, &inner, text);
                between = ",";
            }
            *text += line;
            text.push(']');
        }
        Value::Object(fields) if !fields.is_empty() => {
            text.push('{');
            for (key, element) in fields {
                *text += between;
                *text += &inner;
                write_string(key, text);
                *text += ": ";
                write_json(element, &inner, text);
                between = ",";
            }
            *text += line;
            text.push('}');
        }
        Value::String(string) => write_string(string, text),
        other => *text += &input::plain(other),
    }
}

fn write_string(string: &str, text: &mut String) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => *text += "\\n",
            // The other control characters are escaped with the rest of the document.
            c => text.push(c),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_document_is_read_as_it_was_written() {
        let document = json!({
            "text": "a\"b\\c\nd\te\u{1b}\u{202e}é😀", "none": null, "yes": true, "list": [], "object": {},
            "deep": [1, [2, {"k\"": -3}], 0.25, u64::MAX],
        });
        let text = json(&document);
        assert_eq!(
            serde_json::from_slice::<Value>(text.as_bytes()).unwrap(),
            document
        );
        assert_eq!(text, text::printable_lines(&text));
        assert!(
            text.starts_with("{\n  \"deep\": [\n    1,\n    [\n      2,"),
            "{text}"
        );
    }
}
