use super::*;
use crate::{
    facts::{ContainerFacts, Probe},
    testing::{FakeProc, at, container_id},
};
use std::time::Duration;

mod own;

const UID: &str = "pod-1";

/// A node with a container of one process, 20, whose runtime is 10.
struct Node {
    fake: FakeProc,
    evidence: Evidence,
}

impl Node {
    /// It was scanned once, a hundred seconds after the boot.
    fn new() -> Self {
        let fake = FakeProc::new();
        fake.process(1, 0).write();
        fake.process(10, 1).name("containerd-shim").write();
        fake.process(20, 10)
            .inside('1', 'a')
            .session(20)
            .start(2000)
            .write();
        let (evidence, limitations) = Evidence::new(&fake.path(), Mode::Processes);
        assert!(limitations.is_empty());
        let mut node = Self { fake, evidence };
        node.facts(&[], true);
        assert!(node.scan(100.0).is_empty());
        node
    }

    fn facts(&mut self, probes: &[(&[&str], Option<u64>)], complete: bool) {
        let probes = probes.iter().map(|(argv, timeout)| Probe {
            container: "app".to_owned(),
            argv: argv.iter().map(|word| (*word).to_owned()).collect(),
            timeout: timeout.map(Duration::from_secs),
        });
        self.evidence.pod(PodFacts {
            uid: UID.to_owned(),
            containers: vec![ContainerFacts {
                name: "app".to_owned(),
                id: container_id('a'),
                ephemeral: false,
            }],
            probes: probes.collect(),
            complete,
        });
    }

    fn scan(&mut self, second: f64) -> Vec<Sighting> {
        self.fake.uptime(second);
        self.evidence.scan(at(second))
    }

    fn touch(&mut self, command: &str, second: f64) {
        let time = Timestamp::from_second(at(second).as_second()).unwrap();
        let touch = Touch {
            uid: UID.to_owned(),
            container: Some("app".to_owned()),
            command: command.to_owned(),
            kind: Kind::Exec,
            time,
            received: Some(at(second)),
        };
        self.evidence.touched(touch, at(second));
    }

    /// A session as the runtime starts it.
    fn session(&self, pid: i32, command: &[&str], second: u64) {
        let process = self.fake.process(pid, 10).inside('1', 'a');
        process.command(command).start(second * 100).write();
    }

    fn role(&self, pid: i32) -> crate::table::Role {
        self.evidence.table.get(pid).unwrap().role
    }
}

fn bypasses(sightings: &[Sighting]) -> Vec<(String, i64)> {
    let of = |sighting: &Sighting| match sighting {
        Sighting::Bypass(bypass) => {
            assert_eq!((&bypass.uid[..], &bypass.container[..]), (UID, "app"));
            Some((
                bypass.argv.join(" "),
                (bypass.start - at(0.0)).get_seconds(),
            ))
        }
        Sighting::Ended { .. } => None,
    };
    sightings.iter().filter_map(of).collect()
}

fn ended(sightings: &[Sighting]) -> usize {
    let is_end = |sighting: &&Sighting| matches!(sighting, Sighting::Ended { .. });
    sightings.iter().filter(is_end).count()
}

#[test]
fn a_recorded_session_is_seen_from_its_begin_to_its_end() {
    let mut node = Node::new();
    node.touch("sh", 101.0);
    node.session(30, &["sh"], 101);
    assert!(node.scan(102.0).is_empty());
    assert_eq!(node.evidence.sessions(), 1);
    assert!(node.scan(110.0).is_empty());
    node.fake.remove(30);
    let sightings = node.scan(112.0);
    let uid = UID.to_owned();
    assert_eq!(
        sightings,
        [Sighting::Ended {
            uid,
            since: at(101.0)
        }]
    );
    assert_eq!(node.evidence.sessions(), 0);
    assert!(node.scan(114.0).is_empty());
}

#[test]
fn what_nobody_admitted_is_reported_once_and_within_five_seconds() {
    let mut node = Node::new();
    node.session(30, &["sh", "-c", "id"], 101);
    assert!(node.scan(102.0).is_empty());
    let sightings = node.scan(104.0);
    assert_eq!(bypasses(&sightings), [("sh -c id".to_owned(), 101)]);
    for second in [106.0, 108.0] {
        assert!(node.scan(second).is_empty());
    }
    node.fake.remove(30);
    assert_eq!(ended(&node.scan(110.0)), 1);
    assert_eq!(node.evidence.since(UID), Some(at(101.0)));
}

