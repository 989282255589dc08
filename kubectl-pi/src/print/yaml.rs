//! Writes YAML in which every string that is more than a plain word is quoted, so that nothing in it
//! is taken for a number, a date or a command to the terminal.

use std::fmt::Write;

use serde_json::Value;

use crate::output::is_unsafe;

/// The document.
pub(crate) fn render(value: &Value) -> String {
    let mut out = String::new();
    block(&mut out, value, 0);
    out
}

/// Writes a value whose first line is already indented.
fn block(out: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            for (at, (key, value)) in fields.iter().enumerate() {
                if at > 0 {
                    spaces(out, indent);
                }
                scalar(out, key);
                out.push(':');
                match value {
                    Value::Object(inner) if !inner.is_empty() => {
                        out.push('\n');
                        spaces(out, indent + 2);
                        block(out, value, indent + 2);
                    }
                    // A list stands at the level of its key, as kubectl has it.
                    Value::Array(inner) if !inner.is_empty() => {
                        out.push('\n');
                        spaces(out, indent);
                        block(out, value, indent);
                    }
                    _ => {
                        out.push(' ');
                        block(out, value, indent);
                    }
                }
            }
        }
        Value::Array(items) if !items.is_empty() => {
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    spaces(out, indent);
                }
                out.push_str("- ");
                block(out, item, indent + 2);
            }
        }
        Value::Object(_) => out.push_str("{}\n"),
        Value::Array(_) => out.push_str("[]\n"),
        Value::String(text) => {
            scalar(out, text);
            out.push('\n');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {
            out.push_str(&value.to_string());
            out.push('\n');
        }
    }
}

fn spaces(out: &mut String, count: usize) {
    out.extend(std::iter::repeat_n(' ', count));
}

fn scalar(out: &mut String, text: &str) {
    if is_plain(text) {
        out.push_str(text);
        return;
    }
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            // Writing to a string cannot fail.
            c if is_unsafe(c) => drop(write!(out, "\\U{:08x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
}

/// A word that no version of YAML reads as anything but itself.
fn is_plain(text: &str) -> bool {
    const MEANT_OTHERWISE: [&str; 9] =
        ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    let word = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '/' | '_');
    text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.chars().all(word)
        && !MEANT_OTHERWISE
            .iter()
            .any(|meant| text.eq_ignore_ascii_case(meant))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn looks_as_kubectl_prints_it() {
        let shown = json!({
            "apiVersion": "v1",
            "items": [{"metadata": {"labels": {"app": "web"}, "name": "web-1"}, "ports": [80, 443]}, []],
            "spec": {},
            "command": ["sh", "-c", "echo \"hi\"\n"],
        });
        assert_eq!(
            render(&shown),
            r#"apiVersion: v1
command:
- sh
- "-c"
- "echo \"hi\"\n"
items:
- metadata:
    labels:
      app: web
    name: web-1
  ports:
  - 80
  - 443
- []
spec: {}
"#
        );
    }

    #[test]
    fn words_that_look_like_something_else_stay_words() {
        for word in [
            "yes",
            "No",
            "ON",
            "off",
            "true",
            "null",
            "~",
            "0x1f",
            "1e3",
            "012",
            "1_000",
            "-",
            "",
            "a: b",
            "# c",
            "2026-03-01",
            "12:30:45",
            ".inf",
            "=",
            "<<",
            "y",
            "a ",
            "*a",
            "&a",
            "!a",
            "@a",
            "%a",
            "a#b",
        ] {
            assert_eq!(render(&json!(word)), format!("\"{word}\"\n"));
        }
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<String>().prop_map(Value::from),
            "[a-zA-Z0-9:.~_ -]{0,8}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z./:0-9 ]{0,8}", inner, 0..4)
                    .prop_map(|fields| Value::Object(fields.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn says_what_it_was_given(shown in any_value()) {
            let text = render(&shown);
            prop_assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), shown, "{}", text);
        }
    }
}
