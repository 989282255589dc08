//! The command line: which verbs, flags and arguments there are.
//!
//! It owns no state. What the verbs do is left to [`crate::verbs`].

pub(crate) mod profile;
pub(crate) mod words;

use std::{ffi::OsString, process::ExitCode, time::Duration};

use clap::{
    Args, CommandFactory, Parser, Subcommand, ValueEnum,
    builder::{PossibleValuesParser, TypedValueParser},
    error::{ContextKind, ErrorKind as Usage},
};
use curfew_core::{Kind, duration};

pub(crate) use crate::cluster::target::Target;
use crate::print::{format::Output, jsonpath::Path};

const EXAMPLES: &str = "\
Examples:
  # List the touched pods of this namespace and their eviction times
  kubectl pi get

  # Show everything that is known about a pod
  kubectl pi describe web-1

  # Show what would happen after a command, by which policy, and why
  kubectl pi explain web-1 -- cat /etc/hosts

  # Count who touched what in all namespaces
  kubectl pi report -A

  # Extend the time of a pod by half an hour
  kubectl pi extend web-1 --duration=30m

  # Keep a pod for inspection, taken out of service and replaced
  kubectl pi hold web-1 --reason='crash of Tuesday' --detach

  # Release the pod when you are done
  kubectl pi release web-1

  # Take a misused pod out of service and evict it now
  kubectl pi evict web-1 --reason='shell of an unknown user' --detach";

/// Show pods that people have touched, and extend, hold or evict them.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-pi",
    bin_name = "kubectl pi",
    version,
    args_override_self = true,
    after_help = EXAMPLES
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) target: Target,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List touched pods, the next to be evicted first
    Get(Get),
    /// Show everything that is known about pods: interactions, what blocks the eviction, Events
    Describe(Describe),
    /// Show which policy would apply to an interaction with a pod, why, and what would happen
    Explain(Explain),
    /// Show who touched what how often, what went or would have gone, and suggest a policy
    Report(Report),
    /// Show what is usual for workloads, as it was learned, and allow or forget it
    Profile(profile::Profile),
    /// Extend the time to live of pods
    Extend(Extend),
    /// Keep pods beyond their deadline, until they are released or the longest hold ends
    Hold(Hold),
    /// End holds; pods whose deadline has passed are evicted immediately
    Release(Release),
    /// Evict pods now: disruption budgets are respected, and the eviction is retried until the pod is gone
    Evict(Evict),
    /// Show what the agent of a node knows and will do
    Node(NodeArgs),
    /// Print the versions of this plugin and of the API server
    Version(Version),
}

/// Which pods, and how they are shown.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Only these pods
    #[arg(value_name = "POD", conflicts_with_all = ["all_namespaces", "selector", "field_selector", "all"])]
    pub(crate) pods: Vec<String>,
    /// The pods of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only pods whose labels match, such as `app=web,tier!=cache`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// Only pods whose fields match, such as `spec.nodeName=node-1`
    #[arg(long, value_name = "SELECTOR")]
    pub(crate) field_selector: Option<String>,
    /// All pods of the namespace (the default if no pod is named)
    #[arg(short = 'a', long, hide = true)]
    pub(crate) all: bool,
    /// Keep showing changes: in place on a terminal, otherwise one line for each change
    #[arg(short, long)]
    pub(crate) watch: bool,
    /// Sort by the value of this JSONPath expression, such as `.metadata.name`
    #[arg(long, value_name = "PATH")]
    pub(crate) sort_by: Option<Path>,
    /// Print tables without headers
    #[arg(long)]
    pub(crate) no_headers: bool,
    /// The output format: table, wide, json, yaml, name, jsonpath=TEMPLATE, custom-columns=HEADER:PATH,…
    #[arg(short, long, default_value = "table", value_name = "FORMAT")]
    pub(crate) output: Output,
}

