//! Shell completion the kubectl way: kubectl runs `kubectl_complete-pi` with the words behind
//! `kubectl pi`, the last of them the one to complete, and takes a candidate a line, with what it is
//! behind a tab, and at last a directive for the shell.
//!
//! This program is both, by the name under which it is called. Whatever goes wrong completes nothing:
//! nobody wants to read an error while typing.

use std::{
    ffi::{OsStr, OsString},
    fmt::Debug,
    path::Path,
    time::Duration,
};

use clap::{Arg, Command, CommandFactory, FromArgMatches, ValueHint, value_parser};
use curfew_core::{duration::relative, metadata};
use curfew_crd::InteractionProfile;
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Namespace, Node, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, Resource, ResourceExt, api::ListParams};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::{
    cli::{Cli, Target, words},
    cluster::{
        connection::{Connection, read_kubeconfig},
        find,
    },
    output,
    print::{
        format,
        row::{annotation, eviction_time, order},
    },
    verbs::change::has_timer,
};

/// What kubectl looks for.
const NAME: &str = "kubectl_complete-pi";
/// The verb by which a script of that name may call this program.
const VERB: &str = "__complete";
/// What stands in the place of the word to complete while the line is parsed. Nobody types it.
const PROBE: &str = "\u{1}";
/// Who presses a key waits.
const TIMEOUT: Duration = Duration::from_secs(3);
/// No shell shows more.
const MAX_NAMES: u32 = 500;

/// What the shell is to do with the candidates, as Cobra numbers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Directive {
    /// Where there is none, a file may be meant.
    Files = 0,
    /// Files are not meant.
    NoFiles = 4,
    /// Neither, and the word goes on.
    NoSpaceNoFiles = 6,
}

/// A word, and what it is.
type Candidate = (String, String);

/// The words to complete, when this program is called for that.
pub(crate) fn asked(args: impl Iterator<Item = OsString>) -> Option<Vec<String>> {
    let mut words = args.map(|word| word.to_string_lossy().into_owned());
    let program = words.next()?;
    let called = Path::new(&program)
        .file_name()
        .is_some_and(|name| name == NAME);
    match called || words.next()? == VERB {
        true => Some(words.collect()),
        false => None,
    }
}

/// Prints the candidates.
pub(crate) async fn run(words: &[String]) -> anyhow::Result<()> {
    let (candidates, directive) = complete(words).await;
    let mut out = String::new();
    for (word, what) in candidates {
        let what = output::visible(&what);
        out += &format!("{}\t{what}\n", output::visible(&word));
    }
    out += &format!(":{}\n", directive as u8);
    Ok(output::print(&out)?)
}

async fn complete(words: &[String]) -> (Vec<Candidate>, Directive) {
    let (last, before) = match words.split_last() {
        Some((last, before)) => (last.as_str(), before),
        None => ("", words),
    };
    let mut cli = Cli::command().ignore_errors(true);
    cli.build();
    let line = Line::read(&cli, before, last);
    let found = timeout(TIMEOUT, line.candidates(last)).await;
    let mut candidates = found.unwrap_or_default();
    let typed = match (line.arg, long_flag(last)) {
        (Some(_), Some((_, value))) => value,
        _ => last,
    };
    candidates.retain(|(word, _)| word.starts_with(typed));
    let is_path = |arg: &Arg| arg.get_value_hint() == ValueHint::AnyPath;
    let directive = match line.arg.is_some_and(is_path) {
        true => Directive::Files,
        false if candidates.is_empty() => Directive::NoFiles,
        false if candidates.iter().all(|(word, _)| word.ends_with('=')) => {
            Directive::NoSpaceNoFiles
        }
        false => Directive::NoFiles,
    };
    (candidates, directive)
}

/// The flag and the value of a word such as `--output=wide`.
fn long_flag(word: &str) -> Option<(&str, &str)> {
    let (flag, value) = word.split_once('=')?;
    flag.starts_with("--").then_some((flag, value))
}

