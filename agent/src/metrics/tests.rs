use std::{collections::BTreeSet, time::Duration};

use curfew_agent_state::{
    Consequence, Decisions, EvictionOrder, ExtensionChange, HoldChange, NewInteraction,
    NodeSettings, NodeState, Termination,
};
use curfew_core::PodId;
use curfew_runtime::metrics::series;
use prometheus::{Encoder, TextEncoder, proto::MetricFamily};

use super::*;
use crate::testing::{at, pod, pod_id, record, shell};

/// What Prometheus is to keep of an agent at the most.
const MOST: usize = 300;

/// The labels that tell a target, and those that would tell too much.
const NEVER: [&str; 9] = [
    "namespace",
    "pod",
    "node",
    "job",
    "instance",
    "container",
    "uid",
    "user",
    "command",
];

/// A node on which so many pods, each in a namespace of its own, were touched and are kept by budgets of their
/// own: when that is counted, and how it stands then.
fn crowded(metrics: &Metrics, pods: usize) -> Summary {
    let settings = NodeSettings {
        max_evictions: pods,
        blocked_after: Duration::from_secs(3600),
        evidence: curfew_agent_state::Evidence::Off,
    };
    let mut node_state = NodeState::new(settings);
    let (mut out, now) = (Decisions::default(), at(700));
    for n in 0..pods {
        let mut view = pod(&format!("uid-{n}"), 1);
        view.id = PodId {
            // As long as it may be, and odd.
            namespace: format!("{n:0>50}\u{1f980}\"\\\n{{}}"),
            name: format!("pod-{n}"),
            ..view.id
        };
        let mut known = shell(0);
        known.interaction.kind = Kind::ALL[n % Kind::ALL.len()];
        known.interaction.user = format!("user-{n}");
        known.interaction.request = format!("request-{n}");
        node_state.seen(view.clone(), now, &mut out);
        node_state.learned(view.id, known, now, &mut out);
    }
    node_state.tick(now, &mut out);
    for n in 0..pods {
        let refusal = EvictionOutcome::Budget {
            name: Some(format!("{n:0>253}")),
            why: format!("why-{n}"),
        };
        metrics
            .evictions
            .with_label_values(&[refusal.as_str()])
            .inc();
        node_state.evicted(&format!("uid-{n}"), refusal, now, &mut out);
    }
    for event in &out.events {
        metrics.count(event, now);
    }
    Summary::of(&node_state, now)
}

fn named<'a>(families: &'a [MetricFamily], name: &str) -> &'a MetricFamily {
    families
        .iter()
        .find(|family| family.name() == name)
        .unwrap()
}

/// The values of a gauge, by its labels in order.
fn values(families: &[MetricFamily], name: &str) -> Vec<(String, f64)> {
    let metrics = named(families, name).get_metric().iter();
    metrics
        .map(|metric| {
            let labels: Vec<_> = metric.get_label().iter().map(|pair| pair.value()).collect();
            (labels.join("/"), metric.get_gauge().get_value())
        })
        .collect()
}

#[test]
fn a_patch_that_fails_is_counted() {
    let metrics = Metrics::new().unwrap();
    let failed = DomainEvent::MarkFailed {
        pod: pod_id("u"),
        ids: String::new(),
        error: "HTTP status 429".to_owned(),
    };
    metrics.count(&failed, at(0));
    assert_eq!(metrics.patch_errors.get(), 1);
}

#[test]
fn interactions_are_counted_by_the_kind_of_actor() {
    let metrics = Metrics::new().unwrap();
    let users = [
        "alice",
        "system:serviceaccount:ci:runner",
        "system:node:n",
        "bob",
    ];
    for user in users {
        let mut known = shell(0);
        known.interaction.user = user.to_owned();
        let event = DomainEvent::Interaction(NewInteraction {
            pod: pod_id("u"),
            known,
            source: Source::Notice,
            eviction_time: None,
            dry_run: false,
            ending: None,
            more: None,
        });
        metrics.count(&event, at(0));
    }
    for (actor, expected) in [("User", 2), ("ServiceAccount", 1), ("Node", 1)] {
        let counter = metrics
            .interactions
            .with_label_values(&["exec", "Evict", actor]);
        assert_eq!(counter.get(), expected, "{actor}");
    }
}

#[test]
fn users_make_no_series_beyond_the_bound() {
    let metrics = Metrics::new().unwrap();
    let summary = crowded(&metrics, 500);
    let families = metrics.gather(&summary);
    let total = series(&families);
    assert!(total < MOST, "{total} series");
    let mut text = Vec::new();
    TextEncoder::new().encode(&families, &mut text).unwrap();
    assert!(text.len() < 64 * 1024, "{} bytes", text.len());
    assert_eq!(series(&metrics.gather(&summary)), total);

    for name in [
        "curfew_agent_namespace_pending_evictions",
        "curfew_agent_blocked_evictions",
    ] {
        let values = values(&families, name);
        assert_eq!(values.len(), 21, "{values:?}");
        assert_eq!(values.iter().map(|(_, count)| count).sum::<f64>(), 500.0);
        assert!(
            values
                .iter()
                .any(|(labels, count)| labels.starts_with("other") && *count == 480.0)
        );
    }
    // Who is gone leaves no series.
    let quiet = metrics.gather(&crowded(&metrics, 1));
    assert_eq!(
        values(&quiet, "curfew_agent_namespace_pending_evictions").len(),
        1
    );
}

