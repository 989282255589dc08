//! What the server may be told to answer.

use std::{io, time::Duration};

use axum::{body::Body, http::header};
use futures::{StreamExt, stream};
use serde_json::{Value, json};

/// What a request is answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub(crate) after: Duration,
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) what: What,
}

#[derive(Debug, Clone)]
pub(crate) enum What {
    Honest,
    /// The request is carried out, and where that succeeds, this is the code.
    DoneAs(u16),
    Says(u16, String),
    Streams(Vec<(Duration, Value)>, StreamEnd),
    /// The request is carried out, and the connection breaks before the answer.
    Lost,
    Broken,
    Never,
    Panics,
}

/// How a stream of [`Answer::stream`] ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamEnd {
    /// It does not: nothing more comes.
    StaysOpen,
    /// It ends as it should.
    Closes,
    /// The connection breaks.
    Breaks,
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
    pub fn honest() -> Self {
        Self::new(What::Honest)
    }

    /// The same, but success has this code.
    pub fn done_as(code: u16) -> Self {
        Self::new(What::DoneAs(code))
    }

    /// This body, which need not be JSON.
    pub fn raw(code: u16, body: &str) -> Self {
        Self::new(What::Says(code, body.to_owned()))
    }

    /// This object.
    pub fn json(code: u16, body: &Value) -> Self {
        Self::raw(code, &body.to_string()).header(header::CONTENT_TYPE.as_str(), "application/json")
    }

    /// A Status with this code and text.
    pub fn status(code: u16, message: &str) -> Self {
        Self::json(code, &failure(code, message))
    }

    /// A Status with details.
    pub fn detailed(code: u16, message: &str, details: Value) -> Self {
        let mut status = failure(code, message);
        status["details"] = details;
        Self::json(code, &status)
    }

    /// A denial by an admission webhook.
    pub fn denial(webhook: &str, code: u16, why: &str) -> Self {
        let message = format!("admission webhook {webhook:?} denied the request: {why}");
        Self::status(code, &message)
    }

    /// A refusal of an eviction because of a PodDisruptionBudget, with this cause.
    pub fn budget(cause: &str) -> Self {
        let message = "Cannot evict pod as it would violate the pod's disruption budget.";
        let cause = json!({"reason": "DisruptionBudget", "message": cause});
        Self::detailed(429, message, json!({"causes": [cause]}))
    }

    /// A refusal because of the budget `web`, with its numbers.
    pub fn no_room() -> Self {
        Self::budget("The disruption budget web needs 2 healthy pods and has 2 currently")
    }

    /// These lines of JSON, each so long after the one before, and then this end: a watch.
    pub fn stream(lines: Vec<(Duration, Value)>, end: StreamEnd) -> Self {
        Self::new(What::Streams(lines, end))
    }

    /// The request is carried out, and the connection breaks before the answer.
    pub fn lost() -> Self {
        Self::new(What::Lost)
    }

    /// The connection cannot be made, or breaks before anything is done.
    pub fn broken() -> Self {
        Self::new(What::Broken)
    }

    /// Nothing is done, and nothing comes.
    pub fn never() -> Self {
        Self::new(What::Never)
    }

    /// The client panics while it waits.
    pub fn panics() -> Self {
        Self::new(What::Panics)
    }

    /// So much later.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// With this header, as `Retry-After`.
    #[must_use]
    pub fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn is_carried_out(&self) -> bool {
        matches!(self.what, What::Honest | What::DoneAs(_) | What::Lost)
    }
}

/// `guard` lives as long as the body.
pub(crate) fn streamed<G: Send + 'static>(
    lines: Vec<(Duration, Value)>,
    end: StreamEnd,
    guard: G,
) -> Body {
    let lines = stream::iter(lines).then(async |(after, line)| {
        tokio::time::sleep(after).await;
        Ok(format!("{line}\n"))
    });
    let end = stream::once(async move {
        let _guard = guard;
        match end {
            StreamEnd::StaysOpen => std::future::pending().await,
            StreamEnd::Closes => None,
            StreamEnd::Breaks => Some(Err(io::Error::from(io::ErrorKind::ConnectionReset))),
        }
    });
    Body::from_stream(lines.chain(end.filter_map(std::future::ready)))
}

/// A Status of a failure, with the reason that the API server gives for this code.
pub fn failure(code: u16, message: &str) -> Value {
    let reason = match code {
        400 => "BadRequest",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        405 => "MethodNotAllowed",
        409 => "Conflict",
        410 => "Expired",
        422 => "Invalid",
        429 => "TooManyRequests",
        500 => "InternalError",
        503 => "ServiceUnavailable",
        504 => "Timeout",
        _ => "",
    };
    json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code,
           "reason": reason, "message": message})
}
