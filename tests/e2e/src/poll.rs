//! Waiting for something to become so, for a limited time.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

/// Short beside every bound that a test puts on Curfew.
const PAUSE: Duration = Duration::from_millis(50);

/// Checks until the check has something to return. An error of the check is no end: what is not yet
/// there may not be reachable yet; the last one is told when the time is over.
///
/// # Errors
/// When `within` has passed.
pub async fn eventually<T>(
    within: Duration,
    what: &str,
    mut check: impl AsyncFnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + within;
    loop {
        let outcome = check().await;
        if let Ok(Some(value)) = outcome {
            return Ok(value);
        }
        if Instant::now() >= end {
            let late = || format!("{what}: not so within {within:?}");
            return match outcome {
                Err(error) => Err(error).with_context(late),
                Ok(_) => Err(anyhow!(late())),
            };
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn ends_with_the_value_or_with_the_reason() {
        let mut left = 2;
        let counted = eventually(Duration::from_secs(5), "a count", async || {
            left -= 1;
            Ok((left == 0).then_some("done"))
        });
        assert_eq!(counted.await.unwrap(), "done");

        let never = eventually::<()>(Duration::from_millis(1), "a miracle", async || {
            Err(anyhow!("no such thing"))
        });
        let told = format!("{:#}", never.await.unwrap_err());
        assert_eq!(told, "a miracle: not so within 1ms: no such thing");
    }
}
