//! The flags that name the cluster and the namespace, and the user: those of kubectl.

use std::{path::PathBuf, time::Duration};

use clap::Args;
use curfew_core::duration;

/// Which cluster and which namespace, and as whom.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "Global options")]
pub(crate) struct Target {
    /// The namespace; by default that of the context
    #[arg(short, long, global = true, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// The context of the kubeconfig; by default the current one
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) context: Option<String>,
    /// The cluster of the kubeconfig; by default that of the context
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) cluster: Option<String>,
    /// The user of the kubeconfig; by default that of the context
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) user: Option<String>,
    /// The kubeconfig; by default the files in $KUBECONFIG, or ~/.kube/config
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// The address of the API server
    #[arg(short, long, global = true, value_name = "URL")]
    pub(crate) server: Option<String>,
    /// The bearer token for the API server
    #[arg(long, global = true, value_name = "TOKEN")]
    pub(crate) token: Option<String>,
    /// The user name for basic authentication
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) username: Option<String>,
    /// The password for basic authentication
    #[arg(long, global = true, value_name = "PASSWORD")]
    pub(crate) password: Option<String>,
    /// The client certificate for TLS
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_certificate: Option<PathBuf>,
    /// The key of the client certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) client_key: Option<PathBuf>,
    /// The certificate authority of the API server's certificate
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) certificate_authority: Option<PathBuf>,
    /// Do not check the API server's certificate, which makes the connection insecure
    #[arg(
        long,
        global = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) insecure_skip_tls_verify: Option<bool>,
    /// The server name that the API server's certificate must contain
    #[arg(long, global = true, value_name = "NAME")]
    pub(crate) tls_server_name: Option<String>,
    /// The proxy to reach the API server through, such as http://proxy.example.com:3128
    #[arg(long, global = true, value_name = "URL")]
    pub(crate) proxy_url: Option<String>,
    /// The timeout for one request, such as 30s or 1m; 0 means no limit
    #[arg(long, global = true, value_name = "DURATION", value_parser = request_timeout)]
    pub(crate) request_timeout: Option<Duration>,
    /// The user to impersonate
    #[arg(long = "as", global = true, value_name = "USER")]
    pub(crate) impersonate: Option<String>,
    /// A group to impersonate; may be given more than once
    #[arg(
        long = "as-group",
        global = true,
        value_name = "GROUP",
        requires = "impersonate"
    )]
    pub(crate) groups: Vec<String>,
    /// The UID to impersonate
    #[arg(
        long = "as-uid",
        global = true,
        value_name = "UID",
        requires = "impersonate"
    )]
    pub(crate) impersonate_uid: Option<String>,
    /// Extra fields of the user to impersonate, such as example.com/team=blue; may be given more than once
    #[arg(
        long = "as-user-extra",
        global = true,
        value_name = "KEY=VALUE",
        requires = "impersonate",
        value_parser = extra
    )]
    pub(crate) extra: Vec<(String, String)>,
    /// The log level; from 6 on, each request is printed
    #[arg(
        short = 'v',
        long = "v",
        global = true,
        value_name = "LEVEL",
        default_value_t = 0
    )]
    pub(crate) verbosity: u8,
    /// Has no effect, because nothing is cached
    #[arg(long, global = true, hide = true, value_name = "FOLDER")]
    pub(crate) cache_dir: Option<PathBuf>,
    /// Has no effect, because log lines are written immediately
    #[arg(long, global = true, hide = true, value_name = "DURATION")]
    pub(crate) log_flush_frequency: Option<String>,
    /// Has no effect, because responses are never compressed
    #[arg(
        long,
        global = true,
        hide = true,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        value_name = "BOOL"
    )]
    pub(crate) disable_compression: Option<bool>,
}

/// As kubectl reads it: a number alone is of seconds, and 0 is no limit.
fn request_timeout(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(seconds) => Ok(Duration::from_secs(seconds)),
        Err(_) => duration::parse(text).map_err(|error| error.to_string()),
    }
}

fn extra(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("must be KEY=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_read_as_kubectl_does() {
        for (text, limit) in [("0", 0), ("5", 5), ("30s", 30), ("1m", 60)] {
            assert_eq!(
                request_timeout(text),
                Ok(Duration::from_secs(limit)),
                "{text}"
            );
        }
        assert!(request_timeout("soon").is_err() && request_timeout("-1s").is_err());
    }

    #[test]
    fn more_of_a_user_has_key_and_value() {
        assert_eq!(extra("a/b=c=d"), Ok(("a/b".into(), "c=d".into())));
        assert!(extra("a").is_err() && extra("=a").is_err());
    }
}
