//! What is no session.

use super::*;

#[test]
fn processes_of_the_node_are_none() {
    let mut node = Node::new();
    node.fake.process(30, 1).start(10_100).write();
    node.fake.process(31, 30).start(10_100).write();
    for second in [102.0, 104.0, 106.0] {
        assert!(node.scan(second).is_empty());
    }
    assert_eq!(node.evidence.sessions(), 0);
}

#[test]
fn a_container_with_the_mounts_of_the_node_claims_no_process_of_it() {
    let mut node = Node::new();
    node.fake
        .process(21, 10)
        .inside('1', 'a')
        .cgroup(format!("0::/kubepods/{}\n", container_id('b')))
        .mounts(1)
        .write();
    node.fake.process(30, 1).start(10_100).write();
    for second in [102.0, 104.0, 106.0] {
        assert!(node.scan(second).is_empty());
    }
    assert_eq!(node.evidence.sessions(), 0);
}

#[test]
fn what_the_container_starts_is_its_own() {
    let mut node = Node::new();
    node.fake
        .process(30, 20)
        .inside('1', 'a')
        .session(20)
        .start(10_100)
        .write();
    node.fake
        .process(31, 30)
        .inside('1', 'a')
        .session(31)
        .start(10_150)
        .write();
    for second in [102.0, 104.0, 106.0] {
        assert!(node.scan(second).is_empty());
    }
    assert_eq!(
        node.role(31),
        crate::table::Role::Workload { doubtful: false }
    );
}

#[test]
fn probes_are_no_sessions() {
    let mut node = Node::new();
    node.facts(
        &[(&["sh", "-c", "exec pg_isready -U $USER"], Some(1))],
        true,
    );
    for (pid, command) in [
        (30, &["sh", "-c", "exec pg_isready -U $USER"][..]),
        (31, &["pg_isready", "-U", "shop"]),
    ] {
        node.session(pid, command, 101);
    }
    for second in [102.0, 104.0, 120.0] {
        assert!(node.scan(second).is_empty());
    }
    assert_eq!(node.evidence.sessions(), 0);
    // What they leave running is the workload's.
    node.fake
        .process(40, 20)
        .inside('1', 'a')
        .session(31)
        .start(10_200)
        .write();
    node.scan(122.0);
    assert!(!matches!(
        node.role(40),
        crate::table::Role::Workload { doubtful: true }
    ));
}

#[test]
fn a_probe_that_became_another_program_is_waited_for() {
    let mut node = Node::new();
    node.facts(&[(&["/check.sh"], Some(4))], true);
    node.session(30, &["curl", "localhost"], 101);
    assert!(node.scan(102.0).is_empty() && node.scan(104.0).is_empty());
    node.fake.remove(30);
    assert!(node.scan(105.0).is_empty() && node.scan(112.0).is_empty());
    // One that goes on is none.
    node.session(31, &["curl", "localhost"], 120);
    assert!(node.scan(121.0).is_empty());
    assert_eq!(bypasses(&node.scan(126.0)).len(), 1);
}

#[test]
fn a_hook_at_the_start_is_no_session() {
    let mut node = Node::new();
    node.facts(&[(&["/start.sh"], None)], true);
    node.session(30, &["migrate"], 22);
    for second in [102.0, 104.0, 108.0] {
        assert!(node.scan(second).is_empty());
    }
    assert_eq!(node.evidence.sessions(), 0);
}

#[test]
fn an_orphan_of_a_shared_pid_namespace_is_no_session() {
    let mut node = Node::new();
    // The first process of the pod, in whose PID namespace the containers are.
    node.fake
        .process(15, 10)
        .inside('1', 'f')
        .start(1900)
        .write();
    node.fake
        .process(30, 15)
        .inside('1', 'a')
        .start(10_100)
        .write();
    for second in [102.0, 104.0, 108.0] {
        assert!(node.scan(second).is_empty());
    }
    assert_eq!(node.evidence.sessions(), 0);
}

#[test]
fn orphans_of_a_container_with_the_processes_of_the_node_are_none() {
    let fake = FakeProc::new();
    fake.process(1, 0).write();
    fake.process(10, 1).write();
    fake.process(20, 10)
        .inside('1', 'a')
        .pids(&[20])
        .start(2000)
        .write();
    let evidence = Evidence::new(&fake.path(), Mode::Processes).0;
    let mut node = Node { fake, evidence };
    node.facts(&[], true);
    node.scan(100.0);
    node.session(30, &["daemon"], 101);
    for second in [102.0, 104.0, 108.0] {
        assert!(node.scan(second).is_empty());
    }
    assert_eq!(node.evidence.sessions(), 0);
    // Recorded ones are known all the same.
    node.touch("sh", 110.0);
    node.session(31, &["sh"], 110);
    node.scan(111.0);
    assert_eq!(node.evidence.sessions(), 1);
}

#[test]
fn a_process_of_the_runtime_is_waited_for() {
    let mut node = Node::new();
    let runtime = node
        .fake
        .process(30, 10)
        .inside('1', 'a')
        .name("runc:[2:INIT]");
    runtime.command(&["runc", "init"]).start(10_100).write();
    node.scan(102.0);
    assert_eq!(node.evidence.sessions(), 0);
    node.session(30, &["sh"], 101);
    node.scan(102.5);
    assert_eq!(node.evidence.sessions(), 1);
    assert_eq!(bypasses(&node.scan(104.0)), [("sh".to_owned(), 101)]);
}

