//! Answers by which the pod stays, budgets aside.

use std::time::SystemTime;

use serde_json::json;

use super::*;

const GUARD: &str = "eviction.curfew.dev";

/// It passes, and nobody has to know.
const PASSING: Row = Row {
    answer: Answer::broken,
    result: "error",
    state: "retrying",
    reason: "",
    first: (0.75, 1.0),
    longest: 30.0,
    told: None,
};

const AWAY: Row = Row {
    result: "unavailable",
    ..PASSING
};

const THROTTLED: Row = Row {
    result: "throttled",
    reason: "throttles the agent",
    ..PASSING
};

/// Somebody has to do something about it.
const FORBIDDEN: Row = Row {
    result: "forbidden",
    first: (3.75, 5.0),
    longest: 60.0,
    told: Some("check the rights of the ServiceAccount curfew-agent"),
    ..PASSING
};

const DENIED: Row = Row {
    result: "denied",
    told: Some("an admission webhook or policy that is not part of Curfew denies it"),
    ..FORBIDDEN
};

/// The pod is there all the same, which the look-up shows.
const SAID_TO_BE_GONE: Row = Row {
    result: "gone",
    state: "due",
    first: (7.5, 10.0),
    longest: 10.0,
    ..PASSING
};

#[tokio::test(start_paused = true)]
async fn not_found_though_it_is_there() {
    let row = Row {
        answer: || Answer::status(404, "pods \"a\" not found"),
        ..SAID_TO_BE_GONE
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn another_uid_though_it_is_the_same() {
    let row = Row {
        answer: || {
            let message = "Operation cannot be fulfilled on pods \"a\": Precondition failed: UID in \
                           precondition: uid-a, UID in object meta: uid-b";
            Answer::status(409, message)
        },
        ..SAID_TO_BE_GONE
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_guard_says_not_found() {
    let row = Row {
        answer: || Answer::denial(GUARD, 404, "there is no pod shop/a"),
        ..SAID_TO_BE_GONE
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_guard_says_another_uid() {
    let row = Row {
        answer: || Answer::denial(GUARD, 409, "pod shop/a has the UID uid-b"),
        ..SAID_TO_BE_GONE
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_guard_says_another_node() {
    let row = Row {
        answer: || Answer::denial(GUARD, 403, "pod shop/a is on node-2"),
        reason: "is on node-2",
        ..FORBIDDEN
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_guard_says_that_the_request_is_not_as_it_should_be() {
    let row = Row {
        answer: || Answer::denial(GUARD, 400, "deleteOptions.preconditions.uid: is missing"),
        reason: "deleteOptions.preconditions.uid",
        ..FORBIDDEN
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_guard_could_not_read_the_pod() {
    let row = Row {
        answer: || Answer::denial(GUARD, 503, "pod shop/a could not be read"),
        reason: "could not be read",
        ..PASSING
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_guard_cannot_be_called() {
    let row = Row {
        answer: || {
            let message = "Internal error occurred: failed calling webhook \"eviction.curfew.dev\": \
                           no endpoints available for service \"curfew-webhook\"";
            Answer::status(500, message)
        },
        reason: "no endpoints available",
        ..PASSING
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_webhook_of_others_denies() {
    let row = Row {
        answer: || Answer::denial("change.freeze.example", 403, "not on Fridays"),
        reason: "not on Fridays",
        ..DENIED
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_webhook_of_others_denies_with_a_code_that_means_something_else() {
    let row = Row {
        answer: || Answer::denial("change.freeze.example", 409, "not on Fridays"),
        reason: "not on Fridays",
        ..DENIED
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_policy_of_others_denies() {
    let row = Row {
        answer: || {
            let message = "pods \"a\" is forbidden: ValidatingAdmissionPolicy 'freeze' with binding \
                           'all' denied request: not on Fridays";
            Answer::status(422, message)
        },
        reason: "ValidatingAdmissionPolicy 'freeze'",
        ..DENIED
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn throttled() {
    let row = Row {
        answer: || Answer::status(429, "too many requests, please try again later"),
        ..THROTTLED
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn throttled_for_so_many_seconds() {
    let row = Row {
        answer: || Answer::status(429, "too many requests").header("Retry-After", "7"),
        first: (7.0, 8.0),
        ..THROTTLED
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn throttled_until_a_time_of_the_day() {
    let row = Row {
        answer: || {
            let until = SystemTime::now() + Duration::from_secs(100);
            let until = httpdate::fmt_http_date(until);
            Answer::status(429, "too many requests").header("Retry-After", until)
        },
        first: (90.0, 113.0),
        longest: 113.0,
        ..THROTTLED
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn throttled_as_the_body_says() {
    let row = Row {
        answer: || Answer::detailed(429, "too many requests", json!({"retryAfterSeconds": 7})),
        first: (7.0, 8.0),
        ..THROTTLED
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn forbidden() {
    let row = Row {
        answer: || {
            let message = "pods \"a\" is forbidden: User \"system:serviceaccount:curfew:curfew-agent\" \
                           cannot create resource \"pods/eviction\"";
            Answer::status(403, message)
        },
        reason: "cannot create resource",
        ..FORBIDDEN
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn not_authenticated() {
    let row = Row {
        answer: || Answer::status(401, "Unauthorized"),
        reason: "Unauthorized",
        ..FORBIDDEN
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_namespace_is_terminating() {
    let row = Row {
        answer: || {
            let message = "pods \"a\" is forbidden: unable to create new content in namespace shop \
                           because it is being terminated";
            Answer::status(403, message)
        },
        reason: "being terminated",
        ..PASSING
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn an_error_of_the_server() {
    let row = Row {
        answer: || Answer::status(500, "etcdserver: request timed out"),
        reason: "etcdserver",
        ..PASSING
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_server_is_not_available() {
    let row = Row {
        answer: || Answer::status(503, "apiserver is shutting down"),
        reason: "shutting down",
        ..AWAY
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn the_server_took_too_long() {
    let row = Row {
        answer: || {
            let message = "Timeout: couldn't update PodDisruptionBudget \"web\" due to conflicts";
            Answer::detailed(504, message, json!({"retryAfterSeconds": 10}))
        },
        reason: "due to conflicts",
        first: (10.0, 11.3),
        ..PASSING
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks() {
    let row = Row {
        answer: Answer::broken,
        reason: "connection refused",
        ..AWAY
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_on_which_nothing_comes() {
    let row = Row {
        answer: Answer::never,
        reason: "no answer within 35s",
        ..AWAY
    };
    let stage = row.holds().await;
    for asked in stage.api.evictions() {
        let (ended, _) = asked.ended.unwrap();
        let took = (ended - asked.at).as_secs_f64();
        assert!(
            asked.is_accepted() || (35.0..35.1).contains(&took),
            "{took}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_status() {
    let row = Row {
        answer: || Answer::raw(502, "<html><h1>502 Bad Gateway</h1></html>"),
        reason: "502 Bad Gateway",
        ..AWAY
    };
    row.holds().await;
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_not_followed() {
    let row = Row {
        answer: || {
            let elsewhere = "/api/v1/namespaces/shop/pods/b/eviction";
            Answer::raw(307, "").header("Location", elsewhere)
        },
        reason: "HTTP status 307",
        ..PASSING
    };
    let stage = row.holds().await;
    let names = stage.api.asked().into_iter().map(|asked| asked.target.name);
    assert!(names.into_iter().all(|name| name != "b"));
}
