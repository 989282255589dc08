//! Reads `/proc`, or what stands in for it in tests.
//!
//! A process may end at any moment and may call itself whatever it likes. So nothing here is an error: what cannot be
//! read or understood is none.

use std::{mem::MaybeUninit, path::Path};

use rustix::{
    fd::OwnedFd,
    fs::{CWD, Mode, OFlags, RawDir, openat, readlinkat},
    io::{self, Errno},
};

/// A process ID as the reader of `/proc` sees it.
pub(crate) type Pid = i32;

/// The most bytes that are read of most files.
const MOST: usize = 16 * 1024;

/// The most words of a command, and the most bytes of all of them.
const MAX_WORDS: usize = 64;
const MAX_COMMAND: usize = 4096;

/// A kernel thread (`PF_KTHREAD`).
const KERNEL_THREAD: u64 = 0x0020_0000;

/// Where processes are read.
#[derive(Debug)]
pub(crate) struct Proc {
    root: Option<OwnedFd>,
}

/// What `stat` of a process says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) name: Vec<u8>,
    pub(crate) parent: Pid,
    pub(crate) session: Pid,
    /// When it was started, in ticks since the boot.
    pub(crate) start: u64,
    /// It has ended, and only its parent has not heard of it.
    pub(crate) zombie: bool,
    pub(crate) kernel: bool,
}

impl Proc {
    pub(crate) fn new(path: &Path) -> Self {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Self {
            root: openat(CWD, path, flags, Mode::empty()).ok(),
        }
    }

    /// Visits each process with the number of its inode. The kernel gives the folder of another process another inode,
    /// so that a PID that was used again is noticed without reading anything of it.
    pub(crate) fn processes(&self, mut visit: impl FnMut(Pid, u64)) -> io::Result<()> {
        let root = self.root.as_ref().ok_or(Errno::NOENT)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = openat(root, c".", flags, Mode::empty())?;
        let mut buffer = [MaybeUninit::uninit(); 8 * 1024];
        let mut entries = RawDir::new(folder, &mut buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name.first().is_some_and(u8::is_ascii_digit)
                && let Some(pid) = number(name)
            {
                visit(pid, entry.ino());
            }
        }
        Ok(())
    }

    /// The beginning of a file of the process.
    pub(crate) fn read(&self, pid: Pid, name: &str) -> Option<Vec<u8>> {
        self.read_file(&format!("{pid}/{name}"), MOST)
    }

    /// The beginning of a file below the root.
    pub(crate) fn read_file(&self, name: &str, most: usize) -> Option<Vec<u8>> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let file = openat(self.root.as_ref()?, name, flags, Mode::empty()).ok()?;
        let mut text = Vec::new();
        let mut buffer = [0; 4096];
        while text.len() < most {
            match io::read(&file, &mut buffer) {
                Ok(0) => break,
                Ok(length) => text.extend_from_slice(&buffer[..length]),
                Err(Errno::INTR) => {}
                Err(_) => return None,
            }
        }
        text.truncate(most);
        Some(text)
    }

    /// Where a link of the process leads.
    pub(crate) fn link(&self, pid: Pid, name: &str) -> io::Result<Vec<u8>> {
        let root = self.root.as_ref().ok_or(Errno::NOENT)?;
        readlinkat(root, format!("{pid}/{name}"), Vec::<u8>::new()).map(|link| link.into_bytes())
    }

    /// The folder that a link of the process leads to, for others to be opened below it.
    pub(crate) fn folder(&self, pid: Pid, name: &str) -> io::Result<OwnedFd> {
        let root = self.root.as_ref().ok_or(Errno::NOENT)?;
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        openat(root, format!("{pid}/{name}"), flags, Mode::empty())
    }

    pub(crate) fn root(&self) -> Option<&OwnedFd> {
        self.root.as_ref()
    }

    pub(crate) fn stat(&self, pid: Pid) -> Option<Stat> {
        stat(&self.read(pid, "stat")?)
    }

    /// The command of the process: what it was started with, or what it wrote over that.
    pub(crate) fn command(&self, pid: Pid) -> Vec<String> {
        let text = self.read_file(&format!("{pid}/cmdline"), MAX_COMMAND);
        command(&text.unwrap_or_default())
    }

    /// The number of its mount namespace.
    pub(crate) fn mounts_of(&self, pid: Pid) -> Option<u64> {
        namespace(&self.link(pid, "ns/mnt").ok()?)
    }

    /// Its IDs, from the PID namespace of the reader to its own.
    pub(crate) fn pids(&self, pid: Pid) -> Vec<Pid> {
        pids(&self.read(pid, "status").unwrap_or_default())
    }
}

