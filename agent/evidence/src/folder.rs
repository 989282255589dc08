//! Opens files below a folder without following a link, and reads what is known of them.
//!
//! Whoever is in a container may rename its folders and make links while they are looked at. So each step is taken
//! from a folder that is open, and nothing but folders is ever opened.

use jiff::Timestamp;
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{
        AtFlags, FileType, Mode, OFlags, ResolveFlags, Statx, StatxAttributes, StatxFlags, openat,
        openat2, statx,
    },
    io::{self, Errno},
    path::Arg,
};

use crate::time::of_file;

/// How often a path is resolved anew that was changed meanwhile.
const TRIES: u32 = 4;

/// For folders: to read what is in them.
const READ: OFlags = OFlags::RDONLY
    .union(OFlags::DIRECTORY)
    .union(OFlags::NOFOLLOW)
    .union(OFlags::CLOEXEC);

/// For anything: to ask what it is.
const NAME: OFlags = OFlags::PATH.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// What is known of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FileStat {
    pub(crate) kind: FileType,
    /// Whether it is a regular file that somebody may execute.
    pub(crate) executable: bool,
    /// The time of the last change of anything of it. No system call can set it.
    pub(crate) ctime: Timestamp,
    pub(crate) mtime: Timestamp,
    /// When it was made, where the file system says so.
    pub(crate) btime: Option<Timestamp>,
    pub(crate) device: (u32, u32),
    /// Whether something is mounted there.
    pub(crate) mount: bool,
    /// The mark of an overlay for something of the image that is gone.
    pub(crate) whiteout: bool,
}

/// What a file is. It is not asked for beyond this machine.
pub(crate) fn stat<P: Arg>(folder: impl AsFd, path: P) -> io::Result<FileStat> {
    let flags = AtFlags::SYMLINK_NOFOLLOW
        | AtFlags::NO_AUTOMOUNT
        | AtFlags::EMPTY_PATH
        | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    Ok(file_stat(&statx(folder, path, flags, wanted)?))
}

/// What the file is that a link of the kernel leads to.
pub(crate) fn stat_target<P: Arg>(folder: impl AsFd, path: P) -> io::Result<FileStat> {
    let flags = AtFlags::NO_AUTOMOUNT | AtFlags::STATX_DONT_SYNC;
    let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
    Ok(file_stat(&statx(folder, path, flags, wanted)?))
}

fn file_stat(stat: &Statx) -> FileStat {
    let mode = u32::from(stat.stx_mode);
    let kind = FileType::from_raw_mode(mode);
    let has_btime = stat.stx_mask & StatxFlags::BTIME.bits() != 0;
    let time = |time: rustix::fs::StatxTimestamp| of_file(time.tv_sec, time.tv_nsec);
    FileStat {
        kind,
        executable: kind == FileType::RegularFile && mode & 0o111 != 0,
        ctime: time(stat.stx_ctime),
        mtime: time(stat.stx_mtime),
        btime: has_btime.then(|| time(stat.stx_btime)),
        device: (stat.stx_dev_major, stat.stx_dev_minor),
        mount: stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
        whiteout: kind == FileType::CharacterDevice
            && (stat.stx_rdev_major, stat.stx_rdev_minor) == (0, 0),
    }
}

/// Opens a folder in another one.
pub(crate) fn open<P: Arg>(folder: impl AsFd, name: P) -> io::Result<OwnedFd> {
    openat(folder, name, READ, Mode::empty())
}

/// Opens a folder below another one. No part of the path may be a link.
pub(crate) fn open_below(folder: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    resolved(folder, path, READ, resolve)
}

/// Opens a file below a folder only to ask what it is. No part of the path but the last may be a link.
pub(crate) fn name_below(folder: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    let (above, name) = match path.iter().rposition(|byte| *byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (&b""[..], path),
    };
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let above = resolved(folder, above, NAME | OFlags::DIRECTORY, resolve)?;
    openat(above, name, NAME, Mode::empty())
}

