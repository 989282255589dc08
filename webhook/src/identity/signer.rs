//! Answers the agents' requests for certificates.
//!
//! Any replica may answer; the API server accepts the first answer. The user and the node in a request can be
//! trusted, because the API server sets both from the token of the pod that sent the request.

use std::time::Duration;

use curfew_core::identity::{self, AGENT_ACCOUNT, NODE_CLAIM, SIGNER};
use curfew_runtime::{api, error_chain};
use futures::TryStreamExt;
use jiff::Timestamp;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use kube::{
    Api, Client, ResourceExt,
    api::{ListParams, Patch, PatchParams},
    runtime::WatchStreamExt,
};
use rcgen::{CertificateSigningRequestParams, ExtendedKeyUsagePurpose, IsCa, PublicKey, SanType};
use serde_json::json;

use super::Identities;
use crate::metrics::Metrics;

/// What a certificate of an agent may be for, in the words of the certificates API.
const USAGES: [&str; 2] = ["digital signature", "server auth"];

/// What the signer needs.
pub(crate) struct Signer {
    /// To read and write.
    pub(crate) client: Client,
    /// The namespace of Curfew.
    pub(crate) namespace: String,
    /// Who issues.
    pub(crate) identities: Identities,
    /// How long certificates last.
    pub(crate) life: Duration,
    /// To count.
    pub(crate) metrics: Metrics,
}

/// Somebody who is to have a certificate.
#[derive(Debug)]
struct Applicant {
    node: String,
    key: PublicKey,
}

impl Signer {
    /// Waits for the CA, then answers requests until it is dropped.
    ///
    /// # Errors
    /// When the watch ends, which it does not by itself.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        self.identities.wait_for(Option::is_some).await?;
        self.answer_all().await;
        anyhow::bail!("the watch of CertificateSigningRequests ended")
    }

    async fn answer_all(&self) {
        let all: Api<CertificateSigningRequest> = Api::all(self.client.clone());
        let of_signer = ListParams::default().fields(&format!("spec.signerName={SIGNER}"));
        let watch = self.metrics.watches.open("certificates");
        let events = watch.events(all.clone(), of_signer);
        let mut requests = std::pin::pin!(events.applied_objects());
        loop {
            match requests.try_next().await {
                Ok(Some(request)) => self.answer(&all, &request).await,
                Ok(None) => return,
                // The watch tries again, and logs it.
                Err(_) => {}
            }
        }
    }

    async fn answer(
        &self,
        all: &Api<CertificateSigningRequest>,
        request: &CertificateSigningRequest,
    ) {
        if is_answered(request) {
            return;
        }
        let name = request.name_any();
        let answered = match applicant(request, &self.namespace) {
            Ok(applicant) => self.issue(all, &name, &applicant).await,
            Err(why) => self.deny(all, &name, &why).await,
        };
        if let Err(error) = answered {
            tracing::warn!(
                event = "request-unanswered",
                request = name,
                error,
                "the agent will request it again"
            );
        }
    }

    async fn issue(
        &self,
        all: &Api<CertificateSigningRequest>,
        name: &str,
        applicant: &Applicant,
    ) -> Result<(), String> {
        let identity = self.identities.borrow().clone();
        let issuer = identity
            .ok_or("there is no CA yet")?
            .authorities
            .current
            .clone();
        let certificate = issuer
            .sign_agent_certificate(&applicant.node, &applicant.key, self.life)
            .map_err(|error| error.to_string())?;
        let approval = condition(
            "Approved",
            "AgentOfItsNode",
            "an agent requested it for its own node",
        );
        // Another replica may have approved, and ended before it signed.
        patch(all, "approval", name, &approval).await?;
        let certificate = k8s_openapi::ByteString(certificate.into_bytes());
        let status = json!({"status": {"certificate": certificate}});
        if patch(all, "status", name, &status).await? {
            self.metrics.certified(true);
            tracing::info!(
                event = "agent-certified",
                node = applicant.node,
                request = name
            );
        }
        Ok(())
    }

    async fn deny(
        &self,
        all: &Api<CertificateSigningRequest>,
        name: &str,
        why: &str,
    ) -> Result<(), String> {
        let denial = condition("Denied", "NotAnAgent", why);
        if patch(all, "approval", name, &denial).await? {
            self.metrics.certified(false);
            tracing::warn!(event = "agent-refused", request = name, why);
        }
        Ok(())
    }
}

