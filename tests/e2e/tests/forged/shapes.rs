//! What somebody may post to the webhook who is no API server.

use curfew_core::metadata;
use curfew_e2e::{NODES, agents::ACCOUNT};
use serde_json::{Value, json};

/// As whom the forger comes.
pub(crate) const FORGER: &str = "mallory";
const UID: &str = "11111111-2222-3333-4444-555555555555";

/// A body, and what it is called when something comes of it.
#[derive(Debug, Clone)]
pub(crate) struct Shape {
    pub(crate) name: String,
    pub(crate) body: String,
    /// Whether it is about an eviction.
    pub(crate) is_eviction: bool,
}

/// Pods that there are, and their namespace.
pub(crate) struct Victim<'a> {
    pub(crate) namespace: &'a str,
    /// Nobody interacted with it.
    pub(crate) untouched: &'a str,
    /// A timer runs for it.
    pub(crate) touched: &'a str,
}

impl Shape {
    fn new(name: impl Into<String>, body: impl ToString) -> Self {
        Self {
            name: name.into(),
            body: body.to_string(),
            is_eviction: false,
        }
    }
}

/// A review of a debug container for this pod, with as many lies about it as there is room for.
fn debug(namespace: &str, name: &str, container: &str, node: &str) -> Value {
    let old = json!({
        "kind": "Pod", "apiVersion": "v1",
        "metadata": {
            "name": name, "namespace": namespace, "uid": format!("ghost-{node}-{name}"),
            "resourceVersion": "1",
            "labels": {metadata::LABEL: metadata::INTERACTED},
            "annotations": {
                "curfew.dev/interaction-time": "2020-01-01T00:00:00Z",
                "curfew.dev/interactor": "somebody-else",
                "curfew.dev/interaction": "exec",
                "curfew.dev/ttl": "1s",
                "curfew.dev/max-extension": "8760h0m0s",
                "curfew.dev/interactions": "1",
                "curfew.dev/extension": "8760h",
                "curfew.dev/extension-requester": "somebody-else",
            },
        },
        "spec": {"nodeName": node, "containers": [{"name": "main", "image": "x"}]},
    });
    let mut new = old.clone();
    new["spec"]["ephemeralContainers"] = json!([{"name": container, "command": ["sh"]}]);
    review("ephemeralcontainers", "UPDATE", namespace, name, &new, &old)
}

/// A review of a connection.
fn connect(namespace: &str, name: &str, subresource: &str, container: &str) -> Value {
    let options = json!({"container": container, "command": ["sh"], "stdin": true, "tty": true});
    review(
        subresource,
        "CONNECT",
        namespace,
        name,
        &options,
        &Value::Null,
    )
}

fn review(
    subresource: &str,
    operation: &str,
    namespace: &str,
    name: &str,
    object: &Value,
    old: &Value,
) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": UID,
            "resource": {"group": "", "version": "v1", "resource": "pods"},
            "subResource": subresource, "operation": operation,
            "name": name, "namespace": namespace, "dryRun": false,
            "userInfo": {"username": FORGER, "groups": ["system:authenticated"]},
            "object": object, "oldObject": old,
        },
    })
}

/// A review of an eviction by this account, whose token claims to be of this node.
fn eviction(pod: &Victim<'_>, user: &str, node: &str, uid: Value) -> Value {
    let body = json!({
        "apiVersion": "policy/v1", "kind": "Eviction",
        "metadata": {"name": pod.untouched, "namespace": pod.namespace},
        "deleteOptions": {"preconditions": {"uid": uid}},
    });
    let mut review = review(
        "eviction",
        "CREATE",
        pod.namespace,
        pod.untouched,
        &body,
        &Value::Null,
    );
    review["request"]["userInfo"] = json!({
        "username": user,
        "extra": {"authentication.kubernetes.io/node-name": [node]},
    });
    review
}

