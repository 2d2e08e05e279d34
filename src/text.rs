//! Texts for people: what may be shown of them, sizes, tables.

use std::fmt::Write;
use std::path::PathBuf;

/// Characters that are not seen, and change how others are: those of the categories Cf, Zl and
/// Zp of Unicode 16.0 (what turns the direction of writing, joins, is of no width or ends a
/// line), and all of the block of tags.
const UNSEEN: [(char, char); 19] = [
    ('\u{ad}', '\u{ad}'),
    ('\u{600}', '\u{605}'),
    ('\u{61c}', '\u{61c}'),
    ('\u{6dd}', '\u{6dd}'),
    ('\u{70f}', '\u{70f}'),
    ('\u{890}', '\u{891}'),
    ('\u{8e2}', '\u{8e2}'),
    ('\u{180e}', '\u{180e}'),
    ('\u{200b}', '\u{200f}'),
    ('\u{2028}', '\u{202e}'),
    ('\u{2060}', '\u{206f}'),
    ('\u{feff}', '\u{feff}'),
    ('\u{fff9}', '\u{fffb}'),
    ('\u{110bd}', '\u{110bd}'),
    ('\u{110cd}', '\u{110cd}'),
    ('\u{13430}', '\u{1343f}'),
    ('\u{1bca0}', '\u{1bca3}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a terminal acts on a character instead of showing it, or shows others differently
/// for it. Those that Unicode says are no characters are among them.
pub(crate) fn is_control(c: char) -> bool {
    let is_in = |range: &(char, char)| (range.0..=range.1).contains(&c);
    let is_no_character = matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    // Nearly all that is ever shown.
    !matches!(c, ' '..='~') && (c.is_control() || is_no_character || UNSEEN.iter().any(is_in))
}

/// A text of this program's own in one line, which a terminal does not act on: a blank
/// stands for each control character.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(is_control, " ")
}

/// `/dev/sdb, /dev/sdc and /dev/sdd`
pub(crate) fn all_of(paths: &[PathBuf]) -> String {
    let names: Vec<String> = paths
        .iter()
        .map(|path| path.display().to_string())
        .collect();
    match &names[..] {
        [] => String::new(),
        [one] => one.clone(),
        [some @ .., last] => format!("{} and {last}", some.join(", ")),
    }
}

/// A text that somebody else wrote, as it may be shown: U+FFFD stands for each control
/// character, so that one sees that there was one.
pub(crate) fn printable(text: &str) -> String {
    // As nearly all of them are.
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
        return text.into();
    }
    text.replace(is_control, "\u{fffd}")
}

/// Likewise, of several lines.
pub(crate) fn printable_lines(text: &str) -> String {
    text.replace(|c| c != '\n' && is_control(c), "\u{fffd}")
}

/// JSON of several lines, in which control characters are escaped: what is read from it is the
/// same.
pub(crate) fn printable_json(json: &str) -> String {
    let mut text = String::new();
    for c in json.chars() {
        match c != '\n' && is_control(c) {
            true => {
                for unit in c.encode_utf16(&mut [0; 2]) {
                    // Writing to a String does not fail.
                    let _ = write!(text, "\\u{unit:04x}");
                }
            }
            false => text.push(c),
        }
    }
    text
}

/// As much of [`printable`] text as belongs into a line: 255 characters.
pub(crate) fn excerpt(text: &str) -> String {
    let shown = text.chars().take(255);
    // A tab is only a wide blank.
    printable(
        &shown
            .map(|c| if c == '\t' { ' ' } else { c })
            .collect::<String>(),
    )
}

/// `19.6 GiB`, `512 B`.
pub(crate) fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["KiB", "MiB", "GiB", "TiB", "PiB"];
    let mut value = count as f64;
    let mut unit = "B";
    for larger in UNITS {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = larger;
    }
    match unit {
        "B" => format!("{count} B"),
        _ => format!("{value:.1} {unit}"),
    }
}

