//! The names that secrets go by.

/// The longest name that is one.
const MAX_NAME: usize = 64;

/// Endings of names, in lower case and without anything between their words.
const ENDINGS: [&str; 21] = [
    "password",
    "passwd",
    "passphrase",
    "requirepass",
    "secret",
    "token",
    "apikey",
    "authkey",
    "accesskey",
    "accountkey",
    "encryptionkey",
    "masterkey",
    "privatekey",
    "secretkey",
    "sharedkey",
    "signingkey",
    "credential",
    "credentials",
    "authorization",
    "cookie",
    "pgpass",
];

/// Endings that are whole words only: a bypass is no secret, and `PWD` is a folder.
const WORDS: [&str; 2] = ["pass", "pwd"];

/// With such a beginning an option says that there is no secret.
const DENIALS: [&str; 5] = ["no", "ask", "disable", "skip", "without"];

/// Whether this is the name of something that is secret: of an option (without its dashes), a variable, a
/// header or a field.
pub(super) fn is_secret(name: &str) -> bool {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(is_name) {
        return false;
    }
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit());
    let mut parts = name.split(['-', '_', '.']);
    let first = parts.next().unwrap_or_default();
    let last = parts.next_back();
    if last.is_some()
        && DENIALS
            .iter()
            .any(|denial| first.eq_ignore_ascii_case(denial))
    {
        return false;
    }
    let is_word = |word: &str| match last {
        Some(last) => last.eq_ignore_ascii_case(word),
        None => word == "pass" && first.eq_ignore_ascii_case(word),
    };
    let plain: String = name
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    WORDS.iter().any(|word| is_word(word)) || ENDINGS.iter().any(|end| plain.ends_with(end))
}

/// The name of a program without its folder.
fn base(word: &str) -> &str {
    word.rsplit('/').next().unwrap_or_default()
}

/// Whether a program runs the script that it is given with `-c`.
pub(super) fn is_shell(word: &str) -> bool {
    ["sh", "ash", "bash", "dash", "ksh", "su", "zsh"].contains(&base(word))
}

/// A program with options for secrets whose names do not tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    Curl,
    Ldap,
    Mongo,
    Mysql,
    Redis,
    Sshpass,
}

/// What an option holds from there on, or, where it ends there, the word behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    Secret(usize),
    /// `user:password`.
    UserAndSecret(usize),
}

impl Program {
    pub(super) fn of(word: &str) -> Option<Self> {
        let base = base(word);
        let known = [
            ("curl", Program::Curl),
            ("ldap", Program::Ldap),
            ("mariadb", Program::Mysql),
            ("mongo", Program::Mongo),
            ("mysql", Program::Mysql),
            ("redis-cli", Program::Redis),
            ("sshpass", Program::Sshpass),
        ];
        known
            .into_iter()
            .find_map(|(name, program)| base.starts_with(name).then_some(program))
    }

    /// What this option of the program holds, if it holds a secret.
    pub(super) fn option(self, word: &str) -> Option<Holds> {
        let is = |option: &str| word.starts_with(option) && !word.starts_with("--");
        match self {
            Program::Curl if is("-u") || is("-U") => Some(Holds::UserAndSecret(2)),
            Program::Curl => {
                let long = ["--user", "--proxy-user"];
                let named = long.iter().find(|long| word.starts_with(**long))?;
                match word.as_bytes().get(named.len()) {
                    None => Some(Holds::UserAndSecret(named.len())),
                    Some(b'=') => Some(Holds::UserAndSecret(named.len() + 1)),
                    Some(_) => None,
                }
            }
            Program::Ldap if is("-w") => Some(Holds::Secret(2)),
            Program::Mongo | Program::Sshpass if is("-p") => Some(Holds::Secret(2)),
            // Without a value behind it the option has the program ask for one.
            Program::Mysql if is("-p") && word.len() > 2 => Some(Holds::Secret(2)),
            Program::Redis if is("-a") => Some(Holds::Secret(2)),
            _ => None,
        }
    }
}
