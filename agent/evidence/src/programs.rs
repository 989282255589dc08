//! What the processes of a container run and write.

use std::collections::HashSet;

use curfew_core::behaviour::program_of_process;
use jiff::Timestamp;
use rustix::{
    fs::{Mode, OFlags, RawDir, openat, readlinkat},
    io::{self, Errno},
};

use crate::{
    folder::stat_target,
    process::{Pid, Proc},
    shown::shown,
};

/// The most files of processes that are looked at.
const MAX_FILES: usize = 4096;

/// The bits of `flags` in `fdinfo` that say how a file was opened, and the values that allow to write.
const ACCESS: u32 = 0o3;
const WRITES: [u32; 2] = [0o1, 0o2];

/// The program of a process, if it was changed since: a program in the image was not, wherever it was started from.
///
/// # Errors
/// When the process may not be looked at.
pub(crate) fn changed(proc: &Proc, pid: Pid, since: Timestamp) -> io::Result<Option<String>> {
    let root = proc.root().ok_or(Errno::NOENT)?;
    let file = match stat_target(root, format!("{pid}/exe")) {
        Ok(file) => file,
        // It has ended.
        Err(Errno::NOENT | Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    if file.ctime < since {
        return Ok(None);
    }
    let link = proc.link(pid, "exe").unwrap_or_default();
    Ok(Some(format!("running {}", shown(&link))))
}

/// The name of the program that a process runs, as far as the process tells; none if it has ended.
pub(crate) fn name(proc: &Proc, pid: Pid) -> Option<String> {
    let file = proc.link(pid, "exe").ok();
    let file = file.map(|file| shown(&file));
    program_of_process(&proc.command(pid), file.as_deref())
}

/// The files that the processes hold open for writing, as the container names them.
pub(crate) fn written(proc: &Proc, pids: &[Pid]) -> HashSet<Vec<u8>> {
    let mut found = HashSet::new();
    let mut left = MAX_FILES;
    for &pid in pids {
        // What cannot be read is not held by the workload.
        let _ = files(proc, pid, &mut left, &mut found);
    }
    found
}

fn files(proc: &Proc, pid: Pid, left: &mut usize, found: &mut HashSet<Vec<u8>>) -> io::Result<()> {
    let root = proc.root().ok_or(Errno::NOENT)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let folder = openat(root, format!("{pid}/fd"), flags, Mode::empty())?;
    let mut buffer = Vec::with_capacity(4096);
    let mut entries = RawDir::new(&folder, buffer.spare_capacity_mut());
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes().starts_with(b".") {
            continue;
        }
        *left = left.checked_sub(1).ok_or(Errno::MFILE)?;
        let Ok(link) = readlinkat(&folder, name, Vec::<u8>::new()) else {
            continue;
        };
        let Ok(number) = name.to_str() else { continue };
        // Pipes and sockets have no path.
        if link.as_bytes().starts_with(b"/")
            && proc
                .read(pid, &format!("fdinfo/{number}"))
                .is_some_and(|info| writes(&info))
        {
            found.insert(link.into_bytes());
        }
    }
    Ok(())
}

fn writes(info: &[u8]) -> bool {
    let line = info
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"flags:"));
    let flags = line
        .and_then(|flags| std::str::from_utf8(flags).ok())
        .and_then(|flags| u32::from_str_radix(flags.trim(), 8).ok());
    flags.is_some_and(|flags| WRITES.contains(&(flags & ACCESS)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::File, path::Path};

    #[test]
    fn the_flags_of_a_file_say_whether_it_is_written() {
        for (info, expected) in [
            (&b"pos:\t0\nflags:\t0100001\nmnt_id:\t1\n"[..], true),
            (b"flags:\t02100002\n", true),
            (b"flags:\t0100000\n", false),
            (b"flags:\t0100003\n", false),
            (b"flags:\tx\n", false),
            (b"\xff", false),
        ] {
            assert_eq!(writes(info), expected);
        }
    }

    #[test]
    fn the_files_of_this_process_are_found() {
        let temp = tempfile::tempdir().unwrap();
        let path = |name: &str| temp.path().canonicalize().unwrap().join(name);
        let written_to = File::create(path("written")).unwrap();
        File::create(path("read")).unwrap();
        let read = File::open(path("read")).unwrap();
        let proc = Proc::new(Path::new("/proc"));
        let own = Pid::try_from(std::process::id()).unwrap();
        let found = written(&proc, &[own, 0]);
        let has = |name: &str| found.contains(path(name).as_os_str().as_encoded_bytes());
        assert!(has("written") && !has("read"));
        drop((written_to, read));
    }

    #[test]
    fn a_program_is_judged_by_its_own_times() {
        let proc = Proc::new(Path::new("/proc"));
        let own = Pid::try_from(std::process::id()).unwrap();
        assert_eq!(changed(&proc, own, Timestamp::now()), Ok(None));
        let found = changed(&proc, own, Timestamp::UNIX_EPOCH).unwrap().unwrap();
        assert!(found.starts_with("running /"));
        assert_eq!(changed(&proc, 0, Timestamp::UNIX_EPOCH), Ok(None));
    }
}
