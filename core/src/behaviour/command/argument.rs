//! Classes of the words behind a program. Only the class of a word is kept, never the word.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::network::{self, Reach};

/// As much of a word as is looked at, in bytes.
const WINDOW: usize = 1024;

/// The class of one word behind a program. A word can have several: `--config=/etc/app` is a flag and a path.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "camelCase")]
pub enum ArgumentClass {
    /// An option.
    Flag,
    /// A number, with or without a unit.
    Number,
    /// Any other single word.
    Word,
    /// A path.
    Path,
    /// A path that everybody may write to: below `/tmp`, `/var/tmp` or `/dev/shm`.
    TemporaryPath,
    /// A path of the operating system or of the node: below `/proc`, `/sys`, `/dev`, `/etc`, `/root` or `/host`.
    SystemPath,
    /// A path where credentials are usually kept, such as that of the token of a ServiceAccount.
    CredentialPath,
    /// A URL of the container itself, such as `http://localhost/`.
    LoopbackUrl,
    /// A URL in the cluster or in a private network.
    Url,
    /// A network address in the cluster or in a private network: an IP address, `HOST:PORT`, `USER@HOST`.
    Address,
    /// A URL anywhere else.
    ExternalUrl,
    /// A network address anywhere else, and each `/dev/tcp/HOST/PORT`.
    ExternalAddress,
    /// The metadata service of a cloud, as an address or in a URL.
    Metadata,
    /// The assignment of a variable.
    Assignment,
    /// The assignment of a variable that changes what a program loads or runs, such as `LD_PRELOAD`.
    Loader,
    /// A text of several words, or with characters that a shell or another language gives a meaning.
    Expression,
    /// Program text for an interpreter: `python -c CODE`.
    Code,
    /// A long text that looks like base64 or like hexadecimal digits.
    Encoded,
    /// The output is written to a file.
    Output,
    /// The output is written to a file of the operating system, or to one with credentials.
    SystemOutput,
}

impl ArgumentClass {
    /// Every class.
    pub const ALL: [ArgumentClass; 20] = [
        ArgumentClass::Flag,
        ArgumentClass::Number,
        ArgumentClass::Word,
        ArgumentClass::Path,
        ArgumentClass::TemporaryPath,
        ArgumentClass::SystemPath,
        ArgumentClass::CredentialPath,
        ArgumentClass::LoopbackUrl,
        ArgumentClass::Url,
        ArgumentClass::Address,
        ArgumentClass::ExternalUrl,
        ArgumentClass::ExternalAddress,
        ArgumentClass::Metadata,
        ArgumentClass::Assignment,
        ArgumentClass::Loader,
        ArgumentClass::Expression,
        ArgumentClass::Code,
        ArgumentClass::Encoded,
        ArgumentClass::Output,
        ArgumentClass::SystemOutput,
    ];

    /// Whether a new one says more than that somebody typed something else: credentials, connections, and code.
    pub fn is_risky(self) -> bool {
        matches!(
            self,
            ArgumentClass::CredentialPath
                | ArgumentClass::ExternalUrl
                | ArgumentClass::ExternalAddress
                | ArgumentClass::Metadata
                | ArgumentClass::Loader
                | ArgumentClass::Code
                | ArgumentClass::Encoded
                | ArgumentClass::SystemOutput
        )
    }

    /// What a person reads, with an article.
    pub fn described(self) -> &'static str {
        match self {
            ArgumentClass::Flag => "an option",
            ArgumentClass::Number => "a number",
            ArgumentClass::Word => "a word",
            ArgumentClass::Path => "a path",
            ArgumentClass::TemporaryPath => "a temporary path",
            ArgumentClass::SystemPath => "a system path",
            ArgumentClass::CredentialPath => "a path of credentials",
            ArgumentClass::LoopbackUrl => "a URL of the container itself",
            ArgumentClass::Url => "a URL in the cluster",
            ArgumentClass::Address => "a network address in the cluster",
            ArgumentClass::ExternalUrl => "a URL outside of the cluster",
            ArgumentClass::ExternalAddress => "a network address outside of the cluster",
            ArgumentClass::Metadata => "the metadata service of a cloud",
            ArgumentClass::Assignment => "a variable",
            ArgumentClass::Loader => "a variable that changes what is loaded",
            ArgumentClass::Expression => "an expression",
            ArgumentClass::Code => "program text",
            ArgumentClass::Encoded => "encoded text",
            ArgumentClass::Output => "output to a file",
            ArgumentClass::SystemOutput => "output to a system file",
        }
    }
}

