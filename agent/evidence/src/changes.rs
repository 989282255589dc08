//! What changed in a folder since a time: the one place that says what a finding is.
//!
//! No picture of the folder from before is needed. The kernel sets the ctime of a file with each change of its
//! contents, names and attributes, and no system call can set it to another time.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use rustix::{fd::OwnedFd, fs::FileType};

use curfew_core::{
    LeftHow, Leftover,
    behaviour::program_of_file,
    drift::{MAX_FINDINGS, MAX_UNSEEN},
    left::MAX_LEFT,
};

use crate::{
    folder::{FileStat, name_below, stat},
    shown::shown,
    spans::Span,
    time::later,
    walk::Visitor,
};

/// What changes this much later than the last session ended was not changed by it.
const AFTER_SESSION: SignedDuration = SignedDuration::from_secs(1);

/// How many files are looked up in the image's layers. It only tells added from changed files.
const MAX_LOOKUPS: u32 = 4096;

/// What was found in all folders that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    pub(crate) added: u32,
    pub(crate) changed: u32,
    pub(crate) deleted: u32,
    pub(crate) running: u32,
    programs: Vec<String>,
    executables: Vec<String>,
    others: Vec<String>,
    pub(crate) unseen: Vec<String>,
    /// What sessions certainly left behind.
    pub(crate) left: BTreeSet<Leftover>,
    /// What the workload itself wrote.
    pub(crate) workload: u32,
}

#[derive(Debug, Clone, Copy)]
enum What {
    Added,
    Changed,
    Deleted,
}

impl Findings {
    /// A program that runs and should not.
    pub(crate) fn runs(&mut self, text: String) {
        self.running = self.running.saturating_add(1);
        push(&mut self.programs, MAX_FINDINGS, || text);
    }

    /// A program that a session left behind. Of too many always the same are kept.
    pub(crate) fn leaves(&mut self, how: LeftHow, program: &str) {
        self.left.extend(Leftover::new(how, program));
        if self.left.len() > MAX_LEFT {
            self.left.pop_last();
        }
    }

    /// A part that is not seen.
    pub(crate) fn unseen(&mut self, clause: String) {
        if !self.unseen.contains(&clause) {
            push(&mut self.unseen, MAX_UNSEEN, || clause);
        }
    }

    /// The texts of the findings: what runs, what can run, and the rest.
    pub(crate) fn texts(&mut self) -> Vec<String> {
        let mut texts = std::mem::take(&mut self.programs);
        texts.append(&mut self.executables);
        texts.append(&mut self.others);
        texts.truncate(MAX_FINDINGS);
        texts
    }

    fn count(&mut self, what: What) {
        let count = match what {
            What::Added => &mut self.added,
            What::Changed => &mut self.changed,
            What::Deleted => &mut self.deleted,
        };
        *count = count.saturating_add(1);
    }

    fn file(&mut self, what: What, path: &[u8], file: &FileStat) {
        self.count(what);
        let verb = match what {
            What::Added => "added",
            What::Changed => "changed",
            What::Deleted => "deleted",
        };
        let kind = match file.kind {
            FileType::Directory => "/",
            _ if file.executable => " (executable)",
            FileType::Symlink => " (link)",
            _ => "",
        };
        let texts = match file.executable {
            true => &mut self.executables,
            false => &mut self.others,
        };
        push(texts, MAX_FINDINGS, || {
            format!("{verb} {}{kind}", shown(path))
        });
    }
}

fn push(texts: &mut Vec<String>, most: usize, text: impl FnOnce() -> String) {
    if texts.len() < most {
        texts.push(text());
    }
}

/// The layers of the image below a writable layer.
#[derive(Debug, Default)]
pub(crate) struct Lower {
    pub(crate) folders: Vec<OwnedFd>,
    lookups: u32,
}

impl Lower {
    pub(crate) fn new(folders: Vec<OwnedFd>) -> Self {
        Self {
            folders,
            lookups: 0,
        }
    }

    /// Whether the image has something at the path.
    fn has(&mut self, path: &[u8]) -> bool {
        self.lookups = self.lookups.saturating_add(1);
        if self.lookups > MAX_LOOKUPS {
            return false;
        }
        let found = self
            .folders
            .iter()
            .find_map(|folder| stat(name_below(folder, path).ok()?, c"").ok());
        found.is_some_and(|file| !file.whiteout)
    }
}

