//! `kubectl pi extend`.

use std::time::Duration;

use anyhow::{anyhow, bail};
use curfew_core::{duration, metadata};
use futures::{StreamExt, stream};
use k8s_openapi::{api::core::v1::Pod, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::Api;

use crate::{
    cli::{DryRun, Extend, Target},
    cluster::{
        access::{self, Right},
        connection::Connection,
        find,
    },
    output,
    print::row::{self, annotation},
    verbs::{change, confirm},
};

/// Extends the pods. Returns whether that worked for all of them.
pub(crate) async fn run(target: &Target, args: Extend) -> anyhow::Result<bool> {
    let by = length(&args.duration)?;
    let connection = Connection::open(target)?;
    let pods: Api<Pod> = Api::namespaced(connection.client.clone(), &connection.namespace);
    let (found, mut complete) = targets(&pods, &connection.namespace, &args).await?;
    if found.is_empty() {
        return Ok(complete);
    }
    let user = access::check(&connection, Right::Extend).await?;
    let how = args.dry_run.how;
    let mut changed = Vec::new();
    for pod in found {
        let name = pod.name.as_deref().unwrap_or_default();
        // Nobody is asked twice about the same.
        let mut agreed = None;
        let plan = async |pod: &ObjectMeta| {
            check(pod, by, &args.duration)?;
            if let Some((present, fact)) = extended_already(pod, &args.duration, &user)
                && agreed.as_deref() != Some(present)
            {
                if !args.yes && how == DryRun::None {
                    confirm::replace(name, &fact)?;
                }
                agreed = Some(present.to_owned());
            }
            Ok(change::with_overrides(
                (metadata::EXTENSION, Some(args.duration.clone())),
                (metadata::EXTENSION_REQUESTER, Some(user.clone())),
            ))
        };
        match change::apply(&pods, &pod, how, plan).await {
            Ok(pod) => {
                output::print(&format!(
                    "Successfully extended the termination time of pod/{name} with a duration={}{}\n",
                    args.duration,
                    how.remark()
                ))?;
                changed.push(pod);
            }
            Err(error) => {
                output::error(&error);
                complete = false;
            }
        }
    }
    if how == DryRun::None {
        let stay: Vec<_> = stream::iter(&changed)
            .map(|pod| change::tell_answer(&pods, pod))
            .buffered(find::AT_ONCE)
            .collect()
            .await;
        complete &= stay.into_iter().all(|stays| stays);
    }
    Ok(complete)
}

/// Which pods are meant: those named, those that match, or, where nothing is said, the only one.
async fn targets(
    pods: &Api<Pod>,
    namespace: &str,
    args: &Extend,
) -> anyhow::Result<(Vec<ObjectMeta>, bool)> {
    if !args.pods.is_empty() {
        return change::named(pods, &args.pods).await;
    }
    let list = async |params| pods.list_metadata(&params).await;
    let marked = find::marked(args.selector.as_deref(), list).await?;
    let mut found: Vec<_> = marked.into_iter().map(|pod| pod.metadata).collect();
    // Of many those are meant that can be extended.
    found.retain(|pod| change::has_timer(pod) && pod.deletion_timestamp.is_none());
    found.sort_by_cached_key(crate::print::row::order);
    if found.is_empty() {
        output::note(&find::none_in(Some(namespace)));
    }
    if found.len() > 1 && !args.all && args.selector.is_none() {
        bail!(
            "{} pods in {namespace} namespace have a timer: name the pods, or use --all",
            found.len()
        );
    }
    Ok((found, true))
}

/// The length of an extension as it was typed.
///
/// # Errors
/// Says what would be right.
fn length(text: &str) -> anyhow::Result<Duration> {
    if text.starts_with('-') {
        bail!("--duration={text}: the time to live can only be extended; write 90s, 30m or 1h30m");
    }
    let by = duration::parse(text).map_err(|error| anyhow!("--duration={error}"))?;
    if by.as_secs() == 0 {
        bail!("--duration={text}: an extension must be at least one second");
    }
    if by.subsec_nanos() != 0 {
        bail!("--duration={text}: an extension must be a number of whole seconds");
    }
    if !is_settable(text) {
        bail!(
            "--duration={text}: write hours, minutes and seconds in this order and each only once, such as \
             90s, 30m or 1h30m; {} is the same",
            duration::format(by)
        );
    }
    Ok(by)
}

/// Whether the admission policy takes the text, which is narrower than what durations may look like.
fn is_settable(text: &str) -> bool {
    // Of each unit, how many digits there may be before the point.
    let mut units = [('h', 5), ('m', 7), ('s', 9)].into_iter();
    let mut rest = text;
    while !rest.is_empty() {
        let Some(end) = rest.find(|c: char| !c.is_ascii_digit() && c != '.') else {
            return false;
        };
        let (number, after) = rest.split_at(end);
        let mut after = after.chars();
        let unit = after.next();
        rest = after.as_str();
        let Some((_, most)) = units.find(|(name, _)| Some(*name) == unit) else {
            return false;
        };
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (number, None),
        };
        let fits = (1..=most).contains(&whole.len())
            && fraction.is_none_or(|digits| (1..=4).contains(&digits.len()));
        if !fits {
            return false;
        }
    }
    !text.is_empty()
}

