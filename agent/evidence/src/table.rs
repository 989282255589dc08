//! What is known of the processes of the node. It owns the list and reads only what is new.
//!
//! Reading a process costs much more than seeing that it is still there. So a scan lists `/proc` and reads the processes
//! that it has not seen before; those once more in the next scan, and as long as they are new and in no container,
//! because what was just started may still become another program or enter a container; those of sessions each time; and
//! each of the others now and then.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::{
    cgroup::placement,
    process::{Pid, Proc, Stat},
};

/// The most processes that are known at once.
const MOST: usize = 65_536;

/// Of so many processes one is read again in each scan.
const TURN: u32 = 32;

/// The most that is read of the cgroups of a process.
const CGROUP: usize = 16 * 1024;

/// A session, as the others refer to it.
pub(crate) type SessionId = u64;

/// What a process is to the containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// It is not decided yet.
    Undecided,
    /// It is in no container.
    Outside,
    /// The first process of a container.
    Init,
    /// The container's own. `doubtful` says that a session may have started it.
    Workload { doubtful: bool },
    /// The first process of a session.
    Root(SessionId),
    /// What a session started.
    Member(SessionId),
}

impl Role {
    /// The session that it belongs to.
    pub(crate) fn session(self) -> Option<SessionId> {
        match self {
            Self::Root(id) | Self::Member(id) => Some(id),
            _ => None,
        }
    }
}

/// A process.
#[derive(Debug, Clone)]
pub(crate) struct Process {
    inode: u64,
    scan: u32,
    /// How often it was read as a whole.
    pub(crate) reads: u32,
    pub(crate) start: u64,
    pub(crate) parent: Pid,
    pub(crate) session: Pid,
    pub(crate) zombie: bool,
    /// It is what a runtime starts before it becomes the process of the container.
    pub(crate) stage: bool,
    kernel: bool,
    /// What may be the IDs of its containers, outermost first.
    pub(crate) ids: Box<[Arc<str>]>,
    /// The pod, as the kubelet calls it.
    pub(crate) pod: Option<Arc<str>>,
    /// Its mount namespace; 0 if it is not known.
    pub(crate) mounts: u64,
    pub(crate) role: Role,
}

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    /// Those that were read as a whole, oldest first.
    pub(crate) read: Vec<Pid>,
    /// Those that have ended.
    pub(crate) gone: Vec<(Pid, Process)>,
    /// Not all processes are known: there are too many, or they cannot be listed.
    pub(crate) incomplete: bool,
}

/// The processes of the node.
#[derive(Debug, Default)]
pub(crate) struct Table {
    processes: HashMap<Pid, Process>,
    scan: u32,
    listed: Vec<(Pid, u64)>,
    names: HashSet<Arc<str>>,
}

impl Table {
    pub(crate) fn get(&self, pid: Pid) -> Option<&Process> {
        self.processes.get(&pid)
    }

    pub(crate) fn get_mut(&mut self, pid: Pid) -> Option<&mut Process> {
        self.processes.get_mut(&pid)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (Pid, &Process)> {
        self.processes.iter().map(|(pid, process)| (*pid, process))
    }

    /// Lists the processes, and reads what is to be read. A process that was started in the last so many ticks may be
    /// one of a runtime (`stage_since`).
    pub(crate) fn scan(&mut self, proc: &Proc, stage_since: u64) -> Scan {
        let mut found = Scan::default();
        self.scan = self.scan.wrapping_add(1);
        let mut listed = std::mem::take(&mut self.listed);
        listed.clear();
        let list = proc.processes(|pid, inode| {
            if listed.len() < MOST {
                listed.push((pid, inode));
            } else {
                found.incomplete = true;
            }
        });
        found.incomplete |= list.is_err();
        for &(pid, inode) in &listed {
            self.visit(proc, pid, inode, stage_since, &mut found);
        }
        self.listed = listed;
        // What was not listed by mistake is not gone.
        if list.is_ok() {
            let scan = self.scan;
            let gone = self.processes.extract_if(|_, process| process.scan != scan);
            found.gone.extend(gone);
        }
        let age = |pid: &Pid| self.processes.get(pid).map(|process| (process.start, *pid));
        found.read.sort_by_key(age);
        for &pid in &found.read {
            let is_sent = (self.processes.get(&pid)).is_some_and(|process| self.is_sent(process));
            if is_sent && let Some(process) = self.processes.get_mut(&pid) {
                process.stage |= process.start >= stage_since;
            }
        }
        if self.scan.is_multiple_of(TURN) {
            self.names.retain(|name| Arc::strong_count(name) > 1);
        }
        found
    }

    fn visit(&mut self, proc: &Proc, pid: Pid, inode: u64, stage_since: u64, found: &mut Scan) {
        let scan = self.scan;
        let turn = (pid.cast_unsigned().wrapping_add(scan)).is_multiple_of(TURN);
        let known = self.processes.get_mut(&pid);
        let is_same = known.as_ref().is_some_and(|known| known.inode == inode);
        if is_same && let Some(known) = known {
            known.scan = scan;
            // It may still enter a container, or become another program.
            let is_new = known.role == Role::Outside && known.start >= stage_since;
            let is_read = known.reads < 2 || known.role == Role::Undecided || is_new || turn;
            let of_session = known.role.session().is_some();
            if known.kernel || !(is_read || of_session) {
                return;
            }
            if !is_read {
                match proc.stat(pid) {
                    Some(stat) if stat.start == known.start => return known.take(&stat),
                    Some(_) => {}
                    None => return,
                }
            }
        }
        // One that ends while it is read is missed in the next scan.
        let Some(stat) = proc.stat(pid) else { return };
        let before = self.processes.remove(&pid);
        let before = before.and_then(|before| match before.start == stat.start {
            true => Some(before),
            false => {
                found.gone.push((pid, before));
                None
            }
        });
        let process = self.read(proc, pid, inode, &stat, stage_since, before);
        if !process.kernel {
            found.read.push(pid);
        }
        self.processes.insert(pid, process);
    }

    fn read(
        &mut self,
        proc: &Proc,
        pid: Pid,
        inode: u64,
        stat: &Stat,
        stage_since: u64,
        before: Option<Process>,
    ) -> Process {
        let mut process = before.unwrap_or_else(|| Process {
            inode,
            scan: 0,
            reads: 0,
            start: stat.start,
            parent: stat.parent,
            session: stat.session,
            zombie: stat.zombie,
            stage: false,
            kernel: stat.kernel,
            ids: Box::default(),
            pod: None,
            mounts: 0,
            role: Role::Undecided,
        });
        process.inode = inode;
        process.scan = self.scan;
        process.reads = process.reads.saturating_add(1);
        process.take(stat);
        if stat.kernel {
            process.role = Role::Outside;
            return process;
        }
        process.stage = stat.start >= stage_since && is_stage(&stat.name);
        let text = proc.read_file(&format!("{pid}/cgroup"), CGROUP);
        let place = placement(&text.unwrap_or_default());
        process.ids = place.ids.into_iter().map(|id| self.name(id)).collect();
        process.pod = place.pod.map(|pod| self.name(pod));
        process.mounts = proc.mounts_of(pid).unwrap_or(0);
        process
    }

    /// Whether its parent put it into a container in whose mounts it is not yet. `runc` does so with its own first
    /// process before that has a name by which to know it, and then lets another one become the container's.
    fn is_sent(&self, process: &Process) -> bool {
        let parent = self.processes.get(&process.parent);
        parent.is_some_and(|parent| {
            process.mounts != 0 && process.mounts == parent.mounts && process.ids != parent.ids
        })
    }

    /// The same text for each process of a container.
    fn name(&mut self, name: String) -> Arc<str> {
        if let Some(known) = self.names.get(name.as_str()) {
            return Arc::clone(known);
        }
        let name: Arc<str> = name.into();
        self.names.insert(Arc::clone(&name));
        name
    }
}

impl Process {
    /// Whether its parent, which is not known, may be in the next scan: it was started after the list was made. It may as
    /// well have ended since.
    pub(crate) fn awaits_parent(&self, parent: Option<&Process>) -> bool {
        parent.is_none() && self.parent != 0 && self.reads < 2
    }

