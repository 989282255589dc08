//! The flags of the process, each with an environment variable.
//!
//! Owns the names of the flags and checks their values. The modules that get the values define what they mean.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Parser, ValueEnum};
use curfew_core::{duration, namespaces};
use curfew_runtime::{
    default_terms::{DefaultTermsArgs, whole_seconds},
    logging::LogArgs,
};

use crate::{identity::Lifetimes, names::TIMEOUT};

/// Curfew's admission webhook: admits exec, attach, port-forward and debug after they are recorded
#[derive(Debug, Clone, Parser)]
#[command(name = "curfew-webhook", version)]
pub struct Args {
    /// The address for the API server's admission requests (TLS)
    #[arg(long, env = "CURFEW_LISTEN", default_value = "[::]:8443")]
    pub listen: SocketAddr,
    /// The address of /metrics, /healthz and /readyz (plain HTTP)
    #[arg(long, env = "CURFEW_METRICS_LISTEN", default_value = "[::]:9090")]
    pub metrics_listen: SocketAddr,
    /// The namespace that Curfew runs in. No flag: the admission policies name the accounts in it.
    #[arg(skip = namespaces::OWN)]
    pub namespace: String,
    /// What holds where no policy says otherwise
    #[command(flatten)]
    pub defaults: DefaultTermsArgs,
    /// What to do with an interaction that cannot be recorded, or that arrives before this replica has read the
    /// policies
    #[arg(long, env = "CURFEW_UNRECORDED", value_enum, default_value = "deny")]
    pub unrecorded: Unrecorded,
    /// Have the API server ask the webhook before an agent evicts a pod as its own account, as agents do before
    /// Kubernetes 1.36
    #[arg(long, env = "CURFEW_EVICTION_GUARD")]
    pub eviction_guard: bool,
    /// Have the API server ask the webhook about connections of clients that may only `get` pods/exec, pods/attach or
    /// pods/portforward. API servers before Kubernetes 1.35 let them connect, and always ask. Newer ones do so only
    /// if their feature gate AuthorizePodWebsocketUpgradeCreatePermission is off: set this flag then
    #[arg(long, env = "CURFEW_CONNECT_BY_GET")]
    pub connect_by_get: bool,
    /// The timeout for reading the pod from the API server
    #[arg(long, env = "CURFEW_POD_TIMEOUT", default_value = "1500ms", value_parser = duration::parse)]
    pub pod_timeout: Duration,
    /// The timeout for the agent of the node, including the connection
    #[arg(long, env = "CURFEW_AGENT_TIMEOUT", default_value = "1s", value_parser = duration::parse)]
    pub agent_timeout: Duration,
    /// The timeout for recording in the pod's metadata, if the agent does not answer
    #[arg(long, env = "CURFEW_FALLBACK_TIMEOUT", default_value = "1500ms", value_parser = duration::parse)]
    pub fallback_timeout: Duration,
    /// How long requests are still served after SIGTERM, until API servers no longer send any
    #[arg(long, env = "CURFEW_DRAIN", default_value = "10s", value_parser = duration::parse)]
    pub drain: Duration,
    /// The lifetime of certificates, including those of the agents; each is renewed after two thirds of it
    #[arg(long, env = "CURFEW_CERTIFICATE_LIFETIME", default_value = "24h", value_parser = lasting)]
    pub certificate_lifetime: Duration,
    /// The lifetime of the CA; it is replaced after two thirds of it
    #[arg(long, env = "CURFEW_CA_LIFETIME", default_value = "8760h", value_parser = lasting)]
    pub ca_lifetime: Duration,
    /// How long a new CA is trusted everywhere before it issues certificates
    #[arg(long, env = "CURFEW_CA_OVERLAP", default_value = "5m", value_parser = whole_seconds)]
    pub ca_overlap: Duration,
    /// The lifetime of the secret path that API servers call
    #[arg(long, env = "CURFEW_PATH_LIFETIME", default_value = "12h", value_parser = lasting)]
    pub path_lifetime: Duration,
    /// The CA (PEM) of the API servers' client certificates, if they are configured to send them; requests without
    /// such a certificate are then refused
    #[arg(long, env = "CURFEW_CLIENT_CA", value_name = "FILE")]
    pub client_ca: Option<PathBuf>,
    /// The log
    #[command(flatten)]
    pub log: LogArgs,
}

/// What to do with an interaction that cannot be recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Unrecorded {
    /// Deny it
    Deny,
    /// Admit it and count it
    Admit,
}

/// How long each step of an admission may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budgets {
    /// Reading the pod.
    pub pod: Duration,
    /// Telling the agent.
    pub agent: Duration,
    /// Recording in the pod's metadata.
    pub fallback: Duration,
}

