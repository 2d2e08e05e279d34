//! Reading a source as text: which paths it names, and what it makes public.
//!
//! No parser of Rust: it knows comments, literals, brackets and paths. A module in braces
//! within a file, other than one of tests, would be taken for a part of the file's own.

use std::collections::BTreeSet;

/// A source, and what matters of it.
pub(super) struct File {
    pub(super) path: String,
    pub(super) module: Vec<String>,
    /// Beside tests.
    pub(super) lines: usize,
    pub(super) names: Vec<Name>,
    /// What it makes public.
    pub(super) items: BTreeSet<String>,
    /// The modules in files of their own that are only compiled for tests.
    pub(super) test_modules: Vec<Vec<String>>,
}

/// A path that a source names, from the root of the crate.
pub(super) struct Name {
    pub(super) path: Vec<String>,
    pub(super) line: usize,
    /// In a `pub use`.
    pub(super) is_public_use: bool,
}

impl Name {
    /// A child's item that is only handed on.
    pub(super) fn is_handed_on(&self, module: &[String]) -> bool {
        self.is_public_use && self.path.len() > module.len() && self.path.starts_with(module)
    }
}

impl File {
    pub(super) fn read(path: &str, text: &str) -> File {
        let mut module: Vec<String> = path
            .trim_end_matches(".rs")
            .split('/')
            .map(String::from)
            .collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib")) {
            module.pop();
        }
        let Tested {
            tokens,
            tests,
            lines,
        } = without_tests(tokens(text));
        let children = children(&tokens);
        let test_modules = self::children(&tests).into_iter();
        File {
            path: path.to_string(),
            lines: text.lines().count() - lines,
            names: names(&tokens, &module, &children),
            items: public_items(&tokens),
            test_modules: test_modules
                .map(|child| [&module[..], &[child]].concat())
                .collect(),
            module,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Token<'a> {
    text: &'a str,
    line: usize,
}

/// Words, `::`, and single signs, without comments and literals.
fn tokens(text: &str) -> Vec<Token<'_>> {
    let mut tokens = Vec::new();
    let mut rest = text;
    let mut line = 1;
    while let Some(first) = rest.chars().next() {
        let word = rest
            .find(|c: char| !c.is_alphanumeric() && c != '_')
            .unwrap_or(rest.len());
        let (length, is_token) = match first {
            _ if rest.starts_with("//") => (rest.find('\n').unwrap_or(rest.len()), false),
            _ if rest.starts_with("/*") => (comment(rest), false),
            '"' => (string(rest), false),
            '\'' => (character_or_lifetime(rest), false),
            _ if word > 0 => match literal_after(&rest[..word], &rest[word..]) {
                Some(length) => (word + length, false),
                None => (word, true),
            },
            _ if rest.starts_with("::") => (2, true),
            _ if first.is_whitespace() => (rest.len() - rest.trim_start().len(), false),
            _ => (first.len_utf8(), true),
        };
        if is_token {
            let text = &rest[..length];
            tokens.push(Token { text, line });
        }
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    tokens
}

/// Comments may be nested.
fn comment(text: &str) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < text.len() {
        match text[at..].get(..2) {
            Some("/*") => (depth, at) = (depth + 1, at + 2),
            Some("*/") => (depth, at) = (depth - 1, at + 2),
            _ => at += text[at..].chars().next().map_or(1, char::len_utf8),
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, c) in text.char_indices().skip(1) {
        match c {
            '"' if !escaped => return at + 1,
            '\\' => escaped = !escaped,
            _ => escaped = false,
        }
    }
    text.len()
}

fn character_or_lifetime(text: &str) -> usize {
    let mut inside = text.char_indices().skip(1);
    match (inside.next(), inside.next()) {
        (Some((_, '\\')), Some(_)) => inside
            .find(|(_, c)| *c == '\'')
            .map_or(text.len(), |(at, _)| at + 1),
        (_, Some((at, '\''))) => at + 1,
        _ => 1,
    }
}

/// How much of a literal comes after a word that may be its prefix.
fn literal_after(word: &str, rest: &str) -> Option<usize> {
    let hashes = rest.len() - rest.trim_start_matches('#').len();
    match word {
        "r" | "br" | "cr" if rest[hashes..].starts_with('"') => {
            let end = format!("\"{}", "#".repeat(hashes));
            let body = &rest[hashes + 1..];
            Some(hashes + 1 + body.find(&end).map_or(body.len(), |at| at + end.len()))
        }
        "b" | "c" if rest.starts_with('"') => Some(string(rest)),
        "b" if rest.starts_with('\'') => Some(character_or_lifetime(rest)),
        _ => None,
    }
}

/// A source's tokens, those of its tests, and how many lines these have.
struct Tested<'a> {
    tokens: Vec<Token<'a>>,
    tests: Vec<Token<'a>>,
    lines: usize,
}

