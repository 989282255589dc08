use axum::{
    body::Body,
    http::{HeaderMap, Request, StatusCode, header},
};
use curfew_agent_state::{Decisions, EvictionOutcome, NodeSettings, NodeState};
use curfew_core::{Command, RecordedInteraction, State, metadata};
use http_body_util::BodyExt;
use jiff::SignedDuration;
use serde_json::{Value, json};
use tower::ServiceExt;

use super::*;
use crate::{
    controller::{
        NodeSchedule, StoreHealth, Watch, WatchError,
        recent_evictions::{EvictionCause, KEPT, RecentEvictions},
    },
    server::debug,
    testing::{at, dry_shell, marked, marked_with, pod, pod_id, shell, stage::Stage},
};

const NODE: &str = "node-1";

/// The state of a node that has no pods.
fn node_state() -> NodeState {
    let mut node_state = NodeState::new(NodeSettings {
        max_evictions: 5,
        blocked_after: std::time::Duration::from_secs(3600),
        evidence: curfew_agent_state::Evidence::Off,
    });
    node_state.listed(&[].into(), at(0), &mut Decisions::default());
    node_state
}

/// The view of a node at that second of an agent that is well.
fn view(node_state: &NodeState, history: &RecentEvictions, second: i64) -> View {
    let store = StoreHealth {
        open: true,
        bytes: 524_288,
        set_aside: 0,
    };
    let now = at(second);
    View {
        schedule: NodeSchedule::of(NODE, now, node_state, store, Watch::default(), history),
        certificate: CertificateHealth {
            expiry: Some(now + SignedDuration::from_hours(20)),
        },
    }
}

async fn text(response: Response) -> String {
    let body = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(body.to_vec()).unwrap()
}

async fn html_of(view: &View) -> String {
    let response = page::render(view);
    assert_eq!(response.status(), StatusCode::OK);
    text(response).await
}

/// A pod that somebody with that name touched at second 0.
fn touched(node_state: &mut NodeState, uid: &str, known: &RecordedInteraction) {
    let mut out = Decisions::default();
    let record = node_state.learned(pod_id(uid), known.clone(), at(0), &mut out);
    node_state.seen(marked(&record, 1), at(0), &mut out);
}

fn refused_by_web() -> EvictionOutcome {
    EvictionOutcome::Budget {
        name: Some("web".into()),
        why: "The disruption budget web needs 2 healthy pods and has 2 currently".into(),
    }
}

#[tokio::test]
async fn an_empty_schedule_says_so() {
    let html = html_of(&view(&node_state(), &RecentEvictions::default(), 0)).await;
    for said in [
        "<title>node-1 · Curfew</title>",
        "Nothing needs attention.",
        "Nobody interacted with a pod of this node.",
        "None since the agent started.",
        "0 records, 512 KiB, 0 set aside",
        "(<span data-until=\"1800072000000\">in 20h0m0s</span>)",
    ] {
        assert!(html.contains(said), "{said}: {html}");
    }
}

#[tokio::test]
async fn what_users_typed_is_escaped() {
    let mut node_state = node_state();
    let mut known = shell(0);
    known.interaction.user = "<script>alert(1)</script>".into();
    known.interaction.container = Some("\"><img src=x onerror=alert(2)>".into());
    known.interaction.command = Command::new(["sh", "-c", "</code><script>alert('3')</script>"]);
    touched(&mut node_state, "u", &known);
    let record = node_state.record("u").unwrap().clone();
    let reason = "<b onclick='alert(4)'>&amp;";
    let overrides = [
        ("curfew.dev/hold", reason),
        ("curfew.dev/hold-requester", "<i>bob"),
    ];
    node_state.seen(
        marked_with(&record, 2, &overrides),
        at(1),
        &mut Decisions::default(),
    );
    let mut history = RecentEvictions::default();
    let why = EvictionOutcome::Denied("denied the request: <script src=//evil.example>".into());
    let cause = EvictionCause::of(Some(&known), None);
    history.add(&pod_id("u"), cause, None, &why, false, at(5));

    let html = html_of(&view(&node_state, &history, 10)).await;
    for evil in [
        "<script>alert",
        "<img src=x",
        "<b onclick",
        "<i>bob",
        "<script src=//evil",
    ] {
        assert!(!html.contains(evil), "{evil}: {html}");
    }
    // The amp of the reason is text, too.
    for shown in [
        "&#60;script&#62;alert(1)",
        "&#60;i&#62;bob",
        "&#38;amp;",
        "&#60;script src=//evil",
    ] {
        assert!(html.contains(shown), "{shown}: {html}");
    }
}

