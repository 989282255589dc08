//! What a container can write to beside its own layer.

use jiff::{SignedDuration, Timestamp};
use rustix::{fd::OwnedFd, fs::FileType, io::Errno};

use crate::{
    changes::Judge,
    folder::{FileStat, name_below, open_below, stat},
    mountinfo::Mount,
    shown::shown,
    time::later,
    walk::{Budget, walk},
};

/// Kept by the kernel: there are no files to leave in it.
const PSEUDO: &[&[u8]] = &[
    b"proc",
    b"sysfs",
    b"cgroup",
    b"cgroup2",
    b"devpts",
    b"mqueue",
    b"securityfs",
];

/// File systems that answer from this machine. A folder below another one may never be opened.
const LOCAL: &[&[u8]] = &[
    b"overlay",
    b"tmpfs",
    b"ext2",
    b"ext3",
    b"ext4",
    b"xfs",
    b"btrfs",
    b"f2fs",
    b"zfs",
    b"devtmpfs",
    b"proc",
    b"sysfs",
];

/// Files that the kubelet writes for the pod.
const OF_KUBELET: &[&[u8]] = &[b"/etc/hosts", b"/etc/hostname", b"/etc/resolv.conf"];

/// Where a container says why it ended, as the kubelet keeps it.
const TERMINATION: &[u8] = b"/containers/";

const EMPTY_DIR: &[u8] = b"/volumes/kubernetes.io~empty-dir/";

/// What is to be done with a mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Care {
    /// Nobody can leave anything there.
    None,
    /// All below it is looked at.
    Look,
    /// A file that the kubelet writes.
    Kubelet,
    /// It may have been changed, and is not looked at.
    Unseen,
}

fn care(mount: &Mount) -> Care {
    let below = |folder: &[u8]| mount.point.starts_with(folder);
    let kind = &mount.kind[..];
    if mount.point == b"/"
        || mount.read_only
        || PSEUDO.contains(&kind)
        || below(b"/proc/")
        || below(b"/sys/")
    {
        Care::None
    } else if kind == b"devtmpfs" && below(b"/dev/") {
        // A device of the node.
        Care::None
    } else if OF_KUBELET.contains(&&mount.point[..]) {
        Care::Kubelet
    } else if mount.point == b"/dev/termination-log" || is_termination(&mount.root) {
        Care::None
    } else if kind == b"tmpfs" || contains(&mount.root, EMPTY_DIR) {
        Care::Look
    } else {
        Care::Unseen
    }
}

/// `…/pods/UID/containers/NAME/…`
fn is_termination(root: &[u8]) -> bool {
    contains(root, b"/pods/") && contains(root, TERMINATION)
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// How long before the start of a container the kubelet writes its files anew, whatever somebody has written there.
const BEFORE_START: SignedDuration = SignedDuration::from_secs(30);

/// Looks at what is mounted in a container. `done` has what was looked at in another container of the pod; `starts` are
/// the times when the containers of the pod were started.
pub(crate) fn look(
    mounts: &[Mount],
    root: &OwnedFd,
    done: &mut Vec<((u32, u32), Vec<u8>)>,
    budget: &mut Budget,
    starts: &[Timestamp],
    judge: &mut Judge<'_>,
) {
    for (at, mount) in mounts.iter().enumerate() {
        // What is mounted over is out of reach.
        if mounts[at + 1..]
            .iter()
            .any(|later| later.point == mount.point)
        {
            continue;
        }
        let care = care(mount);
        let key = (mount.device, mount.root.clone());
        if care == Care::None || done.contains(&key) {
            continue;
        }
        let name = shown(&mount.point);
        if care == Care::Unseen || !is_reachable(mounts, mount) {
            (judge.findings).unseen(format!("the volume at {name} is not looked at"));
            continue;
        }
        done.push(key);
        match open_below(root, &mount.point) {
            Ok(folder) if stat(&folder, c"").is_ok_and(|file| is_there(mount, &file)) => {
                let since = judge.since;
                if mount.point == b"/dev" {
                    // The runtime makes it for the container.
                    judge.since = since.max(judge.container_since);
                }
                walk(folder, &mount.point, budget, judge);
                judge.since = since;
            }
            Err(Errno::NOTDIR) => single(root, mount, care, starts, judge),
            _ => (judge.findings).unseen(format!("the volume at {name} cannot be read")),
        }
    }
}

/// Whether all that stands above the mount answers from this machine.
fn is_reachable(mounts: &[Mount], mount: &Mount) -> bool {
    mounts.iter().all(|above| {
        let rest = mount.point.strip_prefix(&above.point[..]);
        let is_above = above.point == b"/" || rest.is_some_and(|rest| rest.first() == Some(&b'/'));
        !is_above || LOCAL.contains(&&above.kind[..])
    })
}

/// Whether the file is that of the mount: the container may have mounted another one over it.
fn is_there(mount: &Mount, file: &FileStat) -> bool {
    // Each subvolume of btrfs has a device of its own.
    let is_device = mount.kind == b"btrfs" || file.device == mount.device;
    is_device && file.kind != FileType::Symlink
}

fn single(root: &OwnedFd, mount: &Mount, care: Care, starts: &[Timestamp], judge: &mut Judge<'_>) {
    let for_start = |time: Timestamp| {
        care == Care::Kubelet
            && (starts.iter()).any(|start| (later(*start, -BEFORE_START)..=*start).contains(&time))
    };
    match name_below(root, &mount.point).and_then(|file| stat(file, c"")) {
        Ok(file) if is_there(mount, &file) => {
            if !for_start(file.ctime) {
                judge.single(&mount.point, &file);
            }
        }
        _ => {
            let name = shown(&mount.point);
            (judge.findings).unseen(format!("the volume at {name} cannot be read"));
        }
    }
}

#[cfg(test)]
mod tests;
