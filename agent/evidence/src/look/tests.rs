use super::*;
use crate::{
    facts::{PodFacts, Touch},
    testing::{FakeProc, container_id},
};
use std::{
    fs::{self, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    thread::sleep,
    time::Duration,
};

use curfew_core::Verdict;
use jiff::SignedDuration;

const UID: &str = "u";

/// A container with real files, which was started an hour ago and touched now.
struct Pod {
    fake: FakeProc,
    evidence: Evidence,
    since: Timestamp,
}

impl Pod {
    fn new(root: &str) -> Self {
        Self::with(root, "0::/")
    }

    fn with(root: &str, more: &str) -> Self {
        let fake = FakeProc::new();
        fake.uptime(7200.0);
        fake.process(1, 0).write();
        fake.process(10, 1).write();
        fake.process(20, 10).inside('1', 'a').start(360_000).write();
        let node = fake.beside("node");
        for name in ["node/upper/tmp", "node/lower/etc", "container/shm"] {
            fake.beside(name);
        }
        fs::write(node.join("lower/etc/passwd"), "").unwrap();
        fs::write(node.join("upper/tmp/old"), "").unwrap();
        fs::write(node.join("program"), "").unwrap();
        fake.link("10/root", &node);
        fake.link("20/root", fake.beside("container"));
        fake.link("20/exe", node.join("program"));
        fake.write("20/mountinfo", format!("1 1 0:9 / / rw - {root}\n{more}\n"));
        let (evidence, limitations) = Evidence::new(&fake.path(), Mode::Files);
        assert!(limitations.is_empty());
        sleep(Duration::from_millis(40));
        let since = Timestamp::now();
        sleep(Duration::from_millis(40));
        let mut pod = Self {
            fake,
            evidence,
            since,
        };
        let touch = Touch {
            uid: UID.to_owned(),
            container: Some("app".to_owned()),
            command: "sh".to_owned(),
            kind: Kind::Exec,
            time: since,
            received: Some(since),
        };
        pod.evidence.touched(touch, since);
        pod.facts(false);
        pod.evidence.scan(since);
        pod
    }

    fn overlay() -> Self {
        Self::new("overlay overlay rw,lowerdir=/lower,upperdir=/upper,workdir=/work")
    }

    fn facts(&mut self, debugger: bool) {
        let container = |name: &str, digit, ephemeral| ContainerFacts {
            name: name.to_owned(),
            id: container_id(digit),
            ephemeral,
        };
        let mut containers = vec![container("app", 'a', false)];
        if debugger {
            containers.push(container("debugger", 'd', true));
        }
        self.evidence.pod(PodFacts {
            uid: UID.to_owned(),
            containers,
            probes: Vec::new(),
            complete: true,
        });
    }

    fn upper(&self, name: &str) -> PathBuf {
        self.fake.beside("node/upper").join(name)
    }

    /// A look when nothing can begin any more.
    fn look(&self) -> Drift {
        let later = later(self.since, SignedDuration::from_mins(1));
        self.evidence.look(UID, self.since, later)
    }
}

#[test]
fn a_container_that_nobody_changed_is_unchanged() {
    let drift = Pod::overlay().look();
    assert!(drift.is_clean(), "{drift:?}");
}

#[test]
fn changes_of_the_layer_are_found() {
    let pod = Pod::overlay();
    fs::write(pod.upper("tmp/nc"), "").unwrap();
    fs::set_permissions(pod.upper("tmp/nc"), Permissions::from_mode(0o755)).unwrap();
    fs::create_dir(pod.upper("etc")).unwrap();
    fs::write(pod.upper("etc/passwd"), "").unwrap();
    let drift = pod.look();
    assert_eq!(drift.summary(), "Changed (1 added, 1 changed)");
    assert_eq!(
        drift.findings,
        ["added /tmp/nc (executable)", "changed /etc/passwd"]
    );
}

#[test]
fn what_is_not_seen_is_said() {
    for (root, unseen) in [
        (
            "fuse.fuse-overlayfs fuse rw",
            "the runtime's snapshotter is fuse.fuse-overlayfs, not overlayfs",
        ),
        (
            "overlay overlay rw,upperdir=/missing",
            "the writable layer cannot be read: No such file or directory (os error 2)",
        ),
    ] {
        let drift = Pod::new(root).look();
        assert_eq!(drift.summary(), format!("Unknown ({unseen})"));
    }
    let more = "2 1 8:1 /srv /data rw - ext4 /dev/sda1 rw\n3 1 8:1 / /ro ro - ext4 /dev/sda1 rw";
    let drift = Pod::with("overlay o rw,upperdir=/upper,lowerdir=/lower", more).look();
    assert_eq!(
        drift.summary(),
        "Unknown (the volume at /data is not looked at)"
    );
}

#[test]
fn an_overlay_that_nobody_can_write_to_is_unchanged() {
    assert!(
        Pod::new("overlay overlay ro,lowerdir=/lower")
            .look()
            .is_clean()
    );
}

#[test]
fn a_link_of_the_container_leads_no_look_to_the_node() {
    let pod = Pod::overlay();
    symlink("/", pod.upper("host")).unwrap();
    let drift = pod.look();
    assert_eq!(drift.findings, ["added /host (link)"]);
}

#[test]
fn a_debug_container_is_a_session() {
    let mut pod = Pod::overlay();
    pod.facts(true);
    let drift = pod.look();
    assert_eq!((drift.sessions, drift.verdict), (1, Verdict::Unknown));
}

#[test]
fn a_program_that_was_changed_and_runs_is_found() {
    let pod = Pod::overlay();
    let program = pod.upper("tmp/nc");
    fs::write(&program, "").unwrap();
    fs::set_permissions(&program, Permissions::from_mode(0o755)).unwrap();
    pod.fake.link("20/exe", &program);
    let drift = pod.look();
    assert_eq!((drift.running, drift.added), (1, 1));
    assert!(drift.findings[0].starts_with("running /"), "{drift:?}");
}

#[test]
fn what_was_made_during_a_session_is_told_apart() {
    let mut pod = Pod::overlay();
    let session = pod.fake.process(30, 10).inside('1', 'a');
    session.command(&["sh"]).start(720_000).write();
    pod.evidence.scan(Timestamp::now());
    let make = |pod: &Pod, name: &str| {
        sleep(Duration::from_millis(40));
        fs::write(pod.upper(name), "").unwrap();
        fs::set_permissions(pod.upper(name), Permissions::from_mode(0o755)).unwrap();
        sleep(Duration::from_millis(40));
    };
    make(&pod, "tmp/nc");
    let left = |drift: &Drift| curfew_core::left::text(&drift.left);
    assert_eq!(left(&pod.look()), "dropped /tmp/nc", "it is open");
    pod.evidence.scan(Timestamp::now());
    pod.fake.remove(30);
    pod.evidence.scan(Timestamp::now());
    // Nobody can tell whether this is of the workload.
    make(&pod, "tmp/later");
    let drift = pod.look();
    assert_eq!((drift.added, left(&drift).as_str()), (2, "dropped /tmp/nc"));
}

#[test]
fn what_the_start_of_a_container_made_is_no_change() {
    let mut pod = Pod::overlay();
    fs::write(pod.upper("tmp/made"), "").unwrap();
    // It was started after the interaction, and nobody was in it.
    let container = pod.evidence.containers.get_mut(&container_id('a')).unwrap();
    container.start = later(pod.since, SignedDuration::from_millis(50));
    assert!(pod.look().is_clean());
    let container = pod.evidence.containers.get_mut(&container_id('a')).unwrap();
    (container.early, container.start) = (true, later(pod.since, SignedDuration::from_millis(10)));
    assert_eq!(pod.look().added, 1);
}

#[test]
fn processes_alone_never_say_unchanged() {
    let mut pod = Pod::overlay();
    pod.evidence.mode = Mode::Processes;
    assert_eq!(pod.look().summary(), "Unknown (files are not looked at)");
}

#[test]
fn what_cannot_be_seen_for_lack_of_rights_is_said() {
    let mut pod = Pod::overlay();
    pod.evidence.limitations = vec![crate::Limitation("nothing is seen".to_owned())];
    assert_eq!(pod.look().summary(), "Unknown (nothing is seen)");
}