/// Patches a part of a request. Returns false when another replica was faster.
async fn patch(
    all: &Api<CertificateSigningRequest>,
    part: &str,
    name: &str,
    patch: &serde_json::Value,
) -> Result<bool, String> {
    let params = PatchParams::default();
    let patch = Patch::Merge(patch);
    let patched = async {
        match part {
            "approval" => all.patch_approval(name, &params, &patch).await,
            _ => all.patch_status(name, &params, &patch).await,
        }
    };
    match api::call(patched).await {
        Ok(_) => Ok(true),
        // It is answered already, and its answer cannot be changed; or it is gone.
        Err(error) if matches!(error_chain::code(&error), Some(404 | 409 | 422)) => Ok(false),
        Err(error) => Err(error_chain::short(&error)),
    }
}

fn condition(kind: &str, reason: &str, message: &str) -> serde_json::Value {
    json!({"status": {"conditions": [{
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message,
        "lastUpdateTime": Timestamp::now().to_string(),
    }]}})
}

fn is_answered(request: &CertificateSigningRequest) -> bool {
    let Some(status) = &request.status else {
        return false;
    };
    let decided = status.conditions.iter().flatten();
    let refused = decided
        .into_iter()
        .any(|condition| condition.type_ != "Approved");
    refused || status.certificate.is_some()
}

/// Who asks, if that is an agent that asks for its own node and no more.
fn applicant(request: &CertificateSigningRequest, namespace: &str) -> Result<Applicant, String> {
    let spec = &request.spec;
    let account = format!("system:serviceaccount:{namespace}:{AGENT_ACCOUNT}");
    if spec.username.as_ref() != Some(&account) {
        return Err(format!(
            "spec.username: must be {account}, the account of the agents"
        ));
    }
    let extra = spec.extra.as_ref().and_then(|extra| extra.get(NODE_CLAIM));
    let [node] = extra.map(Vec::as_slice).unwrap_or_default() else {
        return Err(format!(
            "spec.extra[\"{NODE_CLAIM}\"]: must be one node; an agent uses the token of its own pod"
        ));
    };
    let usages = spec.usages.as_deref().unwrap_or_default();
    if let Some(other) = usages
        .iter()
        .find(|usage| !USAGES.contains(&usage.as_str()))
    {
        return Err(format!(
            "spec.usages: {other:?} is not allowed; an agent's certificate is a server certificate"
        ));
    }
    let text = std::str::from_utf8(&spec.request.0)
        .map_err(|_| "spec.request: is not PEM text".to_owned())?;
    // Verifies, too, that who asks has the key.
    let asked = CertificateSigningRequestParams::from_pem(text)
        .map_err(|error| format!("spec.request: {error}"))?;
    let own = identity::agent(node);
    let names = &asked.params.subject_alt_names;
    if !matches!(&names[..], [SanType::DnsName(name)] if name.as_str() == own) {
        return Err(format!(
            "spec.request: the agent of node {node} must use the name {own} and no other"
        ));
    }
    let purposes = &asked.params.extended_key_usages;
    if purposes
        .iter()
        .any(|purpose| *purpose != ExtendedKeyUsagePurpose::ServerAuth)
        || !matches!(asked.params.is_ca, IsCa::NoCa)
    {
        return Err(
            "spec.request: an agent's certificate is only for server authentication".to_owned(),
        );
    }
    Ok(Applicant {
        node: node.clone(),
        key: asked.public_key,
    })
}

#[cfg(test)]
#[path = "signer_tests.rs"]
mod tests;
