//! What is measured, in which order, and how much time there is for it.

use std::time::Duration;

use clap::Parser;

use crate::{Args, What};

/// What is measured without a command, with about how many seconds each takes on two processors.
const USUAL: [(&str, u64); 7] = [
    ("recording", 230),
    ("exec", 100),
    ("touch", 250),
    ("bystanders", 130),
    ("crowd", 190),
    ("footprint", 140),
    ("growth", 80),
];

/// What else there is.
const OTHERS: [&str; 7] = [
    "restart",
    "due",
    "rotation",
    "flood",
    "plugin",
    "scrape",
    "connections",
];

/// The usual ones with as little as shows that they work. `cargo test` runs the benchmarks of criterion once.
const SMOKE: [&[&str]; 6] = [
    &[
        "recording",
        "--seconds=2",
        "--rates=",
        "--bursts=5",
        "--pods=2",
        "--rest=1s",
    ],
    &["exec", "--execs=2", "--clients=2", "--pairs=1", "--rest=1s"],
    &[
        "touch",
        "--pods=4",
        "--clients=2",
        "--ttl=15",
        "--idle=2",
        "--rest=1s",
    ],
    &["bystanders", "--pods=20", "--pairs=2"],
    &[
        "crowd",
        "--nodes=3",
        "--pods=2",
        "--rate=5",
        "--seconds=1",
        "--writes=5",
        "--rest=1s",
    ],
    &[
        "footprint",
        "--pods=10",
        "--interactions=1000",
        "--rest=1s",
        "--watch=1s",
    ],
];

/// How long the usual ones may take.
pub(crate) const MOST: Duration = Duration::from_secs(20 * 60);

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) all: Vec<Wanted>,
    /// Whether a target that is missed matters.
    pub(crate) judges: bool,
    /// For how long the API server has to be quiet before each of them.
    pub(crate) rest: Duration,
}

/// A measurement.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(crate) what: What,
    /// How long it takes; nothing where that does not matter.
    pub(crate) expected: Duration,
}

/// What follows from the command.
pub(crate) fn of(what: Option<What>) -> Plan {
    let judges = !matches!(what, Some(What::Smoke));
    let all = match what {
        None => {
            let usual = USUAL.into_iter();
            usual
                .filter_map(|(name, seconds)| wanted(&[name], seconds))
                .collect()
        }
        Some(What::All) => {
            let names = USUAL.map(|(name, _)| name).into_iter().chain(OTHERS);
            names.filter_map(|name| wanted(&[name], 0)).collect()
        }
        Some(What::Smoke) => {
            let smoke = SMOKE.into_iter();
            smoke.filter_map(|words| wanted(words, 0)).collect()
        }
        Some(what) => vec![Wanted {
            what,
            expected: Duration::ZERO,
        }],
    };
    let rest = Duration::from_secs(if judges { 5 } else { 1 });
    Plan { all, judges, rest }
}

/// A measurement as if somebody had written this: the defaults stand with the flags.
fn wanted(words: &[&str], seconds: u64) -> Option<Wanted> {
    let words = std::iter::once("curfew-bench").chain(words.iter().copied());
    Some(Wanted {
        what: Args::try_parse_from(words).ok()?.what?,
        expected: Duration::from_secs(seconds),
    })
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn names(plan: &Plan) -> Vec<&'static str> {
        plan.all.iter().map(|wanted| wanted.what.name()).collect()
    }

    #[test]
    fn every_measurement_is_in_one_of_the_lists() {
        let command = Args::command();
        let mut there: Vec<_> = command
            .get_subcommands()
            .map(|one| one.get_name())
            .filter(|name| !["all", "smoke"].contains(name))
            .collect();
        let mut all = names(&of(Some(What::All)));
        there.sort_unstable();
        all.sort_unstable();
        assert_eq!(there, all);
    }

    #[test]
    fn the_usual_ones_fit_into_the_time() {
        let usual = of(None);
        assert_eq!(names(&usual), USUAL.map(|(name, _)| name));
        let expected: Duration = usual.all.iter().map(|wanted| wanted.expected).sum();
        assert!(usual.judges && expected <= MOST, "{expected:?}");
    }

    #[test]
    fn the_smoke_has_all_of_them_that_need_the_cluster() {
        let smoke = of(Some(What::Smoke));
        assert!(!smoke.judges);
        assert_eq!(names(&smoke), SMOKE.map(|words| words[0]));
        let usual = names(&of(None)).into_iter();
        let usual: Vec<_> = usual.filter(|name| *name != "growth").collect();
        assert_eq!(names(&smoke), usual);
    }
}
