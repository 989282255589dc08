//! How long an operation of the schedule takes, by how many pods are in it: an interaction begins a timer, a pod goes, its
//! time is extended, its time has come. Only the operation is timed; what keeps the schedule as long as it was is not.

use std::time::{Duration, Instant};

use criterion::{Bencher, BenchmarkId, Criterion, criterion_group, criterion_main};
use curfew_agent_state::{
    AgentAction, Decisions, EvictionOutcome, Evidence, NodeSettings, NodeState,
    testing::{at, marked, marked_with, pod_id, record, shell},
};
use curfew_core::metadata;
use jiff::Timestamp;

/// From an interaction to the eviction, in the tests' builders.
const TTL: i64 = 600;

/// How many pods. The largest is only built where something is measured: it takes a while, and a gigabyte.
fn sizes() -> &'static [i64] {
    match std::env::args().any(|argument| argument == "--bench") {
        true => &[100, 10_000, 1_000_000],
        false => &[100],
    }
}

/// A schedule with one deadline a second.
struct Schedule {
    node: NodeState,
    now: Timestamp,
    /// The pod that goes next, and the one that is touched next.
    first: i64,
    next: i64,
    extended: bool,
}

impl Schedule {
    fn of(pods: i64) -> Self {
        let mut schedule = Self {
            node: NodeState::new(NodeSettings {
                max_evictions: 5,
                blocked_after: Duration::from_secs(3600),
                evidence: Evidence::Off,
            }),
            now: at(0),
            first: 0,
            next: 0,
            extended: false,
        };
        for _ in 0..pods {
            schedule.insert();
        }
        schedule
    }

    /// Somebody reaches into another pod, which is marked then.
    fn insert(&mut self) -> Duration {
        let uid = uid(self.next);
        let known = shell(self.next);
        let (pod, seen) = (pod_id(&uid), marked(&record(&uid, known.clone()), 1));
        self.next += 1;
        let took = self.timed(|node, now, out| {
            node.learned(pod, known, now, out);
            node.seen(seen, now, out);
        });
        self.settle();
        took.0
    }

    /// The pod that was touched last is gone.
    fn cancel(&mut self) -> Duration {
        self.next -= 1;
        let uid = uid(self.next);
        let took = self.timed(|node, _, out| node.gone(&uid, out));
        self.settle();
        took.0
    }

    /// The time of a pod in the middle is extended, or not any more.
    fn extend(&mut self) -> Duration {
        let uid = uid(self.first.midpoint(self.next));
        let record = record(&uid, shell(self.first.midpoint(self.next)));
        self.extended = !self.extended;
        let length = if self.extended { "30m" } else { "45m" };
        let extension = [
            (metadata::EXTENSION, length),
            (metadata::EXTENSION_REQUESTER, "bob"),
        ];
        let seen = marked_with(&record, 2, &extension);
        let took = self.timed(|node, now, out| node.seen(seen, now, out));
        self.settle();
        took.0
    }

    /// The time of the next pod has come, and it goes.
    fn pop(&mut self) -> Duration {
        let uid = uid(self.first);
        self.now = at(self.first + TTL);
        self.first += 1;
        let (took, out) = self.timed(|node, now, out| node.tick(now, out));
        let evicts = out
            .actions
            .iter()
            .any(|action| matches!(action, AgentAction::Evict(request) if request.pod.uid == uid));
        assert!(evicts, "{uid} is not evicted: {:?}", out.actions);
        self.timed(|node, now, out| {
            node.evicted(&uid, EvictionOutcome::Accepted, now, out);
            node.gone(&uid, out);
        });
        self.settle();
        took
    }

    fn timed(
        &mut self,
        act: impl FnOnce(&mut NodeState, Timestamp, &mut Decisions),
    ) -> (Duration, Decisions) {
        let mut out = Decisions::default();
        let began = Instant::now();
        act(&mut self.node, self.now, &mut out);
        (began.elapsed(), out)
    }

    /// What would be written to disk is not gathered.
    fn settle(&mut self) {
        let mut out = Decisions::default();
        drop(self.node.take_dirty());
        self.node.written(self.now, &mut out);
    }
}

fn uid(number: i64) -> String {
    format!("{number:036}")
}

/// Times the first of two operations that come in turns.
fn time(
    bencher: &mut Bencher<'_>,
    schedule: &mut Schedule,
    operation: fn(&mut Schedule) -> Duration,
    undo: fn(&mut Schedule) -> Duration,
) {
    bencher.iter_custom(|times| {
        let took = (0..times).map(|_| {
            let took = operation(schedule);
            undo(schedule);
            took
        });
        took.sum()
    });
}

fn operations(criterion: &mut Criterion) {
    for &pods in sizes() {
        let mut schedule = Schedule::of(pods);
        let mut group = criterion.benchmark_group("schedule");
        let of = |operation| BenchmarkId::new(operation, pods);
        group.bench_function(of("insert"), |bencher| {
            time(bencher, &mut schedule, Schedule::insert, Schedule::cancel);
        });
        group.bench_function(of("cancel"), |bencher| {
            bencher.iter_custom(|times| {
                let took = (0..times).map(|_| {
                    schedule.insert();
                    schedule.cancel()
                });
                took.sum()
            });
        });
        group.bench_function(of("pop"), |bencher| {
            time(bencher, &mut schedule, Schedule::pop, Schedule::insert);
        });
        // Last, because the pod in the middle does not go when it would have gone before.
        group.bench_function(of("extend"), |bencher| {
            bencher.iter_custom(|times| (0..times).map(|_| schedule.extend()).sum());
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = operations
}
criterion_main!(benches);
