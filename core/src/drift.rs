//! What was found in a pod that somebody interacted with: whether its containers still are what their images and their
//! volumes made of them, and whether anything that a session started still runs.
//!
//! What is found is a fact. What follows from it is for the [terms](crate::terms) to say.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use strum::{EnumString, IntoStaticStr, VariantArray, VariantNames};

use crate::{
    left::{self, Leftover},
    text::{cut, visible},
};

/// The most findings that are kept of one look.
pub const MAX_FINDINGS: usize = 8;

/// The most bytes of one finding.
pub const MAX_FINDING: usize = 160;

/// The most clauses that are kept of what could not be seen.
pub const MAX_UNSEEN: usize = 4;

/// What could not be seen of a pod with a session that has not ended: what it still does.
pub const OPEN_SESSION: &str = "a session has not ended";

// The order matters: what was found wins over what could not be seen, and that over having found nothing.
/// What a look at a pod says.
#[derive(EnumString, IntoStaticStr, VariantArray, VariantNames)]
#[strum(serialize_all = "PascalCase")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Verdict {
    /// All was seen, and nothing has changed since the first interaction.
    Unchanged,
    /// Nothing that changed was found, and not all could be seen.
    Unknown,
    /// Something has changed.
    Changed,
}

impl Verdict {
    /// All of them.
    pub const ALL: &[Verdict] = <Self as VariantArray>::VARIANTS;

    /// The name of each, as [`Verdict::as_str`] gives it.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Its name, as it stands on pods and is shown.
    pub fn as_str(self) -> &'static str {
        self.into()
    }

    /// The verdict of a [summary](Drift::summary), which begins with it.
    pub fn of_summary(summary: &str) -> Option<Self> {
        summary.split(' ').next()?.parse().ok()
    }
}

/// What one look at a pod found.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drift {
    /// What it says in one word.
    pub verdict: Verdict,
    /// When it began, in whole seconds: what happened later may have escaped it.
    pub time: Timestamp,
    /// Files that are in no image.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub added: u32,
    /// Files with other contents or another mode than in the image.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub changed: u32,
    /// Files of the image that are gone.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub deleted: u32,
    /// Processes that sessions left running, and those whose program was changed after the container's start.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub running: u32,
    /// Sessions that have not ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sessions: u32,
    /// What was found, one text for each: at most [`MAX_FINDINGS`] of at most [`MAX_FINDING`] bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// What could not be seen, as clauses: at most [`MAX_UNSEEN`] of at most [`MAX_FINDING`] bytes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unseen: Vec<String>,
    /// What sessions certainly left behind: at most [`MAX_LEFT`](left::MAX_LEFT). Earlier releases do not say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left: Vec<Leftover>,
}

impl Drift {
    /// A look at that time that saw all and found nothing.
    pub fn new(time: Timestamp) -> Self {
        Self {
            verdict: Verdict::Unchanged,
            time: Timestamp::from_second(time.as_second()).unwrap_or(time),
            added: 0,
            changed: 0,
            deleted: 0,
            running: 0,
            sessions: 0,
            findings: Vec::new(),
            unseen: Vec::new(),
            left: Vec::new(),
        }
    }

