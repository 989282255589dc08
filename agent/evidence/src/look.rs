//! Looks at one pod: what changed in it since the first interaction, and what of its sessions still runs.

use std::cell::OnceCell;

use curfew_core::{Drift, Kind, LeftHow, drift::OPEN_SESSION};
use jiff::Timestamp;

use crate::{
    changes::{Findings, Judge, Lower},
    containers::Container,
    evidence::{Evidence, Pod},
    facts::{ContainerFacts, Mode},
    layer, mountinfo,
    process::Pid,
    programs,
    sessions::{SETUP, Standing},
    shown::command,
    spans::Span,
    table::{Process, Role},
    time::later,
    volumes,
    walk::{Budget, walk},
};

/// The most that is read of the mounts of a container.
const MOUNTINFO: usize = 512 * 1024;

/// The file systems that were looked at, by device and folder.
type Done = Vec<((u32, u32), Vec<u8>)>;

impl Evidence {
    /// Looks at all containers of a pod. `since` is the time of the first interaction as it was recorded. Scan before,
    /// so that the sessions are those of now.
    ///
    /// It reads files, and takes up to two seconds.
    #[must_use]
    pub fn look(&self, uid: &str, since: Timestamp, now: Timestamp) -> Drift {
        let mut findings = Findings::default();
        let mut drift = Drift::new(now);
        match self.pods.get(uid) {
            Some(Pod {
                facts: Some(facts), ..
            }) if facts.containers.is_empty() => {
                findings.unseen("the pod has no container that runs".to_owned());
            }
            Some(
                pod @ Pod {
                    facts: Some(facts), ..
                },
            ) => {
                let open = self.open_sessions(uid);
                let ephemeral = facts
                    .containers
                    .iter()
                    .filter(|container| container.ephemeral);
                let open = open + ephemeral.count();
                drift.sessions = u32::try_from(open).unwrap_or(u32::MAX);
                self.sessions_of(pod, open, now, &mut findings);
                let ended = pod.ended.max(pod.touches.quiet());
                let look = Look {
                    evidence: self,
                    since: pod.touches.since(since),
                    ended: ended.filter(|_| open == 0 && pod.touches.endless().is_none()),
                    spans: self.spans(pod, &facts.containers, now),
                };
                look.containers(&facts.containers, &mut findings);
            }
            _ => findings.unseen("the pod is not known".to_owned()),
        }
        for limitation in &self.limitations {
            findings.unseen(limitation.0.clone());
        }
        if self.incomplete || self.sessions.overflow {
            findings.unseen("there are more processes than can be looked at".to_owned());
        }
        drift.added = findings.added;
        drift.changed = findings.changed;
        drift.deleted = findings.deleted;
        drift.running = findings.running;
        drift.findings = findings.texts();
        drift.unseen = findings.unseen;
        drift.left = findings.left.into_iter().collect();
        drift.bounded()
    }

    /// When sessions were in the containers of a pod.
    fn spans(&self, pod: &Pod, containers: &[ContainerFacts], now: Timestamp) -> Vec<Span> {
        let is_of_pod = |id: &str| containers.iter().any(|container| container.id == id);
        let open = self
            .sessions
            .iter()
            .filter(|session| session.ended.is_none() && is_of_pod(&session.container));
        let open = open.filter_map(|session| Span::of(session, now));
        pod.spans.iter().cloned().chain(open).collect()
    }

    /// What cannot be known of the sessions of a pod.
    fn sessions_of(&self, pod: &Pod, open: usize, now: Timestamp, findings: &mut Findings) {
        if open > 0 {
            findings.unseen(OPEN_SESSION.to_owned());
        }
        match pod.touches.endless() {
            Some(Kind::Attach) => findings.unseen("the end of an attach is not seen".to_owned()),
            Some(_) => findings.unseen("the end of a port-forward is not seen".to_owned()),
            None => {}
        }
        if pod.touches.is_awaited(now) {
            findings.unseen("the session of a recent interaction was not seen".to_owned());
        }
    }
}

/// One look.
struct Look<'a> {
    evidence: &'a Evidence,
    since: Timestamp,
    ended: Option<Timestamp>,
    /// When sessions were in the containers.
    spans: Vec<Span>,
}

