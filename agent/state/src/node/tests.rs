//! What is decided, event by event, on a clock that the tests turn.

mod budgets;
mod dry_run;
mod evict_now;
mod evictions;
mod evidence;
mod exempt;
mod leftovers;
mod marks;
mod overrides;
mod stored;

use std::collections::BTreeSet;

use curfew_core::{Overrides, metadata};

use super::*;
use crate::{
    action::{AgentAction, EvictionRequest},
    budget::{BudgetId, BudgetView},
    event::{
        Consequence, DomainEvent, EvictionOrder, ExtensionChange, HoldChange, MarkRefusal,
        NewInteraction, PodEviction, Source,
    },
    patch::PatchOutcome,
    testing::{at, marked, marked_with, pod, pod_id, record, seen_as, shell, shortened},
};

struct Bench {
    node: NodeState,
    now: Timestamp,
}

impl Bench {
    fn new() -> Self {
        Self::with(Vec::new(), 5)
    }

    fn with(records: Vec<Record>, max_evictions: usize) -> Self {
        Self::of(records, Self::settings(max_evictions))
    }

    fn settings(max_evictions: usize) -> NodeSettings {
        NodeSettings {
            max_evictions,
            blocked_after: Duration::from_secs(3600),
            evidence: Evidence::Off,
        }
    }

    fn of(records: Vec<Record>, settings: NodeSettings) -> Self {
        let mut node = NodeState::new(settings);
        node.restore(records, at(0), &mut Decisions::default());
        Self { node, now: at(0) }
    }

    /// What is decided.
    fn decide(&mut self, act: impl FnOnce(&mut NodeState, Timestamp, &mut Decisions)) -> Decisions {
        let mut out = Decisions::default();
        act(&mut self.node, self.now, &mut out);
        out
    }

    /// What is to be done.
    fn actions(
        &mut self,
        act: impl FnOnce(&mut NodeState, Timestamp, &mut Decisions),
    ) -> Vec<AgentAction> {
        self.decide(act).actions
    }

    /// What people are told by Events.
    fn told(
        &mut self,
        act: impl FnOnce(&mut NodeState, Timestamp, &mut Decisions),
    ) -> Vec<DomainEvent> {
        let mut events = self.decide(act).events;
        events.retain(|event| {
            !matches!(
                event,
                DomainEvent::Gone { .. } | DomainEvent::Unmarked(MarkRefusal { again: true, .. })
            )
        });
        events
    }

    /// The request to evict a pod is answered; returns what people are told.
    fn answer(&mut self, uid: &str, outcome: EvictionOutcome) -> Vec<DomainEvent> {
        self.told(|node, now, out| node.evicted(uid, outcome, now, out))
    }

    /// Pods that were touched, are due since second 600, and were refused by the budget `web`, whose watch
    /// has begun.
    fn blocked(uids: &[&str]) -> Self {
        let mut bench = Self::new();
        for uid in uids {
            bench.touched(uid);
        }
        bench.tick_at(600);
        for uid in uids {
            bench.answer(uid, no_room());
        }
        bench.budget(room(0));
        bench
    }

    /// The watch of the budget `web` sees it.
    fn budget(&mut self, view: Option<BudgetView>) -> Decisions {
        self.decide(|node, now, out| {
            node.budget_seen(&web(), view, now, out);
            node.tick(now, out);
        })
    }

    fn tick_at(&mut self, second: i64) -> Vec<AgentAction> {
        self.now = at(second);
        let actions = self.actions(|node, now, out| node.tick(now, out));
        // Otherwise the task would not rest until something happens.
        let next = self.node.next_deadline();
        assert!(next.is_none_or(|next| next > self.now), "{next:?}");
        actions
    }

    /// A pod that was touched at second 0 and shows it.
    fn touched(&mut self, uid: &str) {
        self.actions(|node, now, out| {
            node.learned(pod_id(uid), shell(0), now, out);
            node.seen(marked(&record(uid, shell(0)), 2), now, out);
        });
    }

    fn stored(&self, uid: &str) -> &Record {
        self.node.record(uid).unwrap()
    }

    fn state(&self, uid: &str) -> &'static str {
        let row = self
            .node
            .rows(self.now)
            .find(|row| row.record.pod.uid == uid);
        row.map_or("none", |row| row.state.as_str())
    }
}

