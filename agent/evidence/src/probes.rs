//! Tells what the kubelet runs in a container (exec probes and lifecycle hooks) from what people run.
//!
//! A process shows only the command that it runs now. What the kubelet starts may be a script, which shows as its
//! interpreter, or a shell, which may become the last command of its script. In doubt a process is taken for the probe
//! that it looks like: a workload must never be evicted because of its own probe.

use std::{collections::HashSet, time::Duration};

use crate::facts::Probe;

/// The shells whose scripts are read for the programs that they may become.
const SHELLS: &[&str] = &["sh", "ash", "bash", "dash", "ksh", "zsh"];

/// An interpreter and its one argument may stand before a script.
const MAX_INTERPRETER: usize = 2;

/// How long after its timeout a probe may still run: it is killed, which takes a moment.
const AFTER_TIMEOUT: Duration = Duration::from_secs(1);

/// Whether the command is one of the probes of the container, or what became of one.
pub(crate) fn is_probe(probes: &[Probe], container: &str, command: &[String]) -> bool {
    probes
        .iter()
        .any(|probe| probe.container == container && became(&probe.argv, command))
}

/// How long a process may be a probe that does not look like it, because it became another program. None if the
/// container has no probe.
pub(crate) fn longest(probes: &[Probe], container: &str) -> Option<Duration> {
    probes
        .iter()
        .filter(|probe| probe.container == container)
        .filter_map(|probe| probe.timeout)
        .max()
        .map(|timeout| timeout.saturating_add(AFTER_TIMEOUT))
}

/// Whether the container has a hook, which may take as long as it wants.
pub(crate) fn has_hook(probes: &[Probe], container: &str) -> bool {
    probes
        .iter()
        .any(|probe| probe.container == container && probe.timeout.is_none())
}

/// Whether a process that was started with this argv may show this command now.
pub(crate) fn became(argv: &[String], command: &[String]) -> bool {
    if argv.is_empty() || command.is_empty() {
        return false;
    }
    // `env`, `timeout` and others become what stands behind them; a script stands behind its interpreter.
    let of_wrapper = (0..argv.len()).any(|from| is_command(&argv[from..], command));
    let of_script =
        (1..=MAX_INTERPRETER.min(command.len())).any(|from| is_command(argv, &command[from..]));
    of_wrapper || of_script || script(argv).is_some_and(|script| may_become(script, command))
}

/// Whether both are the same command. The program may have been looked for in `PATH`.
fn is_command(argv: &[String], command: &[String]) -> bool {
    let (Some((program, rest)), Some((shown, shown_rest))) =
        (argv.split_first(), command.split_first())
    else {
        return false;
    };
    let found = || !program.contains('/') && name(shown) == program;
    rest == shown_rest && (program == shown || found())
}

/// The script that a shell is given.
fn script(argv: &[String]) -> Option<&str> {
    let shell = argv.iter().position(|word| SHELLS.contains(&name(word)))?;
    let is_script =
        |word: &&String| word.starts_with('-') && !word.starts_with("--") && word.ends_with('c');
    let mut words = argv[shell + 1..].iter();
    words.by_ref().find(is_script)?;
    words
        .find(|word| !word.starts_with('-'))
        .map(String::as_str)
}

/// Whether the shell may have become the command: its words stand in the script, or its program does and the rest may
/// be what variables hold.
fn may_become(script: &str, command: &[String]) -> bool {
    let words: HashSet<&str> = parts(script).collect();
    let names: HashSet<&str> = words.iter().map(|word| name(word)).collect();
    let Some((program, rest)) = command.split_first() else {
        return false;
    };
    let expands = script.contains(['$', '`', '*', '?', '~']);
    names.contains(name(program))
        && (expands
            || rest
                .iter()
                .flat_map(|word| parts(word))
                .all(|part| words.contains(part)))
}

fn parts(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || ";&|()<>\"'`{}$\\".contains(c))
        .filter(|part| !part.is_empty())
}

pub(crate) fn name(program: &str) -> &str {
    program.rsplit('/').next().unwrap_or(program)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn a_probe_is_known_by_what_it_became() {
        for (argv, command) in [
            (&["cat", "/tmp/healthy"][..], &["cat", "/tmp/healthy"][..]),
            (
                &["check.sh", "-v"],
                &["/bin/sh", "/usr/local/bin/check.sh", "-v"],
            ),
            (&["/check.py"], &["/usr/bin/python3", "-u", "/check.py"]),
            (
                &["env", "A=b", "curl", "-f", "localhost"],
                &["curl", "-f", "localhost"],
            ),
            (&["timeout", "5", "true"], &["true"]),
            (
                &["sh", "-c", "pg_isready -U postgres"],
                &["sh", "-c", "pg_isready -U postgres"],
            ),
            (
                &["sh", "-c", "pg_isready -U postgres"],
                &["pg_isready", "-U", "postgres"],
            ),
            (
                &[
                    "/bin/bash",
                    "-ec",
                    "exec pg_isready -U \"$USER\" -h 127.0.0.1",
                ],
                &["/usr/bin/pg_isready", "-U", "shop", "-h", "127.0.0.1"],
            ),
            (
                &["sh", "-c", "test -f /x && echo 'all is well'"],
                &["echo", "all is well"],
            ),
            (&["/bin/busybox", "sh", "-c", "sleep 15"], &["sleep", "15"]),
        ] {
            assert!(
                became(&words(argv), &words(command)),
                "{argv:?} {command:?}"
            );
        }
    }

    #[test]
    fn what_people_run_is_no_probe() {
        for (argv, command) in [
            (&["cat", "/tmp/healthy"][..], &["cat", "/etc/passwd"][..]),
            (&["cat", "/tmp/healthy"], &["sh"]),
            (&["sh", "-c", "pg_isready -U postgres"], &["sh"]),
            (&["sh", "-c", "pg_isready -U postgres"], &["sh", "-c", "id"]),
            (&["sh", "-c", "pg_isready"], &["pg_isready", "-U", "x"]),
            (&["sh", "-c", "exec curl $URL"], &["wget", "http://x/"]),
            (&["sh", "-c", "id"], &[]),
            (&[], &["sh"]),
        ] {
            assert!(
                !became(&words(argv), &words(command)),
                "{argv:?} {command:?}"
            );
        }
    }

    #[test]
    fn probes_are_those_of_the_container() {
        let probe = |container: &str, timeout| Probe {
            container: container.to_owned(),
            argv: words(&["true"]),
            timeout,
        };
        let second = Duration::from_secs(1);
        let probes = [
            probe("app", Some(second)),
            probe("app", Some(3 * second)),
            probe("side", None),
        ];
        assert!(is_probe(&probes, "app", &words(&["true"])));
        assert!(!is_probe(&probes, "other", &words(&["true"])));
        assert_eq!(longest(&probes, "app"), Some(4 * second));
        assert_eq!(longest(&probes, "side"), None);
        assert!(has_hook(&probes, "side") && !has_hook(&probes, "app"));
    }

    proptest! {
        #[test]
        fn a_probe_always_looks_like_itself(argv in prop::collection::vec("\\PC{0,12}", 1..5)) {
            prop_assert!(became(&argv, &argv));
        }

        #[test]
        fn nothing_panics(argv in prop::collection::vec("(sh|-c|/|\\$|é){0,3}", 0..5), command in prop::collection::vec("(sh|-c|/|é){0,3}", 0..5)) {
            let _ = became(&argv, &command);
        }
    }
}
