//! The response to an AdmissionReview.

use axum::{
    Json,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use curfew_core::text::cut;
use serde::Serialize;

use super::{Unfit, Unreadable};

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
                Some(ResponseStatus {
                    code,
                    reason,
                    message,
                }),
            ),
        };
        Json(ReviewResponse {
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
struct ReviewResponse {
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
    status: Option<ResponseStatus>,
}

#[derive(Serialize)]
struct ResponseStatus {
    code: u16,
    reason: &'static str,
    message: String,
}

/// A body that is no review.
pub fn unreadable(error: &Unreadable) -> Response {
    (StatusCode::BAD_REQUEST, format!("{error}\n")).into_response()
}

/// The request is none that this webhook knows.
pub fn invalid(error: &Unfit) -> Answer {
    Answer::Deny {
        code: 400,
        reason: "BadRequest",
        message: format!("Curfew does not know this kind of request: {error}"),
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