/// A set of classes.
#[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArgumentSet(u32);

impl ArgumentSet {
    /// Adds a class.
    pub fn insert(&mut self, class: ArgumentClass) {
        self.0 |= 1 << class as u16;
    }

    /// Adds all classes of another set.
    pub fn extend(&mut self, other: ArgumentSet) {
        self.0 |= other.0;
    }

    /// Whether it has this class.
    pub fn contains(self, class: ArgumentClass) -> bool {
        self.0 & (1 << class as u16) != 0
    }

    /// The classes in it, in their order.
    pub fn iter(self) -> impl Iterator<Item = ArgumentClass> {
        ArgumentClass::ALL
            .into_iter()
            .filter(move |class| self.contains(*class))
    }

    /// Adds the classes of a file that is written to.
    pub fn classify_output(&mut self, target: &str) {
        let mut of_target = ArgumentSet::default();
        of_target.classify(target);
        let is_system = [ArgumentClass::SystemPath, ArgumentClass::CredentialPath]
            .into_iter()
            .any(|class| of_target.contains(class));
        self.insert(match is_system {
            true => ArgumentClass::SystemOutput,
            false => ArgumentClass::Output,
        });
        self.extend(of_target);
    }

    /// Adds the classes of a word.
    pub fn classify(&mut self, word: &str) {
        let mut end = word.len().min(WINDOW);
        while !word.is_char_boundary(end) {
            end -= 1;
        }
        self.classify_window(&word[..end], 2);
    }

    fn classify_window(&mut self, word: &str, depth: u8) {
        use ArgumentClass as Class;
        if word.len() > 1 && word.starts_with('-') && word.parse::<f64>().is_err() {
            self.insert(Class::Flag);
            if let Some((_, value)) = word.split_once('=').filter(|_| depth > 0) {
                self.classify_window(value, depth - 1);
            } else if let Some(at) = word.find('/') {
                // The value of a short option can follow without a space: -d@/etc/passwd.
                self.classify_path(&word[at..]);
            }
            return;
        }
        if let Some((name, value)) = word.split_once('=').filter(|(name, _)| is_variable(name)) {
            self.insert(if is_loader(name) {
                Class::Loader
            } else {
                Class::Assignment
            });
            if depth > 0 && !value.is_empty() {
                self.classify_window(value, depth - 1);
            }
            return;
        }
        // curl and others read the file behind an @.
        let word = word.strip_prefix('@').unwrap_or(word);
        let has_space = word.contains(char::is_whitespace);
        if let Some(path) = word.strip_prefix("file://") {
            self.insert(Class::LoopbackUrl);
            self.classify_path(path);
        } else if let Some(host) = network::host_of_url(word).filter(|_| !has_space) {
            self.classify_host(host, [Class::LoopbackUrl, Class::Url, Class::ExternalUrl]);
        } else if let Some(host) = network::host_of_address(word).filter(|_| !has_space) {
            self.classify_host(
                host,
                [Class::Address, Class::Address, Class::ExternalAddress],
            );
        } else if is_number(word) {
            self.insert(Class::Number);
        } else if is_encoded(word) {
            self.insert(Class::Encoded);
        } else if !has_space && word.contains('/') || word.starts_with('~') {
            self.classify_path(word);
        } else if has_space || word.contains(is_meta) {
            self.insert(Class::Expression);
            // A path can stand in an expression: `COPY t TO '/tmp/x'`.
            for part in word.split(is_delimiter).take(64) {
                if part.starts_with('/') && part.len() > 1 {
                    self.classify_path(part);
                } else if let Some(host) = network::host_of_url(part) {
                    self.classify_host(host, [Class::LoopbackUrl, Class::Url, Class::ExternalUrl]);
                }
            }
        } else if !word.is_empty() {
            self.insert(if is_credential(word) {
                Class::CredentialPath
            } else {
                Class::Word
            });
        }
    }

    /// Adds the class of a host: of the container itself, in the cluster, or elsewhere.
    fn classify_host(&mut self, host: &str, [own, near, far]: [ArgumentClass; 3]) {
        self.insert(match network::reach(host) {
            Reach::Loopback => own,
            Reach::Private => near,
            Reach::Metadata => ArgumentClass::Metadata,
            Reach::External => far,
        });
    }

