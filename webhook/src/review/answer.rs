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

/// What the API server's audit log is told of an interaction. The API server puts the name of the webhook and a slash
/// before each key, and leaves out a key that has a slash itself.
/// <https://kubernetes.io/docs/reference/access-authn-authz/extensible-admission-controllers/#response>
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct AuditAnnotations {
    /// Where it was recorded: `agent`, `metadata` or `nowhere`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recorded: Option<&'static str>,
    /// The policy that applies; none where the flags hold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<String>,
    /// What follows, as JSON.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub terms: Option<String>,
    /// Why it is irregular for the workload; none where it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub irregular: Option<String>,
    /// When the pod will be evicted, or would be if the terms are a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eviction_time: Option<String>,
}

impl AuditAnnotations {
    fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl Answer {
    /// The response to the request of this UID.
    pub fn to(self, uid: String) -> Response {
        self.audited(uid, AuditAnnotations::default())
    }

    /// The same, with this for the audit log.
    pub fn audited(self, uid: String, audit: AuditAnnotations) -> Response {
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
                audit_annotations: audit,
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
#[serde(rename_all = "camelCase")]
struct Body {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "AuditAnnotations::is_empty")]
    audit_annotations: AuditAnnotations,
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
