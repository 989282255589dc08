//! `kubectl pi hold` and `kubectl pi release`.

use curfew_core::metadata;
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client};

use crate::{
    cli::{DryRun, Hold, Release, Target},
    cluster::{
        access::{self, Right},
        connection::Connection,
    },
    output,
    print::row::annotation,
    verbs::{change, confirm},
};

/// Holds the pods. Returns whether that worked for all of them.
pub(crate) async fn hold(target: &Target, args: Hold) -> anyhow::Result<bool> {
    let reason = args.reason.trim();
    change::check_reason(reason, "why the pod is kept")?;
    let connection = Connection::open(target)?;
    let (client, namespace) = (&connection.client, &connection.namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let (found, mut complete) = change::meant_to_change(&pods, namespace, &args.which).await?;
    if found.is_empty() {
        return Ok(complete);
    }
    let user = access::check(&connection, Right::Hold).await?;
    for pod in found {
        let held = hold_one(client, &pods, &pod, &args, reason, &user).await;
        complete &= held.unwrap_or_else(|error| {
            output::error(&error);
            false
        });
    }
    Ok(complete)
}

async fn hold_one(
    client: &Client,
    pods: &Api<Pod>,
    pod: &ObjectMeta,
    args: &Hold,
    reason: &str,
    user: &str,
) -> anyhow::Result<bool> {
    let name = pod.name.as_deref().unwrap_or_default();
    let how = args.dry_run.how;
    let mut let_go = Vec::new();
    // Nobody is asked twice about the same.
    let mut agreed = None;
    let plan = async |pod: &ObjectMeta| {
        change::check(pod)?;
        if let Some(fact) = held_already(pod, reason, user)
            && agreed.as_ref() != Some(&fact)
        {
            if !args.yes && how == DryRun::None {
                confirm::replace(name, &fact)?;
            }
            agreed = Some(fact);
        }
        let mut wanted = change::with_overrides(
            (metadata::HOLD, Some(reason.to_owned())),
            (metadata::HOLD_REQUESTER, Some(user.to_owned())),
        );
        if args.detach {
            let_go = change::detach(&mut wanted, client, pod).await?;
        }
        Ok(wanted)
    };
    let held = change::apply(pods, pod, how, plan).await?;
    output::print(&format!("pod/{name} held{}\n", how.remark()))?;
    if args.detach {
        change::tell_detached(pod, &let_go, how)?;
    }
    match how {
        DryRun::None => Ok(change::tell_answer(pods, &held).await),
        _ => Ok(true),
    }
}

/// What a hold would replace: one for another reason, or somebody else's.
fn held_already(pod: &ObjectMeta, reason: &str, user: &str) -> Option<String> {
    let present = annotation(pod, metadata::HOLD)?;
    let requester = annotation(pod, metadata::HOLD_REQUESTER).unwrap_or("somebody");
    let name = pod.name.as_deref().unwrap_or_default();
    ((present, requester) != (reason, user))
        .then(|| format!("pod/{name} is already held by {requester}, with the reason: {present}"))
}

/// Releases the pods. Returns whether that worked for all of them.
pub(crate) async fn release(target: &Target, args: Release) -> anyhow::Result<bool> {
    let connection = Connection::open(target)?;
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let (mut found, mut complete) = change::meant(&pods, &args.which).await?;
    let named = !args.which.pods.is_empty();
    found.retain(|pod| {
        let held = annotation(pod, metadata::HOLD).is_some();
        if !named && pod.deletion_timestamp.is_some() {
            return false;
        }
        if !held && named {
            let name = pod.name.as_deref().unwrap_or_default();
            output::note(&format!("pod/{name} is not held"));
        }
        held
    });
    if found.is_empty() {
        if !named {
            let namespace = &connection.namespace;
            output::note(&format!("No held pods found in {namespace} namespace."));
        }
        return Ok(complete);
    }
    // To take a hold back is a change of it.
    access::check(&connection, Right::Hold).await?;
    let how = args.dry_run.how;
    for pod in found {
        let name = pod.name.as_deref().unwrap_or_default();
        let plan = async |pod: &ObjectMeta| {
            change::check(pod)?;
            Ok(change::with_overrides(
                (metadata::HOLD, None),
                (metadata::HOLD_REQUESTER, None),
            ))
        };
        match change::apply(&pods, &pod, how, plan).await {
            Ok(released) => {
                output::print(&format!("pod/{name} released{}\n", how.remark()))?;
                if how == DryRun::None {
                    // That it goes at once is what was asked for.
                    change::tell_answer(&pods, &released).await;
                }
            }
            Err(error) => {
                output::error(&error);
                complete = false;
            }
        }
    }
    Ok(complete)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_hold_is_replaced_without_a_question() {
        let mut pod = crate::print::row::tests::pod("web-1", &[]);
        assert_eq!(held_already(&pod, "why", "bob"), None);
        let annotations = pod.annotations.get_or_insert_default();
        annotations.insert(metadata::HOLD.into(), "evidence".into());
        annotations.insert(metadata::HOLD_REQUESTER.into(), "ann".into());
        assert_eq!(held_already(&pod, "evidence", "ann"), None);
        for (reason, user) in [("why", "ann"), ("evidence", "bob"), ("why", "bob")] {
            assert_eq!(
                held_already(&pod, reason, user).as_deref(),
                Some("pod/web-1 is already held by ann, with the reason: evidence")
            );
        }
    }
}