/// The same command line, which takes whatever stands in the place of a value.
fn untyped(command: Command) -> Command {
    command
        .mut_args(|arg| match arg.get_action().takes_values() {
            true => arg.value_parser(value_parser!(OsString)),
            false => arg,
        })
        .mut_subcommands(untyped)
}

/// What clap makes of the words.
struct Line<'a> {
    /// The verb, or the program where there is none yet.
    command: &'a Command,
    verb: Option<&'a str>,
    /// What the last word is a value of.
    arg: Option<&'a Arg>,
    /// The other values of that.
    given: Vec<String>,
    target: Target,
    all_namespaces: bool,
}

impl<'a> Line<'a> {
    /// Puts [`PROBE`] in the place of the last word, and looks where it comes to stand. `cli` is built.
    fn read(cli: &'a Command, before: &[String], last: &str) -> Self {
        let probe = match long_flag(last) {
            Some((flag, _)) => format!("{flag}={PROBE}"),
            None => PROBE.to_owned(),
        };
        let words = [NAME.to_owned()].into_iter().chain(before.iter().cloned());
        let before = words::without_kind(cli, words.map(OsString::from));
        let target = cli.clone().try_get_matches_from(&before).ok();
        let target = target.and_then(|matches| Target::from_arg_matches(&matches).ok());
        let words = before.into_iter().chain([probe.into()]);
        let matches = untyped(cli.clone()).try_get_matches_from(words);
        let matches = matches.unwrap_or_default();
        let (mut command, mut of_verb) = (cli, &matches);
        // A verb may have verbs of its own.
        while let Some((verb, of)) = of_verb.subcommand()
            && let Some(found) = command.find_subcommand(verb)
        {
            (command, of_verb) = (found, of);
        }
        let verb = (!std::ptr::eq(command, cli)).then_some(command);
        let values = |arg: &Arg| {
            let raw = of_verb.try_get_raw(arg.get_id().as_str());
            let words = raw.ok().flatten().into_iter().flatten();
            words.filter_map(OsStr::to_str).collect::<Vec<_>>()
        };
        let arg = command
            .get_arguments()
            .find(|arg| values(arg).contains(&PROBE));
        let given = arg.map(values).unwrap_or_default().into_iter();
        let all_namespaces = of_verb.try_get_one("all_namespaces");
        Self {
            command,
            verb: verb.map(Command::get_name),
            arg,
            given: given.map(|word| find::bare(word).to_owned()).collect(),
            target: target.unwrap_or_default(),
            all_namespaces: matches!(all_namespaces, Ok(Some(true))),
        }
    }

    async fn candidates(&self, last: &str) -> Vec<Candidate> {
        match self.arg {
            Some(arg) if !arg.is_positional() => self.values(arg).await,
            _ if last.starts_with('-') => self.flags(),
            Some(arg) => self.names(arg).await.unwrap_or_default(),
            None if self.command.has_subcommands() => self.verbs(),
            None => Vec::new(),
        }
    }

    fn verbs(&self) -> Vec<Candidate> {
        let verbs = self.command.get_subcommands();
        verbs
            .filter(|verb| !verb.is_hide_set())
            .map(|verb| (verb.get_name().to_owned(), about(verb.get_about())))
            .collect()
    }

    fn flags(&self) -> Vec<Candidate> {
        let flags = self
            .command
            .get_arguments()
            .filter(|arg| !arg.is_hide_set());
        flags
            .filter_map(|arg| Some((format!("--{}", arg.get_long()?), about(arg.get_help()))))
            .collect()
    }

