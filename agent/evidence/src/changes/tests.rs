use super::*;
use crate::{
    folder::open,
    walk::{Budget, walk},
};
use std::{
    fs::{self, File, Permissions},
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    thread::sleep,
    time::Duration,
};

use rustix::fs::{CWD, Mode, mknodat};
use tempfile::TempDir;

/// A layer above that of an image.
struct Layer {
    temp: TempDir,
    since: Timestamp,
    ended: Option<Timestamp>,
    sessions: Vec<Span>,
    open: Vec<&'static str>,
}

impl Layer {
    /// What `before` makes in both was there before the first interaction.
    fn new(before: impl Fn(&Path)) -> Self {
        let temp = tempfile::tempdir().unwrap();
        for name in ["upper", "lower"] {
            fs::create_dir(temp.path().join(name)).unwrap();
        }
        before(&temp.path().join("upper"));
        Self {
            temp,
            since: now(),
            ended: None,
            sessions: Vec::new(),
            open: Vec::new(),
        }
    }

    fn upper(&self, name: &str) -> std::path::PathBuf {
        self.temp.path().join("upper").join(name)
    }

    fn image(&self, name: &str) {
        let path = self.temp.path().join("lower").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "").unwrap();
    }

    fn found(&self) -> Findings {
        let mut findings = Findings::default();
        let is_open = |path: &[u8]| self.open.iter().any(|open| open.as_bytes() == path);
        let folder = |name: &str| open(CWD, self.temp.path().join(name)).unwrap();
        let mut judge = Judge {
            findings: &mut findings,
            since: self.since,
            container_since: self.since,
            ended: self.ended,
            sessions: self.sessions.iter().collect(),
            lower: Lower::new(vec![folder("lower")]),
            is_open: &is_open,
        };
        walk(folder("upper"), b"", &mut Budget::default(), &mut judge);
        findings
    }

    fn texts(&self) -> Vec<String> {
        let mut texts = self.found().texts();
        texts.sort();
        texts
    }
}

/// A time between what was done before and what is done after: the clock of files advances in steps.
fn now() -> Timestamp {
    sleep(Duration::from_millis(30));
    let now = Timestamp::now();
    sleep(Duration::from_millis(30));
    now
}

