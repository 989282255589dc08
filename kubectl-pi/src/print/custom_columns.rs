//! The columns of `-o custom-columns=`, as kubectl has them.

use std::str::FromStr;

use serde_json::Value;

use crate::print::{jsonpath::Path, table};

/// A head and a path for each column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct CustomColumns(Vec<(String, Path)>);

impl FromStr for CustomColumns {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let column = |column: &str| match column.split_once(':') {
            Some((head, path)) if !head.is_empty() && !path.is_empty() => {
                Ok((head.to_owned(), path.parse()?))
            }
            _ => Err(format!("custom-columns: {column:?} must be HEADER:PATH")),
        };
        text.split(',')
            .map(column)
            .collect::<Result<_, _>>()
            .map(Self)
    }
}

impl CustomColumns {
    /// A line for each pod, or for the one.
    pub(crate) fn render(&self, shown: &Value, heads: bool) -> anyhow::Result<String> {
        let pods = match &shown["items"] {
            Value::Array(pods) => pods.as_slice(),
            _ => std::slice::from_ref(shown),
        };
        let mut lines = Vec::new();
        if heads {
            lines.push(self.0.iter().map(|(head, _)| head.clone()).collect());
        }
        for pod in pods {
            let cells = self.0.iter().map(|(_, path)| path.text(pod));
            lines.push(cells.collect::<anyhow::Result<Vec<_>>>()?);
        }
        Ok(table::lines(&lines))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_line_for_each_pod() {
        let columns: CustomColumns = "NAME:.metadata.name,N:{.spec.n}".parse().unwrap();
        let pods = json!({"items": [
            {"metadata": {"name": "web-1"}, "spec": {"n": 1}},
            {"metadata": {"name": "a\u{1b}b"}},
        ]});
        assert_eq!(
            columns.render(&pods, true).unwrap(),
            "NAME       N\nweb-1      1\na\\u{1b}b   <none>\n"
        );
        let one = &pods["items"][0];
        assert_eq!(columns.render(one, false).unwrap(), "web-1   1\n");
    }

    #[test]
    fn each_has_a_head_and_a_path() {
        for text in ["", "NAME", "NAME:", ":.a", "A:.a,", "A:.a[", "A:{.a"] {
            assert!(text.parse::<CustomColumns>().is_err(), "{text:?}");
        }
    }
}
