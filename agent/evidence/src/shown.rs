//! Names of files and processes, as they are shown to people.

use std::fmt::Write as _;

use curfew_core::{Command, masking, text::visible};

/// The text of a path. What is no UTF-8, and what a terminal would obey, is escaped.
pub(crate) fn shown(path: &[u8]) -> String {
    let mut text = String::new();
    for chunk in path.utf8_chunks() {
        text.push_str(&visible(chunk.valid()));
        for byte in chunk.invalid() {
            // Writing to a string does not fail.
            let _ = write!(text, "\\x{byte:02x}");
        }
    }
    match text.is_empty() {
        true => "/".to_owned(),
        false => text,
    }
}

/// The text of a command, without the secrets that are recognised.
pub(crate) fn command(argv: &[String]) -> String {
    visible(Command::new(masking::masked(argv)).as_str()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn whatever_a_path_holds_is_one_line() {
        assert_eq!(shown(b"/tmp/nc"), "/tmp/nc");
        assert_eq!(shown(b"/a\nb\x1b[2J\xff\xc3"), "/a\\nb\\u{1b}[2J\\xff\\xc3");
        assert_eq!(shown("/名前".as_bytes()), "/名前");
        assert_eq!(shown(b""), "/");
    }

    #[test]
    fn secrets_are_masked() {
        let argv = ["mysql", "--password=secret"].map(str::to_owned);
        assert_eq!(command(&argv), "mysql '--password=xxxxx'");
    }

    proptest! {
        #[test]
        fn nothing_in_it_is_obeyed(path in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(!shown(&path).contains(curfew_core::text::is_unsafe));
        }
    }
}
