//! Records an interaction in the metadata of the pod if the agent of its node did not store it.
//!
//! Owns the read-merge-patch of the label and the annotations. `curfew_core::metadata` defines what they mean. When
//! the agent is available again, it reads the interaction from the pod.

use std::{collections::BTreeMap, time::Duration};

use curfew_core::{
    Interaction, Kind, PodId, Record, RecordedInteraction, metadata,
    record::{self, Counted, REPEATED_WITHIN},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};

use curfew_runtime::error_chain;

use crate::{
    names::MANAGER,
    placement::{self, Pod, PodName, PodReadError},
};

/// Why an interaction could not be recorded on the pod.
#[derive(Debug, thiserror::Error)]
pub enum FallbackError {
    /// There is no such pod any more.
    #[error("the pod is gone")]
    Gone,
    /// The pod could not be read or patched.
    #[error(transparent)]
    Pod(#[from] PodReadError),
}

/// Records interactions on the pod, and returns all that it tells then.
///
/// `pod` is the pod as it was just read. When it has changed since, it is read again, and when
/// another pod has its name by now, the interaction is that one's: it is where the API server will
/// connect to.
///
/// # Errors
/// When the interactions do not stand on the pod after that time.
pub async fn record(
    client: &Client,
    pod: Pod,
    known: &[RecordedInteraction],
    within: Duration,
) -> Result<Record, FallbackError> {
    match tokio::time::timeout(within, attempt(client, pod, known, within)).await {
        Ok(recorded) => recorded,
        Err(_) => Err(failed(format!("no answer within {within:?}"))),
    }
}

async fn attempt(
    client: &Client,
    mut pod: Pod,
    known: &[RecordedInteraction],
    within: Duration,
) -> Result<Record, FallbackError> {
    let params = PatchParams {
        field_manager: Some(MANAGER.to_owned()),
        ..PatchParams::default()
    };
    loop {
        let id = pod.id();
        let name = PodName::new(&id.namespace, &id.name).ok_or(FallbackError::Gone)?;
        let api: Api<Pod> = Api::namespaced(client.clone(), &id.namespace);
        let annotations = pod.annotations();
        let Some(joined) = join(&id, &annotations, known) else {
            return Err(failed("there is nothing to record".to_owned()));
        };
        if !joined.is_news() {
            return Ok(joined.record);
        }
        let room = metadata::room(&annotations);
        let told = joined.fitting(room).ok_or_else(|| {
            failed(format!(
                "the pod's annotations are nearly full: {room} bytes are left for those of Curfew"
            ))
        })?;
        let record = joined.record;
        let version = pod.metadata.resource_version.as_deref();
        let patch = metadata::patch(&record.pod, &told, version);
        let error = match api.patch(&id.name, &params, &Patch::Merge(patch)).await {
            Ok(_) => return Ok(record),
            Err(error) => error,
        };
        match error_chain::code(&error) {
            Some(404) => return Err(FallbackError::Gone),
            Some(409) => {}
            // Either the webhook may do nothing any more, which the next read tells, or somebody's
            // admission policy forbids this patch.
            Some(401 | 403) => {
                placement::find(client, name, within).await?;
                return Err(failed(error_chain::short(&error)));
            }
            _ => return Err(failed(error_chain::short(&error))),
        }
        pod = placement::find(client, name, within)
            .await?
            .ok_or(FallbackError::Gone)?;
    }
}

/// What a pod tells with interactions added.
#[derive(Debug)]
struct Joined {
    record: Record,
    /// Those before the latest that the agent may not know.
    unsynced: Vec<RecordedInteraction>,
    /// Those of the added ones that the pod does not tell of yet.
    ///
    /// A repeated interaction is not among them, although it has another request UID. Otherwise there would be an
    /// endless loop: if an update of ephemeral containers is in progress, this patch makes the API server retry the
    /// update with a new request, which would lead to another patch.
    news: Vec<RecordedInteraction>,
    /// Whether the pod goes at another time by them, or tells something else of those that it tells of.
    moves: bool,
}

impl Joined {
    fn is_news(&self) -> bool {
        self.moves || !self.news.is_empty()
    }

