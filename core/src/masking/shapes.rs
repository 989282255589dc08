//! Tokens that can be told by their form alone.

/// How a kind of token begins, and the fewest bytes that come after.
const SHAPES: [(&str, usize); 19] = [
    ("AKIA", 16),
    ("ASIA", 16),
    ("AIza", 30),
    ("dckr_pat_", 16),
    ("eyJ", 24),
    ("ghp_", 20),
    ("gho_", 20),
    ("ghu_", 20),
    ("ghs_", 20),
    ("ghr_", 20),
    ("github_pat_", 20),
    ("glpat-", 16),
    ("hvs.", 20),
    ("npm_", 30),
    ("pypi-", 40),
    ("rk_live_", 16),
    ("sk_live_", 16),
    ("sk-", 32),
    ("xox", 12),
];

/// The length of the token with which this text begins; none where it begins with none.
pub(super) fn token(text: &str) -> Option<usize> {
    let shape = SHAPES.iter().find(|(start, _)| text.starts_with(start));
    let (start, least) = shape?;
    let in_token = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.+/=".contains(byte);
    let length = text.bytes().take_while(|byte| in_token(byte)).count();
    let is_one = length >= start.len() + least
        && match *start {
            // Words of people, which the first letters are not enough to tell from.
            "eyJ" => text[..length].contains('.'),
            "sk-" | "xox" => text[..length].bytes().any(|byte| byte.is_ascii_digit()),
            _ => true,
        };
    is_one.then_some(length)
}
