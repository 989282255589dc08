//! What keeps Curfew's pods from being of use to whoever takes one over, as the manifests say it.

use std::{fs, path::Path};

use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Every object of the base.
fn objects() -> Vec<Value> {
    let base = root().join("manifests/base");
    let read = |name: &str| fs::read_to_string(base.join(name)).expect(name);
    let kustomization: Value = serde_saphyr::from_str(&read("kustomization.yaml")).expect("YAML");
    let names = kustomization["resources"].as_array().expect("resources");
    let objects = names.iter().flat_map(|name| {
        let text = read(name.as_str().expect("a name"));
        serde_saphyr::from_multiple::<Value>(&text).expect("YAML")
    });
    objects.collect()
}

fn object(kind: &str, name: &str) -> Value {
    let found = objects()
        .into_iter()
        .find(|object| object["kind"] == kind && object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

const WORKLOADS: [(&str, &str); 2] = [
    ("Deployment", "curfew-webhook"),
    ("DaemonSet", "curfew-agent"),
];

/// The pods of both parts, and their only containers.
fn pods() -> [(Value, Value); 2] {
    WORKLOADS.map(|(kind, name)| {
        let pod = object(kind, name)["spec"]["template"]["spec"].clone();
        assert_eq!(pod["containers"].as_array().map(Vec::len), Some(1));
        assert!(pod.get("initContainers").is_none());
        let container = pod["containers"][0].clone();
        (pod, container)
    })
}

#[test]
fn no_pod_can_do_more_than_it_needs() {
    for (pod, container) in pods() {
        assert_eq!(
            container["securityContext"],
            json!({
                "allowPrivilegeEscalation": false,
                "readOnlyRootFilesystem": true,
                "capabilities": {"drop": ["ALL"]},
            })
        );
        assert_eq!(
            pod["securityContext"]["seccompProfile"],
            json!({"type": "RuntimeDefault"})
        );
        assert_eq!(pod["enableServiceLinks"], false);
        for shared in ["hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace"] {
            assert!(pod.get(shared).is_none(), "{shared}");
        }
        for limited in ["/requests/cpu", "/requests/memory", "/limits/memory"] {
            let set = container["resources"].pointer(limited);
            assert!(set.is_some_and(Value::is_string), "{limited}");
        }
        // A tag that moves, and a shell that is called for, have no place here.
        assert!(
            container["image"]
                .as_str()
                .unwrap()
                .ends_with(concat!(":", env!("CARGO_PKG_VERSION")))
        );
        assert!(container.get("command").is_none());
        for probe in ["readinessProbe", "livenessProbe"] {
            assert!(container[probe].get("exec").is_none(), "{probe}");
        }
    }
}

#[test]
fn the_webhook_would_pass_as_restricted() {
    let [(pod, container), _] = pods();
    let context = &pod["securityContext"];
    assert_eq!(context["runAsNonRoot"], true);
    assert_eq!(context["runAsUser"], 65534);
    assert_eq!(context["runAsGroup"], 65534);
    for volume in pod["volumes"].as_array().into_iter().flatten() {
        let kinds = ["configMap", "emptyDir", "projected", "secret"];
        let allowed = kinds.iter().any(|kind| volume.get(kind).is_some());
        assert!(allowed, "{volume}");
    }
    for port in container["ports"].as_array().unwrap() {
        assert!(port.get("hostPort").is_none(), "{port}");
    }
}

#[test]
fn the_agent_has_its_store_and_nothing_else_of_its_node() {
    let [_, (pod, container)] = pods();
    let of_the_node: Vec<_> = pod["volumes"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|volume| volume.get("hostPath"))
        .collect();
    let store = json!({"path": "/var/lib/curfew", "type": "DirectoryOrCreate"});
    assert_eq!(of_the_node, [&store]);
    for port in container["ports"].as_array().unwrap() {
        assert!(port.get("hostPort").is_none(), "{port}");
    }
    // The one reason for which the namespace admits more than the strict profiles do.
    let labels = &object("Namespace", "curfew")["metadata"]["labels"];
    assert_eq!(labels["pod-security.kubernetes.io/enforce"], "privileged");
}

#[test]
fn a_token_is_only_where_it_is_asked_for() {
    for (_, account) in WORKLOADS {
        let account = object("ServiceAccount", account);
        assert_eq!(account["automountServiceAccountToken"], false);
    }
    for (pod, _) in pods() {
        assert_eq!(pod["automountServiceAccountToken"], true);
    }
}

#[test]
fn images_hold_one_binary_and_no_shell() {
    let text = fs::read_to_string(root().join("Containerfile")).unwrap();
    let bases: Vec<_> = text.lines().filter(|l| l.starts_with("FROM ")).collect();
    assert_eq!(bases, ["FROM scratch AS agent", "FROM scratch AS webhook"]);
    assert!(!text.lines().any(|line| line.starts_with("RUN ")));
    let webhook = text.split("AS webhook").nth(1).unwrap();
    assert!(webhook.contains("\nUSER 65534:65534\n"));
}

#[test]
fn the_network_lets_through_what_is_needed() {
    let policy = |name: &str| object("NetworkPolicy", name)["spec"].clone();
    let component = |name| {
        json!({"matchLabels": {
            "app.kubernetes.io/name": "curfew", "app.kubernetes.io/component": name,
        }})
    };
    let nobody = policy("curfew-nobody");
    assert_eq!(
        nobody,
        json!({"podSelector": {}, "policyTypes": ["Ingress", "Egress"]})
    );
    let ports = |rule: &Value| -> Vec<Value> {
        let ports = rule["ports"].as_array().expect("a rule without ports");
        ports.iter().map(|port| port["port"].clone()).collect()
    };
    let api_server = [json!(443), json!(6443)];
    for (name, other) in [("webhook", "agent"), ("agent", "webhook")] {
        let spec = policy(&format!("curfew-{name}"));
        assert_eq!(spec["podSelector"], component(name));
        assert_eq!(spec["policyTypes"], json!(["Ingress", "Egress"]));
        for (direction, peer) in [("ingress", "from"), ("egress", "to")] {
            for rule in spec[direction].as_array().unwrap() {
                // Notices go from the webhook to the agents, and nowhere else.
                if ports(rule).contains(&json!("notices")) {
                    assert_eq!(ports(rule), ["notices"]);
                    assert_eq!(rule[peer], json!([{"podSelector": component(other)}]));
                } else if direction == "egress" {
                    assert_eq!(ports(rule), api_server);
                } else {
                    let open = ports(rule);
                    let meant: &[&str] = match name {
                        "webhook" => &["admission", "metrics"],
                        _ => &["metrics"],
                    };
                    assert_eq!(open, meant);
                }
            }
        }
        let notices = spec.to_string().matches("notices").count();
        assert_eq!(notices, 1, "{name}");
    }
}

#[test]
fn both_accounts_have_seats_of_their_own() {
    let schema = object("FlowSchema", "curfew")["spec"].clone();
    let level = &schema["priorityLevelConfiguration"]["name"];
    let level = level.as_str().unwrap();
    let level = object("PriorityLevelConfiguration", level)["spec"].clone();
    assert_eq!(level["type"], "Limited");
    assert_eq!(level["limited"]["limitResponse"]["type"], "Queue");
    // Those of the system come first, and all other ServiceAccounts (9000) behind.
    let precedence = schema["matchingPrecedence"].as_u64().unwrap();
    assert!((901..9000).contains(&precedence), "{precedence}");
    let subjects = schema["rules"][0]["subjects"].as_array().unwrap();
    let names: Vec<_> = subjects
        .iter()
        .map(|subject| &subject["serviceAccount"]["name"])
        .collect();
    assert_eq!(names, ["curfew-webhook", "curfew-agent"]);
}

#[test]
fn an_agent_requests_the_memory_that_it_was_seen_to_use() {
    // Its working set with four records.
    const SEEN_MIB: f64 = 26.4;
    let [_, (_, container)] = pods();
    let requested = container["resources"]["requests"]["memory"].as_str();
    let requested = requested.and_then(|memory| memory.strip_suffix("Mi"));
    let requested: f64 = requested.expect("MiB").parse().expect("a number");
    assert!(requested > SEEN_MIB, "{requested} MiB");
}

/// A file of a component.
fn of_component(component: &str, name: &str) -> Vec<Value> {
    let file = root()
        .join("manifests/components")
        .join(component)
        .join(name);
    let text = fs::read_to_string(&file).expect(name);
    serde_saphyr::from_multiple(&text).expect("YAML")
}

/// The base is tight; whoever adds this gives the agents what looking into containers takes, and nothing else.
#[test]
fn agents_that_look_into_containers_get_what_that_takes() {
    let component = of_component("evidence", "kustomization.yaml").remove(0);
    assert_eq!(component["resources"], json!(["rbac.yaml"]));
    let patches: Vec<Value> = component["patches"]
        .as_array()
        .expect("patches")
        .iter()
        .map(|patch| {
            let text = patch["patch"].as_str().expect("a text");
            serde_saphyr::from_str(text).expect("YAML")
        })
        .collect();
    let capabilities = json!(["SYS_PTRACE", "DAC_READ_SEARCH"]);
    let [pod, variable, constraints] = &patches[..] else {
        panic!("{patches:?}");
    };
    assert_eq!(
        pod["spec"],
        json!({"template": {"spec": {
            "hostPID": true,
            "containers": [{
                "name": "agent",
                "securityContext": {
                    "appArmorProfile": {"type": "Unconfined"},
                    "capabilities": {"add": capabilities},
                },
            }],
        }}})
    );
    assert_eq!(pod["metadata"]["name"], "curfew-agent");
    assert_eq!(
        variable[1],
        json!({
            "op": "add",
            "path": "/spec/template/spec/containers/0/env/-",
            "value": {"name": "CURFEW_EVIDENCE", "value": "files"},
        })
    );
    assert_eq!(
        constraints,
        &json!([
            {"op": "replace", "path": "/allowHostPID", "value": true},
            {"op": "replace", "path": "/allowedCapabilities", "value": capabilities},
        ])
    );
    let [role, binding] = &of_component("evidence", "rbac.yaml")[..] else {
        panic!("a role and its binding");
    };
    assert_eq!(
        role["rules"],
        json!([
            {"apiGroups": ["curfew.dev"], "resources": ["interactionpolicies"], "verbs": ["list"]},
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["get"]},
        ])
    );
    assert_eq!(binding["roleRef"]["name"], role["metadata"]["name"]);
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "ServiceAccount", "name": "curfew-agent", "namespace": "curfew"}])
    );
}

#[test]
fn whoever_is_authenticated_may_read_policies_where_that_is_wanted() {
    let file = root().join("manifests/components/policy-readers/binding.yaml");
    let text = fs::read_to_string(file).expect("the binding");
    let binding: Value = serde_saphyr::from_str(&text).expect("YAML");
    assert_eq!(binding["kind"], "ClusterRoleBinding");
    let group = json!({
        "apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated",
    });
    assert_eq!(binding["subjects"], json!([group]));
    let role = binding["roleRef"]["name"].as_str().expect("a role");
    let rules = json!([{
        "apiGroups": ["curfew.dev"],
        "resources": ["interactionpolicies"],
        "verbs": ["get", "list", "watch"],
    }]);
    assert_eq!(object("ClusterRole", role)["rules"], rules);
}
