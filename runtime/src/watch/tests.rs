//! Watches of an API server that does as it is told, on a paused clock.

mod server;

use std::pin::Pin;

use curfew_api_server::{Answer, StreamEnd, bookmark, end_of_list, event, failure};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::ResourceExt;
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use self::server::{Server, alive, lines, listing, map};
use super::*;

/// A watch of that server, whose events somebody reads.
struct Reader {
    server: Server,
    watches: Watches,
    watch: Watch,
    events: Pin<Box<dyn Stream<Item = Result<Event<ConfigMap>>> + Send>>,
}

impl Reader {
    fn of(server: Server) -> Self {
        let mut catalog = Catalog::default();
        let watches = Watches::new("test", &["maps", "others"], &mut catalog).unwrap();
        let watch = watches.open("maps");
        let events = watch.events(server.maps(&watches), ListParams::default());
        Self {
            server,
            watches,
            watch,
            events: Box::pin(events),
        }
    }

    async fn next(&mut self) -> String {
        let event = self.events.next().await.unwrap();
        let shown = |map: ConfigMap| {
            let version = map.resource_version().unwrap();
            format!("{}@{version}", map.name_any())
        };
        match event {
            Ok(Event::Init) => "begin".to_owned(),
            Ok(Event::InitApply(map)) => format!("has {}", shown(map)),
            Ok(Event::InitDone) => "complete".to_owned(),
            Ok(Event::Apply(map)) => format!("now {}", shown(map)),
            Ok(Event::Delete(map)) => format!("gone {}", shown(map)),
            Err(error) => format!("error {}", crate::error_chain::watch(&error)),
        }
    }

    /// The next so many events.
    async fn take(&mut self, events: usize) -> Vec<String> {
        let mut all = Vec::new();
        for _ in 0..events {
            all.push(self.next().await);
        }
        all
    }

    /// Reads on until the list is complete and taken.
    async fn until_live(&mut self) {
        while !self.watch.is_live() {
            let _ = timeout(Duration::from_millis(1), self.next()).await;
        }
    }

    /// Reads on in the background.
    fn read_on(mut self) -> (Server, Watches, Watch) {
        let told = (
            self.server.clone(),
            self.watches.clone(),
            self.watch.clone(),
        );
        tokio::spawn(async move {
            loop {
                self.next().await;
            }
        });
        told
    }

    fn age(&self) -> i64 {
        self.watches.show();
        self.watches.0.age.with_label_values(&["maps"]).get()
    }

