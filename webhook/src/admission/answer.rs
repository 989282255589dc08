//! What the API server is answered.
//!
//! Owns the form of an AdmissionReview's response and the sentences that people read; when which is
//! said is for [`crate::admission`].

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use curfew_core::{Ending, Kind, PodId, text::cut};
use jiff::Timestamp;
use serde::Serialize;

use crate::eviction_guard::Refusal;

/// The API server cuts a warning that is longer.
const MAX_WARNING: usize = 256;

/// The answer to one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may go on; with a warning for whoever asked, where there is something to tell.
    Allow(Option<String>),
    /// It may not.
    Deny {
        /// The HTTP status that the client sees.
        code: u16,
        /// Its machine-readable reason.
        reason: &'static str,
        /// The sentence that the client sees.
        message: String,
    },
}

impl Answer {
    /// The response to the request of this UID.
    pub fn to(self, uid: String) -> Response {
        let (allowed, warnings, status) = match self {
            Answer::Allow(warning) => (
                true,
                warning
                    .iter()
                    .map(|text| cut(text, MAX_WARNING).into_owned())
                    .collect(),
                None,
            ),
            Answer::Deny {
                code,
                reason,
                message,
            } => (
                false,
                Vec::new(),
                Some(Status {
                    code,
                    reason,
                    message,
                }),
            ),
        };
        Json(Review {
            api_version: "admission.k8s.io/v1",
            kind: "AdmissionReview",
            response: Body {
                uid,
                allowed,
                warnings,
                status,
            },
        })
        .into_response()
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: &'static str,
    kind: &'static str,
    response: Body,
}

#[derive(Serialize)]
struct Body {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
}

#[derive(Serialize)]
struct Status {
    code: u16,
    reason: &'static str,
    message: String,
}

/// A body that is no review.
pub fn unreadable(error: &crate::admission::review::Unreadable) -> Response {
    (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
}

/// The interaction is recorded.
pub fn recorded(pod: &PodId, deadline: Option<Timestamp>, ending: Option<Ending>) -> Answer {
    Answer::Allow(Some(match (deadline, ending) {
        (_, Some(ending)) => format!("this interaction with pod {pod} was recorded; {ending}"),
        (Some(deadline), None) => format!("pod {pod} will be evicted at {deadline}"),
        (None, None) => format!("this interaction with pod {pod} was recorded"),
    }))
}

/// A policy forbids the interaction.
pub fn forbidden(pod: &str, kind: Kind, policy: &str) -> Answer {
    Answer::Deny {
        code: 403,
        reason: "Forbidden",
        message: format!(
            "InteractionPolicy {policy} forbids this interaction ({kind}) with pod {pod}. Nothing was done. \
             `kubectl describe interactionpolicy {policy}` shows to which users and pods it applies."
        ),
    }
}

/// The request is none that this webhook knows.
pub fn invalid(error: &crate::admission::review::Unfit) -> Answer {
    Answer::Deny {
        code: 400,
        reason: "BadRequest",
        message: format!("Curfew does not know this kind of request: {error}"),
    }
}

/// The interaction could be recorded nowhere and is denied. `id` finds the reason in the log.
pub fn denied(pod: &str, node: Option<&str>, id: &str) -> Answer {
    let agent = match node {
        Some(node) => format!("with its agent on node {node}"),
        None => "with its agent".to_owned(),
    };
    Answer::Deny {
        code: 503,
        reason: "ServiceUnavailable",
        message: format!(
            "Curfew records every interaction with a pod before it admits it, and could record this one \
             neither {agent} nor on pod {pod} itself. Nothing was done. Try again in a moment. If it still \
             fails, the cluster's administrators can find the reason in the log of curfew-webhook, id {id}."
        ),
    }
}

/// The policies were never read, and the interaction is denied. `id` finds it in the log.
pub fn undecided(pod: &str, id: &str) -> Answer {
    Answer::Deny {
        code: 503,
        reason: "ServiceUnavailable",
        message: format!(
            "Curfew has not been able to read its InteractionPolicies yet, so it does not know whether one of \
             them forbids this interaction with pod {pod}. Nothing was done. Try again in a moment. If it \
             still fails, the cluster's administrators can find the reason in the log of curfew-webhook, id \
             {id}."
        ),
    }
}

/// The interaction could be recorded nowhere and is let through, for this reason.
pub fn unrecorded(pod: &str, because: &str) -> Answer {
    Answer::Allow(Some(format!(
        "Curfew did not record this interaction with pod {pod}: {because}"
    )))
}

/// An agent's eviction is not let through.
pub fn refused(refusal: &Refusal) -> Answer {
    let (code, reason) = refusal.status();
    Answer::Deny {
        code,
        reason,
        message: refusal.to_string(),
    }
}

/// A probe, whose denial tells who created it that a replica answered.
pub fn probe(nonce: &str) -> Answer {
    Answer::Deny {
        code: 403,
        reason: "Forbidden",
        message: probed(nonce),
    }
}

/// What stands in the denial of a probe with this nonce.
pub fn probed(nonce: &str) -> String {
    format!("a replica of Curfew's webhook received {nonce}")
}
