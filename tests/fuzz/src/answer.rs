//! What the API server answers to an eviction, up to when it is asked again.

use std::time::{Duration, SystemTime};

use curfew_agent::cluster::evict::answer::{Answer, read, retry_after};
use curfew_agent_state::EvictionOutcome;

/// The longest wait that anybody may ask for, and how it may be spread.
const MAX_WAIT: Duration = Duration::from_secs(300);
const MAX_SPREAD: Duration = Duration::from_secs(338);

/// A status code, a space, the value of `Retry-After`, a line feed, and the body.
pub fn answer(bytes: &[u8]) {
    let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
        return;
    };
    let Ok(head) = std::str::from_utf8(&bytes[..end]) else {
        return;
    };
    let (code, wait) = head.split_once(' ').unwrap_or((head, ""));
    let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let wait = retry_after(wait, now);
    assert!(wait.is_none_or(|wait| wait <= MAX_WAIT), "{wait:?}");
    let answer = Answer {
        code: code.parse().unwrap_or_default(),
        retry_after: wait,
        body: bytes[end + 1..].to_vec().into(),
    };
    let outcome = read(&answer);
    let is_success = (200..300).contains(&answer.code);
    assert_eq!(
        outcome == EvictionOutcome::Accepted,
        is_success,
        "{answer:?}"
    );
    // An Event has 1,024 characters for it and what is said around it.
    assert!(outcome.message().len() <= 512, "{outcome:?}");
    assert!(EvictionOutcome::NAMES.contains(&outcome.as_str()));
    if let EvictionOutcome::Budget {
        name: Some(name), ..
    } = &outcome
    {
        assert!(name.len() <= 253, "{name}");
    }
    for tries in [0, 1, 2, 40, u32::MAX] {
        let pause = outcome.wait(tries, "u-1");
        assert!(!pause.is_zero() && pause <= MAX_SPREAD, "{pause:?}");
        if let EvictionOutcome::Throttled(Some(least)) = &outcome {
            assert!(pause >= *least, "{pause:?}");
        }
    }
}