#[test]
fn the_first_process_of_a_container_is_known_however_long_its_start_takes() {
    let mut node = Node::new();
    let name = "runc:[2:INIT]";
    // Before it has that name, it is in no container.
    for tenth in 0..5 {
        node.fake.process(40, 10).name("exe").start(10_050).write();
        node.scan(100.5 + f64::from(tenth) / 10.0);
    }
    for tenth in 2..9 {
        let starting = node.fake.process(40, 10).name(name).inside('2', 'b');
        starting.start(10_050).write();
        node.scan(101.0 + f64::from(tenth) / 10.0);
    }
    // As soon as it runs, somebody is in it.
    let started = node.fake.process(40, 10).inside('2', 'b').start(10_050);
    started.write();
    node.fake
        .process(41, 10)
        .inside('2', 'b')
        .start(10_190)
        .write();
    for second in [102.0, 104.0, 106.0] {
        node.scan(second);
    }
    assert_eq!(node.role(40), crate::table::Role::Init);
    assert!(node.role(41).session().is_some(), "{:?}", node.role(41));
    assert_eq!(node.evidence.sessions(), 1);
}

#[test]
fn one_that_came_later_does_not_stay_the_first_process_of_a_container() {
    let mut node = Node::new();
    let session = node.fake.process(41, 10).inside('2', 'b').start(10_190);
    session.write();
    node.scan(102.0);
    assert_eq!(node.role(41), crate::table::Role::Init);
    let first = node.fake.process(40, 10).inside('2', 'b').start(10_050);
    first.write();
    node.scan(104.0);
    node.scan(106.0);
    assert_eq!(node.role(40), crate::table::Role::Init);
    assert!(node.role(41).session().is_some(), "{:?}", node.role(41));
}

#[test]
fn one_that_came_later_and_is_gone_does_not_stand_for_the_first_process() {
    let mut node = Node::new();
    let first = |node: &Node, name| {
        let process = node.fake.process(40, 10).name(name);
        process.inside('2', 'b').start(10_050).write();
    };
    first(&node, "runc:[2:INIT]");
    let session = node.fake.process(41, 10).inside('2', 'b').start(10_190);
    session.write();
    node.scan(102.0);
    node.fake.remove(41);
    node.scan(104.0);
    first(&node, "sh");
    node.scan(106.0);
    node.scan(108.0);
    assert_eq!(node.role(40), crate::table::Role::Init);
    assert_eq!(node.evidence.sessions(), 0);
}

#[test]
fn a_first_process_that_was_not_listed_once_is_still_the_first() {
    let mut node = Node::new();
    node.touch("sh", 101.0);
    node.session(30, &["sh"], 101);
    node.scan(101.5);
    node.fake.remove(20);
    node.scan(102.0);
    let first = node.fake.process(20, 10).inside('1', 'a').session(20);
    first.start(2000).write();
    for second in [104.0, 106.0, 110.0] {
        assert!(node.scan(second).is_empty());
    }
    assert_eq!(node.role(20), crate::table::Role::Init);
    assert_eq!(node.evidence.sessions(), 1);
}

/// What `runc` does, as it was seen on a busy node: it puts its own process (50) into the cgroup, which then starts
/// the one that becomes the container's (52) and ends.
fn begin_with_an_unnamed_process(node: &Node, pod: char, container: char) {
    let runtime = node.fake.process(49, 10).name("runc").start(10_090);
    runtime.write();
    let first = node.fake.process(50, 49).name("6").inside(pod, container);
    first.mounts(1).pids(&[50]).start(10_095).write();
}

fn go_on_with_the_next(node: &Node, pod: char, container: char, command: &[&str]) {
    node.fake.remove(49);
    node.fake.remove(50);
    let next = node.fake.process(52, 10).inside(pod, container);
    next.command(command).start(10_097).write();
}

#[test]
fn a_process_of_the_runtime_without_a_name_is_not_the_first_of_a_container() {
    let mut node = Node::new();
    begin_with_an_unnamed_process(&node, '2', 'b');
    node.scan(101.0);
    assert_eq!(node.role(50), crate::table::Role::Undecided);
    go_on_with_the_next(&node, '2', 'b', &["sleep"]);
    for second in [101.1, 102.0, 104.0, 106.0] {
        assert!(node.scan(second).is_empty());
    }
    assert_eq!(node.role(52), crate::table::Role::Init);
    assert_eq!(node.evidence.sessions(), 0);
}

#[test]
fn a_process_of_the_runtime_without_a_name_is_no_session() {
    let mut node = Node::new();
    node.touch("sh", 101.0);
    begin_with_an_unnamed_process(&node, '1', 'a');
    node.scan(101.0);
    assert_eq!(node.evidence.sessions(), 0);
    go_on_with_the_next(&node, '1', 'a', &["sh"]);
    for second in [101.1, 102.0, 104.0, 106.0] {
        assert!(bypasses(&node.scan(second)).is_empty());
    }
    assert_eq!(node.evidence.sessions(), 1);
}

#[test]
fn one_that_stays_where_its_parent_put_it_is_a_session_after_a_while() {
    let mut node = Node::new();
    let entered = node.fake.process(50, 1).inside('1', 'a').mounts(1);
    entered.command(&["sh"]).start(10_100).write();
    for second in [101.0, 104.0, 110.0] {
        assert!(node.scan(second).is_empty());
    }
    node.scan(112.0);
    assert_eq!(bypasses(&node.scan(114.0)), [("sh".to_owned(), 101)]);
}
