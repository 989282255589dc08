//! The words of the command line as kubectl takes them, before they are parsed.

use std::ffi::OsString;

use clap::{Arg, Command};

/// What stands between verb and names for kubectl, whose verbs are of all kinds.
const KINDS: [&str; 3] = ["pod", "pods", "po"];
/// The verbs that are about pods.
const VERBS: [&str; 7] = [
    "get", "describe", "explain", "extend", "hold", "release", "evict",
];

/// Whether the word between a verb and the names says no more than that pods are meant.
fn is_kind(verb: &str, word: &str) -> bool {
    VERBS.contains(&verb) && KINDS.contains(&word)
}

/// Whether the flag's value is the next word.
fn takes_next(arg: &Arg) -> bool {
    arg.get_action().takes_values() && !arg.is_require_equals_set()
}

/// The words without the kind, as in `get pod web-1`. A pod of such a name is `pod/NAME`. `cli` is
/// built, so that each verb knows the flags of all.
pub(crate) fn without_kind(cli: &Command, words: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut words: Vec<_> = words.collect();
    if let Some(at) = kind(cli, &words) {
        words.remove(at);
    }
    words
}

/// Where the kind stands: the first word behind the verb that is neither a flag nor a flag's value.
fn kind(cli: &Command, words: &[OsString]) -> Option<usize> {
    let mut command = cli;
    let mut verb = None;
    let mut is_value = false;
    for (at, word) in words.iter().enumerate().skip(1) {
        let word = word.to_str()?;
        if std::mem::take(&mut is_value) {
            continue;
        }
        match (word, verb) {
            ("--", _) => return None,
            (flag, _) if flag.len() > 1 && flag.starts_with('-') => {
                is_value = opens(command, flag);
            }
            (word, None) => {
                command = cli.find_subcommand(word)?;
                verb = Some(word);
            }
            (word, Some(verb)) => return is_kind(verb, word).then_some(at),
        }
    }
    None
}

/// Whether the value of a flag is the next word.
fn opens(command: &Command, flag: &str) -> bool {
    let find = |matches: &dyn Fn(&Arg) -> bool| command.get_arguments().find(|arg| matches(arg));
    if let Some(name) = flag.strip_prefix("--") {
        return find(&|arg| arg.get_long() == Some(name)).is_some_and(takes_next);
    }
    let mut letters = flag.chars().skip(1).peekable();
    while let Some(letter) = letters.next() {
        if find(&|arg| arg.get_short() == Some(letter)).is_some_and(takes_next) {
            return letters.peek().is_none();
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    fn without(line: &str) -> String {
        let mut cli = crate::cli::Cli::command();
        cli.build();
        let words = without_kind(&cli, line.split(' ').map(OsString::from));
        let words: Vec<_> = words.iter().map(|word| word.to_str().unwrap()).collect();
        words.join(" ")
    }

    #[test]
    fn the_kind_may_stand_between_verb_and_names() {
        for (line, read) in [
            ("pi get pod web-1", "pi get web-1"),
            ("pi get pods", "pi get"),
            ("pi -n pod get po -A", "pi -n pod get -A"),
            ("pi get -n pods pod web-1", "pi get -n pods web-1"),
            ("pi get -wn shop pods", "pi get -wn shop"),
            ("pi get --watch pods web-1", "pi get --watch web-1"),
            ("pi describe -nshop pod web-1", "pi describe -nshop web-1"),
            (
                "pi hold --reason pod pod web-1",
                "pi hold --reason pod web-1",
            ),
            ("pi hold --reason=x pod pod", "pi hold --reason=x pod"),
            ("pi get web-1 pod", "pi get web-1 pod"),
            ("pi get pod/pod", "pi get pod/pod"),
            ("pi node pod", "pi node pod"),
            ("pi explain web-1 -- pod", "pi explain web-1 -- pod"),
            ("pi explain pod web-1 -- sh", "pi explain web-1 -- sh"),
            ("pi", "pi"),
        ] {
            assert_eq!(without(line), read, "{line}");
        }
    }
}
