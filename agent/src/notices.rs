//! Where the webhook's notices come in: `POST /v1/interactions`.

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use curfew_core::{Notice, notice};

use crate::schedule::{NotRecorded, Schedule};

#[derive(Debug, Clone)]
struct Door {
    node: String,
    schedule: Schedule,
}

/// The routes.
pub fn router(node: String, schedule: Schedule) -> Router {
    Router::new()
        .route(notice::PATH, post(take))
        .with_state(Door { node, schedule })
}

/// Answers 200 with a receipt once the interaction is on disk, 400 to what is no notice for this agent,
/// and 503 when it could not be recorded; the webhook then records it elsewhere.
async fn take(State(door): State<Door>, body: Bytes) -> Response {
    let notice: Notice = match serde_json::from_slice(&body) {
        Ok(notice) => notice,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("not a notice: {error}")),
    };
    if let Err(refusal) = notice.check(&door.node) {
        return refuse(StatusCode::BAD_REQUEST, &refusal.to_string());
    }
    match door.schedule.record(notice).await {
        Ok(receipt) => Json(receipt).into_response(),
        Err(error @ (NotRecorded::Store(_) | NotRecorded::Ended(_))) => {
            refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string())
        }
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}
