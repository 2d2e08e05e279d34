//! JSON that a service gives, read so that a wrong value costs itself and not the document.
//!
//! serde_json refuses a whole document for a number that no `f64` can hold, for bytes that are
//! not UTF-8 and for half a surrogate pair, wherever they are. [`document`] blanks these first.
//! What nobody asks for is passed over without being kept, however deep it is.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{
    DeserializeSeed, Deserializer, IgnoredAny, IntoDeserializer, MapAccess, SeqAccess, Visitor,
};

use crate::text::excerpt;

/// Reads a document that is an object.
///
/// # Errors
///
/// Why it is none, without quoting it: it may hold secrets.
pub(super) fn document<T: for<'de> Deserialize<'de>>(mut text: Vec<u8>) -> Result<T, String> {
    begins_as_object(&text)?;
    blank_what_is_refused(&mut text);
    let read = serde_json::from_slice::<Part<T>>(&text).map_err(not_as_it_should_be)?;
    read.object().ok_or_else(|| NO_OBJECT.into())
}

const NO_OBJECT: &str = "the answer is not a JSON object";

/// serde would take an array for a struct.
fn begins_as_object(text: &[u8]) -> Result<(), String> {
    Err(match text.trim_ascii_start().first() {
        Some(b'{') => return Ok(()),
        Some(b'<') => "the answer is HTML or XML, not a JSON object",
        None => "the answer is empty, not a JSON object",
        Some(_) => NO_OBJECT,
    }
    .into())
}

fn not_as_it_should_be(error: serde_json::Error) -> String {
    format!("the answer is not the JSON it should be: {error}")
}

/// Reads a document that is an array.
///
/// # Errors
///
/// Why it is none.
pub(super) fn array<T: for<'de> Deserialize<'de>>(mut text: Vec<u8>) -> Result<Vec<T>, String> {
    blank_what_is_refused(&mut text);
    serde_json::from_slice(&text).map_err(|e| format!("the answer is not a JSON array: {e}"))
}

/// Stands for bytes that are no text. No identifier, time or URL has it, and people see it.
const BLANK: u8 = 0x7f;

fn blank_what_is_refused(text: &mut [u8]) {
    blank_what_is_not_utf8(text);
    let mut is_in_string = false;
    let mut at = 0;
    while at < text.len() {
        at += match (is_in_string, text[at]) {
            (true, b'\\') => pass_escape(&mut text[at..]),
            (true, ..0x20) => {
                text[at] = BLANK;
                1
            }
            (false, b'-' | b'0'..=b'9') => pass_number(&mut text[at..]),
            (_, byte) => {
                is_in_string ^= byte == b'"';
                1
            }
        };
    }
}

fn blank_what_is_not_utf8(text: &mut [u8]) {
    let mut from = 0;
    while let Err(e) = std::str::from_utf8(&text[from..]) {
        let wrong = from + e.valid_up_to();
        let end = e.error_len().map_or(text.len(), |length| wrong + length);
        text[wrong..end].fill(BLANK);
        from = end;
    }
}

/// Passes an escape sequence. One for half a surrogate pair becomes one for [`BLANK`].
fn pass_escape(text: &mut [u8]) -> usize {
    let unit = |at: usize| {
        let digits = text.get(at..at + 6)?.strip_prefix(b"\\u")?;
        u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
    };
    match (unit(0), unit(6)) {
        (Some(0xD800..=0xDBFF), Some(0xDC00..=0xDFFF)) => 12,
        (Some(0xD800..=0xDFFF), _) => {
            text[2..6].copy_from_slice(b"007f");
            6
        }
        _ => 2,
    }
}

/// Passes a number. One that may be too large or too long becomes 0: no such number is used.
fn pass_number(text: &mut [u8]) -> usize {
    const LONGEST: usize = 20; // of a u64
    let is_part = |byte: &&u8| matches!(byte, b'0'..=b'9' | b'+' | b'-' | b'.' | b'e' | b'E');
    let length = text.iter().take_while(is_part).count();
    let number = &mut text[..length];
    if length > LONGEST || number.contains(&b'e') || number.contains(&b'E') {
        number.fill(b' ');
        number[0] = b'0';
    }
    length
}

