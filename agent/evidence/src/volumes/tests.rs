use super::*;
use crate::{
    changes::{Findings, Lower},
    mountinfo::mounts,
};
use std::{fs, os::unix::fs::symlink};

use rustix::fs::CWD;

fn mount(line: &str) -> Mount {
    mounts(line.as_bytes()).remove(0)
}

#[test]
fn each_mount_of_a_usual_container_is_known() {
    for (line, expected) in [
        ("1 1 0:9 / / rw - overlay overlay rw", Care::None),
        ("1 1 0:9 / /proc rw - proc proc rw", Care::None),
        ("1 1 0:9 / /proc/acpi ro - tmpfs tmpfs ro", Care::None),
        ("1 1 0:5 /null /proc/kcore rw - tmpfs tmpfs rw", Care::None),
        ("1 1 0:9 / /dev rw - tmpfs tmpfs rw", Care::Look),
        ("1 1 0:9 / /dev/pts rw - devpts devpts rw", Care::None),
        ("1 1 0:9 / /dev/mqueue rw - mqueue mqueue rw", Care::None),
        ("1 1 0:9 / /dev/shm rw - tmpfs shm rw", Care::Look),
        ("1 1 0:5 /null /dev/null rw - devtmpfs udev rw", Care::None),
        ("1 1 0:5 / /dev rw - devtmpfs udev rw", Care::Unseen),
        ("1 1 0:9 / /sys ro - sysfs sysfs ro", Care::None),
        (
            "1 1 0:9 / /sys/fs/cgroup rw - cgroup2 cgroup rw",
            Care::None,
        ),
        (
            "1 1 8:1 /var/lib/kubelet/pods/u/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw",
            Care::Kubelet,
        ),
        (
            "1 1 8:1 /x/pods/u/containers/app/1234 /dev/termination-log rw - ext4 /dev/sda1 rw",
            Care::None,
        ),
        (
            "1 1 8:1 /x/pods/u/containers/app/1234 /why rw - ext4 /dev/sda1 rw",
            Care::None,
        ),
        (
            "1 1 8:1 /x/pods/u/volumes/kubernetes.io~empty-dir/tmp /tmp rw - ext4 /dev/sda1 rw",
            Care::Look,
        ),
        (
            "1 1 0:9 / /var/run/secrets/kubernetes.io/serviceaccount ro - tmpfs tmpfs rw",
            Care::None,
        ),
        (
            "1 1 8:1 /x/pods/u/volumes/kubernetes.io~configmap/c /c ro - ext4 /dev/sda1 rw",
            Care::None,
        ),
        ("1 1 8:1 /data /data rw - ext4 /dev/sda1 rw", Care::Unseen),
        ("1 1 0:9 / /nfs rw - nfs4 server:/ rw", Care::Unseen),
    ] {
        assert_eq!(care(&mount(line)), expected, "{line}");
    }
}

#[test]
fn nothing_below_a_remote_file_system_is_opened() {
    let all = mounts(
        b"1 1 0:9 / / rw - overlay overlay rw\n\
          1 1 0:8 / /data rw - fuse.evil evil rw\n\
          1 1 0:7 / /data/shm rw - tmpfs tmpfs rw\n\
          1 1 0:7 / /database rw - tmpfs tmpfs rw\n",
    );
    assert!(!is_reachable(&all, &all[2]) && is_reachable(&all, &all[3]));
}

/// A container with one volume of this device.
fn found(root: &std::path::Path, line: &str, since: Timestamp, starts: &[Timestamp]) -> Findings {
    let mut findings = Findings::default();
    let mut judge = Judge {
        findings: &mut findings,
        since,
        container_since: since,
        ended: None,
        sessions: Vec::new(),
        lower: Lower::default(),
        is_open: &|_| false,
    };
    let root = crate::folder::open(CWD, root).unwrap();
    let mounts = mounts(line.as_bytes());
    // As if it was mounted in two containers.
    let mut done = Vec::new();
    for _ in 0..2 {
        look(
            &mounts,
            &root,
            &mut done,
            &mut Budget::default(),
            starts,
            &mut judge,
        );
    }
    findings
}

/// The device of a folder as it stands among the mounts.
fn device(path: &std::path::Path) -> String {
    let (major, minor) = stat(CWD, path).unwrap().device;
    format!("{major}:{minor}")
}

#[test]
fn a_volume_is_looked_at_once_and_by_its_own_device() {
    let temp = tempfile::tempdir().unwrap();
    let volume = temp.path().join("data");
    fs::create_dir(&volume).unwrap();
    let since = later(Timestamp::now(), SignedDuration::from_millis(-20));
    fs::write(volume.join("payload"), "").unwrap();
    let root = "/x/volumes/kubernetes.io~empty-dir/data";
    let line = format!(
        "1 1 {} {root} /data rw - ext4 /dev/sda1 rw",
        device(&volume)
    );
    let mut findings = found(temp.path(), &line, since, &[]);
    assert_eq!(findings.added + findings.changed, 1);
    assert!(findings.texts()[0].ends_with("/data/payload"));
    let other = format!("1 1 250:250 {root} /data rw - ext4 /dev/sda1 rw");
    let findings = found(temp.path(), &other, since, &[]);
    assert_eq!(findings.added, 0);
    assert_eq!(findings.unseen, ["the volume at /data cannot be read"]);
}

#[test]
fn a_link_in_the_way_is_not_followed() {
    let temp = tempfile::tempdir().unwrap();
    symlink("/etc", temp.path().join("data")).unwrap();
    let line = format!(
        "1 1 {} / /data rw - tmpfs tmpfs rw",
        device(std::path::Path::new("/etc"))
    );
    let findings = found(temp.path(), &line, Timestamp::UNIX_EPOCH, &[]);
    assert_eq!(findings.added + findings.changed, 0);
    assert_eq!(findings.unseen, ["the volume at /data cannot be read"]);
}

#[test]
fn what_the_kubelet_writes_for_a_start_is_no_finding() {
    let temp = tempfile::tempdir().unwrap();
    fs::create_dir(temp.path().join("etc")).unwrap();
    fs::write(temp.path().join("etc/hosts"), "").unwrap();
    let line = format!(
        "1 1 {} /x/etc-hosts /etc/hosts rw - ext4 /dev/sda1 rw",
        device(temp.path())
    );
    let epoch = Timestamp::UNIX_EPOCH;
    let mut findings = found(temp.path(), &line, epoch, &[epoch]);
    assert_eq!(findings.texts(), ["changed /etc/hosts"]);
    let start = later(Timestamp::now(), SignedDuration::from_secs(1));
    assert_eq!(found(temp.path(), &line, epoch, &[start]).changed, 0);
}
