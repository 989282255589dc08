//! The recorded interactions with one pod, and which sessions they explain.

use std::collections::VecDeque;

use curfew_core::{Kind, masking::MASK, text::ELLIPSIS};
use jiff::{SignedDuration, Timestamp};

use crate::{
    facts::Touch,
    probes::{became, name},
    time::later,
};

/// How many interactions are kept of a pod. The oldest goes first.
const MOST: usize = 64;

/// How long an interaction is kept: far longer than it may explain a session.
const KEPT: SignedDuration = SignedDuration::from_mins(10);

/// How much earlier than its interaction a session may seem to begin: clocks differ.
const BEFORE: SignedDuration = SignedDuration::from_secs(5);

/// How much later it may begin. A client may take up to 30 s to open the streams, and before that nothing is started.
pub(crate) const AFTER: SignedDuration = SignedDuration::from_secs(35);

/// How much later a session may begin whose command is not that of the interaction. It may be what a script became.
const AFTER_OTHER: SignedDuration = SignedDuration::from_secs(5);

/// A clock that differs by more than this is not believed.
const MAX_SKEW: SignedDuration = SignedDuration::from_mins(1);

/// File systems take their times from a clock that advances once a tick.
pub(crate) const TICK: SignedDuration = SignedDuration::from_millis(20);

/// How much earlier a look begins if it is not known exactly when the interaction was: by another node's clock.
const SKEW: SignedDuration = SignedDuration::from_secs(2);

/// The interactions with a pod.
#[derive(Debug, Default)]
pub(crate) struct Touches {
    kept: VecDeque<Kept>,
    first: Option<First>,
    /// Kinds whose end is not seen.
    endless: Option<Kind>,
    /// As [`Touches::quiet`], of the interactions that are not kept any more.
    quiet: Option<Timestamp>,
}

#[derive(Debug)]
struct Kept {
    touch: Touch,
    told: Timestamp,
    used: bool,
}

#[derive(Debug, Clone, Copy)]
struct First {
    time: Timestamp,
    received: Option<Timestamp>,
}

/// How well a command fits a recorded one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Other,
    /// As far as can be told: only a part of it was recorded.
    Likely,
    Same,
}

impl Touches {
    /// Adds an interaction. `used` says that its session is known.
    pub(crate) fn add(&mut self, touch: Touch, used: bool, now: Timestamp) {
        let own = First {
            time: touch.time,
            received: touch.received,
        };
        self.first = match self.first {
            Some(first) if first.time <= own.time => Some(first),
            _ => Some(own),
        };
        if matches!(touch.kind, Kind::Attach | Kind::Portforward) {
            self.endless.get_or_insert(touch.kind);
        }
        if self.kept.len() >= MOST
            && let Some(oldest) = self.kept.pop_front()
        {
            self.quiet = self.quiet.max(oldest.awaited());
        }
        self.kept.push_back(Kept {
            touch,
            told: now,
            used,
        });
    }

    /// A session that no interaction explains is the first, if there was none before.
    pub(crate) fn begin(&mut self, start: Timestamp) {
        self.first.get_or_insert(First {
            time: start,
            received: Some(start),
        });
    }

    /// Whether an interaction explains a session. It explains no other one then.
    pub(crate) fn explain(
        &mut self,
        container: &str,
        command: &[String],
        start: Timestamp,
    ) -> bool {
        let best = self
            .kept
            .iter_mut()
            .filter(|kept| !kept.used && explains(&kept.touch, container))
            .filter_map(|kept| {
                let fit = fit(&kept.touch.command, command);
                let after = match fit {
                    Fit::Other => AFTER_OTHER,
                    _ => AFTER,
                };
                let begin = later(earliest(&kept.touch), -BEFORE);
                let end = later(last(&kept.touch), after);
                let distance = start.duration_since(kept.touch.time).abs();
                let fits = (begin..=end).contains(&start);
                fits.then_some((fit, std::cmp::Reverse(distance), kept))
            })
            .max_by_key(|(fit, distance, _)| (*fit, *distance));
        match best {
            Some((_, _, kept)) => {
                kept.used = true;
                true
            }
            None => false,
        }
    }

    /// Whether an exec was admitted whose session was not seen and may still begin.
    pub(crate) fn is_awaited(&self, now: Timestamp) -> bool {
        self.quiet() > Some(now)
    }

