//! An interaction: somebody reached into a running pod.

use std::fmt;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use strum::{Display, EnumString, IntoStaticStr, VariantArray, VariantNames};

use crate::{
    actor::Actor,
    masking::MASK,
    text::{ELLIPSIS, cut},
};

/// The longest name of a user that is kept, in bytes. Names of ServiceAccounts and certificates are
/// far shorter; an identity provider may make longer ones.
pub const MAX_USER: usize = 512;

/// The user of a [bypass](Kind::Bypass), whom nobody authenticated.
pub const BYPASS_USER: &str = "unknown";

/// The kind of an interaction.
#[derive(Display, EnumString, IntoStaticStr, VariantArray, VariantNames)]
#[strum(serialize_all = "lowercase", parse_err_ty = UnknownKind, parse_err_fn = UnknownKind::new)]
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// `kubectl exec`: a command in a container (`pods/exec`).
    Exec,
    /// `kubectl attach`: the streams of a container's main process (`pods/attach`).
    Attach,
    /// `kubectl port-forward`: a connection to a port of the pod (`pods/portforward`).
    Portforward,
    /// `kubectl debug`: an ephemeral container was added (`pods/ephemeralcontainers`).
    Debug,
    /// A session in a container that no admission request asked for: a tool of the node, or the kubelet itself. Agents
    /// see it by its process.
    Bypass,
}

impl Kind {
    /// Every kind, in the order in which they are listed to people.
    pub const ALL: &[Kind] = <Self as VariantArray>::VARIANTS;

    /// The name of each, as [`Kind::as_str`] gives it.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// The names of those that the API server asks admission webhooks about: all but the last.
    pub const ADMITTED_NAMES: &[&str] = match Self::NAMES.split_last() {
        Some((_bypass, admitted)) => admitted,
        None => &[],
    };

    /// The name of the kind in annotations, labels of metrics and policies.
    pub fn as_str(self) -> &'static str {
        self.into()
    }
}

/// A text that names no [`Kind`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an interaction; it must be one of exec, attach, portforward, debug, bypass")]
pub struct UnknownKind(String);

impl UnknownKind {
    fn new(text: &str) -> Self {
        Self(cut(text, 64).into_owned())
    }
}

/// The command of an interaction as a shell would take it, of bounded length.
///
/// Words are quoted where they need it, so that the argv can be told from the text; a command that
/// does not fit ends in an ellipsis. It is empty where an interaction has none (attach, port-forward).
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Command(String);

impl Command {
    /// The longest text of a command, in bytes: enough to recognise it by, small enough for the
    /// pod's annotations, an Event's note (1,024 characters) and a record on disk.
    pub const MAX: usize = 512;

    /// The text of an argv. A NUL byte, which no process can be given, becomes U+FFFD.
    pub fn new<S: AsRef<str>>(argv: impl IntoIterator<Item = S>) -> Self {
        let mut text = String::new();
        for word in argv {
            if text.len() > Self::MAX {
                break;
            }
            if !text.is_empty() {
                text.push(' ');
            }
            // Quoting looks at the whole word: a word longer than all that is kept is cut before.
            let word = cut(word.as_ref(), Self::MAX + 1).replace('\0', "\u{fffd}");
            text.push_str(&shlex::try_quote(&word).unwrap_or_default());
        }
        Self(cut(&text, Self::MAX).into_owned())
    }

    /// A text that was made by [`Command::new`] before, as read from an annotation.
    pub fn from_text(text: &str) -> Self {
        Self(cut(text, Self::MAX).into_owned())
    }

    /// The text of the command.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Its words, as far as they can be read, and whether these are all there were: nothing was cut off or masked.
    pub fn words(&self) -> (Vec<String>, bool) {
        let words = shlex::split(&self.0).unwrap_or_default();
        let is_masked = |word: &String| word.contains(MASK);
        let is_whole =
            !words.is_empty() && !self.0.ends_with(ELLIPSIS) && !words.iter().any(is_masked);
        (words, is_whole)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Somebody reached into a pod: who, how, where and when.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(from = "WrittenInteraction", into = "WrittenInteraction")]
pub struct Interaction {
    /// When the webhook saw it, in whole seconds, UTC.
    pub time: Timestamp,
    /// How.
    pub kind: Kind,
    /// The user name as the API server authenticated it.
    pub user: String,
    /// The container, where it concerns one (all but port-forward).
    pub container: Option<String>,
    /// The command that was run, where there is one.
    pub command: Command,
    /// Whether the user's standard input reaches it. Older releases do not say.
    pub stdin: bool,
    /// Whether it has a terminal. Older releases do not say.
    pub tty: bool,
    /// The UID of the admission request; the API server's retries repeat it. Empty when the
    /// interaction was read from the pod's metadata and only its other facts are known.
    pub request: String,
}

/// [`Interaction`] as it is written. A bypass is written as an exec, with the rest beside it: earlier releases refuse
/// a kind that they do not know, and with it the whole record, whose timers would be lost.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WrittenInteraction {
    time: Timestamp,
    kind: Kind,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    bypass: bool,
    user: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    container: Option<String>,
    #[serde(default, skip_serializing_if = "Command::is_empty")]
    command: Command,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    stdin: bool,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    tty: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    request: String,
}

