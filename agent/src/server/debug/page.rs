//! The page at `/`: the same view as a person reads it. It needs nothing from elsewhere, and without
//! JavaScript it only counts down more coarsely.
//!
//! The page shows text that users typed (user names, commands, reasons of holds). The template escapes all of it.
//! Even if it did not, the browser would not run any script and would load nothing from elsewhere.

use std::{borrow::Borrow, fmt::Display};

use askama::Template;
use axum::{
    Router,
    http::{HeaderValue, StatusCode, header},
    response::{Html, IntoResponse, Response},
    routing::get,
};
use curfew_core::{Enforcement, State, duration, text::visible};
use jiff::Timestamp;

use super::View;
use crate::controller::{NodeSchedule, ScheduledPod, recent_evictions::RecentEviction};

/// What a browser may do with what is served here.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
     require-trusted-types-for 'script'; trusted-types 'none'";

#[derive(Template)]
#[template(path = "page.html", whitespace = "minimize")]
struct Page<'a> {
    view: &'a View,
    now: Timestamp,
    problems: Vec<String>,
    counts: Vec<(State, usize)>,
    next: Option<&'a ScheduledPod>,
    states: &'static [State],
}

/// The page.
pub(super) fn render(view: &View) -> Response {
    let records = &view.schedule.records;
    let now = view.schedule.now;
    let counts = State::ALL
        .iter()
        .map(|&state| (state, view.schedule.count(state)));
    let page = Page {
        view,
        now,
        problems: problems(view),
        counts: counts.filter(|(_, count)| *count > 0).collect(),
        next: records
            .iter()
            .find(|pod| pod.pending && pod.eviction_time.is_some_and(|at| at > now)),
        states: State::ALL,
    };
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

/// What somebody should look into, the worst first.
fn problems(view: &View) -> Vec<String> {
    let schedule = &view.schedule;
    let mut problems = Vec::new();
    if !schedule.store.open {
        problems.push(
            "The store is not open. Interactions are recorded on the pods in the meantime. The agent's log \
             says why."
                .to_owned(),
        );
    }
    if !schedule.synced {
        problems.push("The pods of the node are not listed yet, so nothing is evicted.".to_owned());
    }
    if let (true, Some(error)) = (schedule.watch.failing, &schedule.watch.last_error) {
        problems.push(format!(
            "The watch of the node's pods fails: {}",
            error.message
        ));
    }
    match view.certificate.expiry {
        None => problems.push(
            "There is no certificate yet, so the webhook cannot reach this agent.".to_owned(),
        ),
        Some(_) if !view.is_certified() => {
            problems.push(
                "The certificate has expired, so the webhook cannot reach this agent.".to_owned(),
            );
        }
        Some(_) => {}
    }
    if schedule.store.set_aside > 0 {
        problems.push(format!(
            "Records in the store that cannot be read: {}. `curfew-agent store verify` names them.",
            schedule.store.set_aside
        ));
    }
    for (state, what) in [
        (
            State::Stuck,
            "blocked for so long that probably nobody is working on it",
        ),
        (State::Blocked, "blocked by a PodDisruptionBudget"),
        (State::Retrying, "refused and retried"),
    ] {
        // What would happen is no problem yet.
        let count = schedule.count_pending(state);
        if count > 0 {
            problems.push(format!("{} {what}.", pods(count)));
        }
    }
    problems
}

/// A number of pods in words.
fn pods(count: usize) -> String {
    match count {
        1 => "1 pod".to_owned(),
        count => format!("{count} pods"),
    }
}

/// A time as people read it.
trait ReadableTime {
    /// The time of day, to the second.
    fn clock(&self) -> String;
    /// How far away it is.
    fn away(&self, now: impl Borrow<Timestamp>) -> String;
    /// Whether it is no longer ahead.
    fn is_over(&self, now: impl Borrow<Timestamp>) -> bool;
}

impl ReadableTime for Timestamp {
    fn clock(&self) -> String {
        self.strftime("%Y-%m-%d %H:%M:%S").to_string()
    }

    fn away(&self, now: impl Borrow<Timestamp>) -> String {
        duration::relative(*self, *now.borrow())
    }

    fn is_over(&self, now: impl Borrow<Timestamp>) -> bool {
        self <= now.borrow()
    }
}

/// What others typed, without what could turn or hide the text beside it.
fn typed(text: &impl Display) -> String {
    visible(&text.to_string()).into_owned()
}

/// A size as people read it.
fn size(bytes: &u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        1024..1_048_576 => format!("{} KiB", bytes / 1024),
        _ => format!("{:.1} MiB", *bytes as f64 / 1_048_576.0),
    }
}

impl NodeSchedule {
    /// How many pods stand there.
    fn count(&self, state: State) -> usize {
        let there = self.records.iter().filter(|pod| pod.state == state);
        there.count()
    }

    /// How many of them are still to be evicted.
    fn count_pending(&self, state: State) -> usize {
        let there = self.records.iter().filter(|pod| pod.state == state);
        there.filter(|pod| pod.pending).count()
    }
}

impl View {
    /// Whether there is a certificate that has not ended.
    fn is_certified(&self) -> bool {
        let expiry = self.certificate.expiry;
        expiry.is_some_and(|expiry| expiry > self.schedule.now)
    }
}

impl ScheduledPod {
    /// Whether the pod is not evicted, whatever its eviction time is.
    fn is_dry_run(&self) -> bool {
        self.enforcement == Some(Enforcement::DryRun)
    }

    /// By how much the pod outlives its time to live, where somebody asked for that.
    fn extended(&self) -> Option<String> {
        let extension = self.extension.as_ref()?;
        Some(duration::format(extension.by))
    }
}

impl RecentEviction {
    /// What came of it, in words.
    fn came_to(&self) -> &'static str {
        match self.result.as_str() {
            "accepted" => "evicted",
            "dry_run_accepted" => "would have been evicted (dry run)",
            "dry_run_disruption_budget" | "dry_run_several_disruption_budgets" => {
                "would have been blocked (dry run)"
            }
            result if result.starts_with("dry_run_") => "dry run without an answer",
            "gone" => "was already gone",
            "early" => "got more time in the meantime",
            "disruption_budget" | "several_disruption_budgets" => "blocked",
            "throttled" | "unavailable" => "API server unavailable",
            "forbidden" | "denied" => "refused",
            _ => "failed",
        }
    }
}

/// What the page loads.
pub(super) fn files<S: Clone + Send + Sync + 'static>() -> Router<S> {
    let file = |kind, text: &'static str| {
        let kind = HeaderValue::from_static(kind);
        get(move || async move { ([(header::CONTENT_TYPE, kind)], text) })
    };
    Router::new()
        .route(
            "/page.css",
            file(
                "text/css; charset=utf-8",
                include_str!("../../../templates/page.css"),
            ),
        )
        .route(
            "/page.js",
            file(
                "text/javascript; charset=utf-8",
                include_str!("../../../templates/page.js"),
            ),
        )
        .route(
            "/icon.svg",
            file("image/svg+xml", include_str!("../../../templates/icon.svg")),
        )
}

/// Tells browsers to be strict with it, and that the next agent at the same address is another one.
pub(super) async fn guard(mut response: Response) -> Response {
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        let headers = response.headers_mut();
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}
