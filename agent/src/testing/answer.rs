//! What the scripted API server may be told to answer.

use std::time::Duration;

use serde_json::{Value, json};

use super::model::failure;

/// What a request is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(super) after: Duration,
    pub(super) headers: Vec<(&'static str, String)>,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    AsTheModelSays,
    /// The request is carried out, and where it could be, this is the code.
    DoneAs(u16),
    /// This status and body.
    Says(u16, String),
    /// The request is carried out, and the connection breaks before the answer.
    Lost,
    Broken,
    Never,
    /// The client panics.
    Panics,
}

impl Answer {
    fn new(what: What) -> Self {
        Self {
            after: Duration::ZERO,
            headers: Vec::new(),
            what,
        }
    }

    /// What follows from the objects there are.
    pub(crate) fn honest() -> Self {
        Self::new(What::AsTheModelSays)
    }

    /// The same, but success has this code.
    pub(crate) fn done_as(code: u16) -> Self {
        Self::new(What::DoneAs(code))
    }

    /// Whatever something on the way may say.
    pub(crate) fn raw(code: u16, body: &str) -> Self {
        Self::new(What::Says(code, body.to_owned()))
    }

    /// A Status with this code and text.
    pub(crate) fn status(code: u16, message: &str) -> Self {
        Self::detailed(code, message, Value::Null)
    }

    /// A Status with details.
    pub(crate) fn detailed(code: u16, message: &str, details: Value) -> Self {
        let mut status = failure(code, message);
        if !details.is_null() {
            status["details"] = details;
        }
        Self::raw(code, &status.to_string())
    }

    /// A denial by an admission webhook.
    pub(crate) fn denial(webhook: &str, code: u16, why: &str) -> Self {
        let message = format!("admission webhook {webhook:?} denied the request: {why}");
        Self::status(code, &message)
    }

    /// A refusal for the sake of a PodDisruptionBudget, which says this.
    pub(crate) fn budget(says: &str) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let cause = json!({"reason": "DisruptionBudget", "message": says});
        Self::detailed(429, message, json!({"causes": [cause]}))
    }

    /// A refusal for the sake of the budget `web`, with its numbers.
    pub(crate) fn no_room() -> Self {
        Self::budget("The disruption budget web needs 2 healthy pods and has 2 currently")
    }

    /// Carried out, but nobody hears of it.
    pub(crate) fn lost() -> Self {
        Self::new(What::Lost)
    }

    /// The connection cannot be made.
    pub(crate) fn broken() -> Self {
        Self::new(What::Broken)
    }

    /// The connection stands and nothing comes.
    pub(crate) fn never() -> Self {
        Self::new(What::Never)
    }

    /// Whoever asks panics.
    pub(crate) fn panics() -> Self {
        Self::new(What::Panics)
    }

    /// So much later.
    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// With this header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}
