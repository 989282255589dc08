//! Criteria as they are written and read.

use super::*;
use crate::behaviour::facet::Facet;

#[test]
fn what_is_learned_reads_as_a_person_would_write_it() {
    let status = learned(&[Case {
        streams: (false, false),
        ..case("alice", "sh -c 'curl -s http://x | tar x'")
    }]);
    let text: Vec<_> = status
        .learned
        .iter()
        .map(|learned| serde_json::to_string(&learned.criterion).unwrap())
        .collect();
    for expected in [
        r#"{"users":["alice"]}"#,
        r#"{"users":["alice"],"groups":["sre"]}"#,
        r#"{"actors":["User"],"kinds":["exec"],"tty":false,"stdin":false}"#,
        r#"{"containers":["web"]}"#,
        r#"{"actors":["User"],"programs":["sh -c"]}"#,
        r#"{"actors":["User"],"programs":["curl"]}"#,
        r#"{"actors":["User"],"programs":["curl"],"arguments":["flag"]}"#,
        r#"{"actors":["User"],"programs":["curl"],"arguments":["url"]}"#,
        r#"{"actors":["User"],"pipes":["curl | tar"]}"#,
        r#"{"actors":["User"],"hours":["Mon 10"]}"#,
        r#"{"actors":["User"],"rate":1}"#,
    ] {
        assert!(
            text.iter().any(|text| text == expected),
            "{expected} in {text:#?}"
        );
    }
    let one = serde_json::to_value(&status.learned[0]).unwrap();
    assert_eq!(one["firstSeen"], "2026-11-02T10:00:00Z");
    assert_eq!(one["samples"], 1);
    assert!(one["actors"].as_str().unwrap().starts_with("1:"));
}

#[test]
fn each_learned_criterion_has_its_facet() {
    let mut odd = case("system:serviceaccount:a:b", "sh -c 'cat x | sh; $Y'");
    odd.rate = 100;
    for case in history().into_iter().chain([odd]) {
        let features = case.features();
        for facet in features.facets() {
            let criterion = Criterion::learned(&facet).unwrap();
            criterion.check().unwrap();
            assert_eq!(criterion.facet(), Some(facet));
            assert!(
                criterion.covers(&facet, &features),
                "{criterion:?} {facet:?}"
            );
        }
    }
}

#[test]
fn what_a_person_changed_in_the_status_counts_for_nothing() {
    for json in [
        r#"{}"#,
        r#"{"users":["alice","bob"]}"#,
        r#"{"users":["alice"],"programs":["a","b"]}"#,
        r#"{"actors":["User"],"hours":["Mon-Fri 08-18"]}"#,
        r#"{"actors":["User","Node"],"programs":["a"]}"#,
        r#"{"actors":["User"],"programs":["a"],"kinds":["exec"]}"#,
        r#"{"programs":["a"]}"#,
    ] {
        let criterion: Criterion = serde_json::from_str(json).unwrap();
        assert_eq!(criterion.facet(), None, "{json}");
    }
}

#[test]
fn criteria_that_make_no_sense_are_refused() {
    let check = |json: &str| serde_json::from_str::<Criterion>(json).unwrap().check();
    assert_eq!(check("{}"), Err(InvalidCriterion::Empty));
    assert_eq!(check(r#"{"users":[""]}"#), Err(InvalidCriterion::Length));
    assert_eq!(
        check(r#"{"arguments":["flag"]}"#),
        Err(InvalidCriterion::ArgumentsWithoutPrograms)
    );
    assert_eq!(check(r#"{"pipes":["cat"]}"#), Err(InvalidCriterion::Pipe));
    assert_eq!(
        check(r#"{"users":["a*"],"hours":["Mon-Fri 08-18"]}"#),
        Ok(())
    );
    let many = Criterion {
        users: vec!["a".to_owned(); 65],
        ..Criterion::default()
    };
    assert_eq!(many.check(), Err(InvalidCriterion::TooMany));
    assert!(serde_json::from_str::<Criterion>(r#"{"program":["a"]}"#).is_err());
    let spec = ProfileSpec {
        allowed: vec![Criterion::default()],
        ..ProfileSpec::default()
    };
    assert_eq!(
        spec.check().unwrap_err().to_string(),
        "spec.allowed[0]: is empty; it must name what is usual"
    );
    let spec = ProfileSpec {
        allowed: vec![Criterion::default(); 65],
        ..ProfileSpec::default()
    };
    assert_eq!(spec.check(), Err(InvalidProfile::TooMany(65)));
    let names = |count: usize| (0..count).map(|at| format!("program-{at}")).collect();
    let with = |count| Criterion {
        programs: names(count),
        ..Criterion::default()
    };
    let most = ProfileSpec {
        allowed: vec![with(64); 4],
        ..ProfileSpec::default()
    };
    assert_eq!(most.check(), Ok(()));
    let more = ProfileSpec {
        allowed: [most.allowed, vec![with(1)]].concat(),
        ..ProfileSpec::default()
    };
    assert_eq!(more.check(), Err(InvalidProfile::Values(257)));
}

#[test]
fn a_condition_on_programs_holds_for_each_of_them() {
    let criterion: Criterion =
        serde_json::from_str(r#"{"users":["carol"],"programs":["cat","sh -c"]}"#).unwrap();
    let covers = |command: &str| {
        let features = case("carol", command).features();
        criterion.covers(&Facet::User { user: "carol" }, &features)
    };
    assert!(covers("cat x") && covers("sh -c 'cat x'"));
    assert!(!covers("sh -c 'cat x | nc y'") && !covers("nc"));
}

#[test]
fn a_profile_reads_as_it_was_written() {
    let mut status = learned(&history());
    status.distrusted = vec![Period {
        from: begin(),
        until: begin(),
    }];
    let text = serde_json::to_string(&status).unwrap();
    assert_eq!(
        serde_json::from_str::<ProfileStatus>(&text).unwrap(),
        status
    );
    assert_eq!(
        serde_json::from_str::<ProfileStatus>("{}").unwrap(),
        ProfileStatus::default()
    );
}
