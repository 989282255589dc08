//! The alert rules.

use std::collections::BTreeMap;

use anyhow::{Context, Result, anyhow};
use promql_parser::util::{display_duration, parse_duration};
use serde::{Deserialize, Serialize};

use crate::promql;

/// Where they are kept.
pub const FILE: &str = "dashboards/rules/curfew.yaml";
/// Where their unit tests are.
pub const TESTS: &str = "dashboards/rules/tests";
/// The same rules for the Prometheus operator.
pub const PROMETHEUS_RULE: &str = "manifests/components/monitoring/rules.yaml";
/// Where the runbooks are.
pub const RUNBOOKS: &str = "docs/runbooks";

/// A file of rules.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Rules {
    /// Its groups.
    pub groups: Vec<Group>,
}

/// Rules that are evaluated together.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its rules.
    pub rules: Vec<Alert>,
}

/// An alert.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Alert {
    /// Its name, which others may have too, for another severity.
    pub alert: String,
    /// When it is pending.
    pub expr: String,
    /// For how long it is pending before it fires.
    #[serde(rename = "for", default, skip_serializing_if = "Option::is_none")]
    pub pending: Option<String>,
    /// What it is labelled with.
    pub labels: BTreeMap<String, String>,
    /// What people are told.
    pub annotations: BTreeMap<String, String>,
}

impl Rules {
    /// Those that Curfew ships.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn shipped() -> Result<Self> {
        serde_saphyr::from_str(&crate::read(FILE)?).context(FILE)
    }

    /// Those of the PrometheusRule.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn of_the_operator() -> Result<Self> {
        #[derive(Deserialize)]
        struct PrometheusRule {
            spec: Rules,
        }
        let rule: PrometheusRule =
            serde_saphyr::from_str(&crate::read(PROMETHEUS_RULE)?).context(PROMETHEUS_RULE)?;
        Ok(rule.spec)
    }

    /// All of them.
    pub fn alerts(&self) -> impl Iterator<Item = &Alert> {
        self.groups.iter().flat_map(|group| &group.rules)
    }

    /// The same with all lengths of time shorter by one factor: what takes minutes is seen in seconds. The
    /// numbers of things that happen, and what the cluster itself needs for something, stay what they are.
    ///
    /// # Errors
    /// When one cannot be parsed.
    pub fn shortened(&self, factor: u32) -> Result<Self> {
        let mut rules = self.clone();
        for alert in rules.groups.iter_mut().flat_map(|group| &mut group.rules) {
            alert.expr = promql::shortened(&alert.expr, factor)?;
            if let Some(pending) = &mut alert.pending {
                let long =
                    parse_duration(pending).map_err(|error| anyhow!("{pending}: {error}"))?;
                *pending = display_duration(&(long / factor));
            }
        }
        Ok(rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_minute_becomes_a_second() {
        let rules = Rules::shipped().unwrap();
        let short = rules.shortened(60).unwrap();
        let both = rules.alerts().zip(short.alerts());
        let (long, short) = both
            .into_iter()
            .find(|(alert, _)| alert.alert == "CurfewEvictionBlocked")
            .unwrap();
        assert_eq!(
            (long.pending.as_deref(), short.pending.as_deref()),
            (Some("1h"), Some("1m"))
        );
        assert_eq!(long.labels, short.labels);
    }
}
