//! What is decided, event by event, on a clock that the tests turn.

mod budgets;
mod exempt;
mod marks;
mod wishes;

use std::collections::BTreeSet;

use curfew_core::metadata;

use super::*;
use crate::{
    action::{Consequence, Source},
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
        let mut node = NodeState::new(Settings {
            max_evictions,
            blocked_after: Duration::from_secs(3600),
        });
        node.restore(records, at(0), &mut Vec::new());
        Self { node, now: at(0) }
    }

    /// What is to be done, leaving out what is only told.
    fn effects(
        &mut self,
        act: impl FnOnce(&mut NodeState, Timestamp, &mut Vec<Effect>),
    ) -> Vec<Effect> {
        let mut out = Vec::new();
        act(&mut self.node, self.now, &mut out);
        out.retain(|effect| !matches!(effect, Effect::Announce(_) | Effect::LogEnd { .. }));
        out
    }

    fn told(
        &mut self,
        act: impl FnOnce(&mut NodeState, Timestamp, &mut Vec<Effect>),
    ) -> Vec<Announcement> {
        let mut out = Vec::new();
        act(&mut self.node, self.now, &mut out);
        out.into_iter()
            .filter_map(|effect| match effect {
                Effect::Announce(announcement) => Some(announcement),
                _ => None,
            })
            .collect()
    }

    /// The request to evict a pod is answered; returns what people are told.
    fn answer(&mut self, uid: &str, outcome: Outcome) -> Vec<Announcement> {
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
    fn budget(&mut self, view: Option<BudgetView>) -> Vec<Effect> {
        let mut out = Vec::new();
        self.node.budget_seen(&web(), view, self.now, &mut out);
        self.node.tick(self.now, &mut out);
        out
    }

    fn tick_at(&mut self, second: i64) -> Vec<Effect> {
        self.now = at(second);
        let effects = self.effects(|node, now, out| node.tick(now, out));
        // Otherwise the task would not rest until something happens.
        let next = self.node.next_deadline();
        assert!(next.is_none_or(|next| next > self.now), "{next:?}");
        effects
    }

    /// A pod that was touched at second 0 and shows it.
    fn touched(&mut self, uid: &str) {
        self.effects(|node, now, out| {
            node.learned(pod_id(uid), shell(0), now, out);
            node.seen(marked(&record(uid, shell(0)), 2), now, out);
        });
    }

    fn state(&self, uid: &str) -> &'static str {
        let line = self
            .node
            .lines(self.now)
            .find(|line| line.record.pod.uid == uid);
        line.map_or("none", |line| line.state.as_str())
    }
}

fn web() -> BudgetId {
    BudgetId {
        namespace: "shop".into(),
        name: "web".into(),
    }
}

