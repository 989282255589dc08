//! Cuts the text of a script into simple commands. Words are split by [`shlex`]; this module finds the operators
//! between the commands, the redirections, and the scripts inside of a script.

use std::{iter::Peekable, str::Chars};

use super::Link;

/// Stands before the target of an output redirection in the text of a simple command.
pub(super) const OUTPUT: &str = "\u{1}";
/// Stands before the target of an input redirection.
pub(super) const INPUT: &str = "\u{2}";
/// Stands where the result of another command is used.
const SUBSTITUTED: &str = "$_";

/// A script as far as it could be cut.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Its simple commands, in the order in which they stand.
    pub(super) commands: Vec<SimpleCommand>,
    /// Whether some of it was not understood.
    pub(super) unread: bool,
}

/// One simple command.
#[derive(Debug)]
pub(super) struct SimpleCommand {
    /// How it follows on the one before.
    pub(super) link: Link,
    /// Its words, as shlex can split them.
    pub(super) text: String,
    /// The scripts in it: `$(…)`, backquotes, `<(…)`.
    pub(super) inner: Vec<String>,
}

/// Cuts a script into at most `most` simple commands.
pub(super) fn cut(script: &str, most: usize) -> Script {
    let mut cutter = Cutter {
        rest: script.chars().peekable(),
        most,
        script: Script::default(),
        text: String::new(),
        inner: Vec::new(),
        link: Link::Inside,
    };
    cutter.run();
    cutter.script
}

struct Cutter<'a> {
    rest: Peekable<Chars<'a>>,
    most: usize,
    script: Script,
    text: String,
    inner: Vec<String>,
    link: Link,
}

