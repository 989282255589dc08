//! How users, groups and commands are compared with what a policy lists.

/// The word of a pattern that stands for any one word.
pub(super) const ANY_WORD: &str = "*";
/// The last word of a pattern that stands for any number of words, none included.
pub(super) const ANY_WORDS: &str = "...";
/// The end of a name that stands for any end.
pub(super) const ANY_END: char = '*';

/// Whether a name is the listed one, or begins with it where that ends in [`ANY_END`].
pub(super) fn is_name(listed: &str, name: &str) -> bool {
    match listed.strip_suffix(ANY_END) {
        Some(beginning) => name.starts_with(beginning),
        None => listed == name,
    }
}

/// Whether a command has exactly these words.
pub(super) fn is_command(pattern: &[String], argv: &[String]) -> bool {
    !pattern.is_empty() && pattern.len() == argv.len() && begins(pattern, argv)
}

/// The same, with [`ANY_WORDS`] as the last word.
pub(super) fn is_open_command(pattern: &[String], argv: &[String]) -> bool {
    match pattern.split_last() {
        Some((last, words)) if last == ANY_WORDS => {
            !words.is_empty() && words.len() <= argv.len() && begins(words, argv)
        }
        _ => is_command(pattern, argv),
    }
}

fn begins(words: &[String], argv: &[String]) -> bool {
    let mut pairs = words.iter().zip(argv);
    pairs.all(|(word, given)| word == ANY_WORD || word == given)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn a_name_may_be_open_at_its_end() {
        for (listed, name, expected) in [
            ("alice", "alice", true),
            ("alice", "alice2", false),
            (
                "system:serviceaccount:ci:*",
                "system:serviceaccount:ci:runner",
                true,
            ),
            (
                "system:serviceaccount:ci:*",
                "system:serviceaccount:ci-2:runner",
                false,
            ),
            (
                "system:serviceaccount:ci:*",
                "system:serviceaccount:ci:",
                true,
            ),
            (
                "system:serviceaccount:ci:*",
                "system:serviceaccount:ci",
                false,
            ),
            (
                "system:serviceaccount:ci*",
                "system:serviceaccount:ci-2:runner",
                true,
            ),
        ] {
            assert_eq!(is_name(listed, name), expected, "{listed} {name}");
        }
    }

    #[test]
    fn a_command_may_be_open_at_its_end() {
        for (pattern, argv, expected) in [
            ("ls", "ls", true),
            ("ls", "ls -l", false),
            ("ls *", "ls", false),
            ("ls *", "ls -l", true),
            ("ls ...", "ls", true),
            ("ls ...", "ls -l /tmp", true),
            ("ls ...", "lsof", false),
            ("ls * ...", "ls", false),
            ("ls * ...", "ls a", true),
            ("ls * ...", "ls a b c", true),
            ("kubectl get ...", "kubectl delete pod", false),
            ("...", "ls", false),
            ("", "", false),
        ] {
            let holds = is_open_command(&words(pattern), &words(argv));
            assert_eq!(holds, expected, "{pattern:?} {argv:?}");
        }
    }

    fn a_word() -> impl Strategy<Value = String> {
        prop_oneof![Just("*".to_owned()), Just("...".to_owned()), "[ab]{0,2}"]
    }

    /// What the documentation says of a pattern, word by word.
    fn by_the_book(pattern: &[String], argv: &[String]) -> bool {
        match (pattern, argv) {
            ([], []) => true,
            ([last], _) if last == ANY_WORDS => true,
            ([word, pattern @ ..], [given, argv @ ..]) => {
                (word == ANY_WORD || word == given) && by_the_book(pattern, argv)
            }
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn a_pattern_means_what_is_said_of_it(
            program in "[ab]{1,2}",
            rest in prop::collection::vec(a_word(), 0..4),
            argv in prop::collection::vec(a_word(), 0..6),
        ) {
            let pattern = [vec![program], rest].concat();
            prop_assert_eq!(is_open_command(&pattern, &argv), by_the_book(&pattern, &argv));
        }

        #[test]
        fn what_is_open_matches_all_that_begins_like_it(
            words in prop::collection::vec("[a-c]{1,3}", 1..5),
            more in prop::collection::vec(any::<String>(), 0..5),
        ) {
            let open = [words.clone(), vec![ANY_WORDS.to_owned()]].concat();
            let argv = [words.clone(), more.clone()].concat();
            prop_assert!(is_open_command(&open, &argv));
            prop_assert_eq!(is_open_command(&words, &argv), more.is_empty());
            // Any other program is another command.
            let mut other = argv;
            other[0].push('x');
            prop_assert!(!is_open_command(&open, &other));
        }

        #[test]
        fn one_word_stands_for_one_word(
            words in prop::collection::vec("[a-c]{1,3}", 2..5),
            at in 1..4_usize,
            given in any::<String>(),
        ) {
            let at = at.min(words.len() - 1);
            let (mut pattern, mut argv) = (words.clone(), words);
            pattern[at] = ANY_WORD.to_owned();
            argv[at] = given;
            prop_assert!(is_command(&pattern, &argv) && is_open_command(&pattern, &argv));
            argv.insert(at, "more".to_owned());
            prop_assert!(!is_command(&pattern, &argv));
        }

        #[test]
        fn a_name_is_compared_from_its_beginning(listed in "[a-c:]{1,4}", end in any::<String>(), other in any::<String>()) {
            let (open, name) = (format!("{listed}*"), format!("{listed}{end}"));
            prop_assert!(is_name(&open, &name));
            prop_assert_eq!(is_name(&listed, &name), end.is_empty());
            prop_assert_eq!(is_name(&open, &other), other.starts_with(&listed));
        }
    }
}
