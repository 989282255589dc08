//! How admissions fare while the CA and all certificates are exchanged again and again.

use anyhow::Result;
use curfew_e2e::{
    Namespace, TestCluster,
    rotation::{self, Course},
};
use k8s_openapi::api::core::v1::Namespace as Object;
use kube::Api;

use crate::{
    report::{Report, ms},
    say,
    tidy::{remove, tidily, unique},
};

/// How much there is to be.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Settings {
    /// How many times the CA is exchanged
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    exchanges: u32,
    /// How many admissions a second
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=200))]
    rate: u32,
}

pub(crate) async fn run(cluster: &TestCluster, settings: &Settings) -> Result<Report> {
    let name = unique("rotation");
    let work = async {
        let namespace = Namespace::create(cluster, &name).await?;
        say(&format!(
            "{} exchanges of the CA, with {} admissions a second",
            settings.exchanges, settings.rate
        ));
        let course = Course {
            exchanges: settings.exchanges as usize,
            rate: settings.rate,
            settles: true,
        };
        rotation::exchange(&namespace, course).await
    };
    let clean = async {
        say("cleaning up");
        let namespaces: Api<Object> = Api::all(cluster.client.clone());
        remove(namespaces, &name).await
    };
    let seen = tidily(work, clean).await?;
    let mut report = Report::default();
    report.figure("exchanges of the CA", seen.exchanges);
    report.figure("renewals of certificates", seen.renewals);
    // One that failed would have ended the run.
    report.figure("admissions, none of which failed", seen.admissions.count());
    for percent in [50, 99, 100] {
        let took = ms(seen.admissions.percentile(percent));
        report.figure(&format!("p{percent}"), took);
    }
    report.figure(
        "recorded on the pod instead of with the agent",
        seen.in_metadata,
    );
    let (before, after) = seen.descriptors;
    report.target(
        "descriptors open",
        format!("{before} before, {after} after"),
        "none has leaked",
        after <= before,
    );
    Ok(report)
}