/// Which pods are meant; exactly one of these is required.
#[derive(Debug, Args)]
#[group(id = "which", required = true, multiple = false)]
pub(crate) struct Which {
    /// These pods
    #[arg(value_name = "POD")]
    pub(crate) pods: Vec<String>,
    /// Touched pods whose labels match, such as `app=web,tier!=cache`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// All touched pods of the namespace
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
}

/// Which pods are described.
#[derive(Debug, Args)]
pub(crate) struct Describe {
    #[command(flatten)]
    pub(crate) which: Which,
}

/// What is asked about: an interaction that has not happened.
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// The pod
    #[arg(value_name = "POD")]
    pub(crate) pod: String,
    /// The kind of the interaction; bypass: by a tool of the node, such as crictl or nsenter
    #[arg(long, default_value = "exec", value_parser = kinds(Kind::NAMES), value_name = "KIND")]
    pub(crate) kind: Kind,
    /// With standard input, as in `kubectl exec -i`
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// On a terminal, as in `kubectl exec -t`
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// The command of an exec
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

fn kinds(names: &'static [&'static str]) -> impl TypedValueParser<Value = Kind> {
    PossibleValuesParser::new(names).try_map(|kind| kind.parse::<Kind>())
}

/// Of which node the schedule is shown.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    /// The node
    #[arg(value_name = "NODE")]
    pub(crate) node: String,
    /// The output format
    #[arg(short, long, value_enum, default_value_t = NodeOutput::Table)]
    pub(crate) output: NodeOutput,
    /// Show it as a page in a browser, and keep the port-forward open until Ctrl-C
    #[arg(long, conflicts_with = "output")]
    pub(crate) web: bool,
    /// The local port of the page; 0 selects a free port
    #[arg(long, default_value_t = 0, value_name = "PORT", requires = "web")]
    pub(crate) port: u16,
    /// Only print the address of the page
    #[arg(long, requires = "web")]
    pub(crate) no_open: bool,
}

/// What is reported.
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The pods of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only pods whose labels match, such as `app=web,tier!=cache`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// By what the interactions are grouped
    #[arg(long, value_enum, default_value_t = By::User)]
    pub(crate) by: By,
    /// Only interactions of so much time, such as 90m or 168h
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub(crate) since: Option<Duration>,
    /// The output format
    #[arg(short, long, value_enum, default_value_t = ReportOutput::Table)]
    pub(crate) output: ReportOutput,
    /// Print a policy that only records the interactions of the ServiceAccounts that come again and again
    #[arg(long, conflicts_with_all = ["output", "by"])]
    pub(crate) suggest: bool,
}

/// What interactions have in common that are counted together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum By {
    /// Who interacted
    User,
    /// The owner of the pod
    Workload,
    /// The command, or the kind where there is none
    Command,
    /// The policy that applied
    Policy,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportOutput {
    Table,
    Json,
    Yaml,
}

/// What versions are shown.
#[derive(Debug, Args)]
pub(crate) struct Version {
    /// Only the version of this plugin, without a request to the API server
    #[arg(long)]
    pub(crate) client: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum NodeOutput {
    Table,
    Json,
}

/// Which pods live how much longer.
#[derive(Debug, Args)]
pub(crate) struct Extend {
    /// These pods; if none is named, the only touched pod of the namespace
    #[arg(value_name = "POD", conflicts_with_all = ["selector", "all"])]
    pub(crate) pods: Vec<String>,
    /// Touched pods whose labels match, such as `app=web,tier!=cache`
    #[arg(short = 'l', long, value_name = "SELECTOR", conflicts_with = "all")]
    pub(crate) selector: Option<String>,
    /// All touched pods of the namespace
    #[arg(short = 'a', long)]
    pub(crate) all: bool,
    /// How much longer than the time to live, such as 90s, 30m or 1h30m
    #[arg(
        short,
        long,
        default_value = "30m",
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    pub(crate) duration: String,
    /// Replace other extensions without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArg,
}

/// Which pods are kept, and why.
#[derive(Debug, Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The reason, shown to everyone who looks at the pod
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Rename the labels by which its owner and the Services of the namespace select the pod: it no longer serves
    /// and is replaced. NetworkPolicies that select by these labels no longer apply to it either
    #[arg(long)]
    pub(crate) detach: bool,
    /// Replace other holds without asking
    #[arg(short, long)]
    pub(crate) yes: bool,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArg,
}

