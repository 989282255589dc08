//! The handle through which other tasks send messages to the controller.

use curfew_agent_state::Summary;
use curfew_core::{Notice, Receipt};
use tokio::sync::{mpsc, oneshot};

use super::{Ended, NodeSchedule};
use crate::store::{NotRecorded, inspect::Holdings};

/// How many messages may wait for the controller.
const QUEUE: usize = 64;

/// What the controller is asked.
#[derive(Debug)]
pub(super) enum Message {
    Notice(Box<Notice>, oneshot::Sender<Result<Receipt, NotRecorded>>),
    Look(oneshot::Sender<NodeSchedule>),
    Sum(oneshot::Sender<Summary>),
    Dump(oneshot::Sender<Holdings>),
}

/// How others reach the controller.
#[derive(Debug, Clone)]
pub struct ControllerHandle {
    messages: mpsc::Sender<Message>,
}

/// What the controller reads of its handles.
#[derive(Debug)]
pub(crate) struct Inbox(pub(super) mpsc::Receiver<Message>);

/// A handle of the controller, and its inbox.
pub(crate) fn handle() -> (ControllerHandle, Inbox) {
    let (messages, inbox) = mpsc::channel(QUEUE);
    (ControllerHandle { messages }, Inbox(inbox))
}

impl ControllerHandle {
    async fn ask<T>(
        &self,
        message: impl FnOnce(oneshot::Sender<T>) -> Message,
    ) -> Result<T, Ended> {
        let (answer, answered) = oneshot::channel();
        self.messages
            .send(message(answer))
            .await
            .map_err(|_| Ended)?;
        answered.await.map_err(|_| Ended)
    }

    /// Records an interaction; answers once it is on disk.
    ///
    /// # Errors
    /// When it may not be on disk.
    pub async fn record(&self, notice: Notice) -> Result<Receipt, NotRecorded> {
        self.ask(|answer| Message::Notice(Box::new(notice), answer))
            .await?
    }

    /// What the store holds.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn dump(&self) -> Result<Holdings, Ended> {
        self.ask(Message::Dump).await
    }

    /// The node in numbers.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn summary(&self) -> Result<Summary, Ended> {
        self.ask(Message::Sum).await
    }

    /// The schedule as it stands.
    ///
    /// # Errors
    /// When the controller has ended.
    pub async fn look(&self) -> Result<NodeSchedule, Ended> {
        self.ask(Message::Look).await
    }
}