/// Opens a folder that the node's root names. Links are followed as a process of the node would follow them.
pub(crate) fn open_in_root(root: impl AsFd, path: &[u8]) -> io::Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    resolved(root, path, READ, resolve)
}

fn resolved(
    folder: impl AsFd,
    path: &[u8],
    flags: OFlags,
    resolve: ResolveFlags,
) -> io::Result<OwnedFd> {
    let below = path.iter().position(|byte| *byte != b'/');
    let below = below.map_or(&b"."[..], |at| &path[at..]);
    for _ in 0..TRIES {
        match openat2(&folder, below, flags, Mode::empty(), resolve) {
            Err(Errno::AGAIN) => {}
            // A kernel before 5.6, or a seccomp profile that does not know it.
            Err(Errno::NOSYS | Errno::PERM) => return by_steps(folder, below, flags),
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// The same without `openat2`. Then a link in the path is an error, wherever it leads.
fn by_steps(folder: impl AsFd, path: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
    let mut at = openat(&folder, c".", NAME | OFlags::DIRECTORY, Mode::empty())?;
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => return Err(Errno::XDEV),
            part => at = openat(&at, part, NAME | OFlags::DIRECTORY, Mode::empty())?,
        }
    }
    openat(&at, c".", flags, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn folder(path: &std::path::Path) -> OwnedFd {
        open(rustix::fs::CWD, path).unwrap()
    }

    #[test]
    fn links_are_followed_within_the_root_only() {
        let temp = tempfile::tempdir().unwrap();
        let at = temp.path();
        fs::create_dir_all(at.join("layers/1/diff")).unwrap();
        fs::create_dir(at.join("l")).unwrap();
        symlink("../layers/1/diff", at.join("l/A")).unwrap();
        symlink("/layers", at.join("absolute")).unwrap();
        symlink("/etc", at.join("host")).unwrap();
        symlink("../../../../../etc", at.join("up")).unwrap();
        let root = folder(at);
        assert!(open_in_root(&root, b"/layers/1/diff").is_ok());
        assert!(open_in_root(&root, b"/l/A/.").is_ok());
        assert!(open_in_root(&root, b"/absolute/1").is_ok());
        for path in [&b"/host"[..], b"/up", b"/missing"] {
            assert!(open_in_root(&root, path).is_err());
        }
    }

    #[test]
    fn below_a_folder_no_link_is_followed() {
        let temp = tempfile::tempdir().unwrap();
        let at = temp.path();
        fs::create_dir_all(at.join("a/b")).unwrap();
        fs::write(at.join("a/file"), "").unwrap();
        symlink("/etc", at.join("a/etc")).unwrap();
        symlink("b", at.join("a/self")).unwrap();
        let root = folder(at);
        assert!(open_below(&root, b"a/b").is_ok() && open_below(&root, b"/").is_ok());
        for path in [
            &b"a/etc"[..],
            b"a/self",
            b"a/self/.",
            b"../",
            b"a/../../x",
            b"a/file",
        ] {
            assert!(open_below(&root, path).is_err(), "{}", path.escape_ascii());
            assert!(by_steps(&root, path, READ).is_err());
        }
        assert!(by_steps(&root, b"a/b", READ).is_ok());
        let link = name_below(&root, b"a/etc").unwrap();
        assert_eq!(stat(&link, c"").unwrap().kind, FileType::Symlink);
        assert!(name_below(&root, b"a/etc/passwd").is_err());
        assert!(name_below(&root, b"a/self/x").is_err());
    }

    #[test]
    fn a_file_says_what_it_is() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("file"), "").unwrap();
        let root = folder(temp.path());
        let file = stat(&root, "file").unwrap();
        assert_eq!(file.kind, FileType::RegularFile);
        assert!(!file.executable && !file.whiteout && !file.mount);
        assert!(file.btime.is_none_or(|btime| btime <= file.ctime));
        assert!(stat(&root, "missing").is_err());
    }
}