    async fn values(&self, arg: &Arg) -> Vec<Candidate> {
        let kubeconfig = || read_kubeconfig(&self.target).unwrap_or_default();
        let plain = |name: String| (name, String::new());
        match (arg.get_id().as_str(), self.verb) {
            ("namespace", _) => {
                let namespaces = |client, _: &str| Api::<Namespace>::all(client);
                names(namespaces, &self.target).await.unwrap_or_default()
            }
            ("context", _) => {
                let contexts = kubeconfig().contexts.into_iter();
                contexts.map(|one| plain(one.name)).collect()
            }
            ("cluster", _) => {
                let clusters = kubeconfig().clusters.into_iter();
                clusters.map(|one| plain(one.name)).collect()
            }
            ("user", _) => {
                let users = kubeconfig().auth_infos.into_iter();
                users.map(|one| plain(one.name)).collect()
            }
            ("output", Some("get")) => {
                let formats = format::NAMES.map(|(name, what)| (name.to_owned(), what.to_owned()));
                formats.to_vec()
            }
            ("duration", _) => ["15m", "30m", "1h", "2h", "4h"]
                .map(|length| plain(length.to_owned()))
                .to_vec(),
            _ => {
                let values = arg.get_possible_values().into_iter();
                values
                    .map(|value| (value.get_name().to_owned(), about(value.get_help())))
                    .collect()
            }
        }
    }

    async fn names(&self, arg: &Arg) -> anyhow::Result<Vec<Candidate>> {
        match (arg.get_id().as_str(), self.verb) {
            // The pods of all namespaces have no names to be called by.
            _ if self.all_namespaces => Ok(Vec::new()),
            // Pods that nobody interacted with can be evicted, too.
            ("pods", Some("evict")) => {
                let mut pods = names(Api::<Pod>::namespaced, &self.target).await?;
                pods.retain(|(name, _)| !self.given.contains(name));
                Ok(pods)
            }
            ("pods", Some(verb)) => self.pods(verb).await,
            // What is asked about has not happened: all pods are meant.
            ("pod", _) => names(Api::<Pod>::namespaced, &self.target).await,
            ("profile", _) => names(Api::<InteractionProfile>::namespaced, &self.target).await,
            ("node", _) => names(|client, _| Api::<Node>::all(client), &self.target).await,
            _ => Ok(Vec::new()),
        }
    }

    /// The marked pods with which the verb can do something, those that go next first.
    async fn pods(&self, verb: &str) -> anyhow::Result<Vec<Candidate>> {
        let Connection { client, namespace } = Connection::open(&self.target)?;
        let pods: Api<Pod> = Api::namespaced(client, &namespace);
        let marked = find::marked(None, async |params| pods.list_metadata(&params).await).await?;
        let mut pods: Vec<_> = marked.into_iter().map(|pod| pod.metadata).collect();
        pods.retain(|pod| {
            fits(verb, pod)
                && !pod
                    .name
                    .as_ref()
                    .is_some_and(|name| self.given.contains(name))
        });
        pods.sort_by_cached_key(order);
        let now = Timestamp::now();
        let pods = pods.into_iter().map(|pod| {
            let when = eviction_time(&pod).map(|at| format!("evicted {}", relative(at, now)));
            let what = annotation(&pod, metadata::INTERACTOR).map(str::to_owned);
            let what: Vec<_> = what.into_iter().chain(when).collect();
            (pod.name.unwrap_or_default(), what.join(", "))
        });
        Ok(pods.collect())
    }
}

async fn names<K>(
    api: impl FnOnce(Client, &str) -> Api<K>,
    target: &Target,
) -> anyhow::Result<Vec<Candidate>>
where
    K: Resource + Clone + Debug + DeserializeOwned,
{
    let Connection { client, namespace } = Connection::open(target)?;
    let params = ListParams::default().limit(MAX_NAMES);
    let found = api(client, &namespace).list_metadata(&params).await?;
    let names = found.items.into_iter();
    Ok(names.map(|one| (one.name_any(), String::new())).collect())
}

/// Whether the verb can do something with the pod.
fn fits(verb: &str, pod: &ObjectMeta) -> bool {
    let stays = pod.deletion_timestamp.is_none();
    let held = annotation(pod, metadata::HOLD).is_some();
    match verb {
        "extend" => stays && has_timer(pod),
        "hold" => stays && !held,
        "release" => stays && held,
        _ => true,
    }
}

