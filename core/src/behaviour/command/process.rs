//! The names of programs that run or that lie in a file, as they are read in commands.

use super::{CommandReading, UNREADABLE, catalogue::ProgramClass, normalised};

/// What the kernel appends to the path of a program whose file is gone.
const DELETED: &str = " (deleted)";

/// Programs that are many: the command says which.
const MANY: [&str; 3] = ["busybox", "toybox", "coreutils"];

/// The normalised name of the program in this file.
pub fn program_of_file(path: &str) -> String {
    normalised(path)
}

/// The normalised name of the program that a process runs; none where nothing tells. A process can change its command,
/// and not the `file` that it runs, as far as that is known.
pub fn program_of_process<S: AsRef<str>>(argv: &[S], file: Option<&str>) -> Option<String> {
    let told = CommandReading::of(argv).steps.into_iter().next();
    let told = told.map(|step| step.program);
    let file = file.map(|file| normalised(file.strip_suffix(DELETED).unwrap_or(file)));
    match file.filter(|file| file != UNREADABLE) {
        Some(file) => Some(
            told.filter(|told| is_told_apart(&file, told))
                .unwrap_or(file),
        ),
        None => told,
    }
}

/// Whether the command says more than the file does.
fn is_told_apart(file: &str, told: &str) -> bool {
    let class = ProgramClass::of(file);
    let runs_scripts = matches!(class, ProgramClass::Shell | ProgramClass::Interpreter);
    MANY.contains(&file) || runs_scripts && class == ProgramClass::of(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_what_runs_and_the_command_says_which_of_many() {
        for (argv, file, program) in [
            (&["sleep", "600"][..], Some("/bin/busybox"), "sleep"),
            (&["busybox", "nc", "-l"], Some("/bin/busybox"), "nc"),
            (&["nc", "-l"], None, "nc"),
            (&["nc", "-l"], Some("/usr/bin/nc.openbsd"), "nc.openbsd"),
            // Whatever it calls itself.
            (&["sleep", "600"], Some("/tmp/xmrig"), "/tmp/xmrig"),
            (&["sleep"], Some("/tmp/xmrig (deleted)"), "/tmp/xmrig"),
            (&["nginx: worker /x"], Some("/usr/sbin/nginx"), "nginx"),
            (&["sh", "-c", "nc x"], Some("/bin/dash"), "sh -c"),
            (&["/bin/sh", "/tmp/x"], Some("/bin/busybox"), "sh FILE"),
            (&["sleep"], Some("/usr/bin/python3.11"), "python"),
            (&["python3", "x.py"], Some("/usr/bin/python3.11"), "python"),
            (&["timeout", "9", "nc"], None, "nc"),
            (&[], Some("/usr/bin/nc"), "nc"),
            (&["nc"], Some("/"), "nc"),
        ] {
            let found = program_of_process(argv, file);
            assert_eq!(found.as_deref(), Some(program), "{argv:?} {file:?}");
        }
        assert_eq!(program_of_process::<&str>(&[], None), None);
        assert_eq!(program_of_file("/var/tmp/a b"), "/tmp/a_b");
    }
}
