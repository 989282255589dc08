//! Shell completion the kubectl way: kubectl runs `kubectl_complete-pi` with the words behind
//! `kubectl pi`, the last of them the one to complete, and takes a candidate a line, with what it is
//! behind a tab, and at last a directive for the shell.
//!
//! This program is both, by the name under which it is called. Whatever goes wrong completes nothing:
//! nobody wants to read an error while typing.

use std::{ffi::OsString, path::Path, time::Duration};

use clap::{Arg, Command, CommandFactory};
use curfew_core::{duration::relative, metadata};
use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::{Namespace, Node, Pod},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::{
    cli::words::{is_kind, takes_next},
    cli::{Cli, Target},
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
    let mut cli = Cli::command();
    cli.build();
    let line = Line::read(&cli, before);
    let (wanted, typed) = line.wanted(last);
    let (mut candidates, directive) = match wanted {
        Wanted::Verb => (line.verbs(), Directive::NoFiles),
        Wanted::Flag => (line.flags(), Directive::NoFiles),
        Wanted::Positional => {
            let found = tokio::time::timeout(TIMEOUT, line.positionals()).await;
            (found.unwrap_or_default(), Directive::NoFiles)
        }
        Wanted::ValueOf(arg) => {
            let values = tokio::time::timeout(TIMEOUT, line.values(arg)).await;
            let directive = match arg.get_id().as_str() {
                "kubeconfig" | "client_certificate" | "client_key" | "certificate_authority" => {
                    Directive::Files
                }
                _ => Directive::NoFiles,
            };
            (values.unwrap_or_default(), directive)
        }
    };
    candidates.retain(|(word, _)| word.starts_with(typed));
    let unfinished = |(word, _): &Candidate| word.ends_with('=');
    match candidates.is_empty() || !candidates.iter().all(unfinished) {
        true => (candidates, directive),
        false => (candidates, Directive::NoSpaceNoFiles),
    }
}

/// What the last word may be.
enum Wanted<'a> {
    Verb,
    Flag,
    ValueOf(&'a Arg),
    Positional,
}

/// What stands before the last word.
struct Line<'a> {
    command: &'a Command,
    verb: Option<&'a str>,
    given: Vec<&'a str>,
    target: Target,
    all_namespaces: bool,
    /// The flag whose value comes next.
    open: Option<&'a Arg>,
}

impl<'a> Line<'a> {
    fn read(cli: &'a Command, words: &'a [String]) -> Self {
        let mut line = Self {
            command: cli,
            verb: None,
            given: Vec::new(),
            target: Target::default(),
            all_namespaces: false,
            open: None,
        };
        for word in words {
            if let Some(arg) = line.open.take() {
                line.set(arg, word);
            } else if let Some((name, value)) = word
                .strip_prefix("--")
                .and_then(|flag| flag.split_once('='))
            {
                if let Some(arg) = line.long(name) {
                    line.set(arg, value);
                }
            } else if word.starts_with('-') {
                line.open_flag(word);
            } else if let Some(verb) = line.verb {
                if !(line.given.is_empty() && is_kind(verb, word)) {
                    line.given.push(find::bare(word));
                }
            } else if let Some(verb) = cli.find_subcommand(word) {
                line.command = verb;
                line.verb = Some(verb.get_name());
            }
        }
        line
    }

    fn open_flag(&mut self, word: &'a str) {
        let arg = match word.strip_prefix("--") {
            Some(name) => self.long(name),
            None => {
                let mut rest = word.chars().skip(1);
                let arg = rest.next().and_then(|short| self.short(short));
                // `-nshop` has its value with it.
                let value = word.get(2..).unwrap_or_default();
                if let Some(arg) = arg.filter(|arg| takes_next(arg) && !value.is_empty()) {
                    return self.set(arg, value);
                }
                arg
            }
        };
        match arg {
            Some(arg) if takes_next(arg) => self.open = Some(arg),
            Some(arg) if arg.get_id() == "all_namespaces" => self.all_namespaces = true,
            Some(arg) if arg.get_id() == "insecure_skip_tls_verify" => self.set(arg, "true"),
            _ => {}
        }
    }

