//! Knows the processes and the pods of the node, and joins them.

use std::{
    collections::{BTreeSet, HashMap},
    path::Path,
};

use curfew_core::Kind;
use jiff::{SignedDuration, Timestamp};

use crate::{
    containers::Containers,
    facts::{Bypass, Limitation, Mode, PodFacts, Sighting, Touch},
    probes,
    process::Proc,
    rights,
    sessions::{SETUP, Session, Sessions, Standing, Update},
    spans::{Span, Spans},
    table::Table,
    time::{TICKS, boot, later},
    touches::Touches,
};

/// The most pods that are known. A node has far fewer.
const MAX_PODS: usize = 4096;

/// How long an interaction may take to become known after its session began: it is recorded before, but where the agent
/// could not be reached it is read from the pod.
const GRACE: SignedDuration = SignedDuration::from_secs(3);

/// How long before a session is judged it was seen for the first time.
const SECOND_LOOK: SignedDuration = SignedDuration::from_secs(1);

/// How long after the start of its container a `postStart` hook is started.
const HOOK: SignedDuration = SignedDuration::from_secs(5);

/// How long a process may be one of the runtime that is about to become another.
const STAGE: u64 = 10 * TICKS;

/// What is known of a pod.
#[derive(Debug, Default)]
pub(crate) struct Pod {
    pub(crate) facts: Option<PodFacts>,
    pub(crate) touches: Touches,
    /// When its last session ended.
    pub(crate) ended: Option<Timestamp>,
    /// When its sessions were that have ended.
    pub(crate) spans: Spans,
}

/// Who reached into the containers of one node, and what changed in them.
///
/// All of it is in memory and bounded: 65,536 processes, 4,096 sessions, 4,096 pods with 64 interactions each.
#[derive(Debug)]
pub struct Evidence {
    pub(crate) proc: Proc,
    pub(crate) mode: Mode,
    pub(crate) limitations: Vec<Limitation>,
    pub(crate) table: Table,
    pub(crate) containers: Containers,
    pub(crate) sessions: Sessions,
    pub(crate) pods: HashMap<String, Pod>,
    /// The pod and the name of each container that the API server knows.
    owners: HashMap<String, (String, String)>,
    first: Option<Timestamp>,
    /// The last scan did not see all processes.
    pub(crate) incomplete: bool,
}

impl Evidence {
    /// Looks at the processes below `proc` (`/proc`). The second value says what it cannot do.
    #[must_use]
    pub fn new(proc: &Path, mode: Mode) -> (Self, Vec<Limitation>) {
        let proc = Proc::new(proc);
        let limitations = rights::limitations(&proc, mode);
        let evidence = Self {
            proc,
            mode,
            limitations: limitations.clone(),
            table: Table::default(),
            containers: Containers::default(),
            sessions: Sessions::default(),
            pods: HashMap::new(),
            owners: HashMap::new(),
            first: None,
            incomplete: false,
        };
        (evidence, limitations)
    }

    /// Takes what the API server says of a pod, instead of what it said before.
    pub fn pod(&mut self, facts: PodFacts) {
        if self.pods.len() >= MAX_PODS && !self.pods.contains_key(&facts.uid) {
            return;
        }
        self.owners.retain(|_, (uid, _)| *uid != facts.uid);
        for container in facts
            .containers
            .iter()
            .filter(|container| !container.id.is_empty())
        {
            let owner = (facts.uid.clone(), container.name.clone());
            self.owners.insert(container.id.clone(), owner);
        }
        let uid = facts.uid.clone();
        self.pods.entry(uid.clone()).or_default().facts = Some(facts);
        self.mark_early(&uid);
    }

    /// Forgets a pod that is gone.
    pub fn forget(&mut self, uid: &str) {
        self.pods.remove(uid);
        self.owners.retain(|_, (owner, _)| owner != uid);
    }

    /// Takes a recorded interaction. Tell it once, and before it is admitted where that is possible.
    pub fn touched(&mut self, touch: Touch, now: Timestamp) {
        if self.pods.len() >= MAX_PODS && !self.pods.contains_key(&touch.uid) {
            return;
        }
        let uid = touch.uid.clone();
        let used = touch.kind == Kind::Bypass && self.is_reported(&touch);
        let pod = self.pods.entry(uid.clone()).or_default();
        pod.touches.add(touch, used, now);
        self.mark_early(&uid);
    }

    /// Whether the interaction is one that was found here and then recorded.
    fn is_reported(&self, touch: &Touch) -> bool {
        self.sessions.iter().any(|session| {
            let owner = self.owners.get(&*session.container);
            session.standing == Standing::Bypass
                && owner.is_some_and(|(uid, name)| {
                    *uid == touch.uid && Some(name) == touch.container.as_ref()
                })
        })
    }

    /// How many sessions are open.
    #[must_use]
    pub fn sessions(&self) -> usize {
        self.sessions
            .iter()
            .filter(|session| session.is_open())
            .count()
    }

    /// The IDs of the containers that were seen, each with its pod as the kubelet calls it.
    #[must_use]
    pub fn containers(&self) -> Vec<(String, String)> {
        self.containers.pods()
    }

    /// When the first interaction with a pod was.
    #[must_use]
    pub fn since(&self, uid: &str) -> Option<Timestamp> {
        self.pods.get(uid)?.touches.first()
    }

