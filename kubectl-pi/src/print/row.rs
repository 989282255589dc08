//! What the marks on one pod say, as a line of the table.

use std::time::Duration;

use curfew_core::{
    Exemption, PodId, Record, State,
    duration::{self, relative},
    metadata,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::cluster::{
    blocks::{Block, Blocks},
    detach::is_detached,
};

/// What the API server sent of a pod.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sighting<'a> {
    pub(crate) meta: &'a ObjectMeta,
    /// Not among the metadata.
    pub(crate) node: Option<&'a str>,
    /// Not among the metadata.
    pub(crate) phase: Option<&'a str>,
}

impl<'a> Sighting<'a> {
    /// One of which only the metadata were asked for.
    pub(crate) fn of(meta: &'a ObjectMeta) -> Self {
        Self {
            meta,
            node: None,
            phase: None,
        }
    }

    /// Whether the pod should be gone and is not on its way.
    pub(crate) fn is_overdue(&self, now: Timestamp) -> bool {
        self.unblocked_state(now) == State::Due
    }

    fn unblocked_state(&self, now: Timestamp) -> State {
        let eviction_time = eviction_time(self.meta);
        if self.meta.deletion_timestamp.is_some() {
            return State::Terminating;
        }
        if matches!(self.phase, Some("Succeeded" | "Failed")) {
            return State::Finished;
        }
        match eviction_time {
            None if exemption(self.meta) == Some(Exemption::Protected) => State::Protected,
            None => State::Recorded,
            Some(_) if annotation(self.meta, metadata::MIRROR).is_some() => State::Protected,
            Some(at) if at <= now => State::Due,
            Some(_) if annotation(self.meta, metadata::HOLD).is_some() => State::Held,
            Some(_) => State::Scheduled,
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
    pub(crate) node: Option<String>,
    pub(crate) interaction: Option<String>,
    pub(crate) command: Option<String>,
    pub(crate) state: State,
    /// What there is to say about the state.
    pub(crate) reason: Option<String>,
    eviction_time: Option<Timestamp>,
    /// What stands there when that is not a time.
    no_time: Option<String>,
    /// The budget that stands in the way, while one does.
    budget: Option<String>,
    /// When it was asked to end.
    terminating_since: Option<Timestamp>,
    /// Its owner and Services select it no longer.
    detached: bool,
    /// It is no more.
    gone: bool,
}

impl Row {
    /// The row of a pod at the time `now`, given what is known to block evictions.
    pub(crate) fn new(pod: Sighting<'_>, blocks: &Blocks, now: Timestamp) -> Self {
        let get = |key| annotation(pod.meta, key).map(str::to_owned);
        let eviction_time = eviction_time(pod.meta);
        let state = pod.unblocked_state(now);
        let block = match (state, eviction_time) {
            (State::Due, Some(at)) => blocks.of(pod.meta.uid.as_deref().unwrap_or_default(), at),
            _ => None,
        };
        let reason = match (&block, state) {
            (Some(block), _) => Some(block.message.clone()),
            (None, State::Held) => get(metadata::HOLD),
            (None, State::Recorded) => {
                exemption(pod.meta).map(|exemption| exemption.as_str().to_owned())
            }
            _ => None,
        };
        Self {
            namespace: pod.meta.namespace.clone(),
            name: pod.meta.name.clone(),
            interactor: get(metadata::INTERACTOR),
            ttl: get(metadata::TTL),
            extension: get(metadata::EXTENSION),
            extension_requester: get(metadata::EXTENSION_REQUESTER),
            node: pod.node.map(str::to_owned),
            interaction: get(metadata::INTERACTION),
            command: get(metadata::COMMAND),
            state: block.as_ref().map_or(state, |block| block.state),
            reason,
            eviction_time,
            no_time: match eviction_time {
                Some(_) => None,
                // Whoever wrote it should see that.
                None => get(metadata::EVICTION_TIME),
            },
            budget: block.and_then(|Block { budget, .. }| budget),
            terminating_since: terminating_since(pod.meta),
            detached: is_detached(pod.meta),
            gone: false,
        }
    }

    /// The same pod when it is no more.
    pub(crate) fn gone(self) -> Self {
        Self { gone: true, ..self }
    }

    /// When it is evicted, absolutely and relative to `now`, and what is out of the ordinary.
    pub(crate) fn eviction_time(&self, now: Timestamp) -> Option<String> {
        if self.gone {
            return Some("gone".to_owned());
        }
        let relative = self.eviction_time.map(|at| relative(at, now));
        let state = match (self.state, &self.budget) {
            // What the time itself says, or the absence of one.
            (State::Scheduled | State::Due | State::Recorded | State::Unseen, _) => None,
            (State::Blocked, Some(budget)) => Some(format!("blocked by PDB {budget}")),
            (State::Stuck, Some(budget)) => Some(format!("stuck, blocked by PDB {budget}")),
            (State::Terminating, _) => Some(self.terminating(now)),
            (other, _) => Some(other.as_str().to_owned()),
        };
        let detached = self.detached.then(|| "detached".to_owned());
        let remarks: Vec<_> = relative.into_iter().chain(state).chain(detached).collect();
        match self.eviction_time {
            Some(at) => Some(format!("{at} ({})", remarks.join(", "))),
            None if self.state == State::Terminating => Some(self.terminating(now)),
            None => self.no_time.clone(),
        }
    }

    /// That it was asked to end, and how long ago.
    fn terminating(&self, now: Timestamp) -> String {
        let since = self.terminating_since;
        let age = since.and_then(|since| Duration::try_from(now.duration_since(since)).ok());
        match age {
            Some(age) => format!("terminating for {}", duration::format(age)),
            None => "terminating".to_owned(),
        }
    }

    /// Whether the eviction is less than this many seconds ahead.
    pub(crate) fn is_within(&self, seconds: i64, now: Timestamp) -> bool {
        self.eviction_time
            .is_some_and(|at| at.duration_since(now).as_secs() < seconds)
    }
}

/// Sorts pods by their eviction time; those without one come last, and names decide between equals.
pub(crate) fn order(pod: &ObjectMeta) -> impl Ord + use<> {
    let time = eviction_time(pod);
    (
        time.is_none(),
        time,
        pod.namespace.clone(),
        pod.name.clone(),
    )
}

/// The value of an annotation.
pub(crate) fn annotation<'a>(pod: &'a ObjectMeta, key: &str) -> Option<&'a str> {
    pod.annotations.as_ref()?.get(key).map(String::as_str)
}