/// A value: an object is read as an `O`, and each element of an array as an `E`.
#[derive(Debug, Default)]
pub(super) enum Json<O, E> {
    #[default]
    Absent,
    String(String),
    Number(u64),
    /// The whole part of a number that has a fraction.
    Decimal(u64),
    Object(O),
    Array(Vec<E>),
    /// What there is, in words.
    Other(&'static str),
}

/// What is wanted to be a string, or a whole number.
pub(super) type Text = Json<IgnoredAny, IgnoredAny>;

/// What is wanted to be an object.
pub(super) type Part<T> = Json<T, IgnoredAny>;

/// What is wanted to be an array of objects.
pub(super) type Parts<T> = Json<IgnoredAny, Part<T>>;

/// What is wanted to be an array of strings.
pub(super) type Texts = Json<IgnoredAny, Text>;

/// Longer strings are not kept.
const LONGEST_STRING: usize = 4096;

impl<O, E> Json<O, E> {
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Json::Absent => "null",
            Json::String(_) => "a string",
            Json::Number(_) | Json::Decimal(_) => "a number",
            Json::Object(_) => "an object",
            Json::Array(_) => "an array",
            Json::Other(kind) => kind,
        }
    }

    pub(super) fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn object(self) -> Option<O> {
        match self {
            Json::Object(object) => Some(object),
            _ => None,
        }
    }

    /// The elements of an array; none where it is something else.
    pub(super) fn elements(self) -> Vec<E> {
        match self {
            Json::Array(elements) => elements,
            _ => Vec::new(),
        }
    }

    /// The string as it may be shown. That there is something else is a warning.
    pub(super) fn shown(&self, name: &str, warnings: &mut Vec<String>) -> Option<String> {
        match self {
            Json::Absent => None,
            Json::String(text) => Some(excerpt(text)),
            other => {
                let kind = other.kind();
                warnings.push(format!("{name} is {kind}, not a string; ignored"));
                None
            }
        }
    }
}

impl<'de, O: Deserialize<'de>, E: Deserialize<'de>> Deserialize<'de> for Json<O, E> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(JsonVisitor(PhantomData))
    }
}

struct JsonVisitor<O, E>(PhantomData<(O, E)>);

impl<'de, O: Deserialize<'de>, E: Deserialize<'de>> Visitor<'de> for JsonVisitor<O, E> {
    type Value = Json<O, E>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_unit<Error>(self) -> Result<Self::Value, Error> {
        Ok(Json::Absent)
    }

    fn visit_str<Error>(self, text: &str) -> Result<Self::Value, Error> {
        Ok(match text.len() {
            ..=LONGEST_STRING => Json::String(text.into()),
            _ => Json::Other("a very long string"),
        })
    }

    fn visit_bool<Error>(self, _: bool) -> Result<Self::Value, Error> {
        Ok(Json::Other("a boolean"))
    }

    fn visit_u64<Error>(self, number: u64) -> Result<Self::Value, Error> {
        Ok(Json::Number(number))
    }

    fn visit_i64<Error>(self, _: i64) -> Result<Self::Value, Error> {
        Ok(Json::Other("a number"))
    }

    fn visit_f64<Error>(self, number: f64) -> Result<Self::Value, Error> {
        Ok(match number >= 0.0 {
            true => Json::Decimal(number as u64),
            false => Json::Other("a number"),
        })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
        let mut elements = Vec::new();
        while let Some(element) = array.next_element()? {
            elements.push(element);
        }
        Ok(Json::Array(elements))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
        let once = Once {
            map,
            seen: BTreeSet::new(),
        };
        O::deserialize(MapAccessDeserializer::new(once)).map(Json::Object)
    }
}

