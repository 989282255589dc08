//! Reads the sources of a crate and says which of its rooms import which.
//!
//! A room is a top-level module of a crate: a file or a folder in `src`. Imports between rooms go one way, so
//! that a reader can begin with the rooms that know no others. What is compiled for tests alone may import
//! anything. It reads text and does not parse Rust: the sources are formatted by rustfmt.

mod imports;
mod source;

use std::collections::{BTreeMap, BTreeSet};

pub use source::{Source, crates, sources, workspace};

/// The rooms that each room of a crate imports.
pub type Imports = BTreeMap<String, BTreeSet<String>>;

/// The imports between the rooms of a crate with these sources.
pub fn imports(sources: &[Source]) -> Imports {
    let rooms: BTreeSet<&str> = sources.iter().filter_map(Source::room).collect();
    let mut found = Imports::new();
    for source in sources.iter().filter(|source| !source.is_for_tests()) {
        let Some(room) = source.room() else { continue };
        let of_room = found.entry(room.to_owned()).or_default();
        for path in imports::paths(source) {
            let to = path.split("::").next().unwrap_or_default();
            if to != room && rooms.contains(to) {
                of_room.insert(to.to_owned());
            }
        }
    }
    found
}

/// A circle of rooms, each of which imports the next and the last the first.
pub fn circle(imports: &Imports) -> Option<Vec<String>> {
    let mut done = BTreeSet::new();
    imports
        .keys()
        .find_map(|room| follow(imports, room, &mut Vec::new(), &mut done))
}

fn follow<'a>(
    imports: &'a Imports,
    room: &'a str,
    way: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<String>> {
    if let Some(begin) = way.iter().position(|passed| *passed == room) {
        return Some(way[begin..].iter().map(|room| (*room).to_owned()).collect());
    }
    if done.contains(room) {
        return None;
    }
    way.push(room);
    let circle = imports
        .get(room)
        .into_iter()
        .flatten()
        .find_map(|next| follow(imports, next, way, done));
    way.pop();
    done.insert(room);
    circle
}

/// The names of types that a crate with these sources defines more than once, each with the files.
pub fn repeated_types(sources: &[Source]) -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for source in sources.iter().filter(|source| !source.is_for_tests()) {
        for name in source.code().lines().filter_map(type_name) {
            let files = found.entry(name.to_owned()).or_default();
            files.push(source.path.clone());
        }
    }
    found.retain(|_, files| files.len() > 1);
    found
}

/// The name of the type that this line defines.
fn type_name(line: &str) -> Option<&str> {
    let code = line.trim_start();
    let code = match code.strip_prefix("pub") {
        Some(public) if public.starts_with('(') => public.split_once(") ")?.1,
        Some(public) => public.strip_prefix(' ')?,
        None => code,
    };
    let (kind, rest) = code.split_once(' ')?;
    // An alias that is indented belongs to a trait.
    let defines = match kind {
        "struct" | "enum" | "trait" | "union" => true,
        "type" => !line.starts_with(' '),
        _ => false,
    };
    let name = rest
        .split(|c: char| !c.is_alphanumeric() && c != '_')
        .next()?;
    (defines && !name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests;
