//! What each value of the chart does.

use std::{collections::BTreeSet, fs};

use curfew_chart::{
    objects::{self, Objects},
    render::Renderer,
};
use curfew_cluster::run;
use serde_json::{Value, json};

const WEBHOOK: &str = "Deployment curfew/curfew-webhook";
const AGENT: &str = "DaemonSet curfew/curfew-agent";

/// Renders the chart with values, written as YAML.
fn with(renderer: &Renderer, values: &str, arguments: &[&str]) -> Objects {
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), values).expect("it can be written");
    let file = format!("--values={}", file.path().display());
    let arguments: Vec<_> = [file.as_str()]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    renderer.helm(&arguments).expect("it renders")
}

fn pod<'a>(objects: &'a Objects, workload: &str) -> &'a Value {
    &objects[workload]["spec"]["template"]["spec"]
}

fn container<'a>(objects: &'a Objects, workload: &str) -> &'a Value {
    &pod(objects, workload)["containers"][0]
}

fn environment(objects: &Objects, workload: &str) -> Vec<(String, String)> {
    let env = container(objects, workload)["env"].as_array();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    env.into_iter()
        .flatten()
        .filter_map(|variable| Some((text(&variable["name"])?, text(&variable["value"])?)))
        .collect()
}

fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

const FLAGS: &str = "
defaults: {enforcement: DryRun, ttl: 20s, maxExtension: 1h, maxHold: 2h}
unrecorded: admit
legacy: true
evidence: {enabled: true}
log: {level: debug, format: text}
webhook:
  ports: {admission: 10250, metrics: 9443}
  env: {CURFEW_DRAIN: 20s, CURFEW_LOG_LEVEL: trace}
agent:
  env: {CURFEW_BLOCKED_AFTER: 45s}
";

#[test]
fn flags_reach_the_pods() {
    let renderer = Renderer::new().unwrap();
    let objects = with(&renderer, FLAGS, &[]);
    assert_eq!(
        environment(&objects, WEBHOOK),
        owned(&[
            ("CURFEW_DEFAULT_ENFORCEMENT", "DryRun"),
            ("CURFEW_DEFAULT_MAX_EXTENSION", "1h"),
            ("CURFEW_DEFAULT_MAX_HOLD", "2h"),
            ("CURFEW_DEFAULT_TTL", "20s"),
            ("CURFEW_DRAIN", "20s"),
            ("CURFEW_EVICTION_GUARD", "true"),
            ("CURFEW_LISTEN", "[::]:10250"),
            ("CURFEW_LOG_FORMAT", "text"),
            ("CURFEW_LOG_LEVEL", "trace"),
            ("CURFEW_METRICS_LISTEN", "[::]:9443"),
            ("CURFEW_UNRECORDED", "admit"),
        ])
    );
    assert_eq!(
        environment(&objects, AGENT),
        owned(&[
            ("CURFEW_BLOCKED_AFTER", "45s"),
            ("CURFEW_DEFAULT_ENFORCEMENT", "DryRun"),
            ("CURFEW_DEFAULT_MAX_EXTENSION", "1h"),
            ("CURFEW_DEFAULT_MAX_HOLD", "2h"),
            ("CURFEW_DEFAULT_TTL", "20s"),
            ("CURFEW_EVIDENCE", "files"),
            ("CURFEW_LOG_FORMAT", "text"),
            ("CURFEW_LOG_LEVEL", "debug"),
        ])
    );
    let all = container(&objects, AGENT)["env"].as_array().unwrap();
    assert_eq!(all.len(), 10, "those of the base are still there");
    assert_eq!(
        container(&objects, WEBHOOK)["ports"],
        json!([{"name": "admission", "containerPort": 10250}, {"name": "metrics", "containerPort": 9443}])
    );
    // The Service finds the port by its name.
    let service = &objects["Service curfew/curfew-webhook"]["spec"]["ports"][0];
    assert_eq!(service["targetPort"], "admission");
    assert_eq!(service["port"], 443);
}

/// A flag that does not exist would be ignored, and one with another default would change the other address.
#[test]
fn the_flags_exist() {
    let renderer = Renderer::new().unwrap();
    let read = |path: &str| fs::read_to_string(renderer.root().join(path)).unwrap();
    let shared = read("runtime/src/logging.rs") + &read("runtime/src/default_terms.rs");
    let objects = with(&renderer, FLAGS, &[]);
    for (workload, arguments) in [
        (WEBHOOK, "webhook/src/args.rs"),
        (AGENT, "agent/src/args.rs"),
    ] {
        let known = read(arguments) + &shared;
        for (name, value) in environment(&objects, workload) {
            assert!(known.contains(&format!("env = \"{name}\"")), "{name}");
            if let Some((address, _)) = value.rsplit_once(':') {
                let default = format!("env = \"{name}\", default_value = \"{address}:");
                assert!(known.contains(&default), "{name}: {value}");
            }
        }
    }
}

