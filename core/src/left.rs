//! What sessions left behind in a pod: programs that still run, and programs that were not there before.
//!
//! Only the names of programs are kept, as they are read in commands ([`crate::behaviour`]), so that what is left can be
//! compared with what was left before.

use std::{collections::BTreeSet, fmt};

use serde::{Deserialize, Serialize};
use strum::{Display, EnumString};

use crate::text::{cut, is_unsafe, visible};

/// The most that is kept of one pod.
pub const MAX_LEFT: usize = 8;

/// The longest name of a program, in bytes.
pub const MAX_PROGRAM: usize = 64;

/// What stands between two of them in a text. No name has it.
const SEPARATOR: &str = ", ";

/// The longest text, in bytes.
const MAX_TEXT: usize = MAX_LEFT * (MAX_PROGRAM + 16);

// The order matters: where there is no room for all, what runs stays.
/// How a program was left behind.
#[derive(Display, EnumString)]
#[strum(serialize_all = "lowercase")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LeftHow {
    /// It runs, and the session has ended.
    Running,
    /// Its file was added.
    Dropped,
}

/// A program that a session left behind.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Leftover {
    /// How.
    pub how: LeftHow,
    /// Its name: at most [`MAX_PROGRAM`] bytes, of which a terminal obeys none.
    pub program: String,
}

impl Leftover {
    /// The program of this name, in the form in which it is kept; none where there is no name.
    pub fn new(how: LeftHow, program: &str) -> Option<Self> {
        // Whatever is cut off anyway is not escaped.
        let program = visible(&cut(program, MAX_PROGRAM)).replace(SEPARATOR, ",_");
        let program = cut(&program, MAX_PROGRAM).into_owned();
        (!program.is_empty()).then_some(Self { how, program })
    }

    fn is_kept(&self) -> bool {
        let Self { program, .. } = self;
        (1..=MAX_PROGRAM).contains(&program.len())
            && !program.contains(is_unsafe)
            && !program.contains(SEPARATOR)
    }
}

/// As it stands on pods: `running nc`.
impl fmt::Display for Leftover {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.how, self.program)
    }
}

/// The same in the form in which it is kept: in order, each once, and no more than [`MAX_LEFT`].
#[must_use]
pub fn bounded(left: Vec<Leftover>) -> Vec<Leftover> {
    let kept = left
        .into_iter()
        .filter_map(|left| Leftover::new(left.how, &left.program));
    let kept: BTreeSet<_> = kept.collect();
    kept.into_iter().take(MAX_LEFT).collect()
}

/// The text of what is kept: `running nc, dropped /tmp/xmrig`.
pub fn text(left: &[Leftover]) -> String {
    let all: Vec<_> = left.iter().map(ToString::to_string).collect();
    all.join(SEPARATOR)
}

/// Reads such a [`text`]. What nobody wrote so tells nothing.
pub fn parse(text: &str) -> Vec<Leftover> {
    let one = |part: &str| {
        let (how, program) = part.split_once(' ')?;
        let (how, program) = (how.parse().ok()?, program.to_owned());
        Some(Leftover { how, program }).filter(Leftover::is_kept)
    };
    if text.len() > MAX_TEXT {
        return Vec::new();
    }
    let all: Option<Vec<_>> = text.split(SEPARATOR).map(one).collect();
    all.filter(|all| bounded(all.clone()) == *all)
        .unwrap_or_default()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    fn left(how: LeftHow, program: &str) -> Leftover {
        Leftover::new(how, program).unwrap()
    }

    #[test]
    fn it_reads_as_people_say_it() {
        let all = bounded(vec![
            left(LeftHow::Dropped, "/tmp/xmrig"),
            left(LeftHow::Running, "nc"),
            left(LeftHow::Running, "sh -c"),
            left(LeftHow::Running, "nc"),
        ]);
        let told = "running nc, running sh -c, dropped /tmp/xmrig";
        assert_eq!(text(&all), told);
        assert_eq!(parse(told), all);
    }

    #[test]
    fn what_nobody_wrote_so_tells_nothing() {
        let many: Vec<_> = (0..9).map(|at| format!("running p{at}")).collect();
        for none in [
            "",
            "nc",
            "running ",
            "stole nc",
            "running nc,dropped x ",
            "running nc, running nc",
            "dropped a, running b",
            "running a\u{1b}[2J",
            "running nc, ",
            &many.join(", "),
            &format!("running {}", "x".repeat(65)),
            &"running x, ".repeat(10_000),
        ] {
            // A comma alone separates nothing.
            let expected = usize::from(none == "running nc,dropped x ");
            assert_eq!(parse(none).len(), expected, "{none:?}");
        }
    }

    #[test]
    fn a_program_without_a_name_is_none() {
        assert_eq!(Leftover::new(LeftHow::Running, ""), None);
        assert_eq!(left(LeftHow::Running, "a, b").program, "a,_b");
    }

    #[test]
    fn where_there_is_no_room_what_runs_stays() {
        let dropped = (0..20).map(|at| left(LeftHow::Dropped, &format!("p{at:02}")));
        let all: Vec<_> = dropped.chain([left(LeftHow::Running, "zz")]).collect();
        let kept = bounded(all);
        assert_eq!(kept.len(), MAX_LEFT);
        assert_eq!(kept[0], left(LeftHow::Running, "zz"));
        assert_eq!(kept[7], left(LeftHow::Dropped, "p06"));
    }

    pub(crate) fn any_left() -> impl Strategy<Value = Vec<Leftover>> {
        let how = prop::sample::select(vec![LeftHow::Running, LeftHow::Dropped]);
        let program = "[a-z,\u{1b}\u{202e}é ]{0,90}|[a-z]{1,3}";
        let one = (how, program).prop_map(|(how, program)| Leftover { how, program });
        prop::collection::vec(one, 0..12)
    }

    proptest! {
        #[test]
        fn what_is_kept_reads_as_it_was_written(all in any_left()) {
            let kept = bounded(all);
            prop_assert!(kept.len() <= MAX_LEFT && kept.iter().all(Leftover::is_kept));
            prop_assert_eq!(&bounded(kept.clone()), &kept);
            prop_assert_eq!(&parse(&text(&kept)), &kept);
            prop_assert!(text(&kept).len() <= MAX_TEXT);
        }

        #[test]
        fn whatever_stands_there_is_read_as_nothing_else(
            told in "\\PC{0,60}|((running|dropped) [a-c,]{1,3}(, )?){0,4}",
        ) {
            let read = parse(&told);
            prop_assert!(read.is_empty() || text(&read) == told);
        }
    }
}
