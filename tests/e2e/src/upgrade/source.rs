//! The source tree of a commit, below `target/`.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};
use curfew_cluster::run;

/// The source tree of a version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// The commit, as 40 hexadecimal digits.
    pub commit: String,
    /// Where its files are.
    pub tree: PathBuf,
}

impl Source {
    /// Enough of the commit to find it.
    pub fn short(&self) -> &str {
        self.commit.get(..12).unwrap_or(&self.commit)
    }
}

/// Writes the files of a commit to a directory of their own, unless they are there. Their times are the commit's, so
/// cargo does not build them again; nothing is registered in the repository.
///
/// # Errors
/// When the repository does not have the commit.
pub fn extract(repository: &Path, commit: &str) -> Result<Source> {
    let commit = resolve(repository, commit)?;
    let tree = repository.join("target/upgrade").join(&commit);
    if !tree.exists() {
        let (new, archive) = (tree.with_extension("new"), tree.with_extension("tar"));
        drop(fs::remove_dir_all(&new));
        fs::create_dir_all(&new).with_context(|| format!("{} cannot be made", new.display()))?;
        let mut git = git(repository);
        git.args(["archive", "--format=tar", "--output"]);
        run::check(git.arg(&archive).arg(&commit))?;
        let mut tar = Command::new("tar");
        tar.arg("--extract").arg("--file").arg(&archive);
        run::check(tar.arg("--directory").arg(&new))?;
        fs::remove_file(&archive)?;
        fs::rename(&new, &tree)?;
    }
    Ok(Source { commit, tree })
}

fn resolve(repository: &Path, commit: &str) -> Result<String> {
    let name = format!("{commit}^{{commit}}");
    let found = run::output(git(repository).args(["rev-parse", "--verify", "--quiet", &name]));
    if let Ok(id) = found {
        return Ok(id.trim().to_owned());
    }
    let shallow = run::output(git(repository).args(["rev-parse", "--is-shallow-repository"]))?;
    if shallow.trim() == "true" {
        bail!("this clone is shallow and does not have {commit}: run `git fetch --unshallow`");
    }
    bail!("{commit} is not a commit of this repository");
}

fn git(repository: &Path) -> Command {
    let mut git = Command::new("git");
    git.arg("-C").arg(repository);
    git
}

#[cfg(test)]
mod tests {
    use super::*;

    fn commit(repository: &Path, content: &str) -> Result<()> {
        fs::write(repository.join("file"), content)?;
        let who = ["-c", "user.name=a", "-c", "user.email=a@example.com"];
        run::check(git(repository).args(["add", "file"]))?;
        let message = [
            "commit",
            "--quiet",
            "--no-gpg-sign",
            "--no-verify",
            "-m",
            content,
        ];
        run::check(git(repository).args(who).args(message))
    }

    #[test]
    fn a_commit_is_extracted_and_a_missing_one_is_explained() -> Result<()> {
        let dir = tempfile::tempdir()?;
        let whole = dir.path().join("whole");
        run::check(Command::new("git").args(["init", "--quiet"]).arg(&whole))?;
        commit(&whole, "old")?;
        let old = resolve(&whole, "HEAD")?;
        commit(&whole, "new")?;

        let source = extract(&whole, "HEAD^")?;
        assert_eq!(source.commit, old);
        assert_eq!(fs::read_to_string(source.tree.join("file"))?, "old");
        assert_eq!(fs::read_to_string(whole.join("file"))?, "new");
        assert_eq!(extract(&whole, &old)?, source);
        let said = extract(&whole, "none").map_err(|error| error.to_string());
        assert_eq!(
            said,
            Err("none is not a commit of this repository".to_owned())
        );

        let shallow = dir.path().join("shallow");
        let mut clone = Command::new("git");
        clone.args(["clone", "--quiet", "--depth=1"]);
        run::check(
            clone
                .arg(format!("file://{}", whole.display()))
                .arg(&shallow),
        )?;
        let said = extract(&shallow, &old).map_err(|error| error.to_string());
        assert!(said.is_err_and(|said| said.contains("git fetch --unshallow")));
        Ok(())
    }
}
