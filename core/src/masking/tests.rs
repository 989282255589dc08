use proptest::prelude::*;

use super::*;

fn mask(argv: &[&str]) -> Vec<String> {
    masked(argv).map(Cow::into_owned).collect()
}

/// Each word is masked where a `§` stands for a secret, and as it is elsewhere.
fn masks(argv: &[&str]) {
    let secret = "hunter2";
    let given: Vec<_> = argv.iter().map(|word| word.replace('§', secret)).collect();
    let wanted: Vec<_> = argv.iter().map(|word| word.replace('§', MASK)).collect();
    let got: Vec<_> = masked(&given).collect();
    assert_eq!(got, wanted);
}

#[test]
fn what_goes_by_the_name_of_a_secret() {
    masks(&["app", "--password=§", "--port=80"]);
    masks(&["app", "--password", "§", "rest"]);
    masks(&["app", "-password", "§"]);
    masks(&["app", "--db-passwd", "§", "--token", "§", "--api-key=§"]);
    masks(&["app", "--clientSecret=§", "--aws-secret-access-key", "§"]);
    masks(&[
        "env",
        "PASSWORD=§",
        "DB_PASS=§",
        "PGPASSWORD=§",
        "X_PWD=§",
        "app",
    ]);
    masks(&["env", "GITHUB_TOKEN2=§", "app"]);
    masks(&["app", "-D", "spring.datasource.password=§"]);
    masks(&[
        "kubectl",
        "create",
        "secret",
        "generic",
        "x",
        "--from-literal=password=§",
    ]);
    masks(&[
        "wget",
        "--http-password=§",
        "https://host/?user=a&token=§&page=2",
    ]);
    masks(&["openssl", "rsa", "-passin", "pass:§"]);
}

#[test]
fn options_whose_names_do_not_tell() {
    masks(&["mysql", "-u", "root", "-p§", "shop"]);
    masks(&["/usr/bin/mysqldump", "-p§"]);
    masks(&["sshpass", "-p", "§", "ssh", "host"]);
    masks(&["redis-cli", "-a", "§", "get", "x"]);
    masks(&["curl", "-u", "alice:§", "https://host"]);
    masks(&[
        "curl",
        "-ualice:§",
        "--proxy-user",
        "bob:§",
        "--user=carl:§",
    ]);
    masks(&["ldapsearch", "-D", "cn=x", "-w", "§"]);
    masks(&["mongosh", "-u", "root", "-p", "§"]);
}

