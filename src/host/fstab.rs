//! `/etc/fstab`: what is to be mounted where (fstab(5)).
//!
//! It is read as libmount does, which mount(8) and swapon(8) use: fields between blanks and
//! tabs, `\040` for a blank, lines that begin with `#`, and a line that ends with CR LF or with
//! the file. Where libmount gives a line up and other readers do not (systemd reads it with
//! getmntent(3)), the line is kept: it may be acted on, and it says whose a disk is. Thus
//!
//! - fields may be missing at the end, even all but the first;
//! - a line ends at a NUL, as for every reader written in C;
//! - quotes hold a blank together: `LABEL="my disk"`.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::Host;
use super::mount_table::unescape;
use super::regular_file::{self, MIB};
use crate::text;

/// Where it is.
pub(crate) const FSTAB: &str = "/etc/fstab";

/// What `/etc/fstab` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Fstab {
    /// In their order.
    pub lines: Vec<Line>,
}

/// A line that is neither empty nor a comment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line {
    /// Counted from 1.
    pub number: usize,
    /// The line for people: at most 255 characters, each of them printable.
    pub text: String,
    /// A path, `LABEL=data`, `server:/export`, `tmpfs`; quotes are still in it.
    pub source: OsString,
    /// `none` or `swap` for swap space. Empty where it is missing.
    pub mount_point: PathBuf,
    /// Empty where it is missing.
    pub filesystem: String,
    /// One each.
    pub options: Vec<String>,
    /// In which pass fsck(8) looks at it; 0 for never, and where it is missing.
    pub pass: u32,
}

impl Fstab {
    /// Reads `/etc/fstab`. Where there is none it has no lines. `/etc/fstab.d` is not read:
    /// mount(8) does not either, unless somebody built it for that.
    ///
    /// # Errors
    ///
    /// That there is one which cannot be read, or is no regular file of at most 1 MiB: then it
    /// is not known what it says.
    pub(crate) fn read(host: &Host) -> Result<Fstab> {
        let file = host.path(FSTAB);
        match regular_file::read(&file, MIB) {
            Ok(content) => Ok(Fstab::parse(&content)),
            // A link that leads nowhere says that there is to be one.
            Err(e) if e.kind() == ErrorKind::NotFound && !file.is_symlink() => Ok(Fstab::default()),
            Err(e) => Err(e).with_context(|| format!("cannot read {FSTAB}")),
        }
    }

    /// Whatever the bytes are, they are lines.
    pub fn parse(content: &[u8]) -> Fstab {
        let lines = content.split(|byte| *byte == b'\n').enumerate();
        let lines = lines.filter_map(|(before, line)| Line::parse(before + 1, line));
        Fstab {
            lines: lines.collect(),
        }
    }
}

impl Line {
    fn parse(number: usize, line: &[u8]) -> Option<Line> {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = line.split(|byte| *byte == 0).next()?;
        let line = without_blanks_before(line);
        if line.is_empty() || line.starts_with(b"#") {
            return None;
        }
        let (source, rest) = split_source(line);
        let mut fields = rest.split(is_blank).filter(|field| !field.is_empty());
        let mut field = || unescape(fields.next().unwrap_or_default());
        let mount_point = field();
        let filesystem = field().to_string_lossy().into_owned();
        let options = split_options(&field().to_string_lossy());
        let _dump = field();
        let pass = field().to_string_lossy().parse().unwrap_or(0);
        Some(Line {
            number,
            text: in_one_row(line),
            source: unescape(source).into_os_string(),
            mount_point,
            filesystem,
            options,
            pass,
        })
    }

    /// Whether cloud-init wrote the line: it marks those that it writes, so that it can take
    /// them out again (MNT_COMMENT in its cc_mounts.py).
    pub fn is_of_cloud_init(&self) -> bool {
        self.options
            .iter()
            .any(|option| option == "comment=cloudconfig")
    }
}

