//! Pods whose annotations have no room for all that Curfew writes. The agent of their node has all of it, and
//! tells those who may look into it.

use std::collections::BTreeMap;

use anyhow::anyhow;
use curfew_core::{Record, metadata};
use futures::{StreamExt, stream};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Client;

use super::{
    agent,
    find::{self, AT_ONCE},
};

/// Whether the pod does not tell all.
pub(crate) fn is_shortened(pod: &ObjectMeta) -> bool {
    find::is_marked(pod) && pod.annotations.as_ref().is_none_or(metadata::is_short)
}

/// Gives the pods of these nodes the annotations that they have no room for, with one request to each agent.
/// Returns why some have none.
pub(crate) async fn complete(
    client: &Client,
    pods: impl IntoIterator<Item = (&mut ObjectMeta, String)>,
) -> Vec<anyhow::Error> {
    let mut by_node = BTreeMap::<_, Vec<_>>::new();
    for (pod, node) in pods {
        by_node.entry(node).or_default().push(pod);
    }
    let asked = stream::iter(by_node).map(|(node, pods)| async move {
        let records = agent::records(client, &node).await?;
        let mut missing = 0;
        for pod in pods {
            let own = records
                .iter()
                .find(|record| Some(record.pod.uid.as_str()) == pod.uid.as_deref());
            match own {
                Some(record) => fill_in(pod, record),
                None => missing += 1,
            }
        }
        match missing {
            0 => Ok(()),
            _ => Err(anyhow!(
                "the agent of {node} has no record of {missing} of them"
            )),
        }
    });
    let asked = asked.buffer_unordered(AT_ONCE).collect::<Vec<_>>().await;
    asked.into_iter().filter_map(Result::err).collect()
}

/// What the pod would tell if there were room for it.
fn fill_in(pod: &mut ObjectMeta, record: &Record) {
    let told = metadata::annotations(record, &[]);
    let told = told.into_iter().map(|(key, value)| (key.to_owned(), value));
    pod.annotations.get_or_insert_default().extend(told);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::row::{self, tests::marked};
    use curfew_core::{
        Kind,
        metadata::{INTERACTED, LABEL},
    };

    #[test]
    fn a_shortened_pod_tells_what_its_agent_knows() {
        let mut full = marked("web-1", Kind::Exec, None);
        assert!(!is_shortened(&full), "nobody interacted with it");
        full.labels = Some([(LABEL.to_owned(), INTERACTED.to_owned())].into());
        assert!(!is_shortened(&full));
        let record = row::record(&full).unwrap();
        for room in [0, 100, 300] {
            let mut short = full.clone();
            let fitting = metadata::fitting(&record, &[], room);
            short.annotations = Some(
                fitting
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
            );
            assert!(is_shortened(&short), "{room}");
            fill_in(&mut short, &record);
            assert_eq!(short, full, "{room}");
        }
        full.annotations = None;
        assert!(is_shortened(&full));
    }
}
