//! Colours, for terminals whose users want them.

use std::{
    borrow::Cow,
    io::{self, IsTerminal},
};

/// Whether what is printed has colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Style {
    Plain,
    Coloured,
}

/// What stands out, by the codes of ECMA-48 (SGR).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Colour {
    Red = 31,
    Yellow = 33,
    Cyan = 36,
}

impl Style {
    /// The one for standard output: colours only on a terminal that knows them, and only where
    /// `NO_COLOR` is not set.
    pub(crate) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let dumb = std::env::var_os("TERM").is_some_and(|value| value == "dumb");
        match io::stdout().is_terminal() && !refused && !dumb {
            true => Style::Coloured,
            false => Style::Plain,
        }
    }

    /// The text in this colour.
    pub(crate) fn paint<'a>(self, text: &'a str, colour: Option<Colour>) -> Cow<'a, str> {
        let (Style::Coloured, Some(colour)) = (self, colour) else {
            return text.into();
        };
        let code = colour as u8;
        format!("\u{1b}[{code}m{text}\u{1b}[0m").into()
    }
}