    /// The same in the form in which it is kept: no more texts, and no longer ones, than there is room for, nothing in
    /// them that a terminal would obey, and no verdict that says less than the counts and the clauses do.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.time = Timestamp::from_second(self.time.as_second()).unwrap_or(self.time);
        if self.sessions > 0 && self.unseen.is_empty() {
            self.unseen.push(OPEN_SESSION.to_owned());
        }
        self.left = left::bounded(self.left);
        let found = !self.left.is_empty() || self.counts().iter().any(|(count, _)| *count > 0);
        let least = match (found, self.unseen.is_empty()) {
            (true, _) => Verdict::Changed,
            (false, false) => Verdict::Unknown,
            (false, true) => Verdict::Unchanged,
        };
        self.verdict = self.verdict.max(least);
        bound(&mut self.findings, MAX_FINDINGS);
        bound(&mut self.unseen, MAX_UNSEEN);
        self
    }

    /// Whether all was seen, nothing was found and nothing goes on: the pod is as it was before the first interaction.
    pub fn is_clean(&self) -> bool {
        let none = self.counts().into_iter().all(|(count, _)| count == 0);
        let quiet = self.sessions == 0 && self.unseen.is_empty() && self.left.is_empty();
        self.verdict == Verdict::Unchanged && none && quiet
    }

    /// The verdict and all counts: what people are told of anew where it is another than before.
    pub fn outcome(&self) -> (Verdict, [u32; 4], u32) {
        (
            self.verdict,
            self.counts().map(|(count, _)| count),
            self.sessions,
        )
    }

    /// What was found, in a line: the verdict and why.
    pub fn summary(&self) -> String {
        let why = match self.verdict {
            Verdict::Unchanged => String::new(),
            Verdict::Unknown => self.unseen.first().cloned().unwrap_or_default(),
            Verdict::Changed => {
                let counts = self.counts().into_iter().filter(|(count, _)| *count > 0);
                let counts: Vec<_> = counts
                    .map(|(count, what)| format!("{count} {what}"))
                    .collect();
                counts.join(", ")
            }
        };
        match why.is_empty() {
            true => self.verdict.as_str().to_owned(),
            false => format!("{} ({why})", self.verdict.as_str()),
        }
    }

    /// Of two looks the later one, whichever is given first.
    pub fn latest(own: Option<Box<Self>>, other: Option<Box<Self>>) -> Option<Box<Self>> {
        own.into_iter()
            .chain(other)
            .max_by(|one, other| (one.time, one).cmp(&(other.time, other)))
    }

    /// Of two looks the one that says more: the one that found a change, or could not see all.
    pub fn worst(own: Option<Box<Self>>, other: Option<Box<Self>>) -> Option<Box<Self>> {
        own.into_iter().chain(other).max()
    }

    /// What a [summary](Self::summary) tells of a look at that time. None where it is none.
    pub fn from_summary(summary: &str, time: Timestamp) -> Option<Self> {
        let mut drift = Self {
            verdict: Verdict::of_summary(summary)?,
            ..Self::new(time)
        };
        let why = summary
            .split_once(" (")
            .and_then(|(_, why)| why.strip_suffix(')'));
        match drift.verdict {
            Verdict::Unchanged => {}
            Verdict::Unknown => drift.unseen.extend(why.map(str::to_owned)),
            Verdict::Changed => {
                for part in why.unwrap_or_default().split(", ") {
                    let (count, what) = part.split_once(' ').unwrap_or_default();
                    let count = count.parse().unwrap_or_default();
                    match what {
                        "added" => drift.added = count,
                        "changed" => drift.changed = count,
                        "deleted" => drift.deleted = count,
                        "running" => drift.running = count,
                        _ => {}
                    }
                }
            }
        }
        let drift = drift.bounded();
        // Nothing else than what was read is to be written in its place.
        (drift.summary() == summary).then_some(drift)
    }

    /// The same, where this [text](left::text) tells what sessions left behind.
    #[must_use]
    pub fn with_left(mut self, text: Option<&str>) -> Self {
        // Where nothing was found, nothing was left.
        if self.verdict == Verdict::Changed {
            self.left = text.map(left::parse).unwrap_or_default();
        }
        self
    }

    /// What was found, in numbers.
    fn counts(&self) -> [(u32, &'static str); 4] {
        [
            (self.added, "added"),
            (self.changed, "changed"),
            (self.deleted, "deleted"),
            (self.running, "running"),
        ]
    }
}

fn bound(texts: &mut Vec<String>, most: usize) {
    texts.truncate(most);
    for text in texts {
        // Whatever is cut off anyway is not escaped.
        let escaped = visible(&cut(text, MAX_FINDING)).into_owned();
        *text = cut(&escaped, MAX_FINDING).into_owned();
    }
}