#[tokio::test]
async fn a_dry_run_is_shown_as_one_and_is_no_problem() {
    let mut node_state = node_state();
    let mut out = Decisions::default();
    for uid in ["went", "blocked"] {
        touched(&mut node_state, uid, &dry_shell(0));
    }
    node_state.tick(at(600), &mut out);
    node_state.evicted("went", EvictionOutcome::Accepted, at(600), &mut out);
    node_state.evicted("blocked", refused_by_web(), at(600), &mut out);
    let mut history = RecentEvictions::default();
    let cause = EvictionCause::of(Some(&shell(0)), None);
    let accepted = EvictionOutcome::Accepted;
    history.add(
        &pod_id("went"),
        cause,
        Some(at(600)),
        &accepted,
        true,
        at(600),
    );
    let view = view(&node_state, &history, 660);
    let html = html_of(&view).await;
    for said in [
        "data-state=\"would-go\">would-go</b>",
        " (dry run)</td>",
        "would have been evicted (dry run)",
        "Nothing needs attention.",
    ] {
        assert!(html.contains(said), "{said}: {html}");
    }
    let schedule = serde_json::to_value(&view.schedule).unwrap();
    for pod in schedule["records"].as_array().unwrap() {
        assert_eq!(
            (&pod["enforcement"], &pod["pending"]),
            (&json!("DryRun"), &json!(false))
        );
    }
    assert_eq!(schedule["recentEvictions"][0]["result"], "dry_run_accepted");
}

#[tokio::test]
async fn blocked_and_held_pods_are_shown_with_what_keeps_them() {
    let mut node_state = node_state();
    let mut out = Decisions::default();
    touched(&mut node_state, "blocked", &shell(0));
    node_state.tick(at(600), &mut out);
    node_state.evicted("blocked", refused_by_web(), at(600), &mut out);
    touched(&mut node_state, "held", &shell(10));
    let record = node_state.record("held").unwrap().clone();
    let overrides = [
        ("curfew.dev/hold", "crash of Tuesday"),
        ("curfew.dev/hold-requester", "bob"),
    ];
    node_state.seen(marked_with(&record, 2, &overrides), at(20), &mut out);
    let mut history = RecentEvictions::default();
    let cause = EvictionCause::of(Some(&shell(0)), None);
    history.add(
        &pod_id("blocked"),
        cause,
        Some(at(600)),
        &refused_by_web(),
        false,
        at(600),
    );

    let html = html_of(&view(&node_state, &history, 660)).await;
    for said in [
        "<b class=\"state\" data-state=\"blocked\">blocked</b>",
        "1 pod blocked by a PodDisruptionBudget.",
        "needs 2 healthy pods and has 2 currently</bdi> (budget web)",
        "1m0s ago",
        "<b class=\"state\" data-state=\"held\">held</b>",
        "Held by <bdi>bob</bdi>: <bdi>crash of Tuesday</bdi>",
        "in 1h59m10s",
        "<code dir=\"ltr\">sh -c id</code>",
        "<b class=\"state\" data-state=\"disruption_budget\">blocked</b>",
        "2 pods with a record, the next to be evicted first: 1 held, 1 blocked",
    ] {
        assert!(html.contains(said), "{said}: {html}");
    }
}

