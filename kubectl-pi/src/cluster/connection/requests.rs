//! What happens to each request on its way: who it is from, how long it may take, and what is told of it.

use std::{
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use curfew_core::duration;
use hyper::{
    Request, Response, Uri,
    header::{AUTHORIZATION, HeaderValue},
};
use kube::client::Body;
use tower::{BoxError, Layer, Service};

use super::credential::Credential;
use crate::output;

/// From this level on each request is told, as kubectl does.
const TELLS: u8 = 6;

/// What is done to all requests.
#[derive(Clone)]
pub(super) struct Requests(Arc<Shared>);

struct Shared {
    credential: Mutex<Credential>,
    /// As long as the answer may let wait for itself.
    limit: Option<Duration>,
    /// The API server's address, if requests are told.
    told: Option<String>,
}

impl Requests {
    pub(super) fn new(
        credential: Credential,
        limit: Option<Duration>,
        verbosity: u8,
        server: &Uri,
    ) -> Self {
        let server = server.to_string();
        Self(Arc::new(Shared {
            credential: Mutex::new(credential),
            limit,
            told: (verbosity >= TELLS).then(|| server.trim_end_matches('/').to_owned()),
        }))
    }
}

impl Shared {
    fn authorize(&self, request: &mut Request<Body>) -> Result<(), BoxError> {
        let mut credential = self
            .credential
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if let Some(token) = credential.token()? {
            let mut value = HeaderValue::try_from(format!("Bearer {token}"))?;
            value.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, value);
        }
        Ok(())
    }
}

impl<S> Layer<S> for Requests {
    type Service = Sender<S>;

    fn layer(&self, inner: S) -> Sender<S> {
        Sender {
            inner,
            shared: self.0.clone(),
        }
    }
}

/// Sends requests so.
pub(super) struct Sender<S> {
    inner: S,
    shared: Arc<Shared>,
}

impl<S, B> Service<Request<Body>> for Sender<S>
where
    S: Service<Request<Body>, Response = Response<B>, Error = BoxError>,
    S::Future: Send + 'static,
{
    type Response = Response<B>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<B>, BoxError>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: Request<Body>) -> Self::Future {
        if let Err(error) = self.shared.authorize(&mut request) {
            return Box::pin(async move { Err(error) });
        }
        let what = self
            .shared
            .told
            .as_ref()
            .map(|server| format!("{} {server}{}", request.method(), request.uri()));
        let limit = self.shared.limit;
        let sent = self.inner.call(request);
        Box::pin(async move {
            let began = Instant::now();
            let answer = match limit {
                Some(limit) => tokio::time::timeout(limit, sent).await.map_err(|_| {
                    let limit = duration::format(limit);
                    format!("the API server did not answer within {limit} (--request-timeout)")
                }),
                None => Ok(sent.await),
            };
            let answer = answer.map_err(BoxError::from).flatten();
            if let Some(what) = what {
                let came = match &answer {
                    Ok(answer) => answer.status().to_string(),
                    Err(error) => format!("no answer ({error})"),
                };
                let millis = began.elapsed().as_millis();
                output::note(&format!("{what} {came} in {millis} milliseconds"));
            }
            answer
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tower::{ServiceExt, service_fn};

    fn requests(limit: Option<Duration>) -> Requests {
        let credential = Credential::File {
            path: "/nonexistent".into(),
            token: "abc".into(),
            read: Instant::now(),
        };
        Requests::new(credential, limit, 0, &Uri::from_static("https://a"))
    }

    #[tokio::test]
    async fn a_request_says_who_it_is_from() {
        let echo = service_fn(async |request: Request<Body>| {
            let value = request.headers()[AUTHORIZATION].to_str()?.to_owned();
            Ok::<_, BoxError>(Response::new(value))
        });
        let service = requests(None).layer(echo);
        let answer = service.oneshot(Request::new(Body::empty())).await.unwrap();
        assert_eq!(answer.body(), "Bearer abc");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_does_not_come_is_not_waited_for() {
        let silent = service_fn(async |_: Request<Body>| {
            std::future::pending::<()>().await;
            Ok::<_, BoxError>(Response::new(()))
        });
        let service = requests(Some(Duration::from_secs(5))).layer(silent);
        let error = service
            .oneshot(Request::new(Body::empty()))
            .await
            .unwrap_err();
        assert!(error.to_string().contains("within 5s"), "{error}");
    }
}
