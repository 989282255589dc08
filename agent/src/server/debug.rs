//! The debug port: shows the schedule of the node, as JSON for programs and as a page for people. It listens only on
//! the loopback address of the pod, so users who may forward a port to the pod can see it.

mod host;
mod page;
#[cfg(test)]
mod tests;

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};
use jiff::Timestamp;
use serde::Serialize;

use crate::{
    controller::{ControllerHandle, Ended, NodeSchedule},
    identity::Identities,
    store::inspect::{self, Holdings},
};

/// `GET /v1/schedule` and the page at `/`: all that there is to see of the agent.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct View {
    /// What the controller knows.
    #[serde(flatten)]
    pub schedule: NodeSchedule,
    /// How the certificate is.
    pub certificate: CertificateHealth,
}

/// How the certificate is by which the webhook knows this agent.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateHealth {
    /// When it ends; null when there is none.
    pub expiry: Option<Timestamp>,
}

/// What the routes tell of.
#[derive(Clone)]
struct Sources {
    controller: ControllerHandle,
    identities: Identities,
}

impl Sources {
    async fn view(&self) -> Result<View, Ended> {
        let schedule = self.controller.look().await?;
        let identity = self.identities.borrow();
        let expiry = identity.as_ref().map(|identity| identity.expiry);
        Ok(View {
            schedule,
            certificate: CertificateHealth {
                expiry: expiry.and_then(|expiry| Timestamp::try_from(expiry).ok()),
            },
        })
    }
}

/// The routes.
pub fn router(controller: ControllerHandle, identities: Identities) -> Router {
    Router::new()
        .route("/v1/schedule", get(schedule_json))
        .route(inspect::PATH, get(store_json))
        .route("/", get(html))
        .with_state(Sources {
            controller,
            identities,
        })
        .merge(page::files())
        .layer(middleware::map_response(page::guard))
        .layer(middleware::from_fn(host::check))
}

async fn html(State(sources): State<Sources>) -> Result<Response, Ended> {
    Ok(page::render(&sources.view().await?))
}

async fn schedule_json(State(sources): State<Sources>) -> Result<Json<View>, Ended> {
    sources.view().await.map(Json)
}

async fn store_json(State(sources): State<Sources>) -> Result<Json<Holdings>, Ended> {
    sources.controller.dump().await.map(Json)
}

impl IntoResponse for Ended {
    fn into_response(self) -> Response {
        (StatusCode::SERVICE_UNAVAILABLE, format!("{self}\n")).into_response()
    }
}
