use curfew_runtime::reach::Reachability;
use kube::Api;

use super::*;
use crate::testing::{
    api::{Answer, Asked, client},
    stage::{NODE, Stage},
};

impl NodeUser {
    /// That of this node, which the API server is known to allow.
    pub(crate) fn known(node: &str) -> Self {
        Self::new(Decision::AsNode(user_of(node).unwrap()))
    }

    /// The agent's own account.
    pub(crate) fn own_account() -> Self {
        Self::new(Decision::AsItself)
    }
}

const EMPTY: &str = r#"{"metadata": {"resourceVersion": "1"}, "items": []}"#;

/// Starts to decide. Returns the user, and a client that is used as it.
fn decide(stage: &Stage, works: &IntGauge) -> (NodeUser, Api<Pod>) {
    let user = NodeUser::pending();
    let own = ("curfew".to_owned(), "curfew-agent-x".to_owned());
    let client = client(&stage.api, &Reachability::default());
    let pods = Api::namespaced(user.client(client.clone()), "shop");
    let decided = user
        .clone()
        .decide(client, NODE.to_owned(), own, works.clone());
    tokio::spawn(decided);
    (user, pods)
}

fn gauge() -> IntGauge {
    IntGauge::new("works", "for the test").unwrap()
}

fn refusing(as_node: bool, as_itself: bool) -> impl Fn(&Asked) -> Answer {
    move |asked| match asked.user {
        Some(_) if as_node => Answer::status(403, "cannot impersonate"),
        None if as_itself => Answer::status(403, "pods is forbidden"),
        _ => Answer::raw(200, EMPTY),
    }
}

/// As whom the pods of the shop were asked for, so far.
fn users(stage: &Stage) -> Vec<Option<String>> {
    let asked = stage.api.asked().into_iter();
    let of_shop = asked.filter(|asked| asked.target.namespace == "shop");
    of_shop.map(|asked| asked.user).collect()
}

#[tokio::test(start_paused = true)]
async fn the_node_comes_first() {
    let stage = Stage::set(1);
    stage.api.script(refusing(false, false));
    let works = gauge();
    let (user, pods) = decide(&stage, &works);
    pods.list(&ListParams::default()).await.unwrap();
    assert_eq!(user.get().await.unwrap().unwrap(), "system:node:node-1");
    assert_eq!(users(&stage), [Some("system:node:node-1".to_owned())]);
    assert_eq!(works.get(), 1);
    let asked = stage.api.asked().len();
    sleep(OWN_ACCOUNT).await;
    assert_eq!(stage.api.asked().len(), asked, "it is not asked again");
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_the_first_decision() {
    let stage = Stage::set(1);
    stage.api.script(|_| Answer::broken());
    let (_, pods) = decide(&stage, &gauge());
    let listing = tokio::spawn(async move { pods.list(&ListParams::default()).await });
    sleep(REFUSED).await;
    assert!(!listing.is_finished() && users(&stage).is_empty());
    stage.api.script(refusing(false, true));
    listing.await.unwrap().unwrap();
    assert_eq!(users(&stage), [Some("system:node:node-1".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn an_old_server_is_asked_as_the_own_account_until_it_can_do_more() {
    let stage = Stage::set(1);
    stage.api.script(refusing(true, false));
    let works = gauge();
    let (user, pods) = decide(&stage, &works);
    pods.list(&ListParams::default()).await.unwrap();
    assert_eq!((users(&stage), works.get()), (vec![None], 0));
    sleep(OWN_ACCOUNT).await;
    let asked = stage.api.asked().len();
    sleep(OWN_ACCOUNT / 2).await;
    assert!(
        stage.api.asked().len() - asked <= 2,
        "it is not asked again and again"
    );
    stage.api.script(refusing(false, false));
    sleep(OWN_ACCOUNT).await;
    assert!(user.get().await.unwrap().is_some());
    assert_eq!(works.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_server_that_has_not_read_its_roles_is_asked_again_soon() {
    let stage = Stage::set(1);
    stage.api.script(refusing(true, true));
    let (user, pods) = decide(&stage, &gauge());
    let error = pods.list(&ListParams::default()).await.unwrap_err();
    let said = error_chain::short(&error);
    for part in [ROLE, LEGACY_ROLE, "cannot impersonate"] {
        assert!(said.contains(part), "{said}");
    }
    sleep(Duration::from_secs(60)).await;
    stage.api.script(refusing(false, true));
    sleep(REFUSED).await;
    assert!(user.get().await.unwrap().is_some());
    pods.list(&ListParams::default()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_later_is_found_out_again() {
    let stage = Stage::set(1);
    stage.api.script(refusing(false, false));
    let works = gauge();
    let (user, pods) = decide(&stage, &works);
    pods.list(&ListParams::default()).await.unwrap();
    sleep(DOUBT).await;

    // The API server has just started.
    stage.api.script(refusing(true, true));
    pods.list(&ListParams::default()).await.unwrap_err();
    sleep(DOUBT * 2).await;
    assert!(user.get().await.unwrap().is_some(), "the decision stands");
    stage.api.script(refusing(false, false));
    pods.list(&ListParams::default()).await.unwrap();

    // An administrator has turned it off.
    stage.api.script(refusing(true, false));
    pods.list(&ListParams::default()).await.unwrap_err();
    sleep(DOUBT * 2).await;
    pods.list(&ListParams::default()).await.unwrap();
    assert!(user.get().await.unwrap().is_none());
    assert_eq!(works.get(), 0);
}
