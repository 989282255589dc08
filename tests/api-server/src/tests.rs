use std::{pin::pin, time::Duration};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::{
    Api, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams},
    core::WatchEvent,
};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep, timeout};

use super::*;

fn map(name: &str, colour: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap",
           "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"),
                        "labels": {"colour": colour}}})
}

fn maps(server: &ApiServer) -> Api<ConfigMap> {
    Api::namespaced(server.client(), "shop")
}

fn pod(server: &ApiServer, grace: u64) -> Api<Pod> {
    server.put(
        "pods",
        json!({"apiVersion": "v1", "kind": "Pod",
               "metadata": {"namespace": "shop", "name": "a", "uid": "uid-a"},
               "spec": {"containers": [], "terminationGracePeriodSeconds": grace}}),
    );
    Api::namespaced(server.client(), "shop")
}

fn code<T: std::fmt::Debug>(answer: kube::Result<T>) -> (u16, String) {
    match answer.unwrap_err() {
        kube::Error::Api(status) => (status.code, status.reason),
        error => panic!("{error}"),
    }
}

#[test]
fn paths_name_their_objects() {
    for (path, resource, namespace, name, subresource) in [
        ("/api/v1/pods", "pods", "", "", ""),
        (
            "/api/v1/namespaces/s/pods/a/eviction",
            "pods",
            "s",
            "a",
            "eviction",
        ),
        ("/apis/policy/v1/namespaces/s/pdbs/a", "pdbs", "s", "a", ""),
        (
            "/apis/certificates.k8s.io/v1/csrs/a/approval",
            "csrs",
            "",
            "a",
            "approval",
        ),
        ("/api/v1/namespaces", "namespaces", "", "", ""),
        ("/api/v1/namespaces/s", "namespaces", "", "s", ""),
        (
            "/api/v1/namespaces/s/status",
            "namespaces",
            "",
            "s",
            "status",
        ),
        ("/version", "", "", "", ""),
    ] {
        let expected = Target {
            subresource: subresource.to_owned(),
            ..Target::object(resource, namespace, name)
        };
        assert_eq!(Target::parse(path), expected, "{path}");
    }
}

#[tokio::test]
async fn objects_are_made_changed_and_deleted_under_preconditions() {
    let server = ApiServer::new();
    let maps = maps(&server);
    assert_eq!(code(maps.get("a").await), (404, "NotFound".to_owned()));
    let mut made: ConfigMap = serde_json::from_value(map("a", "red")).unwrap();
    made = maps.create(&PostParams::default(), &made).await.unwrap();
    assert_eq!(made.resource_version().unwrap(), "1");
    let again = maps.create(&PostParams::default(), &made).await;
    assert_eq!(code(again), (409, "AlreadyExists".to_owned()));

    let params = PatchParams::default();
    let patch =
        json!({"metadata": {"resourceVersion": "1", "labels": {"colour": null, "size": "l"}}});
    let patched = maps
        .patch("a", &params, &Patch::Merge(&patch))
        .await
        .unwrap();
    assert_eq!(
        patched.labels().iter().collect::<Vec<_>>(),
        [(&"size".to_owned(), &"l".to_owned())]
    );
    let late = maps.patch("a", &params, &Patch::Merge(&patch)).await;
    assert_eq!(code(late), (409, "Conflict".to_owned()));
    let late = maps.replace("a", &PostParams::default(), &made).await;
    assert_eq!(code(late), (409, "Conflict".to_owned()));
    // What changes nothing makes no version.
    let same = maps
        .replace("a", &PostParams::default(), &patched)
        .await
        .unwrap();
    assert_eq!(same, patched);

    let other = DeleteParams::default().preconditions(kube::api::Preconditions {
        uid: Some("uid-b".to_owned()),
        resource_version: None,
    });
    assert_eq!(
        code(maps.delete("a", &other).await),
        (409, "Conflict".to_owned())
    );
    maps.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(maps.get_opt("a").await.unwrap(), None);

    let apply = PatchParams::apply("test").force();
    let applied = maps
        .patch("b", &apply, &Patch::Apply(map("b", "blue")))
        .await
        .unwrap();
    assert_eq!(applied.namespace().unwrap(), "shop");
}

#[tokio::test]
async fn the_status_is_changed_alone_and_names_are_generated() {
    let server = ApiServer::new();
    let spaces: Api<Namespace> = Api::all(server.client());
    let mut space = Namespace::default();
    space.metadata.generate_name = Some("test-".to_owned());
    let name = spaces
        .create(&PostParams::default(), &space)
        .await
        .unwrap()
        .name_any();
    assert_eq!(name, "test-1");
    let patch = json!({"metadata": {"labels": {"a": "b"}}, "status": {"phase": "Terminating"}});
    let params = PatchParams::default();
    let patched = spaces
        .patch_status(&name, &params, &Patch::Merge(patch))
        .await
        .unwrap();
    assert_eq!(
        patched.status.clone().unwrap().phase.unwrap(),
        "Terminating"
    );
    assert!(patched.labels().is_empty());
}

