//! Sessions that nobody admitted become interactions.
//!
//! Such a session began past the API server: by the runtime's own tools, by `nsenter`, or through the kubelet's API. It
//! is recorded as an admitted one would be: by the policies of the cluster, on the agent's disk first. The policies are
//! read when they are needed, because this is rare.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use curfew_core::{
    Interaction, Kind, Notice, PodId, RecordedInteraction,
    interaction::BYPASS_USER,
    namespaces, notice,
    policy::{Policies, Policy},
    terms::DefaultTerms,
};
use curfew_crd::{Attempt, InForce, Reading, Stored};
use curfew_evidence::Bypass;
use curfew_runtime::{api, error_chain};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, Client, ResourceExt, api::ListParams, core::PartialObjectMeta};
use tokio::{
    sync::mpsc,
    time::{Instant, sleep},
};

use crate::{
    cluster::read::{self, PodRead},
    controller::ControllerHandle,
};

/// How long it is remembered whether a namespace is exempt. Pods of an exempt namespace may be exec'd into all the time.
const REMEMBERED: Duration = Duration::from_secs(30);
/// How many namespaces are remembered.
const NAMESPACES: usize = 256;
/// How many policies are read at a time.
const PAGE: u32 = 100;
/// How long to wait after the API server or the store did not answer, at first and at the most.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What recording such a session takes.
pub(crate) struct Recorder {
    /// Acts as the agent's own account.
    pub(crate) client: Client,
    /// Reads pods as the node.
    pub(crate) pods: Client,
    pub(crate) node: String,
    pub(crate) controller: ControllerHandle,
    pub(crate) defaults: DefaultTerms,
}

/// Why a session is not recorded.
#[derive(Debug, thiserror::Error)]
enum Unrecorded {
    /// There is nothing to record it of.
    #[error("the pod is gone")]
    Gone,
    /// It is tried again.
    #[error("{0}")]
    Later(String),
}

impl Recorder {
    /// Records each session, one after the other.
    ///
    /// # Errors
    /// When the thread that finds them has ended.
    pub(crate) async fn run(
        self,
        mut bypasses: mpsc::Receiver<(PodId, Bypass)>,
    ) -> anyhow::Result<()> {
        let mut exempt = ExemptNamespaces::default();
        while let Some((pod, bypass)) = bypasses.recv().await {
            let mut pause = PAUSES.0;
            loop {
                match self.record(&pod, &bypass, &mut exempt).await {
                    Ok(()) | Err(Unrecorded::Gone) => break,
                    Err(Unrecorded::Later(error)) => {
                        tracing::warn!(
                            event = "bypass-unrecorded", node = self.node, %pod, uid = pod.uid, error,
                            "a session that was not admitted cannot be recorded yet"
                        );
                        sleep(pause).await;
                        pause = (pause * 2).min(PAUSES.1);
                    }
                }
            }
        }
        anyhow::bail!("the thread that looks at containers ended")
    }

    async fn record(
        &self,
        pod: &PodId,
        bypass: &Bypass,
        exempt: &mut ExemptNamespaces,
    ) -> Result<(), Unrecorded> {
        let Some(labels) = exempt.look(&self.client, pod).await? else {
            return Ok(());
        };
        let read = api::call(read::pod(&self.pods, &self.node, pod)).await;
        let found = match read.map_err(later)? {
            PodRead::Found(found) if found.id() == *pod => found,
            PodRead::Found(_) | PodRead::Nothing => return Err(Unrecorded::Gone),
            PodRead::Refused(answer) => {
                return Err(Unrecorded::Later(format!(
                    "the API server answered {}",
                    answer.code
                )));
            }
        };
        let policies = policies(&self.client).await.map_err(later)?;
        let attempt = Attempt {
            user: BYPASS_USER,
            groups: &[],
            kind: Kind::Bypass,
            argv: &bypass.argv,
            stdin: false,
            tty: false,
        };
        let subject = attempt.with(found.metadata(), found.priority(), &labels);
        let admitted = policies.decide_past(&subject, self.defaults);
        let known = RecordedInteraction {
            interaction: Interaction {
                time: Timestamp::from_second(bypass.start.as_second()).unwrap_or(bypass.start),
                kind: Kind::Bypass,
                user: BYPASS_USER.to_owned(),
                container: Some(bypass.container.clone()),
                command: admitted.record_command.of(&bypass.argv),
                stdin: false,
                tty: false,
                request: format!("bypass-{}-{}", pod.uid, bypass.start.as_nanosecond()),
            },
            terms: admitted.terms,
            policy: admitted.policy.map(Into::into),
            irregular: None,
        };
        let notice = Notice {
            version: notice::VERSION,
            node: self.node.clone(),
            pod: pod.clone(),
            known,
            sent: None,
        };
        let recorded = self.controller.record(notice).await;
        recorded
            .map(drop)
            .map_err(|error| Unrecorded::Later(error.to_string()))
    }
}

/// The policies that are in force.
async fn policies(client: &Client) -> kube::Result<Policies> {
    let all: Api<Stored> = Api::all(client.clone());
    let mut page = ListParams::default().limit(PAGE);
    let mut policies = Vec::new();
    loop {
        let listed = match api::call(all.list(&page)).await {
            // Where policies are not defined there are none.
            Err(error) if error_chain::code(&error) == Some(404) => break,
            listed => listed?,
        };
        policies.extend(listed.items.into_iter().filter_map(|stored| {
            let spec = match stored.reading() {
                Reading::Accepted(spec) => Some(spec),
                Reading::Rejected { in_force, .. } => in_force.map(|InForce { spec, .. }| spec),
            };
            let name = stored.name_any();
            spec.map(|spec| Policy { name, spec })
        }));
        match listed.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => break,
        }
    }
    Ok(policies.into_iter().collect())
}

/// Which namespaces Curfew leaves alone, for as long as that is remembered.
#[derive(Default)]
struct ExemptNamespaces(HashMap<String, Instant>);

impl ExemptNamespaces {
    /// The labels of the pod's namespace; none if it is exempt.
    async fn look(
        &mut self,
        client: &Client,
        pod: &PodId,
    ) -> Result<Option<BTreeMap<String, String>>, Unrecorded> {
        let now = Instant::now();
        self.0.retain(|_, until| *until > now);
        let name = &pod.namespace;
        if namespaces::exempt(name, &BTreeMap::new()).is_some() || self.0.contains_key(name) {
            return Ok(None);
        }
        let all: Api<Namespace> = Api::all(client.clone());
        let read: kube::Result<PartialObjectMeta<Namespace>> =
            api::call(all.get_metadata(name)).await;
        let found = match read {
            Err(error) if error_chain::code(&error) == Some(404) => return Err(Unrecorded::Gone),
            read => read.map_err(later)?,
        };
        let labels = found.metadata.labels.unwrap_or_default();
        if namespaces::exempt(name, &labels).is_none() {
            return Ok(Some(labels));
        }
        if self.0.len() < NAMESPACES {
            self.0.insert(name.clone(), now + REMEMBERED);
        }
        Ok(None)
    }
}

fn later(error: kube::Error) -> Unrecorded {
    Unrecorded::Later(error_chain::short(&error))
}