    fn resynced(&self) -> u64 {
        self.watch.resynced.get()
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_connection_is_followed_by_a_list_whatever_its_revisions_are() {
    // etcd was restored from a backup: all revisions are lower, and what was made since is gone.
    let before = listing(
        &[("kept", "5000"), ("removed", "5001")],
        vec![(1000, event("MODIFIED", &map("kept", "5002")))],
        StreamEnd::Breaks,
    );
    let restored = listing(
        &[("kept", "900")],
        vec![(10, event("ADDED", &map("new", "901")))],
        StreamEnd::StaysOpen,
    );
    let mut reader = Reader::of(Server::new(vec![before], restored));
    let events = reader.take(6).await;
    assert_eq!(
        events[..5],
        [
            "begin",
            "has kept@5000",
            "has removed@5001",
            "complete",
            "now kept@5002"
        ]
    );
    assert!(events[5].starts_with("error"), "{events:?}");
    assert!(!reader.watch.is_live());
    assert_eq!(
        reader.take(4).await,
        ["begin", "has kept@900", "complete", "now new@901"]
    );
    assert!(reader.watch.is_live());
    assert_eq!(reader.resynced(), 2, "one differs, one is gone");
    let asked = reader.server.asked();
    assert!(asked[1] - asked[0] < 2.1, "{asked:?}");
    for query in reader.server.queries() {
        assert!(query.contains("sendInitialEvents=true"), "{query}");
        assert!(
            query.contains("resourceVersion=&") || query.ends_with("resourceVersion="),
            "{query}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_expired_revision_is_followed_by_a_list_at_once() {
    let expires = || {
        let error = event("ERROR", &failure(410, "scripted"));
        listing(&[], vec![(20_000, error)], StreamEnd::Closes)
    };
    let at_once = lines(
        vec![(0, event("ERROR", &failure(410, "scripted")))],
        StreamEnd::Closes,
    );
    let mut reader = Reader::of(Server::new(
        vec![expires(), expires(), at_once.clone(), at_once],
        alive(&[]),
    ));
    reader.take(6).await;
    let asked = reader.server.asked();
    assert!(asked[1] - asked[0] < 20.01, "{asked:?}");
    // But not again and again.
    reader.take(9).await;
    let asked = reader.server.asked();
    assert!(asked[2] - asked[1] < 20.01, "{asked:?}");
    assert!(asked[4] - asked[3] >= 0.5, "{asked:?}");
}

#[tokio::test(start_paused = true)]
async fn a_silent_watch_is_given_up_and_one_with_bookmarks_is_listed_anew_after_some_minutes() {
    let mut reader = Reader::of(Server::new(
        vec![listing(&[("a", "1")], Vec::new(), StreamEnd::StaysOpen)],
        alive(&[("a", "1")]),
    ));
    let events = reader.take(4).await;
    assert!(
        events[3].contains("neither an event nor a bookmark"),
        "{events:?}"
    );
    let silent = Instant::now();
    assert_eq!(reader.age(), 180);
    assert_eq!(reader.take(3).await, ["begin", "has a@1", "complete"]);
    assert_eq!(reader.take(3).await, ["begin", "has a@1", "complete"]);
    let seconds = silent.elapsed().as_secs();
    assert!((180..=301).contains(&seconds), "{seconds}");
    assert_eq!(reader.resynced(), 0, "nothing differs");
    assert_eq!(
        reader.watches.0.errors.with_label_values(&["maps"]).get(),
        1
    );
    assert_eq!(reader.age(), 0);
}

#[tokio::test(start_paused = true)]
async fn while_the_server_is_away_pauses_end_after_seconds() {
    let (server, _, watch) = Reader::of(Server::new(Vec::new(), Answer::broken())).read_on();
    sleep(Duration::from_secs(90)).await;
    server.then(alive(&[]));
    let back = Instant::now();
    while !watch.is_live() {
        sleep(Duration::from_millis(10)).await;
    }
    assert!(
        back.elapsed() <= Duration::from_millis(5050),
        "{:?}",
        back.elapsed()
    );
    let asked = server.asked().len();
    assert!((18..=45).contains(&asked), "{asked}");
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_to_another_call_ends_the_pauses_of_all_watches() {
    let server = Server::new(Vec::new(), Answer::broken());
    let reader = Reader::of(server.clone());
    let watches = reader.watches.clone();
    let others: Vec<_> = (0..5).map(|_| watches.open("others")).collect();
    for watch in &others {
        let mut events = Box::pin(watch.events(server.maps(&watches), ListParams::default()));
        tokio::spawn(async move { while events.next().await.is_some() {} });
    }
    reader.read_on();
    for round in 0..20 {
        server.then(Answer::broken());
        // Whatever is open now breaks with the next list.
        sleep(Duration::from_secs(400 + round)).await;
        assert!(others.iter().all(|watch| !watch.is_live()));
        server.then(alive(&[]));
        watches.reach().failed();
        watches.reach().answered();
        sleep(Duration::from_millis(550)).await;
        assert!(others.iter().all(Watch::is_live), "{round}");
    }
}

/// As it is with resources that a definition defines: they are served a moment after all others.
#[tokio::test(start_paused = true)]
async fn a_server_that_is_back_and_does_not_serve_this_yet_is_asked_again_soon() {
    let server = Server::new(Vec::new(), Answer::broken());
    let (_, watches, watch) = Reader::of(server.clone()).read_on();
    for round in 0..20 {
        server.then(Answer::broken());
        sleep(Duration::from_secs(400 + round)).await;
        assert!(!watch.is_live());
        server.then(Answer::status(403, "scripted"));
        watches.reach().failed();
        watches.reach().answered();
        sleep(Duration::from_millis(550)).await;
        server.then(alive(&[]));
        // The third pause is of two seconds at the most, and there can be no fourth by now.
        sleep(Duration::from_millis(2050)).await;
        assert!(watch.is_live(), "{round}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_hangs_is_given_up_once_the_server_answers_another_call() {
    let server = Server::new(vec![Answer::never()], alive(&[]));
    let (_, watches, watch) = Reader::of(server).read_on();
    sleep(Duration::from_secs(5)).await;
    watches.reach().failed();
    watches.reach().answered();
    sleep(Duration::from_millis(1100)).await;
    assert!(watch.is_live());
}

#[tokio::test(start_paused = true)]
async fn a_server_that_does_not_stream_lists_is_asked_for_pages() {
    let page = |names: &[&str], next: &str| {
        let items: Vec<_> = names.iter().map(|name| map(name, "7")).collect();
        let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "items": items,
            "metadata": {"resourceVersion": "70", "continue": next}});
        Answer::json(200, &list)
    };
    let changes = lines(
        vec![
            (5, event("MODIFIED", &map("b", "8"))),
            (5, event("DELETED", &map("a", "9"))),
        ],
        StreamEnd::Breaks,
    );
    let replies = vec![
        Answer::status(422, "scripted"),
        page(&["a"], "next"),
        page(&["b"], ""),
        changes,
    ];
    let mut reader = Reader::of(Server::new(replies, page(&["b"], "")));
    assert_eq!(
        reader.take(6).await,
        [
            "begin", "has a@7", "has b@7", "complete", "now b@8", "gone a@9"
        ]
    );
    let queries = reader.server.queries();
    assert!(queries[2].contains("continue=next"), "{queries:?}");
    assert!(queries[3].contains("resourceVersion=70"), "{queries:?}");
    assert!(!queries[3].contains("sendInitialEvents"), "{queries:?}");
    assert!(reader.next().await.starts_with("error"));
    assert_eq!(reader.take(2).await, ["begin", "has b@7"]);
    assert!(
        !reader.server.queries()[4].contains("watch="),
        "it lists again"
    );
}

#[tokio::test(start_paused = true)]
async fn an_object_that_cannot_be_read_does_not_hide_the_others() {
    let all = vec![
        (0, event("ADDED", &map("a", "1"))),
        (0, event("ADDED", &json!({"metadata": {"name": 3}}))),
        (0, event("ADDED", &map("b", "2"))),
        (0, end_of_list(3)),
        (0, event("MODIFIED", &json!({"metadata": {"name": 3}}))),
        (0, event("MODIFIED", &map("b", "4"))),
    ];
    let mut reader = Reader::of(Server::new(Vec::new(), lines(all, StreamEnd::StaysOpen)));
    let events = reader.take(7).await;
    let told: Vec<_> = events
        .iter()
        .filter(|event| !event.starts_with("error"))
        .collect();
    assert_eq!(told, ["begin", "has a@1", "has b@2", "complete", "now b@4"]);
    assert_eq!(reader.server.asked().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn who_relies_on_a_watch_has_it_list_at_once_and_all_wait_for_the_same_list() {
    let mut reader = Reader::of(Server::new(vec![alive(&[])], Answer::broken()));
    reader.until_live().await;
    assert!(reader.watch.revive(Duration::ZERO).await);
    // The next list fails, and those after it, until the server is back.
    let (server, _, watch) = reader.read_on();
    sleep(Duration::from_secs(400)).await;
    assert!(!watch.is_live());
    server.then(alive(&[]));
    let before = server.asked().len();
    let begun = Instant::now();
    let waiting = (0..50).map(|_| watch.revive(Duration::from_millis(200)));
    let revived = futures::future::join_all(waiting).await;
    assert!(revived.into_iter().all(|revived| revived));
    assert!(
        begun.elapsed() < Duration::from_millis(100),
        "{:?}",
        begun.elapsed()
    );
    assert_eq!(server.asked().len(), before + 1);
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_watch_longer_than_is_said() {
    let within = Duration::from_millis(200);
    for (reply, most) in [
        (Answer::never(), within),
        (Answer::broken(), within),
        // Where the kind is not defined there is nothing to wait for.
        (Answer::status(404, "scripted"), Duration::from_millis(60)),
    ] {
        let (server, _, watch) = Reader::of(Server::new(Vec::new(), reply)).read_on();
        sleep(Duration::from_secs(60)).await;
        let asked = server.asked().len();
        let begun = Instant::now();
        assert!(!watch.revive(within).await);
        assert!(
            begun.elapsed() <= most + Duration::from_millis(2),
            "{:?}",
            begun.elapsed()
        );
        assert!(server.asked().len() <= asked + 5, "{:?}", server.asked());
    }
    // Nor for one whose events nobody reads.
    let reader = Reader::of(Server::new(Vec::new(), alive(&[])));
    let watch = reader.watch.clone();
    drop(reader);
    let begun = Instant::now();
    assert!(!watch.revive(within).await);
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn the_age_is_that_of_the_last_proof_and_of_what_is_open() {
    let mut reader = Reader::of(Server::new(Vec::new(), Answer::broken()));
    let other = reader.watches.open("maps");
    sleep(Duration::from_secs(70)).await;
    assert_eq!(reader.age(), 70);
    reader.server.then(alive(&[]));
    reader.until_live().await;
    assert!(reader.age() >= 70, "the other has shown nothing");
    drop(other);
    assert_eq!(reader.age(), 0);
    let none = reader.watches.0.age.with_label_values(&["others"]);
    assert_eq!(none.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn one_object_is_told_again_with_each_list() {
    let server = Server::new(
        vec![
            listing(
                &[],
                vec![(5, event("ADDED", &map("a", "1")))],
                StreamEnd::Breaks,
            ),
            listing(
                &[("a", "1")],
                vec![(5, event("DELETED", &map("a", "2")))],
                StreamEnd::Breaks,
            ),
        ],
        alive(&[]),
    );
    let reader = Reader::of(server.clone());
    let one = reader.watch.object(server.maps(&reader.watches), "a");
    let told = one.filter_map(async |told| Some(told.ok()?.map(|map: ConfigMap| map.name_any())));
    let told: Vec<_> = told.take(5).collect().await;
    let a = || Some("a".to_owned());
    assert_eq!(told, [None, a(), a(), None, None]);
    assert!(server.queries()[0].contains("fieldSelector=metadata.name%3Da"));
}
