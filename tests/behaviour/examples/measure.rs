//! Measures what a decision costs, and how much memory profiles take: `cargo run --release --example measure`.
#![allow(clippy::print_stdout)]

use std::{hash::RandomState, hint::black_box, time::Instant};

use anyhow::Context;
use curfew_behaviour::{at, features, full_profile, workloads};
use curfew_core::behaviour::{
    Criterion, IndexBuilder, Learner, MAX_ALLOWED, MAX_VALUES, ProfileIndex, ProfileSpec,
    Retention, Thresholds, decide,
};
use jiff::Timestamp;

/// How many profiles are held at the same time.
const PROFILES: usize = 500;
/// How often each measurement is repeated.
const ROUNDS: usize = 2_000;

fn main() -> anyhow::Result<()> {
    let full = full_profile()?;
    let text = serde_json::to_string(&full)?;
    println!(
        "a profile of {} criteria: {} KiB of JSON",
        full.learned.len(),
        text.len() / 1024
    );
    let before = resident()?;
    let spec = ProfileSpec::default();
    let mut indexes = Vec::new();
    for _ in 0..PROFILES {
        indexes.push(ProfileIndex::new(
            &spec,
            &full,
            Timestamp::MIN,
            RandomState::new(),
        ));
    }
    let heap: usize = indexes.iter().map(ProfileIndex::heap_size).sum();
    let after = resident()?;
    println!(
        "{PROFILES} such profiles in memory: {:.1} MiB of hashes, {:.1} MiB more resident",
        mebi(heap),
        mebi(after.saturating_sub(before))
    );
    time("build one index", 200, || {
        let mut builder = IndexBuilder::new(RandomState::new());
        full.learned
            .iter()
            .for_each(|learned| builder.add(&learned.criterion));
        black_box(builder.build(&spec, &full));
    });
    let now = at(24 * 60);
    let thresholds = Thresholds::default();
    let mut turn = 0;
    for (name, argv) in [
        ("usual, one program", vec!["program-3"]),
        ("new, one program", vec!["nc", "-l", "4444"]),
        (
            "a pipeline of eight",
            vec![
                "sh",
                "-c",
                "cat a|grep b|sort|uniq -c|sort -rn|head -n 5|tee /tmp/x|nc 10.0.0.1 80",
            ],
        ),
    ] {
        let argv: Vec<String> = argv.into_iter().map(str::to_owned).collect();
        time(&format!("read and decide: {name}"), ROUNDS, || {
            turn = (turn + 1) % PROFILES;
            let features = features("user-3", &argv, now);
            black_box(decide(
                &features,
                &indexes[turn],
                &thresholds,
                now,
                "deployment web",
            ));
        });
    }
    // The worst that was found: what is looked at is limited, so that more of it costs no more.
    for (name, piece) in [
        ("substitutions", "$(a "),
        ("backquotes", "`a`"),
        ("commands", "a;"),
        ("one word", "a"),
        ("quotes", "'a'\"b\""),
    ] {
        let script = piece.repeat(1_000_000 / piece.len());
        let argv = ["sh", "-c", script.as_str()].map(str::to_owned);
        time(&format!("read and decide 1 MB of {name}"), 200, || {
            let features = features("user-3", &argv, now);
            black_box(decide(
                &features,
                &indexes[0],
                &thresholds,
                now,
                "deployment web",
            ));
        });
    }
    let names = |field: usize| {
        (0..MAX_VALUES / MAX_ALLOWED)
            .map(|at| format!("nobody-{field}-{at}"))
            .collect()
    };
    let criteria = (0..MAX_ALLOWED).map(|field| Criterion {
        programs: names(field),
        ..Criterion::default()
    });
    let written = ProfileSpec {
        allowed: criteria.collect(),
        ..ProfileSpec::default()
    };
    let written = ProfileIndex::new(&written, &full, Timestamp::MIN, RandomState::new());
    let script = (0..16)
        .map(|at| {
            format!("new-{at} -l 7 w /x /tmp/x /etc/x http://x/ https://x.y/ 'a b' A=b 1.1.1.1")
        })
        .collect::<Vec<_>>();
    let argv = ["sh".to_owned(), "-c".to_owned(), script.join("|")];
    time(
        "read and decide sixteen new programs, with the most criteria that people can write",
        200,
        || {
            let features = features("user-3", &argv, now);
            black_box(decide(
                &features,
                &written,
                &thresholds,
                now,
                "deployment web",
            ));
        },
    );
    let mut learner = Learner::new("one");
    time("merge one delta", 50, || {
        let mut status = full.clone();
        learner
            .gathered()
            .learn(&features("user-3", &["ls".to_owned()], now), now);
        if let Some(delta) = learner.next_delta() {
            black_box(status.merge(delta, &Retention::default(), now));
        }
        learner.written();
    });
    let sizes = workloads()?.into_iter().map(|workload| {
        let status = curfew_behaviour::learn(&workload, &thresholds);
        format!("{} {}", workload.name, status.learned.len())
    });
    println!(
        "criteria of the workloads of the set: {}",
        sizes.collect::<Vec<_>>().join(", ")
    );
    Ok(())
}

/// The median and the slowest of a hundred.
fn time(what: &str, rounds: usize, mut run: impl FnMut()) {
    let mut taken: Vec<_> = (0..rounds)
        .map(|_| {
            let begin = Instant::now();
            run();
            begin.elapsed()
        })
        .collect();
    taken.sort();
    let (median, slow) = (taken[rounds / 2], taken[rounds * 99 / 100]);
    println!("{what}: {median:.1?} (99 %: {slow:.1?})");
}

/// The resident memory of this process, in bytes.
fn resident() -> anyhow::Result<usize> {
    let statm = std::fs::read_to_string("/proc/self/statm")?;
    let pages: usize = statm.split(' ').nth(1).context("statm")?.parse()?;
    Ok(pages * 4096)
}

fn mebi(bytes: usize) -> f64 {
    let kibi = u32::try_from(bytes / 1024).unwrap_or(u32::MAX);
    f64::from(kibi) / 1024.0
}
