//! The file system is full, read-only or of another owner, and then it is not any more.

use std::{
    fs,
    io::{ErrorKind, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
};

use crate::api::ApiServer;
use crate::process::{Agent, Host, NOBODY, eventually, notice};

/// A small file system of its own.
struct Tmpfs(PathBuf);

impl Tmpfs {
    fn mount(at: &Path, options: &str) -> Self {
        fs::create_dir_all(at).unwrap();
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "tmpfs"])
            .arg(at));
        Self(at.to_owned())
    }

    fn remount(&self, options: &str) {
        let options = format!("remount,{options}");
        run(Command::new("mount").args(["-o", &options]).arg(&self.0));
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        run(Command::new("umount").arg("--lazy").arg(&self.0));
    }
}

fn run(command: &mut Command) {
    let status = command.status().unwrap();
    assert!(
        status.success(),
        "{command:?}: {status}; these tests mount file systems and need root"
    );
}

/// Tells notices until one is refused because of the store; returns those that were taken.
fn tell_until_refused(agent: &Agent<'_>, tag: &str) -> Vec<String> {
    let mut taken = Vec::new();
    eventually("a notice is refused", || {
        let uid = format!("{tag}-{}", taken.len());
        match agent.tell(&notice(&uid, &uid)) {
            Some(Ok(_)) => {
                taken.push(uid);
                None
            }
            Some(Err((503, why))) if why.contains("store") => Some(()),
            Some(Err(other)) => panic!("{other:?}"),
            None => None,
        }
    });
    assert!(agent.readiness().contains("the store is not open"));
    taken
}

fn tell_until_taken(agent: &Agent<'_>, uid: &str) {
    eventually("a notice is taken again", || {
        agent.tell(&notice(uid, uid))?.ok()
    });
}

fn assert_holds<'a>(agent: &Agent<'_>, uids: impl IntoIterator<Item = &'a String>) {
    let holdings = agent.holdings();
    assert!(holdings.open && holdings.set_aside.is_empty());
    for uid in uids {
        let held = holdings.records.iter().any(|record| record.pod.uid == *uid);
        assert!(held, "{uid} is missing");
    }
}

#[test]
fn a_full_disk_refuses_and_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let tmpfs = Tmpfs::mount(&folder.path().join("disk"), "size=4m");
    let api = ApiServer::start();
    let host = Host::new(folder.path(), &tmpfs.0.join("store"), &api);
    let agent = host.start(None);
    tell_until_taken(&agent, "first");
    let filler = tmpfs.0.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    let full = loop {
        if let Err(error) = file.write_all(&[0; 4096]) {
            break error;
        }
    };
    // An open file keeps its space when it is removed.
    drop(file);
    assert_eq!(full.kind(), ErrorKind::StorageFull);
    let mut taken = tell_until_refused(&agent, "full");
    fs::remove_file(&filler).unwrap();
    tell_until_taken(&agent, "last");
    taken.extend(["first".to_owned(), "last".to_owned()]);
    assert_holds(&agent, &taken);
    agent.kill();
    assert_holds(&host.start(None), &taken);
}

#[test]
fn a_read_only_disk_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let tmpfs = Tmpfs::mount(&folder.path().join("disk"), "size=4m,ro");
    let api = ApiServer::start();
    let host = Host::new(folder.path(), &tmpfs.0.join("store"), &api);
    let agent = host.start(None);
    assert!(tell_until_refused(&agent, "read-only").is_empty());
    tmpfs.remount("rw");
    tell_until_taken(&agent, "last");
}

#[test]
fn a_folder_of_another_owner_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let api = ApiServer::start();
    let host = Host::new(folder.path(), &folder.path().join("store"), &api);
    let agent = host.start(Some(NOBODY));
    assert!(tell_until_refused(&agent, "foreign").is_empty());
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o777)).unwrap();
    tell_until_taken(&agent, "last");
}
