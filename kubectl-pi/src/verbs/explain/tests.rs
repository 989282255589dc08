use super::{rights::FORBIDDEN, *};
use crate::print::row::tests::at;
use serde_json::{Value, json};

fn stored(name: &str, spec: Value) -> Stored {
    with_status(name, spec, Value::Null)
}

fn with_status(name: &str, spec: Value, status: Value) -> Stored {
    serde_json::from_value(json!({
        "metadata": {"name": name, "generation": 3}, "spec": spec, "status": status,
    }))
    .unwrap()
}

fn pod() -> Value {
    json!({
        "metadata": {
            "name": "web-1",
            "namespace": "shop",
            "labels": {"app": "web"},
            "ownerReferences": [{
                "apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u", "controller": true,
            }],
        },
        "spec": {"containers": [], "nodeName": "node-1"},
    })
}

fn asked(words: &[&str]) -> Explain {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Explain,
    }
    let words = [&["explain", "web-1"], words].concat();
    <Line as clap::Parser>::parse_from(words).args
}

fn answer_about(pod: Value, policies: Vec<Stored>, words: &[&str]) -> String {
    let pod = serde_json::from_value(pod).unwrap();
    let user = User {
        name: "alice".to_owned(),
        groups: vec!["dev".to_owned()],
    };
    let question = Question {
        behaviour: &Err("not known: nobody asked".to_owned()),
        pod: &pod,
        namespace_labels: &BTreeMap::from([("environment".to_owned(), "staging".to_owned())]),
        user: &user,
        args: &asked(words),
    };
    let now = at("2026-03-01T12:00:00Z");
    question.answer(&Book::read(policies), Some(true), now)
}

fn answer(policies: Vec<Stored>, words: &[&str]) -> String {
    answer_about(pod(), policies, words)
}

#[test]
fn a_policy_that_applies_by_labels_says_who_chooses_them() {
    let by_label = json!({"podSelector": {"matchLabels": {}}, "ttl": "8h"});
    for (spec, expected) in [(by_label, true), (json!({"ttl": "8h"}), false)] {
        let page = answer(vec![stored("lax", spec)], &["--", "sh"]);
        assert_eq!(
            page.contains("which everyone who may edit pods can change"),
            expected,
            "{page}"
        );
    }
}

#[test]
fn a_less_strict_policy_that_other_labels_would_choose_is_named() {
    let lax = |app: &str| json!({"priority": 9, "podSelector": {"matchLabels": {"app": app}}, "action": "Record"});
    let jobs = json!({"priority": 8, "workloads": ["Job"], "ttl": "8h"});
    let strict = || stored("strict", json!({"ttl": "5m"}));
    let page = answer(
        vec![stored("lax", lax("db")), stored("jobs", jobs), strict()],
        &[],
    );
    assert!(
        page.contains("a less strict policy would apply: lax, jobs\n"),
        "{page}"
    );
    let page = answer(vec![stored("lax", lax("web")), strict()], &[]);
    assert!(
        page.contains("without policies that depend on them, strict would apply"),
        "{page}"
    );
    assert!(!page.contains("a less strict policy would apply"), "{page}");
    let page = answer(vec![strict()], &[]);
    assert!(!page.contains("But:"), "{page}");
}

#[test]
fn conditions_are_told_as_they_are_asked() {
    let conditions = |spec: Value| {
        answer(
            vec![stored("p", spec)],
            &["-i", "--", "kubectl", "get", "pods"],
        )
    };
    for (spec, told) in [
        (
            json!({"actors": ["ServiceAccount"]}),
            "its actors do not contain",
        ),
        (json!({"interactive": false}), "only without standard input"),
        (
            json!({"workloads": ["Job"]}),
            "its workloads do not contain",
        ),
        (
            json!({"commands": [["kubectl", "delete", "..."]]}),
            "its commands do not match",
        ),
        (
            json!({"actors": ["User"], "interactive": true, "workloads": ["ReplicaSet"],
            "commands": [["kubectl", "get", "..."]]}),
            "  applies\n",
        ),
    ] {
        let page = conditions(spec);
        assert!(page.contains(told), "{told:?} is not in {page}");
    }
}

