//! The dashboards.

use std::fs;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

/// Where they are.
pub const FOLDER: &str = "dashboards";

/// A dashboard, as far as tests look at it.
#[derive(Debug, Clone, Deserialize)]
pub struct Dashboard {
    /// The name of its file.
    #[serde(skip)]
    pub file: String,
    /// By what others link to it.
    pub uid: String,
    /// Its title.
    pub title: String,
    /// What it answers.
    #[serde(default)]
    pub description: String,
    /// Whether it may be changed in Grafana.
    pub editable: bool,
    /// Links at the top.
    pub links: Vec<Value>,
    /// Its variables.
    pub templating: Templating,
    /// Its panels.
    pub panels: Vec<Panel>,
}

/// What of a dashboard is chosen at its top.
#[derive(Debug, Clone, Deserialize)]
pub struct Templating {
    /// The variables.
    pub list: Vec<Variable>,
}

/// A variable.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// What people see of that.
    pub label: String,
    /// `datasource` or `query`.
    #[serde(rename = "type")]
    pub kind: String,
    /// What its values are.
    pub query: String,
    /// Where they come from.
    #[serde(default)]
    pub datasource: Value,
    /// When they are looked up: 2 whenever the time shown changes.
    pub refresh: u8,
    /// Whether several may be chosen.
    pub multi: bool,
    /// What it stands for when all are chosen.
    pub all_value: Option<String>,
}

/// A panel, or the title of a row of panels.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Panel {
    /// Its number.
    pub id: u32,
    /// `stat`, `table`, `timeseries`, `text` or `row`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Its title.
    pub title: String,
    /// What it tells.
    #[serde(default)]
    pub description: String,
    /// Where it stands.
    pub grid_pos: Place,
    /// Where its data come from.
    #[serde(default)]
    pub datasource: Value,
    /// Its queries.
    #[serde(default)]
    pub targets: Vec<Target>,
    /// Units, thresholds, links.
    #[serde(default)]
    pub field_config: Value,
}

/// A place on a grid of 24 columns.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Place {
    /// The first column.
    pub x: u32,
    /// The first line.
    pub y: u32,
    /// How many columns.
    pub w: u32,
    /// How many lines.
    pub h: u32,
}

/// A query of a panel.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Its letter.
    pub ref_id: String,
    /// Where its data come from.
    #[serde(default)]
    pub datasource: Value,
    /// What is asked, with variables in it.
    pub expr: String,
}

impl Target {
    /// The query as Grafana sends it, with these variables in place of their names.
    pub fn query(&self, variables: &[(&str, &str)]) -> String {
        substitute(&self.expr, variables)
    }
}

/// Puts the values of variables in place of `$name` and `${name}`.
pub fn substitute(text: &str, variables: &[(&str, &str)]) -> String {
    let mut text = text.to_owned();
    let mut variables = variables.to_vec();
    // The name of one may begin with that of another.
    variables.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
    for (name, value) in variables {
        text = text
            .replace(&format!("${{{name}}}"), value)
            .replace(&format!("${name}"), value);
    }
    text
}

/// All that Curfew ships.
///
/// # Errors
/// When one cannot be read.
pub fn shipped() -> Result<Vec<Dashboard>> {
    let folder = crate::root()?.join(FOLDER);
    let mut dashboards = Vec::new();
    for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.extension().is_none_or(|ending| ending != "json") {
            continue;
        }
        let text = fs::read_to_string(&path)?;
        let mut dashboard: Dashboard =
            serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        dashboard.file = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        dashboards.push(dashboard);
    }
    dashboards.sort_by(|a, b| a.file.cmp(&b.file));
    Ok(dashboards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_substituted() {
        let variables = [("job", ".+"), ("job_x", "y"), ("__rate_interval", "5s")];
        let text = r#"rate(a{job=~"$job",b="${job}",c="$job_x"}[$__rate_interval])"#;
        assert_eq!(
            substitute(text, &variables),
            r#"rate(a{job=~".+",b=".+",c="y"}[5s])"#
        );
    }
}
