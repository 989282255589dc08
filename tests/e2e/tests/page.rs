//! The page of a node's agent, in a real Chromium, by `kubectl pi node NODE --web`.

#[path = "page/browser.rs"]
mod browser;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_core::duration;
use curfew_e2e::{
    Agents, CURFEW, Kubectl, NODES, Namespace, Scheduled, Workload, budgets::budget, disrupt,
    eventually, policies::Policies, within_namespace, workload::CONTAINER,
};
use kube::ResourceExt;
use serde::Deserialize;
use serde_json::json;

use browser::Tab;

const NODE: &str = NODES[0];
/// How soon the page shows what has changed: it asks every five seconds.
const SHOWN: Duration = Duration::from_secs(15);
const EVICTED: Duration = Duration::from_secs(30);
/// WCAG's least contrast of text with what is behind it.
const LEAST_CONTRAST: f64 = 4.5;

/// A row of the schedule as the page shows it.
#[derive(Debug, Deserialize)]
struct Row {
    pod: String,
    state: String,
    evicted: String,
    countdown: Option<String>,
    text: String,
}

const ROWS: &str = "[...document.querySelectorAll('#schedule tr')].map((row) => ({
    pod: row.querySelector('th')?.textContent ?? '',
    state: row.querySelector('.state')?.textContent ?? '',
    evicted: row.querySelector('time')?.dateTime ?? '',
    countdown: row.querySelector('[data-until]')?.textContent ?? null,
    text: row.textContent,
}))";

const EVICTIONS: &str = "document.getElementById('evictions').textContent";
const STATUS: &str = "document.getElementById('connection').textContent";

