//! What the API server does meanwhile: how long it keeps the processors busy, and what Curfew asks it.

use std::{collections::BTreeMap, fmt};

use anyhow::{Context, Result, ensure};
use curfew_e2e::{TestCluster, agents::ACCOUNT, audit, disrupt::API_SERVER, footprint::Process};

/// The account of the webhook, as the API server knows it.
pub(crate) const WEBHOOK_ACCOUNT: &str = "system:serviceaccount:curfew:curfew-webhook";

/// The process of the API server.
pub(crate) fn process(cluster: &TestCluster) -> Result<Process> {
    let pid = cluster.machine.pid(API_SERVER);
    let pid = pid.context("the API server does not run")?;
    Ok(Process::with_id(pid.try_into()?))
}

/// The time of the processors that a process takes between two moments.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    process: Process,
    ms: u64,
}

impl Clock {
    /// From now on.
    pub(crate) fn start(process: Process) -> Result<Self> {
        let ms = process.busy_ms()?;
        Ok(Self { process, ms })
    }

    /// How many milliseconds it took since.
    pub(crate) fn ms(self) -> Result<u64> {
        let now = self.process.busy_ms()?;
        now.checked_sub(self.ms)
            .context("the process is another one")
    }
}

/// What Curfew's accounts asked the API server, by verb and resource. Watches, which go on, are counted apart, as are the
/// dry runs by which the webhook checks that it is asked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Requests that are answered and over.
    pub(crate) requests: BTreeMap<String, usize>,
    /// Watches that were opened, and those that ended.
    pub(crate) watches: usize,
    /// The webhook's checks of itself.
    pub(crate) self_checks: usize,
    /// Requests that were refused for having been too many.
    pub(crate) throttled: usize,
}

impl Asked {
    /// Since this place in the audit log, about everything or about what is in a namespace.
    pub(crate) fn since(mark: &audit::Mark, namespace: Option<&str>) -> Result<Self> {
        let mut asked = Self::default();
        for (who, account) in [("agent", ACCOUNT), ("webhook", WEBHOOK_ACCOUNT)] {
            for request in mark.since(account)? {
                let about = request.object_ref.as_ref();
                let about = about.map_or("", |about| about.namespace.as_str());
                if namespace.is_none_or(|namespace| namespace == about) {
                    asked.add(who, &request);
                }
            }
        }
        Ok(asked)
    }

    fn add(&mut self, who: &str, request: &audit::Request) {
        if request.verb == "watch" {
            self.watches += 1;
            return;
        }
        if request.response_status.code == 429 && !request.uri.contains("/eviction") {
            self.throttled += 1;
        }
        let about = request.object_ref.as_ref();
        let resource = about.map_or("", |about| about.resource.as_str());
        let part = about.map_or("", |about| about.subresource.as_str());
        if resource == "configmaps" && request.uri.contains("dryRun=All") {
            self.self_checks += 1;
            return;
        }
        let slash = if part.is_empty() { "" } else { "/" };
        let what = format!("{who} {} {resource}{slash}{part}", request.verb);
        *self.requests.entry(what).or_default() += 1;
    }

    /// How many requests there were, without watches and checks.
    pub(crate) fn count(&self) -> usize {
        self.requests.values().sum()
    }

    /// How many there were for each of so many interactions.
    pub(crate) fn per(&self, interactions: usize) -> Result<f64> {
        ensure!(interactions > 0, "there were no interactions");
        Ok(self.count() as f64 / interactions as f64)
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let requests = self.requests.iter();
        let all: Vec<_> = requests
            .map(|(what, count)| format!("{count} {what}"))
            .collect();
        match all.is_empty() {
            true => write!(f, "none"),
            false => write!(f, "{}", all.join(", ")),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn requests_are_counted_by_what_they_are_about() {
        let request = |verb: &str, resource: &str, subresource: &str, code: u16| {
            serde_json::from_value(json!({
                "verb": verb, "requestURI": format!("/api/v1/{resource}?dryRun=All"), "user": {"username": ACCOUNT},
                "objectRef": {"resource": resource, "subresource": subresource},
                "responseStatus": {"code": code},
            }))
            .unwrap()
        };
        let mut asked = Asked::default();
        assert_eq!(asked.to_string(), "none");
        assert!(asked.per(0).is_err());
        for (verb, subresource, code) in [
            ("watch", "", 200),
            ("patch", "", 200),
            ("patch", "", 429),
            ("create", "eviction", 201),
        ] {
            asked.add("agent", &request(verb, "pods", subresource, code));
        }
        asked.add("webhook", &request("create", "configmaps", "", 403));
        assert_eq!((asked.watches, asked.throttled, asked.count()), (1, 1, 3));
        assert_eq!(asked.self_checks, 1);
        assert_eq!(asked.per(2).unwrap(), 1.5);
        assert_eq!(
            asked.to_string(),
            "1 agent create pods/eviction, 2 agent patch pods"
        );
    }
}