    /// The annotations that fit into this many bytes. None if they would not show all new interactions, because no
    /// agent knows the ones that would be missing.
    fn fitting(&self, room: usize) -> Option<BTreeMap<&'static str, String>> {
        let told = metadata::fitting(&self.record, &self.unsynced, room);
        let mut news = self.news.iter();
        news.all(|known| metadata::tells(&told, &self.record, known))
            .then_some(told)
    }
}

/// What the pod tells with these interactions added; none when there is nothing to tell.
fn join(
    id: &PodId,
    annotations: &BTreeMap<String, String>,
    known: &[RecordedInteraction],
) -> Option<Joined> {
    let marks = metadata::read(id, annotations).unwrap_or_else(|error| {
        tracing::warn!(
            event = "marks-unreadable",
            pod = %id,
            uid = id.uid,
            %error,
            "rewriting the pod's annotations"
        );
        record::Marks::default()
    });
    let mut unsynced = marks.unsynced.clone();
    unsynced.extend(marks.latest().cloned());
    let short = marks.short.is_some();
    let mut told = Record::from_marks(id.clone(), marks);
    let (mut news, mut moves) = (Vec::new(), false);
    for known in known {
        let Some(record) = &mut told else {
            told = Some(Record::new(id.clone(), known.clone()));
            unsynced.push(known.clone());
            news.push(known.clone());
            continue;
        };
        let timer = |record: &Record| (record.deadline(), record.enforcement());
        let (repeated, counted, before) = (
            is_repeated(record, known, short),
            record.interactions(),
            timer(record),
        );
        let request = &known.interaction.request;
        let again = record.has_request(request);
        let changed = record.learn(known.clone());
        if !repeated {
            unsynced.push(known.clone());
            news.push(known.clone());
        }
        // What is told anew of a request makes no other interaction of it, and the agent has to learn it all the same.
        if again && changed {
            unsynced.retain(|other| other.interaction.request != *request);
            unsynced.push(known.clone());
            moves = true;
        }
        // The pod says until which second its interactions are counted. Another interaction in the same second would
        // seem to be counted already.
        if !repeated
            && record.interactions() == counted
            && let Some(last) = record.last()
        {
            let until = last.interaction.time;
            record.absorb(record::Marks {
                count_in_metadata: Some(Counted {
                    until,
                    interactions: counted.saturating_add(1),
                }),
                ..record::Marks::default()
            });
        }
        moves |= timer(record) != before;
    }
    Some(Joined {
        record: told?,
        unsynced,
        news,
        moves,
    })
}

/// Whether the pod already shows this interaction: the same request, or a repetition within two seconds. A debug
/// container can be added only once, so the same debug container is a repetition at any time: an update that
/// contains the pod's resourceVersion fails if the record is written in between, and the next attempt must be
/// admitted. A pod that shows its record in `short` form may have had no room for the container and the command.
fn is_repeated(record: &Record, known: &RecordedInteraction, short: bool) -> bool {
    let did = &known.interaction;
    let told = [record.decisive(), record.last()];
    told.into_iter().flatten().any(|told| {
        let before = &told.interaction;
        let apart = did.time.duration_since(before.time).abs();
        let again = apart <= REPEATED_WITHIN || before.request == did.request;
        match before.kind {
            // Whatever a policy says meanwhile.
            Kind::Debug => before.is_repeat_of(did) || (short && may_be(before, did)),
            _ => told.is_repeat_of(known) && again,
        }
    }) || record.has_request(&did.request)
}

/// Whether what was cut may have been this.
fn may_be(cut: &Interaction, did: &Interaction) -> bool {
    cut.kind == did.kind
        && cut.user == did.user
        && (cut.container.is_none() || cut.container == did.container)
        && (cut.command.is_empty() || cut.command == did.command)
}

