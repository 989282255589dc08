//! What of which pod a request is about, or why it leaves no trace.

use super::Admission;
use crate::{
    placement::{self, Pod},
    review::{Deed, Request},
};

/// Why a request leaves no trace: the API server will refuse it, or is only asked what it would do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Nothing {
    DryRun,
    NoPod,
    NoNode,
    NoContainer,
}

/// What is to be recorded of a request.
pub(super) struct Found {
    pub(super) pod: Pod,
    /// Containers, and what is to run in them.
    pub(super) deeds: Vec<(Option<String>, Vec<String>)>,
    pub(super) stdin: bool,
    pub(super) tty: bool,
}

/// Why nothing is to be recorded, or cannot be.
pub(super) enum Unfound {
    Nothing(Nothing),
    Failure(placement::Failure),
}

impl Admission {
    /// Finds the pod and what of it is concerned.
    pub(super) async fn find(&self, request: Request) -> Result<Found, Unfound> {
        let nothing = |why| Err(Unfound::Nothing(why));
        if request.dry_run {
            return nothing(Nothing::DryRun);
        }
        let (asked, argv, stdin, tty) = match request.deed {
            Deed::Debug { pod, added } => {
                // An update carries the pod as it is, so that it need not be read. It may be on no
                // node yet: the container will run as soon as it is on one.
                let deeds: Vec<_> = added
                    .into_iter()
                    .filter(|added| placement::can_be_container(&added.name))
                    .map(|added| (Some(added.name), added.argv))
                    .collect();
                if deeds.is_empty() {
                    return nothing(Nothing::NoContainer);
                }
                return Ok(Found {
                    pod: *pod,
                    deeds,
                    stdin: false,
                    tty: false,
                });
            }
            Deed::Exec {
                container,
                argv,
                stdin,
                tty,
            } => (Some(container), argv, stdin, tty),
            Deed::Attach {
                container,
                stdin,
                tty,
            } => (Some(container), Vec::new(), stdin, tty),
            Deed::Portforward => (None, Vec::new(), false, false),
        };
        if !placement::can_exist(&request.namespace, &request.name) {
            return nothing(Nothing::NoPod);
        }
        let pod = placement::find(
            &self.client,
            &request.namespace,
            &request.name,
            self.pod_timeout,
        )
        .await
        .map_err(Unfound::Failure)?
        .ok_or(Unfound::Nothing(Nothing::NoPod))?;
        if pod.node().is_none() {
            return nothing(Nothing::NoNode);
        }
        let container = match asked {
            Some(asked) => match pod.container(asked.as_deref()) {
                Some(container) => Some(container.to_owned()),
                None => return nothing(Nothing::NoContainer),
            },
            None => None,
        };
        Ok(Found {
            pod,
            deeds: vec![(container, argv)],
            stdin,
            tty,
        })
    }
}
