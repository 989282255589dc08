use super::*;
use crate::{
    facts::{ContainerFacts, Mode},
    testing::{FakeProc, container_id},
};
use std::sync::mpsc::{Receiver as Reports, Sender, channel};

use curfew_core::{Kind, Verdict};

/// How long a report may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

fn start(evidence: Evidence) -> (Sender<Command>, Reports<Report>, JoinHandle<()>) {
    let (commands, received) = channel();
    let (told, reports) = channel();
    let thread = spawn(evidence, received, move |report| {
        let _ = told.send(report);
    })
    .unwrap();
    (commands, reports, thread)
}

fn wait<T>(reports: &Reports<Report>, mut wanted: impl FnMut(Report) -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        let report = reports
            .recv_timeout(PATIENCE.saturating_sub(begin.elapsed()))
            .unwrap();
        if let Some(found) = wanted(report) {
            return found;
        }
    }
}

fn facts() -> PodFacts {
    PodFacts {
        uid: "u".to_owned(),
        containers: vec![ContainerFacts {
            name: "app".to_owned(),
            id: container_id('a'),
            ephemeral: false,
        }],
        probes: Vec::new(),
        complete: true,
    }
}

/// A machine that was booted a thousand seconds ago and has one container.
fn node() -> FakeProc {
    let fake = FakeProc::new();
    fake.process(1, 0).write();
    fake.process(10, 1).write();
    fake.process(20, 10).inside('1', 'a').write();
    fake
}

#[test]
fn it_reports_sessions_bypasses_and_looks() {
    let fake = node();
    let (commands, reports, thread) = start(Evidence::new(&fake.path(), Mode::Processes).0);
    commands.send(Command::Pod(facts())).unwrap();
    fake.process(30, 10)
        .inside('1', 'a')
        .command(&["sh"])
        .start(99_000)
        .write();
    let bypass = wait(&reports, |report| match report {
        Report::Bypass(bypass) => Some(bypass),
        _ => None,
    });
    assert_eq!(
        (&bypass.uid[..], &bypass.argv[..]),
        ("u", &["sh".to_owned()][..])
    );
    wait(&reports, |report| {
        (report == Report::Sessions(1)).then_some(())
    });
    let since = Timestamp::now();
    commands
        .send(Command::Look {
            uid: "u".to_owned(),
            since,
        })
        .unwrap();
    let drift = |wanted: bool| {
        move |report| match report {
            Report::Drift { drift, asked, .. } if asked == wanted => Some(drift),
            _ => None,
        }
    };
    assert_eq!(wait(&reports, drift(true)).sessions, 1);
    fake.remove(30);
    let last = wait(&reports, drift(false));
    assert_eq!((last.sessions, last.verdict), (0, Verdict::Unknown));
    commands.send(Command::Stop).unwrap();
    thread.join().unwrap();
}

#[test]
fn a_new_interaction_is_waited_for() {
    let fake = node();
    let (commands, reports, thread) = start(Evidence::new(&fake.path(), Mode::Processes).0);
    wait(&reports, |report| {
        matches!(report, Report::Sessions(_)).then_some(())
    });
    let touch = Touch {
        uid: "u".to_owned(),
        container: Some("app".to_owned()),
        command: String::new(),
        kind: Kind::Exec,
        time: Timestamp::now(),
        received: Some(Timestamp::now()),
    };
    let begin = Instant::now();
    commands.send(Command::Touched(touch)).unwrap();
    for _ in 0..5 {
        wait(&reports, |report| {
            matches!(report, Report::Sessions(_)).then_some(())
        });
    }
    assert!(begin.elapsed() < 5 * SCAN);
    drop(commands);
    thread.join().unwrap();
}

#[test]
fn a_panic_is_told_and_survived() {
    assert_eq!(caught::<()>(|| panic!("of {}", 1)), Err("of 1".to_owned()));
    assert_eq!(caught::<()>(|| panic!("plain")), Err("plain".to_owned()));
    assert_eq!(caught(|| 1), Ok(1));
}
