//! People who reach into pods.

use std::{
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use anyhow::Result;
use fastrand::Rng;
use futures::future::try_join_all;
use jiff::Timestamp;
use tokio::{
    sync::Mutex,
    time::{Interval, MissedTickBehavior, interval, sleep},
};

use super::{
    Settings,
    book::{Attempt, Book},
    plan::SLOTS,
    world,
};
use crate::Namespace;

const CLIENTS: u64 = 6;
/// All together: no more than ten a second.
const PACE: Duration = Duration::from_millis(110);

/// Reaches into pods until all was killed and enough was admitted.
pub(super) async fn work(
    namespace: &Namespace,
    settings: &Settings,
    book: &Book,
    killed: &AtomicBool,
) -> Result<()> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (pace, numbers) = (Mutex::new(pace), AtomicUsize::new(0));
    let enough = || killed.load(Ordering::Relaxed) && book.admitted() >= settings.execs;
    let client = |client: u64| {
        let random = Rng::with_seed(settings.seed.wrapping_add(client + 1));
        one(namespace, book, random, &pace, &numbers, &enough)
    };
    try_join_all((0..CLIENTS).map(client)).await.map(drop)
}

async fn one(
    namespace: &Namespace,
    book: &Book,
    mut random: Rng,
    pace: &Mutex<Interval>,
    numbers: &AtomicUsize,
    enough: &impl Fn() -> bool,
) -> Result<()> {
    while !enough() {
        pace.lock().await.tick().await;
        let Some(pod) = choose(book, &mut random) else {
            sleep(PACE).await;
            continue;
        };
        // Each exec runs another command: a repetition within two seconds would not count.
        let number = format!("exec-{}", numbers.fetch_add(1, Ordering::Relaxed));
        let script = format!("echo \"${}\"", world::UID);
        let began = Timestamp::now();
        let said = namespace
            .kubectl
            .run(&["exec", &pod, "--", "sh", "-c", &script, &number])
            .await;
        let ended = Timestamp::now();
        // One that did not end in time may have been let through or not.
        let (code, stdout) = said.map_or((None, String::new()), |said| (said.code, said.stdout));
        let reached = Some(stdout.trim().to_owned()).filter(|uid| !uid.is_empty());
        book.open().attempts.push(Attempt {
            pod,
            began,
            ended,
            code,
            reached,
        });
    }
    Ok(())
}

/// The name of a pod that runs: of the one that was picked, or of the next.
fn choose(book: &Book, random: &mut Rng) -> Option<String> {
    let first = random.usize(0..SLOTS);
    let pages = book.open();
    (0..SLOTS)
        .map(|next| world::name((first + next) % SLOTS))
        .find(|name| pages.current(name).is_some_and(|(_, life)| life.ready))
}
