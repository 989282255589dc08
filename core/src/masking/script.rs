//! The words of a script, as a shell takes them.

use std::borrow::Cow;

use super::Words;

/// The script with its secrets masked; none where it has none. A word that holds one is quoted anew, all
/// else is as it was typed.
pub(super) fn mask(script: &str, depth: u8) -> Option<String> {
    let mut out = String::new();
    let mut kept = 0;
    let mut words = Words::new(depth);
    let mut at = 0;
    while let Some(c) = script[at..].chars().next() {
        match c {
            ';' | '|' | '&' | '(' | ')' | '\n' => {
                words = Words::new(depth);
                at += 1;
            }
            c if c.is_whitespace() || c == '<' || c == '>' => at += c.len_utf8(),
            _ => {
                let (word, end) = word(script, at);
                if let Some(masked) = words.mask(&word) {
                    out.push_str(&script[kept..at]);
                    out.push_str(&quoted(&masked));
                    kept = end;
                }
                at = end;
            }
        }
    }
    (kept > 0).then(|| out + &script[kept..])
}

/// The word as it has to be typed. An assignment would be none in quotes.
fn quoted(word: &str) -> Cow<'_, str> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.=:/@%+,".contains(&byte);
    match word.bytes().all(plain) {
        true => Cow::Borrowed(word),
        false => shlex::try_quote(word).unwrap_or(Cow::Borrowed(word)),
    }
}

/// The word that begins there, without its quotes, and where it ends.
fn word(script: &str, begin: usize) -> (String, usize) {
    let mut word = String::new();
    let mut quote = None;
    let mut rest = script[begin..].char_indices();
    while let Some((at, c)) = rest.next() {
        match (quote, c) {
            (None, '\'' | '"') => quote = Some(c),
            (Some(open), c) if c == open => quote = None,
            (None | Some('"'), '\\') => word.extend(rest.next().map(|(_, c)| c)),
            (None, c) if c.is_whitespace() || ";|&()<>".contains(c) => return (word, begin + at),
            (_, c) => word.push(c),
        }
    }
    (word, script.len())
}