/// Sets apart what is only compiled for tests.
fn without_tests(all: Vec<Token>) -> Tested {
    let mut tested = Tested {
        tokens: Vec::new(),
        tests: Vec::new(),
        lines: 0,
    };
    let mut at = 0;
    while at < all.len() {
        let attribute = attribute(&all[at..]);
        let has = |word: &str| {
            all[at..at + attribute]
                .iter()
                .any(|token| token.text == word)
        };
        if has("cfg") && has("test") && !has("not") {
            let end = at + attribute + item(&all[at + attribute..]);
            tested.lines += 1 + all[end - 1].line - all[at].line;
            tested.tests.extend_from_slice(&all[at..end]);
            at = end;
        } else {
            tested.tokens.push(all[at]);
            at += 1;
        }
    }
    tested
}

/// How many tokens an attribute has; 0 where there is none.
fn attribute(tokens: &[Token]) -> usize {
    match tokens {
        [hash, bracket, ..] if hash.text == "#" && bracket.text == "[" => 1 + group(&tokens[1..]),
        _ => 0,
    }
}

/// How many tokens there are up to the bracket that closes the first one.
fn group(tokens: &[Token]) -> usize {
    let mut depth = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token.text {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    tokens.len()
}

/// How many tokens belong to the item, the field or the expression that an attribute is of.
fn item(tokens: &[Token]) -> usize {
    const ITEMS: [&str; 10] = [
        "mod", "fn", "impl", "struct", "enum", "trait", "unsafe", "use", "const", "static",
    ];
    let mut at = 0;
    while attribute(&tokens[at..]) > 0 {
        at += attribute(&tokens[at..]);
    }
    let kind = tokens[at..]
        .iter()
        .find(|token| ITEMS.contains(&token.text) || token.text == ":");
    let kind = kind.map_or("", |token| token.text);
    let is_item = ITEMS.contains(&kind);
    let ends_with_semicolon = matches!(kind, "use" | "const" | "static");
    while at < tokens.len() {
        match tokens[at].text {
            ";" => return at + 1,
            "," if !is_item => return at + 1,
            "}" => return at,
            "{" if is_item && !ends_with_semicolon => return at + group(&tokens[at..]),
            "(" | "[" | "{" => at += group(&tokens[at..]),
            _ => at += 1,
        }
    }
    at
}

/// The modules that a source declares: `mod x;`.
fn children(tokens: &[Token]) -> BTreeSet<String> {
    let declared = tokens
        .windows(3)
        .filter(|three| three[0].text == "mod" && three[2].text == ";");
    declared.map(|three| three[1].text.to_string()).collect()
}

/// The items that a source makes public, on its outermost level.
fn public_items(tokens: &[Token]) -> BTreeSet<String> {
    const KINDS: [&str; 7] = ["struct", "enum", "fn", "const", "static", "type", "trait"];
    let mut items = BTreeSet::new();
    let mut at = 0;
    while at < tokens.len() {
        if tokens[at].text == "{" {
            at += group(&tokens[at..]);
            continue;
        }
        if tokens[at].text == "pub" {
            let declaration = tokens[at..].iter().map(|token| token.text);
            let declaration = declaration.take_while(|text| !matches!(*text, "{" | ";" | "="));
            let is_kind = |text: &&str| KINDS.contains(text);
            let mut rest = declaration.skip_while(|text| !is_kind(text));
            items.extend(rest.find(|text| !is_kind(text)).map(String::from));
        }
        at += 1;
    }
    items
}

/// Every path that a source names.
fn names(tokens: &[Token], module: &[String], children: &BTreeSet<String>) -> Vec<Name> {
    let mut names = Vec::new();
    let mut at = 0;
    let mut in_public_use = false;
    while at < tokens.len() {
        let text = tokens[at].text;
        let before = |back: usize| at.checked_sub(back).map_or("", |at| tokens[at].text);
        if text == ";" {
            in_public_use = false;
        }
        if text == "use" {
            in_public_use = before(1) == "pub" || before(1) == ")";
        }
        let begins = matches!(text, "crate" | "super" | "self") || children.contains(text);
        let goes_on = tokens.get(at + 1).is_some_and(|next| next.text == "::");
        if begins && goes_on && before(1) != "::" {
            let (paths, length) = tree(&tokens[at..]);
            for (path, line) in paths {
                names.push(Name {
                    path: from_root(&path, module, children),
                    line,
                    is_public_use: in_public_use,
                });
            }
            at += length.max(1);
        } else {
            at += 1;
        }
    }
    names
}

/// The paths of a tree such as `a::{b, c::d}`, and how many tokens it has.
fn tree(tokens: &[Token]) -> (Vec<(Vec<String>, usize)>, usize) {
    let mut path = Vec::new();
    let mut at = 0;
    loop {
        match tokens.get(at) {
            Some(token) if token.text == "{" => {
                let end = at + group(&tokens[at..]);
                let mut paths = Vec::new();
                at += 1;
                while at < end - 1 {
                    let (within, length) = tree(&tokens[at..end - 1]);
                    for (tail, line) in within {
                        paths.push(([path.clone(), tail].concat(), line));
                    }
                    at += length;
                    // Over the comma, and what it is called here.
                    while at < end - 1 && tokens[at].text != "," {
                        at += 1;
                    }
                    at += 1;
                }
                return (paths, end);
            }
            Some(token) if token.text == "*" || is_word(token.text) => {
                path.push(token.text.to_string())
            }
            _ => break,
        }
        at += 1;
        match tokens.get(at) {
            Some(token) if token.text == "::" => at += 1,
            _ => break,
        }
    }
    let line = tokens.first().map_or(0, |token| token.line);
    (vec![(path, line)], at)
}

fn is_word(text: &str) -> bool {
    text.chars().all(|c| c.is_alphanumeric() || c == '_')
}

fn from_root(path: &[String], module: &[String], children: &BTreeSet<String>) -> Vec<String> {
    let mut base = module.to_vec();
    let mut rest = path;
    while let Some((first, tail)) = rest.split_first() {
        match first.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            "self" => {}
            _ => break,
        }
        rest = tail;
    }
    debug_assert!(rest.len() < path.len() || children.contains(&path[0]));
    // `use crate::status::{self, Status}` names the module itself.
    let rest = rest.iter().filter(|word| *word != "self");
    base.extend(rest.cloned());
    base
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The paths that this source of the module `a::b` names, which has the child `c`.
    fn named(text: &str) -> Vec<String> {
        let text = format!("mod c;\n{text}");
        let file = File::read("a/b.rs", &text);
        file.names.iter().map(|name| name.path.join("::")).collect()
    }

    #[test]
    fn grouped_and_nested_imports_are_taken_apart() {
        let text = "use crate::{\n    clock,\n    host::{self, Host, wait::until},\n};";
        assert_eq!(
            named(text),
            ["clock", "host", "host::Host", "host::wait::until"]
        );
        assert_eq!(named("use crate::status::*;"), ["status::*"]);
        assert_eq!(named("use crate::text as texts;"), ["text"]);
        assert_eq!(named("use crate::{text as t, url as u};"), ["text", "url"]);
    }

    #[test]
    fn a_path_in_an_expression_or_a_type_is_one_too() {
        let text = "fn f(x: &crate::host::Host) -> u64 { crate::clock::wall() }";
        assert_eq!(named(text), ["host::Host", "clock::wall"]);
        assert_eq!(
            named("#[serde(with = x)] struct S(Vec<crate::x::Y>);"),
            ["x::Y"]
        );
    }

    #[test]
    fn relative_paths_lead_from_the_module() {
        let text = "use super::d::E; use self::c::F; use super::super::g; fn f() { c::g() }";
        assert_eq!(named(text), ["a::d::E", "a::b::c::F", "g", "a::b::c::g"]);
        // What only has the name of a child is not meant.
        assert_eq!(named("fn c() { x.c(); y::c::d() }"), [""; 0]);
    }

    #[test]
    fn comments_and_literals_name_nothing() {
        let text = r###"
            //! [`crate::a`]
            /* crate::b /* crate::c */ crate::d */
            const A: &str = "crate::e \" crate::f";
            const B: &str = r#"crate::g " crate::h"#;
            const C: (char, char, &'static [u8]) = ('"', '\'', b"crate::i");
            fn f<'a>(x: &'a str) -> &'a crate::j { x }
            pub(crate) struct S;
        "###;
        assert_eq!(named(text), ["j"]);
    }

    #[test]
    fn what_is_only_compiled_for_tests_is_left_out() {
        let text = "
            struct S {
                a: crate::a::A,
                #[cfg(test)]
                b: crate::b::B,
                c: crate::c::C,
            }
            #[cfg(test)]
            mod helper;
            #[cfg(test)]
            #[allow(dead_code)]
            fn f() -> [u8; 2] { crate::d::d() }
            #[cfg(test)]
            use crate::{e, f};
            #[cfg(not(test))]
            use crate::g;
            #[cfg(test)]
            mod tests {
                use crate::h;
            }
            use crate::i;";
        assert_eq!(named(text), ["a::A", "c::C", "g", "i"]);
        let file = File::read("a/b.rs", text);
        assert_eq!(file.test_modules, [["a", "b", "helper"]]);
        assert_eq!(file.lines, 21 - 13);
    }

    #[test]
    fn the_public_items_of_a_source_are_known() {
        let text = "pub struct A<T>(T); pub(crate) fn b() { pub fn c() {} }
            pub const fn d() {} pub(super) enum E {} struct F; impl A<u8> { pub fn g() {} }";
        let items = File::read("x.rs", text).items;
        assert_eq!(items.into_iter().collect::<Vec<_>>(), ["A", "E", "b", "d"]);
    }
}
