//! `kubectl pi evict`.

use anyhow::bail;
use curfew_core::metadata;
use futures::{StreamExt, stream};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client};

use crate::{
    cli::{DryRun, Evict, Target},
    cluster::{
        access::{self, Right},
        connection::Connection,
        detach::{controller, is_detached},
        find,
    },
    output,
    print::row,
    verbs::change::{self, Change},
};

/// Orders to evict the pods now. Returns whether that worked for all of them.
pub(crate) async fn run(target: &Target, args: Evict) -> anyhow::Result<bool> {
    let reason = args.reason.trim();
    change::check_reason(reason, "why the pod is evicted")?;
    let connection = Connection::open(target)?;
    let (client, namespace) = (&connection.client, &connection.namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let (found, mut complete) = change::meant_to_change(&pods, namespace, &args.which).await?;
    if found.is_empty() {
        return Ok(complete);
    }
    let user = access::check(&connection, Right::Evict).await?;
    let mut ordered = Vec::new();
    for pod in found {
        match order(client, &pods, &pod, &args, reason, &user).await {
            Ok(pod) => ordered.push(pod),
            Err(error) => {
                output::error(&error);
                complete = false;
            }
        }
    }
    if args.dry_run.how == DryRun::None {
        let told = stream::iter(&ordered).map(|pod| change::tell_eviction(&pods, pod));
        told.buffered(find::AT_ONCE).collect::<()>().await;
    }
    Ok(complete)
}

async fn order(
    client: &Client,
    pods: &Api<Pod>,
    pod: &ObjectMeta,
    args: &Evict,
    reason: &str,
    user: &str,
) -> anyhow::Result<ObjectMeta> {
    let name = pod.name.as_deref().unwrap_or_default();
    let how = args.dry_run.how;
    let mut let_go = Vec::new();
    let mut already = None;
    let plan = async |pod: &ObjectMeta| {
        check(pod, args.force)?;
        already = ordered_already(pod);
        let mut wanted = match already {
            Some(_) => Change::default(),
            None => change::with_overrides(
                (metadata::EVICT_NOW, Some(reason.to_owned())),
                (metadata::EVICT_NOW_REQUESTER, Some(user.to_owned())),
            ),
        };
        if args.detach {
            let_go = change::detach(&mut wanted, client, pod).await?;
        }
        Ok(wanted)
    };
    let changed = change::apply(pods, pod, how, plan).await?;
    match already {
        // An order stays as it is, and that is what was asked for.
        Some(fact) => output::note(&fact),
        None => output::print(&format!("pod/{name} eviction ordered{}\n", how.remark()))?,
    }
    if args.detach {
        change::tell_detached(pod, &let_go, how)?;
    }
    Ok(changed)
}

/// Checks that the pod can be evicted. One that was detached before has a replacement.
fn check(pod: &ObjectMeta, force: bool) -> anyhow::Result<()> {
    change::check_stays(pod)?;
    let name = pod.name.as_deref().unwrap_or_default();
    if controller(pod).is_none() && !is_detached(pod) && !force {
        bail!(
            "pod/{name} has no controller, so nothing would replace it; use --force to evict it all the same"
        );
    }
    Ok(())
}

/// Who ordered the eviction before, and why.
fn ordered_already(pod: &ObjectMeta) -> Option<String> {
    let order = row::evict_now(pod)?;
    let name = pod.name.as_deref().unwrap_or_default();
    Some(format!(
        "the eviction of pod/{name} is already ordered by {}, with the reason: {}",
        order.requester, order.reason
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::row::tests::pod;
    use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;

    #[test]
    fn what_nothing_would_replace_is_evicted_only_by_force() {
        let mut web = pod("web-1", &[]);
        let error = check(&web, false).unwrap_err().to_string();
        assert!(error.contains("--force"), "{error}");
        assert!(check(&web, true).is_ok());
        web.labels = Some([("app-detached".to_owned(), "web".to_owned())].into());
        assert!(check(&web, false).is_ok());
        web.labels = None;
        web.owner_references = Some(vec![OwnerReference {
            controller: Some(true),
            ..OwnerReference::default()
        }]);
        assert!(check(&web, false).is_ok());
    }

    #[test]
    fn an_order_that_stands_is_told() {
        let marks = [
            (metadata::EVICT_NOW, "misused"),
            (metadata::EVICT_NOW_REQUESTER, "ann"),
        ];
        assert_eq!(
            ordered_already(&pod("web-1", &marks)).as_deref(),
            Some("the eviction of pod/web-1 is already ordered by ann, with the reason: misused")
        );
        assert_eq!(ordered_already(&pod("web-1", &[])), None);
    }
}