/// A number that is nothing else.
fn number<T: std::str::FromStr>(text: &[u8]) -> Option<T> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// The name may contain spaces, parentheses and ends of lines: it ends at the last parenthesis.
pub(crate) fn stat(text: &[u8]) -> Option<Stat> {
    let open = text.iter().position(|byte| *byte == b'(')?;
    let close = text.iter().rposition(|byte| *byte == b')')?;
    let name = text.get(open + 1..close)?.to_owned();
    let mut fields = text[close + 1..]
        .split(u8::is_ascii_whitespace)
        .filter(|field| !field.is_empty());
    let state = fields.next()?;
    let parent = number(fields.next()?)?;
    let session = number(fields.nth(1)?)?;
    let flags: u64 = number(fields.nth(2)?)?;
    Some(Stat {
        name,
        parent,
        session,
        start: number(fields.nth(12)?)?,
        zombie: matches!(state, b"Z" | b"X" | b"x"),
        kernel: flags & KERNEL_THREAD != 0,
    })
}

fn command(text: &[u8]) -> Vec<String> {
    let text = text.strip_suffix(b"\0").unwrap_or(text);
    if text.is_empty() {
        return Vec::new();
    }
    text.split(|byte| *byte == 0)
        .take(MAX_WORDS)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect()
}

fn namespace(link: &[u8]) -> Option<u64> {
    number(link.strip_prefix(b"mnt:[")?.strip_suffix(b"]")?)
}

fn pids(status: &[u8]) -> Vec<Pid> {
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"NSpid:"));
    line.unwrap_or_default()
        .split(u8::is_ascii_whitespace)
        .filter_map(number)
        .collect()
}

/// The set of capabilities in force, of `status`.
pub(crate) fn capabilities(status: &[u8]) -> Option<u64> {
    let line = status
        .split(|byte| *byte == b'\n')
        .find_map(|line| line.strip_prefix(b"CapEff:"))?;
    u64::from_str_radix(std::str::from_utf8(line).ok()?.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STAT: &str = "77 (tail -f) ) S 5 77 76 34816 77 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 \
                        1000 200 18446744073709551615";

    #[test]
    fn a_name_may_hold_anything() {
        for name in ["sh", "tail -f) ", ") R 1 1 1 (", "two\nlines", ""] {
            let text = STAT.replacen("tail -f) ", name, 1);
            let stat = stat(text.as_bytes()).unwrap();
            assert_eq!(stat.name, name.as_bytes());
            assert_eq!((stat.parent, stat.session, stat.start), (5, 76, 4711));
            assert!(!stat.zombie && !stat.kernel);
        }
        assert!(stat(STAT.replace(" S ", " Z ").as_bytes()).unwrap().zombie);
        let kernel = STAT.replace("4194560", "2097216");
        assert!(stat(kernel.as_bytes()).unwrap().kernel);
    }

    #[test]
    fn commands_are_split_and_bounded() {
        assert_eq!(command(b"sh\0-c\0echo a b\0"), ["sh", "-c", "echo a b"]);
        assert_eq!(command(b"printf\0\0"), ["printf", ""]);
        assert_eq!(command(b"title without end"), ["title without end"]);
        assert_eq!(command(b"a\xff\0"), ["a\u{fffd}"]);
        assert!(command(b"").is_empty());
        assert_eq!(command(&b"a\0".repeat(1000)).len(), MAX_WORDS);
    }

    #[test]
    fn the_lines_of_status_are_found() {
        let status = b"Name:\tsh\nNSpid:\t812\t1\nCapEff:\t0000000000080004\n";
        assert_eq!(pids(status), [812, 1]);
        assert_eq!(capabilities(status), Some(0x80004));
        assert_eq!(capabilities(b"CapEff:\tx\n"), None);
        assert!(pids(b"").is_empty());
    }

    #[test]
    fn it_reads_this_process() {
        let proc = Proc::new(Path::new("/proc"));
        let own = Pid::try_from(std::process::id()).unwrap();
        let mut found = false;
        proc.processes(|pid, _| found |= pid == own).unwrap();
        assert!(found && proc.stat(own).unwrap().start > 0);
        assert_eq!(proc.pids(own)[0], own);
        assert!(proc.mounts_of(own).is_some());
        assert_eq!(proc.command(own), std::env::args().collect::<Vec<_>>());
        assert!(proc.stat(0).is_none() && proc.command(0).is_empty());
    }

    #[test]
    fn without_a_proc_nothing_is_read() {
        let proc = Proc::new(Path::new("/nonexistent"));
        assert!(proc.processes(|_, _| ()).is_err() && proc.stat(1).is_none());
    }

    proptest! {
        #[test]
        fn nothing_panics(text in prop::collection::vec(any::<u8>(), 0..200), cut in 0usize..140) {
            let _ = (stat(&text), command(&text), namespace(&text), pids(&text), capabilities(&text));
            let mut mixed = STAT.as_bytes()[..cut.min(STAT.len())].to_vec();
            mixed.extend(&text);
            let _ = stat(&mixed);
        }
    }
}
