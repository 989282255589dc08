//! The metrics of a process: one [`Catalog`] registers them, is scraped, and tells for the
//! [`page`] that documents them what there is.

pub mod page;

use std::{sync::Arc, time::SystemTime};

use prometheus::{
    Gauge, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, Result,
    core::{Collector, MetricVec, MetricVecBuilder},
    process_collector::ProcessCollector,
    proto::{MetricFamily, MetricType},
};

/// A label and the values that it is known to have. A counter that does not exist before the first event
/// hides that event from `rate()`, so these are there from the start.
pub type Label<'a> = (&'a str, &'a [&'a str]);

/// The metrics of one process.
#[derive(Debug, Clone, Default)]
pub struct Catalog {
    registry: Registry,
    /// Each request has clones of the metrics.
    rows: Arc<Vec<Row>>,
}

/// What there is to say of a metric.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its type, in the words of the exposition format.
    pub kind: &'static str,
    /// The names of its labels.
    pub labels: Vec<String>,
    /// What it means.
    pub help: String,
}

impl Catalog {
    /// The metrics that every process has: of what release it is, and what the kernel counts of it.
    ///
    /// # Errors
    /// When the part has no name that a metric may have.
    pub fn of(part: &str, version: &str) -> Result<Self> {
        let mut catalog = Self::default();
        catalog
            .gauges(
                &format!("curfew_{part}_build_info"),
                "The release, in the label version; the value is always 1.",
                &[("version", &[version])],
            )?
            .with_label_values(&[version])
            .set(1);
        catalog.register(ProcessCollector::for_self())?;
        Ok(catalog)
    }

    /// A count that only grows.
    ///
    /// # Errors
    /// As [`Self::add`]; so those of all others.
    pub fn counter(&mut self, name: &str, help: &str) -> Result<IntCounter> {
        self.add(IntCounter::new(name, help)?)
    }

    /// The same by labels; all that these values make together exist from the start.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn counters(
        &mut self,
        name: &str,
        help: &str,
        labels: &[Label<'_>],
    ) -> Result<IntCounterVec> {
        let all = IntCounterVec::new(Opts::new(name, help), &names(labels))?;
        self.fill(all, labels)
    }

    /// A whole number.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn gauge(&mut self, name: &str, help: &str) -> Result<IntGauge> {
        self.add(IntGauge::new(name, help)?)
    }

    /// The same by labels; all that these values make together exist from the start.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn gauges(&mut self, name: &str, help: &str, labels: &[Label<'_>]) -> Result<IntGaugeVec> {
        let all = IntGaugeVec::new(Opts::new(name, help), &names(labels))?;
        self.fill(all, labels)
    }

    /// A time or a duration in seconds.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn seconds(&mut self, name: &str, help: &str) -> Result<Gauge> {
        self.add(Gauge::new(name, help)?)
    }

    /// How long things take, in seconds, counted up to each of these.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn histogram(&mut self, name: &str, help: &str, upto: &[f64]) -> Result<Histogram> {
        let options = HistogramOpts::new(name, help).buckets(upto.to_vec());
        self.add(Histogram::with_opts(options)?)
    }

    /// The same by labels; all that these values make together exist from the start.
    ///
    /// # Errors
    /// As [`Self::add`].
    pub fn histograms(
        &mut self,
        name: &str,
        help: &str,
        labels: &[Label<'_>],
        upto: &[f64],
    ) -> Result<HistogramVec> {
        let options = HistogramOpts::new(name, help).buckets(upto.to_vec());
        let all = HistogramVec::new(options, &names(labels))?;
        self.fill(all, labels)
    }

    /// Registers a metric, of which all that these values make together exist from the start.
    fn fill<B: MetricVecBuilder + 'static>(
        &mut self,
        all: MetricVec<B>,
        labels: &[Label<'_>],
    ) -> Result<MetricVec<B>> {
        for values in combinations(labels) {
            all.with_label_values(&values);
        }
        self.add(all)
    }

    /// Registers a metric and gives it back.
    ///
    /// # Errors
    /// When the name is not one, or is another's.
    pub fn add<C: Collector + Clone + 'static>(&mut self, metric: C) -> Result<C> {
        self.register(metric.clone())?;
        Ok(metric)
    }

    fn register(&mut self, collector: impl Collector + 'static) -> Result<()> {
        // What has no values yet is left out of a scrape, but not here.
        let families = collector.collect();
        for desc in collector.desc() {
            let family = families.iter().find(|family| family.name() == desc.fq_name);
            Arc::make_mut(&mut self.rows).push(Row {
                name: desc.fq_name.clone(),
                kind: family.map_or("untyped", kind),
                labels: desc.variable_labels.clone(),
                help: desc.help.clone(),
            });
        }
        self.registry.register(Box::new(collector))
    }

    /// What there is, in the order in which it was registered.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// The values of all of them.
    pub fn gather(&self) -> Vec<MetricFamily> {
        self.registry.gather()
    }
}

