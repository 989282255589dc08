//! The task of the controller. It receives messages, observations and reports, passes them to the state, and has the
//! decisions of the state carried out.
//!
//! The task never waits for the API server or the disk. The executor runs each action as a task, the store is
//! written on a blocking thread, and the controller receives the results.

use std::{future::pending, sync::Arc, time::Duration};

use curfew_agent_state::{
    AgentAction, Decisions, DomainEvent, EvictionAnswer, EvictionOutcome, NodeState, PatchOutcome,
    StoreLoss, StoredNotice, Summary,
};
use curfew_core::{Notice, Receipt, Record, notice};
use curfew_runtime::time::until;
use jiff::Timestamp;
use tokio::{sync::mpsc, task::yield_now, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{
    Inbox, NodeSchedule, StoreHealth, Watch, WatchError,
    handle::Message,
    recent_evictions::{EvictionCause, RecentEvictions},
};
use crate::{
    cluster::{
        Observation,
        executor::{Executor, LookUp, Report},
    },
    events::EventRecorder,
    evidence::EvidenceHandle,
    store::{
        NotRecorded, StoreError,
        inspect::Holdings,
        recovery::Opened,
        writer::{StoreWriter, Waiting, Written},
    },
};

/// How many messages, and how many observations, are taken at once, so that interactions of the same moment share
/// one sync.
const AT_ONCE: usize = 64;

/// The longest sleep while there is a deadline. A jump of the wall clock is noticed after at most this time.
const LONGEST_NAP: Duration = Duration::from_secs(5);

/// How long messages are still answered after the process was told to stop.
const DRAIN: Duration = Duration::from_secs(2);

/// The time of day, which tests set.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What a controller works with.
pub(crate) struct Parts {
    pub(crate) node: String,
    pub(crate) clock: Clock,
    pub(crate) state: NodeState,
    pub(crate) writer: StoreWriter,
    pub(crate) executor: Executor,
    pub(crate) recorder: EventRecorder,
    pub(crate) evidence: EvidenceHandle,
    pub(crate) inbox: Inbox,
    pub(crate) observations: mpsc::Receiver<Observation>,
}

/// The controller.
pub(crate) struct Controller {
    parts: Parts,
    /// Whether the watch told of an error last. It lists the pods after each, so it shows something once it goes on.
    watch_fails: bool,
    /// What the watch told of last.
    watch_error: Option<WatchError>,
    /// UIDs of records in the store that cannot be read.
    set_aside: Vec<String>,
    recent_evictions: RecentEvictions,
    /// Whether the process is to end: the successor evicts.
    stopping: bool,
}

impl Controller {
    pub(crate) fn new(parts: Parts) -> Self {
        Self {
            parts,
            watch_fails: false,
            watch_error: None,
            set_aside: Vec::new(),
            recent_evictions: RecentEvictions::default(),
            stopping: false,
        }
    }

    /// Runs until `stop`, and then for as long as it takes to finish what is in hand.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut messages = Vec::with_capacity(AT_ONCE);
        let mut observations = Vec::with_capacity(AT_ONCE);
        let mut reports = Vec::new();
        let mut stopping = None;
        // The first batch is empty and opens the store: nothing else is done before that is tried.
        self.parts.writer.begin(&mut self.parts.state);
        let opened = self.parts.writer.written().await?;
        self.written(opened).await?;
        loop {
            let nap = self.nap();
            let parts = &mut self.parts;
            tokio::select! {
                // Check for the stop first, so that nothing new is started after it.
                biased;
                () = stop.cancelled(), if stopping.is_none() => {
                    stopping = Some(Instant::now() + DRAIN);
                    self.stopping = true;
                }
                () = until(stopping) => break,
                written = parts.writer.written() => self.written(written?).await?,
                () = parts.executor.ended(&mut reports) => {}
                () = receive(&mut parts.inbox.0, &mut messages) => {}
                () = receive(&mut parts.observations, &mut observations) => {}
                () = tokio::time::sleep(nap) => {}
            }
            // Take everything that has arrived from all sources, so that no source has to wait for another.
            // Observations of the watches come first, because an answer of the API server may be later than they
            // are.
            let parts = &mut self.parts;
            take_waiting(&mut parts.observations, &mut observations);
            parts.executor.take_ended(&mut reports);
            take_waiting(&mut parts.inbox.0, &mut messages);
            let now = (self.parts.clock)();
            let mut out = Decisions::default();
            for observation in observations.drain(..) {
                self.observe(observation, now, &mut out);
            }
            for report in reports.drain(..) {
                self.take(report, now, &mut out);
            }
            for message in messages.drain(..) {
                self.answer(message, now);
            }
            self.parts.state.tick(now, &mut out);
            self.parts.writer.begin(&mut self.parts.state);
            self.carry_out(out, now);
        }
        if self.parts.writer.is_writing() {
            let written = self.parts.writer.written().await?;
            self.written(written).await?;
        }
        Ok(())
    }

    fn carry_out(&mut self, decisions: Decisions, now: Timestamp) {
        for event in decisions.events {
            if let DomainEvent::Evicted(eviction) = &event {
                let order = eviction.evict_now.as_ref();
                let cause = EvictionCause::of(eviction.decisive.as_ref(), order);
                let (time, dry_run) = (Some(eviction.eviction_time), eviction.dry_run);
                let outcome = EvictionOutcome::Accepted;
                self.recent_evictions
                    .add(&eviction.pod, cause, time, &outcome, dry_run, now);
            }
            self.parts.evidence.tell(&event, now);
            self.parts.recorder.record(event, now);
        }
        for action in decisions.actions {
            if self.stopping && matches!(action, AgentAction::Evict(_)) {
                continue;
            }
            self.parts.executor.start(action, now);
        }
    }

    /// An action has ended.
    fn take(&mut self, report: Report, now: Timestamp, out: &mut Decisions) {
        let state = &mut self.parts.state;
        match report {
            Report::Patched(change, outcome, pod) => {
                let (pod_id, ids) = (change.pod.clone(), change.ids);
                match &outcome {
                    PatchOutcome::Done => out.events.push(DomainEvent::Marked {
                        pod: pod_id,
                        ids,
                        missing: change.missing,
                    }),
                    PatchOutcome::Failed(error) => out.events.push(DomainEvent::MarkFailed {
                        pod: pod_id,
                        ids,
                        error: error.clone(),
                    }),
                    PatchOutcome::Outdated | PatchOutcome::Gone | PatchOutcome::Refused { .. } => {}
                }
                if let Some(pod) = pod {
                    state.answered(*pod, now, out);
                }
                state.patched(&change.pod.uid, outcome, now, out);
            }
            Report::Evicted(answer) => {
                self.remember_refusal(&answer, now);
                let (uid, outcome) = (answer.pod.uid.clone(), answer.outcome.clone());
                out.events.push(DomainEvent::EvictionAnswered(answer));
                self.parts.state.evicted(&uid, outcome, now, out);
            }
            Report::LookedUp(pod, LookUp::Found(view)) if view.id == pod => {
                state.answered(*view, now, out);
            }
            // Another pod has its name.
            Report::LookedUp(pod, LookUp::Found(_) | LookUp::Gone) => state.gone(&pod.uid, out),
            Report::LookedUp(_, LookUp::Unknown) | Report::Unwatched(_) => {}
        }
    }

    /// A watch saw something.
    fn observe(&mut self, observation: Observation, now: Timestamp, out: &mut Decisions) {
        let state = &mut self.parts.state;
        match observation {
            Observation::PodSeen(pod) => {
                self.watch_fails = false;
                state.seen(*pod, now, out);
            }
            Observation::PodGone(uid) => {
                self.watch_fails = false;
                state.gone(&uid, out);
            }
            Observation::PodsListed(uids) => {
                self.watch_fails = false;
                state.listed(&uids, now, out);
            }
            Observation::ListBegins => state.list_begins(),
            Observation::WatchFailed(message) => {
                self.watch_fails = true;
                self.watch_error = Some(WatchError { time: now, message });
            }
            Observation::BudgetSeen(id, view) => state.budget_seen(&id, view, now, out),
            Observation::Looked(uid, drift) => state.looked(&uid, drift, now, out),
        }
    }

    /// Somebody asks. Whoever did may have gone meanwhile.
    fn answer(&mut self, message: Message, now: Timestamp) {
        let Parts {
            node,
            state,
            writer,
            ..
        } = &mut self.parts;
        match message {
            Message::Notice(notice, answer) if writer.takes(&notice.pod.uid, state) => {
                writer.add(Waiting { notice, answer });
            }
            Message::Notice(_, answer) => drop(answer.send(Err(NotRecorded::Unseen))),
            Message::Dump(answer) => {
                let records = state.rows(now).map(|row| row.record.clone());
                // Orders without an interaction stand on the pods only.
                let records = records.filter(|record| record.last().is_some());
                let _ = answer.send(Holdings {
                    open: writer.health().open,
                    records: records.collect(),
                    set_aside: self.set_aside.clone(),
                });
            }
            Message::Sum(answer) => {
                let store = writer.health();
                let _ = answer.send(Summary {
                    watched: state.synced() && !self.watch_fails,
                    store_open: store.open,
                    store_bytes: store.bytes,
                    ..Summary::of(state, now)
                });
            }
            Message::Look(answer) => {
                let store = writer.health();
                let _ = answer.send(NodeSchedule::of(
                    node,
                    now,
                    state,
                    StoreHealth {
                        open: store.open,
                        bytes: store.bytes,
                        set_aside: self.set_aside.len(),
                    },
                    Watch {
                        failing: self.watch_fails,
                        last_error: self.watch_error.clone(),
                    },
                    &self.recent_evictions,
                ));
            }
        }
    }

    /// What is accepted is remembered when it is recorded as an event: its answer may be lost, and the pod shows
    /// it.
    fn remember_refusal(&mut self, answer: &EvictionAnswer, now: Timestamp) {
        let (outcome, dry_run) = (&answer.outcome, answer.dry_run);
        if *outcome == EvictionOutcome::Accepted {
            return;
        }
        if let Some(record) = self.parts.state.record(&answer.pod.uid) {
            let cause = EvictionCause::of(record.decisive(), record.evict_now());
            let eviction_time = record.eviction_time();
            self.recent_evictions
                .add(&record.pod, cause, eviction_time, outcome, dry_run, now);
        }
    }

    /// Answers those who waited for a batch, and takes note of what is durable now.
    ///
    /// # Errors
    /// If only a new process can open a store, and nothing is lost when this process ends.
    async fn written(&mut self, written: Written) -> anyhow::Result<()> {
        let now = (self.parts.clock)();
        let mut out = Decisions::default();
        let state = &mut self.parts.state;
        if let Some(Opened {
            contents,
            moved_to,
            deleted,
        }) = written.opened
        {
            out.events.push(DomainEvent::StoreOpened {
                records: contents.records.len(),
                set_aside: contents.aside.len(),
                writable: written.result.is_ok(),
            });
            let loss = match (moved_to, contents.lost_batches) {
                (Some(path), _) => Some(StoreLoss::Moved(path.display().to_string())),
                (None, _) if deleted => Some(StoreLoss::Deleted),
                (None, 0) => None,
                (None, lost) => Some(StoreLoss::Batches(lost)),
            };
            if let Some(loss) = loss {
                out.events.push(DomainEvent::StoreRebuilt {
                    node: self.parts.node.clone(),
                    loss,
                });
            }
            self.set_aside = contents.aside;
            self.parts.evidence.restored(&contents.records);
            state.restore(contents.records, now, &mut out);
        }
        match written.result {
            Ok(()) => {
                state.written(now, &mut out);
                for Waiting { notice, answer } in written.waiting {
                    let Notice { pod, known, .. } = *notice;
                    let record = state.record(&pod.uid);
                    let before = record.and_then(Record::eviction_time);
                    let request = &known.interaction.request;
                    let again = record.is_some_and(|record| record.has_request(request));
                    let record = state.learned(pod.clone(), known.clone(), now, &mut out);
                    // The webhook may have given up; it has recorded it elsewhere then.
                    let _ = answer.send(Ok(receipt(&record)));
                    out.events.push(DomainEvent::Stored(StoredNotice {
                        pod,
                        interaction: known.interaction,
                        before,
                        eviction_time: record.eviction_time(),
                        interactions: record.interactions(),
                        again,
                    }));
                }
                // An admission waits for the answer, and for nothing that follows here.
                yield_now().await;
            }
            Err(error) => {
                out.events.push(DomainEvent::StoreFailed {
                    error: error.to_string(),
                    records: written.batch.len(),
                    again: written.again,
                });
                for Waiting { answer, .. } in written.waiting {
                    let _ = answer.send(Err(StoreError::Write(error.to_string()).into()));
                }
                state.not_written(written.batch);
                let needs_another_container =
                    matches!(error, StoreError::NoFolder(_) | StoreError::OldMount(_));
                if needs_another_container && state.is_on_the_pods() {
                    self.carry_out(out, now);
                    return Err(error.into());
                }
            }
        }
        self.carry_out(out, now);
        Ok(())
    }

    /// How long nothing is to be done unless a message comes.
    fn nap(&self) -> Duration {
        let now = (self.parts.clock)();
        let next = self.parts.state.next_deadline();
        let next = next.map_or(Duration::MAX, |at| {
            Duration::try_from(at.duration_since(now)).unwrap_or(Duration::ZERO)
        });
        let store = self.parts.writer.next().unwrap_or(Duration::MAX);
        // Timers of the runtime tick in milliseconds: waking one before would mean waking twice.
        let nap = next.min(store).saturating_add(Duration::from_millis(1));
        if nap > LONGEST_NAP && next < Duration::MAX {
            LONGEST_NAP
        } else {
            nap
        }
    }
}

/// Waits for something to come; for ever when nothing can come any more.
async fn receive<T>(from: &mut mpsc::Receiver<T>, into: &mut Vec<T>) {
    match from.recv().await {
        Some(item) => into.push(item),
        None => pending().await,
    }
}

/// Takes what has come by now.
fn take_waiting<T>(from: &mut mpsc::Receiver<T>, into: &mut Vec<T>) {
    while into.len() < AT_ONCE
        && let Ok(item) = from.try_recv()
    {
        into.push(item);
    }
}

fn receipt(record: &Record) -> Receipt {
    Receipt {
        version: notice::VERSION,
        eviction_time: record.eviction_time(),
        dry_run: record.is_dry_run(),
        interactions: record.interactions(),
    }
}
