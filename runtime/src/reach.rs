//! Whether the API server can be reached, as all calls of a process tell together. Whoever waits before it
//! tries again need not wait any longer once another call was answered.
//!
//! Owns whether the last call failed, and how often the API server came back. The watches use it, see [`crate::watch`].

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::http::{Response, StatusCode};
use tokio::sync::watch;
use tower::util::MapResultLayer;

/// What the calls of a process have told. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Reachability(Arc<Reach>);

#[derive(Debug, Default)]
struct Reach {
    /// Whether a call failed and none was answered since.
    away: AtomicBool,
    /// How often the API server came back.
    returns: watch::Sender<u64>,
}

impl Reachability {
    /// A call was answered as it should be.
    pub fn answered(&self) {
        if self.0.away.swap(false, Ordering::AcqRel) {
            self.0.returns.send_modify(|returns| *returns += 1);
        }
    }

    /// A call was not answered, or only with the news that the server cannot answer now.
    pub fn failed(&self) {
        self.0.away.store(true, Ordering::Release);
    }

    /// Changes each time that a call is answered after others had failed.
    pub fn returns(&self) -> watch::Receiver<u64> {
        self.0.returns.subscribe()
    }

    /// A layer of a client that sees each answer. A refusal tells nothing: a server may refuse one caller, or
    /// one kind of call, and answer all others.
    #[allow(
        clippy::type_complexity,
        reason = "it is a function from a result to the same result"
    )]
    pub fn layer<B, E>(
        &self,
    ) -> MapResultLayer<impl Fn(Result<Response<B>, E>) -> Result<Response<B>, E> + Clone + use<B, E>>
    {
        let this = self.clone();
        MapResultLayer::new(move |result: Result<Response<B>, E>| {
            match &result {
                Ok(response) if response.status().is_success() => this.answered(),
                Ok(response) if is_outage(response.status()) => this.failed(),
                Ok(_) => {}
                Err(_) => this.failed(),
            }
            result
        })
    }
}

fn is_outage(status: StatusCode) -> bool {
    status.is_server_error()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_answer_after_failures_is_told_once() {
        let reach = Reachability::default();
        let mut returns = reach.returns();
        reach.answered();
        assert!(!returns.has_changed().unwrap(), "it was never away");
        reach.failed();
        reach.failed();
        assert!(!returns.has_changed().unwrap());
        reach.answered();
        assert!(returns.has_changed().unwrap());
        returns.mark_unchanged();
        reach.answered();
        assert!(!returns.has_changed().unwrap());
    }

    #[tokio::test]
    async fn a_client_tells_what_it_sees() {
        use tower::{ServiceBuilder, ServiceExt};
        let reach = Reachability::default();
        let mut returns = reach.returns();
        for (status, back) in [
            (200, false),
            (503, false),
            (403, false),
            (429, false),
            (201, true),
        ] {
            let service = ServiceBuilder::new().layer(reach.layer()).service_fn(
                async move |status: u16| -> Result<Response<()>, std::io::Error> {
                    Ok(Response::builder().status(status).body(()).unwrap())
                },
            );
            service.oneshot(status).await.unwrap();
            assert_eq!(returns.has_changed().unwrap(), back, "{status}");
            returns.mark_unchanged();
        }
        let broken = ServiceBuilder::new()
            .layer(reach.layer::<(), _>())
            .service_fn(async |(): ()| {
                Err(std::io::Error::from(std::io::ErrorKind::ConnectionRefused))
            });
        broken.oneshot(()).await.unwrap_err();
        reach.answered();
        assert!(returns.has_changed().unwrap());
    }
}
