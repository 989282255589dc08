//! What happened before: interactions that are made from habits, and learned as the webhook learns them.

use std::hash::RandomState;

use curfew_core::behaviour::{
    Features, HourOfWeek, Learner, ProfileIndex, ProfileSpec, ProfileStatus, Retention, Thresholds,
    decide,
};
use jiff::Timestamp;

use crate::set::{WEEKS, Workload, at};

/// The interactions of the weeks before the cases, in the order in which they happen. They are the same in each run.
pub fn history(workload: &Workload) -> Vec<(Timestamp, Features)> {
    let mut random = fastrand::Rng::with_seed(workload.name.bytes().map(u64::from).sum());
    let mut made = Vec::new();
    for habit in &workload.habits {
        let hours: Vec<_> = (0..168)
            .filter(|hour| habit.hours.contains(HourOfWeek::of(at(*hour, 0))))
            .collect();
        for week in 0..WEEKS {
            for _ in 0..habit.weekly {
                let hour = hours[random.usize(..hours.len())];
                let time = at(week * 168 + hour, random.i64(0..60));
                let user = &habit.users[random.usize(..habit.users.len())];
                let argv = &habit.commands[random.usize(..habit.commands.len())];
                // Some do the same twice or more before they are done.
                let rate = [1, 1, 1, 1, 2, 3][random.usize(..6)];
                let groups = &workload.users[user];
                made.push((time, habit.place.features(user, groups, argv, time, rate)));
            }
        }
    }
    made.sort_by_key(|(time, _)| *time);
    made
}

/// What is learned from the history: day by day, and from a day on that enough is known only what is not irregular.
/// Nobody looks at what is irregular and adopts it.
pub fn learn(workload: &Workload, thresholds: &Thresholds) -> ProfileStatus {
    let spec = ProfileSpec::default();
    let retention = Retention::default();
    let mut learner = Learner::new("one");
    let mut status = ProfileStatus::default();
    let mut day = None;
    let mut index = ProfileIndex::new(&spec, &status, Timestamp::MIN, RandomState::new());
    for (time, features) in history(workload) {
        let today = time.as_second() / 86_400;
        if day.is_some_and(|day| day != today) {
            write(&mut learner, &mut status, &retention, time);
            index = ProfileIndex::new(&spec, &status, retention.begin(time), RandomState::new());
        }
        day = Some(today);
        if decide(&features, &index, thresholds, time, &workload.name).is_learned() {
            learner.gathered().learn(&features, time);
        }
    }
    write(&mut learner, &mut status, &retention, at(WEEKS * 168, 0));
    status
}

fn write(learner: &mut Learner, status: &mut ProfileStatus, retention: &Retention, now: Timestamp) {
    if let Some(delta) = learner.next_delta() {
        status.merge(delta, retention, now);
        learner.written();
    }
}