/// The least contrast of all texts of the page, with the text.
const CONTRAST: &str = "(() => {
    const parts = (color) => color.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => [r, g, b]
        .map((c) => c / 255)
        .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
        .reduce((sum, c, at) => sum + c * [0.2126, 0.7152, 0.0722][at], 0);
    const behind = (element) => {
        for (let at = element; at; at = at.parentElement) {
            const color = parts(getComputedStyle(at).backgroundColor);
            if (color.length < 4 || color[3] > 0) return color;
        }
        return [255, 255, 255];
    };
    let least = [99, ''];
    for (const element of document.querySelectorAll('body *')) {
        const own = [...element.childNodes].filter((node) => node.nodeType === 3 && node.data.trim());
        if (!own.length) continue;
        const pair = [light(parts(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
        const contrast = (pair[0] + 0.05) / (pair[1] + 0.05);
        if (contrast < least[0]) least = [contrast, own[0].data];
    }
    return least;
})()";

async fn row(tab: &Tab, pod: &str) -> Result<Row> {
    let rows: Vec<Row> = tab.value(ROWS).await?;
    let end = format!("/{pod}");
    let found = rows.into_iter().find(|row| row.pod.ends_with(&end));
    found.with_context(|| format!("the page does not show {pod}"))
}

/// Waits until the page shows the pod in this state.
async fn shown(tab: &Tab, pod: &str, state: &str) -> Result<Row> {
    let what = format!("the page shows that {pod} is {state}");
    eventually(SHOWN, &what, async || {
        let row = row(tab, pod).await?;
        ensure!(row.state == state, "{row:?}");
        Ok(Some(row))
    })
    .await
}

/// What a countdown says, in seconds.
fn seconds(row: &Row) -> Result<u64> {
    let text = row.countdown.as_deref().context("no countdown")?;
    let length = text
        .strip_prefix("in ")
        .with_context(|| format!("{text:?}"))?;
    Ok(duration::parse(length)?.as_secs())
}

async fn exec(user: &Kubectl, pod: &str, script: &str) -> Result<()> {
    let args = ["exec", pod, "-c", CONTAINER, "--", "sh", "-c", script];
    user.ok(&args).await.map(drop)
}

async fn record(agents: &Agents, pod: &str) -> Result<Option<Scheduled>> {
    let records = agents.of(NODE)?.schedule().await?.records;
    Ok(records.into_iter().find(|record| record.name == pod))
}

/// A pod that is blocked, one that is held, one that has time, and one that was evicted.
async fn everything_happens(namespace: &Namespace, agents: &Agents) -> Result<String> {
    let policies = Policies::new(namespace).await?;
    policies.hold(&[("short", json!({"ttl": "8s"}))]).await?;
    let alone = ["cart", "checkout", "report"].map(|name| Workload::new(name).on(NODE));
    namespace.run_pods(&alone).await?;
    let web = Workload::new("web").on(NODE);
    let web = namespace.run_deployment(&web, 2).await?[0].name_any();
    budget(namespace, "web", json!({})).await?;

    let users = ["dana@example.com", "erik@example.com", "ci-deployer"];
    let [dana, erik, deployer] =
        users.map(|user| namespace.kubectl.impersonating(user, &["system:masters"]));
    exec(&dana, &web, "echo debug=on >/tmp/app.conf").await?;
    exec(&deployer, "report", "rm -f /tmp/report.lock").await?;
    exec(&dana, "cart", "cp /proc/1/maps /tmp/maps").await?;
    exec(&erik, "checkout", "ls -l /tmp").await?;
    erik.ok(&[
        "pi",
        "hold",
        "cart",
        "--reason=crash of Tuesday, maps are in /tmp",
    ])
    .await?;
    dana.ok(&["pi", "extend", "checkout", "--duration=30m"])
        .await?;

    eventually(EVICTED, "one pod is blocked and one is gone", async || {
        let blocked = record(agents, &web).await?.context("no record")?;
        ensure!(blocked.state == "blocked", "{blocked:?}");
        Ok(record(agents, "report").await?.is_none().then_some(()))
    })
    .await?;
    Ok(web)
}

async fn is_legible(tab: &Tab, scheme: &str) -> Result<()> {
    let (contrast, text): (f64, String) = tab.value(CONTRAST).await?;
    ensure!(
        (LEAST_CONTRAST..99.0).contains(&contrast),
        "{scheme}: the contrast of {text:?} is {contrast:.1}"
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_person_sees_what_the_agent_does() {
    within_namespace("page", async |namespace| {
        let agents = Agents::connect(&namespace.cluster).await?;
        let (web, tab) = tokio::try_join!(everything_happens(namespace, &agents), Tab::open())?;
        let web_command = ["pi", "node", NODE, "--web", "--no-open"];
        let mut tunnel = namespace.kubectl.start(&web_command)?;
        let url = tunnel.line().await?;
        tab.visit(&url, "light").await?;

        let blocked = shown(&tab, &web, "blocked").await?;
        ensure!(
            blocked.text.contains("needs 2 healthy pods") && blocked.text.contains("(budget web)"),
            "{blocked:?}"
        );
        let held = shown(&tab, "cart", "held").await?;
        ensure!(
            held.text
                .contains("Held by erik@example.com: crash of Tuesday, maps are in /tmp"),
            "{held:?}"
        );
        // The schedule can be read while the rest of the page still comes.
        eventually(SHOWN, "the page shows who was evicted", async || {
            let last: String = tab.value(EVICTIONS).await?;
            let words = ["/report", "evicted", "by ci-deployer"];
            ensure!(words.iter().all(|word| last.contains(word)), "{last:?}");
            Ok(Some(()))
        })
        .await?;
        for scheme in ["dark", "light"] {
            tab.visit(&url, scheme).await?;
            shown(&tab, "cart", "held").await?;
            is_legible(&tab, scheme).await?;
            let file = format!("node-page-{scheme}.png");
            tab.picture(&namespace.cluster.results().join(file)).await?;
        }

        let before = shown(&tab, "checkout", "scheduled").await?;
        let deadline = record(&agents, "checkout")
            .await?
            .context("no record")?
            .deadline()?;
        ensure!(before.evicted == deadline.to_string(), "{before:?}");
        let left = deadline
            .duration_since(agents.of(NODE)?.schedule().await?.now)
            .as_secs();
        ensure!(
            (seconds(&before)? as i64).abs_diff(left) <= 2,
            "{before:?}, in truth {left} s"
        );
        let later = eventually(SHOWN, "it counts down", async || {
            let later = row(&tab, "checkout").await?;
            Ok((seconds(&later)? + 2 <= seconds(&before)?).then_some(later))
        })
        .await?;
        ensure!(later.evicted == before.evicted, "{later:?}");

        // What comes is shown where the reader is, and is text whatever it is.
        let _: bool = tab.value("window.stays = true").await?;
        let evil = "</code><script>document.title='no'</script><img src=x onerror=alert(1)>";
        exec(&namespace.kubectl, "checkout", &format!(": \"{evil}\"")).await?;
        eventually(SHOWN, "the page shows the next interaction", async || {
            let row = row(&tab, "checkout").await?;
            Ok(row
                .text
                .contains("2 interactions, the last by")
                .then_some(()))
        })
        .await?;
        exec(&namespace.kubectl, &web, &format!(": \"{evil}\"")).await?;
        let probe = namespace
            .run_pod(&Workload::new("probe").on(NODES[1]))
            .await?;
        cannot_be_reached(namespace, &probe.name_any()).await?;
        let elsewhere =
            "document.scripts.length === 1 && document.title.startsWith('node-1') && stays";
        ensure!(
            tab.value::<bool>(elsewhere).await?,
            "the page is another one"
        );
        tab.is_content()?;

        // The agent is replaced, and the page goes on with the next, which remembers no eviction.
        let agent = disrupt::agent_of(&namespace.cluster, NODE).await?;
        disrupt::replace(&namespace.cluster, &agent).await?;
        disrupt::rolled_out(&namespace.cluster, disrupt::DAEMONSET).await?;
        eventually(SHOWN, "the page is of the next agent", async || {
            let evictions: String = tab.value(EVICTIONS).await?;
            Ok((!evictions.contains("/report")).then_some(()))
        })
        .await?;
        shown(&tab, &web, "blocked").await?;

        drop(tunnel);
        eventually(SHOWN, "the page says that nobody answers", async || {
            let status: String = tab.value(STATUS).await?;
            Ok(status.contains("does not answer").then_some(()))
        })
        .await?;
        tab.close().await
    })
    .await;
}

/// From a pod its node's port for metrics is reached, and the one for debugging is not.
async fn cannot_be_reached(namespace: &Namespace, probe: &str) -> Result<()> {
    let agent = disrupt::agent_of(&namespace.cluster, NODE).await?;
    let ip = agent.status.and_then(|status| status.pod_ip);
    let ip = ip.context("the agent has no address")?;
    let get = async |port: u16, path: &str| {
        // A server need not answer a client that has closed its side.
        let request = format!("printf 'GET {path} HTTP/1.0\\r\\n\\r\\n'");
        let script = format!("{{ {request}; sleep 2; }} | nc -w 3 {ip} {port}");
        let args = ["exec", probe, "--", "sh", "-c", &script];
        namespace.kubectl.run(&args).await
    };
    let healthy = get(9090, "/healthz").await?.success()?;
    ensure!(healthy.contains("200 OK"), "{healthy}");
    for path in ["/", "/v1/schedule"] {
        let said = get(9091, path).await?;
        ensure!(
            said.code == Some(1) && said.stderr.contains("Connection refused"),
            "{said:?}"
        );
    }
    // Nor does the API server's proxy, which asks the pod's address, get further.
    let path = format!(
        "/api/v1/namespaces/{CURFEW}/pods/{}:9091/proxy/",
        agent.metadata.name.unwrap_or_default()
    );
    let said = namespace
        .cluster
        .kubectl()
        .run(&["get", "--raw", &path])
        .await?;
    ensure!(said.code == Some(1) && said.stdout.is_empty(), "{said:?}");
    Ok(())
}