impl From<Interaction> for WrittenInteraction {
    fn from(interaction: Interaction) -> Self {
        let bypass = interaction.kind == Kind::Bypass;
        Self {
            time: interaction.time,
            kind: if bypass { Kind::Exec } else { interaction.kind },
            bypass,
            user: interaction.user,
            container: interaction.container,
            command: interaction.command,
            stdin: interaction.stdin,
            tty: interaction.tty,
            request: interaction.request,
        }
    }
}

impl From<WrittenInteraction> for Interaction {
    fn from(written: WrittenInteraction) -> Self {
        Self {
            time: written.time,
            kind: if written.bypass {
                Kind::Bypass
            } else {
                written.kind
            },
            user: written.user,
            container: written.container,
            command: written.command,
            stdin: written.stdin,
            tty: written.tty,
            request: written.request,
        }
    }
}

impl Interaction {
    /// Which kind of actor it was.
    pub fn actor(&self) -> Actor {
        Actor::of(&self.user)
    }

    /// Whether one repeats the other: all but the time and the request are the same.
    pub fn is_repeat_of(&self, other: &Interaction) -> bool {
        self.looks_like(other) && (self.stdin, self.tty) == (other.stdin, other.tty)
    }

    /// Whether both are alike in all that the annotations of a pod tell of them.
    pub(crate) fn looks_like(&self, other: &Interaction) -> bool {
        self.kind == other.kind
            && self.user == other.user
            && self.container == other.container
            && self.command == other.command
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_command_reads_as_it_would_be_typed() {
        assert_eq!(
            Command::new(["cat", "/etc/hosts"]).as_str(),
            "cat /etc/hosts"
        );
        assert_eq!(
            Command::new(["sh", "-c", "echo hi > /tmp/x"]).as_str(),
            "sh -c 'echo hi > /tmp/x'"
        );
        assert_eq!(Command::new(Vec::<String>::new()), Command::default());
    }

    #[test]
    fn a_command_of_thousands_of_arguments_is_cut() {
        let command = Command::new((0..5000).map(|n| n.to_string()));
        assert!(command.as_str().len() <= Command::MAX);
        assert!(command.as_str().starts_with("0 1 2 3"));
        assert!(command.as_str().ends_with('…'));
    }

    #[test]
    fn whether_all_words_are_known_is_told() {
        for (text, words, is_whole) in [
            ("sh -c 'echo hi'", &["sh", "-c", "echo hi"][..], true),
            ("mysql -pxxxxx", &["mysql", "-pxxxxx"], false),
            ("echo a…", &["echo", "a…"], false),
            ("sh 'torn", &[], false),
            ("", &[], false),
        ] {
            let (found, whole) = Command::from_text(text).words();
            assert_eq!(found, words, "{text}");
            assert_eq!(whole, is_whole, "{text}");
        }
    }

    #[test]
    fn kinds_have_their_names() {
        for &kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(serde_json::to_value(kind).unwrap(), kind.as_str());
        }
        assert!("port-forward".parse::<Kind>().is_err());
        let admitted = Kind::ALL.iter().filter(|kind| **kind != Kind::Bypass);
        let admitted: Vec<_> = admitted.map(|kind| kind.as_str()).collect();
        assert_eq!(Kind::ADMITTED_NAMES, admitted);
    }

    #[test]
    fn an_earlier_release_takes_a_bypass_for_an_exec() {
        for &kind in Kind::ALL {
            let interaction = Interaction {
                time: Timestamp::UNIX_EPOCH,
                kind,
                user: "unknown".into(),
                container: Some("app".into()),
                command: Command::new(["sh"]),
                stdin: false,
                tty: false,
                request: "r".into(),
            };
            let written = serde_json::to_value(&interaction).unwrap();
            let bypass = kind == Kind::Bypass;
            let told = if bypass { Kind::Exec } else { kind };
            assert_eq!(written["kind"], told.as_str());
            assert_eq!(written.get("bypass").is_some(), bypass);
            let read: Interaction = serde_json::from_value(written).unwrap();
            assert_eq!(read, interaction);
        }
    }

    proptest! {
        #[test]
        fn short_commands_keep_their_words(argv in prop::collection::vec("[^\0]{1,12}", 0..8)) {
            let command = Command::new(&argv);
            if !command.as_str().ends_with('…') {
                prop_assert_eq!(shlex::split(command.as_str()).unwrap(), argv);
            }
            prop_assert_eq!(&Command::from_text(command.as_str()), &command);
        }
    }
}
