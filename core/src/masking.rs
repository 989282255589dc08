//! Secrets in commands: what looks like one is masked before anything is kept. It is applied where a policy says how
//! much of a command is kept ([`RecordCommand::of`](crate::policy::RecordCommand::of)).
//!
//! People type passwords in commands, and everyone who may read the pod can read the recorded command. So this
//! module looks for names of secrets (`--password x`, `TOKEN=x`, `Authorization: x`), options of well-known programs
//! (`mysql -px`), URLs with a password, and tokens with a known format. It looks in the words of the argv, in the
//! words of scripts that are passed to a shell, and in structured text within a word. It cannot find every secret: a
//! secret that looks like an ordinary word is not masked. If that is a risk, set a policy that keeps less of a
//! command. In doubt a word is masked, but a mask never continues after the end of a command in a script.
//!
//! The time is linear in the length of the text, and of a word at most 4 KiB are checked.

use std::borrow::Cow;

use crate::text::cut;

mod names;
mod script;
mod shapes;
#[cfg(test)]
mod tests;
mod text;

use names::{Holds, Program};

/// What stands where a secret was.
///
/// A shell would take it as it is, so it needs no quotes where a command is shown.
pub const MASK: &str = "xxxxx";

/// As much of a word as is looked at, in bytes: far more than is kept of a whole command.
const WINDOW: usize = 4 * 1024;

/// Scripts within scripts are read as such to this depth, and as any other text below.
const DEPTH: u8 = 3;

/// How often a word is masked until nothing changes any more. One that still changes then is masked as a whole.
const PASSES: u32 = 8;

/// The words of an argv with their secrets masked. Words that have none are as they were, unless they
/// are too long to be looked at: those are cut. What this returns stays as it is when it is masked again.
pub fn masked<'a, S: AsRef<str> + 'a>(
    argv: impl IntoIterator<Item = &'a S>,
) -> impl Iterator<Item = Cow<'a, str>> {
    let mut words = Words::new(DEPTH);
    argv.into_iter()
        .map(move |word| words.settle(word.as_ref()))
}

/// The words of one command, read from first to last.
#[derive(Debug, Clone, Copy)]
struct Words {
    depth: u8,
    /// The program whose options are read.
    program: Option<Program>,
    /// Whether one of the words names a shell.
    shell: bool,
    next: Next,
}

/// What a word said of the next one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Next {
    #[default]
    Anything,
    Secret,
    UserAndSecret,
    Script,
}

impl Words {
    fn new(depth: u8) -> Self {
        Self {
            depth,
            program: None,
            shell: false,
            next: Next::Anything,
        }
    }

    /// The next word, cut and masked until nothing changes: where two rules meet in one word, a mask of the
    /// first can make room for the second. The words behind it are read as what became of this one says.
    fn settle<'a>(&mut self, word: &'a str) -> Cow<'a, str> {
        let before = *self;
        let mut settled = cut(word, WINDOW);
        for _ in 0..PASSES {
            *self = before;
            let Some(masked) = self.mask(&settled) else {
                return settled;
            };
            let masked = cut(&masked, WINDOW).into_owned();
            if masked == *settled {
                return settled;
            }
            settled = Cow::Owned(masked);
        }
        *self = before;
        self.mask(MASK);
        Cow::Borrowed(MASK)
    }

    /// The next word with its secrets masked; none where it has none.
    fn mask(&mut self, word: &str) -> Option<String> {
        let is_option = word.len() > 1 && word.starts_with('-');
        match std::mem::take(&mut self.next) {
            // What is followed by another option takes no value.
            Next::Secret if !is_option => return mask_from(word, 0),
            Next::UserAndSecret if !is_option => return mask_password(word, 0),
            Next::Script if self.depth > 0 => return script::mask(word, self.depth - 1),
            _ => {}
        }
        if let Some(at) = value(word) {
            return mask_from(word, at);
        }
        if is_option {
            return self.option(word);
        }
        self.shell |= names::is_shell(word);
        self.program = Program::of(word).or(self.program);
        text::mask(word)
    }

    fn option(&mut self, word: &str) -> Option<String> {
        match self.program.and_then(|program| program.option(word)) {
            Some(Holds::Secret(at)) if at < word.len() => return mask_from(word, at),
            Some(Holds::Secret(_)) => self.next = Next::Secret,
            Some(Holds::UserAndSecret(at)) if at < word.len() => return mask_password(word, at),
            Some(Holds::UserAndSecret(_)) => self.next = Next::UserAndSecret,
            None if self.shell && !word.starts_with("--") && word.ends_with('c') => {
                self.next = Next::Script;
            }
            None if names::is_secret(word.trim_start_matches('-')) => self.next = Next::Secret,
            None => {}
        }
        text::mask(word)
    }
}

/// Where the value begins, in a word that is `--password=…` or `PASSWORD=…` as a whole.
fn value(word: &str) -> Option<usize> {
    let (name, _) = word.split_once('=')?;
    names::is_secret(name.trim_start_matches('-')).then_some(name.len() + 1)
}

fn mask_from(word: &str, at: usize) -> Option<String> {
    let secret = &word[at..];
    // The name of a variable tells where a secret is, and not what it is.
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '{' || c == '}';
    let is_variable = secret
        .strip_prefix('$')
        .is_some_and(|name| name.chars().all(is_name));
    (!secret.is_empty() && !is_variable).then(|| format!("{}{MASK}", &word[..at]))
}

/// Masks what stands behind the colon of `user:password`, which begins there.
fn mask_password(word: &str, at: usize) -> Option<String> {
    let colon = word[at..].find(':')?;
    mask_from(word, at + colon + 1)
}