#[test]
fn when_a_session_can_be_judged_is_known_once_it_is_seen() {
    let mut node = Node::new();
    node.session(30, &["sh"], 101);
    node.scan(101.5);
    assert_eq!(node.evidence.due(), Some(at(104.0)));
    // One that is seen late is seen twice.
    node.session(31, &["sh"], 101);
    node.fake.remove(30);
    node.scan(103.8);
    assert_eq!(node.evidence.due(), Some(at(104.0)));
    assert_eq!(bypasses(&node.scan(104.0)).len(), 1);
    assert_eq!(node.evidence.due(), Some(at(104.8)));
    assert_eq!(bypasses(&node.scan(104.8)).len(), 1);
    assert_eq!(node.evidence.due(), None);
}

#[test]
fn one_that_enters_the_mounts_from_the_node_is_a_session() {
    let mut node = Node::new();
    let mounts = 100 + u64::from(u32::from('a'));
    node.fake
        .process(30, 1)
        .command(&["nsenter", "-t", "20", "-m"])
        .start(10_100)
        .write();
    assert!(node.scan(101.5).is_empty());
    // It was read before it had entered.
    node.fake
        .process(30, 1)
        .mounts(mounts)
        .command(&["cat", "/x"])
        .start(10_100)
        .write();
    assert!(node.scan(103.0).is_empty());
    assert_eq!(bypasses(&node.scan(105.0)), [("cat /x".to_owned(), 101)]);
}

#[test]
fn nothing_is_said_of_a_pod_that_is_not_known() {
    let mut node = Node::new();
    node.evidence.forget(UID);
    node.session(30, &["sh"], 101);
    for second in [102.0, 104.0, 108.0] {
        assert!(node.scan(second).is_empty());
    }
    node.facts(&[], true);
    assert_eq!(bypasses(&node.scan(110.0)).len(), 1);
}

#[test]
fn a_session_from_before_is_reported_only_if_all_interactions_are_known() {
    for complete in [true, false] {
        let fake = FakeProc::new();
        fake.process(1, 0).write();
        fake.process(10, 1).write();
        fake.process(20, 10).inside('1', 'a').start(2000).write();
        let evidence = Evidence::new(&fake.path(), Mode::Processes).0;
        let mut node = Node { fake, evidence };
        node.session(30, &["sh"], 50);
        node.facts(&[], complete);
        assert!(node.scan(100.0).is_empty());
        let found: Vec<_> = [102.0, 104.0]
            .iter()
            .flat_map(|second| node.scan(*second))
            .collect();
        assert_eq!(bypasses(&found).len(), usize::from(complete));
        assert_eq!(node.evidence.sessions(), 1);
    }
}

#[test]
fn what_a_session_leaves_running_is_found() {
    let mut node = Node::new();
    node.touch("sh", 101.0);
    node.session(30, &["sh"], 101);
    node.fake
        .process(31, 30)
        .inside('1', 'a')
        .session(30)
        .start(10_150)
        .write();
    node.scan(102.0);
    // Its parents end, one of them before it was ever seen.
    node.fake.remove(30);
    node.fake
        .process(31, 20)
        .inside('1', 'a')
        .session(30)
        .start(10_150)
        .write();
    node.fake
        .process(32, 20)
        .inside('1', 'a')
        .session(30)
        .command(&["sleep", "1000"])
        .start(10_180)
        .write();
    assert_eq!(ended(&node.scan(104.0)), 1);
    let drift = node.evidence.look(UID, at(101.0), at(105.0));
    assert_eq!(drift.running, 2);
    assert_eq!(
        drift.findings,
        ["left running: x", "left running: sleep 1000"]
    );
    let left = curfew_core::left::text(&drift.left);
    assert_eq!(left, "running sleep, running x");
    assert_eq!(drift.sessions, 0);
}

#[test]
fn what_left_its_session_unseen_is_doubtful() {
    let mut node = Node::new();
    node.touch("sh", 101.0);
    node.session(30, &["sh"], 101);
    node.scan(102.0);
    node.fake
        .process(32, 20)
        .inside('1', 'a')
        .command(&["nc", "-l"])
        .start(10_300)
        .write();
    // This one was there before.
    node.fake
        .process(33, 20)
        .inside('1', 'a')
        .start(5000)
        .write();
    node.fake.remove(30);
    node.scan(104.0);
    let drift = node.evidence.look(UID, at(101.0), at(105.0));
    assert_eq!(drift.running, 0);
    assert!(
        drift
            .unseen
            .contains(&"a session may have left running: nc -l".to_owned()),
        "{drift:?}"
    );
    assert_eq!(drift.left, [], "it may be another's");
}