    /// Looks at the processes, and says what is new.
    pub fn scan(&mut self, now: Timestamp) -> Vec<Sighting> {
        let uptime = self.proc.read_file("uptime", 128).unwrap_or_default();
        let Some(boot) = boot(now, &uptime) else {
            self.incomplete = true;
            return Vec::new();
        };
        let ticks = now.duration_since(boot).as_millis() / i128::from(1000 / TICKS);
        let ticks = u64::try_from(ticks).unwrap_or(0);
        let scan = self.table.scan(&self.proc, ticks.saturating_sub(STAGE));
        self.incomplete = scan.incomplete;
        let mut update = Update {
            table: &mut self.table,
            containers: &mut self.containers,
            proc: &self.proc,
            boot,
            now,
            first: *self.first.get_or_insert(now),
        };
        let owners = &self.owners;
        self.sessions
            .update(&scan, &mut update, |id| owners.contains_key(id));
        let sightings = self.judge(now);
        self.sessions.prune(&self.table, now);
        self.containers.prune(&self.table);
        for pod in self.pods.values_mut() {
            pod.touches.expire(now);
        }
        sightings
    }

    /// When a scan can tell why a session is there that was seen already; none where each is known.
    #[must_use]
    pub fn due(&self) -> Option<Timestamp> {
        self.sessions.due()
    }

    /// Says why each session is there, and which ended.
    fn judge(&mut self, now: Timestamp) -> Vec<Sighting> {
        let mut sightings = Vec::new();
        let mut ended = BTreeSet::new();
        for session in self.sessions.iter_mut() {
            let Some((uid, name)) = self.owners.get(&*session.container) else {
                continue;
            };
            let Some(pod) = self.pods.get_mut(uid) else {
                continue;
            };
            if session.is_pending() {
                let container = self.containers.get_mut(&session.container);
                if let Some(container) = container.filter(|own| is_early(session.start, own.start))
                {
                    container.early = true;
                }
                let container = self.containers.get(&session.container);
                let start = container.map(|container| container.start);
                let shares_pids = container.is_some_and(|container| container.shares_pids);
                session.standing = standing(session, pod, name, start, shares_pids, now);
                if session.standing == Standing::Bypass {
                    pod.touches.begin(session.start);
                    sightings.push(Sighting::Bypass(Bypass {
                        uid: uid.clone(),
                        container: name.clone(),
                        argv: session.command.clone(),
                        start: session.start,
                    }));
                }
            }
            let counts = matches!(session.standing, Standing::Explained | Standing::Bypass);
            if let Some(end) = session.ended
                && counts
                && !session.told
            {
                session.told = true;
                pod.ended = pod.ended.max(Some(end));
                if let Some(span) = Span::of(session, now) {
                    pod.spans.add(span);
                }
                ended.insert(uid.clone());
            }
        }
        ended.retain(|uid| self.open_sessions(uid) == 0);
        sightings.extend(ended.into_iter().filter_map(|uid| {
            let since = self.since(&uid)?;
            Some(Sighting::Ended { uid, since })
        }));
        sightings
    }

    /// How many sessions of a pod have not ended.
    pub(crate) fn open_sessions(&self, uid: &str) -> usize {
        self.sessions
            .iter()
            .filter(|session| session.is_open())
            .filter(|session| {
                let owner = self.owners.get(&*session.container);
                owner.is_some_and(|(of, _)| of == uid)
            })
            .count()
    }

    /// Whether the API server said to which pod the container belongs.
    pub(crate) fn is_known(&self, id: &str) -> bool {
        self.owners.contains_key(id)
    }

    /// Notes the containers in which somebody may have been while they were started.
    fn mark_early(&mut self, uid: &str) {
        let Some(pod) = self.pods.get(uid) else {
            return;
        };
        for container in pod.facts.iter().flat_map(|facts| &facts.containers) {
            if let Some(own) = self.containers.get_mut(&container.id) {
                own.early |= pod.touches.any_within(own.start, later(own.start, SETUP));
            }
        }
    }
}

fn is_early(session: Timestamp, container: Timestamp) -> bool {
    session <= later(container, SETUP)
}

/// Why a session is there, as far as it is known now.
fn standing(
    session: &Session,
    pod: &mut Pod,
    name: &str,
    container: Option<Timestamp>,
    shares_pids: bool,
    now: Timestamp,
) -> Standing {
    let Some(facts) = &pod.facts else {
        return Standing::Pending(None);
    };
    if probes::is_probe(&facts.probes, name, &session.command) {
        return Standing::Own;
    }
    if pod.touches.explain(name, &session.command, session.start) {
        return Standing::Explained;
    }
    let begun = match session.before {
        true => session.seen,
        false => session.start.min(session.seen),
    };
    let longest = probes::longest(&facts.probes, name);
    let wait = longest.and_then(|longest| SignedDuration::try_from(longest).ok());
    let until = later(begun, GRACE.max(wait.unwrap_or(GRACE)));
    let until = until.max(later(session.seen, SECOND_LOOK));
    let has_hook = probes::has_hook(&facts.probes, name);
    // It may have been a probe or a hook that became another program.
    if (longest.is_some() || has_hook) && session.ended.is_some_and(|end| end < until) {
        return Standing::Own;
    }
    if now < until {
        return Standing::Pending(Some(until));
    }
    let is_hook = has_hook && container.is_some_and(|start| session.start <= later(start, HOOK));
    if shares_pids || is_hook {
        return Standing::Own;
    }
    match session.before && !facts.complete {
        true => Standing::Explained,
        false => Standing::Bypass,
    }
}

#[cfg(test)]
mod tests;
