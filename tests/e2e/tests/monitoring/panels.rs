//! Whether every query of every panel has something to show.

use anyhow::{Context, Result, ensure};
use curfew_e2e::NODES;
use curfew_monitoring::dashboards;

use crate::Scene;

/// What Grafana puts in place of its variables when all is chosen, and the node on which most happened.
const CHOSEN: [(&str, &str); 3] = [("job", ".+"), ("instance", ".+"), ("node", NODES[0])];

pub(crate) async fn all_show_something(scene: &Scene<'_>) -> Result<()> {
    let times = scene.monitoring.times();
    let mut variables = CHOSEN.to_vec();
    variables.extend(times.iter().map(|(name, value)| (*name, value.as_str())));
    let mut empty = Vec::new();
    for dashboard in dashboards::shipped()? {
        for variable in &dashboard.templating.list {
            if variable.kind == "query" {
                has_values(scene, &variable.query, &variables)
                    .await
                    .with_context(|| format!("{}: ${}", dashboard.file, variable.name))?;
            }
        }
        for panel in &dashboard.panels {
            for target in &panel.targets {
                let series = scene.monitoring.history(&target.query(&variables)).await;
                let series = series.with_context(|| {
                    format!("{}, {}: {}", dashboard.file, panel.title, target.expr)
                })?;
                if series.is_empty() {
                    empty.push(format!(
                        "{}, {}: {}",
                        dashboard.file, panel.title, target.expr
                    ));
                }
            }
        }
    }
    ensure!(empty.is_empty(), "these show nothing: {empty:#?}");
    Ok(())
}

/// `label_values(SERIES, LABEL)`, as Grafana asks it.
async fn has_values(scene: &Scene<'_>, query: &str, variables: &[(&str, &str)]) -> Result<()> {
    let inner = query
        .strip_prefix("label_values(")
        .and_then(|inner| inner.strip_suffix(')'));
    let (series, label) = inner
        .and_then(|inner| inner.rsplit_once(", "))
        .context(query.to_owned())?;
    let found = scene
        .monitoring
        .history(&dashboards::substitute(series, variables))
        .await?;
    let valued = found.iter().any(|one| one["metric"][label].is_string());
    ensure!(valued, "{query} has no values");
    Ok(())
}
