//! Everything that reaches the terminal goes through here.
//!
//! Annotations hold what others typed. Whatever of it could move the cursor, colour the screen or
//! turn the direction of the text is shown as an escape sequence instead.

use std::{
    io::{self, ErrorKind, IsTerminal, Write},
    process::ExitCode,
};

use anyhow::Result;
pub(crate) use curfew_core::text::{is_unsafe, visible};
use serde_json::Value;

/// Writes to standard output. That nobody reads on, as `head` does, is no failure.
pub(crate) fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

/// Tells something beside the result.
pub(crate) fn note(text: &str) {
    // Where nobody listens nothing can be told.
    drop(writeln!(io::stderr(), "{}", visible(text)));
}

/// Asks something; the answer stands on the same line.
pub(crate) fn ask(text: &str) {
    drop(write!(io::stderr(), "{}", visible(text)));
}

/// Tells an error, which may have several lines.
pub(crate) fn error(error: &anyhow::Error) {
    sentence(error).lines().for_each(note);
}

/// Tells the error that ended the run.
pub(crate) fn failed(cause: &anyhow::Error) -> ExitCode {
    error(cause);
    ExitCode::FAILURE
}

/// An error in the form that users know from kubectl.
pub(crate) fn sentence(error: &anyhow::Error) -> String {
    match error.downcast_ref() {
        Some(kube::Error::Api(status)) => match status.reason.as_str() {
            "" => format!("Error from server: {}", status.message),
            reason => format!("Error from server ({reason}): {}", status.message),
        },
        _ => {
            let mut text = "error".to_owned();
            for cause in error.chain().map(ToString::to_string) {
                // Some errors repeat their cause in what they say themselves.
                if !text.contains(&cause) {
                    text.push_str(": ");
                    text.push_str(&cause);
                }
            }
            text
        }
    }
}

/// The pods as JSON.
pub(crate) fn json(shown: &Value) -> Result<String> {
    let text = serde_json::to_string_pretty(shown)?;
    // Outside of strings there are none of these but the line ends.
    let mut safe = String::with_capacity(text.len() + 1);
    for c in text.chars() {
        if c != '\n' && is_unsafe(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
    }
    safe.push('\n');
    Ok(safe)
}

/// A text of several lines that its reader composed: as it is where a program reads it, and without
/// what a terminal would obey where a person does.
pub(crate) fn shown(text: &str) -> String {
    match io::stdout().is_terminal() {
        false => text.to_owned(),
        true => text
            .split_inclusive(['\n', '\t'])
            .flat_map(|part| {
                let end = part.trim_end_matches(['\n', '\t']);
                [visible(end).into_owned(), part[end.len()..].to_owned()]
            })
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn errors_read_as_kubectls_do() {
        let status = kube::core::Status::failure("pods \"x\" not found", "NotFound").with_code(404);
        let error = kube::Error::Api(status.boxed()).into();
        assert_eq!(
            sentence(&error),
            "Error from server (NotFound): pods \"x\" not found"
        );
        let error = anyhow::anyhow!("refused").context("no cluster is configured");
        assert_eq!(sentence(&error), "error: no cluster is configured: refused");
        let error = anyhow::anyhow!("refused").context("cannot connect: refused");
        assert_eq!(sentence(&error), "error: cannot connect: refused");
    }

    #[test]
    fn every_unsafe_character_is_escaped() {
        let all: String = (0..=0x10_ffff)
            .filter_map(char::from_u32)
            .filter(|c| is_unsafe(*c))
            .collect();
        check_both_formats(&all);
    }

    fn check_both_formats(text: &str) {
        let shown = json!({"metadata": {"annotations": {"key": text}}, "items": [text, 1, null]});
        let (json, yaml) = (json(&shown).unwrap(), crate::print::yaml::render(&shown));
        for printed in [&json, &yaml] {
            assert!(
                !printed.chars().any(|c| c != '\n' && is_unsafe(c)),
                "{printed:?}"
            );
        }
        assert_eq!(serde_json::from_str::<Value>(&json).unwrap(), shown);
        assert_eq!(serde_saphyr::from_str::<Value>(&yaml).unwrap(), shown);
    }

    proptest! {
        #[test]
        fn both_formats_say_the_same_and_nothing_unsafe(text in any::<String>()) {
            check_both_formats(&text);
        }
    }
}