/// The budget refuses.
fn no_room() -> Outcome {
    Outcome::Budget {
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

fn evict(uid: &str) -> Effect {
    Effect::Evict {
        pod: pod_id(uid),
        id: "request-0".into(),
        seen: Some(Wishes::default()),
    }
}

#[test]
fn an_interaction_is_told_once_and_marked_on_the_pod() {
    let mut bench = Bench::new();
    bench.effects(|node, now, out| node.seen(pod("u", 1), now, out));
    let told = bench.told(|node, now, out| {
        node.learned(pod_id("u"), shell(0), now, out);
        node.learned(pod_id("u"), shell(0), now, out);
    });
    assert_eq!(told.len(), 1);
    let effects = bench.effects(|node, now, out| node.seen(pod("u", 2), now, out));
    assert_eq!(effects, [], "the patch is under way");
    let marked = marked(&record("u", shell(0)), 3);
    let told = bench.told(|node, now, out| {
        node.answered(marked.clone(), now, out);
        node.marked("u", PatchOutcome::Done, now, out);
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
    let effects = bench.effects(|node, now, out| {
        node.seen(pod("u", version), now, out);
        node.learned(pod_id("u"), shell(0), now, out);
    });
    assert!(matches!(effects[..], [Effect::Mark(_)]));
    bench
}

#[test]
fn an_answer_is_later_than_what_was_shown_before_it_was_asked_for_whatever_the_revisions_are() {
    // etcd was restored from a backup: the pod has a lower revision than the watch showed.
    let mut bench = asked_to_mark(5000);
    let effects = bench.effects(|node, now, out| {
        node.answered(pod("u", 900), now, out);
        node.marked("u", PatchOutcome::Done, now, out);
    });
    let [Effect::Mark(change)] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert!(format!("{change:?}").contains("900"), "{change:?}");
    let effects = bench.effects(|node, now, out| {
        node.answered(marked(&record("u", shell(0)), 901), now, out);
        node.marked("u", PatchOutcome::Done, now, out);
    });
    assert_eq!(effects, []);
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
    let effects = bench.effects(|node, now, out| {
        node.seen(later, now, out);
        node.answered(marked(&record("u", shell(0)), 2), now, out);
        node.marked("u", PatchOutcome::Done, now, out);
    });
    assert_eq!(
        effects,
        [],
        "what the watch shows next may be the answer to it"
    );
    let effects = bench.tick_at(1);
    let [Effect::Mark(change)] = &effects[..] else {
        panic!("{effects:?}");
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
    let effects = bench.effects(|node, now, out| node.marked("u", PatchOutcome::Gone, now, out));
    assert_eq!(effects, [Effect::LookUp(pod_id("u"))]);
    // Should the look-up fail, all is tried again.
    let effects = bench.tick_at(5);
    assert!(matches!(effects[..], [Effect::Mark(_)]), "{effects:?}");
    bench.effects(|node, _, out| node.gone("u", out));
    assert_eq!(bench.state("u"), "none");
}

#[test]
fn a_pod_that_was_found_while_the_list_was_on_its_way_is_kept() {
    let mut bench = Bench::new();
    bench.touched("old");
    bench.effects(|node, now, out| {
        node.list_begins();
        node.learned(pod_id("new"), shell(0), now, out);
        node.answered(pod("new", 7), now, out);
        node.listed(&BTreeSet::new(), now, out);
    });
    assert_eq!(bench.state("old"), "none", "the watch had shown it");
    assert_eq!(bench.state("new"), "scheduled");
    bench.effects(|node, now, out| {
        node.list_begins();
        node.listed(&BTreeSet::new(), now, out);
    });
    assert_eq!(bench.state("new"), "none", "a later list does not have it");
}

#[test]
fn evicts_at_the_deadline_and_not_before() {
    let mut bench = Bench::new();
    bench.touched("u");
    assert_eq!(bench.tick_at(599), []);
    assert_eq!(bench.tick_at(600), [evict("u")]);
    assert_eq!(bench.state("u"), "due");
    assert_eq!(bench.tick_at(700), [], "asked once");
    let told = bench.told(|node, now, out| node.evicted("u", Outcome::Accepted, now, out));
    assert!(matches!(told[..], [Announcement::Evicted { .. }]));
    assert_eq!(bench.state("u"), "terminating");
    assert_eq!(bench.tick_at(9000), [], "a long grace period is no failure");
}

#[test]
fn a_clock_that_jumps_back_evicts_nothing_again() {
    let mut bench = Bench::new();
    bench.touched("u");
    assert_eq!(bench.tick_at(600), [evict("u")]);
    assert_eq!(bench.tick_at(100), []);
    assert_eq!(bench.tick_at(600), []);
}

#[test]
fn the_lowest_priority_goes_first_and_few_at_a_time() {
    let mut bench = Bench::with(Vec::new(), 2);
    for (uid, priority) in [("high", 100), ("low", -5), ("mid", 7)] {
        bench.touched(uid);
        let view = seen_as(marked(&record(uid, shell(0)), 3), |pod| {
            pod.priority = priority
        });
        bench.effects(|node, now, out| node.seen(view, now, out));
    }
    assert_eq!(bench.tick_at(600), [evict("low"), evict("mid")]);
    bench.answer("mid", Outcome::Accepted);
    assert_eq!(bench.tick_at(600), [evict("high")]);
    assert_eq!(bench.tick_at(601), [], "two are open");
}

#[test]
fn a_record_ends_with_its_pod_and_not_with_another_of_its_name() {
    let mut bench = Bench::new();
    bench.touched("u");
    bench.node.take_dirty();
    bench.effects(|node, now, out| node.seen(pod("another", 9), now, out));
    assert_eq!(bench.tick_at(600), [evict("u")]);
    bench.effects(|node, _, out| node.gone("u", out));
    assert_eq!(bench.state("u"), "none");
    assert_eq!(bench.node.take_dirty(), Batch::from([("u".into(), None)]));
    assert_eq!(bench.tick_at(9000), []);
}

#[test]
fn a_pod_that_is_gone_before_the_answer_is_told_all_the_same() {
    let mut bench = Bench::with(Vec::new(), 1);
    bench.touched("a");
    bench.touched("b");
    assert_eq!(bench.tick_at(600), [evict("a")]);
    let effects = bench.effects(|node, _, out| node.gone("a", out));
    assert_eq!(effects, [], "the request is still open");
    let mut out = Vec::new();
    bench
        .node
        .evicted("a", Outcome::Accepted, at(600), &mut out);
    assert!(
        matches!(&out[..], [Effect::Announce(Announcement::Evicted { .. })]),
        "{out:?}"
    );
    assert_eq!(bench.state("a"), "none");
    assert_eq!(bench.tick_at(600), [evict("b")]);
}

#[test]
fn a_pod_that_is_there_though_it_was_said_to_be_gone_is_asked_for_again() {
    let mut bench = Bench::new();
    bench.touched("u");
    assert_eq!(bench.tick_at(600), [evict("u")]);
    let effects = bench.effects(|node, now, out| node.evicted("u", Outcome::Gone, now, out));
    assert_eq!(effects, [Effect::LookUp(pod_id("u"))]);
    bench.effects(|node, now, out| {
        node.answered(marked(&record("u", shell(0)), 2), now, out);
    });
    assert_eq!(bench.tick_at(605), []);
    assert_eq!(bench.tick_at(610), [evict("u")]);
}

#[test]
fn a_late_answer_does_not_bring_a_pod_back() {
    let mut bench = Bench::new();
    bench.touched("u");
    bench.effects(|node, _, out| node.gone("u", out));
    let effects = bench.effects(|node, now, out| {
        node.answered(marked(&record("u", shell(0)), 3), now, out);
        node.marked("u", PatchOutcome::Done, now, out);
    });
    assert_eq!(effects, []);
    assert_eq!(bench.state("u"), "none");
}

#[test]
fn a_loop_of_execs_is_not_written_one_by_one() {
    let mut bench = Bench::new();
    bench.effects(|node, now, out| node.seen(pod("u", 1), now, out));
    let mut known: Option<Record> = None;
    let mut written = Vec::new();
    for second in 0..60 {
        bench.now = at(second);
        for loops in 0..10 {
            let mut effects = bench.effects(|node, now, out| node.tick(now, out));
            // It loops for half a minute; later nothing is news.
            if second < 30 {
                let mut next = shell(second);
                next.interaction.command = curfew_core::Command::new([format!("{second}-{loops}")]);
                next.interaction.request = format!("{second}-{loops}");
                match &mut known {
                    Some(known) => drop(known.learn(next.clone())),
                    none => *none = Some(record("u", next.clone())),
                }
                effects.extend(bench.effects(|node, now, out| {
                    node.learned(pod_id("u"), next, now, out);
                }));
            }
            let asked = effects
                .iter()
                .any(|effect| matches!(effect, Effect::Mark(_)));
            if let (true, Some(known)) = (asked, &known) {
                written.push(second);
                bench.effects(|node, now, out| {
                    let version = 1 + written.len() as u32;
                    node.answered(marked(known, version), now, out);
                    node.marked("u", PatchOutcome::Done, now, out);
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
    let effects = bench.effects(|node, now, out| node.seen(pod("u", 5), now, out));
    assert!(matches!(effects[..], [Effect::Mark(_)]));
    assert_eq!(bench.state("u"), "scheduled");
}

#[test]
fn the_pods_metadata_alone_are_enough_after_a_loss_of_the_store() {
    let mut bench = Bench::new();
    let told = bench.told(|node, now, out| {
        node.seen(marked(&record("u", shell(0)), 2), now, out);
    });
    assert_eq!(told.len(), 1);
    assert_eq!(bench.node.take_dirty().len(), 1);
    assert_eq!(bench.tick_at(600), [evict("u")]);
}

#[test]
fn what_stands_on_the_pod_alone_stays_there_until_it_is_stored() {
    let mut all = record("u", shell(0));
    all.learn(shell(60));
    all.learn(shell(120));
    let told = metadata::annotations(&all, &[shell(60)]);
    let last = (
        metadata::LAST_INTERACTION,
        &*told[metadata::LAST_INTERACTION],
    );
    let mut bench = Bench::with(vec![record("u", shell(0))], 5);
    let pod = marked_with(&all, 2, &[last]);
    let state = pod.state.clone();
    let effects = bench.effects(|node, now, out| node.seen(pod, now, out));
    assert_eq!(effects, [], "the pod tells all there is");
    let written = bench.node.take_dirty();
    let stored = written["u"].as_ref().unwrap();
    assert!([0, 60, 120].iter().all(|at| stored.has(&shell(*at))));

    let effects = bench.effects(|node, _, _| node.not_written(written));
    assert_eq!(effects, []);
    bench.node.take_dirty();
    let effects = bench.effects(|node, now, out| node.written(now, out));
    let without = patch::wanted(stored_as(&bench, "u"), &[], &state).unwrap();
    assert_eq!(effects, [Effect::Mark(without)]);
}

#[test]
fn what_is_too_old_to_be_kept_does_not_keep_the_pod_telling_it() {
    let mut all = record("u", shell(0));
    all.learn(shell(60));
    all.learn(shell(90));
    let told = metadata::annotations(&all, &[shell(60)]);
    let last = (
        metadata::LAST_INTERACTION,
        &*told[metadata::LAST_INTERACTION],
    );
    let behind = marked_with(&all, 2, &[last]);
    let state = behind.state.clone();
    for at in 100..120 {
        all.learn(shell(at));
    }
    assert!(!all.has(&shell(60)));

    let mut bench = Bench::with(vec![all], 5);
    for times in 0..3 {
        let seen = behind.clone();
        let effects = bench.effects(|node, now, out| node.seen(seen, now, out));
        if times == 0 {
            let without = patch::wanted(stored_as(&bench, "u"), &[], &state).unwrap();
            assert_eq!(effects, [Effect::Mark(without)]);
            bench.node.take_dirty();
            bench.effects(|node, now, out| node.written(now, out));
        }
        assert!(bench.node.entries["u"].alone.is_empty());
        assert!(!bench.node.is_dirty(), "seen {times} times before");
    }
}

fn stored_as<'a>(bench: &'a Bench, uid: &str) -> &'a Record {
    let mut lines = bench.node.lines(bench.now);
    lines
        .find(|line| line.record.pod.uid == uid)
        .unwrap()
        .record
}

#[test]
fn what_was_stored_but_not_told_before_a_crash_is_told_after_it() {
    let mut known = record("u", shell(0));
    known.learn(shell(60));
    let mut bench = Bench::with(vec![known.clone()], 5);
    let half_told = marked(&record("u", shell(0)), 2);
    let told = bench.told(|node, now, out| node.seen(half_told, now, out));
    assert!(
        matches!(&told[..], [Announcement::Interaction { known, .. }] if *known == shell(60)),
        "{told:?}"
    );

    let mut bench = Bench::with(vec![known.clone()], 5);
    let told = bench.told(|node, now, out| {
        node.seen(marked(&known, 2), now, out);
        node.seen(pod("u", 3), now, out);
    });
    assert_eq!(told, [], "all of it stood on the pod once");
}

#[test]
fn a_pod_that_went_while_the_agent_was_down_is_looked_up_and_dropped() {
    let mut bench = Bench::with(vec![record("old", shell(0)), record("there", shell(0))], 5);
    bench.effects(|node, now, out| node.seen(marked(&record("there", shell(0)), 2), now, out));
    let there = BTreeSet::from(["there".to_owned()]);
    let effects = bench.effects(|node, now, out| node.listed(&there, now, out));
    assert_eq!(effects, [Effect::LookUp(pod_id("old"))]);
    bench.effects(|node, _, out| node.gone("old", out));
    assert_eq!(bench.state("old"), "none");
    assert_eq!(bench.state("there"), "scheduled");
}

#[test]
fn a_notice_that_was_faster_than_the_watch_is_not_lost() {
    let mut bench = Bench::new();
    bench.effects(|node, now, out| {
        node.listed(&BTreeSet::new(), now, out);
        node.learned(pod_id("u"), shell(0), now, out);
    });
    assert_eq!(bench.state("u"), "unseen");
    assert_eq!(bench.tick_at(14), []);
    assert_eq!(bench.tick_at(15), [Effect::LookUp(pod_id("u"))]);
    assert_eq!(bench.tick_at(16), []);
    let effects = bench.effects(|node, now, out| node.answered(pod("u", 1), now, out));
    assert!(matches!(effects[..], [Effect::Mark(_)]));
}

#[test]
fn a_pod_that_cannot_usefully_be_evicted_is_left() {
    for (view, state) in [
        (
            seen_as(marked(&record("u", shell(0)), 2), |pod| pod.mirror = true),
            "protected",
        ),
        (
            seen_as(marked(&record("u", shell(0)), 2), |pod| pod.finished = true),
            "finished",
        ),
        (
            seen_as(marked(&record("u", shell(0)), 2), |pod| {
                pod.terminating = true
            }),
            "terminating",
        ),
    ] {
        let mut bench = Bench::new();
        bench.effects(|node, now, out| {
            node.learned(pod_id("u"), shell(0), now, out);
            node.seen(view, now, out);
        });
        assert_eq!(bench.tick_at(600), [], "{state}");
        assert_eq!(bench.state("u"), state);
    }
}

#[test]
fn while_one_request_tries_the_server_there_is_nothing_to_look_at() {
    let mut bench = Bench::new();
    for uid in ["a", "b", "c"] {
        bench.touched(uid);
    }
    assert_eq!(bench.tick_at(600).len(), 3);
    for uid in ["a", "b", "c"] {
        bench.answer(uid, Outcome::away("broken".into()));
    }
    // They wait for their turn, then for the breaker, which opens for one of them.
    assert_eq!(bench.tick_at(660).len(), 1);
    assert_eq!(bench.node.next_deadline(), None);
    bench.answer("a", Outcome::away("broken".into()));
    assert!(bench.node.next_deadline().is_some());
}
