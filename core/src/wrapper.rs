//! What others put before a command.
//!
//! The Security Profiles Operator (and with it the audit logging of OpenShift) changes the command of an exec
//! to `env SPO_EXEC_REQUEST_UID=UID COMMAND…`, so that its log can tell which request a process came from. It
//! is the same command to whoever asks what was run.

/// The variable that tells the request.
const VARIABLE: &str = "SPO_EXEC_REQUEST_UID=";

/// The UID of the request that stands before a command, if one does, and the command without it. Exactly that
/// prefix is taken off: anything else that `env` is told may change what the command does.
pub fn split(argv: &[String]) -> (Option<&str>, &[String]) {
    if let [env, variable, command @ ..] = argv
        && env == "env"
        && let Some(uid) = variable.strip_prefix(VARIABLE)
        && is_uid(uid)
        // An option or another variable would be for env itself.
        && let Some(first) = command.first()
        && !first.is_empty()
        && !first.starts_with('-')
        && !first.contains('=')
    {
        return (Some(uid), command);
    }
    (None, argv)
}

/// Whether this is a UID as the API server makes them.
fn is_uid(text: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let at = |(index, byte): (usize, u8)| match index {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => hex(byte),
    };
    text.len() == 36 && text.bytes().enumerate().all(at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const UID: &str = "4f2303d7-da46-4a8c-9ea4-3a830d478076";

    fn argv(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn exactly_that_prefix_is_taken_off() {
        let variable = format!("{VARIABLE}{UID}");
        let wrapped = argv(&["env", &variable, "ls", "-l", "A=b"]);
        assert_eq!(
            split(&wrapped),
            (Some(UID), &argv(&["ls", "-l", "A=b"])[..])
        );
        let upper = variable.to_uppercase();
        let longer = format!("{variable}0");
        for other in [
            &["env"][..],
            &["env", &variable],
            &["env", &variable, ""],
            &["env", &variable, "-S", "sh -c id"],
            &["env", &variable, "LD_PRELOAD=/tmp/x.so", "ls"],
            &["env", "-i", &variable, "ls"],
            &["env", "SPO_EXEC_REQUEST_UID=", "ls"],
            &["env", &upper, "ls"],
            &["env", &longer, "ls"],
            &["/usr/bin/env", &variable, "ls"],
            &["ls"],
            &[],
        ] {
            let other = argv(other);
            assert_eq!(split(&other), (None, other.as_slice()));
        }
    }

    proptest! {
        #[test]
        fn what_is_left_is_the_end_of_what_was_given(
            words in prop::collection::vec("env|SPO_EXEC_REQUEST_UID=4f2303d7-da46-4a8c-9ea4-3a830d478076|\\PC{0,6}", 0..5)
        ) {
            let (uid, left) = split(&words);
            prop_assert!(words.ends_with(left));
            prop_assert_eq!(words.len() - left.len(), if uid.is_some() { 2 } else { 0 });
            prop_assert!(uid.is_none() || !left.is_empty());
        }
    }
}
