//! Finds the pod and the containers that a request is about, or the reason why the request is not recorded.

use curfew_core::{names, namespaces, wrapper};
use curfew_runtime::api;
use k8s_openapi::api::core::v1::Namespace;
use kube::{Api, ResourceExt, api::ListParams};

use super::Admission;
use crate::{
    placement::{self, Pod, PodName, PodReadError},
    review::{Request, Subresource},
};

/// Why a request is not recorded: the API server will refuse it, or is only asked what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Skipped {
    DryRun,
    Exempt,
    NoPod,
    NoNode,
    NoContainer,
}

/// What is to be recorded of a request.
pub(super) struct Found {
    pub(super) pod: Pod,
    /// Containers, and what is to run in them.
    pub(super) commands: Vec<(Option<String>, Vec<String>)>,
    pub(super) stdin: bool,
    pub(super) tty: bool,
    /// The UID that the Security Profiles Operator has put before the command.
    pub(super) spo_request: Option<String>,
}

/// Why nothing is to be recorded, or cannot be.
pub(super) enum PodLookupError {
    Skipped(Skipped),
    Failed(PodReadError),
}

impl Admission {
    /// Finds the pod and what of it is concerned.
    pub(super) async fn find(&self, request: Request) -> Result<Found, PodLookupError> {
        let skipped = |why| Err(PodLookupError::Skipped(why));
        if request.dry_run {
            return skipped(Skipped::DryRun);
        }
        let Some(name) = PodName::new(&request.namespace, &request.name) else {
            return skipped(Skipped::NoPod);
        };
        if self.is_exempt(&request.namespace).await {
            return skipped(Skipped::Exempt);
        }
        let pod = placement::find(&self.client, name, self.pod_timeout)
            .await
            .map_err(PodLookupError::Failed)?
            .ok_or(PodLookupError::Skipped(Skipped::NoPod))?;
        let (options, argv) = match request.subresource {
            Subresource::Debug { containers } => {
                // They can only be added, never changed. The pod may be on no node yet: the container will
                // run as soon as it is on one.
                let added: Vec<_> = containers
                    .into_iter()
                    .filter(|new| names::is_label(&new.name) && !pod.has_container(&new.name))
                    .collect();
                if added.is_empty() {
                    return skipped(Skipped::NoContainer);
                }
                return Ok(Found {
                    pod,
                    stdin: added.iter().any(|new| new.stdin),
                    tty: added.iter().any(|new| new.tty),
                    commands: added
                        .into_iter()
                        .map(|new| (Some(new.name), new.argv))
                        .collect(),
                    spo_request: None,
                });
            }
            Subresource::Exec(mut options) => {
                let argv = options.command.take().unwrap_or_default();
                (Some(options), argv)
            }
            Subresource::Attach(options) => (Some(options), Vec::new()),
            Subresource::Portforward => (None, Vec::new()),
        };
        if pod.node().is_none() {
            return skipped(Skipped::NoNode);
        }
        let container = match &options {
            Some(options) => match pod.container(options.container.as_deref()) {
                Some(container) => Some(container.to_owned()),
                None => return skipped(Skipped::NoContainer),
            },
            None => None,
        };
        let (spo_request, command) = wrapper::split(&argv);
        Ok(Found {
            pod,
            spo_request: spo_request.map(str::to_owned),
            commands: vec![(container, command.to_vec())],
            stdin: options.as_ref().is_some_and(|options| options.stdin),
            tty: options.is_some_and(|options| options.tty),
        })
    }

    /// Whether this namespace is exempt. An API server usually does not call the webhook for an exempt namespace. It
    /// does if it learns of the label later than this replica, or of its removal earlier. To lose no interaction,
    /// the webhook reads the namespace again if the watch has shown the label.
    async fn is_exempt(&self, namespace: &str) -> bool {
        if namespace == self.namespace || namespace == namespaces::SYSTEM {
            return true;
        }
        if !self.rules.is_exempt(namespace) {
            return false;
        }
        let all: Api<Namespace> = Api::all(self.client.clone());
        // Read by name with the right to list: this replica may get no namespace but its own.
        let this = ListParams::default().fields(&format!("metadata.name={namespace}"));
        match api::within(self.pod_timeout, all.list_metadata(&this)).await {
            Ok(found) => found.iter().any(|found| {
                let label = found.labels().get(namespaces::LABEL);
                label.is_some_and(|value| value == namespaces::EXEMPT)
            }),
            Err(_) => false,
        }
    }
}