impl Look<'_> {
    fn containers(&self, containers: &[ContainerFacts], findings: &mut Findings) {
        let mut budget = Budget::default();
        let mut done = Done::new();
        let known = |facts: &ContainerFacts| self.evidence.containers.get(&facts.id);
        let starts: Vec<_> = containers
            .iter()
            .filter_map(known)
            .map(|own| own.start)
            .collect();
        if self.evidence.mode == Mode::Processes {
            findings.unseen("files are not looked at".to_owned());
        }
        for facts in containers {
            match known(facts).filter(|container| !container.gone) {
                Some(container) => {
                    let processes = self.processes(&facts.id);
                    let since = self.container_since(container);
                    self.programs(&processes, since, findings);
                    // What is in the layer of an ephemeral container is not the workload, and goes with it.
                    if self.evidence.mode == Mode::Files && !facts.ephemeral {
                        self.files(
                            (&facts.id, container),
                            &processes,
                            &starts,
                            &mut done,
                            &mut budget,
                            findings,
                        );
                    }
                }
                None if facts.ephemeral => {}
                None => findings.unseen(format!("no process of container {} is seen", facts.name)),
            }
        }
    }

    /// Since when a change in the container's own layer counts. What the runtime made for its start does not, unless
    /// somebody may have been in it by then.
    fn container_since(&self, container: &Container) -> Timestamp {
        if self.since >= container.start {
            return self.since;
        }
        match container.early {
            true => container.start,
            false => later(container.start, SETUP),
        }
    }

    fn processes(&self, id: &str) -> Vec<(Pid, &Process)> {
        let evidence = self.evidence;
        let is_in = |process: &Process| {
            let of = evidence.containers.of(process, |id| evidence.is_known(id));
            of.is_some_and(|of| **of == *id)
        };
        let processes = evidence.table.iter();
        let mut found: Vec<_> = processes
            .filter(|(_, process)| !process.zombie && !process.stage && is_in(process))
            .collect();
        found.sort_by_key(|(pid, process)| (process.start, *pid));
        found
    }

    /// What runs in a container that should not.
    fn programs(&self, processes: &[(Pid, &Process)], since: Timestamp, findings: &mut Findings) {
        let proc = &self.evidence.proc;
        for &(pid, process) in processes {
            let is_left = self.is_left(process);
            if is_left && let Some(program) = programs::name(proc, pid) {
                findings.leaves(LeftHow::Running, &program);
            }
            match programs::changed(proc, pid, since) {
                Ok(Some(text)) => findings.runs(text),
                Ok(None) if is_left => {
                    findings.runs(format!("left running: {}", command(&proc.command(pid))));
                }
                Ok(None) => {}
                Err(error) => findings.unseen(format!("programs cannot be read: {error}")),
            }
            if process.role == (Role::Workload { doubtful: true }) {
                let command = command(&proc.command(pid));
                findings.unseen(format!("a session may have left running: {command}"));
            }
        }
    }

    /// Whether a session left the process running.
    fn is_left(&self, process: &Process) -> bool {
        let session = process.role.session();
        let session = session.and_then(|id| self.evidence.sessions.get(id));
        session.is_some_and(|session| {
            let is_ones = matches!(session.standing, Standing::Explained | Standing::Bypass);
            is_ones && session.ended.is_some()
        })
    }

    /// What changed in the files of a container.
    fn files(
        &self,
        (id, container): (&str, &Container),
        processes: &[(Pid, &Process)],
        starts: &[Timestamp],
        done: &mut Done,
        budget: &mut Budget,
        findings: &mut Findings,
    ) {
        let proc = &self.evidence.proc;
        let text = proc.read_file(&format!("{}/mountinfo", container.init), MOUNTINFO);
        let mounts = mountinfo::mounts(&text.unwrap_or_default());
        let workload: Vec<Pid> = processes
            .iter()
            .filter(|(_, process)| self.is_of_workload(process))
            .map(|(pid, _)| *pid)
            .collect();
        let written = OnceCell::new();
        let is_open = |path: &[u8]| {
            let files = written.get_or_init(|| programs::written(proc, &workload));
            files.contains(path)
        };
        let mut judge = Judge {
            findings,
            since: self.container_since(container),
            container_since: self.container_since(container),
            ended: self.ended,
            sessions: self
                .spans
                .iter()
                .filter(|span| *span.container == *id)
                .collect(),
            lower: Lower::default(),
            is_open: &is_open,
        };
        match layer::open(layer::root(&mounts), proc.folder(container.runtime, "root")) {
            Ok(Some(layer)) => {
                judge.lower = Lower::new(layer.lower);
                walk(layer.upper, b"", budget, &mut judge);
                judge.lower = Lower::default();
            }
            Ok(None) => {}
            Err(clause) => judge.findings.unseen(clause),
        }
        judge.since = self.since;
        // Volumes may be mounted in other containers, too.
        judge.sessions = self.spans.iter().collect();
        match proc.folder(container.init, "root") {
            Ok(root) => volumes::look(&mounts, &root, done, budget, starts, &mut judge),
            Err(error) => (judge.findings).unseen(format!("the volumes cannot be read: {error}")),
        }
    }

    /// Whether what the process writes is written by the workload.
    fn is_of_workload(&self, process: &Process) -> bool {
        match process.role.session() {
            Some(id) => (self.evidence.sessions.get(id))
                .is_none_or(|session| session.standing == Standing::Own),
            None => process.role != (Role::Workload { doubtful: true }),
        }
    }
}

#[cfg(test)]
mod tests;
