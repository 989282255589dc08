//! The templates of `-o jsonpath=`, as kubectl has them.
//!
//! The template is ours: text, `{"text"}` with `\n` and `\t`, `{range}` with `{end}`, and paths as kubectl's users type
//! them (`{.field}`, `{['field']}`, `\.` within a name, `[n]` from the end, too, `[*]`, `..name`). What else stands in
//! brackets, filters, slices and unions, is for jsonpath-rust, by RFC 9535.

use std::{cmp::Ordering, iter::Peekable, str::Chars, str::FromStr};

use anyhow::{Context, bail};
use jsonpath_rust::{
    parser::{model::JpQuery, parse_json_path},
    query::js_path_process,
};
use serde_json::Value;

/// A template that was read.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
    Range(Vec<Step>, Vec<Part>),
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    Every,
    /// Every value of this name, however deep.
    Deep(String),
    /// Those that a filter, a slice or a union selects.
    Selected(JpQuery),
}

/// What stands between braces.
enum Expression {
    Part(Part),
    RangeOf(Vec<Step>),
    End,
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The parts of the template, and of each range that is not ended yet.
        let mut open: Vec<(Vec<Step>, Vec<Part>)> = Vec::new();
        let mut parts = Vec::new();
        let mut chars = text.chars().peekable();
        while chars.peek().is_some() {
            let plain = take_until(&mut chars, |c| c == '{');
            if !plain.is_empty() {
                parts.push(Part::Text(plain));
            }
            if chars.next().is_none() {
                break;
            }
            match expression(&mut chars)? {
                Expression::Part(part) => parts.push(part),
                Expression::RangeOf(of) => open.push((of, std::mem::take(&mut parts))),
                Expression::End => {
                    let (of, before) = open.pop().ok_or("{end} without {range}")?;
                    let body = std::mem::replace(&mut parts, before);
                    parts.push(Part::Range(of, body));
                }
            }
        }
        match open.is_empty() {
            true => Ok(Self(parts)),
            false => Err("{range} without {end}".to_owned()),
        }
    }
}

impl Template {
    /// What the template makes of a value. What is not there is nothing.
    ///
    /// # Errors
    /// When an index is beyond the end of its list.
    pub(crate) fn render(&self, value: &Value) -> anyhow::Result<String> {
        let mut out = String::new();
        render(&self.0, value, &mut out)?;
        Ok(out)
    }
}

/// One path, as `--sort-by` and `-o custom-columns=` take it: braces and the dot at its beginning may be left
/// out.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Path(Vec<Step>);

impl FromStr for Path {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bare = text.trim();
        let bare = match bare.strip_prefix('{') {
            Some(rest) => rest.strip_suffix('}').ok_or("{ without }")?,
            None => bare,
        };
        let dotted = match bare.starts_with(['.', '[', '$', '@']) {
            true => bare.to_owned(),
            false => format!(".{bare}"),
        };
        let mut chars = dotted.chars().peekable();
        let steps = path(&mut chars)?;
        match chars.next() {
            None => Ok(Self(steps)),
            Some(c) => Err(format!("{text:?} is not a path: unexpected {c:?}")),
        }
    }
}

impl Path {
    /// What it finds, as text.
    ///
    /// # Errors
    /// When an index is beyond the end of its list.
    pub(crate) fn text(&self, value: &Value) -> anyhow::Result<String> {
        let found = walk(&self.0, value)?;
        Ok(found.into_iter().map(text).collect::<Vec<_>>().join(","))
    }

    /// How two objects are sorted by what it finds in them: those in which it finds nothing first.
    pub(crate) fn compare(&self, one: &Value, other: &Value) -> Ordering {
        let first = |value| walk(&self.0, value).ok()?.into_iter().next();
        match (first(one), first(other)) {
            (Some(Value::Number(one)), Some(Value::Number(other))) => {
                f64::total_cmp(&one.as_f64().unwrap_or(0.0), &other.as_f64().unwrap_or(0.0))
            }
            (Some(one), Some(other)) => text(one).cmp(&text(other)),
            (one, other) => one.is_some().cmp(&other.is_some()),
        }
    }
}

fn take_until(chars: &mut Peekable<Chars<'_>>, end: impl Fn(char) -> bool) -> String {
    std::iter::from_fn(|| chars.next_if(|c| !end(*c))).collect()
}

/// Reads up to and with the closing brace.
fn expression(chars: &mut Peekable<Chars<'_>>) -> Result<Expression, String> {
    skip_spaces(chars);
    let expression = match chars.peek() {
        Some(&quote @ ('"' | '\'')) => Expression::Part(Part::Text(quoted(chars, quote)?)),
        Some(c) if c.is_ascii_alphabetic() => {
            let word = take_until(chars, |c| !c.is_ascii_alphabetic());
            skip_spaces(chars);
            match word.as_str() {
                "range" => Expression::RangeOf(path(chars)?),
                "end" => Expression::End,
                _ => return Err(format!("{{{word}…: a path begins with a dot")),
            }
        }
        _ => Expression::Part(Part::Path(path(chars)?)),
    };
    skip_spaces(chars);
    match chars.next() {
        Some('}') => Ok(expression),
        Some(c) => Err(format!("{c:?} where }} should be")),
        None => Err("{ without }".to_owned()),
    }
}

