//! The containers of the node by their processes: the first process of each, and who is in it.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;

use crate::{
    process::{Pid, Proc},
    table::{Process, Role, Table},
    time::of_ticks,
};

/// A container that was seen.
#[derive(Debug, Clone)]
pub(crate) struct Container {
    /// Its first process.
    pub(crate) init: Pid,
    /// The runtime's process that started it, or took it over.
    pub(crate) runtime: Pid,
    pub(crate) start: Timestamp,
    /// The same as the kernel counts it: the boot's time differs a little from scan to scan.
    ticks: u64,
    /// The session (in the sense of the kernel) of its first process.
    pub(crate) session: Pid,
    /// Its pod, as the kubelet calls it.
    pub(crate) pod: Option<Arc<str>>,
    /// It shares the PID namespace of the node. Then a process whose parent has ended looks like a session.
    pub(crate) shares_pids: bool,
    /// Its first process has ended.
    pub(crate) gone: bool,
    /// Somebody may have been in it while the runtime still made it.
    pub(crate) early: bool,
}

/// All of them.
#[derive(Debug, Default)]
pub(crate) struct Containers {
    by_id: HashMap<Arc<str>, Container>,
    by_mounts: HashMap<u64, Arc<str>>,
}

impl Containers {
    pub(crate) fn get(&self, id: &str) -> Option<&Container> {
        self.by_id.get(id)
    }

    /// The IDs of all that run, each with its pod.
    pub(crate) fn pods(&self) -> Vec<(String, String)> {
        let alive = self.by_id.iter().filter(|(_, container)| !container.gone);
        alive
            .map(|(id, container)| {
                (
                    id.to_string(),
                    container.pod.as_deref().unwrap_or_default().to_owned(),
                )
            })
            .collect()
    }

    pub(crate) fn get_mut(&mut self, id: &str) -> Option<&mut Container> {
        self.by_id.get_mut(id)
    }

    /// The container in which a process is: by its cgroup, or by its mount namespace if it came from elsewhere.
    /// Of containers within containers it is the outermost that `is_known`, else the innermost.
    pub(crate) fn of(
        &self,
        process: &Process,
        is_known: impl Fn(&str) -> bool,
    ) -> Option<&Arc<str>> {
        let by_cgroup = candidate(process, is_known)
            .and_then(|id| self.by_id.get_key_value(id))
            .map(|(id, _)| id);
        let by_mounts = self.by_mounts.get(&process.mounts);
        match (by_cgroup, by_mounts) {
            // A process of another pod that entered this container.
            (Some(own), Some(other)) if own != other => {
                let pod = |id: &str| {
                    self.by_id
                        .get(id)
                        .and_then(|container| container.pod.as_ref())
                };
                let is_same_pod = pod(own).is_some() && pod(own) == pod(other);
                Some(if is_same_pod { own } else { other })
            }
            (Some(own), _) => Some(own),
            (None, other) => other,
        }
    }

    /// Finds the first process of each new container. A container whose first process has ended gets no later one.
    pub(crate) fn elect(
        &mut self,
        table: &mut Table,
        proc: &Proc,
        read: &[Pid],
        boot: Timestamp,
        is_known: impl Fn(&str) -> bool,
    ) {
        let of_node = table.get(1).map_or(0, |first| first.mounts);
        for &pid in read {
            let Some(process) = table.get(pid) else {
                continue;
            };
            let is_open = matches!(process.role, Role::Undecided | Role::Outside);
            let is_candidate = is_open && !process.stage && !process.zombie;
            let Some(id) = candidate(process, &is_known).filter(|_| is_candidate) else {
                continue;
            };
            let former = self.by_id.get(id);
            // Unless one that came later was taken for it, or it was taken for gone.
            let is_first = |former: &Container| match former.gone {
                true => process.start <= former.ticks,
                false => process.start < former.ticks,
            };
            if former.is_some_and(|former| !is_first(former)) {
                continue;
            }
            let former = former
                .map(|former| former.init)
                .filter(|former| *former != pid);
            let parent = table.get(process.parent);
            let is_inside = parent.is_some_and(|parent| candidate(parent, &is_known) == Some(id));
            if is_inside || process.awaits_parent(parent) {
                continue;
            }
            // What shares the mounts of the node (`nsenter -t 1 -m`) has none of its own by which to know others.
            let of_runtime = parent.map_or(0, |parent| parent.mounts);
            let mounts = match process.mounts {
                mounts if mounts == of_node || mounts == of_runtime => 0,
                mounts if self.by_mounts.get(&mounts).is_some_and(|of| of != id) => 0,
                mounts => mounts,
            };
            let container = Container {
                init: pid,
                runtime: process.parent,
                start: of_ticks(boot, process.start),
                ticks: process.start,
                session: process.session,
                pod: process.pod.clone(),
                shares_pids: proc.pids(pid).len() < 2,
                gone: false,
                early: false,
            };
            let id = Arc::clone(id);
            if mounts != 0 {
                self.by_mounts.insert(mounts, Arc::clone(&id));
            }
            self.by_id.insert(id, container);
            if let Some(process) = table.get_mut(pid) {
                process.role = Role::Init;
            }
            if let Some(process) = former.and_then(|former| table.get_mut(former)) {
                process.role = Role::Undecided;
            }
        }
    }

    /// A first process has ended.
    pub(crate) fn ended(&mut self, init: Pid, process: &Process) {
        for id in &process.ids {
            if let Some(container) = self.by_id.get_mut(id)
                && container.init == init
            {
                container.gone = true;
                self.by_mounts.retain(|_, of| of != id);
            }
        }
    }

    /// Forgets the containers of which no process is left.
    pub(crate) fn prune(&mut self, table: &Table) {
        if self.by_id.values().any(|container| container.gone) {
            let left = |id: &Arc<str>| table.iter().any(|(_, process)| process.ids.contains(id));
            self.by_id
                .retain(|id, container| !container.gone || left(id));
        }
    }
}

/// The ID that counts for a process.
fn candidate(process: &Process, is_known: impl Fn(&str) -> bool) -> Option<&Arc<str>> {
    let known = process.ids.iter().find(|id| is_known(id));
    known.or(process.ids.last())
}