/// The members of an object, of each name the first one: serde would refuse a struct with two.
struct Once<A> {
    map: A,
    seen: BTreeSet<String>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for Once<A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if self.seen.insert(key.clone()) {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            self.map.next_value::<IgnoredAny>()?;
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}

/// The keys of an instance that this program acts on.
const OWN_KEYS: [&str; 5] = [
    "vmstage_deadline",
    "vmstage_lifetime",
    super::instance::REQUEST,
    "machinefeatures",
    "jobfeatures",
];

/// So many other keys are kept, to be shown.
const OTHER_KEYS: usize = 64;

/// So many are named in a warning: nobody reads a longer list.
const NAMED: usize = 5;

/// The key and value pairs that whoever launched the instance gave it.
#[derive(Debug, Default)]
pub(super) struct Pairs {
    pub(super) texts: BTreeMap<String, String>,
    others: usize,
    left_out: usize,
    /// The first ones whose values are no strings, and how many there are.
    wrong: Vec<String>,
    wrong_count: usize,
}

impl Pairs {
    pub(super) fn add(&mut self, key: String, value: &Text) {
        let is_own = OWN_KEYS.contains(&key.as_str());
        match value {
            Text::String(text) => self.keep(key, is_own, text),
            // Somebody meant a limit: it is told of as one that cannot be used.
            other if is_own => {
                let instead = format!("({}, not a string)", other.kind());
                self.keep(key, is_own, &instead);
            }
            other => {
                self.wrong_count += 1;
                if self.wrong.len() < NAMED {
                    let named = format!("{} ({})", excerpt(&key), other.kind());
                    self.wrong.push(named);
                }
            }
        }
    }

    fn keep(&mut self, key: String, is_own: bool, text: &str) {
        if is_own {
            self.texts.insert(key, text.into());
        } else if self.others < OTHER_KEYS {
            self.others += 1;
            self.texts.insert(excerpt(&key), excerpt(text));
        } else {
            self.left_out += 1;
        }
    }

    /// Without what nobody but this program is concerned with.
    pub(super) fn own(self) -> BTreeMap<String, String> {
        let mut texts = self.texts;
        texts.retain(|key, _| OWN_KEYS.contains(&key.as_str()));
        texts
    }

    pub(super) fn warnings(&self, name: &str) -> impl Iterator<Item = String> {
        let more = match self.wrong_count - self.wrong.len() {
            0 => String::new(),
            more => format!(" and {more} more"),
        };
        let named = self.wrong.join(", ");
        let wrong = (self.wrong_count > 0)
            .then(|| format!("values in {name} that are not strings are ignored: {named}{more}"));
        let left_out = (self.left_out > 0).then(|| {
            let left_out = self.left_out;
            format!("{name} has many keys: {left_out} of them are not kept to be shown")
        });
        wrong.into_iter().chain(left_out)
    }
}

impl<'de> Deserialize<'de> for Pairs {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Pairs, D::Error> {
        deserializer.deserialize_map(PairsVisitor)
    }
}

struct PairsVisitor;

impl<'de> Visitor<'de> for PairsVisitor {
    type Value = Pairs;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
        let mut pairs = Pairs::default();
        while let Some((key, value)) = map.next_entry::<String, Text>()? {
            pairs.add(key, &value);
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Default, Deserialize)]
    #[serde(default)]
    struct Document {
        wanted: Text,
        list: Parts<Document>,
        pairs: Part<Pairs>,
    }

    /// A document with this in the place of other values.
    fn with(value: &[u8]) -> Vec<u8> {
        let parts: [&[u8]; 8] = [
            br#"{"x": "#,
            value,
            br#", "wanted": "yes", "list": ["#,
            value,
            br#", {"wanted": "yes", "y": "#,
            value,
            br#"}], "pairs": {"k": "v", "odd": "#,
            value,
        ];
        [&parts.concat(), &b"}}"[..]].concat()
    }

