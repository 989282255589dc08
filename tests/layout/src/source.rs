//! The files of the workspace.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;

/// One file of a crate.
#[derive(Debug, Clone)]
pub struct Source {
    /// Where it stands in the workspace.
    pub path: String,
    /// The modules that lead to it, from the root of the crate; none for the root itself.
    pub module: Vec<String>,
    text: String,
}

impl Source {
    /// The file at this path below the `src` of its crate.
    pub fn new(below_src: &str, text: &str) -> Self {
        let stem = below_src.trim_end_matches(".rs");
        let mut module: Vec<_> = stem.split('/').map(str::to_owned).collect();
        if matches!(
            module.last().map(String::as_str),
            Some("mod" | "lib" | "main")
        ) {
            module.pop();
        }
        Self {
            path: below_src.to_owned(),
            module,
            text: text.to_owned(),
        }
    }

    /// The room that it belongs to; none for the root of the crate.
    pub fn room(&self) -> Option<&str> {
        self.module.first().map(String::as_str)
    }

    /// Whether it is compiled for tests alone.
    pub fn is_for_tests(&self) -> bool {
        self.module
            .iter()
            .any(|module| module == "tests" || module == "testing" || module.ends_with("_tests"))
    }

    /// Its lines, without comments and without the module of its own tests.
    pub fn code(&self) -> String {
        let own = self.text.split("#[cfg(test)]\nmod tests {").next();
        let lines = own.unwrap_or_default().lines();
        let code = lines.map(|line| line.split("//").next().unwrap_or_default());
        code.collect::<Vec<_>>().join("\n")
    }

    /// How many lines it has.
    pub fn lines(&self) -> usize {
        self.text.lines().count()
    }
}

/// The root of the workspace.
///
/// # Errors
/// When this crate does not stand in it.
pub fn workspace() -> anyhow::Result<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = own.ancestors().nth(2).context("the workspace is missing")?;
    Ok(root.to_owned())
}

/// The folders of all crates below `folder`, but for what is built or fetched.
///
/// # Errors
/// When a folder cannot be read.
pub fn crates(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !path.is_dir() || name.starts_with('.') || name == "target" || name == "src" {
            continue;
        }
        if path.join("Cargo.toml").exists() {
            found.push(path.clone());
        }
        found.extend(crates(&path)?);
    }
    found.sort();
    Ok(found)
}

/// The Rust files below a folder, in the order of their paths. Those of crates below it are not among them.
///
/// # Errors
/// When a file cannot be read.
pub fn sources(folder: &Path) -> anyhow::Result<Vec<Source>> {
    let mut found = Vec::new();
    collect(folder, folder, &mut found)?;
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn collect(root: &Path, folder: &Path, found: &mut Vec<Source>) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder).with_context(|| folder.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.join("Cargo.toml").exists() && !path.ends_with("target") {
                collect(root, &path, found)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path)?;
            let below = path.strip_prefix(root)?.display().to_string();
            found.push(Source::new(&below, &text));
        }
    }
    Ok(())
}
