//! Words of a command line, for a person to paste.

use crate::text;

/// A word as every shell of POSIX's reads it. One with control characters is written as what
/// printf(1) makes of it, which shows them; newlines at its very end do not survive that, and
/// are quoted as they are.
pub(crate) fn word(text: &str) -> String {
    let is_plain = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '_' | '-' | '.' | '/' | ':' | ',' | '@' | '+' | '%' | '=')
    };
    if !text.is_empty() && text.chars().all(is_plain) {
        return text.to_string();
    }
    if !text.contains(text::is_control) {
        return format!("'{}'", text.replace('\'', r"'\''"));
    }
    let shown = text.trim_end_matches('\n');
    let newlines = &text[shown.len()..];
    let mut format = String::new();
    for c in shown.chars() {
        match c {
            '\'' => format += r"'\''",
            '\\' | '%' => format.extend([c, c]),
            c if text::is_control(c) => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    format += &format!("\\{byte:03o}");
                }
            }
            c => format.push(c),
        }
    }
    match newlines {
        "" => format!("\"$(printf -- '{format}')\""),
        _ if shown.contains(text::is_control) => {
            format!("\"$(printf -- '{format}')\"'{newlines}'")
        }
        _ => format!(
            "{}'{newlines}'",
            if shown.is_empty() {
                String::new()
            } else {
                word(shown)
            }
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_shell_reads_what_was_meant() {
        for (text, quoted) in [
            ("m1024c1s10", "m1024c1s10"),
            ("", "''"),
            ("two words", "'two words'"),
            ("~", "'~'"),
            ("it's", r"'it'\''s'"),
            ("$(reboot) `x` \"\\", "'$(reboot) `x` \"\\'"),
            ("a\nb's\\", r#""$(printf -- 'a\012b'\''s\\')""#),
            ("\n'; reboot; #", r#""$(printf -- '\012'\''; reboot; #')""#),
            ("-rf\t%s$(x)\"", r#""$(printf -- '-rf\011%%s$(x)"')""#),
            ("a\n", "a'\n'"),
            ("\n\n", "'\n\n'"),
            ("it's\n", "'it'\\''s''\n'"),
            ("a\nb\n\n", "\"$(printf -- 'a\\012b')\"'\n\n'"),
            ("a\r\n", "\"$(printf -- 'a\\015')\"'\n'"),
            (
                "\u{1b}[2J\u{202e}é1",
                r#""$(printf -- '\033[2J\342\200\256é1')""#,
            ),
        ] {
            assert_eq!(word(text), quoted);
            assert!(
                !quoted
                    .trim_end_matches(['\n', '\''])
                    .contains(text::is_control)
            );
            let script = format!("printf '%s;' {quoted} end");
            for shell in ["sh", "dash", "bash"] {
                let said = Command::new(shell).args(["-c", &script]).output();
                let expected = format!("{text};end;");
                assert_eq!(
                    said.unwrap().stdout,
                    expected.as_bytes(),
                    "{shell}: {quoted}"
                );
            }
        }
    }
}
