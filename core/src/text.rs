//! Texts of bounded size: whatever users send, what is kept and shown has a limit.

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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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
