//! Where the webhook's notices come in: `POST /v1/interactions`.

use std::sync::Arc;

use axum::{
    Json, Router,
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::post,
};
use curfew_core::{Notice, notice};

use crate::{
    controller::{ControllerHandle, run::Clock},
    metrics::Metrics,
};

/// Shared by all requests: the metrics are dozens of handles, and each request would count them up and down.
struct Receiver {
    node: String,
    clock: Clock,
    controller: ControllerHandle,
    metrics: Metrics,
}

/// The routes.
pub(crate) fn router(
    node: String,
    clock: Clock,
    controller: ControllerHandle,
    metrics: Metrics,
) -> Router {
    let receiver = Arc::new(Receiver {
        node,
        clock,
        controller,
        metrics,
    });
    Router::new()
        .route(notice::PATH, post(take))
        .with_state(receiver)
}

/// Answers 200 with a receipt once the interaction is on disk, 400 to what is no notice for this agent,
/// and 503 when it could not be recorded; the webhook then records it elsewhere.
async fn take(State(receiver): State<Arc<Receiver>>, body: Bytes) -> Response {
    let notice: Notice = match serde_json::from_slice(&body) {
        Ok(notice) => notice,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &format!("not a notice: {error}")),
    };
    if let Err(refusal) = notice.check(&receiver.node) {
        return refuse(StatusCode::BAD_REQUEST, &refusal.to_string());
    }
    let (sent, taken) = (notice.sent, (receiver.clock)());
    match receiver.controller.record(notice).await {
        Ok(receipt) => {
            // Only now: a webhook that has given up hangs up, and nobody gets here. Its notice may have been on
            // the way for long, which says nothing of the clocks.
            if let Some(sent) = sent {
                receiver.metrics.clocks(sent, taken);
            }
            Json(receipt).into_response()
        }
        Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn refuse(status: StatusCode, why: &str) -> Response {
    (status, format!("{why}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use axum::{body::Body, http::Request};
    use jiff::{SignedDuration, Timestamp};
    use tower::ServiceExt;

    use super::*;
    use crate::testing::{
        shell,
        stage::{Agent, NODE, Stage, notice},
    };

    /// The skew in seconds, as it is scraped.
    async fn scraped(agent: &Agent, metrics: &Metrics) -> f64 {
        let families = metrics.gather(&agent.controller.summary().await.unwrap());
        let name = "curfew_agent_clock_skew_seconds";
        let skew = families.iter().find(|family| family.name() == name);
        skew.unwrap().get_metric()[0].get_gauge().get_value()
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_notice_tells_how_far_the_clocks_are_apart() {
        let stage = Stage::set(5);
        stage.pod("a", 0);
        let agent = stage.start().await;
        let metrics = Metrics::new().unwrap();
        let clock = stage.wall.clock();
        let router = router(
            NODE.to_owned(),
            clock,
            agent.controller.clone(),
            metrics.clone(),
        );
        let post = |node: &str, sent: Option<Timestamp>| {
            let notice = Notice {
                node: node.to_owned(),
                sent,
                ..notice("a", shell(0))
            };
            let body = Body::from(serde_json::to_vec(&notice).unwrap());
            let request = Request::post(curfew_core::notice::PATH).body(body);
            router.clone().oneshot(request.unwrap())
        };
        assert_eq!(scraped(&agent, &metrics).await, 0.0);

        let sent = stage.wall.now();
        tokio::time::sleep(Duration::from_millis(30)).await;
        stage.wall.jump(2);
        let answer = post(NODE, Some(sent)).await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(scraped(&agent, &metrics).await, 2.03);

        let late = stage.wall.now() - SignedDuration::from_secs(14);
        let mut given_up = Box::pin(post(NODE, Some(late)));
        assert!(futures::poll!(&mut given_up).is_pending());
        drop(given_up);
        assert_eq!(scraped(&agent, &metrics).await, 2.03);

        // An older webhook does not say, and what is not for this agent does not count.
        post(NODE, None).await.unwrap();
        let answer = post("node-2", Some(stage.wall.now())).await.unwrap();
        assert_eq!(answer.status(), StatusCode::BAD_REQUEST);
        assert_eq!(scraped(&agent, &metrics).await, 2.03);

        let ahead = stage.wall.now() + SignedDuration::from_millis(1500);
        post(NODE, Some(ahead)).await.unwrap();
        assert_eq!(scraped(&agent, &metrics).await, -1.5);
        agent.end().await;
    }
}
