//! What the system says of an error.

use std::io;

use nix::errno::Errno;

/// An error in words. musl has none for some, such as EUCLEAN, which is what the kernel says
/// of a damaged file system.
pub(crate) fn in_words(error: &io::Error) -> String {
    of(error.raw_os_error(), error.to_string())
}

/// musl's strerror(3) says this of all that it does not know.
const NO_WORDS: &str = "No error information";

fn of(errno: Option<i32>, text: String) -> String {
    match errno {
        Some(number) if text.starts_with(NO_WORDS) => {
            format!("{} (os error {number})", Errno::from_raw(number).desc())
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_c_library_has_no_words_for_has_some() {
        let of_musl = |number: i32| format!("{NO_WORDS} (os error {number})");
        let cases = [
            (Errno::EUCLEAN, "Structure needs cleaning (os error 117)"),
            (Errno::EBADMSG, "Not a data message (os error 74)"),
        ];
        for (errno, expected) in cases {
            let number = errno as i32;
            assert_eq!(of(Some(number), of_musl(number)), expected);
        }
        assert_eq!(of(Some(5), "I/O error".into()), "I/O error");
        assert_eq!(of(None, of_musl(1)), of_musl(1));
    }
}