    fn take(&mut self, stat: &Stat) {
        self.parent = stat.parent;
        self.session = stat.session;
        self.zombie = stat.zombie;
    }
}

/// `runc` names itself after what it is about to do (`runc:[2:INIT]`); others keep their names until the end.
fn is_stage(name: &[u8]) -> bool {
    name.starts_with(b"runc") || name.starts_with(b"crun") || name.starts_with(b"youki")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FakeProc;

    #[test]
    fn only_what_is_new_is_read() {
        // All of them were started before that.
        const LATER: u64 = 2000;
        let fake = FakeProc::new();
        for pid in 1..10 {
            fake.process(pid, 0).name("x").write();
        }
        let mut table = Table::default();
        assert_eq!(table.scan(fake.proc(), LATER).read.len(), 9);
        for pid in 1..10 {
            table.get_mut(pid).unwrap().role = Role::Outside;
        }
        // Once more, because they may have become something else.
        assert_eq!(table.scan(fake.proc(), LATER).read.len(), 9);
        let reads: usize = (0..TURN)
            .map(|_| table.scan(fake.proc(), LATER).read.len())
            .sum();
        assert_eq!(reads, 9);
    }

    #[test]
    fn a_pid_that_is_used_again_is_another_process() {
        let fake = FakeProc::new();
        fake.process(5, 1).start(100).write();
        let mut table = Table::default();
        table.scan(fake.proc(), 0);
        table.get_mut(5).unwrap().role = Role::Init;
        fake.remove(5);
        fake.process(5, 1).start(200).write();
        let gone = (0..TURN).flat_map(|_| table.scan(fake.proc(), 0).gone);
        let gone: Vec<_> = gone.collect();
        assert_eq!(gone.len(), 1);
        assert_eq!((gone[0].0, gone[0].1.role), (5, Role::Init));
        assert_eq!(table.get(5).unwrap().role, Role::Undecided);
    }

    #[test]
    fn what_ends_is_told() {
        let fake = FakeProc::new();
        fake.process(5, 1).write();
        let mut table = Table::default();
        table.scan(fake.proc(), 0);
        fake.remove(5);
        assert_eq!(table.scan(fake.proc(), 0).gone.len(), 1);
        assert_eq!(table.iter().count(), 0);
    }

    #[test]
    fn a_process_without_files_is_none() {
        let fake = FakeProc::new();
        std::fs::create_dir(fake.path().join("7")).unwrap();
        let mut table = Table::default();
        let scan = table.scan(fake.proc(), 0);
        assert!(scan.read.is_empty() && scan.gone.is_empty() && !scan.incomplete);
    }

    #[test]
    fn a_proc_that_cannot_be_listed_is_not_taken_for_an_empty_one() {
        let mut table = Table::default();
        let scan = table.scan(&Proc::new(std::path::Path::new("/nonexistent")), 0);
        assert!(scan.incomplete);
    }

    #[test]
    fn a_stage_is_one_only_for_a_while() {
        let fake = FakeProc::new();
        fake.process(5, 1).name("runc:[2:INIT]").start(1000).write();
        let mut table = Table::default();
        table.scan(fake.proc(), 500);
        assert!(table.get(5).unwrap().stage);
        table.scan(fake.proc(), 1500);
        assert!(!table.get(5).unwrap().stage);
    }
}
