//! Orders to evict a pod now.

use anyhow::{Result, ensure};
use curfew_core::metadata::{
    EVICT_NOW, EVICT_NOW_REQUESTER, EVICTION_TIME, EXTENSION, EXTENSION_REQUESTER, HOLD,
    HOLD_REQUESTER,
};
use curfew_e2e::{Namespace, Workload, budgets::budgets, eventually, within_namespace};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use kube::{ResourceExt, api::PostParams};
use serde_json::json;

use super::{
    NODE, SOON, WAYS, Way, annotate, kubectl_of, lasting, passed, people, refused, set, user,
};

const POLICY: &str = "curfew-marks";
const DRY: [&str; 1] = ["--dry-run=server"];

/// No pod of the namespace is evicted for as long as this stands.
async fn keep_all(namespace: &Namespace) -> Result<()> {
    let budget: PodDisruptionBudget = serde_json::from_value(json!({
        "metadata": {"name": "all"},
        "spec": {"maxUnavailable": 0, "selector": {}},
    }))?;
    let budgets = budgets(namespace);
    budgets.create(&PostParams::default(), &budget).await?;
    eventually(SOON, "the budget was seen", async || {
        Ok(budgets.get("all").await?.status.map(drop))
    })
    .await
}

#[tokio::test]
async fn an_order_gives_a_reason_and_a_name_and_stays() {
    within_namespace("ordered", async |namespace| {
        people(namespace).await?;
        keep_all(namespace).await?;
        lasting(namespace, "pod").await?;
        for name in ["untouched", "statused"] {
            namespace.run_pod(&Workload::new(name).on(NODE)).await?;
        }
        let (admin, me) = (kubectl_of(namespace, "admin"), user(namespace, "admin"));
        let order = async |pod: &str, reason: &str, flags: &[&str]| {
            let order = [(EVICT_NOW, reason), (EVICT_NOW_REQUESTER, me.as_str())];
            annotate(&admin, pod, &order, flags).await
        };
        for pod in ["pod", "untouched"] {
            for reason in ["misused", &"x".repeat(256), &"ä".repeat(128)] {
                passed(&order(pod, reason, &DRY).await?)?;
            }
            for reason in ["", &"x".repeat(257), &"ä".repeat(129), "two\nlines", "a\u{1b}[1mbold", "  ", "\u{202e}", "a\u{202e}b", "\u{200b}"] {
                refused(&order(pod, reason, &DRY).await?, POLICY, "line of 1 to 256 bytes")?;
            }
            let said = annotate(&admin, pod, &[(EVICT_NOW, "mine"), (EVICT_NOW_REQUESTER, "bob")], &DRY).await?;
            refused(&said, POLICY, &format!("set it to {me}"))?;
            let said = annotate(&admin, pod, &[(EVICT_NOW, "mine")], &DRY).await?;
            refused(&said, POLICY, &format!("set it to {me}"))?;
            let said = annotate(&admin, pod, &[(EVICT_NOW_REQUESTER, &me)], &DRY).await?;
            refused(&said, POLICY, "set both")?;
            let mine = user(namespace, "edit");
            let order = [(EVICT_NOW, "mine"), (EVICT_NOW_REQUESTER, mine.as_str())];
            let said = annotate(&kubectl_of(namespace, "edit"), pod, &order, &DRY).await?;
            refused(&said, POLICY, "requires the verb evict on interactions.curfew.dev there, which the ClusterRole admin grants")?;
        }
        // Nothing else of Curfew's comes with it.
        let said = annotate(&admin, "pod", &[(EVICT_NOW, "mine"), (EVICT_NOW_REQUESTER, &me), (EVICTION_TIME, "2030-01-01T00:00:00Z")], &DRY).await?;
        refused(&said, POLICY, "only Curfew writes curfew.dev/eviction-time")?;
        let said = annotate(&admin, "pod", &[(EVICT_NOW, "mine"), (EVICT_NOW_REQUESTER, &me), (HOLD, "mine"), (HOLD_REQUESTER, &me)], &DRY).await?;
        refused(&said, POLICY, "a hold does not change that")?;
        let order_json = json!({EVICT_NOW: "mine", EVICT_NOW_REQUESTER: me});
        let said = set(&admin, Way::Status, "statused", &order_json).await?;
        ensure!(said.code == Some(1), "{said:?}");
        for way in WAYS {
            let name = format!("pod-{}", format!("{way:?}").to_lowercase());
            namespace.run_pod(&Workload::new(&name).on(NODE)).await?;
            // A JSON patch adds to annotations that are there.
            passed(&annotate(&admin, &name, &[("example.com/team", "a")], &[]).await?)?;
            let said = set(&admin, way, &name, &order_json).await?;
            ensure!(said.code == Some(0), "{way:?}: {said:?}");
        }

        // Once it stands it stays, and what would keep the pod comes too late.
        passed(&order("pod", "misused", &[]).await?)?;
        for reason in ["other", "misused by bob"] {
            refused(&order("pod", reason, &DRY).await?, POLICY, "cannot be changed or taken back")?;
        }
        let removed = ["annotate", "pod", "pod", &format!("{EVICT_NOW}-"), &format!("{EVICT_NOW_REQUESTER}-")];
        for kubectl in [&admin, &namespace.kubectl] {
            let said = kubectl.run(&removed).await?;
            refused(&said, POLICY, &format!("was set by {me} and stays as it is"))?;
        }
        for (key, requester, what) in [(EXTENSION, EXTENSION_REQUESTER, "an extension"), (HOLD, HOLD_REQUESTER, "a hold")] {
            let said = annotate(&admin, "pod", &[(key, "1m"), (requester, &me)], &DRY).await?;
            refused(&said, POLICY, &format!("{what} does not change that"))?;
        }
        let pod = namespace.pods().get("pod").await?;
        ensure!(pod.annotations().get(EVICT_NOW).is_some_and(|reason| reason == "misused"));
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn no_pod_of_an_exempt_namespace_is_ordered_away() {
    within_namespace("ordered-exempt", async |namespace| {
        people(namespace).await?;
        namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let label = [
            "label",
            "namespace",
            &namespace.name,
            "curfew.dev/exempt=true",
        ];
        namespace.kubectl.ok(&label).await?;
        let me = user(namespace, "admin");
        let order = [(EVICT_NOW, "misused"), (EVICT_NOW_REQUESTER, me.as_str())];
        // The API server sees the label a moment later.
        eventually(SOON, "the order is refused", async || {
            let said = annotate(&kubectl_of(namespace, "admin"), "pod", &order, &DRY).await?;
            Ok((said.code != Some(0)).then_some(said))
        })
        .await
        .and_then(|said| refused(&said, POLICY, "is exempt from Curfew"))
    })
    .await;
}
