//! Reads an argv: which programs it runs, in which order, with arguments of which classes.
//!
//! Programs that only run another one (`env`, `nice`, `timeout`, …) are taken off, the scripts of shells and of
//! `su -c` are opened, and the commands of `xargs`, `find -exec` and `sudo` are followed. What cannot be read is said
//! ([`CommandReading::unread`]): a program whose name is the value of a variable, a here-document, text that is too
//! long, commands that are nested too deep.
//!
//! The time is linear in the length of what is looked at, which is bounded, and so is the result.

mod argument;
mod catalogue;
mod network;
mod process;
mod script;
#[cfg(test)]
mod tests;
mod wrapper;

use std::fmt;

pub use argument::{ArgumentClass, ArgumentSet};
pub use catalogue::ProgramClass;
pub use process::{program_of_file, program_of_process};

pub use crate::left::MAX_PROGRAM;
use crate::text::{cut, visible};
use catalogue::{INTERPRETERS, SHELLS};

/// The most steps that are kept of a command.
pub const MAX_STEPS: usize = 16;
/// The most words of an argv that are looked at.
const MAX_WORDS: usize = 256;
/// The most bytes of an argv that are looked at.
const MAX_BYTES: usize = 16 * 1024;
/// The most commands that are looked at, those in scripts included.
const MAX_COMMANDS: usize = 64;
/// How deep commands can be nested.
const MAX_DEPTH: u8 = 8;

/// A program whose name could not be read.
pub const UNREADABLE: &str = "?";
/// What stands for a redirection without a program.
const REDIRECTION: &str = ">";

/// How a step follows on the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Link {
    /// The one before runs it, or it is the first.
    Inside,
    /// It reads what the one before prints.
    Pipe,
    /// It runs after it, or beside it.
    Then,
}

/// One program that a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// How it follows on the step before it.
    pub link: Link,
    /// The normalised name of the program: without its folder, unless that is one for temporary files (`/tmp/x`) or
    /// relative (`./x`). A shell that runs a script is `sh -c`, one that runs a file `sh FILE`.
    pub program: String,
    /// What the program is for.
    pub class: ProgramClass,
    /// The classes of its arguments.
    pub arguments: ArgumentSet,
}

/// What a command runs, as far as it could be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CommandReading {
    /// The programs, in the order in which they stand in the command; at most [`MAX_STEPS`].
    pub steps: Vec<Step>,
    /// Whether some of the command could not be read.
    pub unread: bool,
    /// Whether that is because there was too much of it: somebody may hide a program behind many others.
    pub truncated: bool,
}

impl CommandReading {
    /// Reads an argv. An empty one runs nothing.
    pub fn of<S: AsRef<str>>(argv: &[S]) -> Self {
        let mut reader = Reader::default();
        let mut words = Vec::new();
        let mut left = MAX_BYTES;
        for word in argv.iter().map(AsRef::as_ref) {
            if words.len() == MAX_WORDS || word.len() > left {
                reader.truncate();
                if words.len() < MAX_WORDS && left > 64 {
                    words.push(cut(word, left).into_owned());
                }
                break;
            }
            left -= word.len();
            words.push(word.to_owned());
        }
        let (_, command) = crate::wrapper::split(&words);
        if !command.is_empty() {
            reader.command(command, Link::Inside, 0, ArgumentSet::default());
        }
        reader.reading
    }
}

