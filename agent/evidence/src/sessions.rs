//! Sessions: processes that came into a container from outside, and what they started.
//!
//! What the container's own processes start has a parent in the container. A session has not: the runtime starts it, or
//! somebody on the node. What a session starts belongs to it, also after its parent has ended: by what was seen of its
//! parents, and by the kernel's session.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};

use crate::{
    containers::{Container, Containers},
    process::{Pid, Proc},
    table::{Process, Role, Scan, SessionId, Table},
    time::{later, of_ticks},
};

/// The most sessions that are known at once.
const MOST: usize = 4096;

/// How long an ended session is kept of which nothing runs: what it started may be found only now.
const KEPT: SignedDuration = SignedDuration::from_secs(60);

/// How long after the end of a session a process may have been started by it that was not seen before.
const DOUBT: SignedDuration = SignedDuration::from_secs(5);

/// How long the start of a container may take.
pub(crate) const SETUP: SignedDuration = SignedDuration::from_secs(2);

/// What is known of why a session is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is not known yet, and will be at that time, if not before.
    Pending(Option<Timestamp>),
    /// By a recorded interaction, or nobody can tell.
    Explained,
    /// By none: it was reported.
    Bypass,
    /// It is the kubelet's, or the container's own.
    Own,
}

/// A session.
#[derive(Debug, Clone)]
pub(crate) struct Session {
    /// The ID of its container.
    pub(crate) container: Arc<str>,
    pub(crate) root: Pid,
    /// Whether the kernel has a session for it alone.
    leads: bool,
    pub(crate) command: Vec<String>,
    pub(crate) start: Timestamp,
    pub(crate) seen: Timestamp,
    /// It was there before the first scan.
    pub(crate) before: bool,
    pub(crate) standing: Standing,
    pub(crate) ended: Option<Timestamp>,
    /// Its end was told.
    pub(crate) told: bool,
}

impl Session {
    /// Whether nobody knows yet why it is there.
    pub(crate) fn is_pending(&self) -> bool {
        matches!(self.standing, Standing::Pending(_))
    }

    /// Whether somebody is in the container by it.
    pub(crate) fn is_open(&self) -> bool {
        self.ended.is_none() && self.standing != Standing::Own
    }
}

/// All sessions.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    known: HashMap<SessionId, Session>,
    next: SessionId,
    /// There were more than are known.
    pub(crate) overflow: bool,
}

/// What a scan is done with.
pub(crate) struct Update<'a> {
    pub(crate) table: &'a mut Table,
    pub(crate) containers: &'a mut Containers,
    pub(crate) proc: &'a Proc,
    pub(crate) boot: Timestamp,
    pub(crate) now: Timestamp,
    /// When the first scan was.
    pub(crate) first: Timestamp,
}

