//! InteractionProfiles: how they are named on the command line, and what they say of an interaction.

use std::hash::RandomState;

use anyhow::{Context, bail};
use curfew_core::behaviour::{ProfileIndex, Retention};
use curfew_crd::InteractionProfile;
use jiff::Timestamp;
use kube::{Api, Client};

const FORBIDDEN: u16 = 403;
const NOT_FOUND: u16 = 404;

/// The short names of kinds, as kubectl has them.
const SHORT: [(&str, &str); 4] = [
    ("deploy", "deployment"),
    ("sts", "statefulset"),
    ("ds", "daemonset"),
    ("rs", "replicaset"),
];

/// The name of the profile of a workload: `deployment/web` and `deploy/web` stand for `deployment.web`.
pub(crate) fn object_name(word: &str) -> String {
    let Some((kind, name)) = word.split_once('/') else {
        return word.to_owned();
    };
    let kind = kind.to_ascii_lowercase();
    let plural = kind.strip_suffix('s').unwrap_or(&kind);
    let short = SHORT.iter().find(|(short, _)| *short == kind);
    let kind = short.map_or(plural, |(_, long)| long);
    format!("{kind}.{name}")
}

/// The workload of a profile, as people call it.
pub(crate) fn workload(object_name: &str) -> String {
    object_name.replacen('.', " ", 1)
}

/// The profile of that name.
///
/// # Errors
/// If it cannot be read, with the reason.
pub(crate) async fn get(
    client: &Client,
    namespace: &str,
    name: &str,
) -> anyhow::Result<InteractionProfile> {
    match find(client, namespace, name).await? {
        Some(profile) => Ok(profile),
        None => bail!(
            "there is no InteractionProfile {name} in namespace {namespace}: `kubectl pi profile list` shows those \
             that there are"
        ),
    }
}

/// The same, or none if there is none.
pub(crate) async fn find(
    client: &Client,
    namespace: &str,
    name: &str,
) -> anyhow::Result<Option<InteractionProfile>> {
    let profiles: Api<InteractionProfile> = Api::namespaced(client.clone(), namespace);
    match profiles.get(name).await {
        Ok(profile) => Ok(Some(profile)),
        Err(kube::Error::Api(status)) if status.code == NOT_FOUND => Ok(None),
        Err(kube::Error::Api(status)) if status.code == FORBIDDEN => bail!(
            "you may not get interactionprofiles.curfew.dev in namespace {namespace}: the ClusterRole \
             curfew-profiles-view, or view, which contains it, allows it"
        ),
        Err(error) => Err(error).context("the profile cannot be read"),
    }
}

/// What decides by the profile, as the webhook would.
///
/// # Errors
/// If the webhook would not use the profile.
pub(crate) fn index(
    profile: &InteractionProfile,
    now: Timestamp,
) -> anyhow::Result<ProfileIndex<RandomState>> {
    profile.spec.0.check().context("the profile is not used")?;
    let status = profile.status.clone().unwrap_or_default();
    let begin = Retention::default().begin(now);
    Ok(ProfileIndex::new(
        &profile.spec.0,
        &status,
        begin,
        RandomState::new(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_named_as_kubectl_names_it() {
        for (word, expected) in [
            ("deployment.web", "deployment.web"),
            ("deployment/web", "deployment.web"),
            ("Deployments/web", "deployment.web"),
            ("deploy/web.v1", "deployment.web.v1"),
            ("sts/db", "statefulset.db"),
        ] {
            assert_eq!(object_name(word), expected);
        }
        assert_eq!(workload("deployment.web.v1"), "deployment web.v1");
    }
}