fn web() -> BudgetId {
    BudgetId {
        namespace: "shop".into(),
        name: "web".into(),
    }
}

/// The budget refuses.
fn no_room() -> EvictionOutcome {
    EvictionOutcome::Budget {
        name: Some("web".into()),
        why: "needs 2".into(),
    }
}

fn room(allowed: i32) -> Option<BudgetView> {
    Some(BudgetView {
        generation: 1,
        current: true,
        allowed,
        healthy: 1,
        desired: 2,
        always_unhealthy: false,
        never: None,
    })
}

fn evict(uid: &str) -> AgentAction {
    AgentAction::Evict(EvictionRequest {
        pod: pod_id(uid),
        id: "request-0".into(),
        seen: Some(Overrides::default()),
        dry_run: false,
    })
}

#[test]
fn an_interaction_is_told_once_and_marked_on_the_pod() {
    let mut bench = Bench::new();
    bench.actions(|node, now, out| node.seen(pod("u", 1), now, out));
    let told = bench.told(|node, now, out| {
        node.learned(pod_id("u"), shell(0), now, out);
        node.learned(pod_id("u"), shell(0), now, out);
    });
    assert_eq!(told.len(), 1);
    let actions = bench.actions(|node, now, out| node.seen(pod("u", 2), now, out));
    assert_eq!(actions, [], "the patch is under way");
    let marked = marked(&record("u", shell(0)), 3);
    let told = bench.told(|node, now, out| {
        node.answered(marked.clone(), now, out);
        node.patched("u", PatchOutcome::Done, now, out);
        // What the watch showed meanwhile may be later than the answer: it shows the patch, too.
        node.seen(marked, now, out);
    });
    assert_eq!(told, []);
    assert_eq!(bench.state("u"), "scheduled");
    assert_eq!(bench.node.next_deadline(), Some(at(600)));
}

/// The pod was touched and its patch is open.
fn asked_to_mark(version: u32) -> Bench {
    let mut bench = Bench::new();
    let actions = bench.actions(|node, now, out| {
        node.seen(pod("u", version), now, out);
        node.learned(pod_id("u"), shell(0), now, out);
    });
    assert!(matches!(actions[..], [AgentAction::Patch(_)]));
    bench
}

#[test]
fn an_answer_is_later_than_what_was_shown_before_it_was_asked_for_whatever_the_revisions_are() {
    // etcd was restored from a backup: the pod has a lower revision than the watch showed.
    let mut bench = asked_to_mark(5000);
    let actions = bench.actions(|node, now, out| {
        node.answered(pod("u", 900), now, out);
        node.patched("u", PatchOutcome::Done, now, out);
    });
    let [AgentAction::Patch(change)] = &actions[..] else {
        panic!("{actions:?}");
    };
    assert!(format!("{change:?}").contains("900"), "{change:?}");
    let actions = bench.actions(|node, now, out| {
        node.answered(marked(&record("u", shell(0)), 901), now, out);
        node.patched("u", PatchOutcome::Done, now, out);
    });
    assert_eq!(actions, []);
    assert_eq!(bench.node.next_deadline(), Some(at(600)));
}

#[test]
fn an_answer_that_may_be_older_than_what_was_shown_waits_for_the_watch() {
    let mut bench = asked_to_mark(1);
    let wished = &[
        (metadata::EXTENSION, "5m"),
        (metadata::EXTENSION_REQUESTER, "bob"),
    ];
    let later = marked_with(&record("u", shell(0)), 3, wished);
    let actions = bench.actions(|node, now, out| {
        node.seen(later, now, out);
        node.answered(marked(&record("u", shell(0)), 2), now, out);
        node.patched("u", PatchOutcome::Done, now, out);
    });
    assert_eq!(
        actions,
        [],
        "what the watch shows next may be the answer to it"
    );
    let actions = bench.tick_at(1);
    let [AgentAction::Patch(change)] = &actions[..] else {
        panic!("{actions:?}");
    };
    let change = format!("{change:?}");
    assert!(
        change.contains("\"3\""),
        "it is made for what was shown: {change}"
    );
    bench.tick_at(600);
    assert_eq!(bench.state("u"), "scheduled", "the extension holds");
}

