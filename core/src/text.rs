//! Text that users send. The text that is kept and shown has a limited length, and nothing in it can control the
//! terminal of the reader.

use std::borrow::Cow;

/// What stands where something was left out.
pub const ELLIPSIS: char = '…';

/// The text itself, or as much of its beginning as fits `max` bytes with an ellipsis behind it.
///
/// `max` has to hold at least the ellipsis (3 bytes).
pub fn cut(text: &str, max: usize) -> Cow<'_, str> {
    if text.len() <= max {
        return Cow::Borrowed(text);
    }
    let mut end = max.saturating_sub(ELLIPSIS.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    Cow::Owned(format!("{}{ELLIPSIS}", &text[..end]))
}

/// The text with an escape sequence for everything that a terminal would obey or that cannot be seen.
pub fn visible(text: &str) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) {
            safe.extend(c.escape_default());
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// Controls, and the invisible characters that reorder, join or hide what stands beside them.
pub fn is_unsafe(c: char) -> bool {
    is_command(c)
        || matches!(c,
            '\u{ad}' | '\u{180e}' | '\u{feff}'
            | '\u{200b}'..='\u{200d}'
            | '\u{2060}'..='\u{206f}'
            | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
}

/// Those of them that have no place in a line of text in any language: controls, ends of lines and
/// paragraphs, and what turns the direction of the text.
pub fn is_command(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{61c}' | '\u{200e}' | '\u{200f}'
            | '\u{2028}'..='\u{202e}'
            | '\u{2066}'..='\u{2069}')
}

/// Whether nothing of the text can be seen.
pub fn is_blank(text: &str) -> bool {
    text.chars().all(|c| c.is_whitespace() || is_unsafe(c))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_a_terminal_would_obey_is_spelt_out() {
        for (text, shown) in [
            ("plain ünïcödé 名前 🦀", "plain ünïcödé 名前 🦀"),
            ("\u{1b}[2Jgone\u{7}", "\\u{1b}[2Jgone\\u{7}"),
            ("two\nlines\ttab", "two\\nlines\\ttab"),
            ("c1 \u{9b}31m", "c1 \\u{9b}31m"),
            ("evil\u{202e}txt.sh", "evil\\u{202e}txt.sh"),
        ] {
            assert_eq!(visible(text), shown);
        }
    }

    #[test]
    fn nothing_that_cannot_be_seen_says_anything() {
        for blank in [
            "",
            " \t",
            "\u{202e}",
            "\u{200b}\u{2066} \u{2069}",
            "\u{feff}\u{ad}",
        ] {
            assert!(is_blank(blank), "{blank:?}");
        }
        assert!(!is_blank("\u{202e}x") && !is_blank("名"));
    }

    #[test]
    fn short_texts_stay() {
        assert_eq!(cut("alice", 5), "alice");
        assert_eq!(cut("alice!", 5), "al…");
    }

    proptest! {
        #[test]
        fn fits_and_is_a_beginning(text in "\\PC{0,60}", max in 3usize..40) {
            let short = cut(&text, max);
            prop_assert!(short.len() <= max);
            prop_assert!(text.starts_with(short.trim_end_matches(ELLIPSIS)));
        }
    }
}
