//! Execs that are admitted and then go no further: an exec without the means to carry it out passes
//! admission, and only then the API server answers 400. So many more of them fit into a second than of real
//! ones, and nothing but the way to the admission is in the time that they take.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use hyper::Request;
use kube::Client;
use tokio::time::timeout;

const LIMIT: Duration = Duration::from_secs(10);

/// Asks for an exec of this word in a pod, and returns how long it took until it was admitted.
///
/// # Errors
/// When it was not.
pub async fn knock(client: &Client, namespace: &str, pod: &str, word: &str) -> Result<Duration> {
    let uri = format!(
        "/api/v1/namespaces/{namespace}/pods/{pod}/exec\
         ?container=main&stdout=true&command=knock&command={word}"
    );
    let request = Request::post(&uri).body(Vec::new())?;
    let began = Instant::now();
    let answer = timeout(LIMIT, client.request_text(request)).await;
    let took = began.elapsed();
    match answer.with_context(|| format!("no answer within {LIMIT:?}"))? {
        Err(kube::Error::Api(status)) if is_admitted(status.code, &status.message) => Ok(took),
        Err(error) => Err(anyhow!(error).context(uri)),
        Ok(body) => Err(anyhow!(
            "{uri}: an exec without upgrade went through: {body}"
        )),
    }
}

/// Whether an answer says that the request was admitted, and stopped only then.
fn is_admitted(code: u16, message: &str) -> bool {
    code == 400 && message.contains("Upgrade request required")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_denial_is_not_taken_for_an_admission() {
        assert!(is_admitted(400, "Upgrade request required"));
        assert!(!is_admitted(400, "admission webhook denied the request"));
        assert!(!is_admitted(500, "Upgrade request required"));
    }
}
