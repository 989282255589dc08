//! How the interaction that is asked about compares with the profile of the pod's workload.

use curfew_core::{
    Kind,
    behaviour::{Assessment, Features, SeenInteraction, Thresholds, assess},
    policy::Spec,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Client, ResourceExt};

use crate::{
    cli::Explain,
    cluster::{connection::User, profile},
};

/// How it compares, or why it cannot be compared.
pub(super) type Behaviour = Result<Assessment, String>;

/// Compares it.
pub(super) async fn compare(
    client: &Client,
    pod: &Pod,
    user: &User,
    args: &Explain,
    now: Timestamp,
) -> Behaviour {
    if args.kind == Kind::Bypass {
        return Err("neither usual nor irregular: nobody knows who is behind a bypass".to_owned());
    }
    let Some(workload) = curfew_crd::workload(&pod.metadata) else {
        return Err("neither usual nor irregular: no controller owns the pod".to_owned());
    };
    let name = workload.object_name();
    let namespace = pod.namespace().unwrap_or_default();
    let found = profile::find(client, &namespace, &name).await;
    let unknown = |why: String| format!("not known: {why}");
    let Some(found) = found.map_err(|error| unknown(format!("{error:#}")))? else {
        return Err(format!(
            "neither usual nor irregular: there is no InteractionProfile {name}"
        ));
    };
    let containers = pod.spec.as_ref().map(|spec| spec.containers.as_slice());
    let container = match containers {
        Some([only]) => Some(only.name.as_str()),
        // Which of several is not asked here.
        _ => None,
    };
    let features = Features::of(&SeenInteraction {
        user: &user.name,
        groups: &user.groups,
        kind: args.kind,
        container,
        argv: &args.command,
        tty: args.tty,
        stdin: args.stdin,
        time: now,
        rate: 1,
    });
    let index = profile::index(&found, now).map_err(|error| unknown(format!("{error:#}")))?;
    Ok(assess(&features, &index, now, &workload.to_string()))
}

/// What is said of it, where this policy says what is enough.
pub(super) fn told(behaviour: &Behaviour, policy: Option<&Spec>) -> String {
    match behaviour {
        Ok(assessment) => {
            let thresholds = policy.map_or_else(Thresholds::default, Spec::thresholds);
            assessment.decide(&thresholds).to_string()
        }
        Err(why) => why.clone(),
    }
}