fn skip_spaces(chars: &mut Peekable<Chars<'_>>) {
    while chars.next_if(|c| c.is_whitespace()).is_some() {}
}

fn quoted(chars: &mut Peekable<Chars<'_>>, quote: char) -> Result<String, String> {
    chars.next();
    let mut text = String::new();
    loop {
        match chars.next() {
            Some(c) if c == quote => return Ok(text),
            Some('\\') => match chars.next() {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some(c) => text.push(c),
                None => break,
            },
            Some(c) => text.push(c),
            None => break,
        }
    }
    Err(format!("the closing {quote} is missing"))
}

fn path(chars: &mut Peekable<Chars<'_>>) -> Result<Vec<Step>, String> {
    // The root, or what a range is at, is where every path begins.
    chars.next_if(|c| matches!(c, '$' | '@'));
    let mut steps = Vec::new();
    loop {
        match chars.peek() {
            Some('.') => {
                chars.next();
                let deep = chars.next_if_eq(&'.').is_some();
                if chars.next_if_eq(&'*').is_some() {
                    steps.push(Step::Every);
                    continue;
                }
                let name = name(chars)?;
                match (deep, name.is_empty()) {
                    (false, false) => steps.push(Step::Field(name)),
                    (true, false) => steps.push(Step::Deep(name)),
                    // `{.}` is the value itself, and in `.[0]` the dot says nothing.
                    (false, true) => {}
                    (true, true) => return Err(".. without a name".to_owned()),
                }
            }
            Some('[') => {
                chars.next();
                steps.push(bracket(chars)?);
            }
            _ => return Ok(steps),
        }
    }
}

fn name(chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut name = String::new();
    loop {
        name += &take_until(chars, |c| {
            c.is_whitespace() || matches!(c, '.' | '[' | '}' | '\\')
        });
        match chars.next_if_eq(&'\\') {
            Some(_) => name.push(chars.next().ok_or("\\ at the end")?),
            None => return Ok(name),
        }
    }
}

fn bracket(chars: &mut Peekable<Chars<'_>>) -> Result<Step, String> {
    let inside = inside(chars)?;
    let inside = inside.trim();
    if inside == "*" {
        return Ok(Step::Every);
    }
    if let Ok(index) = inside.parse() {
        return Ok(Step::Index(index));
    }
    if let Some(quote) = inside.chars().next().filter(|c| matches!(c, '"' | '\'')) {
        let mut rest = inside.chars().peekable();
        let name = quoted(&mut rest, quote)?;
        if rest.next().is_none() {
            return Ok(Step::Field(name.replace("\\.", ".")));
        }
    }
    parse_json_path(&format!("$[{inside}]"))
        .map(Step::Selected)
        .map_err(|error| format!("[{inside}]: {error}"))
}

/// What stands up to the closing bracket, which is taken, too.
fn inside(chars: &mut Peekable<Chars<'_>>) -> Result<String, String> {
    let mut inside = String::new();
    let mut open = 0;
    let mut quote = None;
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some(_), '\\') => {
                inside.push(c);
                inside.extend(chars.next());
                continue;
            }
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(c),
            (None, '[') => open += 1,
            (None, ']') if open == 0 => return Ok(inside),
            (None, ']') => open -= 1,
            (None, _) => {}
        }
        inside.push(c);
    }
    Err("[ without ]".to_owned())
}

fn render(parts: &[Part], value: &Value, out: &mut String) -> anyhow::Result<()> {
    for part in parts {
        match part {
            Part::Text(text) => out.push_str(text),
            Part::Path(steps) => {
                let found = walk(steps, value)?;
                let texts: Vec<_> = found.into_iter().map(text).collect();
                out.push_str(&texts.join(" "));
            }
            Part::Range(of, body) => {
                for item in walk(of, value)? {
                    render(body, item, out)?;
                }
            }
        }
    }
    Ok(())
}

fn text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

fn walk<'a>(steps: &[Step], from: &'a Value) -> anyhow::Result<Vec<&'a Value>> {
    let mut at = vec![from];
    for step in steps {
        let mut next = Vec::new();
        for value in at {
            match (step, value) {
                (Step::Field(name), Value::Object(fields)) => next.extend(fields.get(name)),
                (Step::Every, Value::Object(fields)) => next.extend(fields.values()),
                (Step::Every, Value::Array(items)) => next.extend(items),
                (Step::Index(index), Value::Array(items)) => {
                    let length = items.len() as i64;
                    let place = if *index < 0 { index + length } else { *index };
                    match usize::try_from(place).ok().and_then(|at| items.get(at)) {
                        Some(item) => next.push(item),
                        None => {
                            bail!("array index out of bounds: index {index}, length {length}")
                        }
                    }
                }
                (Step::Deep(name), value) => deep(name, value, &mut next),
                (Step::Selected(query), value) => {
                    let found = js_path_process(query, value).context("cannot follow the path")?;
                    next.extend(found.into_iter().map(|found| found.val()));
                }
                _ => {}
            }
        }
        at = next;
    }
    Ok(at)
}