#[test]
fn pods_are_as_the_values_say() {
    let renderer = Renderer::new().unwrap();
    let digest = format!("sha256:{}", "0a".repeat(32));
    let values = format!(
        "
webhook:
  image: {{repository: registry.example.com/webhook, tag: v2, pullPolicy: Always}}
  replicas: 3
  resources: {{limits: {{memory: 512Mi}}}}
  nodeSelector: {{pool: system}}
  tolerations: [{{key: a, operator: Exists}}]
agent:
  image: {{repository: registry.example.com/agent, digest: '{digest}'}}
  tolerations: [{{key: b, operator: Equal, value: c, effect: NoSchedule}}]
imagePullSecrets: [{{name: registry}}]
"
    );
    let objects = with(&renderer, &values, &[]);
    let webhook = container(&objects, WEBHOOK);
    assert_eq!(webhook["image"], "registry.example.com/webhook:v2");
    assert_eq!(webhook["imagePullPolicy"], "Always");
    assert_eq!(webhook["resources"]["limits"]["memory"], "512Mi");
    assert_eq!(
        webhook["resources"]["requests"]["cpu"], "50m",
        "the rest stays"
    );
    assert_eq!(objects[WEBHOOK]["spec"]["replicas"], 3);
    let agent = container(&objects, AGENT);
    assert_eq!(
        agent["image"],
        format!("registry.example.com/agent@{digest}")
    );
    assert!(agent.get("imagePullPolicy").is_none());
    let (webhook, agent) = (pod(&objects, WEBHOOK), pod(&objects, AGENT));
    assert_eq!(
        webhook["nodeSelector"],
        json!({"kubernetes.io/os": "linux", "pool": "system"})
    );
    assert_eq!(
        webhook["tolerations"],
        json!([{"key": "a", "operator": "Exists"}])
    );
    assert_eq!(
        agent["tolerations"],
        json!([{"key": "b", "operator": "Equal", "value": "c", "effect": "NoSchedule"}])
    );
    for pod in [webhook, agent] {
        assert_eq!(pod["imagePullSecrets"], json!([{"name": "registry"}]));
    }
}

#[test]
fn network_policies_name_the_addresses_that_are_known() {
    let renderer = Renderer::new().unwrap();
    let values = "
networkPolicies:
  apiServer: {addresses: [10.0.0.1/32], ports: [17443], sources: [10.1.0.0/16, 'fd00::/64']}
  metricsFrom: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: monitoring}}}]
";
    let objects = with(&renderer, values, &[]);
    let server = json!({
        "to": [{"ipBlock": {"cidr": "10.0.0.1/32"}}],
        "ports": [{"protocol": "TCP", "port": 17443}],
    });
    let metrics = json!({
        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}],
        "ports": [{"protocol": "TCP", "port": "metrics"}],
    });
    let admission = json!({
        "from": [{"ipBlock": {"cidr": "10.1.0.0/16"}}, {"ipBlock": {"cidr": "fd00::/64"}}],
        "ports": [{"protocol": "TCP", "port": "admission"}],
    });
    let part = |component: &str| {
        json!([{"podSelector": {"matchLabels": {
            "app.kubernetes.io/name": "curfew", "app.kubernetes.io/component": component}}}])
    };
    let notices = json!([{"protocol": "TCP", "port": "notices"}]);
    let webhook = &objects["NetworkPolicy curfew/curfew-webhook"]["spec"];
    assert_eq!(webhook["ingress"], json!([admission, metrics]));
    assert_eq!(
        webhook["egress"],
        json!([{"to": part("agent"), "ports": notices}, server])
    );
    let agent = &objects["NetworkPolicy curfew/curfew-agent"]["spec"];
    assert_eq!(
        agent["ingress"],
        json!([{"from": part("webhook"), "ports": notices}, metrics])
    );
    assert_eq!(agent["egress"], json!([server]));

    // Who else may reach a port is not restricted by what is said of the other port.
    let values = "networkPolicies: {apiServer: {sources: [10.1.0.0/16]}}";
    let objects = with(&renderer, values, &[]);
    let webhook = &objects["NetworkPolicy curfew/curfew-webhook"]["spec"];
    assert_eq!(
        webhook["ingress"][1],
        json!({"ports": [{"protocol": "TCP", "port": "metrics"}]})
    );
    let objects = with(&renderer, "networkPolicies: {enabled: false}", &[]);
    assert!(
        !objects
            .keys()
            .any(|name| name.starts_with("NetworkPolicy "))
    );
}

