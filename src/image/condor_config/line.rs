//! The lines of HTCondor's configuration.

/// What a line says.
#[derive(Debug, PartialEq)]
pub(super) enum Statement<'a> {
    Nothing,
    If(&'a str),
    /// With a condition where it is `elif`.
    Else(Option<&'a str>),
    EndIf,
    Include {
        options: &'a str,
        target: &'a str,
    },
    Use {
        category: &'a str,
        names: &'a str,
    },
    Set {
        name: &'a str,
        value: String,
    },
    Unknown,
}

/// Lines that go on in the next one are put together, with the number of the first; comments
/// are left out, also those between them. `NAME @=end` takes all until `@end`.
pub(super) fn logical(text: &str) -> Vec<(usize, String)> {
    let mut all = Vec::new();
    let mut lines = (1..).zip(text.lines().map(str::trim));
    while let Some((number, mut line)) = lines.next() {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut whole = String::new();
        while let Some(part) = line.strip_suffix('\\') {
            whole += part;
            let next = lines.by_ref().find(|(_, line)| !line.starts_with('#'));
            line = next.map(|(_, line)| line).unwrap_or_default();
        }
        whole += line;
        if let Some((name, tag)) = whole
            .split_once("@=")
            .filter(|(name, _)| is_name(name.trim()))
        {
            let end = format!("@{}", tag.trim());
            let inner = lines
                .by_ref()
                .map(|(_, line)| line)
                .take_while(|line| *line != end);
            whole = format!("{name}= {}", inner.collect::<Vec<&str>>().join(" "));
        }
        all.push((number, whole));
    }
    all
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "_.".contains(c))
}

pub(super) fn statement(line: &str) -> Statement<'_> {
    let plain = line.strip_prefix('@').unwrap_or(line);
    let end = plain
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(plain.len());
    let (word, rest) = plain.split_at(end);
    let rest = rest.trim();
    let behind_colon = || rest.split_once(':').map(|(a, b)| (a.trim(), b.trim()));
    // Each may be a name, or how one begins.
    let is_word = plain[end..].starts_with(|c: char| c.is_whitespace() || ":!".contains(c))
        && !rest.starts_with(['=', '+']);
    match (word.to_ascii_lowercase().as_str(), behind_colon()) {
        ("if", _) if is_word => Statement::If(rest),
        ("elif", _) if is_word => Statement::Else(Some(rest)),
        ("else", _) if rest.is_empty() => Statement::Else(None),
        ("endif", _) if rest.is_empty() => Statement::EndIf,
        ("include", Some((options, target))) if is_word => Statement::Include { options, target },
        ("use", Some((category, names))) if is_word => Statement::Use { category, names },
        // What is printed when it is read.
        ("error" | "warning", Some(("", _))) => Statement::Nothing,
        _ => assignment(line),
    }
}

/// `NAME = value`, or `NAME += more`. A line in square brackets is a heading.
fn assignment(line: &str) -> Statement<'_> {
    let Some((name, value)) = line.split_once('=') else {
        return match line.starts_with('[') {
            true => Statement::Nothing,
            false => Statement::Unknown,
        };
    };
    let (name, value) = (name.trim(), value.trim());
    let added = name.strip_suffix('+').map(str::trim_end);
    let name = added.unwrap_or(name);
    match is_name(name) {
        true => Statement::Set {
            name,
            value: match added {
                Some(_) => format!("$({name}) {value}"),
                None => value.into(),
            },
        },
        false => Statement::Unknown,
    }
}

/// What is in brackets of which the first has been read, and what comes behind them.
pub(super) fn in_brackets(text: &str) -> Option<(&str, &str)> {
    let mut depth = 1;
    for (place, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return Some((&text[..place], &text[place + 1..]));
        }
    }
    None
}

/// A list has blanks or commas between its words.
pub(super) fn words(text: &str) -> Vec<&str> {
    text.split([',', ' ', '\t'])
        .filter(|word| !word.is_empty())
        .collect()
}