    /// The kind of an interaction whose end is not seen.
    pub(crate) fn endless(&self) -> Option<Kind> {
        self.endless
    }

    /// When the last session that was not seen must have ended: it was shorter than the time between two scans.
    pub(crate) fn quiet(&self) -> Option<Timestamp> {
        let awaited = self.kept.iter().filter_map(Kept::awaited);
        awaited.max().max(self.quiet)
    }

    /// When the first interaction was, as it was recorded.
    pub(crate) fn first(&self) -> Option<Timestamp> {
        self.first.map(|first| first.time)
    }

    /// Since when a change may be due to an interaction, by the clock of this node.
    pub(crate) fn since(&self, since: Timestamp) -> Timestamp {
        match self.first {
            Some(First {
                time,
                received: Some(received),
            }) if time == since => later(received, -TICK),
            _ => later(since, -SKEW),
        }
    }

    /// Whether an interaction happened then.
    pub(crate) fn any_within(&self, from: Timestamp, to: Timestamp) -> bool {
        self.kept.iter().any(|kept| {
            let touch = &kept.touch;
            later(touch.time, BEFORE) >= from && later(touch.time, -BEFORE) <= to
        })
    }

    /// Drops what cannot explain anything any more.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let quiet = &mut self.quiet;
        self.kept.retain(|kept| {
            let keep = later(kept.told.max(kept.touch.time), KEPT) > now;
            if !keep {
                *quiet = (*quiet).max(kept.awaited());
            }
            keep
        });
    }
}

impl Kept {
    /// Until when a session may begin that was not seen.
    fn awaited(&self) -> Option<Timestamp> {
        let begins = matches!(self.touch.kind, Kind::Exec | Kind::Debug);
        (begins && !self.used).then(|| later(last(&self.touch), AFTER))
    }
}

fn explains(touch: &Touch, container: &str) -> bool {
    matches!(touch.kind, Kind::Exec | Kind::Bypass) && touch.container.as_deref() == Some(container)
}

fn earliest(touch: &Touch) -> Timestamp {
    touch.received.map_or(touch.time, |at| at.min(touch.time))
}

fn last(touch: &Touch) -> Timestamp {
    touch
        .received
        .filter(|at| at.duration_since(touch.time) <= MAX_SKEW)
        .map_or(touch.time, |at| at.max(touch.time))
}

