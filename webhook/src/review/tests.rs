//! The reviews under `tests/reviews` are what an API server sent when kubectl was used on a cluster.

use super::*;

macro_rules! captured {
    ($name:literal) => {
        include_bytes!(concat!("../../tests/reviews/", $name, ".json"))
    };
}

fn request(body: &[u8]) -> Request {
    read(body).unwrap().request.unwrap()
}

fn unfit(body: &str) -> String {
    read(body.as_bytes())
        .unwrap()
        .request
        .unwrap_err()
        .to_string()
}

fn unreadable(body: &str) -> String {
    read(body.as_bytes()).unwrap_err().to_string()
}

/// A captured review with one text replaced.
fn changed(body: &[u8], from: &str, to: &str) -> String {
    let body = String::from_utf8(body.to_vec()).unwrap();
    assert!(body.contains(from), "{body}");
    body.replacen(from, to, 1)
}

#[test]
fn reads_an_exec() {
    let review = read(captured!("exec")).unwrap();
    assert_eq!(review.uid, "4f2303d7-da46-4a8c-9ea4-3a830d478076");
    let request = review.request.unwrap();
    assert_eq!(request.namespace, "wh-test");
    assert_eq!(request.name, "one");
    assert_eq!(request.user, "curfew-admin");
    assert!(!request.dry_run);
    assert_eq!(request.groups, ["system:masters", "system:authenticated"]);
    let Subresource::Exec(options) = request.subresource else {
        panic!("{:?}", request.subresource)
    };
    assert_eq!(options.container.as_deref(), Some("app"));
    assert_eq!(options.command.unwrap(), ["echo", "hi"]);
    assert!(!options.stdin && !options.tty);
}

#[test]
fn reads_who_can_type() {
    for (field, expected) in [("stdin", (true, false)), ("tty", (false, true))] {
        let body = changed(
            captured!("exec"),
            r#""stdout":true"#,
            &format!(r#""stdout":true,"{field}":true"#),
        );
        let Subresource::Exec(options) = request(body.as_bytes()).subresource else {
            panic!()
        };
        assert_eq!((options.stdin, options.tty), expected);
    }
}

#[test]
fn reads_an_exec_that_names_no_container() {
    let Subresource::Exec(options) = request(captured!("exec-no-container")).subresource else {
        panic!()
    };
    assert_eq!(options.container, None);
    let empty = changed(
        captured!("exec"),
        r#""container":"app""#,
        r#""container":"""#,
    );
    let Subresource::Exec(options) = request(empty.as_bytes()).subresource else {
        panic!()
    };
    assert_eq!(options.container, None);
}

#[test]
fn reads_a_command_with_unicode_and_spaces() {
    let Subresource::Exec(options) = request(captured!("exec-unicode")).subresource else {
        panic!()
    };
    assert_eq!(options.command.unwrap(), ["sh", "-c", r#"echo "hé  x""#]);
}

#[test]
fn reads_attach_and_port_forward() {
    let Subresource::Attach(options) = request(captured!("attach")).subresource else {
        panic!()
    };
    assert_eq!(options.container.as_deref(), Some("app"));
    assert!(matches!(
        request(captured!("portforward")).subresource,
        Subresource::Portforward
    ));
}

#[test]
fn reads_which_ephemeral_containers_the_pod_is_to_have() {
    let Subresource::Debug { containers } = request(captured!("debug")).subresource else {
        panic!()
    };
    assert_eq!(
        containers,
        [Ephemeral {
            name: "dbg".into(),
            argv: vec!["sleep".into(), "1".into()],
            stdin: false,
            tty: false,
        }]
    );
    // This update came after that of `debug`, whose container is still in it.
    let request = request(captured!("debug-two-dry-run"));
    assert!(request.dry_run);
    let Subresource::Debug { containers } = request.subresource else {
        panic!()
    };
    let names: Vec<_> = containers.iter().map(|new| new.name.as_str()).collect();
    assert_eq!(names, ["x1", "x2", "dbg"]);
    assert_eq!(containers[0].argv, ["sh", "-c", "id"]);
    assert!(containers[1].argv.is_empty());
}

#[test]
fn nothing_of_the_pod_is_read_from_a_review() {
    let body = changed(
        captured!("debug"),
        r#""oldObject":{"#,
        r#""oldObject":7,"older":{"#,
    );
    let Subresource::Debug { containers } = request(body.as_bytes()).subresource else {
        panic!()
    };
    assert_eq!(containers.len(), 1);
}

#[test]
fn what_is_no_review_is_said() {
    for (body, problem) in [
        ("", "not JSON"),
        ("hello", "not JSON"),
        ("{\"kind\":", "not JSON"),
        ("[1,2]", "not an AdmissionReview"),
        ("{}", "apiVersion \"\""),
        (r#"{"apiVersion":"v1","kind":"Pod"}"#, "kind \"Pod\""),
        (
            r#"{"apiVersion":"admission.k8s.io/v1beta1","kind":"AdmissionReview"}"#,
            "v1beta1",
        ),
        (
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}"#,
            "request: is missing",
        ),
        (
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}"#,
            "request: is missing",
        ),
        (
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{}}"#,
            "request.uid: has 0 bytes",
        ),
        (
            r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":7}}"#,
            "not an AdmissionReview",
        ),
    ] {
        let error = unreadable(body);
        assert!(error.contains(problem), "{body}: {error}");
    }
    let mut deep = "[".repeat(10_000);
    deep.push_str(&"]".repeat(10_000));
    assert!(unreadable(&deep).len() < 300);
}

#[test]
fn the_field_that_is_wrong_is_named_with_its_value() {
    let exec = captured!("exec");
    for (from, to, field, value) in [
        (
            r#""resource":"pods""#,
            r#""resource":"nodes""#,
            "request.resource",
            "nodes",
        ),
        (
            r#""subResource":"exec""#,
            r#""subResource":"proxy""#,
            "request.subResource",
            "proxy",
        ),
        (
            r#""operation":"CONNECT""#,
            r#""operation":"DELETE""#,
            "request.operation",
            "DELETE",
        ),
        (
            r#""username":"curfew-admin""#,
            r#""username":"""#,
            "request.userInfo.username",
            "missing",
        ),
        (
            r#""command":["echo","hi"]"#,
            r#""command":"echo""#,
            "request.object",
            "echo",
        ),
        (r#""name":"one""#, r#""name":1"#, "request", "integer `1`"),
    ] {
        let error = unfit(&changed(exec, from, to));
        assert!(error.contains(field) && error.contains(value), "{error}");
    }
    let error = unfit(&changed(
        captured!("debug"),
        r#""object":{"#,
        r#""older":{"#,
    ));
    assert!(error.contains("request.object: is missing"), "{error}");
}

#[test]
fn long_users_are_cut() {
    let user = format!("oidc:{}@пример.рф", "ä".repeat(5_000));
    let body = changed(captured!("exec"), "curfew-admin", &user);
    let kept = request(body.as_bytes()).user;
    assert!(kept.len() <= MAX_USER && kept.starts_with("oidc:ä"));
}

#[test]
fn a_probe_is_read() {
    let body = r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{
        "uid":"u","object":{"kind":"ConfigMap","data":{"nonce":"n-1"}}}}"#;
    assert_eq!(
        read_probe(body.as_bytes()).unwrap(),
        ("u".to_owned(), "n-1".to_owned())
    );
    assert!(read_probe(captured!("exec")).is_err());
}
