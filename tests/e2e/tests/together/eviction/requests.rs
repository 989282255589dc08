//! What an interaction costs the API server, from its admission to the end of the pod.

use anyhow::{Context, ensure};
use curfew_e2e::{
    Agents, CURFEW, Workload, agents::ACCOUNT, audit, figures, life, tokens::WEBHOOK,
    within_namespace,
};

use super::NODE;

/// The webhook reads the pod; the agent marks it, reads it, evicts it and reports it twice.
const MOST: usize = 6;
/// Where agents cannot act as their nodes, the webhook reads the pod once more, to check the eviction.
const CHECK: usize = 1;
/// With the component evidence, the pod also tells what was found in it.
const LOOK: usize = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interaction_takes_six_requests() {
    within_namespace("requests", async |namespace| {
        let cluster = &namespace.cluster;
        let agents = Agents::connect(cluster).await?;
        let pod = namespace.run_pod(&Workload::new("pod").on(NODE)).await?;
        let watch = namespace.watch().await?;
        let mark = audit::now(cluster.machine.audit_log())?;
        let record = life::touch(namespace, &agents, &pod, &["true"]).await?;
        life::evicted(namespace, &watch, &record).await?;
        life::forgotten(&agents, &record).await?;

        let webhook = format!("system:serviceaccount:{CURFEW}:{WEBHOOK}");
        let mut requests = Vec::new();
        for account in [ACCOUNT, &webhook] {
            requests.extend(mark.since(account)?);
        }
        let path = format!("/namespaces/{}/", namespace.name);
        let about: Vec<_> = requests
            .iter()
            .filter(|request| request.uri.contains(&path))
            .map(|request| {
                let object = request.object_ref.as_ref().context("it is about nothing")?;
                let part = [&object.resource, &object.subresource].map(String::as_str);
                Ok(format!(
                    "{} {}",
                    request.verb,
                    part.join("/").trim_end_matches('/')
                ))
            })
            .collect::<anyhow::Result<_>>()?;
        figures::report(
            cluster,
            "requests",
            &format!("{}: {}", about.len(), about.join(", ")),
        )?;
        let most = match cluster.kubernetes().await?.agents_act_as_nodes() {
            true => MOST + LOOK,
            false => MOST + CHECK + LOOK,
        };
        ensure!(about.len() <= most, "{about:?}");
        Ok(())
    })
    .await;
}