impl Cutter<'_> {
    fn run(&mut self) {
        while let Some(c) = self.rest.next() {
            match c {
                '\\' => match self.rest.next() {
                    Some('\n') => {}
                    Some(next) => self.text.extend(['\\', plain(next)]),
                    None => self.script.unread = true,
                },
                '\'' => self.single_quoted(),
                '"' => self.double_quoted(),
                '`' => self.backquoted(),
                '$' => self.dollar(),
                '#' if self.at_word_start() => while self.rest.next_if(|c| *c != '\n').is_some() {},
                '\n' | ';' | '(' | ')' => self.end(Link::Then),
                '|' => {
                    let or = self.rest.next_if_eq(&'|').is_some();
                    // With |& both outputs go into the pipe.
                    self.rest.next_if_eq(&'&');
                    self.end(if or { Link::Then } else { Link::Pipe });
                }
                '&' => match self.rest.next_if_eq(&'>') {
                    Some(_) => self.output(),
                    None => {
                        self.rest.next_if_eq(&'&');
                        self.end(Link::Then);
                    }
                },
                '>' => self.output(),
                '<' => self.input(),
                c => self.text.push(plain(c)),
            }
        }
        self.end(Link::Then);
    }

    /// Ends the simple command; `next` says how the following one follows on it.
    fn end(&mut self, next: Link) {
        let text = std::mem::take(&mut self.text);
        let inner = std::mem::take(&mut self.inner);
        if text.trim().is_empty() && inner.is_empty() {
            // An empty command keeps the link of the one before: `a | (b)`.
            if next == Link::Pipe {
                self.link = next;
            }
            return;
        }
        if self.script.commands.len() < self.most {
            self.script.commands.push(SimpleCommand {
                link: self.link,
                text,
                inner,
            });
        } else {
            self.script.unread = true;
        }
        self.link = next;
    }

    fn at_word_start(&self) -> bool {
        self.text.is_empty() || self.text.ends_with(char::is_whitespace)
    }

    fn single_quoted(&mut self) {
        self.text.push('\'');
        for c in self.rest.by_ref() {
            self.text.push(plain(c));
            if c == '\'' {
                return;
            }
        }
        self.script.unread = true;
    }

    fn double_quoted(&mut self) {
        self.text.push('"');
        while let Some(c) = self.rest.next() {
            match c {
                '"' => return self.text.push('"'),
                '\\' => match self.rest.next() {
                    Some(next) => self.text.extend(['\\', plain(next)]),
                    None => self.script.unread = true,
                },
                '`' => self.backquoted(),
                '$' => self.dollar(),
                c => self.text.push(plain(c)),
            }
        }
        self.script.unread = true;
    }

    fn backquoted(&mut self) {
        let mut inner = String::new();
        while let Some(c) = self.rest.next() {
            match c {
                '`' => {
                    self.inner.push(inner);
                    return self.text.push_str(SUBSTITUTED);
                }
                '\\' => inner.extend(self.rest.next()),
                c => inner.push(c),
            }
        }
        self.script.unread = true;
    }

    fn dollar(&mut self) {
        match self.rest.peek() {
            Some('(') => {
                self.rest.next();
                let inner = self.until_closed('(', ')');
                // Arithmetic runs nothing.
                if !(inner.starts_with('(') && inner.ends_with(')')) {
                    self.inner.push(inner);
                }
                self.text.push_str(SUBSTITUTED);
            }
            Some('{') => {
                self.rest.next();
                let inner = self.until_closed('{', '}');
                // What stands for a missing value can run a command: ${x:-$(id)}.
                if inner.contains("$(") || inner.contains('`') {
                    self.script.unread = true;
                }
                self.text.push_str(SUBSTITUTED);
            }
            _ => self.text.push('$'),
        }
    }

    /// The text up to the bracket that closes the one that was just read.
    fn until_closed(&mut self, open: char, close: char) -> String {
        let (mut depth, mut quote) = (1_u32, None);
        let mut inner = String::new();
        while let Some(c) = self.rest.next() {
            match (quote, c) {
                (_, '\\') if quote != Some('\'') => {
                    inner.push(c);
                    inner.extend(self.rest.next());
                    continue;
                }
                (Some(begun), c) if begun == c => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, c) if c == open => depth += 1,
                (None, c) if c == close => {
                    depth -= 1;
                    if depth == 0 {
                        return inner;
                    }
                }
                (None, _) => {}
            }
            inner.push(c);
        }
        self.script.unread = true;
        inner
    }

    /// Behind a `>`, or behind `&>`.
    fn output(&mut self) {
        self.drop_descriptor();
        self.rest.next_if(|c| *c == '>' || *c == '|');
        if self.rest.next_if_eq(&'(').is_some() {
            let inner = self.until_closed('(', ')');
            self.inner.push(inner);
            return self.text.push_str(SUBSTITUTED);
        }
        if self.rest.next_if_eq(&'&').is_some() && self.descriptor() {
            return self.text.push(' ');
        }
        self.mark(OUTPUT);
    }

    /// Behind a `<`.
    fn input(&mut self) {
        self.drop_descriptor();
        match self.rest.peek() {
            Some('(') => {
                self.rest.next();
                let inner = self.until_closed('(', ')');
                self.inner.push(inner);
                self.text.push_str(SUBSTITUTED);
            }
            Some('<') => {
                self.rest.next();
                if self.rest.next_if_eq(&'<').is_some() {
                    self.mark(INPUT);
                } else {
                    self.here_document();
                }
            }
            Some('>') => {
                self.rest.next();
                self.mark(OUTPUT);
            }
            Some('&') => {
                self.rest.next();
                if !self.descriptor() {
                    self.mark(INPUT);
                }
            }
            _ => self.mark(INPUT),
        }
    }

    /// Skips a here-document. What a shell would do with it stays unread.
    fn here_document(&mut self) {
        self.script.unread = true;
        self.rest.next_if_eq(&'-');
        while self
            .rest
            .next_if(|c| c.is_whitespace() && *c != '\n')
            .is_some()
        {}
        let mut word = String::new();
        while let Some(c) = self
            .rest
            .next_if(|c| !c.is_whitespace() && !";|&<>".contains(*c))
        {
            if c != '\'' && c != '"' && c != '\\' {
                word.push(c);
            }
        }
        // The rest of the line belongs to the command; the document begins on the next one.
        let line: String = std::iter::from_fn(|| self.rest.next_if(|c| *c != '\n')).collect();
        let mut document = String::new();
        while self.rest.next_if_eq(&'\n').is_some() {
            document.clear();
            while let Some(c) = self.rest.next_if(|c| *c != '\n') {
                document.push(c);
            }
            if document.trim_start_matches('\t') == word {
                break;
            }
        }
        // The operators in the rest of the line are read on their own.
        if line.contains(is_operator) {
            let left = self.most.saturating_sub(self.script.commands.len());
            let rest = cut_line(&line, left);
            self.end(if line.trim_start().starts_with('|') {
                Link::Pipe
            } else {
                Link::Then
            });
            let link = self.link;
            for (at, mut command) in rest.commands.into_iter().enumerate() {
                if at == 0 {
                    command.link = link;
                }
                self.script.commands.push(command);
            }
            self.link = Link::Then;
        }
    }

    fn mark(&mut self, mark: &str) {
        self.text.push(' ');
        self.text.push_str(mark);
        self.text.push(' ');
    }

    /// Drops the number of the file descriptor before a redirection.
    fn drop_descriptor(&mut self) {
        let kept = self.text.trim_end_matches(|c: char| c.is_ascii_digit());
        if kept.is_empty() || kept.ends_with(char::is_whitespace) {
            self.text.truncate(kept.len());
        }
    }

    /// Skips the file descriptor behind `>&`, if one stands there.
    fn descriptor(&mut self) -> bool {
        let mut any = false;
        while self
            .rest
            .next_if(|c| c.is_ascii_digit() || *c == '-')
            .is_some()
        {
            any = true;
        }
        any
    }
}

fn is_operator(c: char) -> bool {
    ";|&".contains(c)
}

/// Cuts one line that cannot begin another here-document, so that this does not call itself again and again.
fn cut_line(line: &str, most: usize) -> Script {
    cut(&line.replace("<<", "< "), most)
}

/// The character, but for those with a meaning of their own in the text of a simple command.
fn plain(c: char) -> char {
    match c {
        '\0' | '\u{1}' | '\u{2}' => '\u{fffd}',
        c => c,
    }
}