impl Sessions {
    pub(crate) fn get(&self, id: SessionId) -> Option<&Session> {
        self.known.get(&id)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.known.values_mut()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Session> {
        self.known.values()
    }

    /// When the next of them can be judged.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        let due = self.iter().filter_map(|session| match session.standing {
            Standing::Pending(due) => due,
            _ => None,
        });
        due.min()
    }

    /// Takes what a scan found.
    pub(crate) fn update(
        &mut self,
        scan: &Scan,
        with: &mut Update<'_>,
        is_known: impl Fn(&str) -> bool,
    ) {
        for (pid, process) in &scan.gone {
            match process.role {
                Role::Init => with.containers.ended(*pid, process),
                Role::Root(id) => self.end(id, with.now),
                _ => {}
            }
        }
        (with.containers).elect(with.table, with.proc, &scan.read, with.boot, &is_known);
        for &pid in &scan.read {
            let Some(process) = with.table.get(pid) else {
                continue;
            };
            let role = match process.role {
                Role::Undecided | Role::Outside => self.role(pid, process, with, &is_known),
                Role::Root(id) => {
                    self.reread(id, pid, with.proc);
                    continue;
                }
                _ => continue,
            };
            if let Some(process) = with.table.get_mut(pid) {
                process.role = role;
            }
        }
        let zombies = with.table.iter().filter(|(_, process)| process.zombie);
        for (_, process) in zombies {
            if let Role::Root(id) = process.role {
                self.end(id, with.now);
            }
        }
    }

    fn end(&mut self, id: SessionId, now: Timestamp) {
        if let Some(session) = self.known.get_mut(&id) {
            session.ended.get_or_insert(now);
        }
    }

    /// A process that was just started may have become another program.
    fn reread(&mut self, id: SessionId, pid: Pid, proc: &Proc) {
        let pending = |session: &&mut Session| session.is_pending();
        if let Some(session) = self.known.get_mut(&id).filter(pending) {
            let command = proc.command(pid);
            if !command.is_empty() {
                session.command = command;
            }
        }
    }

    fn role(
        &mut self,
        pid: Pid,
        process: &Process,
        with: &Update<'_>,
        is_known: impl Fn(&str) -> bool,
    ) -> Role {
        // Its container may still be made, for as long as that takes.
        if process.stage {
            return Role::Undecided;
        }
        let Some(id) = with.containers.of(process, &is_known) else {
            // Of a container whose first process is not there yet.
            return match process.ids.is_empty() || process.reads > 2 {
                true => Role::Outside,
                false => Role::Undecided,
            };
        };
        let Some(container) = with.containers.get(id) else {
            return Role::Outside;
        };
        let parent = with.table.get(process.parent);
        if process.awaits_parent(parent) {
            return Role::Undecided;
        }
        let is_inside = parent.is_some_and(|parent| {
            with.containers
                .of(parent, &is_known)
                .is_some_and(|of| of == id)
        });
        if is_inside && let Some(session) = parent.and_then(|parent| parent.role.session()) {
            return Role::Member(session);
        }
        if let Some(session) = self.by_kernel_session(id, container, process) {
            return Role::Member(session);
        }
        // Where the containers of a pod share their processes, one whose parent has ended gets the pod's first.
        let of_pod =
            container.pod.is_some() && parent.is_some_and(|parent| parent.pod == container.pod);
        if is_inside || of_pod {
            let is_orphan = !is_inside || process.parent == container.init;
            let doubtful = is_orphan && self.is_doubtful(id, container, process, with);
            return Role::Workload { doubtful };
        }
        if self.known.len() >= MOST {
            self.overflow = true;
            return Role::Workload { doubtful: true };
        }
        let start = of_ticks(with.boot, process.start);
        let session = Session {
            container: Arc::clone(id),
            root: pid,
            leads: process.session == pid,
            command: with.proc.command(pid),
            start,
            seen: with.now,
            before: start < with.first,
            standing: Standing::Pending(None),
            ended: None,
            told: false,
        };
        self.next += 1;
        self.known.insert(self.next, session);
        Role::Root(self.next)
    }

    /// The session whose first process leads the kernel's session of a process.
    fn by_kernel_session(
        &self,
        id: &Arc<str>,
        container: &Container,
        process: &Process,
    ) -> Option<SessionId> {
        if process.session == container.session || process.session == 0 {
            return None;
        }
        let own = |session: &Session| {
            session.leads && session.root == process.session && session.container == *id
        };
        self.known
            .iter()
            .filter(|(_, session)| own(session))
            .map(|(id, _)| *id)
            .max()
    }

    /// Whether a process of the container without a parent of its own may have been started by a session, which nobody
    /// saw: it was started meanwhile, and it left the kernel's session in which it was.
    fn is_doubtful(
        &self,
        id: &Arc<str>,
        container: &Container,
        process: &Process,
        with: &Update<'_>,
    ) -> bool {
        if process.session == container.session {
            return false;
        }
        let start = of_ticks(with.boot, process.start);
        self.known.values().any(|session| {
            let end = session
                .ended
                .map_or(Timestamp::MAX, |end| later(end, DOUBT));
            session.container == *id
                && session.standing != Standing::Own
                && (session.start..=end).contains(&start)
        })
    }

    /// Forgets the sessions that ended long ago and of which nothing runs.
    pub(crate) fn prune(&mut self, table: &Table, now: Timestamp) {
        let is_old = |session: &Session| {
            let told = session.told || session.standing == Standing::Own;
            session
                .ended
                .is_some_and(|end| told && later(end, KEPT) < now)
        };
        if !self.known.values().any(is_old) {
            return;
        }
        let alive: HashSet<SessionId> = table
            .iter()
            .filter_map(|(_, process)| process.role.session())
            .collect();
        self.known
            .retain(|id, session| !is_old(session) || alive.contains(id));
    }
}
