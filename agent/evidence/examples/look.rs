//! Prints what is seen of the containers of this node: `look [SECONDS] [PROC]`.
//!
//! It takes each container that it finds for a pod of its own, and looks at what changed in the last SECONDS (600).
//! Run it as root on a node.

use std::{
    collections::BTreeMap,
    io::{self, Write},
    path::Path,
    time::{Duration, Instant},
};

use curfew_evidence::{ContainerFacts, Evidence, Mode, PodFacts};
use jiff::{SignedDuration, Timestamp};

/// How many scans are timed.
const SCANS: u32 = 20;

fn main() -> io::Result<()> {
    let mut out = io::stdout().lock();
    let mut arguments = std::env::args().skip(1);
    let seconds = arguments
        .next()
        .and_then(|text| text.parse().ok())
        .unwrap_or(600);
    let proc = arguments.next().unwrap_or_else(|| "/proc".to_owned());
    let since = Timestamp::now() - SignedDuration::from_secs(seconds);
    let (mut evidence, limitations) = Evidence::new(Path::new(&proc), Mode::Files);
    for limitation in limitations {
        writeln!(out, "limitation: {limitation}")?;
    }
    let begin = Instant::now();
    evidence.scan(Timestamp::now());
    writeln!(out, "the first scan took {:?}", begin.elapsed())?;
    let containers: BTreeMap<String, String> = evidence.containers().into_iter().collect();
    for (id, pod) in &containers {
        evidence.pod(PodFacts {
            uid: id.clone(),
            containers: vec![ContainerFacts {
                name: pod.clone(),
                id: id.clone(),
                ephemeral: false,
            }],
            probes: Vec::new(),
            complete: true,
        });
    }
    let begin = Instant::now();
    let mut sightings = Vec::new();
    let mut spent = Duration::ZERO;
    for _ in 0..SCANS {
        let scan = Instant::now();
        sightings.extend(evidence.scan(Timestamp::now()));
        spent += scan.elapsed();
        std::thread::sleep(Duration::from_millis(250));
    }
    let each = spent / SCANS;
    writeln!(
        out,
        "a scan took {each:?}, {} sessions, {:?} in all",
        evidence.sessions(),
        begin.elapsed()
    )?;
    for sighting in sightings {
        writeln!(out, "{sighting:?}")?;
    }
    for (id, pod) in &containers {
        let begin = Instant::now();
        let drift = evidence.look(id, since, Timestamp::now());
        writeln!(
            out,
            "\npod {pod} container {id}: {} ({:?})",
            drift.summary(),
            begin.elapsed()
        )?;
        for text in drift.findings.iter().chain(&drift.unseen) {
            writeln!(out, "  {text}")?;
        }
    }
    Ok(())
}
