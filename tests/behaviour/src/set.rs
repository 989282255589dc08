//! The files of the set.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context, bail};
use curfew_core::{
    Kind,
    behaviour::{Features, Hours, SeenInteraction},
};
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};

/// One workload: who is there, what they do, and what is to be judged.
#[derive(Debug)]
pub struct Workload {
    /// What people call it.
    pub name: String,
    /// Each user with their groups.
    pub users: BTreeMap<String, Vec<String>>,
    /// What is done again and again.
    pub habits: Vec<Habit>,
    /// What is to be judged.
    pub cases: Vec<Case>,
}

/// What some users do again and again.
#[derive(Debug)]
pub struct Habit {
    /// Who; each time one of them.
    pub users: Vec<String>,
    /// How and where.
    pub place: Place,
    /// When.
    pub hours: Hours,
    /// How often in a week.
    pub weekly: u32,
    /// What; each time one of them.
    pub commands: Vec<Vec<String>>,
}

/// How and where an interaction happens.
#[derive(Debug, Clone)]
pub struct Place {
    kind: Kind,
    container: Option<String>,
    stdin: bool,
    tty: bool,
}

/// Whether an interaction is ordinary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Label {
    /// Somebody does their work.
    Usual,
    /// Somebody does harm.
    Hostile,
}

/// For what a case is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Weights and thresholds may be chosen by it.
    Tuning,
    /// It is only reported.
    Reported,
}

/// One interaction with a label.
#[derive(Debug)]
pub struct Case {
    /// The name: that of the file, and its own. No other case with this label has it.
    pub name: String,
    /// Whether it is ordinary.
    pub label: Label,
    /// Why somebody does such a thing, in a word, or which technique it is.
    pub reason: String,
    user: String,
    groups: Vec<String>,
    place: Place,
    hour: i64,
    rate: u32,
    argv: Vec<String>,
}

/// The beginning of the history: a Monday, 00:00 UTC.
pub(crate) fn begin() -> Timestamp {
    Timestamp::from_second(1_767_571_200).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// How many weeks are learned before the cases.
pub(crate) const WEEKS: i64 = 6;

impl Case {
    /// The part that it belongs to. The name alone decides, so that it was fixed before anything was measured.
    pub fn part(&self) -> Part {
        let hash = Sha256::digest(format!("curfew behaviour 1 {}", self.name));
        match hash[0] % 2 {
            0 => Part::Tuning,
            _ => Part::Reported,
        }
    }

    /// When it happens: in the week after the history.
    pub fn time(&self) -> Timestamp {
        at(WEEKS * 168 + self.hour, 0)
    }

    /// Its features.
    pub fn features(&self) -> Features {
        self.place
            .features(&self.user, &self.groups, &self.argv, self.time(), self.rate)
    }

    /// The command as a shell would take it; the kind where there is none.
    pub fn command(&self) -> String {
        match self.argv.is_empty() {
            true => self.place.kind.to_string(),
            false => shlex::try_join(self.argv.iter().map(String::as_str)).unwrap_or_default(),
        }
    }
}

impl Place {
    /// The features of an interaction that happens there.
    pub(crate) fn features(
        &self,
        user: &str,
        groups: &[String],
        argv: &[String],
        time: Timestamp,
        rate: u32,
    ) -> Features {
        Features::of(&SeenInteraction {
            user,
            groups,
            kind: self.kind,
            container: self.container.as_deref(),
            argv,
            tty: self.tty,
            stdin: self.stdin,
            time,
            rate,
        })
    }
}

/// So many hours and minutes after the beginning of the history.
pub(crate) fn at(hours: i64, minutes: i64) -> Timestamp {
    let after = SignedDuration::from_mins(hours * 60 + minutes);
    begin().checked_add(after).unwrap_or(Timestamp::MAX)
}

/// All workloads of the set, in the order of their names.
///
/// # Errors
/// When a file cannot be read or makes no sense.
pub fn workloads() -> anyhow::Result<Vec<Workload>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("set");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "txt") {
            files.push(path);
        }
    }
    files.sort();
    files
        .iter()
        .map(|path| {
            let name = path.file_stem().unwrap_or_default().to_string_lossy();
            read(&name, &std::fs::read_to_string(path)?)
        })
        .collect()
}