/// Left-aligned columns, two spaces apart, as wide as their widest cell. Of what is in a cell
/// nothing is acted on by a terminal, whoever wrote it.
pub(crate) fn table<const N: usize>(
    header: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> String {
    let mut cells: Vec<String> = header.iter().map(ToString::to_string).collect();
    rows.for_each(|row| cells.extend(row));
    columns(N, &cells)
}

/// Likewise, of cells that follow each other, row by row. Not generic: it is in the program once.
fn columns(count: usize, cells: &[String]) -> String {
    let cells: Vec<String> = cells.iter().map(|cell| printable(cell)).collect();
    let mut widths = vec![0; count];
    for (at, cell) in cells.iter().enumerate() {
        let width = &mut widths[at % count];
        *width = cell.chars().count().max(*width);
    }
    let mut text = String::new();
    for row in cells.chunks(count) {
        let start = text.len();
        for (cell, width) in row.iter().zip(&widths) {
            text += &format!("{cell:width$}  ");
        }
        text.truncate(start + text[start..].trim_end().len());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_acts_on_is_shown() {
        let text = "a\u{1b}[2J\n\tb\u{9b}é";
        assert_eq!(one_line(text), "a [2J  b é");
        assert_eq!(printable(text), "a\u{fffd}[2J\u{fffd}\u{fffd}b\u{fffd}é");
        assert_eq!(excerpt(&"é\n".repeat(200)), "é\u{fffd}".repeat(127) + "é");
        assert_eq!(excerpt("/dev/sdb\t/staging"), "/dev/sdb /staging");
    }

    #[test]
    fn so_it_is_with_what_is_not_seen_and_changes_the_rest() {
        let unseen = [
            '\u{ad}',
            '\u{61c}',
            '\u{180e}',
            '\u{200b}',
            '\u{200d}',
            '\u{200e}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{fff9}',
            '\u{fdd0}',
            '\u{fffe}',
            '\u{ffff}',
            '\u{1d173}',
            '\u{e0001}',
            '\u{e0041}',
            '\u{10ffff}',
            '\u{7f}',
            '\u{85}',
        ];
        for c in unseen {
            let text = format!("exe{c}fdp");
            assert_eq!(one_line(&text), "exe fdp", "{:x}", u32::from(c));
            assert_eq!(printable(&text), "exe\u{fffd}fdp", "{:x}", u32::from(c));
        }
        let seen = "Żółw 猫 שלום سلام é e\u{301} ☃\u{fe0f} \u{a0}\u{fffd}😀";
        assert_eq!(printable(seen), seen);
    }

    #[test]
    fn of_several_lines_the_ends_stay_and_json_says_the_same_as_before() {
        assert_eq!(
            printable_lines("a\u{202e}b\n\tc\n"),
            "a\u{fffd}b\n\u{fffd}c\n"
        );
        let value = serde_json::json!({"name": "a\u{202e}b\u{e0041}\u{7f}\n\"é"});
        let json = serde_json::to_string_pretty(&value).unwrap() + "\n";
        let shown = printable_json(&json);
        assert_eq!(shown, printable_lines(&shown));
        assert!(
            shown.contains(r#"a\u202eb\udb40\udc41\u007f\n\"é"#),
            "{shown}"
        );
        assert_eq!(
            serde_json::from_str::<serde_json::Value>(&shown).unwrap(),
            value
        );
    }

    #[test]
    fn nor_on_what_is_in_a_table() {
        let rows = [["a\nb", "x"], ["\u{1b}[2J", "y"]];
        let rows = rows.into_iter().map(|row| row.map(String::from));
        assert_eq!(
            table(&["A", "B"], rows),
            "A     B\na\u{fffd}b   x\n\u{fffd}[2J  y\n"
        );
    }

    #[test]
    fn a_size_is_written_in_the_largest_unit_that_fits() {
        let cases = [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (21_045_339_750, "19.6 GiB"),
            (u64::MAX, "16384.0 PiB"),
        ];
        for (count, expected) in cases {
            assert_eq!(bytes(count), expected);
        }
    }
}