#[test]
fn every_policy_says_why_in_the_order_in_which_they_are_asked() {
    let page = answer(
        vec![
            stored("everybody", json!({"priority": 5, "ttl": "1h"})),
            stored(
                "staging",
                json!({
                    "priority": 100, "groups": ["ops", "dev"], "ttl": "4h", "maxExtension": "8h", "recordCommand": "Name",
                    "namespaceSelector": {"matchLabels": {"environment": "staging"}},
                }),
            ),
            stored("staging-too", json!({"priority": 100})),
            stored("others", json!({"priority": 200, "users": ["bob"]})),
            stored("broken", json!({"ttl": "1d"})),
            with_status(
                "mended",
                json!({"nodes": ["a"]}),
                json!({"inForce": {"generation": 2, "spec": {"priority": 7}}}),
            ),
        ],
        &["-it", "--", "sh", "-c", "id -u"],
    );
    assert_eq!(
        page,
        "\
Pod:                shop/web-1
User:               alice
Groups:             dev
Actor:              User
Workload:           ReplicaSet
Interaction:        exec, with standard input and a terminal: sh -c 'id -u'
Policy:             staging
Behaviour:          not known: nobody asked
Outcome:            Evict: the pod is evicted when its time to live ends
Time To Live:       4h0m0s
Longest Extension:  8h0m0s
Longest Hold:       the webhook's default (--default-max-hold)
Enforcement:        the webhook's default (--default-enforcement)
Command Kept:       its first word

Policies:
  POLICY        PRIORITY   RESULT
  others        200        neither its users nor its groups contain the user
  staging       100        applies
  staging-too   100        staging has the same priority, and its name comes first
  mended        7          staging has the higher priority 100 (generation 2 is in force; \
generation 3 cannot be followed: spec: unknown field `nodes`, expected one of `priority`, \
`namespaceSelector`, `podSelector`, `users`, `groups`, `actors`, `interactions`, `interactive`, `workloads`, \
`commands`, `behaviour`, `minimumDays`, `minimumSamples`, `learn`, `ttl`, `maxExtension`, `maxHold`, `action`, \
`enforcement`, `harmlessCommands`, `unmanagedPods`, `completingPods`, `whenChanged`, `whenUnchanged`, `protect`, `recordCommand`)
  everybody     5          staging has the higher priority 100
  broken        <none>     not in force: spec: \"1d\" is not a duration: its unit is none of h, m, s, ms, us, ns; \
write it as 90s, 30m or 1h30m
"
    );
}

#[test]
fn without_a_policy_the_flags_are_named_and_not_guessed() {
    let page = answer(Vec::new(), &[]);
    for line in [
        "Policy:             <none>: the webhook's defaults apply\n",
        "Outcome:            Evict: ",
        "Time To Live:       the webhook's default (--default-ttl)\n",
        "Longest Extension:  the webhook's default (--default-max-extension)\n",
        "\nPolicies:  <none>\n",
    ] {
        assert!(page.contains(line), "{line:?} is not in {page}");
    }
    let page = answer(Vec::new(), &["--kind=portforward"]);
    assert!(
        page.contains("Record: it is recorded and shown on the pod"),
        "{page}"
    );
    assert!(!page.contains("Time To Live"), "{page}");
}

#[test]
fn what_follows_is_told_with_its_reason() {
    let harmless = || stored("p", json!({"harmlessCommands": [["ls", "*"]]}));
    let protect = json!({"priorityAtLeast": 1000, "namespaces": ["shop"]});
    let mut bare = pod();
    bare["metadata"]["ownerReferences"] = Value::Null;
    let mut job = pod();
    job["metadata"]["ownerReferences"][0]["apiVersion"] = json!("batch/v1");
    job["metadata"]["ownerReferences"][0]["kind"] = json!("Job");
    let mut high = pod();
    high["spec"]["priority"] = json!(1000);
    let mut mirror = pod();
    mirror["metadata"]["annotations"] = json!({"kubernetes.io/config.mirror": "x"});
    for (pod, policy, words, expected) in [
        (
            pod(),
            stored("p", json!({"action": "Deny"})),
            &[][..],
            "Deny: it is denied",
        ),
        (
            pod(),
            stored("p", json!({"action": "Record"})),
            &[],
            "Record: it is recorded and shown on the pod, and no timer starts",
        ),
        (
            pod(),
            harmless(),
            &["--", "ls", "/"],
            "lists the command as harmless",
        ),
        (
            pod(),
            harmless(),
            &["-t", "--", "ls", "/"],
            "Harmless Commands:  this command is one, but only without -i and -t",
        ),
        (pod(), harmless(), &[], "add a command after --"),
        (
            bare,
            stored("p", json!({"unmanagedPods": "Record"})),
            &[],
            "no controller would replace the pod",
        ),
        (
            job.clone(),
            stored("p", json!({})),
            &[],
            "no timer starts while a Job controls the pod",
        ),
        (
            job,
            stored("p", json!({"completingPods": "Evict"})),
            &[],
            "Evict: the pod is evicted",
        ),
        (
            high,
            stored("p", json!({"protect": protect})),
            &[],
            "pods of this priority are protected here",
        ),
        (
            mirror,
            stored("p", json!({})),
            &[],
            "static pods are not evicted",
        ),
    ] {
        let page = answer_about(pod, vec![policy], words);
        assert!(page.contains(expected), "{expected:?} is not in {page}");
        let evicts = page.contains("Evict: ");
        assert_eq!(page.contains("Time To Live"), evicts, "{page}");
    }
}

