//! What of the learned becomes allowed.

use super::*;

fn judge(case: &Case, spec: &ProfileSpec) -> Decision {
    let nothing = ProfileStatus::default();
    decide(
        &case.features(),
        &index(spec, &nothing),
        &Thresholds::default(),
        case.time,
        "deployment web",
    )
}

fn all(status: &ProfileStatus) -> ProfileSpec {
    ProfileSpec {
        allowed: adopted(&status.learned),
        ..ProfileSpec::default()
    }
}

#[test]
fn what_was_adopted_is_usual_without_what_was_learned() {
    let history = history();
    let spec = all(&learned(&history));
    spec.check().unwrap();
    for case in &history {
        assert!(
            matches!(judge(case, &spec), Decision::Usual { .. }),
            "{case:?}"
        );
    }
}

#[test]
fn what_was_adopted_lets_nobody_else_in() {
    let spec = all(&learned(&history()));
    for case in [
        case("mallory", "sh"),
        case("mallory", "cat /app/config.yaml"),
        case("alice", "nc x"),
        case("system:serviceaccount:ops:backup", "psql -c 'select 1'"),
    ] {
        assert!(
            !matches!(judge(&case, &spec), Decision::Usual { .. }),
            "{case:?}"
        );
    }
}

#[test]
fn what_is_allowed_names_what_was_learned() {
    let status = learned(&history());
    let spec = all(&status);
    let named = |learned: &Learned| {
        let mut allowed = spec.allowed.iter();
        allowed.any(|allowed| allowed.names_learned(&learned.criterion))
    };
    for learned in &status.learned {
        let criterion = &learned.criterion;
        let adopted =
            criterion.hours.is_empty() && criterion.rate.is_none() && criterion.groups.is_empty();
        assert!(
            named(learned) == adopted || !criterion.groups.is_empty(),
            "{criterion}"
        );
    }
    let nc: Criterion = serde_json::from_str(r#"{"programs":["nc"],"actors":["User"]}"#).unwrap();
    assert!(
        !spec
            .allowed
            .iter()
            .any(|allowed| allowed.names_learned(&nc))
    );
    assert_eq!(nc.to_string(), "actors User; programs nc");
}
