//! Reads what Curfew ships for Prometheus and Grafana as they read it: [alert rules](rules),
//! [dashboards] and [monitors](scrape); and the Markdown [pages]. The tests here check the files in the
//! tree; the end-to-end tests try them on the real cluster.
#![warn(missing_docs)]

pub mod dashboards;
pub mod lint;
pub mod pages;
pub mod promql;
pub mod rules;
pub mod runbooks;
pub mod scrape;

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use curfew_cluster::layout::Checkout;

/// The root of the source tree.
///
/// # Errors
/// Outside of a checkout.
pub fn root() -> Result<PathBuf> {
    Ok(Checkout::find()?.root().to_owned())
}

/// A file of the source tree.
///
/// # Errors
/// When it cannot be read.
pub fn read(path: impl AsRef<Path>) -> Result<String> {
    let path = root()?.join(path);
    fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))
}
