//! The agent is killed while it opens its store and while it writes to it.

use std::{
    fmt,
    fs::{self, File},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;

use crate::{
    api::ApiServer,
    books::Books,
    process::{Agent, Host},
};

/// How many notices are on their way at a time.
const CLIENTS: usize = 4;

/// For how long they are sent at most.
const WRITING: Duration = Duration::from_millis(60);

/// The most kills that a store lives through, as a power of two: stores of all ages are killed, down to
/// those that are just being created.
const OLDEST: u32 = 8;

/// How many kills are still near enough to hit every phase.
const MANY: u32 = 50;

/// A number from the environment.
fn setting<T: FromStr<Err: fmt::Debug>>(name: &str, default: T) -> T {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

fn kills() -> u32 {
    setting("CURFEW_KILLS", 120)
}

#[test]
fn nothing_acknowledged_is_lost() {
    torture(setting("CURFEW_SEED", 7));
}

fn torture(seed: u64) {
    println!("seed {seed}: CURFEW_SEED={seed} repeats this run");
    let begun = Instant::now();
    let mut torturer = Torturer {
        random: Rng::with_seed(seed),
        api: ApiServer::start(),
        opening: Duration::from_millis(5),
        tally: Tally::default(),
    };
    while torturer.tally.kills() < kills() {
        let left = kills() - torturer.tally.kills();
        let rounds = left.min(1 << torturer.random.u32(0..=OLDEST));
        let folder = tempfile::tempdir().unwrap();
        if let Err(why) = torturer.torture_a_store(folder.path(), rounds) {
            let kept = folder.keep();
            panic!(
                "seed {seed}, after {} kills of store {}: {why}",
                torturer.tally.kills(),
                kept.display()
            );
        }
    }
    let tally = torturer.tally;
    println!("seed {seed}: {tally} in {:?}", begun.elapsed());
    assert!(
        tally.kills() < MANY || (tally.opening > 0 && tally.writing > 0),
        "it was not killed where it was to be"
    );
}

/// Where kills struck, and what came of it. The first record that is missing, and the first store that needs a
/// person, ends the run.
#[derive(Default)]
struct Tally {
    /// While a store was created.
    creating: u32,
    /// While one was opened that was there before.
    opening: u32,
    /// Both of them: with a snapshot that was begun and not finished.
    snapshot: u32,
    /// After it was open, with nothing to write but the ends of pods.
    open: u32,
    /// With notices that were sent and not answered.
    writing: u32,
    stores: u32,
    moved_aside: usize,
    acknowledged: usize,
    unanswered: usize,
    dropped: usize,
}

impl Tally {
    fn kills(&self) -> u32 {
        self.creating + self.opening + self.open + self.writing
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let share = |part: u32| format!("{part} ({} %)", part * 100 / self.kills().max(1));
        write!(
            f,
            "{} kills of {} stores: {} while creating, {} while opening, {} of both with half a \
             snapshot, {} once open, {} while writing; {} acknowledged, {} written and not answered, {} dropped \
             with their pods, {} stores moved aside",
            self.kills(),
            self.stores,
            share(self.creating),
            share(self.opening),
            self.snapshot,
            share(self.open),
            share(self.writing),
            self.acknowledged,
            self.unanswered,
            self.dropped,
            self.moved_aside,
        )
    }
}

struct Torturer {
    random: Rng,
    api: ApiServer,
    /// How long agents take to open their store, lately.
    opening: Duration,
    tally: Tally,
}

impl Torturer {
    /// Kills agents of one store, so many times.
    fn torture_a_store(&mut self, folder: &Path, rounds: u32) -> Result<(), String> {
        let host = Host::new(folder, &folder.join("store"), &self.api);
        let books = Mutex::new(Books::default());
        let mut was_open = false;
        let mut randoms = self.random.fork();
        for round in 0..rounds {
            // One for each round: how much it is asked for hangs on time, and would change all later rounds.
            let mut random = randoms.fork();
            let agent = host.start(None);
            // The first kill is in its creation.
            let in_flight = if round == 0 || random.bool() {
                self.kill_while_starting(&agent, random.f64());
                false
            } else {
                self.kill_while_writing(&agent, &books, &mut random)?
            };
            let opening = host.opening();
            self.opening = match opening {
                Some(latest) => (self.opening + latest) / 2,
                // It takes longer: where the machine is slow, or a store is created.
                None => self.opening.mul_f64(1.05),
            };
            let struck = match (in_flight, opening, was_open) {
                (true, ..) => &mut self.tally.writing,
                (false, Some(_), _) => &mut self.tally.open,
                (false, None, true) => &mut self.tally.opening,
                (false, None, false) => &mut self.tally.creating,
            };
            *struck += 1;
            was_open |= opening.is_some();
            self.tally.snapshot += u32::from(cut_half_snapshots(&host.store, &mut random));
        }
        let agent = host.start(None);
        let to_be_dropped = self.check(&agent, &books, &mut randoms)?;
        agent.kill();
        let books = books.into_inner().unwrap();
        let (acknowledged, unanswered) = books.count();
        self.tally.stores += 1;
        self.tally.acknowledged += acknowledged;
        self.tally.unanswered += unanswered;
        self.tally.dropped += books.ended().len() - to_be_dropped;
        self.tally.moved_aside += names(&host.store, ".broken-").len();
        Ok(())
    }

    /// Kills it somewhere in the opening of its store, and now and then a little later.
    fn kill_while_starting(&self, agent: &Agent<'_>, at: f64) {
        agent.wait_for_first_line();
        thread::sleep(self.opening.mul_f64(at * 1.25));
        agent.kill();
    }

    /// Checks what it has, sends it notices from several clients at once, and kills it with them on their
    /// way. Returns whether any was.
    fn kill_while_writing(
        &self,
        agent: &Agent<'_>,
        books: &Mutex<Books>,
        random: &mut Rng,
    ) -> Result<bool, String> {
        self.check(agent, books, random)?;
        agent.wait_until_it_takes_notices();
        let killed = AtomicBool::new(false);
        thread::scope(|scope| {
            let clients = [(); CLIENTS].map(|()| {
                let (random, killed) = (random.fork(), &killed);
                scope.spawn(move || send(agent, books, random, killed))
            });
            thread::sleep(WRITING.mul_f64(random.f64()));
            killed.store(true, Ordering::SeqCst);
            agent.kill();
            let mut in_flight = false;
            for client in clients {
                in_flight |= client.join().unwrap()?;
            }
            Ok(in_flight)
        })
    }

    /// Compares all that is to be there, and lets some pods end. Returns how many have and still have a
    /// record.
    fn check(
        &self,
        agent: &Agent<'_>,
        books: &Mutex<Books>,
        random: &mut Rng,
    ) -> Result<usize, String> {
        let holdings = agent.holdings();
        if !holdings.open || !holdings.set_aside.is_empty() {
            return Err(format!(
                "a person is needed: open is {}, set aside are {:?}; {}",
                holdings.open,
                holdings.set_aside,
                agent.log()
            ));
        }
        let mut books = books.lock().unwrap();
        books.compare(&holdings)?;
        books.end_some(random);
        let to_be_dropped = books.to_be_dropped(&holdings);
        // The agents to come look all their pods up when they are given a list, which takes a while.
        self.api.set(books.ended(), to_be_dropped > 0);
        Ok(to_be_dropped)
    }
}

/// Sends notices until the agent is killed. Returns whether one was on its way then.
fn send(
    agent: &Agent<'_>,
    books: &Mutex<Books>,
    mut random: Rng,
    killed: &AtomicBool,
) -> Result<bool, String> {
    loop {
        let notice = books.lock().unwrap().next(&mut random);
        let in_time = !killed.load(Ordering::SeqCst);
        match agent.tell(&notice) {
            Some(Ok(_)) => books.lock().unwrap().acknowledge(&notice),
            Some(Err(refusal)) => return Err(format!("refused: {refusal:?}; {}", agent.log())),
            None if killed.load(Ordering::SeqCst) => return Ok(in_time),
            None => return Err(format!("no answer though it lives; {}", agent.log())),
        }
    }
}

/// Cuts what sled was killed over while it wrote a snapshot, as if it had been killed a moment earlier:
/// nearly all of its time it waits for the sync of a file that is whole, and whole ones do no harm. Returns
/// whether there was any.
fn cut_half_snapshots(store: &Path, random: &mut Rng) -> bool {
    let mut any = false;
    for path in names(&store.join("records"), ".generating") {
        let file = File::options().write(true).open(path).unwrap();
        let length = file.metadata().unwrap().len();
        file.set_len(random.u64(0..=length)).unwrap();
        any = true;
    }
    any
}

/// What is in the folder under names with this part.
fn names(folder: &Path, part: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_name().to_string_lossy().contains(part))
        .map(|entry| entry.path())
        .collect()
}
