//! What `kubectl pi` says to whoever may not extend, hold or evict.

use anyhow::{Result, ensure};
use curfew_core::metadata::{EVICT_NOW, EXTENSION, HOLD};
use curfew_e2e::{
    Agents, Namespace,
    kubectl::Said,
    life::run_touched,
    policies::long_ttl,
    rights::{kubectl_of, people, user},
    within_namespace,
};
use kube::ResourceExt;

/// How many ways there are to ask for the same, each of which needs the same right.
const WAYS: [&[&str]; 3] = [&[], &["--dry-run=client"], &["--dry-run=server"]];

/// Who lacks which right, what for, and who grants it.
fn told(said: &Said, who: &str, namespace: &Namespace, verb: &str, grants: &str) -> Result<()> {
    let what = match verb {
        "extend" => "extend the time of",
        other => other,
    };
    let sentence = format!(
        "error: {who} may not {what} pods in the namespace {}: this requires the verb {verb} on \
         interactions.curfew.dev there, which the {grants}\n",
        namespace.name
    );
    ensure!(
        said.code == Some(1) && said.stdout.is_empty() && said.stderr == sentence,
        "{sentence:?} is not {said:?}"
    );
    Ok(())
}

#[tokio::test]
async fn whoever_lacks_a_right_hears_which_and_who_has_it() {
    within_namespace("rights", async |namespace| {
        people(namespace).await?;
        let agents = Agents::connect(&namespace.cluster).await?;
        long_ttl(namespace).await?;
        run_touched(namespace, &agents, "web").await?;
        let run = async |role: &str, words: &[&str], way: &[&str]| {
            let words = [&["pi"], words, way].concat();
            kubectl_of(namespace, role).run(&words).await
        };
        let extend = ["extend", "web", "--duration=1h"];
        let hold = ["hold", "web", "--reason=evidence"];
        let release = ["release", "web"];
        let evict = ["evict", "web", "--reason=misused", "--force"];
        let overrides = async || {
            let pod = namespace.pods().get("web").await?;
            let keys = [EXTENSION, HOLD].map(|key| pod.annotations().contains_key(key));
            anyhow::Ok(keys)
        };
        let editors = "ClusterRoles edit and admin grant";
        let admins = "ClusterRole admin grants";

        let viewer = user(namespace, "view");
        for way in WAYS {
            let said = run("view", &extend, way).await?;
            told(&said, &viewer, namespace, "extend", editors)?;
            let said = run("view", &hold, way).await?;
            told(&said, &viewer, namespace, "hold", admins)?;
        }
        ensure!(overrides().await? == [false, false]);

        // Who may extend may not hold for that, nor release what others hold.
        let editor = user(namespace, "edit");
        run("edit", &extend, &[]).await?.success()?;
        for way in WAYS {
            let said = run("edit", &hold, way).await?;
            told(&said, &editor, namespace, "hold", admins)?;
            let said = run("edit", &evict, way).await?;
            told(&said, &editor, namespace, "evict", admins)?;
        }
        ensure!(overrides().await? == [true, false]);
        run("admin", &hold, &[]).await?.success()?;
        for way in WAYS {
            let said = run("edit", &release, way).await?;
            told(&said, &editor, namespace, "hold", admins)?;
        }
        ensure!(overrides().await? == [true, true]);
        run("admin", &release, &[]).await?.success()?;
        ensure!(overrides().await? == [true, false]);
        let ordered = async || {
            let pod = namespace.pods().get("web").await?;
            anyhow::Ok(pod.annotations().contains_key(EVICT_NOW))
        };
        for way in [&["--dry-run=client"], &["--dry-run=server"]] {
            let said = run("admin", &evict, way).await?.success()?;
            ensure!(said.ends_with("dry run)\n"), "{said}");
        }
        ensure!(!ordered().await?);
        run("admin", &evict, &[]).await?.success().map(drop)
    })
    .await;
}