fn deep<'a>(name: &str, value: &'a Value, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(fields) => {
            found.extend(fields.get(name));
            fields.values().for_each(|inner| deep(name, inner, found));
        }
        Value::Array(items) => items.iter().for_each(|inner| deep(name, inner, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn rendered(template: &str) -> String {
        let list = json!({
            "kind": "List",
            "items": [
                {"metadata": {"name": "a", "annotations": {"curfew.dev/ttl": "10m0s"}}, "n": 1},
                {"metadata": {"name": "b"}, "ports": [80, 443]},
            ],
        });
        let template: Template = template.parse().unwrap();
        template.render(&list).unwrap()
    }

    #[test]
    fn reads_what_kubectl_users_type() {
        for (template, shown) in [
            ("{.kind}", "List"),
            ("kind is {.kind}\n", "kind is List\n"),
            ("{$.kind}{@['kind']}", "ListList"),
            ("{.items[*].metadata.name}", "a b"),
            ("{.items[-1].metadata.name}", "b"),
            ("{.items[0].metadata.annotations.curfew\\.dev/ttl}", "10m0s"),
            (
                "{.items[0].metadata.annotations['curfew.dev/ttl']}",
                "10m0s",
            ),
            (
                "{.items[0].metadata.annotations['curfew\\.dev/ttl']}",
                "10m0s",
            ),
            ("{..name}", "a b"),
            ("{.items[1].ports}", "[80,443]"),
            ("{.items[1].ports[*]}", "80 443"),
            ("{.items[?(@.n==1)].metadata.name}", "a"),
            ("{.items[?(@.metadata.name!=\"a\")].ports[0]}", "80"),
            ("{.items[?(@.ports[0]==80)].metadata.name}", "b"),
            ("{.items[0:1].metadata.name}", "a"),
            ("{.items[0,1].metadata.name}", "a b"),
            ("{.items[1]['kind','ports']}", "[80,443]"),
            ("{.items[0].n} {.nothing.there}.", "1 ."),
            (
                r#"{range .items[*]}{.metadata.name}{"\t"}{.n}{"\n"}{end}"#,
                "a\t1\nb\t\n",
            ),
            (
                "{range .items[*]}{range .ports[*]}<{.}>{end}{end}",
                "<80><443>",
            ),
        ] {
            assert_eq!(rendered(template), shown, "{template}");
        }
    }

    #[test]
    fn what_it_cannot_it_says() {
        for template in [
            "{.a",
            "{range .a}",
            "{end}",
            "{a}",
            "{.a[0}",
            "{.a['b}",
            "{.items[?(@.n=)]}",
            "{.items[one]}",
            "{..}",
        ] {
            assert!(template.parse::<Template>().is_err(), "{template}");
        }
        let beyond: Template = "{.a[2]}".parse().unwrap();
        assert!(beyond.render(&json!({"a": [1]})).is_err());
    }

    #[test]
    fn a_path_may_be_bare() {
        let pod = json!({"metadata": {"name": "web-1"}, "ports": [80, 443]});
        for (path, found) in [
            (".metadata.name", "web-1"),
            ("metadata.name", "web-1"),
            ("{.metadata.name}", "web-1"),
            ("{$.metadata['name']}", "web-1"),
            (".ports[*]", "80,443"),
            (".nothing", ""),
        ] {
            let path: Path = path.parse().unwrap();
            assert_eq!(path.text(&pod).unwrap(), found, "{path:?}");
        }
        for path in ["{.a", ".a}", ".a .b", ".a[", "{range .a}"] {
            assert!(path.parse::<Path>().is_err(), "{path}");
        }
    }

    #[test]
    fn objects_are_sorted_as_kubectl_sorts_them() {
        let path: Path = ".v".parse().unwrap();
        let mut objects = [
            json!({"v": "web-10"}),
            json!({"v": "web-9"}),
            json!({}),
            json!({"v": "web-09a"}),
            json!({"v": "api"}),
        ];
        objects.sort_by(|one, other| path.compare(one, other));
        let sorted = objects.map(|object| path.text(&object).unwrap());
        assert_eq!(sorted, ["", "api", "web-09a", "web-10", "web-9"]);
        let order = path.compare(&json!({"v": 9}), &json!({"v": 10}));
        assert_eq!(order, Ordering::Less);
    }

    proptest! {
        #[test]
        fn no_template_breaks_it(text in r#"[{}a.\[\]*'"\\ $@0-9-]{0,24}"#) {
            if let Ok(template) = text.parse::<Template>() {
                drop(template.render(&json!({"a": [{"a": 1}, "b"]})));
            }
        }
    }
}
