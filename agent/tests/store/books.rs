//! What was told to the agents of one store, and whether the store has it.

use std::collections::{BTreeMap, BTreeSet};

use curfew_agent::store::inspect::Holdings;
use curfew_core::{Command, Notice, Record, RecordedInteraction};
use fastrand::Rng;

use crate::process::{notice, pod_name};

/// How many interactions a pod has at most. Its record keeps them all.
const MOST_OF_A_POD: usize = 8;

/// One of so many notices is of a new pod, the others change a record that is there.
const NEW: usize = 4;

/// When more pods than this live, some end: so what there is to compare stays bounded.
const MOST_PODS: usize = 40;

/// The first pods live as long as the store: their records must outlast all that is written later.
const ELDERS: usize = 10;

/// How many differences are told at most.
const SHOWN: usize = 20;

/// The notices of one store. They are kept by UIDs that grow, so that older pods come first.
#[derive(Default)]
pub(crate) struct Books {
    living: BTreeMap<String, Vec<Told>>,
    ended: BTreeMap<String, Vec<Told>>,
}

struct Told {
    known: RecordedInteraction,
    acknowledged: bool,
    /// Whether a store that was opened had it. Then the next one must, even if the agent was killed before
    /// it could acknowledge it.
    seen: bool,
}

impl Books {
    /// Thinks of a notice and enters it: from now on the store may have it.
    pub(crate) fn next(&mut self, random: &mut Rng) -> Notice {
        let pods = self.living.len();
        let uid = self
            .living
            .iter()
            .nth(random.usize(0..pods.max(1)))
            .filter(|(_, told)| told.len() < MOST_OF_A_POD && random.usize(0..NEW) > 0)
            .map_or_else(
                || format!("{:06}", pods + self.ended.len()),
                |(uid, _)| uid.clone(),
            );
        let told = self.living.entry(uid.clone()).or_default();
        let mut notice = notice(&uid, &format!("{uid}-{}", told.len()));
        // Values of all sizes, which end anywhere in the store's segments.
        let word = "x".repeat(random.usize(1..=Command::MAX));
        notice.known.interaction.command = Command::new([word]);
        told.push(Told {
            known: notice.known.clone(),
            acknowledged: false,
            seen: false,
        });
        notice
    }

    /// The agent has said that it has the notice: from now on the store must have it.
    pub(crate) fn acknowledge(&mut self, notice: &Notice) {
        let told = self.living.get_mut(&notice.pod.uid);
        for told in told.into_iter().flatten() {
            told.acknowledged |= told.known == notice.known;
        }
    }

    /// How many interactions were acknowledged, and how many were not and were there all the same: the
    /// agent was killed between its write and its answer.
    pub(crate) fn count(&self) -> (usize, usize) {
        let pods = self.living.values().chain(self.ended.values());
        let told: Vec<_> = pods.flatten().collect();
        let acknowledged = told.iter().filter(|told| told.acknowledged);
        let unanswered = told.iter().filter(|told| told.seen && !told.acknowledged);
        (acknowledged.count(), unanswered.count())
    }

    /// The names of the pods that have ended.
    pub(crate) fn ended(&self) -> BTreeSet<String> {
        self.ended.keys().map(|uid| pod_name(uid)).collect()
    }

    /// How many pods have ended and still have a record.
    pub(crate) fn to_be_dropped(&self, holdings: &Holdings) -> usize {
        let records = holdings.records.iter();
        records
            .filter(|record| self.ended.contains_key(&record.pod.uid))
            .count()
    }

    /// Lets some pods end when there are many. To be called after a comparison, so that no interaction
    /// goes without any.
    pub(crate) fn end_some(&mut self, random: &mut Rng) {
        if self.living.len() <= MOST_PODS {
            return;
        }
        let young = self.living.keys().skip(ELDERS);
        let ending: Vec<_> = young.filter(|_| random.bool()).cloned().collect();
        for uid in ending {
            let told = self.living.remove(&uid);
            self.ended.extend(told.map(|told| (uid, told)));
        }
    }

    /// Compares all of it with what an agent read from the store. A living pod's record has every
    /// interaction that was acknowledged, word for word; that of an ended one has them too, as long as it
    /// is there; none has what was never told.
    pub(crate) fn compare(&mut self, holdings: &Holdings) -> Result<(), String> {
        let mut held: BTreeMap<_, _> = holdings
            .records
            .iter()
            .map(|record| (&record.pod.uid, record))
            .collect();
        let mut wrong = Vec::new();
        for (uid, told) in &mut self.living {
            compare_record(told, held.remove(uid), &mut wrong);
        }
        for (uid, record) in held {
            match self.ended.get_mut(uid) {
                Some(told) => compare_record(told, Some(record), &mut wrong),
                None => wrong.push(format!("nobody told of {uid}")),
            }
        }
        let total = wrong.len();
        wrong.truncate(SHOWN);
        match total {
            0 => Ok(()),
            _ => Err(format!("{total} are wrong: {}", wrong.join("; "))),
        }
    }
}

/// Notes what the record lacks and what it has too much.
fn compare_record(told: &mut [Told], record: Option<&Record>, wrong: &mut Vec<String>) {
    let mut held: BTreeSet<&RecordedInteraction> =
        record.into_iter().flat_map(Record::distinct).collect();
    for told in told {
        let seen = held.remove(&told.known);
        if !seen && (told.acknowledged || told.seen) {
            wrong.push(format!("missing {:?}", told.known.interaction.request));
        }
        told.seen |= seen;
    }
    wrong.extend(held.iter().map(|known| format!("never told {known:?}")));
}
