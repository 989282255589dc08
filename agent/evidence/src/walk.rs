//! Walks through all that lies below a folder: bounded in entries, time, depth and memory, and without following a
//! link or leaving the file system, whatever the container does meanwhile.

use std::{
    ffi::{CStr, CString},
    mem::MaybeUninit,
    time::{Duration, Instant},
};

use rustix::{
    fd::OwnedFd,
    fs::{FileType, RawDir},
    io::Errno,
};

use crate::{
    folder::{FileStat, open, stat},
    shown::shown,
};

/// The most entries of one look.
const MAX_ENTRIES: u32 = 200_000;

/// The longest time of one look.
const MAX_TIME: Duration = Duration::from_secs(2);

/// The deepest folder.
const MAX_DEPTH: usize = 256;

/// The most bytes of names of folders that wait.
const MAX_WAITING: usize = 512 * 1024;

/// How many entries are looked at between two looks at the clock.
const CLOCK: u32 = 128;

/// The bytes that are read of a folder at once.
const BUFFER: usize = 32 * 1024;

/// What one look may cost.
#[derive(Debug, Clone)]
pub(crate) struct Budget {
    entries: u32,
    deadline: Instant,
    depth: usize,
    waiting: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self {
            entries: MAX_ENTRIES,
            deadline: Instant::now() + MAX_TIME,
            depth: MAX_DEPTH,
            waiting: MAX_WAITING,
        }
    }
}

/// Why a walk did not come to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stop(&'static str);

/// Is told what a walk finds.
pub(crate) trait Visitor {
    /// An entry, and when the folder was changed in which it is. Returns whether the entry explains that its folder was
    /// changed.
    fn entry(&mut self, path: &[u8], file: &FileStat, folder: &FileStat) -> bool;

    /// All of a folder was looked at. `explained` says that one of its entries explains why it was changed.
    fn leave(&mut self, path: &[u8], folder: &FileStat, explained: bool);

    /// A part that is not looked at, as a clause.
    fn unseen(&mut self, clause: String);
}

/// A folder on the way.
#[derive(Debug)]
struct Level {
    fd: OwnedFd,
    /// The length of its path.
    path: usize,
    file: FileStat,
    waiting: Vec<CString>,
    explained: bool,
}

/// Walks through a folder, which has this path for its container (without a slash at its end).
pub(crate) fn walk(root: OwnedFd, path: &[u8], budget: &mut Budget, visitor: &mut impl Visitor) {
    let mut walk = Walk {
        path: path.to_vec(),
        budget,
        visitor,
        buffer: vec![MaybeUninit::uninit(); BUFFER],
        held: 0,
    };
    let Ok(file) = stat(&root, c"") else {
        walk.unreadable();
        return;
    };
    if let Err(Stop(clause)) = walk.all(root, file) {
        let name = if path.is_empty() {
            &b"the layer"[..]
        } else {
            path
        };
        let clause = format!("{} {clause}", shown(name));
        visitor.unseen(clause);
    }
}

struct Walk<'a, V> {
    path: Vec<u8>,
    budget: &'a mut Budget,
    visitor: &'a mut V,
    buffer: Vec<MaybeUninit<u8>>,
    /// The bytes of all names that wait.
    held: usize,
}

impl<V: Visitor> Walk<'_, V> {
    fn all(&mut self, root: OwnedFd, file: FileStat) -> Result<(), Stop> {
        let mut levels = Vec::new();
        levels.push(self.read(root, file)?);
        while let Some(level) = levels.last_mut() {
            self.path.truncate(level.path);
            let Some(name) = level.waiting.pop() else {
                self.visitor.leave(&self.path, &level.file, level.explained);
                levels.pop();
                continue;
            };
            self.held -= name.as_bytes().len();
            let opened = open(&level.fd, name.as_c_str()).and_then(|fd| {
                let file = stat(&fd, c"")?;
                Ok((fd, file))
            });
            let device = level.file.device;
            self.push(&name);
            match opened {
                // Something was mounted there meanwhile.
                Ok((_, file)) if file.device != device => {}
                Ok(_) if levels.len() >= self.budget.depth => {
                    return Err(Stop("has folders that are too deep"));
                }
                Ok((fd, file)) => levels.push(self.read(fd, file)?),
                // It is gone, or is no folder any more.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => {}
                Err(_) => self.unreadable(),
            }
        }
        Ok(())
    }

    /// Looks at the entries of a folder, and remembers which of them are folders.
    fn read(&mut self, fd: OwnedFd, file: FileStat) -> Result<Level, Stop> {
        let mut level = Level {
            path: self.path.len(),
            file,
            waiting: Vec::new(),
            explained: false,
            fd,
        };
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut entries = RawDir::new(&level.fd, &mut buffer);
        let mut result = Ok(());
        while let Some(entry) = entries.next() {
            let Ok(entry) = entry else {
                self.unreadable();
                break;
            };
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            result = self.spend();
            if result.is_err() {
                break;
            }
            self.push(name);
            let file = match stat(&level.fd, name) {
                Ok(file) => file,
                Err(error) => {
                    // Without an entry of that name it was removed meanwhile.
                    if error != Errno::NOENT {
                        self.unreadable();
                    }
                    self.path.truncate(level.path);
                    continue;
                }
            };
            level.explained |= self.visitor.entry(&self.path, &file, &level.file);
            if file.kind == FileType::Directory {
                // What is mounted there is another part of what is looked at, or is told as not seen.
                if !file.mount && file.device == level.file.device {
                    self.held += name.to_bytes().len();
                    level.waiting.push(name.to_owned());
                }
                if self.held > self.budget.waiting {
                    result = Err(Stop("has too many folders"));
                    break;
                }
            }
            self.path.truncate(level.path);
        }
        self.path.truncate(level.path);
        self.buffer = buffer;
        result.map(|()| level)
    }

    fn spend(&mut self) -> Result<(), Stop> {
        let Some(left) = self.budget.entries.checked_sub(1) else {
            return Err(Stop("has too many entries"));
        };
        self.budget.entries = left;
        if left.is_multiple_of(CLOCK) && Instant::now() >= self.budget.deadline {
            return Err(Stop("takes too long"));
        }
        Ok(())
    }

    fn push(&mut self, name: &CStr) {
        self.path.push(b'/');
        self.path.extend_from_slice(name.to_bytes());
    }

    fn unreadable(&mut self) {
        let clause = format!("{} cannot be read", shown(&self.path));
        self.visitor.unseen(clause);
    }
}

#[cfg(test)]
mod tests;