#[test]
fn a_zombie_has_ended() {
    let mut node = Node::new();
    node.touch("sh", 101.0);
    node.session(30, &["sh"], 101);
    node.scan(102.0);
    node.fake
        .process(30, 10)
        .inside('1', 'a')
        .zombie()
        .start(10_100)
        .write();
    assert_eq!(ended(&node.scan(104.0)), 1);
}

#[test]
fn a_container_that_is_gone_has_no_new_first_process() {
    let mut node = Node::new();
    node.touch("sh", 101.0);
    node.session(30, &["sh"], 101);
    node.scan(102.0);
    node.fake.remove(20);
    node.session(31, &["sh"], 103);
    node.scan(104.0);
    let drift = node.evidence.look(UID, at(101.0), at(105.0));
    assert!(
        drift
            .unseen
            .contains(&"no process of container app is seen".to_owned())
    );
    node.fake.remove(30);
    node.fake.remove(31);
    node.scan(106.0);
    assert_eq!(node.evidence.sessions(), 0);
}

#[test]
fn what_was_reported_and_recorded_explains_no_other_session() {
    let mut node = Node::new();
    node.session(30, &["sh"], 101);
    node.scan(102.0);
    assert_eq!(bypasses(&node.scan(104.0)).len(), 1);
    let touch = Touch {
        uid: UID.to_owned(),
        container: Some("app".to_owned()),
        command: "sh".to_owned(),
        kind: Kind::Bypass,
        time: at(101.0),
        received: None,
    };
    node.evidence.touched(touch, at(104.5));
    node.session(31, &["sh"], 105);
    node.scan(106.0);
    assert_eq!(bypasses(&node.scan(109.0)).len(), 1);
}

#[test]
fn several_at_once_need_several_interactions() {
    let mut node = Node::new();
    node.touch("sh", 101.0);
    node.touch("ls", 101.0);
    for pid in 30..33 {
        node.session(pid, &["sh"], 101);
    }
    node.scan(102.0);
    assert_eq!(node.evidence.sessions(), 3);
    assert_eq!(bypasses(&node.scan(104.0)).len(), 1);
}

#[test]
fn a_pod_that_is_not_known_or_has_nothing_is_unknown() {
    let mut node = Node::new();
    let drift = node.evidence.look("other", at(0.0), at(100.0));
    assert_eq!(drift.summary(), "Unknown (the pod is not known)");
    let mut facts = node.evidence.pods[UID].facts.clone().unwrap();
    facts.containers.clear();
    node.evidence.pod(facts);
    let drift = node.evidence.look(UID, at(0.0), at(100.0));
    assert_eq!(
        drift.summary(),
        "Unknown (the pod has no container that runs)"
    );
}

#[test]
fn what_ends_without_being_seen_is_said() {
    let mut node = Node::new();
    let touch = |kind| Touch {
        uid: UID.to_owned(),
        container: Some("app".to_owned()),
        command: String::new(),
        kind,
        time: at(101.0),
        received: None,
    };
    node.evidence.touched(touch(Kind::Exec), at(101.0));
    let awaited = "the session of a recent interaction was not seen".to_owned();
    assert!(
        node.evidence
            .look(UID, at(101.0), at(105.0))
            .unseen
            .contains(&awaited)
    );
    assert!(
        !node
            .evidence
            .look(UID, at(101.0), at(140.0))
            .unseen
            .contains(&awaited)
    );
    node.evidence.touched(touch(Kind::Attach), at(101.0));
    let drift = node.evidence.look(UID, at(101.0), at(140.0));
    assert!(
        drift
            .unseen
            .contains(&"the end of an attach is not seen".to_owned())
    );
}

#[test]
fn without_a_proc_nothing_happens() {
    let (mut evidence, limitations) = Evidence::new(Path::new("/nonexistent"), Mode::Files);
    assert_eq!(limitations.len(), 1);
    assert!(evidence.scan(at(100.0)).is_empty());
    assert_eq!(
        evidence.look(UID, at(0.0), at(100.0)).verdict,
        curfew_core::Verdict::Unknown
    );
}
