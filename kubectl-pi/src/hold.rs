//! `kubectl pi hold` and `kubectl pi release`.

use anyhow::bail;
use curfew_core::{metadata, metadata::MAX_REASON, text};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client};

use crate::{
    access::{self, Verb},
    change,
    cli::{DryRun, Hold, Release, Target},
    connection::Connection,
    detach, output,
    row::annotation,
};

/// Holds the pods. Returns whether that worked for all of them.
pub(crate) async fn hold(target: &Target, args: Hold) -> anyhow::Result<bool> {
    let reason = args.reason.trim();
    check_reason(reason)?;
    let connection = Connection::open(target).await?;
    let (client, namespace) = (&connection.client, &connection.namespace);
    let pods: Api<Pod> = Api::namespaced(client.clone(), namespace);
    let (found, mut complete) = change::named(&pods, &args.pods).await?;
    if found.is_empty() {
        return Ok(complete);
    }
    let user = access::check(&connection, Verb::Hold).await?;
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
    let namespace = pod.namespace.as_deref().unwrap_or_default();
    let how = args.dry_run.how;
    let mut let_go = Vec::new();
    let plan = async |pod: &ObjectMeta| {
        change::check(pod)?;
        let mut change = change::wish(
            (metadata::HOLD, Some(reason.to_owned())),
            (metadata::HOLD_REQUESTER, Some(user.to_owned())),
        );
        if args.detach {
            let claims = detach::claims(client, namespace, pod).await?;
            let labels = pod.labels.clone().unwrap_or_default();
            change.labels = detach::renamed(&labels, &claims)?;
            let_go = claims.into_iter().map(|claim| claim.of).collect();
        }
        Ok(change)
    };
    let held = change::apply(pods, pod, how, plan).await?;
    output::print(&format!("pod/{name} held{}\n", how.remark()))?;
    if args.detach {
        let from = match let_go.is_empty() {
            true => "nothing: neither an owner nor a Service selects it".to_owned(),
            false => let_go.join(", "),
        };
        output::print(&format!(
            "pod/{name} detached from {from}{}\n",
            how.remark()
        ))?;
        if let Some(remark) = detach::remark(pod) {
            output::note(&remark);
        }
    }
    match how {
        DryRun::None => Ok(change::tell_answer(pods, &held).await),
        _ => Ok(true),
    }
}

/// Releases the pods. Returns whether that worked for all of them.
pub(crate) async fn release(target: &Target, args: Release) -> anyhow::Result<bool> {
    let connection = Connection::open(target).await?;
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let (mut found, mut complete) = change::named(&pods, &args.pods).await?;
    found.retain(|pod| {
        let held = annotation(pod, metadata::HOLD).is_some();
        if !held {
            let name = pod.name.as_deref().unwrap_or_default();
            output::note(&format!("pod/{name} is not held"));
        }
        held
    });
    if found.is_empty() {
        return Ok(complete);
    }
    // To take a hold back is a change of it.
    access::check(&connection, Verb::Hold).await?;
    let how = args.dry_run.how;
    for pod in found {
        let name = pod.name.as_deref().unwrap_or_default();
        let plan = async |pod: &ObjectMeta| {
            change::check(pod)?;
            Ok(change::wish(
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

fn check_reason(reason: &str) -> anyhow::Result<()> {
    match reason.len() {
        0 => bail!("--reason: is empty; say why the pod is kept"),
        _ if text::is_blank(reason) => {
            bail!("--reason: has nothing that can be seen; say why the pod is kept")
        }
        _ if reason.contains(text::is_command) => bail!(
            "--reason: has a control character or one that turns the direction of the text; leave it out"
        ),
        length if length > MAX_REASON => {
            bail!("--reason: has {length} bytes, and {MAX_REASON} are the most that is kept")
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_something_and_is_kept_whole() {
        for reason in [
            "",
            "\u{202e}",
            "\u{200b} \u{2060}",
            "a\u{202e}b",
            "red \u{1b}[31m",
            "two\nlines",
        ] {
            assert!(check_reason(reason).is_err(), "{reason:?}");
        }
        assert!(check_reason(&"x".repeat(MAX_REASON)).is_ok());
        let error = check_reason(&"ü".repeat(MAX_REASON)).unwrap_err();
        assert!(error.to_string().contains("512 bytes"), "{error}");
    }
}
