//! Requests for certificates, with real tokens.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use curfew_core::identity::{SIGNER, WEBHOOK, agent};
use curfew_e2e::{CURFEW, NODES, eventually, tokens, within_namespace};
use k8s_openapi::api::{
    certificates::v1::CertificateSigningRequest,
    core::v1::{ConfigMap, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use rcgen::{CertificateParams, KeyPair};
use serde_json::{Value, json};

const ANSWERED: Duration = Duration::from_secs(10);

/// A request for a certificate of this name.
fn request(name: &str, usages: &[&str], extra: &Value) -> Result<CertificateSigningRequest> {
    let params = CertificateParams::new(vec![name.to_owned()])?;
    let text = params.serialize_request(&KeyPair::generate()?)?.pem()?;
    let mut request: CertificateSigningRequest = serde_json::from_value(json!({
        "metadata": {"generateName": "curfew-e2e-"},
        "spec": {"signerName": SIGNER, "usages": usages, "extra": extra, "request": ""},
    }))?;
    request.spec.request.0 = text.into_bytes();
    Ok(request)
}

/// Asks as this client, and returns what became of it: whether there is a certificate, and what was said.
async fn ask(
    client: &Client,
    admin: &Client,
    request: &CertificateSigningRequest,
) -> Result<(bool, String)> {
    let all: Api<CertificateSigningRequest> = Api::all(client.clone());
    let made = all.create(&PostParams::default(), request).await?;
    let all: Api<CertificateSigningRequest> = Api::all(admin.clone());
    let answered = eventually(ANSWERED, "the request is answered", async || {
        let status = all.get(&made.name_any()).await?.status.unwrap_or_default();
        let decided = status.conditions.unwrap_or_default();
        let denied = decided.iter().find(|one| one.type_ == "Denied");
        Ok(match (denied, status.certificate) {
            (Some(denied), _) => Some((false, denied.message.clone().unwrap_or_default())),
            (None, Some(_)) => Some((true, String::new())),
            (None, None) => None,
        })
    });
    let answered = answered.await;
    all.delete(&made.name_any(), &kube::api::DeleteParams::default())
        .await?;
    answered
}

#[tokio::test]
async fn an_agent_gets_a_certificate_for_its_own_node_and_no_other() {
    within_namespace("certificates", async |namespace| {
        let cluster = &namespace.cluster;
        let admin = &cluster.client;
        let node = tokens::agent_of(cluster, NODES[0]).await?;
        let unbound = tokens::client(cluster, tokens::AGENT, None).await?;
        let serve = ["digital signature", "server auth"];
        let own = agent(NODES[0]);
        let none = json!(null);

        let (issued, why) = ask(&node, admin, &request(&own, &serve, &none)?).await?;
        ensure!(issued, "{why}");

        let forged = json!({"authentication.kubernetes.io/node-name": [NODES[1]]});
        let other = agent(NODES[1]);
        for (client, request, words) in [
            (
                &node,
                request(&other, &serve, &none)?,
                "the agent of node node-1 must use the name",
            ),
            // The API server overwrites what is said about the token.
            (
                &node,
                request(&other, &serve, &forged)?,
                "the agent of node node-1 must use the name",
            ),
            (&node, request(WEBHOOK, &serve, &none)?, "and no other"),
            (
                &node,
                request(&own, &["client auth"], &none)?,
                "spec.usages",
            ),
            (&unbound, request(&own, &serve, &none)?, "spec.extra"),
            (admin, request(&own, &serve, &none)?, "spec.username"),
        ] {
            let (issued, why) = ask(client, admin, &request).await?;
            ensure!(!issued && why.contains(words), "{words}: {issued} {why}");
        }
        Ok(())
    })
    .await;
}

/// That the API server refuses a call.
fn forbidden<T: std::fmt::Debug>(what: &str, answer: kube::Result<T>) -> Result<()> {
    match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => Ok(()),
        other => anyhow::bail!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn an_agent_vouches_for_nobody() {
    within_namespace("vouching", async |namespace| {
        let cluster = &namespace.cluster;
        let agent_client = tokens::agent_of(cluster, NODES[0]).await?;
        let secrets: Api<Secret> = Api::namespaced(agent_client.clone(), CURFEW);
        forbidden("list Secrets", secrets.list(&Default::default()).await)?;
        forbidden("read the CA", secrets.get("curfew-webhook-ca").await)?;
        let maps: Api<ConfigMap> = Api::namespaced(agent_client.clone(), CURFEW);
        forbidden("list ConfigMaps", maps.list(&Default::default()).await)?;
        let patch = Patch::Merge(json!({"data": {"ca.crt": "mine"}}));
        let params = PatchParams::default().dry_run();
        forbidden(
            "change the trust",
            maps.patch("curfew-ca", &params, &patch).await,
        )?;

        let all: Api<CertificateSigningRequest> = Api::all(agent_client);
        let wanted = request(&agent(NODES[0]), &["server auth"], &json!(null))?;
        let made = all.create(&PostParams::default(), &wanted).await?;
        let name = made.metadata.name.context("it has no name")?;
        let approval = Patch::Merge(json!({"status": {"conditions": []}}));
        let params = PatchParams::default();
        let approved = all.patch_approval(&name, &params, &approval).await;
        forbidden("approve", approved)?;
        let signed = Patch::Merge(json!({"status": {"certificate": "eA=="}}));
        forbidden("sign", all.patch_status(&name, &params, &signed).await)?;
        forbidden("delete", all.delete(&name, &Default::default()).await)
    })
    .await;
}
