//! How pods are printed.

use std::str::FromStr;

use serde_json::Value;

use crate::{
    output,
    print::{custom_columns::CustomColumns, jsonpath::Template, yaml},
};

/// What `-o` asks for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Output {
    Table { wide: bool },
    Name,
    Object(Format),
}

/// How the whole of a pod is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Format {
    Json,
    Yaml,
    JsonPath(Template),
    CustomColumns(CustomColumns),
}

/// What kubectl has besides.
const REFUSED: [&str; 8] = [
    "custom-columns-file",
    "go-template",
    "go-template-file",
    "jsonpath-as-json",
    "jsonpath-file",
    "kyaml",
    "template",
    "templatefile",
];

/// What may stand behind `-o`, with what it is.
pub(crate) const NAMES: [(&str, &str); 7] = [
    ("table", "interactor and eviction time"),
    ("wide", "also node, interaction, command and state"),
    ("json", "the pods"),
    ("yaml", "the pods"),
    ("name", "pod/NAME"),
    ("jsonpath=", "the output of a template"),
    ("custom-columns=", "a table of the values at these paths"),
];

impl FromStr for Output {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(template) = text.strip_prefix("jsonpath=") {
            let template = template.parse::<Template>()?;
            return Ok(Output::Object(Format::JsonPath(template)));
        }
        if let Some(columns) = text.strip_prefix("custom-columns=") {
            return Ok(Output::Object(Format::CustomColumns(columns.parse()?)));
        }
        let name = text.split_once('=').map_or(text, |(name, _)| name);
        if REFUSED.contains(&name) {
            return Err(format!(
                "kubectl pi does not support {name}: use jsonpath=TEMPLATE or custom-columns=HEADER:PATH, or \
                 json with a tool such as jq"
            ));
        }
        Ok(match text {
            "table" => Output::Table { wide: false },
            "wide" => Output::Table { wide: true },
            "name" => Output::Name,
            "json" => Output::Object(Format::Json),
            "yaml" => Output::Object(Format::Yaml),
            _ => {
                let names = NAMES.map(|(name, _)| name).join(", ");
                return Err(format!("must be one of {names}…"));
            }
        })
    }
}

impl Format {
    /// The text of it, if it is a table with its heads or without.
    pub(crate) fn render(&self, value: &Value, heads: bool) -> anyhow::Result<String> {
        match self {
            Format::Json => output::json(value),
            Format::Yaml => Ok(yaml::render(value)),
            Format::JsonPath(template) => Ok(output::shown(&template.render(value)?)),
            Format::CustomColumns(columns) => columns.render(value, heads),
        }
    }
}
