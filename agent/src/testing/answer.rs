//! What the scripted API server may be told to answer.

use std::time::Duration;

use serde_json::json;

use super::model::failure;

/// What a request is answered.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(super) after: Duration,
    pub(super) what: What,
}

#[derive(Debug, Clone)]
pub(super) enum What {
    AsTheModelSays,
    /// This status and body.
    Says(u16, String),
    /// The request is carried out, and the connection breaks before the answer.
    Lost,
    Broken,
    Never,
}

impl Answer {
    fn new(what: What) -> Self {
        Self {
            after: Duration::ZERO,
            what,
        }
    }

    /// What follows from the objects there are.
    pub(crate) fn honest() -> Self {
        Self::new(What::AsTheModelSays)
    }

    /// A Status with this code and text.
    pub(crate) fn status(code: u16, message: &str) -> Self {
        Self::new(What::Says(code, failure(code, message).to_string()))
    }

    /// A refusal by a PodDisruptionBudget.
    pub(crate) fn budget() -> Self {
        let mut status = failure(
            429,
            "Cannot evict pod as it would violate the pod's disruption budget.",
        );
        let cause =
            json!({"reason": "DisruptionBudget", "message": "The budget web needs 2 healthy pods"});
        status["details"] = json!({"causes": [cause]});
        Self::new(What::Says(429, status.to_string()))
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

    /// So much later.
    pub(crate) fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}
