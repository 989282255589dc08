//! What the API server answered to evictions, from its audit log, which outlives every other witness.

use std::{
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::PathBuf,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

const CREATED: u16 = 201;

/// A granted eviction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// The pod's name.
    pub pod: String,
    /// When the API server was asked.
    pub asked: Timestamp,
    /// Who asked.
    pub user: String,
}

/// A request to evict a pod, and how it was answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// What was asked for.
    pub eviction: Eviction,
    /// When it was answered.
    pub answered: Timestamp,
    /// The HTTP status.
    pub code: u16,
}

/// A place in the audit log, to read on from.
#[derive(Debug, Clone)]
pub struct Mark {
    log: PathBuf,
    offset: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    user: crate::audit::User,
    object_ref: ObjectRef,
    response_status: crate::audit::Status,
    request_received_timestamp: Timestamp,
    stage_timestamp: Timestamp,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    subresource: String,
}

impl Mark {
    /// The end of the log.
    pub fn now(log: PathBuf) -> Result<Self> {
        let size = log
            .metadata()
            .with_context(|| format!("there is no audit log at {}", log.display()))?
            .len();
        Ok(Self { log, offset: size })
    }

    /// The evictions in a namespace that were granted since.
    pub fn granted(&self, namespace: &str) -> Result<Vec<Eviction>> {
        let mut answers = self.answers(namespace)?;
        answers.retain(|answer| answer.code == CREATED);
        Ok(answers.into_iter().map(|answer| answer.eviction).collect())
    }

    /// The evictions in a namespace that were answered since, in whichever way.
    pub fn answers(&self, namespace: &str) -> Result<Vec<Answer>> {
        let mut log = File::open(&self.log)?;
        // A log that was begun anew is shorter.
        let start = if log.metadata()?.len() < self.offset {
            0
        } else {
            self.offset
        };
        log.seek(SeekFrom::Start(start))?;
        let mut answers = Vec::new();
        for line in BufReader::new(log).split(b'\n') {
            // One that is torn was being written when the API server was killed.
            answers.extend(read(&line?, namespace));
        }
        Ok(answers)
    }
}

fn read(line: &[u8], namespace: &str) -> Option<Answer> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let about = line.object_ref;
    let eviction = about.namespace == namespace && about.subresource == "eviction";
    eviction.then_some(Answer {
        eviction: Eviction {
            pod: about.name,
            asked: line.request_received_timestamp,
            user: line.user.username,
        },
        answered: line.stage_timestamp,
        code: line.response_status.code,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(code: u16, subresource: &str) -> String {
        format!(
            r#"{{"user":{{"username":"a"}},"objectRef":{{"namespace":"n","name":"p","subresource":"{subresource}"}},"responseStatus":{{"code":{code}}},"requestReceivedTimestamp":"2026-01-01T00:00:00.5Z","stageTimestamp":"2026-01-01T00:00:00.7Z"}}"#
        )
    }

    #[test]
    fn only_evictions_of_the_namespace_are_read() {
        let read = |text: String, namespace| super::read(text.as_bytes(), namespace);
        let answer = read(line(429, "eviction"), "n").unwrap();
        assert_eq!((answer.eviction.pod.as_str(), answer.code), ("p", 429));
        let took = answer.answered.duration_since(answer.eviction.asked);
        assert_eq!(took.as_millis(), 200);
        assert_eq!(read(line(201, "binding"), "n"), None);
        assert_eq!(read(line(201, "eviction"), "other"), None);
        assert_eq!(read("{".to_owned(), "n"), None);
    }

    #[test]
    fn only_what_was_granted_counts() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mark = Mark::now(file.path().to_owned()).unwrap();
        let lines = [line(201, "eviction"), line(429, "eviction")];
        std::fs::write(file.path(), lines.join("\n")).unwrap();
        assert_eq!(mark.answers("n").unwrap().len(), 2);
        assert_eq!(mark.granted("n").unwrap().len(), 1);
    }
}