    fn classify_path(&mut self, path: &str) {
        use ArgumentClass as Class;
        let below = |folder: &&str| {
            path.strip_prefix(*folder)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if path.starts_with("/dev/tcp/") || path.starts_with("/dev/udp/") {
            self.insert(Class::ExternalAddress);
        } else if is_credential(path) {
            self.insert(Class::CredentialPath);
        } else if ["/tmp", "/var/tmp", "/dev/shm"].iter().any(below) {
            self.insert(Class::TemporaryPath);
        } else if ["/dev/null", "/dev/stdout", "/dev/stderr"].contains(&path) {
            self.insert(Class::Path);
        } else if SYSTEM.iter().any(below) {
            self.insert(Class::SystemPath);
        } else {
            self.insert(Class::Path);
        }
        if path.contains(['*', '?', '[', '$']) {
            self.insert(Class::Expression);
        }
    }
}

impl FromIterator<ArgumentClass> for ArgumentSet {
    fn from_iter<I: IntoIterator<Item = ArgumentClass>>(classes: I) -> Self {
        let mut set = Self::default();
        classes.into_iter().for_each(|class| set.insert(class));
        set
    }
}

impl fmt::Debug for ArgumentSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// Folders of the operating system and of the node.
const SYSTEM: [&str; 14] = [
    "/run",
    "/var/run",
    "/proc",
    "/sys",
    "/dev",
    "/etc",
    "/boot",
    "/root",
    "/host",
    "/hostfs",
    "/rootfs",
    "/var/lib/kubelet",
    "/var/lib/docker",
    "/var/lib/containerd",
];

/// Parts of paths where credentials are kept.
const CREDENTIALS: [&str; 29] = [
    ".key",
    ".pem",
    ".p12",
    ".jks",
    "keystore",
    "serviceaccount",
    "/secrets/",
    "/etc/shadow",
    "/etc/gshadow",
    "/environ",
    ".ssh",
    "id_rsa",
    "id_ed25519",
    ".aws",
    ".kube",
    "kubeconfig",
    "/etc/kubernetes",
    ".docker/config",
    "docker.sock",
    "containerd.sock",
    "crio.sock",
    ".pgpass",
    ".my.cnf",
    ".netrc",
    ".git-credentials",
    ".vault-token",
    "gcloud/",
    ".azure",
    "/credentials",
];

fn is_credential(path: &str) -> bool {
    path == "token" || CREDENTIALS.iter().any(|part| path.contains(part))
}

fn is_delimiter(c: char) -> bool {
    c.is_whitespace() || "'\"()<>;|&=,`".contains(c)
}

fn is_meta(c: char) -> bool {
    "(){}[];|&$*?<>`!'\"\\".contains(c)
}

/// Whether a shell takes this as the name of a variable.
pub(super) fn is_variable(name: &str) -> bool {
    let is_of_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    !name.is_empty() && !name.as_bytes()[0].is_ascii_digit() && name.bytes().all(is_of_name)
}

/// Variables with which another program or library is loaded, or another program found.
fn is_loader(name: &str) -> bool {
    name.starts_with("LD_")
        || [
            "PATH",
            "BASH_ENV",
            "ENV",
            "PROMPT_COMMAND",
            "PYTHONPATH",
            "PYTHONSTARTUP",
            "PERL5LIB",
            "PERL5OPT",
            "RUBYOPT",
            "RUBYLIB",
            "NODE_OPTIONS",
            "JAVA_TOOL_OPTIONS",
            "JDK_JAVA_OPTIONS",
            "GIT_SSH_COMMAND",
            "PAGER",
            "EDITOR",
        ]
        .contains(&name)
}

fn is_number(word: &str) -> bool {
    let digits = word.trim_start_matches(['-', '+']);
    let digits = digits.trim_end_matches(|c: char| "kKmMgGsShHdD%iB".contains(c));
    !digits.is_empty()
        && digits.bytes().all(|b| b.is_ascii_digit() || b == b'.')
        && digits.bytes().any(|b| b.is_ascii_digit())
}

/// A text of at least 32 characters of base64 that mixes cases and digits, or of escaped bytes.
fn is_encoded(word: &str) -> bool {
    let of_base64 = |b: u8| b.is_ascii_alphanumeric() || b"+/=-_".contains(&b);
    if word.matches("\\x").take(8).count() == 8 {
        return true;
    }
    let mut classes = (false, false, false);
    for byte in word.bytes() {
        classes.0 |= byte.is_ascii_lowercase();
        classes.1 |= byte.is_ascii_uppercase();
        classes.2 |= byte.is_ascii_digit();
    }
    word.len() >= 32
        && word.bytes().all(of_base64)
        && !word.starts_with('/')
        && matches!(classes, (true, true, true))
}