#[test]
fn texts_within_words() {
    masks(&["curl", "-H", "Authorization: §"]);
    masks(&["curl", "-H", "x-api-key: §", "-b", "session-cookie=§"]);
    masks(&["curl", "-d", r#"{"user": "a", "password": "§", "n": 1}"#]);
    masks(&["curl", "-d", r#"{"apiKey":"§"}"#]);
    masks(&["psql", "postgres://alice:§@db:5432/shop"]);
    masks(&["psql", "host=db password=§ dbname=shop"]);
    masks(&["app", "--url=amqp://u:§@host", "--next=redis://:§@host/0"]);
    masks(&["mysql", "-e", "CREATE USER a IDENTIFIED BY '§'"]);
    masks(&[
        "psql",
        "-c",
        "ALTER USER a WITH PASSWORD '§' VALID UNTIL 'x'",
    ]);
    // A password with a slash in it that was not encoded.
    let argv = mask(&["psql", "postgres://alice:a/b@db/shop"]);
    assert_eq!(argv[1], "postgres://alice:xxxxx@db/shop");
}

#[test]
fn scripts_of_shells() {
    masks(&["sh", "-c", "export TOKEN=§; ls -l"]);
    masks(&["sh", "-c", "PASSWORD=§ app --port 80 && rm -rf /data"]);
    masks(&["bash", "-lc", "mysql -u root -p§ < dump.sql | cat"]);
    masks(&["sh", "-c", "app --password § --x y"]);
    masks(&["su", "app", "-c", "redis-cli -a § keys '*'"]);
    let argv = mask(&["sh", "-c", "PASSWORD='a b;c' app \"it's\" fine"]);
    assert_eq!(argv[2], "PASSWORD=xxxxx app \"it's\" fine");
    let argv = mask(&[
        "sh",
        "-c",
        r#"curl -H "Authorization: Bearer abc" host; id"#,
    ]);
    assert_eq!(argv[2], "curl -H 'Authorization: xxxxx' host; id");
    let argv = mask(&["sh", "-c", r#"sh -c "sh -c 'export TOKEN=x'""#]);
    assert_eq!(argv[2], r#"sh -c "sh -c 'export TOKEN=xxxxx'""#);
}

#[test]
fn what_is_run_next_is_not_masked() {
    for script in [
        "TOKEN=x; rm -rf /data",
        "TOKEN=x rm -rf /data",
        "TOKEN=\"x\"&&rm -rf /data",
        "app --token x; rm -rf /data",
        "echo token: x; rm -rf /data",
        "TOKEN=x\nrm -rf /data",
        "echo password | rm -rf /data",
    ] {
        let argv = mask(&["sh", "-c", script]);
        assert!(argv[2].ends_with("rm -rf /data"), "{argv:?}");
    }
}

#[test]
fn tokens_of_known_forms() {
    for token in [
        "AKIAIOSFODNN7EXAMPLE",
        "ghp_0123456789abcdefghijABCDEFGHIJ012345",
        "github_pat_11ABCDEFG0123456789_abcdefghijklmnop",
        "glpat-0123456789abcdefghij",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "xoxb-123456789012-abcdefghijkl",
        "sk_live_0123456789abcdefghij",
        "hvs.CAESIJ0123456789abcdefghij",
    ] {
        for (before, after) in [("", ""), ("x=", ""), ("curl -d '", "' host"), ("a:", ",b")] {
            let argv = mask(&["app", &format!("{before}{token}{after}")]);
            assert_eq!(argv[1], format!("{before}{MASK}{after}"));
        }
    }
}

#[test]
fn what_is_no_secret_stays() {
    for argv in [
        &["ls", "-l", "/var/run/secrets/kubernetes.io/serviceaccount"][..],
        &["cat", "/etc/passwd"],
        &["kubectl", "get", "secret", "my-secret", "-o", "yaml"],
        &["sh", "-c", "while true; do date; sleep 1; done"],
        &["sh", "-c", "cd $PWD; PWD=/tmp ls"],
        &[
            "app",
            "--password-file=/etc/x",
            "--token-ttl",
            "5m",
            "--password-stdin",
        ],
        &["psql", "--no-password", "shop"],
        &["mysql", "-p", "shop"],
        &["tar", "-pxf", "a.tar"],
        &["ssh", "-p", "22", "host"],
        &["curl", "https://host:8443/a@b?page=1", "-u", "alice"],
        &["curl", "http://[::1]:80/x@y"],
        &["app", "--password", "$DB_PASSWORD", "--token=${TOKEN}"],
        &["echo", "the basic instructions", "a bearer capability"],
        &["git", "clone", "git@github.com:o/r.git"],
        &["sort", "--key", "2", "keepass=1", "compass=2"],
        &["app", "--password"],
        &["app", "--password="],
        &["app", "--token", "--verbose"],
        &["echo", "grüße", "日本 語", ""],
    ] {
        assert_eq!(mask(argv), argv);
    }
}

#[test]
fn a_url_that_was_cut_hides_what_may_be_a_password() {
    let long = format!("https://alice:{}", "p".repeat(WINDOW));
    assert_eq!(mask(&["app", &long])[1], "https://alice:xxxxx");
}

#[test]
fn what_is_long_is_looked_at_as_far_as_the_window_reaches() {
    for part in [
        "://",
        "://a:b/",
        "password",
        "password=",
        "'",
        "by ",
        "sh -c ",
        "a=b;",
        "\\\"",
        "eyJ",
        "-p ",
    ] {
        let long = part.repeat(1_000_000 / part.len());
        for argv in [
            vec!["sh", "-c", &long],
            vec!["app", &long],
            vec!["--token", &long],
        ] {
            let cut: Vec<_> = argv.iter().map(|word| cut(word, WINDOW)).collect();
            let cut: Vec<_> = cut.iter().map(|word| &**word).collect();
            assert_eq!(mask(&argv), mask(&cut));
            assert!(mask(&argv).iter().all(|word| word.len() <= 6 * WINDOW));
        }
    }
}

/// What a search of the properties below found, masked once and masked again.
fn settles(argv: &[&str], wanted: &[&str]) {
    assert_eq!(mask(argv), wanted);
    assert_eq!(mask(wanted), wanted);
}

#[test]
fn a_name_within_a_bearer_token_is_masked_with_it() {
    settles(&["Bearer PASSWORD:A"], &["Bearer xxxxx"]);
    settles(&["app", "basic TOKEN=Abc; ls"], &["app", "basic xxxxx ls"]);
}

#[test]
fn what_is_masked_is_masked_no_more() {
    settles(
        &["xxxxx", "--token", "xxxxx"],
        &["xxxxx", "--token", "xxxxx"],
    );
    settles(&["sh", "-c", "xxxxx"], &["sh", "-c", "xxxxx"]);
    settles(&["curl", "-u", "xxxxx"], &["curl", "-u", "xxxxx"]);
}

/// Words made of what means something to the masking.
fn words() -> impl Strategy<Value = Vec<String>> {
    let part = prop_oneof![
        proptest::sample::select(vec![
            "sh",
            "-c",
            "mysql",
            "-p",
            "curl",
            "-u",
            "--password",
            "PASSWORD",
            "token",
            "=",
            ":",
            " ",
            "\n",
            ";",
            "|",
            "'",
            "\"",
            "\\",
            "://",
            "@",
            "/",
            "$",
            "{",
            "}",
            ",",
            "&",
            "Authorization",
            "Bearer ",
            "basic ",
            "redis-cli",
            "-a",
            "DB_PASS=",
            "by",
            "<",
            "\t",
            "A1b2C3d4",
            "a",
            "7",
            "xxxxx",
            "AKIAIOSFODNN7EXAMPLE",
            "identified by ",
            "…",
            "ü",
            "-",
            "--",
        ])
        .prop_map(str::to_owned),
        "\\PC{0,4}",
    ];
    let word = prop::collection::vec(part, 0..8).prop_map(|parts| parts.concat());
    prop::collection::vec(word, 0..6)
}

proptest! {
    #![proptest_config({
        let default = ProptestConfig::default();
        ProptestConfig { cases: default.cases.max(4096), ..default }
    })]

    #[test]
    fn masked_again_nothing_changes(argv in words()) {
        let once: Vec<_> = masked(&argv).map(Cow::into_owned).collect();
        let twice: Vec<_> = masked(&once).map(Cow::into_owned).collect();
        prop_assert_eq!(&once, &twice);
        prop_assert_eq!(once.len(), argv.len());
        for (masked, word) in once.iter().zip(&argv) {
            // Each mask stands for a byte at least, and quoting a word of a script anew takes few more.
            prop_assert!(masked.len() <= 6 * word.len() + 8, "{masked:?} of {word:?}");
        }
    }

    #[test]
    fn words_without_anything_of_note_stay(argv in prop::collection::vec("[a-z0-9/._ -]{0,12}", 0..6)) {
        let telling = ["pass", "pwd", "secret", "token", "key", "cred", "auth", "cookie", "ldap", "curl", "mongo", "mysql"];
        prop_assume!(!argv.iter().any(|word| telling.iter().any(|telling| word.contains(telling))));
        let kept: Vec<_> = masked(&argv).collect();
        prop_assert_eq!(&kept, &argv);
    }

    #[test]
    fn a_secret_is_gone_wherever_it_stands(
        secret in "[A-Za-z0-9+%]{6,40}",
        before in prop::collection::vec("[a-z]{1,6}", 0..3),
        form in proptest::sample::select(vec![
            "--password=§", "--token §", "TOKEN=§", "https://u:§@host/x", "-H 'X-Api-Key: §'",
            r#"-d '{"password":"§"}'"#, "DB_PASSWORD='§'",
        ]),
        script in any::<bool>(),
    ) {
        prop_assume!(!"https://u:host/x-password".contains(&secret));
        let typed = form.replace('§', &secret);
        let mut argv = before.clone();
        match script {
            true => argv.extend(["sh".to_owned(), "-c".to_owned(), format!("app {typed} rest; id")]),
            false => argv.extend(shlex::split(&typed).unwrap()),
        }
        let kept = crate::Command::new(masked(&argv));
        prop_assert!(!kept.as_str().contains(&secret), "{}", kept);
        prop_assert!(kept.as_str().contains(MASK));
    }
}
