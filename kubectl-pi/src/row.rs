//! What the marks on one pod say, as a line of the table.

use curfew_core::{duration, metadata};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

/// How far it has come with a pod, as far as its metadata tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// The interaction was written down and starts no timer.
    Recorded,
    /// The deadline is ahead.
    Scheduled,
    /// The deadline has passed.
    Due,
    /// The pod is being shut down.
    Terminating,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            State::Recorded => "recorded",
            State::Scheduled => "scheduled",
            State::Due => "due",
            State::Terminating => "terminating",
        }
    }
}

/// One pod. What it does not say is `None`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) namespace: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) interactor: Option<String>,
    pub(crate) ttl: Option<String>,
    pub(crate) extension: Option<String>,
    pub(crate) extension_requester: Option<String>,
    pub(crate) eviction_time: Option<String>,
    pub(crate) node: Option<String>,
    pub(crate) interaction: Option<String>,
    pub(crate) command: Option<String>,
    pub(crate) state: State,
}

impl Row {
    /// The row of a pod at the time `now`. The node is not among the metadata.
    pub(crate) fn new(pod: &ObjectMeta, node: Option<&str>, now: Timestamp) -> Self {
        let get = |key| annotation(pod, key).map(str::to_owned);
        let deadline = deadline(pod);
        let state = match deadline {
            _ if pod.deletion_timestamp.is_some() => State::Terminating,
            None => State::Recorded,
            Some(deadline) if deadline > now => State::Scheduled,
            Some(_) => State::Due,
        };
        Self {
            namespace: pod.namespace.clone(),
            name: pod.name.clone(),
            interactor: get(metadata::INTERACTOR),
            ttl: get(metadata::TTL),
            extension: get(metadata::EXTENSION),
            extension_requester: get(metadata::EXTENSION_REQUESTER),
            eviction_time: match deadline {
                Some(deadline) => Some(format!("{deadline} ({})", relative(deadline, now))),
                // Not a time; whoever wrote it should see that.
                None => get(metadata::EVICTION_TIME),
            },
            node: node.map(str::to_owned),
            interaction: get(metadata::INTERACTION),
            command: get(metadata::COMMAND),
            state,
        }
    }

    pub(crate) fn state(&self) -> &'static str {
        self.state.as_str()
    }
}

/// Sorts pods by their deadline; those without one come last, and names decide between equals.
pub(crate) fn order(pod: &ObjectMeta) -> impl Ord + use<> {
    let deadline = deadline(pod);
    (
        deadline.is_none(),
        deadline,
        pod.namespace.clone(),
        pod.name.clone(),
    )
}

fn annotation<'a>(pod: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    pod.annotations.as_ref()?.get(key).map(String::as_str)
}

fn deadline(pod: &ObjectMeta) -> Option<Timestamp> {
    annotation(pod, metadata::EVICTION_TIME)?.parse().ok()
}

/// `in 9m59s`, `3s ago` or `now`.
fn relative(time: Timestamp, now: Timestamp) -> String {
    let ahead = time.duration_since(now);
    let length = duration::format(ahead.unsigned_abs());
    match ahead.as_secs() {
        0 => "now".to_owned(),
        1.. => format!("in {length}"),
        _ => format!("{length} ago"),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    pub(crate) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(crate) fn pod(name: &str, annotations: &[(&str, &str)]) -> ObjectMeta {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        ObjectMeta {
            namespace: Some("shop".into()),
            name: Some(name.into()),
            annotations: Some(annotations.iter().map(owned).collect()),
            ..ObjectMeta::default()
        }
    }

    fn row_at(now: &str) -> Row {
        let evicted = [(metadata::EVICTION_TIME, "2026-03-01T12:10:00Z")];
        Row::new(&pod("web-1", &evicted), None, at(now))
    }

    #[test]
    fn a_deadline_is_told_absolutely_and_relatively() {
        for (now, text, state) in [
            ("2026-03-01T12:00:00.4Z", "in 9m59s", State::Scheduled),
            ("2026-03-01T12:09:59.4Z", "now", State::Scheduled),
            ("2026-03-01T12:10:00Z", "now", State::Due),
            ("2026-03-01T13:40:03Z", "1h30m3s ago", State::Due),
        ] {
            let row = row_at(now);
            let shown = format!("2026-03-01T12:10:00Z ({text})");
            assert_eq!(row.eviction_time, Some(shown), "{now}");
            assert_eq!(row.state, state, "{now}");
        }
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        let row = Row::new(&pod("web-1", &[]), None, at("2026-03-01T12:00:00Z"));
        assert_eq!(row.state, State::Recorded);
        for value in [row.interactor, row.ttl, row.eviction_time, row.command] {
            assert_eq!(value, None);
        }
    }

    #[test]
    fn a_time_that_is_none_is_shown_as_it_stands() {
        let marks = [(metadata::EVICTION_TIME, "tomorrow")];
        let row = Row::new(&pod("web-1", &marks), None, at("2026-03-01T12:00:00Z"));
        assert_eq!(row.eviction_time.as_deref(), Some("tomorrow"));
        assert_eq!(row.state, State::Recorded);
    }

    #[test]
    fn a_pod_that_is_shut_down_is_terminating() {
        let now = at("2026-03-01T12:00:00Z");
        let mut pod = pod(
            "web-1",
            &[(metadata::EVICTION_TIME, "2026-03-01T12:10:00Z")],
        );
        pod.deletion_timestamp = Some(Time(now));
        assert_eq!(Row::new(&pod, None, now).state, State::Terminating);
    }

    #[test]
    fn the_next_to_go_comes_first() {
        let deadline = |name, time| pod(name, &[(metadata::EVICTION_TIME, time)]);
        let mut pods = [
            pod("b-none", &[]),
            deadline("c-late", "2026-03-01T12:30:00Z"),
            deadline("d-early", "2026-03-01T12:10:00Z"),
            pod("a-none", &[]),
            deadline("b-early", "2026-03-01T12:10:00Z"),
        ];
        pods.sort_by_cached_key(order);
        let names = pods.map(|pod| pod.name.unwrap_or_default());
        assert_eq!(names, ["b-early", "d-early", "c-late", "a-none", "b-none"]);
    }
}