#[test]
fn nothing_is_said_of_harmless_commands_where_they_change_nothing() {
    let commands = json!([["ls"]]);
    for (spec, words) in [
        (json!({"harmlessCommands": commands}), &["--", "rm"][..]),
        (json!({"harmlessCommands": commands}), &["-t", "--", "rm"]),
        (json!({"harmlessCommands": commands}), &["--kind=attach"]),
        (
            json!({"harmlessCommands": commands, "action": "Record"}),
            &[],
        ),
        (json!({}), &[]),
    ] {
        let page = answer(vec![stored("p", spec)], words);
        assert!(!page.contains("Harmless Commands"), "{page}");
    }
}

#[test]
fn what_leaves_no_trace_is_said() {
    let mut pending = pod();
    pending["spec"]["nodeName"] = Value::Null;
    let page = answer_about(pending, Vec::new(), &[]);
    assert!(page.contains("But:                the pod is not on a node yet"));

    let pod = serde_json::from_value(pod()).unwrap();
    let user = User {
        name: "alice".to_owned(),
        groups: Vec::new(),
    };
    let labels = BTreeMap::new();
    let args = asked(&["--kind=debug"]);
    let question = Question {
        behaviour: &Err("not known: nobody asked".to_owned()),
        pod: &pod,
        namespace_labels: &labels,
        user: &user,
        args: &args,
    };
    let now = at("2026-03-01T12:00:00Z");
    for (allowed, said) in [(Some(false), true), (Some(true), false), (None, false)] {
        let page = question.answer(&Book::default(), allowed, now);
        let lacks = "alice may not patch pods/ephemeralcontainers here";
        assert_eq!(page.contains(lacks), said, "{page}");
    }
    let page = question.exempt(Exempt::ByLabel);
    assert!(page.contains(
        "none: the namespace shop is exempt from Curfew by its label curfew.dev/exempt=true"
    ));
}

#[test]
fn a_time_that_was_told_already_is_told_again() {
    let mut marked = pod();
    marked["metadata"]["annotations"] = json!({"curfew.dev/eviction-time": "2026-03-01T12:05:00Z"});
    let page = answer_about(marked, Vec::new(), &[]);
    let line =
        "already at 2026-03-01T12:05:00Z (in 5m0s); another interaction can only make it earlier";
    assert!(page.contains(line), "{page}");
}

#[test]
fn what_follows_from_what_is_found_is_told_where_anything_does() {
    let of = |spec: Value| answer(vec![stored("p", spec)], &[]);
    let page = of(json!({"whenChanged": "Now", "whenUnchanged": "Release"}));
    assert!(
        page.contains("\nWhen Changed:       Now: the pod is evicted as soon as"),
        "{page}"
    );
    assert!(
        page.contains("\nWhen Unchanged:     Release: the pod stays if"),
        "{page}"
    );
    let spec = json!({"whenUnchanged": "Release"});
    let page = answer(vec![stored("p", spec)], &["--kind=attach"]);
    assert!(page.contains("\nWhen Unchanged:     Evict: "), "{page}");
    for spec in [
        json!({}),
        json!({"whenChanged": "AtDeadline", "whenUnchanged": "Evict"}),
        json!({"harmlessCommands": [["ls"]], "whenUnchanged": "Release", "unmanagedPods": "Record"}),
    ] {
        let words: &[&str] = match spec.get("harmlessCommands") {
            Some(_) => &["--", "ls"],
            None => &[],
        };
        let page = answer(vec![stored("p", spec)], words);
        assert!(!page.contains("When "), "{page}");
    }
}

#[test]
fn a_bypass_is_nobodys_and_takes_no_right() {
    let args = asked(&["--kind=bypass"]);
    let pod = serde_json::from_value(pod()).unwrap();
    assert_eq!(args.asks_for(&pod), None);
    let page = answer(
        vec![stored("deny", json!({"action": "Deny", "ttl": "5m"}))],
        &["--kind=bypass"],
    );
    assert!(page.contains("\nInteraction:        bypass\n"), "{page}");
    assert!(page.contains("\nOutcome:            Evict: "), "{page}");
    assert!(page.contains("\nTime To Live:       5m0s\n"), "{page}");
}

#[test]
fn whoever_may_not_read_hears_which_right_is_missing() {
    let forbidden = || {
        let status = kube::core::Status::failure("no", "Forbidden").with_code(FORBIDDEN);
        kube::Error::Api(status.boxed())
    };
    let error = policies_unread(forbidden(), "bob").to_string();
    assert!(error.starts_with("bob may not list interactionpolicies.curfew.dev"));
    assert!(error.contains("curfew-view") && error.contains("ClusterRoleBinding"));
    let roles = include_str!("../../../../manifests/base/roles.yaml");
    assert!(roles.contains("name: curfew-view\n"));
    let error = namespace_unread(forbidden(), "bob", "shop").to_string();
    assert!(error.starts_with("bob may not get the namespace shop"));
}