/// Which pods are kept no longer.
#[derive(Debug, Args)]
pub(crate) struct Release {
    #[command(flatten)]
    pub(crate) which: Which,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArg,
}

/// Which pods are evicted now, and why.
#[derive(Debug, Args)]
pub(crate) struct Evict {
    #[command(flatten)]
    pub(crate) which: Which,
    /// The reason, shown to everyone who looks at the pod
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// Rename the labels by which its owner and the Services of the namespace select the pod: it no longer serves
    /// and is replaced before it is gone. PodDisruptionBudgets and NetworkPolicies that select by these labels no
    /// longer apply to it either
    #[arg(long)]
    pub(crate) detach: bool,
    /// Evict pods that have no controller, too: nothing replaces them
    #[arg(long)]
    pub(crate) force: bool,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArg,
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct DryRunArg {
    /// Change nothing: `client` only prints what would be changed, `server` lets the API server check it
    #[arg(
        long = "dry-run",
        value_enum,
        value_name = "HOW",
        num_args = 0..=1,
        require_equals = true,
        default_value = "none",
        default_missing_value = "client"
    )]
    pub(crate) how: DryRun,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum DryRun {
    None,
    Client,
    Server,
}

impl DryRun {
    /// What stands behind what was not done, as kubectl has it.
    pub(crate) fn remark(self) -> &'static str {
        match self {
            DryRun::None => "",
            DryRun::Client => " (dry run)",
            DryRun::Server => " (server dry run)",
        }
    }
}

impl Cli {
    /// Reads the command line.
    pub(crate) fn read(words: impl Iterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut cli = Self::command();
        cli.build();
        Self::try_parse_from(words::without_kind(&cli, words))
    }
}

