//! The Markdown pages: their headings and links.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::root;

/// Every Markdown page of the tree, by its path.
///
/// # Errors
/// When one cannot be read.
pub fn pages() -> Result<BTreeMap<PathBuf, String>> {
    let mut pages = BTreeMap::new();
    let mut folders = vec![root()?.canonicalize()?];
    while let Some(folder) = folders.pop() {
        let entries = fs::read_dir(&folder)
            .with_context(|| format!("{} cannot be read", folder.display()))?;
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if name.ends_with(".md") {
                let text = fs::read_to_string(&path)
                    .with_context(|| format!("{} cannot be read", path.display()))?;
                pages.insert(path, text);
            }
        }
    }
    Ok(pages)
}

/// The lines that are not inside fenced code blocks.
fn prose(text: &str) -> impl Iterator<Item = &str> {
    let mut is_code = false;
    text.lines().filter(move |line| {
        let is_fence = line.trim_start().starts_with("```");
        is_code ^= is_fence;
        !is_code && !is_fence
    })
}

/// The anchors of the headings, as GitHub forms them.
pub fn anchors(text: &str) -> Vec<String> {
    let mut anchors: Vec<String> = Vec::new();
    for line in prose(text) {
        let heading = line.trim_start_matches('#');
        if heading.len() == line.len() || !heading.starts_with(' ') {
            continue;
        }
        let plain: String = heading
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let anchor = (1..)
            .map(|number| format!("{plain}-{number}"))
            .find(|numbered| !anchors.contains(numbered));
        match anchors.contains(&plain) {
            true => anchors.extend(anchor),
            false => anchors.push(plain),
        }
    }
    anchors
}

/// The targets of the links and images that are not inside code.
pub fn links(text: &str) -> Vec<String> {
    let mut links = Vec::new();
    for line in prose(text) {
        // What is between backticks is code.
        let spoken: String = line.split('`').step_by(2).collect();
        for rest in spoken.split("](").skip(1) {
            links.extend(rest.split_once(')').map(|(link, _)| link.to_owned()));
        }
    }
    links
}

/// Why the link on this page leads nowhere; `None` for a link that does, and for one to another site.
pub fn fault(pages: &BTreeMap<PathBuf, String>, page: &Path, link: &str) -> Option<String> {
    if link.contains("://") {
        return None;
    }
    let (path, anchor) = match link.split_once('#') {
        Some((path, anchor)) => (path, Some(anchor)),
        None => (link, None),
    };
    let target = match path.is_empty() {
        true => page.to_owned(),
        false => page.parent()?.join(path),
    };
    let Ok(target) = target.canonicalize() else {
        return Some(format!("there is no {}", target.display()));
    };
    let anchor = anchor?;
    let found = pages
        .get(&target)
        .is_some_and(|text| anchors(text).iter().any(|one| one == anchor));
    (!found).then(|| format!("{} has no heading #{anchor}", target.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_become_anchors() {
        let text =
            "# kubectl pi\n\n## What's `new`?\n\n```\n# no heading\n```\n#no heading\n## A\n## A\n";
        assert_eq!(anchors(text), ["kubectl-pi", "whats-new", "a", "a-1"]);
    }

    #[test]
    fn links_are_found_outside_code() {
        let text = "See [a](b.md), ![c](d.png) and `[e](f.md)`.\n```\n[g](h.md)\n```\n[i](#j)\n";
        assert_eq!(links(text), ["b.md", "d.png", "#j"]);
    }

    #[test]
    fn broken_links_are_found() {
        let page = root().unwrap().join("README.md").canonicalize().unwrap();
        let pages = BTreeMap::from([(page.clone(), "# One\n".to_owned())]);
        for good in ["https://example.com/a", "#one", "LICENSE", "docs"] {
            assert_eq!(fault(&pages, &page, good), None, "{good}");
        }
        for bad in ["#two", "NOTHING.md", "LICENSE#one"] {
            assert!(fault(&pages, &page, bad).is_some(), "{bad}");
        }
    }
}