fn failed(text: String) -> FallbackError {
    FallbackError::Pod(PodReadError::Failed(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use curfew_core::{
        Command,
        terms::{Action, Enforcement, OnEvidence, Terms},
    };
    use jiff::Timestamp;

    fn id() -> PodId {
        PodId {
            namespace: "shop".into(),
            name: "cart-1".into(),
            uid: "u-1".into(),
        }
    }

    fn known(second: i64, request: &str, user: &str) -> RecordedInteraction {
        RecordedInteraction {
            interaction: Interaction {
                time: Timestamp::from_second(1_800_000_000 + second).unwrap(),
                kind: Kind::Debug,
                user: user.into(),
                container: Some("debugger".into()),
                command: Command::new(["sh"]),
                stdin: false,
                tty: false,
                request: request.into(),
            },
            terms: Terms {
                action: Action::Evict,
                ttl: Duration::from_secs(600),
                max_extension: Duration::from_secs(60),
                max_hold: Duration::from_secs(7200),
                exemption: None,
                enforcement: Enforcement::Enforce,
                on_evidence: OnEvidence::default(),
            },
            policy: None,
            irregular: None,
        }
    }

    fn marks(told: &Joined) -> BTreeMap<String, String> {
        owned(told.fitting(metadata::MAX_ANNOTATIONS).unwrap())
    }

    fn owned(told: BTreeMap<&'static str, String>) -> BTreeMap<String, String> {
        told.into_iter()
            .map(|(key, value)| (key.to_owned(), value))
            .collect()
    }

    #[test]
    fn a_pod_without_room_tells_what_decides() {
        let first = join(&id(), &BTreeMap::new(), &[known(0, "r1", "alice")]).unwrap();
        assert_eq!(first.fitting(100), None, "less than can be read again");
        for room in [200, 300, 500] {
            let short = owned(first.fitting(room).unwrap());
            assert!(metadata::is_short(&short));
            let again = join(&id(), &short, &[known(1, "r2", "alice")]).unwrap();
            assert!(!again.is_news(), "{room}");
            // Nothing would tell of this one, and nothing else has it.
            let other = join(&id(), &short, &[known(1, "r3", "bob")]).unwrap();
            assert_eq!(other.fitting(room), None, "{room}");
            let mut strict = known(1, "r4", "carol");
            strict.terms.ttl = Duration::from_secs(1);
            let strict = join(&id(), &short, &[strict]).unwrap();
            let strict = owned(strict.fitting(room).unwrap());
            assert_eq!(strict[metadata::INTERACTOR], "carol");
            let told = metadata::read(&id(), &strict).unwrap();
            let told = Record::from_marks(id(), told).unwrap();
            assert_eq!(told.deadline(), Timestamp::from_second(1_800_000_002).ok());
            // There is room again.
            let both = join(&id(), &short, &[known(1, "r3", "bob")]).unwrap();
            let full = metadata::read(&id(), &marks(&both)).unwrap();
            let full = Record::from_marks(id(), full).unwrap();
            assert_eq!(full.interactions(), 2);
            assert_eq!(full.deadline(), first.record.deadline());
        }
    }

    #[test]
    fn a_repetition_is_no_news() {
        let first = join(&id(), &BTreeMap::new(), &[known(0, "r1", "alice")]).unwrap();
        assert!(first.is_news());
        for again in [
            known(0, "r1", "alice"),
            known(1, "r1", "alice"),
            known(1, "r2", "alice"),
            known(60, "r2", "alice"),
        ] {
            let again = join(&id(), &marks(&first), &[again]).unwrap();
            assert!(!again.is_news());
        }
        let both = join(&id(), &marks(&first), &[known(1, "r3", "bob")]).unwrap();
        assert!(both.is_news());
        assert_eq!(both.record.interactions(), 2);
        assert_eq!(both.record.deadline(), first.record.deadline());
    }

    #[test]
    fn the_same_on_other_terms_is_news() {
        let exec = |second, request: &str| {
            let mut known = known(second, request, "alice");
            known.interaction.kind = Kind::Exec;
            known
        };
        let mut harmless = exec(0, "r1");
        harmless.terms.action = Action::Record;
        let first = join(&id(), &BTreeMap::new(), &[harmless]).unwrap();
        let strict = join(&id(), &marks(&first), &[exec(1, "r2")]).unwrap();
        assert!(strict.is_news() && strict.record.deadline().is_some());
        assert_eq!(strict.record.interactions(), 2);
        let mut typed = exec(1, "r3");
        typed.interaction.tty = true;
        let typed = join(&id(), &marks(&strict), &[typed]).unwrap();
        assert!(typed.is_news());
        assert_eq!(typed.record.interactions(), 3);
        let again = join(&id(), &marks(&typed), &[exec(2, "r4")]).unwrap();
        assert!(!again.is_news(), "a fallback to SPDY");
    }

    #[test]
    fn what_is_told_anew_of_an_interaction_is_no_other_one() {
        let exec = |second, request: &str, user| {
            let mut known = known(second, request, user);
            known.interaction.kind = Kind::Exec;
            known
        };
        let first = join(&id(), &BTreeMap::new(), &[exec(0, "r1", "alice")]).unwrap();
        let both = join(&id(), &marks(&first), &[exec(9, "r2", "bob")]).unwrap();
        for (before, told, count) in [
            (first, exec(0, "r1", "alice"), 1),
            (both, exec(9, "r2", "bob"), 2),
        ] {
            let mut irregular = told;
            irregular.terms.ttl = Duration::from_secs(1);
            irregular.irregular =
                Some("no session of a person ever left `nc` running there".into());
            let again = join(&id(), &marks(&before), std::slice::from_ref(&irregular)).unwrap();
            assert!(again.is_news());
            assert_eq!(again.record.interactions(), count);
            let marks = marks(&again);
            let read = metadata::read(&id(), &marks).unwrap();
            let told = Record::from_marks(id(), read.clone()).unwrap();
            let expected = irregular.interaction.time + Duration::from_secs(1);
            assert_eq!(
                (told.interactions(), told.deadline()),
                (count, Some(expected))
            );
            // The agent knows the others.
            let mut agent = before.record;
            agent.absorb(read);
            assert_eq!(
                (agent.interactions(), agent.deadline()),
                (count, Some(expected))
            );
            let twice = join(&id(), &marks, &[irregular]).unwrap();
            assert!(!twice.is_news());
        }
    }

    #[test]
    fn all_of_one_second_are_told() {
        let mut told = join(&id(), &BTreeMap::new(), &[known(0, "r0", "u0")]).unwrap();
        for n in 1..20 {
            let next = known(0, &format!("r{n}"), &format!("u{n}"));
            told = join(&id(), &marks(&told), &[next]).unwrap();
            assert!(told.is_news());
            assert_eq!(told.record.interactions(), n + 1);
        }
        let several: Vec<_> = (0..5)
            .map(|n| known(0, &format!("s{n}"), &format!("v{n}")))
            .collect();
        let all = join(&id(), &marks(&told), &several).unwrap();
        assert_eq!(all.record.interactions(), 25);
    }

    #[test]
    fn marks_that_cannot_be_read_are_written_anew() {
        let told = join(&id(), &BTreeMap::new(), &[known(0, "r1", "alice")]).unwrap();
        let mut broken = marks(&told);
        broken.insert(metadata::TTL.into(), "for ever".into());
        let anew = join(&id(), &broken, &[known(60, "r2", "bob")]).unwrap();
        assert!(anew.is_news());
        assert_eq!(anew.record.interactions(), 1);
    }

    #[test]
    fn an_agent_that_was_ahead_of_the_pod_counts_all() {
        for (stored, told, beside) in [
            (5, 3, 1),
            (5, 3, 4),
            (5, 0, 3),
            (5, 5, 14),
            (5, 3, 15),
            (30, 20, 9),
        ] {
            let of = |n: i64| known(n, &format!("r{n}"), &format!("u{n}"));
            let learned = |count: i64| {
                let mut record = Record::new(id(), of(0));
                for n in 1..count {
                    record.learn(of(n));
                }
                record
            };
            let mut agent = learned(stored);
            let mut annotations = BTreeMap::new();
            if told > 0 {
                annotations = marks(&Joined {
                    record: learned(told),
                    unsynced: Vec::new(),
                    news: Vec::new(),
                    moves: false,
                });
            }
            for n in stored..stored + beside {
                annotations = marks(&join(&id(), &annotations, &[of(n)]).unwrap());
            }
            for _ in 0..2 {
                agent.absorb(metadata::read(&id(), &annotations).unwrap());
                let counted = i64::from(agent.interactions());
                assert_eq!(counted, stored + beside, "{stored} stored, {told} told");
            }
        }
    }
}
