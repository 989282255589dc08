//! When sessions were in the containers of a pod. What is made then may be theirs.

use std::{collections::VecDeque, sync::Arc};

use jiff::Timestamp;

use crate::{
    sessions::{Session, Standing},
    time::later,
    touches::TICK,
};

/// How many sessions that have ended are remembered of a pod. The oldest goes first.
const MOST: usize = 64;

/// From when to when somebody was in a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Span {
    /// The ID of the container.
    pub(crate) container: Arc<str>,
    from: Timestamp,
    to: Timestamp,
}

impl Span {
    /// That of a session which an interaction explains, or which nobody admitted. An open one lasts until now.
    pub(crate) fn of(session: &Session, now: Timestamp) -> Option<Self> {
        let is_ones = matches!(session.standing, Standing::Explained | Standing::Bypass);
        is_ones.then(|| Self {
            container: Arc::clone(&session.container),
            // The clock of files may be a little behind.
            from: later(session.start, -TICK),
            to: session.ended.unwrap_or(now),
        })
    }

    /// Whether that moment is in it.
    pub(crate) fn has(&self, time: Timestamp) -> bool {
        self.from <= time && time <= self.to
    }
}

/// The sessions of a pod that have ended.
#[derive(Debug, Default)]
pub(crate) struct Spans(VecDeque<Span>);

impl Spans {
    pub(crate) fn add(&mut self, span: Span) {
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(span);
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Span> {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Span {
        /// One in some container.
        pub(crate) fn test(from: Timestamp, to: Timestamp) -> Self {
            Self {
                container: "a".into(),
                from,
                to,
            }
        }
    }

    #[test]
    fn the_latest_are_remembered() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut spans = Spans::default();
        for second in 0..100 {
            spans.add(Span::test(at(10 * second), at(10 * second + 5)));
        }
        let has = |second| spans.iter().any(|span| span.has(at(second)));
        assert_eq!(spans.iter().count(), MOST);
        assert!(has(990) && has(995) && !has(996) && !has(989) && !has(0));
    }
}