#[test]
fn no_label_tells_of_a_pod_or_hides_the_target() {
    let metrics = Metrics::new().unwrap();
    let labels: BTreeSet<_> = metrics
        .catalog()
        .rows()
        .iter()
        .flat_map(|row| row.labels.iter().map(String::as_str))
        .collect();
    let never = NEVER.iter().filter(|label| labels.contains(*label));
    assert_eq!(never.count(), 0, "{labels:?}");
}

#[test]
fn what_may_happen_is_there_before_it_happens() {
    let metrics = Metrics::new().unwrap();
    let gathered = metrics.gather(&crowded(&metrics, 0));
    let there: Vec<_> = gathered.iter().map(MetricFamily::name).collect();
    let missing: Vec<_> = metrics
        .catalog()
        .rows()
        .iter()
        .map(|row| row.name.as_str())
        .filter(|name| !there.contains(name))
        .collect();
    // Of these the values are what users made.
    assert_eq!(
        missing,
        [
            "curfew_agent_namespace_pending_evictions",
            "curfew_agent_blocked_evictions"
        ]
    );
}

#[test]
fn the_longest_wait_is_that_of_the_earliest_deadline() {
    let metrics = Metrics::new().unwrap();
    let settings = NodeSettings {
        max_evictions: 1,
        blocked_after: Duration::from_secs(3600),
        evidence: curfew_agent_state::Evidence::Off,
    };
    let mut node_state = NodeState::new(settings);
    let mut out = Decisions::default();
    for (uid, second) in [("a", 100), ("b", 30), ("c", 500)] {
        let record = record(uid, shell(second));
        node_state.seen(pod(uid, 1), at(0), &mut out);
        node_state.learned(record.pod.clone(), shell(second), at(0), &mut out);
    }
    let overdue = |now| {
        let summary = Summary::of(&node_state, now);
        let families = metrics.gather(&summary);
        let of = |name| values(&families, name)[0].1;
        let next = of("curfew_agent_next_eviction_timestamp_seconds");
        (of("curfew_agent_longest_overdue_seconds"), next)
    };
    let next = at(630).as_second() as f64;
    assert_eq!(overdue(at(629)), (0.0, next));
    assert_eq!(overdue(at(750)), (120.0, next));
}

#[test]
fn what_people_set_is_counted_where_it_holds() {
    use curfew_core::record::{EvictNow, Extension, Hold};
    let metrics = Metrics::new().unwrap();
    let told = |consequence, maximum| {
        DomainEvent::Extended(ExtensionChange {
            pod: record("a", shell(0)).pod,
            id: String::new(),
            extension: Some(Extension {
                by: Duration::from_secs(60),
                text: "1m".into(),
                requester: "bob".into(),
            }),
            consequence,
            dry_run: false,
            maximum,
        })
    };
    let holds = |hold| {
        DomainEvent::Held(HoldChange {
            pod: record("a", shell(0)).pod,
            id: String::new(),
            hold,
            consequence: Consequence::EvictionAt(at(600)),
            dry_run: false,
        })
    };
    let hold = Hold {
        reason: "evidence".into(),
        requester: "bob".into(),
    };
    for event in [
        told(Consequence::EvictionAt(at(600)), false),
        told(Consequence::EvictionAt(at(600)), true),
        told(Consequence::EvictionAt(at(900)), true),
        told(
            Consequence::TooLong {
                longest: Duration::from_secs(30),
                at: at(630),
            },
            false,
        ),
        told(Consequence::TooLate, true),
        holds(Some(hold)),
        holds(None),
        DomainEvent::EvictNow(EvictionOrder {
            pod: record("a", shell(0)).pod,
            id: String::new(),
            order: EvictNow {
                reason: "misused".into(),
                requester: "ann".into(),
                since: Some(at(60)),
            },
            consequence: Consequence::EvictionAt(at(60)),
        }),
    ] {
        metrics.count(&event, at(0));
    }
    let extensions = |maximum| metrics.extensions.with_label_values(&[maximum]).get();
    assert_eq!((extensions("true"), extensions("false")), (2, 1));
    assert_eq!((metrics.holds.get(), metrics.orders.get()), (1, 1));
}

#[test]
fn how_long_pods_take_to_end_is_seen() {
    let mut node_state = NodeState::new(NodeSettings {
        max_evictions: 1,
        blocked_after: Duration::from_secs(3600),
        evidence: curfew_agent_state::Evidence::Off,
    });
    let (mut out, now) = (Decisions::default(), at(1000));
    // One within its grace period of a year, one beyond its own, one without a timer, one untouched.
    for (uid, since, grace) in [
        ("a", 700, 31_536_000),
        ("b", 800, 30),
        ("c", 100, 30),
        ("d", 50, 1),
    ] {
        let mut view = pod(uid, 1);
        view.state.terminating = true;
        view.state.termination = Some(Termination {
            since: at(since),
            grace_ends: at(since + grace),
        });
        node_state.seen(view.clone(), now, &mut out);
        if uid != "d" {
            let mut known = shell(0);
            known.interaction.request = format!("request-{uid}");
            if uid == "c" {
                known.terms.action = curfew_core::Action::Record;
            }
            node_state.learned(view.id, known, now, &mut out);
        }
    }
    let metrics = Metrics::new().unwrap();
    let families = metrics.gather(&Summary::of(&node_state, now));
    for (name, value) in [
        ("curfew_agent_terminating_pods", 3.0),
        ("curfew_agent_terminating_beyond_grace_pods", 1.0),
        ("curfew_agent_longest_terminating_seconds", 300.0),
    ] {
        assert_eq!(values(&families, name), [(String::new(), value)], "{name}");
    }
}