/// The steps of an admission may together take longer than the API server waits for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--pod-timeout, --agent-timeout and --fallback-timeout add up to {sum:?}; the sum must be less than \
     {TIMEOUT:?}, which is how long the API server waits for an answer"
)]
pub struct OverBudget {
    sum: Duration,
}

/// The CA would end before it could be exchanged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "--ca-lifetime is {given:?}; with this --certificate-lifetime and --ca-overlap it must be at least \
     {least:?}, so that the CA can be replaced before it expires"
)]
pub struct ShortLived {
    least: Duration,
    given: Duration,
}

impl Args {
    /// The budgets of an admission's steps.
    ///
    /// # Errors
    /// When they are too long together: a slow agent would then not lead to the fallback but to a
    /// denial by the API server.
    pub fn budgets(&self) -> Result<Budgets, OverBudget> {
        let budgets = Budgets {
            pod: self.pod_timeout,
            agent: self.agent_timeout,
            fallback: self.fallback_timeout,
        };
        let sum = budgets
            .pod
            .saturating_add(budgets.agent)
            .saturating_add(budgets.fallback);
        if sum < TIMEOUT {
            Ok(budgets)
        } else {
            Err(OverBudget { sum })
        }
    }

    /// How long certificates and CA last.
    ///
    /// # Errors
    /// When the CA would end while certificates of it are in use.
    pub fn lifetimes(&self) -> Result<Lifetimes, ShortLived> {
        let lifetimes = Lifetimes {
            certificate: self.certificate_lifetime,
            authority: self.ca_lifetime,
            overlap: self.ca_overlap,
            path: self.path_lifetime,
        };
        // The last third of its life is what the exchange has: it is trusted for as long as it takes until
        // the next one issues, and then until its last certificate has ended.
        let exchange = (lifetimes.overlap * 2).saturating_add(lifetimes.certificate);
        match exchange <= lifetimes.authority / 3 {
            true => Ok(lifetimes),
            false => Err(ShortLived {
                least: exchange * 3,
                given: lifetimes.authority,
            }),
        }
    }
}

/// What is shorter would be renewed all the time.
fn lasting(text: &str) -> Result<Duration, String> {
    const LEAST: Duration = Duration::from_secs(10);
    match whole_seconds(text)? {
        length if length < LEAST => Err(format!("{text:?} is shorter than {LEAST:?}")),
        length => Ok(length),
    }
}

#[cfg(test)]
mod tests {
    use curfew_core::Enforcement;

    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from([&["curfew-webhook"], flags].concat())
    }

    #[test]
    fn the_defaults_fit_together() {
        let args = parse(&[]).unwrap();
        assert_eq!(args.namespace, "curfew");
        parse(&["--namespace=elsewhere"]).unwrap_err();
        assert_eq!(args.defaults.ttl, Duration::from_secs(600));
        assert_eq!(args.defaults.max_extension, Duration::from_secs(8 * 3600));
        assert_eq!(args.unrecorded, Unrecorded::Deny);
        assert!(!args.eviction_guard && parse(&["--eviction-guard"]).unwrap().eviction_guard);
        assert_eq!(args.defaults.terms().enforcement, Enforcement::Enforce);
        let dry = parse(&["--default-enforcement=DryRun"]).unwrap();
        assert_eq!(dry.defaults.terms().enforcement, Enforcement::DryRun);
        parse(&["--default-enforcement=dryrun"]).unwrap_err();
        assert_eq!(args.budgets().unwrap().agent, Duration::from_secs(1));
    }

    #[test]
    fn budgets_beyond_the_api_servers_patience_are_refused() {
        let args = parse(&["--agent-timeout=2s"]).unwrap();
        let error = args.budgets().unwrap_err().to_string();
        assert!(error.contains("add up to 5s"), "{error}");
    }

    #[test]
    fn a_ca_outlives_what_it_issues() {
        let lifetimes = parse(&[]).unwrap().lifetimes().unwrap();
        assert_eq!(lifetimes.certificate, Duration::from_secs(24 * 3600));
        let short = |ca: &str| parse(&[ca, "--certificate-lifetime=10s", "--ca-overlap=1s"]);
        assert!(short("--ca-lifetime=36s").unwrap().lifetimes().is_ok());
        let error = short("--ca-lifetime=35s").unwrap().lifetimes().unwrap_err();
        let error = error.to_string();
        assert!(
            error.contains("--ca-lifetime is 35s") && error.contains("at least 36s"),
            "{error}"
        );
    }

    #[test]
    fn what_is_wrong_with_a_flag_is_said() {
        for (flag, problem) in [
            ("--default-ttl=1d", "its unit is none of"),
            ("--default-ttl=1500ms", "fraction of a second"),
            ("--certificate-lifetime=9s", "shorter than 10s"),
            ("--unrecorded=maybe", "possible values"),
        ] {
            let error = parse(&[flag]).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