    #[test]
    fn of_two_members_of_one_name_the_first_counts() {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Document {
            meta: Part<Pairs>,
        }
        let text = r#"{"meta": {"a": "1", "a": "2"}, "other": [], "meta": {"a": "3"}}"#;
        let read: Document = document(text.into()).unwrap();
        let texts = read.meta.object().unwrap().texts;
        assert_eq!(texts, BTreeMap::from([("a".into(), "1".into())]));
    }

    #[test]
    fn a_wrong_value_costs_itself_and_no_other() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        let objects = format!("{}1{}", "{\"a\":".repeat(100_000), "}".repeat(100_000));
        let digits = "9".repeat(2000);
        let values: [&[u8]; 16] = [
            b"1e400",
            b"-1E400",
            b"[1e999999999999]",
            digits.as_bytes(),
            b"0.00000000000000000000000000000000000001",
            b"\"\xff\xfe\"",
            b"{\"\xc3\": \"\xe2\x82\"}",
            br#""\ud800""#,
            br#""\udc00\ud800 \ud83d""#,
            b"\"a\x01\nb\"",
            b"18446744073709551615",
            b"-5",
            b"null",
            b"true",
            deep.as_bytes(),
            objects.as_bytes(),
        ];
        for value in values {
            let shown = String::from_utf8_lossy(&value[..value.len().min(40)]).into_owned();
            let read: Document = document(with(value)).unwrap_or_else(|e| panic!("{shown}: {e}"));
            assert_eq!(read.wanted.as_str(), Some("yes"), "{shown}");
            let listed: Vec<Document> = read
                .list
                .elements()
                .into_iter()
                .filter_map(Json::object)
                .collect();
            let wanted = listed
                .iter()
                .filter(|one| one.wanted.as_str() == Some("yes"));
            assert_eq!(wanted.count(), 1, "{shown}");
            assert_eq!(read.pairs.object().unwrap().texts["k"], "v", "{shown}");
        }
    }

    #[test]
    fn what_is_right_is_read_as_it_is() {
        let cases = [
            (r#""\ud83d\ude00 \u00e9 \\ \"""#, "😀 é \\ \""),
            (r#""é 1e400 -""#, "é 1e400 -"),
            (r#""\\ud800""#, "\\ud800"),
        ];
        for (json, text) in cases {
            let read: Document = document(format!("{{\"wanted\": {json}}}").into()).unwrap();
            assert_eq!(read.wanted.as_str(), Some(text), "{json}");
        }
        let read: Document = document(br#"{"wanted": 7857118082129425400}"#.to_vec()).unwrap();
        assert!(matches!(
            read.wanted,
            Json::Number(7_857_118_082_129_425_400)
        ));
    }

    #[test]
    fn bytes_that_are_no_text_can_be_seen_in_what_is_shown() {
        let read: Document = document(b"{\"wanted\": \"a\xffb\"}".to_vec()).unwrap();
        let shown = read.wanted.shown("wanted", &mut Vec::new());
        assert_eq!(shown.as_deref(), Some("a\u{fffd}b"));
    }

    #[test]
    fn of_many_keys_those_that_count_are_kept_and_64_others() {
        let mut many: Vec<String> = (0..20_000).map(|n| format!("\"key{n}\": \"v\"")).collect();
        many.insert(10_000, "\"vmstage_lifetime\": \"36h\"".into());
        many.push("\"machinefeatures\": 5".into());
        let text = format!("{{\"pairs\": {{{}}}}}", many.join(","));
        let pairs = document::<Document>(text.into())
            .unwrap()
            .pairs
            .object()
            .unwrap();
        assert_eq!(pairs.texts.len(), 64 + 2);
        assert_eq!(pairs.texts["vmstage_lifetime"], "36h");
        assert_eq!(pairs.texts["machinefeatures"], "(a number, not a string)");
        let warnings: Vec<String> = pairs.warnings("meta").collect();
        assert_eq!(
            warnings,
            ["meta has many keys: 19936 of them are not kept to be shown"]
        );
        assert_eq!(pairs.own().len(), 2);
    }
}