fn is_blank(byte: &u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

fn without_blanks_before(line: &[u8]) -> &[u8] {
    let begin = line.iter().position(|byte| !is_blank(byte));
    &line[begin.unwrap_or(line.len())..]
}

/// The first field and what comes after it. A quote may open the field, or what comes after
/// the `=`. Then the field ends with the first such quote behind which a mount point follows.
fn split_source(line: &[u8]) -> (&[u8], &[u8]) {
    let blank = line.iter().position(is_blank).unwrap_or(line.len());
    let equals = line[..blank].iter().position(|byte| *byte == b'=');
    let opening = equals.map_or(0, |at| at + 1);
    let Some(quote @ (b'"' | b'\'')) = line.get(opening) else {
        return line.split_at(blank);
    };
    let ends = |at: &usize| line[*at] == *quote && is_before_mount_point(&line[at + 1..]);
    let closing = (opening + 1..line.len()).find(ends);
    line.split_at(closing.map_or(blank, |at| at + 1))
}

fn is_before_mount_point(rest: &[u8]) -> bool {
    let next = without_blanks_before(rest);
    let begins = |with: &str| next.starts_with(with.as_bytes());
    next.len() < rest.len() && (begins("/") || begins("none") || begins("swap"))
}

/// Splits at commas that are not within quotes: `context="a,b",nofail`.
fn split_options(options: &str) -> Vec<String> {
    let mut is_quoted = false;
    let parts = options.split(|character| {
        is_quoted ^= character == '"';
        character == ',' && !is_quoted
    });
    let parts = parts.filter(|option| !option.is_empty());
    parts.map(String::from).collect()
}

/// The fields with one blank between them: tabs put them below each other in the file.
fn in_one_row(line: &[u8]) -> String {
    let fields = line.split(is_blank).filter(|field| !field.is_empty());
    // More than is shown need not be looked at, whatever size the line is.
    let fields: Vec<&[u8]> = fields.take(255).collect();
    text::excerpt(&String::from_utf8_lossy(&fields.join(&b' ')))
}

#[cfg(test)]
mod tests {
    use std::ffi::OsStr;
    use std::fs;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;
    use proptest::prelude::*;

    use super::*;
    use crate::host::tree::Tree;

    /// Source, mount point, type and options of each line, with its number.
    fn seen(text: &str) -> Vec<String> {
        let lines = Fstab::parse(text.as_bytes()).lines;
        let seen = lines.iter().map(|line| {
            format!(
                "{}: {}|{}|{}|{}",
                line.number,
                line.source.display(),
                line.mount_point.display(),
                line.filesystem,
                line.options.join("|")
            )
        });
        seen.collect()
    }

    #[test]
    fn lines_are_read_as_mount_reads_them() {
        let cases: &[(&str, &[&str])] = &[
            ("", &[]),
            ("\n\n", &[]),
            ("# /dev/vdb /data ext4\n", &[]),
            (" \t # /dev/vdb /data ext4\n", &[]),
            (" \t \n", &[]),
            (
                "/dev/vdb /data ext4 defaults,nofail 0 2\n",
                &["1: /dev/vdb|/data|ext4|defaults|nofail"],
            ),
            (
                "\n# one\n\t/dev/vdb\t\t/data  ext4\tdefaults 0 2\n\n/dev/vdc /c xfs defaults",
                &[
                    "3: /dev/vdb|/data|ext4|defaults",
                    "5: /dev/vdc|/c|xfs|defaults",
                ],
            ),
            ("/dev/vdb /data ext4", &["1: /dev/vdb|/data|ext4|"]),
            ("/dev/vdb /data", &["1: /dev/vdb|/data||"]),
            ("/dev/vdb", &["1: /dev/vdb|||"]),
            (
                "/dev/vdb /my\\040data ext4 x\\054y",
                &["1: /dev/vdb|/my data|ext4|x|y"],
            ),
            // Not a blank and not an escape.
            (
                "/dev/vd\u{a0}b /a\\04 ext4",
                &["1: /dev/vd\u{a0}b|/a\\04|ext4|"],
            ),
            (
                "LABEL=my\\040disk /d ext4 rw",
                &["1: LABEL=my disk|/d|ext4|rw"],
            ),
            (
                "/dev/vdb /data ext4 rw\r\n/dev/vdc /c xfs rw\r",
                &["1: /dev/vdb|/data|ext4|rw", "2: /dev/vdc|/c|xfs|rw"],
            ),
            ("\r\n", &[]),
            (
                "/dev/vdb /data ext4 rw 0 0 # mine",
                &["1: /dev/vdb|/data|ext4|rw"],
            ),
            ("/dev/vdb /data ext4 rw x y", &["1: /dev/vdb|/data|ext4|rw"]),
            (
                "/dev/vdb none swap sw,pri=5",
                &["1: /dev/vdb|none|swap|sw|pri=5"],
            ),
            ("/dev/vdb /d ext4 ,,rw,", &["1: /dev/vdb|/d|ext4|rw"]),
            (
                "/dev/vdb /d ext4 context=\"a,b\",nofail",
                &["1: /dev/vdb|/d|ext4|context=\"a,b\"|nofail"],
            ),
            (
                "/dev/vdb /d ext4 context=\"a,b",
                &["1: /dev/vdb|/d|ext4|context=\"a,b"],
            ),
        ];
        for (text, expected) in cases {
            assert_eq!(seen(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn quotes_hold_a_blank_together() {
        let cases = [
            (
                "LABEL=\"my disk\" /d ext4 rw",
                "1: LABEL=\"my disk\"|/d|ext4|rw",
            ),
            ("LABEL='my disk' /d ext4", "1: LABEL='my disk'|/d|ext4|"),
            ("LABEL=\"disk\" /d ext4", "1: LABEL=\"disk\"|/d|ext4|"),
            ("\"/dev/my disk\"\t/d ext4", "1: \"/dev/my disk\"|/d|ext4|"),
            ("LABEL=\"a\"b c\" /d ext4", "1: LABEL=\"a\"b c\"|/d|ext4|"),
            (
                "LABEL=\"a\" b\"  none swap",
                "1: LABEL=\"a\" b\"|none|swap|",
            ),
            // No quote closes it: a blank does.
            ("LABEL=\"my disk /d ext4", "1: LABEL=\"my|disk|/d|ext4"),
            ("LABEL=\" /d ext4", "1: LABEL=\"|/d|ext4|"),
            (
                "LABEL=\"disk /d ext4 a=\"b\" 0 2",
                "1: LABEL=\"disk|/d|ext4|a=\"b\"",
            ),
            // Not at the beginning of a value.
            ("LABEL=my\"disk /d\" ext4", "1: LABEL=my\"disk|/d\"|ext4|"),
        ];
        for (text, expected) in cases {
            assert_eq!(seen(text), [expected], "{text}");
        }
    }

    #[test]
    fn a_line_ends_at_a_nul() {
        let text = "/dev/vdb /data\0 ext4 rw\n\0\0\0\n\0/dev/vdc /c xfs\n/dev/vdd /d xfs\n";
        assert_eq!(seen(text), ["1: /dev/vdb|/data||", "4: /dev/vdd|/d|xfs|"]);
    }

    #[test]
    fn bytes_that_are_no_text_are_kept() {
        let fstab = Fstab::parse(b"LABEL=\xff\\377 /\xfe \xfd a,\xfc,b\n");
        let line = &fstab.lines[0];
        assert_eq!(line.source, OsStr::from_bytes(b"LABEL=\xff\xff"));
        let mount_point = line.mount_point.as_os_str();
        assert_eq!(mount_point, OsStr::from_bytes(b"/\xfe"));
        assert_eq!(line.options, ["a", "\u{fffd}", "b"]);
    }

    #[test]
    fn a_line_is_shown_short_and_printable() {
        let shown = |line: &[u8]| Fstab::parse(line).lines[0].text.clone();
        let line = b"  /dev/vdb\t\t/data  ext4\tdefaults 0 2\r\n";
        assert_eq!(shown(line), "/dev/vdb /data ext4 defaults 0 2");
        let line = b"/dev/vdb /\x1b[2Jd\xff ext4";
        assert_eq!(shown(line), "/dev/vdb /\u{fffd}[2Jd\u{fffd} ext4");
        let long = format!("/dev/vdb /{} ext4", "é".repeat(1000));
        assert_eq!(shown(long.as_bytes()).chars().count(), 255);
    }

    #[test]
    fn cloud_inits_lines_are_known_by_their_mark() {
        let is_its = |options: &str| {
            let text = format!("/dev/vdb /mnt auto {options} 0 2");
            Fstab::parse(text.as_bytes()).lines[0].is_of_cloud_init()
        };
        assert!(is_its("defaults,nofail,comment=cloudconfig"));
        assert!(is_its(
            "defaults,nofail,x-systemd.after=cloud-init.service,_netdev,comment=cloudconfig"
        ));
        assert!(!is_its("defaults,nofail"));
        assert!(!is_its("comment=cloudconfigs"));
        assert!(!is_its("x-comment=cloudconfig"));
    }

    #[test]
    fn a_file_that_is_missing_has_no_lines() {
        assert_eq!(Fstab::read(&Tree::new(&[]).host()).unwrap().lines, []);
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error_and_holds_nobody() {
        let error = |lay: &dyn Fn(&std::path::Path)| {
            let tree = Tree::new(&[("etc/", "")]);
            lay(&tree.root().join("etc/fstab"));
            format!("{:#}", Fstab::read(&tree.host()).unwrap_err())
        };
        assert_eq!(
            error(&|fstab| fs::create_dir(fstab).unwrap()),
            "cannot read /etc/fstab: it is a directory, not a regular file"
        );
        assert_eq!(
            error(&|fstab| mkfifo(fstab, Mode::S_IRWXU).unwrap()),
            "cannot read /etc/fstab: it is a named pipe, not a regular file"
        );
        let nowhere = error(&|fstab| symlink("no-such-file", fstab).unwrap());
        assert!(nowhere.starts_with("cannot read /etc/fstab: No such file"));
        let looped = error(&|fstab| symlink("fstab", fstab).unwrap());
        // glibc and musl have words of their own for it.
        let said = looped.to_lowercase();
        assert!(said.contains("symbolic link"), "{looped}");
        assert_eq!(
            error(&|fstab| fs::write(fstab, vec![b'\n'; MIB as usize + 1]).unwrap()),
            "cannot read /etc/fstab: it is larger than 1048576 bytes"
        );
    }

    #[test]
    fn the_largest_file_is_read_whether_in_one_line_or_in_many() {
        let one = "x".repeat(MIB as usize);
        let line = format!("/d /e f {}\n", "g".repeat(55));
        let many = line.repeat(MIB as usize / 64);
        for (content, count) in [(one, 1), (many, 16_384)] {
            let tree = Tree::new(&[("etc/fstab", &content)]);
            assert_eq!(Fstab::read(&tree.host()).unwrap().lines.len(), count);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_lines(content in prop::collection::vec(any::<u8>(), 0..200)) {
            let lines = Fstab::parse(&content).lines;
            prop_assert!(lines.len() <= content.split(|byte| *byte == b'\n').count());
            for line in lines {
                prop_assert!(!line.source.is_empty());
                prop_assert!(line.text.chars().count() <= 255);
                prop_assert!(!line.text.contains(char::is_control));
            }
        }

        /// What a field holds can be written, and is read again.
        #[test]
        fn a_field_that_is_escaped_is_read_again(path in "/[ -~]{0,20}") {
            let path = PathBuf::from(path);
            let mut line = b"/dev/vdb ".to_vec();
            line.extend(crate::host::mount_table::escape(&path));
            line.extend(b" ext4");
            prop_assert_eq!(&Fstab::parse(&line).lines[0].mount_point, &path);
        }
    }
}