    fn long(&self, name: &str) -> Option<&'a Arg> {
        let mut args = self.command.get_arguments();
        args.find(|arg| arg.get_long() == Some(name))
    }

    fn short(&self, name: char) -> Option<&'a Arg> {
        let mut args = self.command.get_arguments();
        args.find(|arg| arg.get_short() == Some(name))
    }

    /// Takes note of what decides where candidates are looked for.
    fn set(&mut self, arg: &Arg, value: &str) {
        let value = value.to_owned();
        match arg.get_id().as_str() {
            "namespace" => self.target.namespace = Some(value),
            "context" => self.target.context = Some(value),
            "cluster" => self.target.cluster = Some(value),
            "user" => self.target.user = Some(value),
            "kubeconfig" => self.target.kubeconfig = Some(value.into()),
            "impersonate" => self.target.impersonate = Some(value),
            "groups" => self.target.groups.push(value),
            "server" => self.target.server = Some(value),
            "token" => self.target.token = Some(value),
            "tls_server_name" => self.target.tls_server_name = Some(value),
            "client_certificate" => self.target.client_certificate = Some(value.into()),
            "client_key" => self.target.client_key = Some(value.into()),
            "certificate_authority" => self.target.certificate_authority = Some(value.into()),
            "insecure_skip_tls_verify" => {
                self.target.insecure_skip_tls_verify = value.parse().ok();
            }
            _ => {}
        }
    }

    /// What the last word may be, and as much of it as is there.
    fn wanted<'w>(&self, last: &'w str) -> (Wanted<'a>, &'w str) {
        if let Some(arg) = self.open {
            return (Wanted::ValueOf(arg), last);
        }
        // The shells put the flag before the value again.
        if let Some((name, value)) = last.strip_prefix("--").and_then(|f| f.split_once('='))
            && let Some(arg) = self.long(name)
        {
            return (Wanted::ValueOf(arg), value);
        }
        let wanted = match self.verb {
            _ if last.starts_with('-') => Wanted::Flag,
            None => Wanted::Verb,
            Some(_) => Wanted::Positional,
        };
        (wanted, last)
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
        let kubeconfig = || read_kubeconfig(&self.target);
        let plain = |names: Vec<String>| names.into_iter().map(|name| (name, String::new()));
        match (arg.get_id().as_str(), self.verb) {
            ("namespace", _) => self.namespaces().await.unwrap_or_default(),
            ("context", _) => {
                let contexts = kubeconfig().unwrap_or_default().contexts;
                plain(contexts.into_iter().map(|one| one.name).collect()).collect()
            }
            ("cluster", _) => {
                let clusters = kubeconfig().unwrap_or_default().clusters;
                plain(clusters.into_iter().map(|one| one.name).collect()).collect()
            }
            ("user", _) => {
                let users = kubeconfig().unwrap_or_default().auth_infos;
                plain(users.into_iter().map(|one| one.name).collect()).collect()
            }
            ("output", Some("get")) => {
                let formats = format::NAMES.map(|(name, what)| (name.to_owned(), what.to_owned()));
                formats.to_vec()
            }
            ("duration", _) => {
                let lengths = ["15m", "30m", "1h", "2h", "4h"];
                plain(lengths.map(str::to_owned).to_vec()).collect()
            }
            _ => {
                let values = arg.get_possible_values().into_iter();
                values
                    .map(|value| (value.get_name().to_owned(), about(value.get_help())))
                    .collect()
            }
        }
    }

    async fn positionals(&self) -> Vec<Candidate> {
        match self.verb {
            // A verb of its own line, all namespaces or the one node leave no room for names.
            _ if self.all_namespaces => Vec::new(),
            Some("node" | "explain") if !self.given.is_empty() => Vec::new(),
            Some("version") => Vec::new(),
            // What is asked about has not happened: all pods are meant.
            Some("explain") => self.all_pods().await.unwrap_or_default(),
            Some("node") => self.nodes().await.unwrap_or_default(),
            Some(verb) => self.pods(verb).await.unwrap_or_default(),
            None => Vec::new(),
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
                && !self
                    .given
                    .contains(&pod.name.as_deref().unwrap_or_default())
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

    async fn all_pods(&self) -> anyhow::Result<Vec<Candidate>> {
        let Connection { client, namespace } = Connection::open(&self.target)?;
        names(Api::<Pod>::namespaced(client, &namespace)).await
    }

    async fn namespaces(&self) -> anyhow::Result<Vec<Candidate>> {
        let client = Connection::open(&self.target)?.client;
        names(Api::<Namespace>::all(client)).await
    }

    async fn nodes(&self) -> anyhow::Result<Vec<Candidate>> {
        let client = Connection::open(&self.target)?.client;
        names(Api::<Node>::all(client)).await
    }
}

async fn names<K>(all: Api<K>) -> anyhow::Result<Vec<Candidate>>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let params = ListParams::default().limit(MAX_NAMES);
    let found = all.list_metadata(&params).await?;
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
        let mut cli = Cli::command();
        cli.build();
        let typed = words("-n shop extend --context=blue -d 1h web-1 --kubeconfig /f pod/web-2");
        let line = Line::read(&cli, &typed);
        assert_eq!(line.target.namespace.as_deref(), Some("shop"));
        assert_eq!(line.target.context.as_deref(), Some("blue"));
        assert_eq!(line.verb, Some("extend"));
        assert_eq!(line.given, ["web-1", "web-2"]);
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