#[test]
fn the_operator_finds_what_it_selects_by_labels() {
    let renderer = Renderer::new().unwrap();
    let values = "monitoring: {enabled: true, labels: {release: prometheus}}";
    let objects = with(&renderer, values, &[]);
    let labelled = objects
        .iter()
        .filter(|(_, object)| object["metadata"]["labels"]["release"] == "prometheus")
        .map(|(name, _)| name.split(' ').next().unwrap());
    assert_eq!(
        labelled.collect::<Vec<_>>(),
        ["PodMonitor", "PrometheusRule", "ServiceMonitor"]
    );
}

const KNOWN: &str = "--api-versions=curfew.dev/v1alpha1/InteractionPolicy";

#[test]
fn policies_are_installed_when_their_kind_is_known() {
    let renderer = Renderer::new().unwrap();
    let example = renderer
        .root()
        .join("manifests/examples/policies/production.yaml");
    let examples = objects::read(&fs::read_to_string(example).unwrap()).unwrap();
    let specs = examples.values().map(|example| {
        let name = example["metadata"]["name"].as_str().unwrap();
        (name.to_owned(), example["spec"].clone())
    });
    let specs: serde_json::Map<_, _> = specs.collect();
    let values = json!({"policies": specs}).to_string();
    let known = with(&renderer, &values, &[KNOWN]);
    for (name, example) in &examples {
        let policy = &known[name];
        assert_eq!(policy["apiVersion"], example["apiVersion"]);
        assert_eq!(policy["spec"], example["spec"]);
    }
    let unknown = with(&renderer, &values, &[]);
    assert_eq!(unknown.len() + examples.len(), known.len());
    assert!(!examples.is_empty());
}

#[test]
fn the_notes_say_what_is_left_to_do() {
    let renderer = Renderer::new().unwrap();
    let notes = |values: &str| {
        let mut helm = renderer.program("helm");
        helm.args(["install", "curfew", "--dry-run=client", "--set", values])
            .arg(renderer.chart());
        let said = run::output(&mut helm).unwrap();
        said.split_once("NOTES:").unwrap().1.to_owned()
    };
    let (left_out, no_eviction) = ("WARNING: The values contain policies", "Nothing is evicted");
    let plain = notes("legacy=auto");
    assert!(
        plain.contains(no_eviction) && !plain.contains(left_out),
        "{plain}"
    );
    let policies = notes("policies.a.ttl=1h,defaults.enforcement=Enforce,defaults.ttl=1h");
    assert!(policies.contains(left_out), "{policies}");
    assert!(policies.contains("evicted 1h later"), "{policies}");
}

/// What is misspelt must not be ignored.
#[test]
fn other_values_are_refused() {
    let renderer = Renderer::new().unwrap();
    for (value, said) in [
        ("image.tag=1", "image"),
        ("webhook.replica=3", "replica"),
        ("webhook.replicas=0", "replicas"),
        ("webhook.ports.admission=70000", "admission"),
        ("webhook.env.TTL=1", "TTL"),
        ("agent.image.digest=latest", "digest"),
        ("defaults.enforcement=dryrun", "enforcement"),
        ("defaults.ttl=10", "ttl"),
        ("defaults.timeToLive=10m", "timeToLive"),
        ("unrecorded=ignore", "unrecorded"),
        ("legacy=maybe", "legacy"),
        (
            "networkPolicies.apiServer.addresses={10.0.0.1}",
            "addresses",
        ),
        ("networkPolicies.apiserver.ports={443}", "apiserver"),
        ("priorities=true", "priorities"),
    ] {
        let error = renderer.helm(&["--set", value]).unwrap_err().to_string();
        assert!(error.contains(said), "{value}: {error}");
        assert!(error.contains("values don't meet"), "{value}: {error}");
    }
    // A parent chart hands these to all its charts.
    renderer.helm(&["--set", "global.registry=x"]).unwrap();
}

#[test]
fn every_value_of_the_schema_is_shown() {
    let renderer = Renderer::new().unwrap();
    let read = |name: &str| fs::read_to_string(renderer.chart().join(name)).unwrap();
    let values: Value = serde_saphyr::from_str(&read("values.yaml")).unwrap();
    let schema: Value = serde_json::from_str(&read("values.schema.json")).unwrap();
    let mut checked = BTreeSet::new();
    shown("", &schema, &schema, &values, &mut checked);
    assert!(checked.len() > 40, "{checked:?}");
}

fn shown(path: &str, schema: &Value, root: &Value, values: &Value, checked: &mut BTreeSet<String>) {
    let reference = schema["$ref"].as_str().and_then(|to| to.strip_prefix('#'));
    let schema = reference.map_or(schema, |to| root.pointer(to).expect("a definition"));
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}/{name}");
        if path == "/global" {
            continue;
        }
        let value = values
            .get(name)
            .unwrap_or_else(|| panic!("values.yaml has no {path}"));
        shown(&path, property, root, value, checked);
        checked.insert(path);
    }
}