/// Says of each file of one folder whether it changed, and who changed it.
pub(crate) struct Judge<'a> {
    pub(crate) findings: &'a mut Findings,
    /// Since when something may have been changed by an interaction.
    pub(crate) since: Timestamp,
    /// The same for what the runtime makes for the start of a container.
    pub(crate) container_since: Timestamp,
    /// When the last session ended, if all did.
    pub(crate) ended: Option<Timestamp>,
    /// When somebody was there who could make files.
    pub(crate) sessions: Vec<&'a Span>,
    pub(crate) lower: Lower,
    /// Whether the workload itself holds the file open for writing.
    pub(crate) is_open: &'a dyn Fn(&[u8]) -> bool,
}

impl Judge<'_> {
    /// Whether something that changed at that time was changed after all sessions.
    fn is_after(&self, time: Timestamp) -> bool {
        self.ended
            .is_some_and(|end| time > later(end, AFTER_SESSION))
    }

    /// Whether the workload itself changed the file, as far as can be told. A program is never taken for its work.
    fn is_of_workload(&self, path: &[u8], file: &FileStat) -> bool {
        let is_open = || (self.is_open)(path);
        !file.executable
            && (self.is_after(file.ctime) || (file.kind == FileType::RegularFile && is_open()))
    }

    /// Whether the file was made since then, as far as its file system says.
    fn is_new(&self, file: &FileStat) -> Option<bool> {
        file.btime.map(|btime| btime >= self.since)
    }

    /// Whether a program that was added is certainly of a session: it was made while one was there, and the workload does
    /// not write it. What the workload made meanwhile and has left alone since cannot be told apart.
    fn is_dropped(&self, path: &[u8], file: &FileStat) -> bool {
        let is_within = |time| self.sessions.iter().any(|span| span.has(time));
        file.executable && file.btime.is_some_and(is_within) && !(self.is_open)(path)
    }

    /// A file that is mounted by itself.
    pub(crate) fn single(&mut self, path: &[u8], file: &FileStat) {
        if file.ctime >= self.since && !self.is_of_workload(path, file) {
            self.findings.file(What::Changed, path, file);
        }
    }

    fn folder(&mut self, path: &[u8], file: &FileStat) -> bool {
        // Whether something happened in a folder that was there is said when it is left.
        if self.is_new(file) == Some(false) {
            return false;
        }
        // A change in a folder of the image makes a new folder of the same name in the layer above it.
        if !self.lower.has(path) && self.is_new(file) == Some(true) {
            match self.is_after(file.ctime) {
                true => self.findings.workload = self.findings.workload.saturating_add(1),
                false => self.findings.file(What::Added, path, file),
            }
        }
        true
    }
}

impl Visitor for Judge<'_> {
    fn entry(&mut self, path: &[u8], file: &FileStat, folder: &FileStat) -> bool {
        if file.ctime < self.since {
            return false;
        }
        if file.kind == FileType::Directory {
            return self.folder(path, file);
        }
        if file.whiteout {
            // All whiteouts may be one file with many names, whose ctime is that of the last one.
            let time = file.ctime.min(folder.ctime);
            if time >= self.since {
                match self.is_after(time) {
                    true => self.findings.workload = self.findings.workload.saturating_add(1),
                    false => self.findings.file(What::Deleted, path, file),
                }
            }
            return time >= self.since;
        }
        let is_new = self.is_new(file);
        if self.is_of_workload(path, file) {
            self.findings.workload = self.findings.workload.saturating_add(1);
            return is_new == Some(true);
        }
        let what = match is_new {
            Some(true) if !self.lower.has(path) => What::Added,
            _ => What::Changed,
        };
        self.findings.file(what, path, file);
        if matches!(what, What::Added) && self.is_dropped(path, file) {
            let program = program_of_file(&shown(path));
            self.findings.leaves(LeftHow::Dropped, &program);
        }
        true
    }

    fn leave(&mut self, path: &[u8], folder: &FileStat, explained: bool) {
        if explained || folder.ctime < self.since {
            return;
        }
        // It was told as added.
        let is_told =
            self.is_new(folder) == Some(true) && !path.is_empty() && !self.lower.has(path);
        if is_told {
            return;
        }
        if self.is_after(folder.ctime) {
            self.findings.workload = self.findings.workload.saturating_add(1);
        } else if folder.mtime >= self.since {
            self.findings.count(What::Deleted);
            push(&mut self.findings.others, MAX_FINDINGS, || {
                format!("something in {} was removed or renamed", shown(path))
            });
        } else {
            self.findings.file(What::Changed, path, folder);
        }
    }

    fn unseen(&mut self, clause: String) {
        self.findings.unseen(clause);
    }
}

#[cfg(test)]
mod tests;
