//! The table of answers, a row each.

use std::time::UNIX_EPOCH;

use serde_json::{Value, json};

use super::*;

fn answer(code: u16, body: &Value) -> Answer {
    Answer {
        code,
        retry_after: None,
        body: body.to_string().into(),
    }
}

fn says(code: u16, message: &str) -> Answer {
    answer(
        code,
        &json!({"kind": "Status", "code": code, "message": message}),
    )
}

fn with_cause(message: &str) -> Answer {
    answer(
        429,
        &json!({
            "kind": "Status", "code": 429,
            "message": "Cannot evict pod as it would violate the pod's disruption budget.",
            "details": {
                "retryAfterSeconds": 10,
                "causes": [{"reason": DISRUPTION_BUDGET, "message": message}],
            },
        }),
    )
}

#[test]
fn reads_each_row_of_the_table() {
    for (answer, name) in [
        (says(201, ""), "accepted"),
        (says(200, ""), "accepted"),
        (says(404, "pods \"web-1\" not found"), "gone"),
        (
            says(409, "the UID in the precondition (a) does not match"),
            "gone",
        ),
        (
            with_cause("The disruption budget web needs 2"),
            "disruption_budget",
        ),
        (says(429, "too many requests"), "throttled"),
        (
            says(
                500,
                "This pod has more than one PodDisruptionBudget, which the",
            ),
            "several_disruption_budgets",
        ),
        (
            says(403, "pods \"web-1\" is forbidden: User \"x\""),
            "forbidden",
        ),
        (says(401, "Unauthorized"), "forbidden"),
        (
            says(
                403,
                "unable to create because namespace x is being terminated",
            ),
            "error",
        ),
        (says(500, "etcdserver: request timed out"), "error"),
        (says(503, "the server is shutting down"), "unavailable"),
        (
            says(504, "couldn't update PodDisruptionBudget \"web\""),
            "error",
        ),
        (says(408, "too slow"), "error"),
        (says(302, "elsewhere"), "error"),
        (
            says(
                500,
                "failed calling webhook \"eviction.curfew.dev\": no endpoints",
            ),
            "error",
        ),
    ] {
        let outcome = read(&answer);
        assert_eq!(outcome.as_str(), name, "{answer:?}");
        assert!(EvictionOutcome::NAMES.contains(&name));
    }
}

#[test]
fn a_denial_of_the_guard_is_read_by_its_code_and_one_of_others_is_told() {
    let denial =
        |webhook: &str| format!("admission webhook \"{webhook}\" denied the request: another UID");
    for (code, name) in [
        (404, "gone"),
        (409, "gone"),
        (403, "forbidden"),
        (503, "error"),
    ] {
        assert_eq!(read(&says(code, &denial(GUARD))).as_str(), name);
        assert_eq!(read(&says(code, &denial("x.y"))).as_str(), "denied");
    }
    let policy = "pods \"web-1\" is forbidden: ValidatingAdmissionPolicy 'no-evictions' with \
                  binding 'b' denied request: not on Fridays";
    assert_eq!(
        read(&says(422, policy)),
        EvictionOutcome::Denied(policy.into())
    );
}

#[test]
fn a_deadline_that_was_moved_is_no_failure() {
    let moved = format!("admission webhook \"{GUARD}\" denied the request: it was moved to 12:00");
    for (code, message) in [
        (425, moved.as_str()),
        (
            409,
            "the ResourceVersion in the precondition (7) does not match",
        ),
    ] {
        let outcome = read(&says(code, message));
        assert_eq!(outcome, EvictionOutcome::DeadlineMoved(message.into()));
    }
    // Something between here and the API server said that.
    assert_eq!(read(&says(425, "too early")).as_str(), "error");
}

#[test]
fn names_the_budget_and_keeps_its_numbers() {
    let numbers = "The disruption budget web needs 2 healthy pods and has 2 currently";
    let expected = EvictionOutcome::Budget {
        name: Some("web".into()),
        why: numbers.into(),
    };
    assert_eq!(read(&with_cause(numbers)), expected);
    // Its controller has still to look at it.
    let stale = "The disruption budget web is still being processed by the server.";
    assert!(expected.same_cause(&read(&with_cause(stale))));
    let nameless = read(&with_cause("no room"));
    assert!(matches!(
        &nameless,
        EvictionOutcome::Budget { name: None, .. }
    ));
    assert!(!expected.same_cause(&nameless));
    let overfull = answer(
        403,
        &json!({
            "code": 403, "message": "DisruptedPods map too big",
            "details": {"kind": "poddisruptionbudget", "name": "web"},
        }),
    );
    assert!(expected.same_cause(&read(&overfull)));
}

#[test]
fn a_body_that_is_no_status_is_kept_as_it_is_and_bounded() {
    let page = Answer {
        code: 502,
        body: "<html>bad gateway</html>".into(),
        ..Answer::default()
    };
    assert_eq!(
        read(&page),
        EvictionOutcome::unavailable("<html>bad gateway</html>".into())
    );
    let empty = Answer {
        code: 503,
        ..Answer::default()
    };
    assert_eq!(
        read(&empty),
        EvictionOutcome::unavailable("HTTP status 503".into())
    );
    let binary = Answer {
        code: 500,
        body: vec![0xff; 5000].into(),
        ..Answer::default()
    };
    assert!(read(&binary).message().len() <= MAX_REASON);
}

#[test]
fn reads_retry_after_in_both_forms() {
    let now = UNIX_EPOCH + Duration::from_secs(784_111_777);
    let wait = |value| retry_after(value, now);
    assert_eq!(wait("7"), Some(Duration::from_secs(7)));
    assert_eq!(
        wait("Sun, 06 Nov 1994 08:49:47 GMT"),
        Some(Duration::from_secs(10))
    );
    assert_eq!(wait("Sun, 06 Nov 1994 08:49:07 GMT"), Some(Duration::ZERO));
    assert_eq!(wait("99999999"), Some(MAX_WAIT));
    assert_eq!(wait("soon"), None);
}

#[test]
fn waits_as_long_as_it_was_asked_to() {
    let mut throttled = says(429, "slow down");
    throttled.retry_after = Some(Duration::from_secs(7));
    assert!(read(&throttled).wait(1, "a") >= Duration::from_secs(7));
    let in_body = answer(
        504,
        &json!({"code": 504, "message": "conflicts", "details": {"retryAfterSeconds": 10}}),
    );
    for uid in ["a", "b", "c"] {
        let wait = read(&in_body).wait(1, uid);
        assert!((10.0..12.0).contains(&wait.as_secs_f64()), "{wait:?}");
    }
}

#[test]
fn waits_longer_each_time_and_never_too_long() {
    let budget = read(&with_cause("The disruption budget web needs"));
    assert!(budget.wait(1, "a") <= Duration::from_secs(2));
    assert!(budget.wait(2, "a") >= Duration::from_secs(3));
    for tries in 1..100 {
        assert!(budget.wait(tries, "a") <= Duration::from_secs(30));
        assert!(
            EvictionOutcome::MultipleBudgets(String::new()).wait(tries, "a")
                <= Duration::from_secs(60)
        );
        assert!(EvictionOutcome::Throttled(None).wait(tries, "a") <= Duration::from_secs(30));
    }
    assert_ne!(budget.wait(3, "a"), budget.wait(3, "b"));
}
