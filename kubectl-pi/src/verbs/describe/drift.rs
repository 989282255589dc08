//! What was found in a pod. Its metadata have one line of it; the agent of its node has all that it kept.

use curfew_core::{Drift, Verdict, duration::relative, metadata};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;

use crate::{
    cluster::agent,
    output::visible,
    print::{page::Page, row::annotation},
};

/// What the agent of the node knows beyond the summary on the pod, or why that is not known. None where there is
/// nothing beyond it.
pub(super) async fn details(
    client: &Client,
    pod: &ObjectMeta,
    node: Option<&str>,
) -> Option<Result<Drift, String>> {
    let summary = annotation(pod, metadata::DRIFT)?;
    if Verdict::of_summary(summary) == Some(Verdict::Unchanged) {
        return None;
    }
    let node = node?;
    let records = match agent::records(client, node).await {
        Ok(records) => records,
        Err(error) => return Some(Err(format!("{error:#}"))),
    };
    let own = records
        .into_iter()
        .find(|record| Some(record.pod.uid.as_str()) == pod.uid.as_deref());
    let drift = own.and_then(|record| record.drift);
    Some(match drift {
        Some(drift) => Ok(*drift),
        None => Err(format!("the agent of {node} has no details")),
    })
}

/// The line, and when it was found out.
pub(super) fn line(
    page: &mut Page,
    pod: &ObjectMeta,
    details: Option<&Result<Drift, String>>,
    now: Timestamp,
) {
    let told = match details {
        Some(Ok(drift)) => Some(format!(
            "{}, looked at {} ({})",
            drift.summary(),
            drift.time,
            relative(drift.time, now)
        )),
        _ => annotation(pod, metadata::DRIFT).map(str::to_owned),
    };
    page.maybe("Drift", told.as_deref());
}

/// What was found, and what could not be seen.
pub(super) fn sections(page: &mut Page, details: Option<&Result<Drift, String>>) {
    let drift = match details {
        None => return,
        Some(Err(why)) => return page.section("Findings", Err(&format!("cannot be read: {why}"))),
        Some(Ok(drift)) => drift,
    };
    let found = [drift.added, drift.changed, drift.deleted, drift.running].map(u64::from);
    let kept = drift.findings.len();
    let others = found
        .iter()
        .sum::<u64>()
        .saturating_sub(u64::try_from(kept).unwrap_or(u64::MAX));
    let mut findings = drift.findings.clone();
    if others > 0 && kept > 0 {
        findings.push(format!("and {others} more"));
    }
    for (title, texts) in [("Findings", &findings), ("Not Seen", &drift.unseen)] {
        if !texts.is_empty() {
            let lines = texts.iter().map(|text| format!("{}\n", visible(text)));
            page.section(title, Ok(&lines.collect::<String>()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::row::tests::{at, pod};

    fn told(summary: &str, details: Option<Result<Drift, String>>) -> String {
        let pod = pod("web-1", &[(metadata::DRIFT, summary)]);
        let mut page = Page::default();
        let now = at("2026-03-01T12:00:03Z");
        line(&mut page, &pod, details.as_ref(), now);
        sections(&mut page, details.as_ref());
        page.0
    }

    #[test]
    fn the_summary_on_the_pod_is_told_where_the_agent_is_not_asked_or_does_not_answer() {
        assert_eq!(told("Unchanged", None), "Drift:              Unchanged\n");
        assert_eq!(
            told("Changed (1 added)", Some(Err("no agent".to_owned()))),
            "Drift:              Changed (1 added)\n\nFindings:  cannot be read: no agent\n"
        );
        let mut page = Page::default();
        line(
            &mut page,
            &pod("web-1", &[]),
            None,
            at("2026-03-01T12:00:03Z"),
        );
        assert_eq!(page.0, "");
    }

    #[test]
    fn the_agent_tells_what_it_found_and_what_it_did_not_see() {
        let drift = Drift {
            added: 12,
            running: 1,
            findings: vec![
                "added /tmp/nc (executable)".to_owned(),
                "running nc\u{1b}[2J".to_owned(),
            ],
            unseen: vec!["the layer has more than 200,000 entries".to_owned()],
            ..Drift::new(at("2026-03-01T12:00:00Z"))
        };
        let drift = Drift {
            verdict: Verdict::Changed,
            ..drift
        };
        assert_eq!(
            told("Changed (1 added)", Some(Ok(drift))),
            "\
Drift:              Changed (12 added, 1 running), looked at 2026-03-01T12:00:00Z (3s ago)

Findings:
  added /tmp/nc (executable)
  running nc\\u{1b}[2J
  and 11 more

Not Seen:
  the layer has more than 200,000 entries
"
        );
    }
}