#[test]
fn a_pod_that_the_api_server_does_not_have_is_looked_up_and_forgotten() {
    let mut bench = asked_to_mark(1);
    let actions = bench.actions(|node, now, out| node.patched("u", PatchOutcome::Gone, now, out));
    assert_eq!(actions, [AgentAction::LookUp(pod_id("u"))]);
    // Should the look-up fail, all is tried again.
    let actions = bench.tick_at(5);
    assert!(
        matches!(actions[..], [AgentAction::Patch(_)]),
        "{actions:?}"
    );
    bench.actions(|node, _, out| node.gone("u", out));
    assert_eq!(bench.state("u"), "none");
}

#[test]
fn a_pod_that_was_found_while_the_list_was_on_its_way_is_kept() {
    let mut bench = Bench::new();
    bench.touched("old");
    bench.actions(|node, now, out| {
        node.list_begins();
        node.learned(pod_id("new"), shell(0), now, out);
        node.answered(pod("new", 7), now, out);
        node.listed(&BTreeSet::new(), now, out);
    });
    assert_eq!(bench.state("old"), "none", "the watch had shown it");
    assert_eq!(bench.state("new"), "scheduled");
    bench.actions(|node, now, out| {
        node.list_begins();
        node.listed(&BTreeSet::new(), now, out);
    });
    assert_eq!(bench.state("new"), "none", "a later list does not have it");
}

#[test]
fn a_late_answer_does_not_bring_a_pod_back() {
    let mut bench = Bench::new();
    bench.touched("u");
    bench.actions(|node, _, out| node.gone("u", out));
    let actions = bench.actions(|node, now, out| {
        node.answered(marked(&record("u", shell(0)), 3), now, out);
        node.patched("u", PatchOutcome::Done, now, out);
    });
    assert_eq!(actions, []);
    assert_eq!(bench.state("u"), "none");
}

#[test]
fn a_loop_of_execs_is_not_written_one_by_one() {
    let mut bench = Bench::new();
    bench.actions(|node, now, out| node.seen(pod("u", 1), now, out));
    let mut known: Option<Record> = None;
    let mut written = Vec::new();
    for second in 0..60 {
        bench.now = at(second);
        for loops in 0..10 {
            let mut actions = bench.actions(|node, now, out| node.tick(now, out));
            // It loops for half a minute; later nothing is news.
            if second < 30 {
                let mut next = shell(second);
                next.interaction.command = curfew_core::Command::new([format!("{second}-{loops}")]);
                next.interaction.request = format!("{second}-{loops}");
                match &mut known {
                    Some(known) => drop(known.learn(next.clone())),
                    none => *none = Some(record("u", next.clone())),
                }
                actions.extend(bench.actions(|node, now, out| {
                    node.learned(pod_id("u"), next, now, out);
                }));
            }
            let asked = actions
                .iter()
                .any(|action| matches!(action, AgentAction::Patch(_)));
            if let (true, Some(known)) = (asked, &known) {
                written.push(second);
                bench.actions(|node, now, out| {
                    let version = 1 + written.len() as u32;
                    node.answered(marked(known, version), now, out);
                    node.patched("u", PatchOutcome::Done, now, out);
                });
            }
        }
    }
    assert_eq!(written[..10], [0; 10], "the first are told at once");
    assert!(written.len() <= 35, "{written:?}");
    // The last of them is told, too, and soon.
    let last = written.last().copied();
    assert!(last >= Some(29) && last <= Some(33), "{written:?}");
}

#[test]
fn lost_metadata_are_written_again() {
    let mut bench = Bench::new();
    bench.touched("u");
    let actions = bench.actions(|node, now, out| node.seen(pod("u", 5), now, out));
    assert!(matches!(actions[..], [AgentAction::Patch(_)]));
    assert_eq!(bench.state("u"), "scheduled");
}

#[test]
fn a_notice_that_was_faster_than_the_watch_is_not_lost() {
    let mut bench = Bench::new();
    bench.actions(|node, now, out| {
        node.listed(&BTreeSet::new(), now, out);
        node.learned(pod_id("u"), shell(0), now, out);
    });
    assert_eq!(bench.state("u"), "unseen");
    assert_eq!(bench.tick_at(14), []);
    assert_eq!(bench.tick_at(15), [AgentAction::LookUp(pod_id("u"))]);
    assert_eq!(bench.tick_at(16), []);
    let actions = bench.actions(|node, now, out| node.answered(pod("u", 1), now, out));
    assert!(matches!(actions[..], [AgentAction::Patch(_)]));
}
