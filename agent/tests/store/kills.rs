//! The agent is killed while it opens its store and while it writes to it.

use std::{
    collections::BTreeSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crate::process::{Agent, Host, notice};

/// How many notices are on their way at a time.
const CLIENTS: usize = 4;

/// Pods that interactions are spread over: several of one pod share a record, of which only the latest
/// sixteen are kept.
const MAX_OF_A_POD: u32 = 10;

/// What the agent has acknowledged: the pod's UID and the request.
type Acknowledged = BTreeSet<(String, String)>;

fn kills() -> u32 {
    std::env::var("CURFEW_KILLS").map_or(60, |text| text.parse().unwrap())
}

#[test]
fn nothing_acknowledged_is_lost_with_a_fixed_seed() {
    torture(7);
}

#[test]
fn nothing_acknowledged_is_lost_with_any_seed() {
    let seed = std::env::var("CURFEW_SEED")
        .map_or_else(|_| fastrand::u64(..), |text| text.parse().unwrap());
    torture(seed);
}

fn torture(seed: u64) {
    println!("seed {seed}: CURFEW_SEED={seed} repeats this run");
    let mut random = fastrand::Rng::with_seed(seed);
    let folder = tempfile::tempdir().unwrap();
    let host = Host::new(folder.path(), &folder.path().join("store"));
    let mut acknowledged = Acknowledged::new();
    let (mut starting, mut writing) = (0, 0);
    for round in 0..kills() {
        let agent = host.start(None);
        if random.bool() {
            // Somewhere in its start: opening takes a few milliseconds.
            thread::sleep(Duration::from_micros(random.u64(0..40_000)));
            starting += 1;
        } else {
            check(&agent, &acknowledged, seed, round);
            write_for(&agent, random.u64(0..60_000), round, &mut acknowledged);
            writing += 1;
        }
        agent.kill();
    }
    let agent = host.start(None);
    check(&agent, &acknowledged, seed, kills());
    println!(
        "seed {seed}: {starting} kills while starting, {writing} while writing, \
         {} acknowledged, 0 missing",
        acknowledged.len()
    );
    assert!(
        kills() < 20 || acknowledged.len() as u32 > writing,
        "it was never really written to"
    );
}

/// Sends notices from several clients at once, and kills the agent's last moments with them in flight.
fn write_for(agent: &Agent<'_>, micros: u64, round: u32, acknowledged: &mut Acknowledged) {
    let until = Instant::now() + Duration::from_micros(micros);
    let over = AtomicBool::new(false);
    let told = Mutex::new(acknowledged);
    thread::scope(|scope| {
        for client in 0..CLIENTS {
            let (over, told) = (&over, &told);
            scope.spawn(move || {
                for n in 0.. {
                    if over.load(Ordering::Relaxed) || Instant::now() > until {
                        break;
                    }
                    let uid = format!("{round}-{client}-{}", n / MAX_OF_A_POD);
                    let request = format!("{uid}-{n}");
                    match agent.tell(&notice(&uid, &request)) {
                        Some(Ok(_)) => {
                            told.lock().unwrap().insert((uid, request));
                        }
                        Some(Err(refusal)) => panic!("refused: {refusal:?}"),
                        None => over.store(true, Ordering::Relaxed),
                    }
                }
            });
        }
    });
}

fn check(agent: &Agent<'_>, acknowledged: &Acknowledged, seed: u64, round: u32) {
    let holdings = agent.holdings();
    assert!(
        holdings.open,
        "seed {seed}, round {round}: the store is not open"
    );
    assert!(
        holdings.set_aside.is_empty(),
        "seed {seed}, round {round}: {:?}",
        holdings.set_aside
    );
    let held: Acknowledged = holdings
        .records
        .iter()
        .flat_map(|record| {
            record
                .deeds()
                .map(|known| (record.pod.uid.clone(), known.interaction.request.clone()))
        })
        .collect();
    let missing: Vec<_> = acknowledged.difference(&held).collect();
    assert!(
        missing.is_empty(),
        "seed {seed}, round {round}: missing {missing:?}"
    );
}
