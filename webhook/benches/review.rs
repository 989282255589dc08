//! How long it takes to read an AdmissionReview, of which the API server sends one for each interaction. Those under
//! `tests/reviews` are what an API server sent.

use std::{hint::black_box, time::Duration};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use curfew_webhook::review::{self, eviction};

macro_rules! captured {
    ($name:literal) => {
        include_str!(concat!("../tests/reviews/", $name, ".json"))
    };
}

/// `kubectl debug` of a pod whose annotations are as many as fit into it, before and after.
fn large() -> String {
    let more = format!(
        r#""annotations":{{"example.com/large":"{}","#,
        "x".repeat(250_000)
    );
    let large = captured!("debug").replace(r#""annotations":{"#, &more);
    assert!(large.len() > 500_000, "the pod has no annotations");
    large
}

fn read(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("read a review");
    let large = large();
    for (name, body) in [
        ("exec", captured!("exec")),
        ("attach", captured!("attach")),
        ("port-forward", captured!("portforward")),
        ("debug", captured!("debug")),
        ("debug, a large pod", &large),
    ] {
        let fit = review::read(body.as_bytes()).is_ok_and(|review| review.request.is_ok());
        assert!(fit, "{name} is no review");
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function(BenchmarkId::from_parameter(name), |bencher| {
            bencher.iter(|| black_box(review::read(black_box(body.as_bytes()))));
        });
    }
    let body = captured!("eviction");
    assert!(eviction::read(body.as_bytes()).is_ok_and(|review| review.request.is_ok()));
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("eviction", |bencher| {
        bencher.iter(|| black_box(eviction::read(black_box(body.as_bytes()))));
    });
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2));
    targets = read
}
criterion_main!(benches);