fn about(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::row::tests::{marked, pod};
    use curfew_core::Kind;

    fn words(line: &str) -> Vec<String> {
        line.split(' ').map(str::to_owned).collect()
    }

    async fn completed(line: &str) -> (Vec<String>, Directive) {
        let (candidates, directive) = complete(&words(line)).await;
        let words = candidates.into_iter().map(|(word, _)| word);
        (words.collect(), directive)
    }

    #[tokio::test]
    async fn verbs_flags_and_values_are_completed() {
        for (line, expected, directive) in [
            ("ex", &["explain", "extend"][..], Directive::NoFiles),
            ("explain --kind att", &["attach"], Directive::NoFiles),
            ("explain web-1 ", &[], Directive::NoFiles),
            ("prof", &["profile"], Directive::NoFiles),
            ("profile ad", &["adopt"], Directive::NoFiles),
            (
                "profile adopt --seen",
                &["--seen-at-least"],
                Directive::NoFiles,
            ),
            (
                "profile explain --kind att",
                &["attach"],
                Directive::NoFiles,
            ),
            ("-n shop hol", &["hold"], Directive::NoFiles),
            ("extend --dur", &["--duration"], Directive::NoFiles),
            ("get --all-", &["--all-namespaces"], Directive::NoFiles),
            ("get -o y", &["yaml"], Directive::NoFiles),
            ("get --output=w", &["wide"], Directive::NoFiles),
            ("get -o jsonp", &["jsonpath="], Directive::NoSpaceNoFiles),
            ("extend --dry-run=s", &["server"], Directive::NoFiles),
            ("extend -d 3", &["30m"], Directive::NoFiles),
            ("get --kubeconfig x", &[], Directive::Files),
            ("get -A ", &[], Directive::NoFiles),
            ("hold web-1 --reason ", &[], Directive::NoFiles),
            ("evict web-1 --fo", &["--force"], Directive::NoFiles),
        ] {
            let (found, told) = completed(line).await;
            assert_eq!(found, expected, "{line}");
            assert_eq!(told, directive, "{line}");
        }
        let (verbs, _) = completed("").await;
        assert!(verbs.contains(&"get".to_owned()) && verbs.contains(&"release".to_owned()));
    }

    #[test]
    fn flags_say_where_names_are_looked_for() {
        let mut cli = Cli::command().ignore_errors(true);
        cli.build();
        let typed = words("-n shop extend --context=blue -d 1h web-1 --kubeconfig /f pod/web-2");
        let line = Line::read(&cli, &typed, "");
        assert_eq!(line.target.namespace.as_deref(), Some("shop"));
        assert_eq!(line.target.context.as_deref(), Some("blue"));
        assert_eq!(line.verb, Some("extend"));
        assert_eq!(line.given, ["web-1", "web-2", PROBE]);
    }

    #[test]
    fn only_pods_that_the_verb_is_for() {
        let timed = marked("web-1", Kind::Exec, None);
        let recorded = marked("web-2", Kind::Portforward, None);
        let held = pod("web-3", &[(metadata::HOLD, "why")]);
        for (verb, fitting) in [
            ("get", [true, true, true]),
            ("extend", [true, false, false]),
            ("hold", [true, true, false]),
            ("release", [false, false, true]),
        ] {
            let fits = [&timed, &recorded, &held].map(|pod| fits(verb, pod));
            assert_eq!(fits, fitting, "{verb}");
        }
    }

    #[test]
    fn is_asked_by_name_or_by_verb() {
        let asked = |line: &str| asked(line.split(' ').map(OsString::from));
        assert_eq!(asked("/bin/kubectl_complete-pi get "), Some(words("get ")));
        assert_eq!(asked("kubectl-pi __complete get w"), Some(words("get w")));
        assert_eq!(asked("/bin/kubectl-pi get web-1"), None);
        assert_eq!(asked("kubectl-pi"), None);
    }
}
