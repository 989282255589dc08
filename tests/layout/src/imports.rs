//! The paths that a source imports from its own crate.

use crate::Source;

/// Every path below the root of the crate that the source names: in a `use`, or behind `crate::` elsewhere.
pub(crate) fn paths(source: &Source) -> Vec<String> {
    let code = source.code();
    let mut paths: Vec<_> = code
        .match_indices("crate::")
        .filter(|(at, _)| !code[..*at].ends_with(is_of_name))
        .map(|(at, head)| code[at + head.len()..].to_owned())
        .flat_map(|rest| match rest.starts_with('{') {
            true => trees(&rest[1..]),
            false => vec![name(&rest)],
        })
        .collect();
    let uses = code.lines().enumerate().filter_map(|(number, line)| {
        let (_, tree) = line
            .trim_start()
            .split_once("use ")
            .filter(|(head, _)| head.is_empty() || head.starts_with("pub"))?;
        tree.starts_with("super::").then_some((number, tree))
    });
    for (number, _) in uses {
        let rest: String = code.lines().skip(number).collect::<Vec<_>>().join("\n");
        let statement = rest.split(';').next().unwrap_or_default();
        let mut tree = statement.split_once("use ").map_or("", |(_, tree)| tree);
        let mut module: Vec<&str> = source.module.iter().map(String::as_str).collect();
        while let Some(above) = tree.strip_prefix("super::") {
            module.pop();
            tree = above;
        }
        match module.first() {
            Some(room) => paths.push((*room).to_owned()),
            None if tree.starts_with('{') => paths.extend(trees(&tree[1..])),
            None => paths.push(name(tree)),
        }
    }
    paths
}

fn is_of_name(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The name that stands first.
fn name(text: &str) -> String {
    text.trim_start()
        .chars()
        .take_while(|c| is_of_name(*c))
        .collect()
}

/// The first names of the trees up to the brace that ends them.
fn trees(text: &str) -> Vec<String> {
    let (mut depth, mut begins) = (0, true);
    let mut names = Vec::new();
    for (at, c) in text.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            c if begins && is_of_name(c) => {
                names.push(name(&text[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}