/// Whether this pod can be extended by so much.
fn check(pod: &ObjectMeta, by: Duration, text: &str) -> anyhow::Result<()> {
    change::check(pod)?;
    let name = pod.name.as_deref().unwrap_or_default();
    if !change::has_timer(pod) {
        let why = match row::record(pod).is_some_and(|record| record.is_released()) {
            true => "it was released, because nothing in it had changed",
            false => "its interactions are only recorded",
        };
        bail!("no timer runs for pod/{name}: {why}");
    }
    // Where the pod does not say, the API server and the agent do.
    let most = annotation(pod, metadata::MAX_EXTENSION).and_then(|most| duration::parse(most).ok());
    match most {
        Some(Duration::ZERO) => bail!("pod/{name} cannot be extended"),
        Some(most) if by > most => bail!(
            "pod/{name} can be extended by at most {}, and {text} is more",
            duration::format(most)
        ),
        _ => Ok(()),
    }
}

/// The extension that a pod has already, if it is another one, and what is said of it.
fn extended_already<'a>(pod: &'a ObjectMeta, text: &str, user: &str) -> Option<(&'a str, String)> {
    let present = annotation(pod, metadata::EXTENSION)?;
    let requester = annotation(pod, metadata::EXTENSION_REQUESTER).unwrap_or("somebody");
    let name = pod.name.as_deref().unwrap_or_default();
    let fact = format!("pod/{name} is already extended by {present}, by {requester}");
    ((present, requester) != (text, user)).then_some((present, fact))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::row::tests::marked;
    use curfew_core::Kind;
    use std::collections::BTreeMap;

    #[test]
    fn durations_are_checked_before_anything_is_asked_for() {
        for (text, complaint) in [
            ("-1h", "can only be extended"),
            ("+1h", "has a sign"),
            ("0", "at least one second"),
            ("0s", "at least one second"),
            ("500ms", "at least one second"),
            ("1d", "none of h, m, s"),
            ("30", "a unit is missing"),
            ("abc", "a number is missing"),
            ("", "it is empty"),
            ("1.5s", "whole seconds"),
            ("1h500ms", "whole seconds"),
            ("5000ms", "5s is the same"),
            ("30m1h", "1h30m0s is the same"),
            ("1h1h", "2h0m0s is the same"),
            (".5h", "30m0s is the same"),
            ("1.00000h", "1h0m0s is the same"),
            ("100000h", "in this order"),
        ] {
            let error = length(text).unwrap_err().to_string();
            assert!(error.contains(complaint), "{text}: {error}");
            assert!(error.starts_with("--duration="), "{text}: {error}");
        }
        for (text, seconds) in [("1h30m", 5400), ("1.5h", 5400), ("0.5m5s", 35), ("90s", 90)] {
            assert_eq!(
                length(text).unwrap(),
                Duration::from_secs(seconds),
                "{text}"
            );
        }
    }

    fn touched(kind: Kind) -> ObjectMeta {
        let mut pod = marked("web-1", kind, None);
        pod.labels = Some(BTreeMap::from([(
            metadata::LABEL.to_owned(),
            metadata::INTERACTED.to_owned(),
        )]));
        pod
    }

    #[test]
    fn no_more_than_the_pod_says() {
        let check = |pod: &ObjectMeta, text| check(pod, length(text).unwrap(), text);
        let mut pod = touched(Kind::Exec);
        assert!(check(&pod, "1h").is_ok());
        let error = check(&pod, "1h1s").unwrap_err().to_string();
        assert_eq!(
            error,
            "pod/web-1 can be extended by at most 1h0m0s, and 1h1s is more"
        );
        let annotations = pod.annotations.get_or_insert_default();
        annotations.insert(metadata::MAX_EXTENSION.into(), "0s".into());
        let error = check(&pod, "1s").unwrap_err().to_string();
        assert_eq!(error, "pod/web-1 cannot be extended");
        let error = check(&touched(Kind::Portforward), "1s").unwrap_err();
        assert!(error.to_string().contains("only recorded"), "{error}");
    }
}