/// The chain of the programs: `sh -c > curl | tar; ls`. At most about 1,100 bytes.
impl fmt::Display for CommandReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, step) in self.steps.iter().enumerate() {
            match step.link {
                _ if at == 0 => {}
                Link::Inside => f.write_str(" > ")?,
                Link::Pipe => f.write_str(" | ")?,
                Link::Then => f.write_str("; ")?,
            }
            f.write_str(&step.program)?;
        }
        if self.unread {
            f.write_str("…")?;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Reader {
    reading: CommandReading,
    commands: usize,
}

impl Reader {
    /// Reads one command. `carried` are the classes of what stood before it, such as assignments.
    fn command(&mut self, words: &[String], link: Link, depth: u8, carried: ArgumentSet) {
        self.commands += 1;
        if depth > MAX_DEPTH || self.commands > MAX_COMMANDS {
            return self.truncate();
        }
        let Some(first) = words.first() else {
            self.reading.unread = true;
            return;
        };
        let program = normalised(first);
        let name = program.as_str();
        let next = depth + 1;
        if ["busybox", "toybox"].contains(&name)
            && words.get(1).is_some_and(|word| !word.starts_with('-'))
        {
            return self.command(&words[1..], link, next, carried);
        }
        if SHELLS.contains(&name.trim_start_matches("/tmp/").trim_start_matches("./")) {
            return self.shell(&program, words, link, next, carried);
        }
        match name {
            "env" => return self.env(words, link, next, carried),
            "su" => return self.su(words, link, next, carried),
            "eval" | "trap" => {
                self.push(link, name.to_owned(), carried);
                let script = match name {
                    "eval" => words[1..].join(" "),
                    _ => words.get(1).cloned().unwrap_or_default(),
                };
                return self.script(&script, next);
            }
            "watch" => {
                let at = words
                    .iter()
                    .skip(1)
                    .position(|word| !word.starts_with('-') && word.parse::<f64>().is_err());
                self.push(link, program, carried);
                if let Some(at) = at {
                    self.script(&words[at + 1..].join(" "), next);
                }
                return;
            }
            "find" => return self.find(words, link, next, carried),
            _ => {}
        }
        if let Some(wrapper) = wrapper::wrapper(name) {
            let (at, mut own) = wrapper.command(words);
            own.extend(carried);
            let inner = words.get(at..).unwrap_or_default();
            if inner.is_empty() {
                return self.push(link, program, own);
            }
            if wrapper.kept {
                self.push(link, program, own);
                return self.command(inner, Link::Inside, next, ArgumentSet::default());
            }
            return self.command(inner, link, next, carried);
        }
        let mut arguments = carried;
        let mut code = false;
        let interprets = INTERPRETERS.contains(&name);
        for word in &words[1..] {
            if std::mem::take(&mut code) {
                arguments.insert(ArgumentClass::Code);
                continue;
            }
            code = interprets && is_code_option(word);
            arguments.classify(word);
        }
        self.push(link, program, arguments);
    }

    fn truncate(&mut self) {
        (self.reading.unread, self.reading.truncated) = (true, true);
    }

    fn push(&mut self, link: Link, program: String, arguments: ArgumentSet) {
        if self.reading.steps.len() == MAX_STEPS {
            return self.truncate();
        }
        self.reading.unread |= program == UNREADABLE;
        self.reading.steps.push(Step {
            link,
            class: ProgramClass::of(&program),
            program,
            arguments,
        });
    }

    fn shell(
        &mut self,
        name: &str,
        words: &[String],
        link: Link,
        depth: u8,
        mut arguments: ArgumentSet,
    ) {
        let mut at = 1;
        let mut runs_script = false;
        while let Some(word) = words.get(at) {
            if word == "--" || word == "-" {
                at += 1;
                break;
            }
            let Some(letters) = word.strip_prefix(['-', '+']) else {
                break;
            };
            if letters.starts_with('-') {
                at += usize::from(matches!(letters, "-rcfile" | "-init-file"));
            } else {
                runs_script |= letters.contains('c');
                at += usize::from(letters.ends_with(['o', 'O']));
            }
            arguments.classify(word);
            at += 1;
        }
        let operands = words.get(at..).unwrap_or_default();
        if runs_script {
            // Each way to write the options of a script (-c, -ec, -lc) is the same to a reader.
            self.push(link, format!("{name} -c"), ArgumentSet::default());
            match operands.first() {
                Some(script) => self.script(script, depth),
                None => self.reading.unread = true,
            }
        } else if let Some(file) = operands.first() {
            arguments.classify(file);
            operands[1..]
                .iter()
                .for_each(|word| arguments.classify(word));
            self.push(link, format!("{name} FILE"), arguments);
        } else {
            self.push(link, name.to_owned(), arguments);
        }
    }

    fn env(&mut self, words: &[String], link: Link, depth: u8, mut carried: ArgumentSet) {
        for (at, word) in words.iter().enumerate().skip(1) {
            let text = match word.strip_prefix("-S") {
                Some("") => words.get(at + 1).cloned(),
                Some(text) => Some(text.to_owned()),
                None if word == "--split-string" => words.get(at + 1).cloned(),
                None => word.strip_prefix("--split-string=").map(str::to_owned),
            };
            if let Some(text) = text {
                let Some(mut split) = shlex::split(&text) else {
                    self.reading.unread = true;
                    return;
                };
                split.insert(0, "env".to_owned());
                return self.env(&split, link, depth + 1, carried);
            }
            if !word.starts_with('-') && !word.contains('=') {
                break;
            }
        }
        if depth > MAX_DEPTH {
            return self.truncate();
        }
        let (at, own) =
            wrapper::wrapper("env").map_or((1, ArgumentSet::default()), |env| env.command(words));
        own.iter()
            .filter(|class| *class != ArgumentClass::Flag)
            .for_each(|class| carried.insert(class));
        match words.get(at..) {
            Some(inner) if !inner.is_empty() => self.command(inner, link, depth, carried),
            _ => self.push(link, "env".to_owned(), carried),
        }
    }

    fn su(&mut self, words: &[String], link: Link, depth: u8, mut arguments: ArgumentSet) {
        let mut script = None;
        let mut rest = words.iter().skip(1);
        while let Some(word) = rest.next() {
            match word.as_str() {
                "-c" | "--command" | "--session-command" => script = rest.next(),
                word => arguments.classify(word),
            }
        }
        self.push(link, "su".to_owned(), arguments);
        if let Some(script) = script {
            self.script(script, depth);
        }
    }

    fn find(&mut self, words: &[String], link: Link, depth: u8, mut arguments: ArgumentSet) {
        let is_exec =
            |word: &String| ["-exec", "-execdir", "-ok", "-okdir"].contains(&word.as_str());
        let is_end = |word: &String| word == ";" || word == "+";
        let begin = words.iter().position(is_exec).unwrap_or(words.len());
        for word in &words[1.min(begin)..begin] {
            arguments.classify(word);
        }
        if words.iter().any(|word| word == "-delete") {
            arguments.insert(ArgumentClass::Output);
        }
        self.push(link, "find".to_owned(), arguments);
        for inner in words[begin..].split(is_exec).skip(1) {
            let end = inner.iter().position(is_end).unwrap_or(inner.len());
            if end > 0 {
                self.command(&inner[..end], Link::Inside, depth, ArgumentSet::default());
            }
        }
    }

    /// Reads the text of a script.
    fn script(&mut self, text: &str, depth: u8) {
        if depth > MAX_DEPTH {
            return self.truncate();
        }
        let script = script::cut(text, MAX_COMMANDS);
        self.reading.unread |= script.unread;
        for command in script.commands {
            if self.commands > MAX_COMMANDS {
                return self.truncate();
            }
            match shlex::split(&command.text) {
                Some(words) => self.simple_command(words, command.link, depth),
                None => self.reading.unread = true,
            }
            for inner in &command.inner {
                self.commands += 1;
                self.script(inner, depth + 1);
            }
        }
    }

    /// Reads one simple command of a script.
    fn simple_command(&mut self, words: Vec<String>, link: Link, depth: u8) {
        let mut redirected = ArgumentSet::default();
        let mut command = Vec::with_capacity(words.len());
        let mut words = words.into_iter();
        while let Some(word) = words.next() {
            if word == script::OUTPUT || word == script::INPUT {
                let target = words.next().unwrap_or_default();
                match target.as_str() {
                    "/dev/null" => {}
                    target if word == script::OUTPUT => redirected.classify_output(target),
                    target => redirected.classify(target),
                }
            } else {
                command.push(word);
            }
        }
        let mut carried = redirected;
        let mut at = 0;
        while let Some(word) = command.get(at) {
            match word.as_str() {
                "if" | "then" | "else" | "elif" | "while" | "until" | "do" | "!" | "{" | "time"
                | "coproc" => at += 1,
                "done" | "fi" | "esac" | "}" => at += 1,
                // The words of these are no commands; what follows them in the script is.
                "for" | "select" => return,
                "case" | "function" | "alias" => {
                    self.reading.unread = true;
                    return;
                }
                word if word
                    .split_once('=')
                    .is_some_and(|(name, _)| argument::is_variable(name)) =>
                {
                    carried.classify(word);
                    at += 1;
                }
                _ => break,
            }
        }
        let mut words = command.split_off(at);
        let is_bare_exec = words.len() == 1 && words[0] == "exec";
        if words.is_empty() || is_bare_exec {
            if redirected != ArgumentSet::default() {
                self.push(link, REDIRECTION.to_owned(), carried);
            }
            return;
        }
        match words[0].as_str() {
            "." => words[0] = "source".to_owned(),
            name if name.contains(['$', '*', '?', '[']) && name != "[" && name != "[[" => {
                words[0] = UNREADABLE.to_owned();
            }
            _ => {}
        }
        self.command(&words, link, depth, carried);
    }
}

/// Whether the word behind this option is program text.
fn is_code_option(word: &str) -> bool {
    matches!(
        word,
        "-c" | "-e" | "-E" | "-r" | "-p" | "--eval" | "--print" | "-BEGIN"
    ) || word.len() > 2 && word.starts_with('-') && !word.starts_with("--") && word.ends_with('e')
}

/// The name of a program as it is kept.
fn normalised(word: &str) -> String {
    let word = cut(word, 1024);
    let word = word.trim_end_matches('/');
    let (folder, name) = word.rsplit_once('/').map_or(("", word), |(folder, name)| {
        (if folder.is_empty() { "/" } else { folder }, name)
    });
    if name.is_empty() {
        return UNREADABLE.to_owned();
    }
    let is_temporary = ["/tmp", "/var/tmp", "/dev", "/proc", "/run"]
        .iter()
        .any(|below| {
            folder
                .strip_prefix(below)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        });
    let place = match folder {
        "" => "",
        _ if is_temporary => "/tmp/",
        _ if !folder.starts_with('/') => "./",
        _ => "",
    };
    let versioned = name.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.');
    let name = match INTERPRETERS.contains(&versioned) {
        true => versioned,
        false => name,
    };
    // A space is what Curfew puts between the name of a shell and what it runs.
    let name = format!("{place}{name}").replace(char::is_whitespace, "_");
    cut(&visible(&name), MAX_PROGRAM - " FILE".len()).into_owned()
}
