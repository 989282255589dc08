//! What the API server posts to the webhook, up to what the webhook makes of it.

use std::{collections::BTreeMap, time::Duration};

use curfew_core::{
    Command, Interaction, Kind, Notice, PodId, RecordedInteraction,
    interaction::MAX_USER,
    masking::masked,
    names, notice,
    policy::{Policies, PolicyDecision, RecordCommand, Subject},
    terms::DefaultTerms,
    wrapper,
};
use curfew_webhook::{
    placement::PodName,
    review::{self, Ephemeral, Request, Subresource, eviction},
};
use jiff::Timestamp;

use crate::same;

/// A body that is posted to the webhook. Whatever is understood of it makes a notice that an agent takes.
pub fn review(body: &[u8]) {
    if let Ok((uid, nonce)) = review::read_probe(body) {
        assert!(!uid.is_empty() && uid.len() <= 63 && nonce.len() <= 80);
    }
    if let Ok(review) = eviction::read(body)
        && let Ok(eviction) = review.request
    {
        assert!(eviction.nodes.iter().all(|node| node.len() <= 253));
        assert!(
            eviction
                .uid
                .is_none_or(|uid| !uid.is_empty() && uid.len() <= 253)
        );
    }
    let review = match review::read(body) {
        Ok(review) => review,
        Err(unreadable) => {
            assert!(unreadable.to_string().len() < 1024, "{unreadable}");
            return;
        }
    };
    assert!(!review.uid.is_empty() && review.uid.len() <= 63);
    match review.request {
        Ok(request) => interaction(&review.uid, &request),
        // Somebody reads that, and it is logged.
        Err(unfit) => assert!(unfit.to_string().len() < 1024, "{unfit}"),
    }
}

fn interaction(uid: &str, request: &Request) {
    // Whatever a name says, no pod is looked for but one of that name.
    if PodName::new(&request.namespace, &request.name).is_some() {
        let path = format!(
            "/api/v1/namespaces/{}/pods/{}",
            request.namespace, request.name
        );
        let parts: Vec<_> = path.split('/').collect();
        assert_eq!(parts.len(), 7, "{path}");
        assert!(
            !path.contains(['?', '#', '%', ' ']) && !parts[1..].contains(&""),
            "{path}"
        );
        assert!(!parts.contains(&"..") && !parts.contains(&"."), "{path}");
    }
    assert!(!request.user.is_empty() && request.user.len() <= MAX_USER);
    match &request.subresource {
        Subresource::Exec(options) => {
            // What an operator puts before the command is not the command.
            let (by, argv) = wrapper::split(options.command.as_deref().unwrap_or_default());
            assert!(by.is_none_or(|by| by.len() == 36));
            let (container, streams) = (options.container.as_deref(), (options.stdin, options.tty));
            recorded(uid, request, Kind::Exec, container, argv, streams);
        }
        Subresource::Attach(options) => {
            let (container, streams) = (options.container.as_deref(), (options.stdin, options.tty));
            recorded(uid, request, Kind::Attach, container, &[], streams);
        }
        Subresource::Portforward => {
            recorded(uid, request, Kind::Portforward, None, &[], (false, false));
        }
        Subresource::Debug { containers } => {
            for Ephemeral {
                name,
                argv,
                stdin,
                tty,
            } in containers.iter().take(8)
            {
                let streams = (*stdin, *tty);
                recorded(
                    uid,
                    request,
                    Kind::Debug,
                    Some(name.as_str()),
                    argv,
                    streams,
                );
            }
        }
    }
}

fn recorded(
    uid: &str,
    request: &Request,
    kind: Kind,
    container: Option<&str>,
    argv: &[String],
    (stdin, tty): (bool, bool),
) {
    // One that no pod can have is admitted without a trace.
    if container.is_some_and(|name| !names::is_label(name)) {
        return;
    }
    let no_labels = BTreeMap::new();
    let subject = Subject {
        namespace: &request.namespace,
        namespace_labels: &no_labels,
        pod_labels: &no_labels,
        priority: 0,
        managed: true,
        of_job: false,
        workload: "Deployment",
        mirror: false,
        user: &request.user,
        groups: &request.groups,
        kind,
        argv,
        stdin,
        tty,
        behaviour: None,
    };
    let defaults = DefaultTerms {
        ttl: Duration::from_secs(600),
        max_extension: Duration::from_secs(3600),
        max_hold: Duration::from_secs(3600),
        enforcement: curfew_core::Enforcement::Enforce,
    };
    let policies = Policies::default();
    let PolicyDecision::Admit(admitted) = policies.decide(&subject, defaults) else {
        panic!("refused without a policy");
    };
    let once: Vec<_> = masked(argv).collect();
    let twice: Vec<_> = masked(&once).collect();
    same!(twice, once);
    for record_command in [
        RecordCommand::Full,
        RecordCommand::Name,
        RecordCommand::None,
    ] {
        let command = record_command.of(argv);
        assert!(command.as_str().len() <= Command::MAX);
        let notice = Notice {
            version: notice::VERSION,
            node: "node-1".to_owned(),
            pod: PodId {
                namespace: "shop".to_owned(),
                name: "cart-1".to_owned(),
                uid: "u-1".to_owned(),
            },
            known: RecordedInteraction {
                interaction: Interaction {
                    time: Timestamp::from_second(1_800_000_000).unwrap_or_default(),
                    kind,
                    user: request.user.clone(),
                    container: container.map(str::to_owned),
                    command,
                    stdin,
                    tty,
                    request: uid.to_owned(),
                },
                terms: admitted.terms,
                policy: None,
                irregular: None,
            },
            sent: None,
        };
        let written = serde_json::to_vec(&notice).unwrap_or_default();
        assert!(written.len() <= notice::MAX_BYTES);
        super::notice(&written);
        let refused = notice.check("node-1");
        assert!(refused.is_ok(), "{refused:?}");
    }
}
