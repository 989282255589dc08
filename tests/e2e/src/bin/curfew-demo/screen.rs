//! Where the story is shown: in colour and with a moving line on a terminal, as plain lines elsewhere.

use std::{
    env,
    io::{self, IsTerminal, Write},
};

const BOLD: &str = "1";
const DIM: &str = "2";
const RED: &str = "1;31";
const GREEN: &str = "32";
const CYAN: &str = "1;36";
const YELLOW: &str = "33";
/// The width of the bar of a countdown.
const BAR: u32 = 40;
/// Without a terminal a countdown tells each time that so many seconds have passed.
const PLAIN_STEP: u32 = 5;

/// Standard output, as people look at it.
#[derive(Debug)]
pub(crate) struct Screen {
    moving: bool,
    colour: bool,
    steps: usize,
    told: Option<u32>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let terminal = io::stdout().is_terminal();
        let unwanted = env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            moving: terminal,
            colour: terminal && !unwanted,
            steps: 0,
            told: None,
        }
    }

    /// A new part of the story.
    pub(crate) fn step(&mut self, title: &str) {
        self.steps += 1;
        let line = format!("{}. {title}", self.steps);
        self.line(&format!("\n{}", self.paint(CYAN, &line)));
    }

    /// A command as one would type it.
    pub(crate) fn command(&mut self, command: &str) {
        self.line(&format!(
            "   {} {}",
            self.paint(DIM, "$"),
            self.paint(BOLD, command)
        ));
    }

    /// What a command printed.
    pub(crate) fn output(&mut self, text: &str) {
        for line in text.lines() {
            self.line(format!("   {line}").trim_end());
        }
    }

    /// Something that was checked.
    pub(crate) fn fact(&mut self, text: &str) {
        self.line(&format!("   {} {text}", self.paint(GREEN, "✔")));
    }

    /// What went wrong.
    pub(crate) fn failure(&mut self, text: &str) {
        self.settle();
        let line = format!("{} {text}", self.paint(RED, "✘"));
        drop(writeln!(io::stderr(), "\n   {line}"));
    }

    /// How many of `all` seconds are left.
    pub(crate) fn countdown(&mut self, left: u32, all: u32) {
        if self.moving {
            let filled = BAR * left.min(all) / all.max(1);
            let bar = format!(
                "{}{}",
                "█".repeat(filled as usize),
                "░".repeat((BAR - filled) as usize)
            );
            self.write(&format!("\r   {} {left:>3} s ", self.paint(YELLOW, &bar)));
        } else if self
            .told
            .is_some_and(|told| left > 0 && told.abs_diff(left) < PLAIN_STEP || told == left)
        {
            return;
        } else {
            self.line(&format!("   {left} s"));
        }
        self.told = Some(left);
    }

    /// Ends the moving line, if there is one.
    pub(crate) fn settle(&mut self) {
        if self.told.take().is_some() && self.moving {
            self.write("\n");
        }
    }

    fn paint(&self, colour: &str, text: &str) -> String {
        match self.colour {
            true => format!("\u{1b}[{colour}m{text}\u{1b}[0m"),
            false => text.to_owned(),
        }
    }

    fn line(&self, text: &str) {
        self.write(&format!("{text}\n"));
    }

    fn write(&self, text: &str) {
        let mut out = io::stdout().lock();
        // Who does not look any more misses nothing.
        drop(out.write_all(text.as_bytes()).and_then(|()| out.flush()));
    }
}