/// Those that an API server could send of this pod: only the path tells them from real ones.
pub(crate) fn plausible(namespace: &str, pod: &str) -> Vec<Shape> {
    vec![
        Shape::new("a debug container", debug(namespace, pod, "lens", NODES[0])),
        Shape::new("an exec", connect(namespace, pod, "exec", "main")),
        Shape::new("an attach", connect(namespace, pod, "attach", "main")),
        Shape::new("a port-forward", connect(namespace, pod, "portforward", "")),
    ]
}

/// Those of which nothing may come, whoever posts them.
pub(crate) fn all(victim: &Victim<'_>) -> Vec<Shape> {
    let mut shapes = unreal(victim);
    shapes.extend(names(victim.namespace));
    shapes.extend(unfit(victim));
    shapes.extend(no_reviews());
    shapes.extend(evictions(victim));
    shapes
}

/// Pods and containers that there are not, and namespaces that are exempt.
fn unreal(victim: &Victim<'_>) -> Vec<Shape> {
    let of = victim.namespace;
    let mut shapes = Vec::new();
    for node in [NODES[0], NODES[1], "no-such-node", ""] {
        for (namespace, name, container) in [
            (of, "ghost", "lens"),
            // It has this container already.
            (of, victim.untouched, "main"),
            (of, victim.touched, "main"),
            ("kube-system", "etcd-node-1", "lens"),
            ("curfew", "curfew-webhook-1", "lens"),
            ("no-such-namespace", victim.untouched, "lens"),
        ] {
            let what = format!("a debug container in {namespace}/{name} on {node:?}");
            shapes.push(Shape::new(what, debug(namespace, name, container, node)));
        }
    }
    for kind in ["exec", "attach"] {
        for (name, container) in [
            ("ghost", "main"),
            (victim.untouched, "no-such"),
            (victim.touched, "no-such"),
        ] {
            let what = format!("an {kind} into {container} of {name}");
            shapes.push(Shape::new(what, connect(of, name, kind, container)));
        }
    }
    shapes.push(Shape::new(
        "a port-forward to a ghost",
        connect(of, "ghost", "portforward", ""),
    ));
    let mut dry = connect(of, victim.untouched, "exec", "main");
    dry["request"]["dryRun"] = json!(true);
    shapes.push(Shape::new("a dry run", dry));
    let mut many = debug(of, "ghost", "lens", NODES[0]);
    let containers: Vec<_> = (0..1000)
        .map(|n| json!({"name": format!("lens-{n}"), "command": ["sh"]}))
        .collect();
    many["request"]["object"]["spec"]["ephemeralContainers"] = json!(containers);
    shapes.push(Shape::new("a thousand debug containers", many));
    let mut big = debug(of, "ghost", "lens", NODES[0]);
    big["request"]["oldObject"]["metadata"]["annotations"]["x"] = json!("<&".repeat(512 * 1024));
    shapes.push(Shape::new("a megabyte of annotations", big));
    let mut long = connect(of, "ghost", "exec", "main");
    long["request"]["object"]["command"] = json!(vec!["x".repeat(100); 5000]);
    shapes.push(Shape::new("a long command", long));
    let mut crowd = connect(of, "ghost", "exec", "main");
    crowd["request"]["userInfo"]["groups"] = json!(vec!["g".repeat(100); 5000]);
    shapes.push(Shape::new("many groups", crowd));
    shapes
}

/// Names that would be other URLs, or none.
fn names(namespace: &str) -> Vec<Shape> {
    let long = "n".repeat(300);
    let names = [
        "",
        ".",
        "..",
        "../..",
        "../../nodes/node-1",
        "target/status",
        "target/eviction",
        "target?fieldManager=x",
        "target#x",
        "target%2fstatus",
        "%2e%2e",
        "target\u{0}",
        "target\r\nhost: elsewhere",
        " target",
        "TARGET",
        "t\u{e4}rget",
        "\u{202e}tegrat",
        "target_",
        "-target",
        "target;rm",
        &long,
    ];
    let mut shapes = Vec::new();
    for name in names {
        let what = format!("the name {name:?}");
        shapes.push(Shape::new(&what, debug(namespace, name, "lens", NODES[0])));
        shapes.push(Shape::new(&what, connect(namespace, name, "exec", "main")));
        let what = format!("the namespace {name:?}");
        shapes.push(Shape::new(what, debug(name, "target", "lens", NODES[0])));
    }
    shapes
}

