//! Plain HTTP/1.1 over a stream that is there already.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use http_body_util::{BodyExt, Empty};
use hyper::{Request, body::Bytes, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

const LIMIT: Duration = Duration::from_secs(5);

/// A connection that serves one request after the other.
#[derive(Debug)]
pub(crate) struct Connection(http1::SendRequest<Empty<Bytes>>);

impl Connection {
    pub(crate) async fn open(
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    ) -> Result<Self> {
        let (requests, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // It ends with the last sender; what goes wrong on it, the requests tell.
        tokio::spawn(connection);
        Ok(Self(requests))
    }

    /// Whether the other side has left.
    pub(crate) fn is_closed(&self) -> bool {
        self.0.is_closed()
    }

    /// The body of an answer that says 200.
    pub(crate) async fn get(&mut self, path: &str) -> Result<String> {
        let answered = async {
            self.0.ready().await?;
            let request = Request::get(path)
                .header(HOST, "localhost")
                .body(Empty::new())?;
            let answer = self.0.send_request(request).await?;
            let status = answer.status();
            let body = answer.into_body().collect().await?.to_bytes();
            let body = String::from_utf8(body.to_vec())?;
            ensure!(status.is_success(), "{status}: {body}");
            anyhow::Ok(body)
        };
        timeout(LIMIT, answered)
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("no answer within {LIMIT:?}")))
            .with_context(|| format!("GET {path}"))
    }
}