fn kind(family: &MetricFamily) -> &'static str {
    match family.get_field_type() {
        MetricType::COUNTER => "counter",
        MetricType::GAUGE => "gauge",
        MetricType::HISTOGRAM => "histogram",
        MetricType::SUMMARY => "summary",
        MetricType::UNTYPED => "untyped",
    }
}

fn names<'a>(labels: &[Label<'a>]) -> Vec<&'a str> {
    labels.iter().map(|(name, _)| *name).collect()
}

/// Every way to give each label one of its values; none when those of one are not known.
fn combinations<'a>(labels: &[Label<'a>]) -> Vec<Vec<&'a str>> {
    labels.iter().fold(vec![Vec::new()], |begun, (_, values)| {
        let longer = begun.iter().flat_map(|begun| {
            values
                .iter()
                .map(|value| begun.iter().copied().chain([*value]).collect())
        });
        longer.collect()
    })
}

/// A time as Prometheus knows times: in seconds since 1970.
pub fn unix_seconds(time: SystemTime) -> f64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

/// How many series Prometheus makes of it: a histogram is one for each of its buckets, the last of which has
/// no end, and two more.
pub fn series(families: &[MetricFamily]) -> usize {
    let metrics = families.iter().flat_map(|family| {
        let histogram = family.get_field_type() == MetricType::HISTOGRAM;
        family
            .get_metric()
            .iter()
            .map(move |metric| match histogram {
                true => metric.get_histogram().get_bucket().len() + 3,
                false => 1,
            })
    });
    metrics.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_no_value_yet_is_told_of_all_the_same() {
        let mut catalog = Catalog::default();
        let help = "Evictions.";
        catalog
            .counters("evictions_total", help, &[("result", &[])])
            .unwrap();
        catalog
            .histogram("wait_seconds", "How long.", &[1.0])
            .unwrap();
        assert_eq!(series(&catalog.gather()), 4, "{:?}", catalog.gather());
        let rows: Vec<_> = catalog
            .rows()
            .iter()
            .map(|row| (row.name.as_str(), row.kind, row.labels.concat()))
            .collect();
        assert_eq!(
            rows,
            [
                ("evictions_total", "counter", "result".to_owned()),
                ("wait_seconds", "histogram", String::new()),
            ]
        );
        assert!(catalog.counter("evictions_total", help).is_err());
    }

    #[test]
    fn known_values_stand_from_the_start() {
        let mut catalog = Catalog::default();
        let labels: [Label<'_>; 2] = [("kind", &["exec", "debug"]), ("action", &["a", "b", "c"])];
        catalog.counters("all_total", "All.", &labels).unwrap();
        assert_eq!(series(&catalog.gather()), 6);
        let half: [Label<'_>; 2] = [("kind", &["exec", "debug"]), ("user", &[])];
        catalog.gauges("some", "Some.", &half).unwrap();
        assert_eq!(series(&catalog.gather()), 6);
    }

    #[test]
    fn every_process_tells_its_release_and_what_the_kernel_counts() {
        let catalog = Catalog::of("agent", "1.2.3").unwrap();
        let gathered = catalog.gather();
        let names: Vec<_> = gathered.iter().map(MetricFamily::name).collect();
        assert!(names.contains(&"curfew_agent_build_info"), "{names:?}");
        assert!(
            names.contains(&"process_resident_memory_bytes"),
            "{names:?}"
        );
        let rows: Vec<_> = catalog.rows().iter().map(|row| row.name.as_str()).collect();
        assert!(names.iter().all(|name| rows.contains(name)), "{rows:?}");
    }
}
