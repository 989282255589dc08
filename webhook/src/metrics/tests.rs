use std::collections::BTreeSet;

use curfew_runtime::metrics::series;
use strum::IntoEnumIterator;

use super::*;

impl Metrics {
    /// The sum of a counter over all its series with these labels.
    pub(crate) fn count(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.catalog
            .gather()
            .iter()
            .filter(|family| family.name() == name)
            .flat_map(MetricFamily::get_metric)
            .filter(|metric| {
                labels.iter().all(|(name, value)| {
                    metric
                        .get_label()
                        .iter()
                        .any(|pair| pair.name() == *name && pair.value() == *value)
                })
            })
            .map(|metric| metric.get_counter().get_value())
            .sum()
    }
}

/// What Prometheus is to keep of a replica at the most.
const MOST: usize = 300;

#[test]
fn the_number_of_series_is_bounded() {
    let metrics = Metrics::new().unwrap();
    let state = State {
        agents: 5000,
        unreachable: 4000,
        policies: None,
        profiles: &ProfileCounts::default(),
    };
    let before = series(&metrics.gather(state));
    assert!(before < MOST, "{before} series");
    for outcome in Outcome::iter() {
        // Nobody is asked to admit the others.
        let admitted = |kind: &&Kind| Kind::ADMITTED_NAMES.contains(&kind.as_str());
        for &kind in Kind::ALL.iter().filter(admitted) {
            metrics.admitted(Some(kind), outcome, Duration::from_millis(3));
        }
    }
    metrics.admitted(None, Outcome::Invalid, Duration::ZERO);
    for noticed in Noticed::iter() {
        metrics.noticed(noticed);
    }
    for guarded in Guarded::iter() {
        metrics.guarded(guarded);
    }
    for recorded_in in RecordedIn::iter() {
        metrics.recorded(recorded_in, 2);
    }
    for &exemption in Exemption::ALL {
        metrics.exempted(exemption);
    }
    for issued in [true, false] {
        metrics.certified(issued);
    }
    for port in ["admission", "metrics"] {
        metrics.refused(port).inc();
    }
    // What may happen was there before it happened.
    assert_eq!(series(&metrics.gather(state)), before);
    let gathered = metrics.gather(state);
    let there: BTreeSet<_> = gathered.iter().map(MetricFamily::name).collect();
    let rows = metrics.catalog().rows();
    let known: BTreeSet<_> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(there, known);
}

#[test]
fn an_admission_is_timed_once() {
    let metrics = Metrics::new().unwrap();
    metrics.admitted(Some(Kind::Exec), Outcome::Denied, Duration::from_secs(2));
    let timed = metrics.admission.with_label_values(&["denied"]);
    assert_eq!((timed.get_sample_count(), timed.get_sample_sum()), (1, 2.0));
    let admissions = [("kind", "exec"), ("outcome", "denied")];
    assert_eq!(
        metrics.count("curfew_webhook_admissions_total", &admissions),
        1.0
    );
}
