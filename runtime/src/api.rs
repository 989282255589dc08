//! Calls of the API server. The client limits none of them: who makes one says how long it may take, and here is
//! how. Only what has a limit for several calls together does without.

use std::{future::Future, time::Duration};

use kube::Error;

/// How long a call may take that nobody waits for.
pub const PATIENCE: Duration = Duration::from_secs(10);

/// There was no answer in time.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct Late(Duration);

/// Makes a call that nobody waits for.
///
/// # Errors
/// Those of the call, and [`Error::Service`] when it has no answer within [`PATIENCE`].
pub async fn call<T>(call: impl Future<Output = kube::Result<T>>) -> kube::Result<T> {
    within(PATIENCE, call).await
}

/// Makes a call that has to be answered within this time.
///
/// # Errors
/// Those of the call, and [`Error::Service`] when it has no answer by then.
pub async fn within<T>(
    limit: Duration,
    call: impl Future<Output = kube::Result<T>>,
) -> kube::Result<T> {
    let late = |_| Error::Service(Box::new(Late(limit)));
    tokio::time::timeout(limit, call).await.map_err(late)?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error_chain;

    #[tokio::test(start_paused = true)]
    async fn a_call_without_an_answer_ends() {
        let never = std::future::pending::<kube::Result<()>>();
        let error = call(never).await.unwrap_err();
        assert_eq!(error_chain::short(&error), "no answer within 10s");
    }
}