fn executable(path: &Path) {
    fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn what_was_there_is_no_finding() {
    let layer = Layer::new(|upper| {
        fs::create_dir_all(upper.join("a/b")).unwrap();
        fs::write(upper.join("a/b/file"), "x").unwrap();
        symlink("/etc", upper.join("link")).unwrap();
    });
    // Reading changes nothing.
    fs::read(layer.upper("a/b/file")).unwrap();
    let found = layer.found();
    assert!(layer.texts().is_empty() && found.unseen.is_empty());
    assert_eq!(
        found.added + found.changed + found.deleted + found.workload,
        0
    );
}

#[test]
fn added_files_are_found_programs_first() {
    let layer = Layer::new(|upper| fs::create_dir(upper.join("tmp")).unwrap());
    fs::write(layer.upper("tmp/data"), "").unwrap();
    fs::write(layer.upper("tmp/nc"), "").unwrap();
    executable(&layer.upper("tmp/nc"));
    fs::create_dir(layer.upper("tmp/folder")).unwrap();
    symlink("/etc/shadow", layer.upper("tmp/link")).unwrap();
    let mut found = layer.found();
    assert_eq!((found.added, found.changed, found.deleted), (4, 0, 0));
    let texts = found.texts();
    assert_eq!(texts[0], "added /tmp/nc (executable)");
    for text in [
        "added /tmp/data",
        "added /tmp/folder/",
        "added /tmp/link (link)",
    ] {
        assert!(texts.contains(&text.to_owned()), "{texts:?}");
    }
}

#[test]
fn a_file_of_the_image_or_of_before_is_changed() {
    let layer = Layer::new(|upper| fs::write(upper.join("own"), "x").unwrap());
    layer.image("etc/passwd");
    // As overlayfs copies it up.
    fs::create_dir(layer.upper("etc")).unwrap();
    fs::write(layer.upper("etc/passwd"), "x").unwrap();
    fs::write(layer.upper("own"), "y").unwrap();
    assert_eq!(layer.texts(), ["changed /etc/passwd", "changed /own"]);
}

#[test]
fn a_forged_mtime_and_a_changed_mode_are_seen() {
    let layer = Layer::new(|upper| {
        for name in ["forged", "mode"] {
            File::create(upper.join(name)).unwrap();
        }
    });
    let file = File::options()
        .write(true)
        .open(layer.upper("forged"))
        .unwrap();
    file.set_modified(std::time::UNIX_EPOCH).unwrap();
    executable(&layer.upper("mode"));
    assert_eq!(
        layer.texts(),
        ["changed /forged", "changed /mode (executable)"]
    );
}

#[test]
fn what_is_gone_from_the_layer_leaves_its_folder_changed() {
    let layer = Layer::new(|upper| {
        fs::create_dir(upper.join("a")).unwrap();
        fs::write(upper.join("a/file"), "").unwrap();
    });
    fs::remove_file(layer.upper("a/file")).unwrap();
    let found = layer.found();
    assert_eq!((found.added, found.changed, found.deleted), (0, 0, 1));
    assert_eq!(layer.texts(), ["something in /a was removed or renamed"]);
}

#[test]
fn a_folder_whose_mode_changed_is_changed() {
    let layer = Layer::new(|upper| fs::create_dir(upper.join("a")).unwrap());
    fs::set_permissions(layer.upper("a"), Permissions::from_mode(0o777)).unwrap();
    assert_eq!(layer.texts(), ["changed /a/"]);
}

#[test]
fn whiteouts_are_deleted_files() {
    // Since Linux 5.8 this takes no right.
    let whiteout = |path: &Path| {
        mknodat(
            CWD,
            path,
            rustix::fs::FileType::CharacterDevice,
            Mode::empty(),
            0,
        )
    };
    let layer = Layer::new(|upper| {
        fs::create_dir(upper.join("old")).unwrap();
        whiteout(&upper.join("old/gone")).unwrap();
    });
    fs::create_dir(layer.upper("bin")).unwrap();
    layer.image("bin/curl");
    // Overlayfs uses one file for all of them, so that the ctime of the first changes, too.
    fs::hard_link(layer.upper("old/gone"), layer.upper("bin/curl")).unwrap();
    let found = layer.found();
    assert_eq!((found.added, found.changed, found.deleted), (0, 0, 1));
    assert_eq!(layer.texts(), ["deleted /bin/curl"]);
}

#[test]
fn what_the_workload_writes_is_told_apart() {
    let mut layer = Layer::new(|upper| {
        for name in ["open.log", "closed.log", "session"] {
            fs::write(upper.join(name), "").unwrap();
        }
    });
    fs::write(layer.upper("session"), "x").unwrap();
    fs::write(layer.upper("open.log"), "x").unwrap();
    layer.open = vec!["/open.log"];
    layer.ended = Some(Timestamp::now());
    sleep(Duration::from_millis(1100));
    fs::write(layer.upper("closed.log"), "x").unwrap();
    fs::write(layer.upper("new.log"), "x").unwrap();
    // A program is never taken for the workload's.
    fs::write(layer.upper("late"), "x").unwrap();
    executable(&layer.upper("late"));
    assert_eq!(
        layer.texts(),
        ["added /late (executable)", "changed /session"]
    );
    assert!(layer.found().workload >= 3);
    // While a session is open nobody can tell.
    layer.ended = None;
    assert!(layer.texts().contains(&"changed /closed.log".to_owned()));
}

#[test]
fn programs_that_were_made_during_a_session_were_dropped() {
    let mut layer = Layer::new(|upper| fs::create_dir(upper.join("tmp")).unwrap());
    layer.image("bin/sh");
    let make = |name: &str| {
        fs::write(layer.upper(name), "").unwrap();
        executable(&layer.upper(name));
    };
    make("before");
    let from = now();
    make("tmp/xmrig");
    make("held");
    fs::write(layer.upper("data"), "").unwrap();
    fs::create_dir(layer.upper("bin")).unwrap();
    make("bin/sh");
    let to = now();
    make("after");
    let left = |layer: &Layer| curfew_core::left::text(&Vec::from_iter(layer.found().left));
    assert_eq!(left(&layer), "", "nobody was there");
    layer.sessions = vec![Span::test(from, to)];
    assert_eq!(left(&layer), "dropped /tmp/xmrig, dropped held");
    // What the workload still writes is its own.
    layer.open = vec!["/held"];
    assert_eq!(left(&layer), "dropped /tmp/xmrig");
}

#[test]
fn of_many_dropped_programs_the_same_are_told_each_time() {
    let mut layer = Layer::new(|_| ());
    let from = now();
    for name in 0..100 {
        let name = layer.upper(&format!("p{name:02}"));
        fs::write(&name, "").unwrap();
        executable(&name);
    }
    layer.sessions = vec![Span::test(from, now())];
    let names: Vec<_> = layer
        .found()
        .left
        .into_iter()
        .map(|left| left.program)
        .collect();
    let expected: Vec<_> = (0..MAX_LEFT).map(|name| format!("p{name:02}")).collect();
    assert_eq!(names, expected);
}

#[test]
fn texts_are_bounded_and_counts_are_not() {
    let layer = Layer::new(|_| ());
    for name in 0..100 {
        fs::write(layer.upper(&format!("{name}")), "").unwrap();
    }
    assert_eq!(layer.found().added, 100);
    assert_eq!(layer.texts().len(), MAX_FINDINGS);
}

#[test]
fn a_link_in_the_image_leads_nowhere() {
    let layer = Layer::new(|_| ());
    symlink("/etc", layer.temp.path().join("lower/conf")).unwrap();
    fs::create_dir(layer.upper("conf")).unwrap();
    fs::write(layer.upper("conf/passwd"), "").unwrap();
    assert!(layer.texts().contains(&"added /conf/passwd".to_owned()));
}