/// When the pod's metadata say that it is evicted.
pub(crate) fn eviction_time(pod: &ObjectMeta) -> Option<Timestamp> {
    annotation(pod, metadata::EVICTION_TIME)?.parse().ok()
}

/// When the pod was asked to end: what stands there is the end of its grace period.
fn terminating_since(pod: &ObjectMeta) -> Option<Timestamp> {
    let grace_ends = pod.deletion_timestamp.as_ref()?.0;
    let grace = pod.deletion_grace_period_seconds.unwrap_or_default();
    grace_ends
        .checked_sub(SignedDuration::from_secs(grace))
        .ok()
}

/// The record that the pod's metadata tell, where they can be read.
pub(crate) fn record(pod: &ObjectMeta) -> Option<Record> {
    let id = PodId {
        namespace: pod.namespace.clone()?,
        name: pod.name.clone()?,
        uid: pod.uid.clone()?,
    };
    let marks = metadata::read(&id, pod.annotations.as_ref()?).ok()?;
    Record::from_marks(id, marks)
}

fn exemption(pod: &ObjectMeta) -> Option<Exemption> {
    record(pod)?.exemption()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use curfew_core::{Interaction, Kind, record::RecordedInteraction, terms::DefaultTerms};
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

    pub(crate) fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    pub(crate) fn pod(name: &str, annotations: &[(&str, &str)]) -> ObjectMeta {
        let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
        ObjectMeta {
            namespace: Some("shop".into()),
            name: Some(name.into()),
            uid: Some(format!("uid-of-{name}")),
            annotations: Some(annotations.iter().map(owned).collect()),
            ..ObjectMeta::default()
        }
    }

    /// A pod with all marks of an interaction of this kind at noon, ten minutes to live and an hour
    /// of extension at the most.
    pub(crate) fn marked(name: &str, kind: Kind, exemption: Option<Exemption>) -> ObjectMeta {
        let mut pod = pod(name, &[]);
        let defaults = DefaultTerms {
            ttl: Duration::from_secs(600),
            max_extension: Duration::from_secs(3600),
            max_hold: Duration::from_secs(7200),
        };
        let mut terms = defaults.of(kind);
        if exemption.is_some() {
            terms = curfew_core::Terms {
                action: curfew_core::Action::Record,
                exemption,
                ..terms
            };
        }
        let known = RecordedInteraction {
            interaction: Interaction {
                time: at("2026-03-01T12:00:00Z"),
                kind,
                user: "alice".into(),
                container: Some("main".into()),
                command: curfew_core::Command::new(["sh"]),
                stdin: false,
                tty: false,
                request: "r-1".into(),
            },
            terms,
        };
        let id = PodId {
            namespace: "shop".into(),
            name: name.into(),
            uid: pod.uid.clone().unwrap(),
        };
        let marks = metadata::annotations(&Record::new(id, known), &[]);
        let marks = marks
            .into_iter()
            .map(|(key, value)| (key.to_owned(), value));
        pod.annotations.get_or_insert_default().extend(marks);
        pod
    }

    fn state_of(pod: Sighting<'_>, now: &str) -> State {
        Row::new(pod, &Blocks::default(), at(now)).state
    }

    const BEFORE: &str = "2026-03-01T12:09:59.4Z";
    const AFTER: &str = "2026-03-01T12:10:00Z";

    #[test]
    fn a_deadline_is_told_absolutely_and_relatively() {
        let pod = pod("web-1", &[(metadata::EVICTION_TIME, AFTER)]);
        for (now, text, state) in [
            ("2026-03-01T12:00:00.4Z", "in 9m59s", State::Scheduled),
            (BEFORE, "now", State::Scheduled),
            (AFTER, "now", State::Due),
            ("2026-03-01T13:40:03Z", "1h30m3s ago", State::Due),
        ] {
            let row = Row::new(Sighting::of(&pod), &Blocks::default(), at(now));
            let shown = format!("2026-03-01T12:10:00Z ({text})");
            assert_eq!(row.eviction_time(at(now)), Some(shown), "{now}");
            assert_eq!(row.state, state, "{now}");
        }
    }

    #[test]
    fn a_pod_that_is_terminating_says_for_how_long() {
        let mut pod = pod("web-1", &[(metadata::EVICTION_TIME, AFTER)]);
        // A year of grace, from half a minute after the eviction time.
        pod.deletion_timestamp = Some(Time(at("2027-03-01T12:10:30Z")));
        pod.deletion_grace_period_seconds = Some(365 * 24 * 3600);
        let now = at("2026-03-01T12:13:00Z");
        let shown = |pod: &ObjectMeta| {
            let row = Row::new(Sighting::of(pod), &Blocks::default(), now);
            assert_eq!(row.state, State::Terminating);
            row.eviction_time(now).unwrap()
        };
        assert_eq!(
            shown(&pod),
            "2026-03-01T12:10:00Z (3m0s ago, terminating for 2m30s)"
        );
        // Another's clock.
        pod.deletion_timestamp = Some(Time(at("2027-03-01T12:13:01Z")));
        assert_eq!(shown(&pod), "2026-03-01T12:10:00Z (3m0s ago, terminating)");
        pod.annotations = None;
        pod.deletion_grace_period_seconds = Some(365 * 24 * 3600 + 60);
        assert_eq!(shown(&pod), "terminating for 59s");
    }

    #[test]
    fn what_stands_in_the_way_is_named_while_it_does() {
        let pod = pod("web-1", &[(metadata::EVICTION_TIME, AFTER)]);
        let seen = at("2026-03-01T12:10:30Z");
        let mut blocks = Blocks::default();
        let uid = "uid-of-web-1".to_owned();
        let block = |budget: Option<&str>| Block {
            last_seen: seen,
            budget: budget.map(str::to_owned),
            message: "cannot be evicted yet: no room".into(),
            state: State::Blocked,
        };
        blocks.add(uid.clone(), block(Some("web")));
        let later = at("2026-03-01T12:13:00Z");
        let row = Row::new(Sighting::of(&pod), &blocks, later);
        assert_eq!(row.state, State::Blocked);
        assert_eq!(
            row.eviction_time(later).as_deref(),
            Some("2026-03-01T12:10:00Z (3m0s ago, blocked by PDB web)")
        );
        assert_eq!(
            row.reason.as_deref(),
            Some("cannot be evicted yet: no room")
        );

        let mut unnamed = Blocks::default();
        unnamed.add(uid, block(None));
        let row = Row::new(Sighting::of(&pod), &unnamed, later);
        assert!(row.eviction_time(later).unwrap().ends_with("ago, blocked)"));

        // It was extended since: what was in the way then is not in the way now.
        let extended = marked_until("2026-03-01T12:12:00Z");
        let row = Row::new(Sighting::of(&extended), &blocks, later);
        assert_eq!((row.state, row.reason), (State::Due, None));
        let ahead = marked_until("2026-03-01T12:20:00Z");
        let row = Row::new(Sighting::of(&ahead), &blocks, later);
        assert_eq!(row.state, State::Scheduled);
    }

    fn marked_until(time: &str) -> ObjectMeta {
        pod("web-1", &[(metadata::EVICTION_TIME, time)])
    }

    #[test]
    fn a_hold_counts_until_it_ends() {
        let mut held = marked_until(AFTER);
        held.annotations
            .get_or_insert_default()
            .insert(metadata::HOLD.into(), "evidence".into());
        let row = Row::new(Sighting::of(&held), &Blocks::default(), at(BEFORE));
        assert_eq!(
            (row.state, row.reason.as_deref()),
            (State::Held, Some("evidence"))
        );
        assert_eq!(state_of(Sighting::of(&held), AFTER), State::Due);
    }

    #[test]
    fn what_is_out_of_the_ordinary_stands_behind_the_time() {
        let now = at("2026-03-01T12:00:00Z");
        let shown = |pod: &ObjectMeta| {
            let row = Row::new(Sighting::of(pod), &Blocks::default(), now);
            row.eviction_time(now).unwrap()
        };
        let mut pod = marked_until(AFTER);
        pod.annotations
            .get_or_insert_default()
            .insert(metadata::HOLD.into(), "evidence".into());
        assert_eq!(shown(&pod), "2026-03-01T12:10:00Z (in 10m0s, held)");
        let label = ("app-detached".to_owned(), "web".to_owned());
        pod.labels = Some([label].into());
        assert_eq!(
            shown(&pod),
            "2026-03-01T12:10:00Z (in 10m0s, held, detached)"
        );
        // It is selected still.
        let labels = pod.labels.get_or_insert_default();
        labels.insert("app".to_owned(), "web".to_owned());
        pod.deletion_timestamp = Some(Time(now));
        assert_eq!(
            shown(&pod),
            "2026-03-01T12:10:00Z (in 10m0s, terminating for 0s)"
        );
        let mut recorded = marked("web-2", Kind::Portforward, None);
        recorded.deletion_timestamp = Some(Time(now));
        assert_eq!(shown(&recorded), "terminating for 0s");
    }

    #[test]
    fn what_will_not_be_evicted_says_why() {
        let row = |pod: &ObjectMeta| Row::new(Sighting::of(pod), &Blocks::default(), at(BEFORE));
        let forwarded = row(&marked("web-1", Kind::Portforward, None));
        assert_eq!((forwarded.state, forwarded.reason), (State::Recorded, None));
        let harmless = row(&marked("web-1", Kind::Exec, Some(Exemption::Harmless)));
        assert_eq!(
            (harmless.state, harmless.reason.as_deref()),
            (State::Recorded, Some("harmless"))
        );
        let guarded = marked("web-1", Kind::Exec, Some(Exemption::Protected));
        assert_eq!(row(&guarded).state, State::Protected);
        let mut mirror = marked_until(AFTER);
        mirror
            .annotations
            .get_or_insert_default()
            .insert(metadata::MIRROR.into(), "hash".into());
        assert_eq!(row(&mirror).state, State::Protected);
    }

    #[test]
    fn a_pod_that_ended_or_is_ended_is_not_due() {
        let mut pod = marked_until(AFTER);
        for (phase, state) in [
            ("Running", State::Due),
            ("Succeeded", State::Finished),
            ("Failed", State::Finished),
        ] {
            let seen = Sighting {
                phase: Some(phase),
                ..Sighting::of(&pod)
            };
            assert_eq!(state_of(seen, AFTER), state);
        }
        pod.deletion_timestamp = Some(Time(at(AFTER)));
        assert_eq!(state_of(Sighting::of(&pod), AFTER), State::Terminating);
    }

    #[test]
    fn what_is_not_there_is_not_made_up() {
        let now = at(BEFORE);
        let row = Row::new(Sighting::of(&pod("web-1", &[])), &Blocks::default(), now);
        assert_eq!((row.state, row.eviction_time(now)), (State::Recorded, None));
        for value in [row.interactor, row.ttl, row.command, row.reason] {
            assert_eq!(value, None);
        }
    }

    #[test]
    fn a_time_that_is_none_is_shown_as_it_stands() {
        let pod = marked_until("tomorrow");
        let row = Row::new(Sighting::of(&pod), &Blocks::default(), at(BEFORE));
        assert_eq!(row.eviction_time(at(BEFORE)).as_deref(), Some("tomorrow"));
        assert_eq!(row.state, State::Recorded);
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