/// Tells what is wrong with the command line, or prints the help that was asked for.
pub(crate) fn usage(mut error: clap::Error) -> ExitCode {
    match error.kind() {
        // As kubectl does where no verb is named.
        Usage::DisplayHelpOnMissingArgumentOrSubcommand | Usage::MissingSubcommand => {
            drop(Cli::command().print_help());
            return ExitCode::SUCCESS;
        }
        // Behind `--` it would be taken for the name of a pod, which nobody means.
        Usage::UnknownArgument => drop(error.remove(ContextKind::Suggested)),
        _ => {}
    }
    drop(error.print());
    match error.use_stderr() {
        true => ExitCode::FAILURE,
        false => ExitCode::SUCCESS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn flags_are_where_kubectl_has_them() {
        for line in [
            "kubectl-pi get -A -l app=web -o wide",
            "kubectl-pi get web-1 web-2 -n shop --context c --kubeconfig /f -oname",
            "kubectl-pi --namespace=shop get --output=json --selector app",
            "kubectl-pi get --all-namespaces -o table",
            "kubectl-pi -n shop get -n till",
            "kubectl-pi get -o jsonpath={.items[*].metadata.name}",
            "kubectl-pi get --as bob --as-group dev --as-group ops --cluster c --user u",
            "kubectl-pi extend web-1 --duration=30m --dry-run=server -y",
            "kubectl-pi extend web-1 --duration=-1h",
            "kubectl-pi extend web-1 --duration -1h",
            "kubectl-pi extend -l app=web --dry-run",
            "kubectl-pi hold web-1 --reason why --detach",
            "kubectl-pi release web-1 web-2",
            "kubectl-pi evict web-1 web-2 --reason why --detach --force",
            "kubectl-pi evict -l app=web --reason=why --dry-run=server",
            "kubectl-pi describe web-1 web-2 -n shop",
            "kubectl-pi describe -l app=web",
            "kubectl-pi describe --all",
            "kubectl-pi hold -l app=web --reason why -y",
            "kubectl-pi hold --all --reason=why",
            "kubectl-pi release --selector app=web",
            "kubectl-pi release -a --dry-run",
            "kubectl-pi node node-1 -o json",
            "kubectl-pi node node-1 --web",
            "kubectl-pi node node-1 --web --port=8080 --no-open",
            "kubectl-pi get -w -A -o wide",
            "kubectl-pi explain web-1 -it --kind=exec -n shop -- cat -n /etc/hosts",
            "kubectl-pi explain web-1 --kind debug --as bob",
            "kubectl-pi get --no-headers --sort-by=.metadata.name --field-selector spec.nodeName=a",
            "kubectl-pi get -o custom-columns=NAME:.metadata.name,TTL:.metadata.annotations",
            "kubectl-pi get -s https://a --token t --tls-server-name b --proxy-url socks5://c --request-timeout 5",
            "kubectl-pi get --certificate-authority /a --client-certificate=/b --client-key /c",
            "kubectl-pi get --insecure-skip-tls-verify -v 6 --as bob --as-uid 1 --as-user-extra a=b",
            "kubectl-pi get --insecure-skip-tls-verify=false --v=6 --username a --password b",
            "kubectl-pi version --client",
            "kubectl-pi report -A --by workload --since=168h -o yaml",
            "kubectl-pi report -l app=web --suggest",
            "kubectl-pi profile list -A",
            "kubectl-pi profile explain deploy/web --by bob --group dev -it -- sh -c ls",
            "kubectl-pi profile adopt deployment.web --by-at-least 2 --dry-run",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn the_command_lines_of_old_go_on_to_work() {
        for line in [
            "kubectl-pi get a b c -n shop",
            "kubectl-pi get -n shop --all",
            "kubectl-pi extend -d 5s a b c -n shop",
            "kubectl-pi extend -d 3h -n shop --all",
            "kubectl-pi extend -n shop -a",
            "kubectl-pi extend --duration=30m",
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for line in [
            "kubectl-pi get web-1 -A",
            "kubectl-pi get web-1 -l app=web",
            "kubectl-pi get -o csv",
            "kubectl-pi",
            "kubectl-pi extend web-1 --all",
            "kubectl-pi extend web-1 -l app=web",
            "kubectl-pi extend -l app=web --all",
            "kubectl-pi extend web-1 --dry-run=maybe",
            "kubectl-pi hold web-1",
            "kubectl-pi hold --reason why",
            "kubectl-pi evict web-1",
            "kubectl-pi evict --reason why",
            "kubectl-pi evict web-1 --all --reason why",
            "kubectl-pi release",
            "kubectl-pi describe",
            "kubectl-pi describe web-1 --all",
            "kubectl-pi hold --reason why --all -l app=web",
            "kubectl-pi release web-1 -l app=web",
            "kubectl-pi get --as-group dev",
            "kubectl-pi get --as-uid 1",
            "kubectl-pi get web-1 --field-selector spec.nodeName=a",
            "kubectl-pi get --sort-by={.items[}",
            "kubectl-pi get -o go-template={{.kind}}",
            "kubectl-pi get -o custom-columns=NAME",
            "kubectl-pi node",
            "kubectl-pi node node-1 --web -o json",
            "kubectl-pi node node-1 --port 8080",
            "kubectl-pi node node-1 --no-open",
            "kubectl-pi report --by node",
            "kubectl-pi report --suggest -o json",
            "kubectl-pi report --since 1w",
            "kubectl-pi explain",
            "kubectl-pi profile",
            "kubectl-pi profile adopt deployment.web --by-at-least 9",
            "kubectl-pi explain web-1 web-2",
            "kubectl-pi explain web-1 --kind proxy",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
