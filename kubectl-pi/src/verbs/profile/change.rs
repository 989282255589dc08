//! What people change in profiles.

use anyhow::bail;
use curfew_core::behaviour::{Criterion, MAX_ALLOWED, adopted};
use curfew_crd::InteractionProfile;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions},
};
use serde_json::json;

use crate::{
    cli::{
        DryRun, Target,
        profile::{Adopt, Reset},
    },
    cluster::{connection::Connection, profile},
    output,
    verbs::confirm,
};

/// Allows what was learned.
pub(super) async fn adopt(target: &Target, args: &Adopt) -> anyhow::Result<bool> {
    let Connection { client, namespace } = Connection::open(target)?;
    let name = profile::object_name(&args.which.profile);
    let found = profile::get(&client, &namespace, &name).await?;
    let allowed = with_learned(&found, args)?;
    let new = allowed.len() - found.spec.0.allowed.len();
    let how = args.dry_run.how;
    if new > 0 && how != DryRun::Client {
        let profiles: Api<InteractionProfile> = Api::namespaced(client, &namespace);
        let params = PatchParams {
            dry_run: how == DryRun::Server,
            ..PatchParams::default()
        };
        // With the version that was read: what others allowed meanwhile is not lost.
        let patch = json!({
            "metadata": {"resourceVersion": found.resource_version()},
            "spec": {"allowed": &allowed},
        });
        profiles.patch(&name, &params, &Patch::Merge(patch)).await?;
    }
    let mut text = format!("profile/{name}: {new} criteria allowed{}\n", how.remark());
    for criterion in &allowed[allowed.len() - new..] {
        text += &format!("  {}\n", output::visible(&criterion.to_string()));
    }
    output::print(&text)?;
    Ok(true)
}

/// What is allowed, and what was learned besides.
fn with_learned(profile: &InteractionProfile, args: &Adopt) -> anyhow::Result<Vec<Criterion>> {
    let status = profile.status.clone().unwrap_or_default();
    let wanted = status.learned.iter().filter(|learned| {
        learned.sighting.actors.count() >= usize::from(args.by_at_least)
            && learned.sighting.samples >= args.seen_at_least
    });
    let mut spec = profile.spec.0.clone();
    for criterion in adopted(wanted) {
        if !spec.allowed.contains(&criterion) {
            spec.allowed.push(criterion);
        }
    }
    if let Err(invalid) = spec.check() {
        bail!(
            "not all of that can be allowed at once: {invalid} (there is room for {MAX_ALLOWED} criteria); \
             --by-at-least and --seen-at-least choose what matters"
        );
    }
    Ok(spec.allowed)
}

/// Forgets what was learned.
pub(super) async fn reset(target: &Target, args: &Reset) -> anyhow::Result<bool> {
    let Connection { client, namespace } = Connection::open(target)?;
    let name = profile::object_name(&args.which.profile);
    let found = profile::get(&client, &namespace, &name).await?;
    let samples = found.status.as_ref().map_or(0, |status| status.samples);
    if !args.yes {
        confirm::forget(&format!(
            "{name} was learned from {samples} interactions, and all of that is forgotten"
        ))?;
    }
    // Only the webhook may write a status. A new object has none.
    let profiles: Api<InteractionProfile> = Api::namespaced(client, &namespace);
    let this = Preconditions {
        uid: found.uid(),
        resource_version: None,
    };
    profiles
        .delete(&name, &DeleteParams::default().preconditions(this))
        .await?;
    profiles
        .create(&PostParams::default(), &anew(&found))
        .await?;
    output::print(&format!("profile/{name} reset\n"))?;
    Ok(true)
}

/// The profile without what was learned.
fn anew(found: &InteractionProfile) -> InteractionProfile {
    InteractionProfile {
        metadata: ObjectMeta {
            name: found.metadata.name.clone(),
            namespace: found.metadata.namespace.clone(),
            labels: found.metadata.labels.clone(),
            annotations: found.metadata.annotations.clone(),
            ..ObjectMeta::default()
        },
        spec: found.spec.clone(),
        status: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::DryRunArg;

    fn profile(programs: usize) -> InteractionProfile {
        let now = "2026-03-01T12:00:00Z";
        let learned = |criterion: serde_json::Value, actors: &str| json!({"criterion": criterion, "firstSeen": now, "lastSeen": now, "samples": 2, "actors": actors});
        let mut all = vec![learned(json!({"users": ["alice"]}), "2:000001000002")];
        all.extend((0..programs).map(|at| {
            learned(
                json!({"programs": [format!("p{at:03}")], "actors": ["User"]}),
                "1:000001",
            )
        }));
        serde_json::from_value(json!({
            "apiVersion": "curfew.dev/v1alpha1", "kind": "InteractionProfile",
            "metadata": {"name": "deployment.web", "namespace": "shop", "uid": "u", "resourceVersion": "7"},
            "spec": {"allowed": [{"users": ["carol"]}]},
            "status": {"learned": all},
        }))
        .unwrap()
    }

    fn args(by_at_least: u8) -> Adopt {
        Adopt {
            which: crate::cli::profile::OneProfile {
                profile: "deployment.web".to_owned(),
            },
            by_at_least,
            seen_at_least: 1,
            dry_run: DryRunArg { how: DryRun::None },
        }
    }

    #[test]
    fn what_was_learned_is_added_to_what_is_allowed() {
        let told = |by| -> Vec<_> {
            let allowed = with_learned(&profile(2), &args(by)).unwrap();
            allowed.iter().map(ToString::to_string).collect()
        };
        assert_eq!(told(2), ["users carol", "users alice"]);
        assert_eq!(
            told(1),
            [
                "users carol",
                "users alice",
                "arguments flag; programs p000, p001; users alice"
            ]
        );
    }

    #[test]
    fn what_has_no_room_is_said() {
        let error = with_learned(&profile(300), &args(1))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("at most 256") && error.contains("--by-at-least"),
            "{error}"
        );
    }

    #[test]
    fn a_profile_begins_anew_with_what_people_allowed() {
        let anew = anew(&profile(2));
        assert_eq!(anew.spec.0.allowed.len(), 1);
        assert_eq!((anew.status, anew.metadata.uid), (None, None));
    }
}
