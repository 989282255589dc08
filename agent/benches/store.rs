//! How many records the store writes in a second, by how many share a sync; how many bytes one takes on disk; and how
//! long it takes to open a store again. All of it depends on the disk below `target`.

#![allow(clippy::print_stdout, reason = "it reports what it measured")]

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use curfew_agent::store::{Batch, Store, encode};
use curfew_agent_state::testing::{record, shell};
use tempfile::TempDir;

/// How many records are written at once where it is not about that.
const PART: usize = 500;

fn measured() -> bool {
    std::env::args().any(|argument| argument == "--bench")
}

/// A folder on a real disk, which the folder for temporary files may not be.
fn folder() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
    let path = folder.path().join("records");
    (folder, path)
}

fn open(path: &Path, records: usize) -> Store {
    let (store, contents) = Store::open(path).expect("a store");
    assert_eq!(contents.records.len(), records, "not all records are there");
    store
}

/// The records of these pods.
fn batch(numbers: std::ops::Range<usize>) -> Batch {
    let of = |number: usize| {
        let uid = format!("{number:036}");
        let record = record(&uid, shell(0));
        (uid, Some(record))
    };
    numbers.map(of).collect()
}

fn fill(store: &Store, records: usize) {
    for from in (0..records).step_by(PART) {
        let part = batch(from..(from + PART).min(records));
        store.commit(&part).expect("a write");
    }
}

fn commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("store, commit");
    for size in [1, 10, 100, 1000] {
        let (_folder, path) = folder();
        let store = open(&path, 0);
        let batch = batch(0..size);
        group.throughput(Throughput::Elements(size as u64));
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| store.commit(&batch).expect("a write"));
        });
    }
    group.finish();
}

fn reopen(criterion: &mut Criterion) {
    let sizes: &[usize] = match measured() {
        true => &[250, 10_000, 100_000],
        false => &[250],
    };
    let mut group = criterion.benchmark_group("store, open again");
    group.sample_size(10);
    for &records in sizes {
        let (_folder, path) = folder();
        let store = open(&path, 0);
        fill(&store, records);
        let on_disk = store.size().expect("a size");
        let value = encode(&record(&format!("{:036}", 0), shell(0))).expect("a value");
        println!(
            "store of {records} records: {} bytes on disk for each, of which the value has {}",
            on_disk / records as u64,
            value.len()
        );
        drop(store);
        group.bench_function(BenchmarkId::from_parameter(records), |bencher| {
            bencher.iter_custom(|times| {
                let mut took = Duration::ZERO;
                for _ in 0..times {
                    let began = Instant::now();
                    let store = open(&path, records);
                    took += began.elapsed();
                    drop(store);
                    // sled's threads keep the lock for a moment, and opening would wait for it.
                    std::thread::sleep(Duration::from_millis(50));
                }
                took
            });
        });
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = commit, reopen
}
criterion_main!(benches);
