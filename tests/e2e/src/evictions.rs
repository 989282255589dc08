//! Which evictions the API server granted, from its audit log, which outlives every other witness.

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
    response_status: Status,
    request_received_timestamp: Timestamp,
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

#[derive(Deserialize)]
struct Status {
    #[serde(default)]
    code: u16,
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
        let mut log = File::open(&self.log)?;
        // A log that was begun anew is shorter.
        let start = if log.metadata()?.len() < self.offset {
            0
        } else {
            self.offset
        };
        log.seek(SeekFrom::Start(start))?;
        let mut granted = Vec::new();
        for line in BufReader::new(log).split(b'\n') {
            // One that is torn was being written when the API server was killed.
            granted.extend(read(&line?, namespace));
        }
        Ok(granted)
    }
}

fn read(line: &[u8], namespace: &str) -> Option<Eviction> {
    let line: Line = serde_json::from_slice(line).ok()?;
    let about = line.object_ref;
    let granted = about.namespace == namespace
        && about.subresource == "eviction"
        && line.response_status.code == CREATED;
    granted.then_some(Eviction {
        pod: about.name,
        asked: line.request_received_timestamp,
        user: line.user.username,
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn only_what_was_granted_counts() {
        let line = |code: u16, subresource: &str| {
            format!(
                r#"{{"user":{{"username":"a"}},"objectRef":{{"namespace":"n","name":"p","subresource":"{subresource}"}},
                "responseStatus":{{"code":{code}}},"requestReceivedTimestamp":"2026-01-01T00:00:00.5Z"}}"#
            )
        };
        let read = |text: String, namespace| super::read(text.as_bytes(), namespace);
        assert_eq!(read(line(201, "eviction"), "n").unwrap().pod, "p");
        assert_eq!(read(line(429, "eviction"), "n"), None);
        assert_eq!(read(line(201, "binding"), "n"), None);
        assert_eq!(read(line(201, "eviction"), "other"), None);
        assert_eq!(read("{".to_owned(), "n"), None);
    }
}
