//! Programs that run the command behind them, and where that command begins.

use super::argument::{ArgumentSet, is_variable};

/// A program that runs the command behind it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wrapper {
    name: &'static str,
    /// Letters of short options that take a value.
    valued: &'static str,
    /// Long options that take a value in the next word.
    long: &'static [&'static str],
    /// How many words stand between the options and the command.
    positionals: usize,
    /// Whether assignments can stand before the command.
    assigns: bool,
    /// Whether it stays in the chain. The others change nothing that matters here.
    pub(super) kept: bool,
}

const fn plain(name: &'static str, valued: &'static str, long: &'static [&'static str]) -> Wrapper {
    Wrapper {
        name,
        valued,
        long,
        positionals: 0,
        assigns: false,
        kept: false,
    }
}

const fn kept(name: &'static str, valued: &'static str, positionals: usize) -> Wrapper {
    Wrapper {
        name,
        valued,
        long: &[
            "user", "group", "host", "chdir", "target", "userspec", "reuid", "regid",
        ],
        positionals,
        assigns: true,
        kept: true,
    }
}

/// Source of the options: the manual pages of coreutils, util-linux, busybox, sudo, doas, gosu and tini.
const WRAPPERS: [Wrapper; 29] = [
    Wrapper {
        assigns: true,
        ..plain("env", "uC", &["unset", "chdir"])
    },
    plain("nice", "n", &["adjustment"]),
    plain("nohup", "", &[]),
    Wrapper {
        positionals: 1,
        ..plain("timeout", "sk", &["signal", "kill-after"])
    },
    plain("stdbuf", "ioe", &["input", "output", "error"]),
    plain("setsid", "", &[]),
    plain("ionice", "cnp", &["class", "classdata"]),
    Wrapper {
        positionals: 1,
        ..plain("chrt", "TPD", &[])
    },
    Wrapper {
        positionals: 1,
        ..plain("taskset", "", &[])
    },
    plain("time", "fo", &["format", "output"]),
    plain("tini", "pe", &[]),
    plain("dumb-init", "r", &["rewrite"]),
    plain("catchsegv", "", &[]),
    plain("exec", "a", &[]),
    plain("command", "", &[]),
    plain("builtin", "", &[]),
    kept("sudo", "ughpCrtTDR", 0),
    kept("doas", "uC", 0),
    kept("runuser", "ugG", 0),
    kept("gosu", "", 1),
    kept("su-exec", "", 1),
    kept("setpriv", "", 0),
    kept("chroot", "", 1),
    kept("unshare", "RwSG", 0),
    kept("nsenter", "tSGw", 0),
    kept("pkexec", "", 0),
    kept("xargs", "IEnPdLas", 0),
    kept("strace", "eopsuaOSX", 0),
    kept("ltrace", "eopsuan", 0),
];

/// The wrapper of this name.
pub(super) fn wrapper(program: &str) -> Option<&'static Wrapper> {
    WRAPPERS.iter().find(|wrapper| wrapper.name == program)
}

impl Wrapper {
    /// Where the command begins, and the classes of the words before it.
    pub(super) fn command(&self, words: &[String]) -> (usize, ArgumentSet) {
        let mut own = ArgumentSet::default();
        let mut at = 1;
        while let Some(word) = words.get(at) {
            if word == "--" {
                at += 1;
                break;
            }
            let is_assignment = || {
                self.assigns
                    && word
                        .split_once('=')
                        .is_some_and(|(name, _)| is_variable(name))
            };
            if word.len() > 1 && word.starts_with('-') {
                own.classify(word);
                at += if self.takes_value(word) { 2 } else { 1 };
            } else if is_assignment() {
                own.classify(word);
                at += 1;
            } else {
                break;
            }
        }
        (at.saturating_add(self.positionals), own)
    }

    /// Whether the value of this option is the next word.
    fn takes_value(&self, option: &str) -> bool {
        match option.strip_prefix("--") {
            Some(long) => self.long.contains(&long),
            None => option.len() == 2 && self.valued.contains(&option[1..]),
        }
    }
}