#[tokio::test]
async fn lists_are_selected() {
    let server = ApiServer::new();
    for (name, colour) in [("a", "red"), ("b", "blue")] {
        server.put("configmaps", map(name, colour));
    }
    for (params, expected) in [
        (ListParams::default(), vec!["a", "b"]),
        (ListParams::default().labels("colour=red"), vec!["a"]),
        (
            ListParams::default().labels("colour!=red,colour"),
            vec!["b"],
        ),
        (ListParams::default().labels("!colour"), vec![]),
        (ListParams::default().fields("metadata.name=b"), vec!["b"]),
    ] {
        let names = async |maps: Api<ConfigMap>| {
            let list = maps.list(&params).await.unwrap();
            list.iter().map(ResourceExt::name_any).collect::<Vec<_>>()
        };
        assert_eq!(names(maps(&server)).await, expected, "{params:?}");
        let elsewhere = Api::namespaced(server.client(), "elsewhere");
        assert!(names(elsewhere).await.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_tells_changes_and_bookmarks_until_it_ends() {
    let server = ApiServer::new();
    let version = server.put("configmaps", map("a", "red"))["metadata"]["resourceVersion"].take();
    let params = WatchParams::default().labels("colour=red").timeout(100);
    let maps = maps(&server);
    let mut events = pin!(
        maps.watch(&params, version.as_str().unwrap())
            .await
            .unwrap()
    );
    server.put("configmaps", map("b", "red"));
    server.put("configmaps", map("other", "blue"));
    server.put("configmaps", map("b", "blue"));
    server.remove(&Target::object("configmaps", "shop", "a"));
    let begun = Instant::now();
    let mut seen = Vec::new();
    while let Some(event) = events.try_next().await.unwrap() {
        seen.push(match event {
            WatchEvent::Added(map) => {
                format!("+{}@{}", map.name_any(), map.resource_version().unwrap())
            }
            WatchEvent::Modified(map) => {
                format!("{}@{}", map.name_any(), map.resource_version().unwrap())
            }
            WatchEvent::Deleted(map) => {
                format!("-{}@{}", map.name_any(), map.resource_version().unwrap())
            }
            WatchEvent::Bookmark(mark) => mark.metadata.resource_version.to_string(),
            WatchEvent::Error(status) => panic!("{status:?}"),
        });
    }
    assert_eq!(seen, ["+b@2", "-b@4", "-a@5", "5"]);
    assert_eq!(begun.elapsed().as_secs(), 100);

    let mut events = pin!(maps.watch(&params, "0").await.unwrap());
    server.go_away(Answer::broken());
    assert!(events.try_next().await.is_err());
    let (at, status) = server.asked()[0].ended.unwrap();
    assert_eq!((at.as_secs(), status), (100, 200));
}

#[tokio::test(start_paused = true)]
async fn an_evicted_pod_is_gone_after_its_grace_period() {
    let server = ApiServer::new();
    let pods = pod(&server, 30);
    server.admission(
        |asked| match asked.body["deleteOptions"]["preconditions"]["uid"] {
            Value::Null => Some(Answer::denial("guard", 400, "no UID")),
            _ => None,
        },
    );
    // kube's own method for this puts the options where the API server does not look for them.
    let evict = async |preconditions: Value| {
        let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction",
            "deleteOptions": {"preconditions": preconditions}});
        let params = PostParams::default();
        let made = pods.create_subresource("eviction", "a", &params, &eviction);
        made.await.map(|status: Value| status)
    };
    assert_eq!(code(evict(json!({})).await).0, 400);
    assert_eq!(code(evict(json!({"uid": "uid-b"})).await).0, 409);
    evict(json!({"uid": "uid-a"})).await.unwrap();
    sleep(Duration::from_secs(29)).await;
    assert!(
        pods.get("a")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );
    sleep(Duration::from_secs(2)).await;
    assert_eq!(pods.get_opt("a").await.unwrap(), None);
    let statuses = server.evictions();
    let statuses: Vec<_> = statuses
        .iter()
        .map(|asked| asked.ended.unwrap().1)
        .collect();
    assert_eq!(statuses, [400, 409, 201]);
    assert!(server.evictions()[2].is_accepted());
}

#[tokio::test(start_paused = true)]
async fn a_script_decides_what_is_answered_and_done() {
    let server = ApiServer::new();
    let maps = maps(&server);
    let throttled = Answer::status(429, "later").header("Retry-After", "7");
    server.script_in_turn(
        [throttled, Answer::broken(), Answer::lost()],
        Answer::never(),
    );
    let made: ConfigMap = serde_json::from_value(map("a", "red")).unwrap();
    let params = PostParams::default();
    assert_eq!(code(maps.create(&params, &made).await).0, 429);
    for objects in [0, 1] {
        let error = maps.create(&params, &made).await.unwrap_err();
        assert!(matches!(error, kube::Error::Service(_)), "{error}");
        assert_eq!(server.list("configmaps").len(), objects);
    }
    for _ in 0..2 {
        let silent = timeout(Duration::from_secs(9), maps.create(&params, &made));
        silent.await.unwrap_err();
    }
    let asked = server.asked();
    assert_eq!(asked[4].at.as_secs(), 9);
    assert_eq!(asked[4].ended.unwrap().1, 0);
    assert!(
        asked
            .iter()
            .all(|asked| asked.open == 1 && asked.body["metadata"]["name"] == "a")
    );
}

#[tokio::test]
async fn a_port_serves_the_same() {
    let server = ApiServer::new();
    server.put("configmaps", map("a", "red"));
    let url = format!("http://{}", server.listen());
    let client = kube::Client::try_from(kube::Config::new(url.parse().unwrap())).unwrap();
    let maps: Api<ConfigMap> = Api::namespaced(client, "shop");
    assert_eq!(maps.get("a").await.unwrap().name_any(), "a");
    server.script(|_| Answer::broken());
    assert!(matches!(
        maps.get("a").await,
        Err(kube::Error::HyperError(_) | kube::Error::Service(_))
    ));
}
