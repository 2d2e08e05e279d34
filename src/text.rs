//! Texts for people: what may be shown of them, sizes, tables.

/// A text of this program's own in one line, which a terminal does not act on: a blank
/// stands for each control character.
pub(crate) fn one_line(text: &str) -> String {
    text.replace(char::is_control, " ")
}

/// A text that somebody else wrote, as it may be shown: U+FFFD stands for each control
/// character, so that one sees that there was one.
pub(crate) fn printable(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// As much of [`printable`] text as belongs into a line: 255 characters.
pub(crate) fn excerpt(text: &str) -> String {
    printable(&text.chars().take(255).collect::<String>())
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
    let header = header.map(String::from);
    let rows = rows.map(|row| row.map(|cell| printable(&cell)));
    let rows: Vec<[String; N]> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| {
        rows.iter()
            .map(|row| row[column].chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths: [usize; N] = std::array::from_fn(width);
    rows.iter()
        .map(|row| {
            let cells = row.iter().zip(widths);
            let line: Vec<String> = cells
                .map(|(cell, width)| format!("{cell:width$}"))
                .collect();
            format!("{}\n", line.join("  ").trim_end())
        })
        .collect()
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
