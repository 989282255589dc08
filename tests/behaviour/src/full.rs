//! A profile that has learned as much as it can, to measure with.

use anyhow::Context;
use curfew_core::{
    Kind,
    behaviour::{
        Features, Learned, Learner, MAX_LEARNED, ProfileStatus, Retention, SeenInteraction,
    },
};
use jiff::{SignedDuration, Timestamp};

/// What a person with a terminal does.
pub fn features(user: &str, argv: &[String], time: Timestamp) -> Features {
    Features::of(&SeenInteraction {
        user,
        groups: &[
            "sre".to_owned(),
            "oncall".to_owned(),
            "system:authenticated".to_owned(),
        ],
        kind: Kind::Exec,
        container: Some("app"),
        argv,
        tty: true,
        stdin: true,
        time,
        rate: 1,
    })
}

/// A profile that has learned as much as it can.
///
/// # Errors
/// If what it learned is not what was meant.
pub fn full_profile() -> anyhow::Result<ProfileStatus> {
    let mut learner = Learner::new("one");
    let arguments = ["-l", "/app/x", "7", "word", "https://x/y", "a b"];
    for at_program in 0..2_000_u16 {
        let mut argv = vec![format!("program-{at_program}")];
        argv.extend(
            arguments
                .iter()
                .take(usize::from(at_program) % 7)
                .map(|argument| (*argument).to_owned()),
        );
        let time = at(i64::from(at_program) % 1_000);
        learner.gathered().learn(
            &features(&format!("user-{}", at_program % 50), &argv, time),
            time,
        );
    }
    let mut status = ProfileStatus::default();
    let delta = learner.next_delta().context("nothing was learned")?;
    status.merge(delta, &Retention::default(), at(1_000));
    anyhow::ensure!(
        status.learned.len() == MAX_LEARNED,
        "only {}",
        status.learned.len()
    );
    let is_usual = |learned: &Learned| learned.criterion.programs == ["program-3"];
    anyhow::ensure!(
        status.learned.iter().any(is_usual),
        "the usual one was dropped"
    );
    Ok(status)
}

/// So many hours after the beginning of all that is learned here.
pub fn at(hours: i64) -> Timestamp {
    let begin = Timestamp::from_second(1_767_571_200).unwrap_or(Timestamp::UNIX_EPOCH);
    begin
        .checked_add(SignedDuration::from_hours(hours))
        .unwrap_or(begin)
}
