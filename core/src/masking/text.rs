//! Secrets within a text: headers, JSON, connection strings, URLs, SQL.

use super::{MASK, names, shapes};
use crate::text::ELLIPSIS;

/// So many URLs are looked at: each may reach to the end of the text.
const MAX_URLS: usize = 32;

/// The text with its secrets masked; none where it has none.
pub(super) fn mask(text: &str) -> Option<String> {
    let mut out = String::new();
    let mut kept = 0;
    let mut at = 0;
    let mut urls = 0;
    while at < text.len() {
        let rest = &text[at..];
        let run = run(rest);
        let secret = match run {
            0 if rest.starts_with("://") && urls < MAX_URLS => {
                urls += 1;
                user_info(rest)
            }
            0 => None,
            _ => shapes::token(rest)
                .map(|length| (0, length))
                .or_else(|| named(text, at, run)),
        };
        if let Some((from, to)) = secret.filter(|(from, to)| from < to) {
            out.push_str(&text[kept..at + from]);
            out.push_str(MASK);
            at += to;
            kept = at;
        } else {
            let next = rest.chars().next().map_or(1, char::len_utf8);
            at += run.max(next);
        }
    }
    (kept > 0).then(|| out + &text[kept..])
}

/// The length of the name, number or token with which this begins.
fn run(text: &str) -> usize {
    let in_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.".contains(byte);
    text.bytes().take_while(|byte| in_name(byte)).count()
}

/// The secret behind the name that begins there and has that length, counted from where the name begins.
fn named(text: &str, at: usize, length: usize) -> Option<(usize, usize)> {
    let rest = &text[at..];
    let name = rest[..length].trim_start_matches('-');
    let behind = &rest[length..];
    let spaces = |text: &str| text.len() - text.trim_start_matches([' ', '\t']).len();
    if name.eq_ignore_ascii_case("bearer") || name.eq_ignore_ascii_case("basic") {
        let from = length + spaces(behind);
        let until = |c: char| c.is_whitespace() || "'\"".contains(c);
        let to = end(rest, from, until);
        let token = &rest[from..to];
        // What people write has no digits and one case.
        let is_token = token.len() >= 8
            && (token.bytes().any(|byte| byte.is_ascii_digit())
                || token.bytes().any(|byte| byte.is_ascii_uppercase())
                    && token.bytes().any(|byte| byte.is_ascii_lowercase()));
        return (from > length && is_token).then_some((from, to));
    }
    let is_by = name.eq_ignore_ascii_case("by") && {
        let before = text[..at].trim_end();
        let from = before.len().checked_sub("identified".len());
        from.and_then(|from| before.get(from..))
            .is_some_and(|word| word.eq_ignore_ascii_case("identified"))
    };
    if !is_by && !names::is_secret(name) {
        return None;
    }
    let quoted = behind.starts_with(['"', '\'']);
    let mut from = length + usize::from(quoted);
    from += spaces(&rest[from..]);
    let separator = rest[from..].chars().next()?;
    match separator {
        '=' | ':' => from += 1,
        // SQL: PASSWORD 'x'.
        '\'' | '"' if !quoted && from > length => {}
        _ => return None,
    }
    from += spaces(&rest[from..]);
    let to = match rest[from..].chars().next()? {
        open @ ('"' | '\'') => {
            from += 1;
            return Some((from, close(rest, from, open)));
        }
        // A header or a line of YAML.
        _ if separator == ':' && !quoted => end(rest, from, |c| "\r\n'\"".contains(c)),
        _ if quoted => end(rest, from, |c| c.is_whitespace() || ",}\"'".contains(c)),
        _ => end(rest, from, |c| c.is_whitespace() || "&;\"'".contains(c)),
    };
    Some((from, to))
}

/// Where a text that goes on until this ends.
fn end(text: &str, from: usize, until: impl Fn(char) -> bool) -> usize {
    text[from..].find(until).map_or(text.len(), |at| from + at)
}

/// Where the quote that was opened before is closed.
fn close(text: &str, from: usize, open: char) -> usize {
    let mut chars = text[from..].char_indices();
    while let Some((at, c)) = chars.next() {
        if c == '\\' {
            chars.next();
        } else if c == open {
            return from + at;
        }
    }
    text.len()
}

/// The password in a URL of which the scheme was read: `://user:password@host`.
fn user_info(text: &str) -> Option<(usize, usize)> {
    let begin = "://".len();
    let rest = text.strip_prefix("://")?;
    let rest = &rest[..end(rest, 0, |c| c.is_whitespace() || "'\"".contains(c))];
    let authority = &rest[..end(rest, 0, |c| "/?#".contains(c))];
    let colon = authority.find(':')? + 1;
    let to = match authority.rfind('@') {
        Some(to) => to,
        None => {
            let port = &authority[colon..];
            // Whoever writes a password as it is may have one with a slash in it.
            let is_port = port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit());
            match rest.rfind('@') {
                _ if is_port || authority.starts_with('[') => return None,
                Some(to) => to,
                // What was cut off may have had it.
                None if rest.ends_with(ELLIPSIS) => rest.len(),
                None => return None,
            }
        }
    };
    (colon < to).then_some((begin + colon, begin + to))
}
