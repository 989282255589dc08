//! The command line.

use std::{path::PathBuf, process::ExitCode};

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::get;

/// Pods that somebody interacted with: who, how, and when they will be evicted.
#[derive(Debug, Parser)]
#[command(
    name = "kubectl-pi",
    bin_name = "kubectl pi",
    version,
    args_override_self = true
)]
pub(crate) struct Cli {
    #[command(flatten)]
    target: Target,
    #[command(subcommand)]
    verb: Verb,
}

/// Which cluster and which namespace.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The namespace; without it the one of the context
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig; without it the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The kubeconfig; without it the files of $KUBECONFIG, or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// List the pods that somebody interacted with, the next to be evicted first
    Get(Get),
}

/// Which pods, and how they are shown.
#[derive(Debug, Args)]
pub(crate) struct Get {
    /// Only these pods
    #[arg(value_name = "POD", conflicts_with_all = ["all_namespaces", "selector"])]
    pub(crate) pods: Vec<String>,
    /// The pods of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
    /// Only pods whose labels match, as in `app=web,tier!=cache`
    #[arg(short = 'l', long, value_name = "SELECTOR")]
    pub(crate) selector: Option<String>,
    /// What is printed: a table, a wider one, the pods themselves, or their names
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(crate) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

impl Cli {
    pub(crate) async fn run(self) -> anyhow::Result<ExitCode> {
        match self.verb {
            Verb::Get(args) => get::run(&self.target, args).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

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
        ] {
            assert!(parse(line).is_ok(), "{line}");
        }
    }

    #[test]
    fn a_name_excludes_what_would_find_others() {
        for line in [
            "kubectl-pi get web-1 -A",
            "kubectl-pi get web-1 -l app=web",
            "kubectl-pi get -o csv",
            "kubectl-pi",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
