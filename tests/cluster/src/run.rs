//! Runs other programs and turns their failure into one sentence.

use std::{
    io::{self, Write},
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result, anyhow, bail};

/// Runs to the end and returns what was written to standard output.
pub fn output(command: &mut Command) -> Result<String> {
    finish(command, None)
}

/// As [`output`], feeding `input`.
pub fn output_with_input(command: &mut Command, input: &str) -> Result<String> {
    finish(command, Some(input))
}

/// Runs to the end; the output matters only when it fails.
pub fn check(command: &mut Command) -> Result<()> {
    output(command).map(drop)
}

/// Runs to the end, with an output that people see. `failed` is the error when it does not succeed.
pub fn shown(command: &mut Command, failed: &str) -> Result<()> {
    let name = command.get_program().to_string_lossy().into_owned();
    let status = command
        .status()
        .map_err(|error| not_started(&name, &error))?;
    if !status.success() {
        bail!("{failed}");
    }
    Ok(())
}

/// Takes away what `cargo run` told this program of its own package. Build scripts further down (ring's) look at the
/// same variables and would run again at each change between the two.
pub fn without_package(command: &mut Command) -> &mut Command {
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(&name);
        }
    }
    command
}

/// Whether it runs and succeeds; what it says is of no interest.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// `ip` with these arguments.
pub fn ip(arguments: &str) -> Result<String> {
    output(Command::new("ip").args(arguments.split_whitespace()))
}

/// Whether `name` is a program that can be run.
pub fn exists(name: &str) -> bool {
    find(name).is_some()
}

/// Where the program `name` is.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain([
            "/usr/sbin".into(),
            "/sbin".into(),
            "/usr/bin".into(),
            "/bin".into(),
        ])
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}

fn finish(command: &mut Command, input: Option<&str>) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    command.stdin(if input.is_some() {
        Stdio::piped()
    } else {
        Stdio::null()
    });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command
        .spawn()
        .map_err(|error| not_started(&name, &error))?;
    if let (Some(input), Some(mut stdin)) = (input, child.stdin.take()) {
        // One that closes its input early says why when it ends.
        drop(stdin.write_all(input.as_bytes()));
    }
    let output = child
        .wait_with_output()
        .with_context(|| format!("{name} cannot be waited for"))?;
    if !output.status.success() {
        let said = last_line(&String::from_utf8_lossy(&output.stderr));
        bail!("`{}` failed ({}): {said}", describe(command), output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Says that `name` could not be started at all.
pub fn not_started(name: &str, error: &io::Error) -> anyhow::Error {
    match error.kind() {
        io::ErrorKind::NotFound => anyhow!("{name} is not installed or not in PATH"),
        _ => anyhow!("{name} cannot be started: {error}"),
    }
}

fn describe(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words
        .map(|word| word.to_string_lossy())
        .collect::<Vec<_>>()
        .join(" ")
}

/// The last line that says anything.
pub fn last_line(text: &str) -> String {
    text.lines()
        .rfind(|line| !line.trim().is_empty())
        .unwrap_or("it said nothing")
        .trim()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failure_is_one_sentence() {
        let error = check(
            Command::new("sh").args(["-c", "echo first >&2; echo why >&2; echo >&2; exit 3"]),
        );
        let said = error.map_err(|error| error.to_string());
        assert!(
            said.as_ref()
                .is_err_and(|said| said.ends_with("failed (exit status: 3): why")),
            "{said:?}"
        );
    }

    #[test]
    fn what_is_shown_may_fail() {
        let exit = |code: &str| {
            let shown = shown(Command::new("sh").args(["-c", code]), "it went wrong");
            shown.map_err(|error| error.to_string())
        };
        assert_eq!(exit("exit 0"), Ok(()));
        assert_eq!(exit("exit 3"), Err("it went wrong".to_owned()));
    }

    #[test]
    fn input_reaches_the_program() -> Result<()> {
        assert_eq!(output_with_input(&mut Command::new("cat"), "x")?, "x");
        Ok(())
    }

    #[test]
    fn a_missing_program_is_named() {
        let error =
            check(&mut Command::new("curfew-no-such-program")).map_err(|error| error.to_string());
        assert_eq!(
            error,
            Err("curfew-no-such-program is not installed or not in PATH".to_owned())
        );
    }
}