fn fit(recorded: &str, command: &[String]) -> Fit {
    if recorded.is_empty() || command.is_empty() {
        return Fit::Likely;
    }
    if let Some(beginning) = recorded.strip_suffix(ELLIPSIS) {
        let whole = curfew_core::Command::new(command);
        let same = whole.as_str().starts_with(beginning);
        // The cut may stand within a masked word or within quotes.
        let first = beginning.split(' ').next().unwrap_or_default();
        let likely = command.first().is_some_and(|program| program == first);
        return match (same, likely) {
            (true, _) => Fit::Same,
            (_, true) => Fit::Likely,
            _ => Fit::Other,
        };
    }
    let words = shlex::split(recorded).unwrap_or_default();
    let (_, words) = curfew_core::wrapper::split(&words);
    let (_, command) = curfew_core::wrapper::split(command);
    let is_same = words.len() == command.len()
        && words
            .iter()
            .zip(command)
            .all(|(word, own)| word == own || word.contains(MASK));
    if is_same || became(words, command) {
        return Fit::Same;
    }
    // A policy may have only the program's name recorded.
    match (words, command.first()) {
        ([program], Some(own)) if name(program) == name(own) => Fit::Likely,
        _ => Fit::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1000 + second).unwrap()
    }

    fn touch(command: &str, kind: Kind, second: i64) -> Touch {
        Touch {
            uid: "u".to_owned(),
            container: Some("app".to_owned()),
            command: command.to_owned(),
            kind,
            time: at(second),
            received: None,
        }
    }

    fn touches(list: impl IntoIterator<Item = Touch>) -> Touches {
        let mut touches = Touches::default();
        for touch in list {
            let now = touch.time;
            touches.add(touch, false, now);
        }
        touches
    }

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    #[test]
    fn an_exec_explains_one_session_of_its_container() {
        let mut own = touches([touch("sh", Kind::Exec, 0)]);
        assert!(!own.explain("other", &words("sh"), at(1)));
        assert!(!own.explain("app", &words("sh"), at(-6)));
        assert!(!own.explain("app", &words("sh"), at(36)));
        assert!(own.explain("app", &words("sh"), at(35)));
        assert!(!own.explain("app", &words("sh"), at(1)));
    }

    #[test]
    fn only_an_exec_or_what_was_found_before_explains_a_session() {
        for (kind, explains) in [
            (Kind::Exec, true),
            (Kind::Bypass, true),
            (Kind::Attach, false),
            (Kind::Portforward, false),
            (Kind::Debug, false),
        ] {
            let mut own = touches([touch("sh", kind, 0)]);
            assert_eq!(own.explain("app", &words("sh"), at(1)), explains, "{kind}");
        }
    }

    #[test]
    fn the_command_that_fits_is_preferred() {
        let mut own = touches([touch("ls -l", Kind::Exec, 0), touch("sh", Kind::Exec, 1)]);
        assert!(own.explain("app", &words("ls -l"), at(1)));
        assert!(own.explain("app", &words("sh"), at(1)));
    }

    #[test]
    fn another_command_is_believed_only_at_once() {
        let mut own = touches([touch("/start", Kind::Exec, 0)]);
        assert!(!own.explain("app", &words("java -jar x"), at(6)));
        assert!(own.explain("app", &words("java -jar x"), at(2)));
    }

    #[test]
    fn what_was_recorded_of_a_command_is_enough() {
        for (recorded, command, expected) in [
            ("", "sh", Fit::Likely),
            ("sh", "sh", Fit::Same),
            ("psql", "psql -U shop", Fit::Likely),
            ("mysql -pxxxxx shop", "mysql -psecret shop", Fit::Same),
            ("check.sh", "/bin/sh /usr/bin/check.sh", Fit::Same),
            ("echo a…", "echo abc", Fit::Same),
            (
                "curl --token=xxxxx http…",
                "curl --token=1 http://x",
                Fit::Likely,
            ),
            (
                "env SPO_EXEC_REQUEST_UID=4f2303d7-da46-4a8c-9ea4-3a830d478076 ls",
                "ls",
                Fit::Same,
            ),
            ("ls", "sh", Fit::Other),
            ("'torn", "sh", Fit::Other),
        ] {
            assert_eq!(fit(recorded, &words(command)), expected, "{recorded}");
        }
        assert_eq!(fit("sh", &[]), Fit::Likely);
    }

    #[test]
    fn a_clock_that_differs_does_not_matter_where_the_own_time_is_known() {
        let mut touch = touch("sh", Kind::Exec, 100);
        touch.received = Some(at(60));
        let mut own = touches([touch]);
        assert_eq!(own.since(at(100)), later(at(60), -TICK));
        assert_eq!(own.since(at(50)), at(48));
        assert!(own.explain("app", &words("sh"), at(61)));
    }

    #[test]
    fn an_exec_that_was_not_seen_is_awaited_for_a_while() {
        let mut own = touches([touch("sh", Kind::Exec, 0)]);
        assert!(own.is_awaited(at(34)) && !own.is_awaited(at(35)));
        assert_eq!(own.quiet(), Some(at(35)));
        own.explain("app", &words("sh"), at(1));
        assert!(!own.is_awaited(at(2)));
        assert_eq!(own.quiet(), None);
    }

    #[test]
    fn all_is_bounded() {
        let mut own = touches((0..1000).map(|second| touch("sh", Kind::Exec, second)));
        assert_eq!(own.kept.len(), MOST);
        own.expire(at(3000));
        assert!(own.kept.is_empty());
        assert_eq!(own.first(), Some(at(0)));
        assert_eq!(own.quiet(), Some(at(1034)));
    }

    proptest! {
        #[test]
        fn each_explains_at_most_one(starts in prop::collection::vec(-20i64..60, 0..10), count in 0usize..5) {
            let mut own = touches((0..count).map(|at| touch("sh", Kind::Exec, at as i64)));
            let explained = starts.iter().filter(|start| own.explain("app", &words("sh"), at(**start))).count();
            prop_assert!(explained <= count);
        }

        #[test]
        fn no_command_panics(recorded in "\\PC{0,30}…?", command in prop::collection::vec("\\PC{0,10}", 0..4)) {
            let _ = fit(&recorded, &command);
        }
    }
}
