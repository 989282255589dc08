//! The command line of `kubectl pi profile`.

use clap::{Args, Subcommand};
use curfew_core::Kind;

use super::{DryRunArg, kinds};

/// What is done with profiles.
#[derive(Debug, Args)]
pub(crate) struct Profile {
    #[command(subcommand)]
    pub(crate) verb: ProfileVerb,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ProfileVerb {
    /// List the profiles: stage, samples, irregular interactions
    List(ListProfiles),
    /// Show what was learned, the newest first: when, how often and by how many; and what people allowed
    Show(OneProfile),
    /// Show what an interaction would be, usual or irregular, and why
    Explain(ExplainProfile),
    /// Show what was learned and is not allowed, and what is allowed and was not learned
    Diff(OneProfile),
    /// Allow what was learned: it is written to the spec, where it stays
    Adopt(Adopt),
    /// Forget what was learned; what people allowed stays
    Reset(Reset),
}

/// Which profiles are listed.
#[derive(Debug, Args)]
pub(crate) struct ListProfiles {
    /// The profiles of all namespaces
    #[arg(short = 'A', long)]
    pub(crate) all_namespaces: bool,
}

/// Which profile is meant.
#[derive(Debug, Args)]
pub(crate) struct OneProfile {
    /// The profile, such as deployment.web or deployment/web
    #[arg(value_name = "PROFILE")]
    pub(crate) profile: String,
}

/// What is asked about: an interaction that has not happened.
#[derive(Debug, Args)]
pub(crate) struct ExplainProfile {
    #[command(flatten)]
    pub(crate) which: OneProfile,
    /// The user, as `kubectl auth whoami` shows it; you, if not set
    #[arg(long, value_name = "USER")]
    pub(crate) by: Option<String>,
    /// A group of that user; can be repeated
    #[arg(long = "group", value_name = "NAME")]
    pub(crate) groups: Vec<String>,
    /// The kind of the interaction
    #[arg(long, default_value = "exec", value_parser = kinds(Kind::ADMITTED_NAMES), value_name = "KIND")]
    pub(crate) kind: Kind,
    /// The container
    #[arg(short, long, value_name = "NAME")]
    pub(crate) container: Option<String>,
    /// With standard input, as in `kubectl exec -i`
    #[arg(short = 'i', long)]
    pub(crate) stdin: bool,
    /// On a terminal, as in `kubectl exec -t`
    #[arg(short = 't', long)]
    pub(crate) tty: bool,
    /// A program that the session leaves running; can be repeated
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) left_running: Vec<String>,
    /// A program that the session drops; can be repeated
    #[arg(long, value_name = "PROGRAM")]
    pub(crate) dropped: Vec<String>,
    /// The minimumDays of the policy
    #[arg(long, default_value_t = 14, value_name = "DAYS")]
    pub(crate) minimum_days: u32,
    /// The minimumSamples of the policy
    #[arg(long, default_value_t = 30, value_name = "NUMBER")]
    pub(crate) minimum_samples: u64,
    /// The command of an exec
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<String>,
}

/// What is allowed.
#[derive(Debug, Args)]
pub(crate) struct Adopt {
    #[command(flatten)]
    pub(crate) which: OneProfile,
    /// Only what was done by at least so many users; at most 8
    #[arg(long, default_value_t = 1, value_name = "NUMBER", value_parser = clap::value_parser!(u8).range(1..=8))]
    pub(crate) by_at_least: u8,
    /// Only what was seen at least so often
    #[arg(long, default_value_t = 1, value_name = "NUMBER")]
    pub(crate) seen_at_least: u64,
    #[command(flatten)]
    pub(crate) dry_run: DryRunArg,
}

/// What is forgotten.
#[derive(Debug, Args)]
pub(crate) struct Reset {
    #[command(flatten)]
    pub(crate) which: OneProfile,
    /// Do not ask
    #[arg(short, long)]
    pub(crate) yes: bool,
}
