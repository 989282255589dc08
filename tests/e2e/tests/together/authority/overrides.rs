//! Extensions and holds.

use anyhow::{Context, Result, ensure};
use curfew_core::metadata::{
    EVICT_NOW, EVICT_NOW_REQUESTER, EXTENSION, EXTENSION_REQUESTER, HOLD, HOLD_REQUESTER,
    MAX_EXTENSION,
};
use curfew_e2e::{
    Agents, Namespace, Workload, eventually, life, marks, namespace::uid, policies::Policies,
    within_namespace,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;
use serde_json::json;

use super::{
    NODE, SOON, WAYS, annotate, kubectl_of, lasting, marked, may, passed, people, refused, set,
    user,
};

const POLICY: &str = "curfew-marks";
const DRY: [&str; 1] = ["--dry-run=server"];
const NO_DURATION: &str = "must be hours, minutes and seconds in this order and without a sign, such as 90s, 30m or 1h30m";

#[tokio::test]
async fn the_usual_roles_grant_what_they_should() {
    within_namespace("roles", async |namespace| {
        people(namespace).await?;
        for (role, verbs) in [
            ("view", &[][..]),
            ("edit", &["extend"]),
            ("admin", &["extend", "hold", "evict"]),
        ] {
            for verb in ["extend", "hold", "evict", "exempt"] {
                let may = may(namespace, &user(namespace, role), verb).await?;
                ensure!(may == verbs.contains(&verb), "{role} may {verb}: {may}");
            }
        }
        Ok(())
    })
    .await;
}

#[tokio::test]
async fn an_extension_is_within_what_the_pod_allows() {
    within_namespace("extension", async |namespace| {
        people(namespace).await?;
        let pod = lasting(namespace, "pod").await?;
        namespace
            .run_pod(&Workload::new("untouched").on(NODE))
            .await?;
        let longest = pod.annotations().get(MAX_EXTENSION).context("no maximum")?;
        ensure!(longest == "8h0m0s", "{longest}");
        let (editor, me) = (kubectl_of(namespace, "edit"), user(namespace, "edit"));
        let extend = async |text: &str| {
            annotate(
                &editor,
                "pod",
                &[(EXTENSION, text), (EXTENSION_REQUESTER, &me)],
                &DRY,
            )
            .await
        };
        for text in [
            "1h30m", "1h30m0s", "90s", "8h", "480m", "28800s", "1.5h", "1s",
        ] {
            passed(&extend(text).await?)?;
        }
        for (text, words) in [
            ("-1h", NO_DURATION),
            ("+1h", NO_DURATION),
            ("0", NO_DURATION),
            ("1d", NO_DURATION),
            ("abc", NO_DURATION),
            ("", NO_DURATION),
            ("1h ", NO_DURATION),
            ("1h\n", NO_DURATION),
            ("30", NO_DURATION),
            ("100ms", NO_DURATION),
            ("9999999999999h", NO_DURATION),
            ("0s", "longer than 0s"),
            ("0h0m0s", "longer than 0s"),
            ("1.5s", "whole seconds"),
            (
                "9999h",
                "9999h is too long: the maximum for this pod is 8h0m0s",
            ),
            ("8h1s", "too long"),
            ("99999h9999999m999999999s", "too long"),
        ] {
            refused(&extend(text).await?, POLICY, words)?;
        }

        let said = annotate(
            &editor,
            "pod",
            &[(EXTENSION, "1h"), (EXTENSION_REQUESTER, "bob")],
            &DRY,
        )
        .await?;
        refused(&said, POLICY, &format!("set it to {me}"))?;
        // The other's name stands there already: it does not become the editor's by silence.
        let said = annotate(&editor, "pod", &[(EXTENSION, "2h")], &DRY).await?;
        refused(&said, POLICY, &format!("set it to {me}"))?;
        let said = annotate(
            &namespace.kubectl,
            "pod",
            &[(EXTENSION, "1h"), (EXTENSION_REQUESTER, &me)],
            &DRY,
        )
        .await?;
        refused(&said, POLICY, "set it to ")?;
        let said = annotate(
            &editor,
            "untouched",
            &[(EXTENSION, "1h"), (EXTENSION_REQUESTER, &me)],
            &DRY,
        )
        .await?;
        refused(&said, POLICY, "nobody interacted with this pod")?;

        let removed = |keys: &[&str]| -> Vec<String> {
            let keys = keys.iter().map(|key| format!("{key}-"));
            ["annotate", "pod", "pod"]
                .map(str::to_owned)
                .into_iter()
                .chain(keys)
                .collect()
        };
        let halves = removed(&[EXTENSION]);
        let args: Vec<_> = halves.iter().map(String::as_str).collect();
        refused(&editor.run(&args).await?, POLICY, "set or remove both")?;
        patching_without_the_right(namespace).await?;
        for way in WAYS {
            let said = set(
                &editor,
                way,
                "pod",
                &json!({EXTENSION: "2h", EXTENSION_REQUESTER: me}),
            )
            .await?;
            passed(&said).with_context(|| format!("{way:?}"))?;
        }
        let both = removed(&[EXTENSION, EXTENSION_REQUESTER]);
        let args: Vec<_> = both.iter().map(String::as_str).collect();
        passed(&editor.run(&args).await?)
    })
    .await;
}

/// Who may patch pods, by a role of their own, has not the right to extend by that.
async fn patching_without_the_right(namespace: &Namespace) -> Result<()> {
    let me = user(namespace, "patcher");
    let role = [
        "create",
        "role",
        "patcher",
        "--verb=get,patch",
        "--resource=pods",
    ];
    namespace.kubectl.ok(&role).await?;
    let user = format!("--user={me}");
    let binding = ["create", "rolebinding", "patcher", "--role=patcher", &user];
    namespace.kubectl.ok(&binding).await?;
    let patcher = kubectl_of(namespace, "patcher");
    eventually(SOON, "the role is in force", async || {
        let said = annotate(&patcher, "pod", &[("example.com/mine", "1")], &DRY).await?;
        passed(&said).map(Some)
    })
    .await?;
    for (key, requester, verb, role) in [
        (EXTENSION, EXTENSION_REQUESTER, "extend", "edit and admin"),
        (HOLD, HOLD_REQUESTER, "hold", "admin"),
        (EVICT_NOW, EVICT_NOW_REQUESTER, "evict", "admin"),
    ] {
        let said = annotate(&patcher, "pod", &[(key, "1h"), (requester, &me)], &DRY).await?;
        refused(&said, POLICY, &format!("{me} may not {verb}"))?;
        refused(
            &said,
            POLICY,
            &format!("requires the verb {verb} on interactions.curfew.dev"),
        )?;
        refused(&said, POLICY, role)?;
    }
    Ok(())
}

#[tokio::test]
async fn a_hold_gives_a_reason_and_a_name() {
    within_namespace("hold", async |namespace| {
        people(namespace).await?;
        lasting(namespace, "pod").await?;
        let (admin, me) = (kubectl_of(namespace, "admin"), user(namespace, "admin"));
        let hold = async |reason: &str| {
            annotate(&admin, "pod", &[(HOLD, reason), (HOLD_REQUESTER, &me)], &DRY).await
        };
        for reason in ["evidence", &"x".repeat(256), &"ä".repeat(128)] {
            passed(&hold(reason).await?)?;
        }
        for reason in ["", &"x".repeat(257), &"ä".repeat(129), "two\nlines", "a\u{1b}[1mbold", "  ", "\u{202e}", "a\u{202e}b", "\u{200b}"] {
            refused(&hold(reason).await?, POLICY, "line of 1 to 256 bytes")?;
        }
        let said = annotate(&admin, "pod", &[(HOLD, "mine"), (HOLD_REQUESTER, "bob")], &DRY).await?;
        refused(&said, POLICY, &format!("set it to {me}"))?;
        let said = annotate(&admin, "pod", &[(HOLD_REQUESTER, &me)], &DRY).await?;
        refused(&said, POLICY, "set or remove both")?;
        namespace
            .run_pod(&Workload::new("untouched").on(NODE))
            .await?;
        let said = annotate(&admin, "untouched", &[(HOLD, "mine"), (HOLD_REQUESTER, &me)], &DRY).await?;
        refused(&said, POLICY, "nobody interacted with this pod, so there is no timer to hold")?;
        let editor = kubectl_of(namespace, "edit");
        let mine = user(namespace, "edit");
        let said = annotate(&editor, "pod", &[(HOLD, "mine"), (HOLD_REQUESTER, &mine)], &DRY).await?;
        refused(&said, POLICY, "requires the verb hold on interactions.curfew.dev there, which the ClusterRole admin grants")?;
        let said = annotate(&admin, "pod", &[(HOLD, "mine"), (HOLD_REQUESTER, &me)], &[]).await?;
        passed(&said)?;
        passed(&admin.run(&["annotate", "pod", "pod", &format!("{HOLD}-"), &format!("{HOLD_REQUESTER}-")]).await?)
    })
    .await;
}

#[tokio::test]
async fn where_no_timer_runs_there_is_none_to_extend() {
    within_namespace("recorded", async |namespace| {
        people(namespace).await?;
        let policies = Policies::new(namespace).await?;
        policies
            .hold(&[("record", json!({"action": "Record"}))])
            .await?;
        let pod = marked(namespace, "pod").await?;
        ensure!(!pod.annotations().contains_key(MAX_EXTENSION), "{pod:?}");
        let me = user(namespace, "edit");
        let wish = [(EXTENSION, "1m"), (EXTENSION_REQUESTER, me.as_str())];
        let said = annotate(&kubectl_of(namespace, "edit"), "pod", &wish, &[]).await?;
        refused(&said, POLICY, "no timer runs for this pod")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_extension_by_an_editor_moves_the_timer() {
    within_namespace("extended", async |namespace| {
        people(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        let watch = namespace.watch().await?;
        let pod = uid(&marked(namespace, "pod").await?)?;
        let before = agents.record_only_on(NODE, &pod).await?;
        let me = user(namespace, "edit");
        let wish = [(EXTENSION, "10s"), (EXTENSION_REQUESTER, me.as_str())];
        passed(&annotate(&kubectl_of(namespace, "edit"), "pod", &wish, &[]).await?)?;

        let expected = before.deadline()? + SignedDuration::from_secs(10);
        let after = eventually(life::PROMPT * 2, "the agent moved its timer", async || {
            let record = agents.record_only_on(NODE, &pod).await?;
            ensure!(record.deadline()? == expected, "{record:?}");
            Ok(Some(record))
        })
        .await?;
        eventually(life::PROMPT * 2, "the Event", async || {
            let events = marks::events(namespace, &pod, "PodInteractionExtended").await?;
            let told = events.iter().any(|event| {
                let message = event.message.as_deref().unwrap_or_default();
                message.contains(&me)
                    && message.contains("10s")
                    && message.contains(&expected.to_string())
            });
            ensure!(told, "{events:?}");
            Ok(Some(()))
        })
        .await?;
        life::evicted(namespace, &watch, &after).await.map(drop)
    })
    .await;
}

#[tokio::test]
async fn a_pod_that_is_leaving_is_not_extended() {
    within_namespace("late", async |namespace| {
        people(namespace).await?;
        namespace
            .run_pod(&Workload::new("pod").on(NODE).grace(30))
            .await?;
        namespace.kubectl.ok(&["exec", "pod", "--", "true"]).await?;
        eventually(SOON, "the pod is marked", async || {
            let pod = namespace.pods().get("pod").await?;
            Ok(pod.annotations().contains_key(MAX_EXTENSION).then_some(()))
        })
        .await?;
        let me = user(namespace, "admin");
        let is_too_late = async || {
            for (key, requester) in [(EXTENSION, EXTENSION_REQUESTER), (HOLD, HOLD_REQUESTER)] {
                let wish = [(key, "1m"), (requester, me.as_str())];
                let said = annotate(&kubectl_of(namespace, "admin"), "pod", &wish, &[]).await?;
                refused(&said, POLICY, "is already terminating")?;
            }
            anyhow::Ok(())
        };
        // As an eviction leaves it, before the pod is deleted. A condition that is older than two minutes is taken
        // back by the disruption controller.
        let now = Timestamp::from_second(Timestamp::now().as_second())?;
        let condition = json!({"status": {"conditions": [{
            "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "lastTransitionTime": now.to_string(),
        }]}});
        let patch = condition.to_string();
        let patch = ["patch", "pod", "pod", "--subresource=status", "-p", &patch];
        namespace.kubectl.ok(&patch).await?;
        is_too_late().await?;
        namespace
            .kubectl
            .ok(&["delete", "pod", "pod", "--wait=false"])
            .await?;
        is_too_late().await
    })
    .await;
}