#[tokio::test]
async fn what_is_wrong_stands_above_all_else() {
    let mut view = view(&node_state(), &RecentEvictions::default(), 0);
    view.schedule.synced = false;
    view.schedule.store.open = false;
    view.schedule.store.set_aside = 3;
    view.schedule.watch = Watch {
        failing: true,
        last_error: Some(WatchError {
            time: at(0),
            message: "<the API server is away>".into(),
        }),
    };
    view.certificate.expiry = Some(at(0));
    let html = html_of(&view).await;
    assert!(!html.contains("Nothing needs attention"), "{html}");
    for said in [
        "<li>The store is not open",
        "<li>The pods of the node are not listed yet",
        "fails: &#60;the API server is away&#62;",
        "<li>The certificate has expired",
        "cannot be read: 3.",
        "<strong>expired</strong>",
        "<strong>not synced</strong>",
    ] {
        assert!(html.contains(said), "{said}: {html}");
    }
    view.certificate.expiry = None;
    assert!(html_of(&view).await.contains("There is no certificate yet"));
}

#[tokio::test]
async fn every_state_has_its_meaning() {
    let html = html_of(&view(&node_state(), &RecentEvictions::default(), 0)).await;
    for state in State::PENDING {
        assert!(html.contains(&format!("<dt>{state}</dt>")), "{state}");
    }
}

#[tokio::test]
async fn an_order_is_shown_though_nobody_touched_the_pod() {
    let mut node_state = node_state();
    let mut out = Decisions::default();
    let overrides = [
        ("curfew.dev/evict-now", "<b>misused"),
        ("curfew.dev/evict-now-requester", "ann"),
    ];
    let marks = overrides.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let mut view = pod("u", 1);
    view.marks = metadata::read(&view.id, &marks.into()).unwrap();
    node_state.seen(view, at(60), &mut out);
    let mut history = RecentEvictions::default();
    let order = node_state.record("u").unwrap().evict_now();
    let cause = EvictionCause::of(None, order);
    history.add(
        &pod_id("u"),
        cause,
        Some(at(60)),
        &refused_by_web(),
        false,
        at(61),
    );

    let view = self::view(&node_state, &history, 61);
    let html = html_of(&view).await;
    for said in [
        "Ordered to be evicted now by <bdi>ann</bdi>: <bdi>&#60;b&#62;misused</bdi>",
        "evict-now by <bdi>ann</bdi>, ordered by <bdi>ann</bdi>",
    ] {
        assert!(html.contains(said), "{said}: {html}");
    }
    let schedule = serde_json::to_value(&view.schedule).unwrap();
    let pod = &schedule["records"][0];
    assert_eq!(pod["evictNow"]["reason"], "<b>misused");
    assert_eq!(pod["evictionTime"], at(60).to_string());
    assert_eq!(
        (&pod["interactions"], pod.get("decisive")),
        (&json!(0), None)
    );
}

#[tokio::test]
async fn a_full_node_fits_a_page() {
    let mut node_state = node_state();
    let mut history = RecentEvictions::default();
    for n in 0..250 {
        let mut known = shell(n);
        known.interaction.user = format!("system:serviceaccount:shop:deployer-{n}");
        touched(
            &mut node_state,
            &format!("0c2d6f1e-6ec1-4d1f-9d0b-00000000{n:04}"),
            &known,
        );
    }
    for n in 0..KEPT {
        let uid = format!("u-{n}");
        let cause = EvictionCause::of(Some(&shell(0)), None);
        history.add(
            &pod_id(&uid),
            cause,
            Some(at(600)),
            &refused_by_web(),
            false,
            at(600),
        );
    }
    let html = html_of(&view(&node_state, &history, 300)).await;
    assert_eq!(html.matches("<tr>").count(), 250 + KEPT + 2);
    assert!(html.len() < 192 * 1024, "{} bytes", html.len());
}

struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: String,
}

async fn get(router: &Router, host: &str, path: &str) -> Answer {
    let request = Request::get(path).header(header::HOST, host);
    let request = request.body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    Answer {
        status: response.status(),
        headers: response.headers().clone(),
        body: text(response).await,
    }
}

#[tokio::test(start_paused = true)]
async fn the_port_serves_the_schedule_of_a_running_agent() {
    let stage = Stage::set(1);
    let agent = stage.start().await;
    let (_sender, identities) = tokio::sync::watch::channel(None);
    let router = debug::router(agent.controller.clone(), identities);
    stage.pod("cart-1", 0);
    stage.exec(&agent, "cart-1").await;

    let page = get(&router, "localhost:43210", "/").await;
    assert_eq!(page.status, StatusCode::OK);
    assert!(page.body.contains("shop/cart-1"), "{}", page.body);
    let kind = &page.headers[header::CONTENT_TYPE];
    assert_eq!(kind, "text/html; charset=utf-8");
    let policy = page.headers[header::CONTENT_SECURITY_POLICY]
        .to_str()
        .unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    for (path, kind) in [
        ("/page.css", "text/css; charset=utf-8"),
        ("/page.js", "text/javascript; charset=utf-8"),
        ("/icon.svg", "image/svg+xml"),
        ("/v1/schedule", "application/json"),
    ] {
        let answer = get(&router, "127.0.0.1", path).await;
        assert_eq!(answer.headers[header::CONTENT_TYPE], kind, "{path}");
        assert_eq!(answer.headers[header::CACHE_CONTROL], "no-store", "{path}");
        assert_eq!(answer.headers[header::X_CONTENT_TYPE_OPTIONS], "nosniff");
        assert!(page.body.contains(&format!("\"{path}\"")), "{path}");
    }

    let json = get(&router, "[::1]:9091", "/v1/schedule").await.body;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["records"][0]["name"], "cart-1");
    assert_eq!(json["certificate"]["expiry"], Value::Null);
    assert_eq!(json["recentEvictions"], Value::Array(Vec::new()));
    assert_eq!(json["store"]["setAside"], 0);
    assert_eq!(json["watch"]["failing"], false);

    // Its time ends.
    stage.until(601.0).await;
    let json = get(&router, "localhost", "/v1/schedule").await.body;
    let json: Value = serde_json::from_str(&json).unwrap();
    let past = &json["recentEvictions"][0];
    assert_eq!(
        (&past["name"], &past["result"]),
        (&"cart-1".into(), &"accepted".into())
    );
    agent.end().await;
}

#[tokio::test(start_paused = true)]
async fn the_port_answers_only_to_names_of_this_host() {
    let stage = Stage::set(1);
    let agent = stage.start().await;
    let (_sender, identities) = tokio::sync::watch::channel(None);
    let router = debug::router(agent.controller.clone(), identities);
    for path in ["/", "/v1/schedule", "/v1/store", "/page.js"] {
        let answer = get(&router, "rebound.example:9091", path).await;
        assert_eq!(answer.status, StatusCode::MISDIRECTED_REQUEST, "{path}");
        assert!(!answer.body.contains("node-1"), "{}", answer.body);
        assert_eq!(
            get(&router, "localhost:1", path).await.status,
            StatusCode::OK
        );
    }
    let nameless = Request::get("/").body(Body::empty()).unwrap();
    let answer = router.clone().oneshot(nameless).await.unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    let two = Request::get("/")
        .header(header::HOST, "localhost")
        .header(header::HOST, "evil.example");
    let answer = router
        .oneshot(two.body(Body::empty()).unwrap())
        .await
        .unwrap();
    assert_eq!(answer.status(), StatusCode::MISDIRECTED_REQUEST);
    agent.end().await;
}