fn is_zero(count: &u32) -> bool {
    *count == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn look() -> Drift {
        Drift::new("2026-03-01T12:00:00.7Z".parse().unwrap())
    }

    #[test]
    fn a_summary_begins_with_the_verdict() {
        let changed = Drift {
            added: 2,
            deleted: 1,
            running: 1,
            ..look()
        };
        let open = Drift {
            sessions: 1,
            ..look()
        };
        let full = Drift {
            unseen: vec!["the layer has more than 200,000 entries".to_owned()],
            sessions: 1,
            ..look()
        };
        for (drift, summary) in [
            (look(), "Unchanged"),
            (changed, "Changed (2 added, 1 deleted, 1 running)"),
            (open, "Unknown (a session has not ended)"),
            (full, "Unknown (the layer has more than 200,000 entries)"),
        ] {
            let drift = drift.bounded();
            assert_eq!(drift.summary(), summary);
            assert_eq!(Verdict::of_summary(summary), Some(drift.verdict));
            assert_eq!(drift.is_clean(), drift.verdict == Verdict::Unchanged);
        }
        assert_eq!(Verdict::of_summary("unchanged"), None);
        assert_eq!(Verdict::of_summary(""), None);
        for none in [
            "",
            "Unchanged (why)",
            "Changed (1 eaten)",
            "Unknown (",
            "changed",
        ] {
            assert_eq!(Drift::from_summary(none, look().time), None, "{none:?}");
        }
    }

    #[test]
    fn what_is_nothing_is_not_written() {
        let written = json!({"verdict": "Unchanged", "time": "2026-03-01T12:00:00Z"});
        assert_eq!(serde_json::to_value(look()).unwrap(), written);
        assert_eq!(serde_json::from_value::<Drift>(written).unwrap(), look());
    }

    #[test]
    fn verdicts_have_their_names() {
        for &verdict in Verdict::ALL {
            assert_eq!(serde_json::to_value(verdict).unwrap(), verdict.as_str());
        }
    }

    fn any_drift() -> impl Strategy<Value = Drift> {
        let verdict = prop::sample::select(Verdict::ALL);
        let counts = prop::array::uniform5(prop_oneof![3 => Just(0u32), 1 => 1u32..3]);
        let texts = || prop::collection::vec("[a-z\u{1b}\u{202e}é]{0,300}", 0..12);
        let left = left::tests::any_left();
        (verdict, 0i64..100, counts, texts(), texts(), left).prop_map(
            |(verdict, second, counts, findings, unseen, left)| Drift {
                verdict,
                time: Timestamp::from_second(second).unwrap(),
                added: counts[0],
                changed: counts[1],
                deleted: counts[2],
                running: counts[3],
                sessions: counts[4],
                findings,
                unseen,
                left,
            },
        )
    }

    proptest! {
        #[test]
        fn what_is_kept_is_bounded_and_never_says_less(drift in any_drift()) {
            let kept = drift.clone().bounded();
            prop_assert_eq!(kept.clone().bounded(), kept.clone());
            prop_assert!(kept.verdict >= drift.verdict);
            prop_assert!(kept.findings.len() <= MAX_FINDINGS && kept.unseen.len() <= MAX_UNSEEN);
            for text in kept.findings.iter().chain(&kept.unseen) {
                prop_assert!(text.len() <= MAX_FINDING && !text.contains(crate::text::is_unsafe));
            }
            prop_assert_eq!(kept.is_clean(), kept.verdict == Verdict::Unchanged);
            prop_assert_eq!(Verdict::of_summary(&kept.summary()), Some(kept.verdict));
            let text = serde_json::to_string(&kept).unwrap();
            prop_assert_eq!(&serde_json::from_str::<Drift>(&text).unwrap(), &kept);
            // The look itself is preferred to what its summary tells.
            let told = Drift::from_summary(&kept.summary(), kept.time).unwrap();
            let left = left::text(&kept.left);
            let told = told.with_left(Some(&left).filter(|left| !left.is_empty()).map(String::as_str));
            prop_assert_eq!(told.summary(), kept.summary());
            prop_assert_eq!(&told.left, &kept.left);
            prop_assert!(told <= kept);
        }

        #[test]
        fn the_later_look_counts(one in any_drift(), other in any_drift()) {
            let (one, other) = (Some(Box::new(one)), Some(Box::new(other)));
            let latest = Drift::latest(one.clone(), other.clone());
            prop_assert_eq!(&latest, &Drift::latest(other.clone(), one.clone()));
            prop_assert_eq!(&latest, &Drift::latest(latest.clone(), one.clone()));
            prop_assert!(latest.unwrap().time >= one.unwrap().time.max(other.unwrap().time));
        }
    }
}