/// Reads one file.
///
/// # Errors
/// When a line makes no sense.
pub fn read(file: &str, text: &str) -> anyhow::Result<Workload> {
    let mut workload = Workload {
        name: String::new(),
        users: BTreeMap::new(),
        habits: Vec::new(),
        cases: Vec::new(),
    };
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let mut line = line.to_owned();
        // A line that does not begin with a word of ours continues the one before.
        while let Some(next) = lines.peek() {
            if next.is_empty()
                || next.starts_with('#')
                || WORDS.iter().any(|word| next.starts_with(word))
            {
                break;
            }
            line.push('\n');
            line.push_str(next);
            lines.next();
        }
        workload
            .add(file, &line)
            .with_context(|| format!("{file}: {line}"))?;
    }
    Ok(workload)
}

/// The words with which a line begins.
const WORDS: [&str; 6] = ["workload ", "user ", "bot ", "habit ", "usual ", "hostile "];

impl Workload {
    fn add(&mut self, file: &str, line: &str) -> anyhow::Result<()> {
        let line = line.trim_end();
        let Some((word, rest)) = line.split_once(' ').filter(|_| !line.starts_with('#')) else {
            return Ok(());
        };
        let rest = rest.trim();
        match word {
            "workload" => self.name = rest.to_owned(),
            "user" => {
                let (user, groups) = rest.split_once(' ').context("a user has groups")?;
                let groups = groups.trim().split(',').map(str::to_owned);
                let all = groups.chain(["system:authenticated".to_owned()]);
                self.users.insert(user.to_owned(), all.collect());
            }
            "bot" => {
                let namespace = rest
                    .split(':')
                    .nth(2)
                    .context("a bot is a ServiceAccount")?;
                let groups = ["system:serviceaccounts", "system:authenticated"].map(str::to_owned);
                let own = format!("system:serviceaccounts:{namespace}");
                self.users
                    .insert(rest.to_owned(), groups.into_iter().chain([own]).collect());
            }
            "habit" => self.habits.push(self.habit(rest)?),
            "usual" => self.cases.push(self.case(file, Label::Usual, rest)?),
            "hostile" => self.cases.push(self.case(file, Label::Hostile, rest)?),
            _ => bail!("{word} is no word of a set"),
        }
        Ok(())
    }

    fn habit(&self, text: &str) -> anyhow::Result<Habit> {
        let [users, place, when, commands] = columns(text)?;
        let (hours, weekly) = when
            .rsplit_once(' ')
            .context("a habit has hours and how often")?;
        let users: Vec<_> = users.split(',').map(str::to_owned).collect();
        for user in &users {
            self.users
                .get(user)
                .with_context(|| format!("{user} is not known"))?;
        }
        let commands = commands
            .split(";;")
            .map(|text| shlex::split(text).context("quotes"));
        Ok(Habit {
            users,
            place: place_of(place)?,
            hours: hours.parse()?,
            weekly: weekly.parse()?,
            commands: commands.collect::<anyhow::Result<_>>()?,
        })
    }

    fn case(&self, file: &str, label: Label, text: &str) -> anyhow::Result<Case> {
        let [name, reason, user, place, when, command] = columns(text)?;
        let (user, extra) = user.split_once('+').unwrap_or((user, ""));
        // Somebody who is not known has no groups but that of all.
        let nobody = vec!["system:authenticated".to_owned()];
        let mut groups = self.users.get(user).cloned().unwrap_or(nobody);
        groups.extend((!extra.is_empty()).then(|| extra.to_owned()));
        let (when, rate) = when.split_once(" x").unwrap_or((when, "1"));
        let hours: Hours = when.parse()?;
        let hour = (0..168)
            .find(|hour| hours.contains(curfew_core::behaviour::HourOfWeek::of(at(*hour, 0))));
        Ok(Case {
            name: format!("{file}/{name}"),
            label,
            reason: reason.to_owned(),
            user: user.to_owned(),
            groups,
            place: place_of(place)?,
            hour: hour.context("no such hour")?,
            rate: rate.parse()?,
            argv: shlex::split(command).context("quotes")?,
        })
    }
}

/// The columns of a line; the last one can contain the separator.
fn columns<const N: usize>(text: &str) -> anyhow::Result<[&str; N]> {
    // A column at the end can be empty, and then nothing stands behind its separator.
    let mut columns: Vec<_> = text.splitn(N, " |").map(str::trim).collect();
    columns.resize(N, "");
    columns.try_into().ok().context("columns are missing")
}

fn place_of(text: &str) -> anyhow::Result<Place> {
    let [kind, container, streams] = text.split(' ').collect::<Vec<_>>()[..] else {
        bail!("{text} is no kind, container and streams");
    };
    Ok(Place {
        kind: kind.parse()?,
        container: (container != "-").then(|| container.to_owned()),
        stdin: streams.contains('i'),
        tty: streams.contains('t'),
    })
}
