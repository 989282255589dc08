//! The commands that runbooks tell people to run.

use std::fs;

use anyhow::{Context, Result};

use crate::{root, rules::RUNBOOKS};

/// What a command of this comment needs is not on every cluster.
const OPERATOR: &str = "with the Prometheus operator";

/// A command as it stands in a runbook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Command {
    /// The alert of the runbook.
    pub alert: String,
    /// The command without its comment.
    pub line: String,
    /// What the runbook says behind it.
    pub comment: String,
}

impl Command {
    /// Whether it is to be run on a node.
    pub fn is_for_a_node(&self) -> bool {
        self.comment.starts_with("on the node")
    }

    /// Whether it is about kinds of the Prometheus operator.
    pub fn is_about_the_operator(&self) -> bool {
        self.comment == OPERATOR
    }

    /// What is searched for in its output, one for each alternative.
    pub fn searches(&self) -> Vec<String> {
        let Some((_, search)) = self.line.split_once("| grep ") else {
            return Vec::new();
        };
        let search = search.split(" | ").next().unwrap_or_default();
        if search.starts_with("-e ") {
            let patterns = search.split("-e ").map(str::trim);
            return patterns
                .filter(|pattern| !pattern.is_empty())
                .map(|pattern| pattern.trim_matches('\'').to_owned())
                .collect();
        }
        let search = search.trim_start_matches("-E ");
        let pattern = match search.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next(),
            None => search.split(' ').next(),
        };
        pattern
            .unwrap_or_default()
            .split('|')
            .map(|one| one.replace("\"event\":\"", "").replace('"', ""))
            .collect()
    }
}

/// The commands of all runbooks, in their order.
///
/// # Errors
/// When they cannot be read.
pub fn commands() -> Result<Vec<Command>> {
    let folder = root()?.join(RUNBOOKS);
    let mut files: Vec<_> = fs::read_dir(&folder)
        .with_context(|| format!("{} cannot be read", folder.display()))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    files.sort();
    let mut commands = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file)
            .with_context(|| format!("{} cannot be read", file.display()))?;
        let alert = file.file_stem().unwrap_or_default().to_string_lossy();
        commands.extend(commands_of(&alert, &text));
    }
    Ok(commands)
}

/// The commands of another page of the tree, in their order.
///
/// # Errors
/// When it cannot be read.
pub fn commands_of_page(page: &str) -> Result<Vec<Command>> {
    Ok(commands_of(page, &crate::read(page)?))
}

/// The lines of shell blocks, and what of kubectl stands between backticks in the text.
fn commands_of(alert: &str, text: &str) -> Vec<Command> {
    let mut commands = Vec::new();
    let mut block = None;
    for line in text.lines() {
        if let Some(language) = line.strip_prefix("```") {
            block = (block.is_none()).then_some(language);
            continue;
        }
        let found: Vec<&str> = match block {
            Some("sh") => vec![line],
            Some(_) => Vec::new(),
            None => line
                .split('`')
                .skip(1)
                .step_by(2)
                .filter(|code| code.starts_with("kubectl "))
                .collect(),
        };
        for line in found.into_iter().filter(|line| !line.trim().is_empty()) {
            let (line, comment) = line.split_once(" # ").unwrap_or((line, ""));
            commands.push(Command {
                alert: alert.to_owned(),
                line: line.trim().to_owned(),
                comment: comment.trim().to_owned(),
            });
        }
    }
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_stand_in_blocks_and_in_the_text() {
        let text = "# A\n\nSee `kubectl get x` and `--flag`.\n\n```sh\nkubectl get y   # on the node\ndf\n```\n\n\
                    ```promql\nkubectl\n```\n";
        let commands = commands_of("A", text);
        let lines: Vec<_> = commands.iter().map(|command| &command.line).collect();
        assert_eq!(lines, ["kubectl get x", "kubectl get y", "df"]);
        assert!(commands[1].is_for_a_node() && !commands[2].is_for_a_node());
    }

    #[test]
    fn what_is_searched_for() {
        let searches = |line: &str| {
            let text = format!("```sh\n{line}\n```");
            commands_of("A", &text)[0].searches()
        };
        assert_eq!(searches("x | grep 'the store '"), ["the store "]);
        assert_eq!(searches("x | grep -E 'a|b' | sort"), ["a", "b"]);
        assert_eq!(searches("x | grep '\"event\":\"gone\"'"), ["gone"]);
        assert_eq!(searches("x | grep plain"), ["plain"]);
        assert_eq!(searches("x | grep -e a-b -e c | sort"), ["a-b", "c"]);
        assert!(searches("x").is_empty());
    }
}
