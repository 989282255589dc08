use super::*;
use std::{
    ffi::OsStr,
    fs,
    os::unix::{ffi::OsStrExt, fs::symlink},
    path::Path,
};

#[derive(Default)]
struct Seen {
    entries: Vec<Vec<u8>>,
    left: Vec<Vec<u8>>,
    unseen: Vec<String>,
}

impl Visitor for Seen {
    fn entry(&mut self, path: &[u8], _: &FileStat, _: &FileStat) -> bool {
        self.entries.push(path.to_vec());
        path.ends_with(b"explains")
    }

    fn leave(&mut self, path: &[u8], _: &FileStat, explained: bool) {
        let mut path = path.to_vec();
        path.extend(if explained { &b"+"[..] } else { b"" });
        self.left.push(path);
    }

    fn unseen(&mut self, clause: String) {
        self.unseen.push(clause);
    }
}

fn walked(folder: &Path, mut budget: Budget) -> Seen {
    let mut seen = Seen::default();
    walk(
        open(rustix::fs::CWD, folder).unwrap(),
        b"",
        &mut budget,
        &mut seen,
    );
    seen.entries.sort();
    seen.left.sort();
    seen
}

#[test]
fn everything_is_visited_and_no_link_is_followed() {
    let temp = tempfile::tempdir().unwrap();
    let at = temp.path();
    fs::create_dir_all(at.join("a/b")).unwrap();
    fs::write(at.join("a/b/explains"), "").unwrap();
    symlink("/etc", at.join("etc")).unwrap();
    symlink(".", at.join("a/loop")).unwrap();
    symlink("self", at.join("self")).unwrap();
    fs::write(at.join(OsStr::from_bytes(b"two\nlines \xff")), "").unwrap();
    let seen = walked(at, Budget::default());
    let expected: [&[u8]; 7] = [
        b"/a",
        b"/a/b",
        b"/a/b/explains",
        b"/a/loop",
        b"/etc",
        b"/self",
        b"/two\nlines \xff",
    ];
    assert_eq!(seen.entries, expected);
    assert_eq!(seen.left, [&b""[..], b"/a", b"/a/b+"]);
    assert!(seen.unseen.is_empty());
}

#[test]
fn entries_are_bounded() {
    let temp = tempfile::tempdir().unwrap();
    for name in 0..300 {
        fs::write(temp.path().join(name.to_string()), "").unwrap();
    }
    let budget = Budget {
        entries: 100,
        ..Budget::default()
    };
    let seen = walked(temp.path(), budget);
    assert_eq!(seen.entries.len(), 100);
    assert_eq!(seen.unseen, ["the layer has too many entries"]);
}

#[test]
fn time_is_bounded() {
    let temp = tempfile::tempdir().unwrap();
    for name in 0..300 {
        fs::write(temp.path().join(name.to_string()), "").unwrap();
    }
    let budget = Budget {
        deadline: Instant::now(),
        ..Budget::default()
    };
    let seen = walked(temp.path(), budget);
    assert!(seen.entries.len() < 300);
    assert_eq!(seen.unseen, ["the layer takes too long"]);
}

#[test]
fn depth_is_bounded() {
    let temp = tempfile::tempdir().unwrap();
    let mut fd = open(rustix::fs::CWD, temp.path()).unwrap();
    for _ in 0..MAX_DEPTH + 50 {
        rustix::fs::mkdirat(&fd, "deep", rustix::fs::Mode::RWXU).unwrap();
        fd = open(&fd, "deep").unwrap();
    }
    let seen = walked(temp.path(), Budget::default());
    assert_eq!(seen.entries.len(), MAX_DEPTH);
    assert_eq!(seen.unseen, ["the layer has folders that are too deep"]);
}

#[test]
fn memory_is_bounded() {
    let temp = tempfile::tempdir().unwrap();
    for name in 0..100 {
        fs::create_dir(temp.path().join(format!("folder-{name}"))).unwrap();
    }
    let budget = Budget {
        waiting: 200,
        ..Budget::default()
    };
    assert_eq!(
        walked(temp.path(), budget).unseen,
        ["the layer has too many folders"]
    );
}

#[test]
fn what_changes_meanwhile_does_no_harm() {
    let temp = tempfile::tempdir().unwrap();
    let at = temp.path().to_owned();
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let path = at.join("folder");
                let _ = fs::create_dir_all(path.join("x/y"));
                let _ = fs::rename(&path, at.join("other"));
                let _ = symlink("/proc", &path);
                let _ = fs::remove_file(&path);
                let _ = fs::remove_dir_all(at.join("other"));
            }
        });
        for _ in 0..2000 {
            let seen = walked(&at, Budget::default());
            let inside = |path: &Vec<u8>| {
                [&b"/folder"[..], b"/other"]
                    .iter()
                    .any(|known| path.starts_with(known))
            };
            assert!(seen.entries.iter().all(inside));
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}