/// Reviews of pods that there are, with something that no API server sends.
fn unfit(victim: &Victim<'_>) -> Vec<Shape> {
    let whole = || connect(victim.namespace, victim.touched, "exec", "main");
    let mut shapes = Vec::new();
    let mut with = |field: &str, value: Value| {
        let mut review = whole();
        if let Some(place) = review.pointer_mut(field) {
            *place = value.clone();
        }
        shapes.push(Shape::new(format!("{field}: {value}"), review));
    };
    for (field, values) in [
        (
            "/apiVersion",
            vec![json!("admission.k8s.io/v1beta1"), json!(1), Value::Null],
        ),
        ("/kind", vec![json!("Pod"), json!([])]),
        (
            "/request",
            vec![Value::Null, json!([]), json!("x"), json!({})],
        ),
        (
            "/request/uid",
            vec![json!(""), json!("u".repeat(500)), json!(7), Value::Null],
        ),
        (
            "/request/subResource",
            vec![
                json!("status"),
                json!("binding"),
                json!("eviction"),
                json!("log"),
                json!(""),
                json!("EXEC"),
            ],
        ),
        (
            "/request/operation",
            vec![
                json!("UPDATE"),
                json!("DELETE"),
                json!(""),
                json!("connect"),
            ],
        ),
        (
            "/request/resource",
            vec![
                json!({"group": "", "version": "v1", "resource": "services"}),
                json!({"group": "apps", "version": "v1", "resource": "pods"}),
                json!({"group": "", "version": "v2", "resource": "pods"}),
                json!({}),
                json!("pods"),
            ],
        ),
        (
            "/request/name",
            vec![json!(7), json!(["touched"]), Value::Null],
        ),
        ("/request/namespace", vec![json!(7), Value::Null]),
        (
            "/request/userInfo",
            vec![
                Value::Null,
                json!({}),
                json!({"username": ""}),
                json!("mallory"),
            ],
        ),
        (
            "/request/object",
            vec![
                Value::Null,
                json!({"command": "sh"}),
                json!({"container": 7}),
            ],
        ),
    ] {
        for value in values {
            with(field, value);
        }
    }
    let mut debug = debug(victim.namespace, victim.touched, "lens", NODES[0]);
    debug["request"]["object"] = Value::Null;
    shapes.push(Shape::new("a debug container of nothing", debug.clone()));
    debug["request"]["object"] = json!({"spec": {"ephemeralContainers": "lens"}});
    shapes.push(Shape::new("a debug container that is none", debug));
    shapes
}

/// Bodies that are nothing of the kind.
fn no_reviews() -> Vec<Shape> {
    let deep = format!("{}{}", "[".repeat(20_000), "]".repeat(20_000));
    let whole = connect("default", "ghost", "exec", "main").to_string();
    let half = &whole[..whole.len() / 2];
    let twice = format!("{whole}{whole}");
    let bodies = [
        ("nothing", ""),
        ("no JSON", "kind=AdmissionReview"),
        ("null", "null"),
        ("a list", "[]"),
        ("half of a review", half),
        ("two reviews", &*twice),
        ("deep", &*deep),
        ("a number", "1e999"),
        ("control bytes", "\u{1}\u{1b}[2J"),
    ];
    bodies.map(|(name, body)| Shape::new(name, body)).into()
}

/// Evictions that agents would ask for, and others.
fn evictions(victim: &Victim<'_>) -> Vec<Shape> {
    let mut shapes = Vec::new();
    for user in [
        ACCOUNT,
        "system:serviceaccount:curfew:curfew-webhook",
        FORGER,
    ] {
        for node in [NODES[0], NODES[1], "no-such-node", ""] {
            for uid in [json!("ghost"), Value::Null] {
                shapes.push(Shape {
                    name: format!("an eviction by {user} of {node:?} with {uid}"),
                    body: eviction(victim, user, node, uid).to_string(),
                    is_eviction: true,
                });
            }
        }
    }
    shapes
}
