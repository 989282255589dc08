//! What the API server was asked, from its audit log.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader, Seek, SeekFrom},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Context, Result};
use jiff::Timestamp;
use serde::Deserialize;

/// A place in the audit log, to read on from.
#[derive(Debug)]
pub struct Mark {
    log: PathBuf,
    offset: u64,
}

/// One request, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Request {
    /// What was done: `get`, `watch`, `patch`.
    pub verb: String,
    /// The path and the parameters.
    #[serde(rename = "requestURI")]
    pub uri: String,
    /// Who did it.
    pub user: User,
    /// As whom, where that is another.
    #[serde(default)]
    pub impersonated_user: Option<User>,
    /// To what; nothing where it is no object.
    #[serde(default)]
    pub object_ref: Option<Object>,
    /// How it was answered; not yet, where it goes on.
    #[serde(default)]
    pub response_status: Status,
    /// What admission has added to it.
    #[serde(default)]
    pub annotations: BTreeMap<String, String>,
    /// When the API server got it.
    #[serde(default, rename = "requestReceivedTimestamp")]
    pub received: Option<Timestamp>,
    /// When it had answered, or, where it goes on, when it began to.
    #[serde(default, rename = "stageTimestamp")]
    pub answered: Option<Timestamp>,
}

impl Request {
    /// How long the API server took for it.
    pub fn took(&self) -> Option<Duration> {
        let took = self.answered?.duration_since(self.received?);
        took.try_into().ok()
    }
}

/// What a request is about.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Object {
    /// The group, empty for the core.
    #[serde(default)]
    pub api_group: String,
    /// The plural.
    #[serde(default)]
    pub resource: String,
    /// The part of it; empty where it is about all of it.
    #[serde(default)]
    pub subresource: String,
    /// Its namespace; empty where it has none.
    #[serde(default)]
    pub namespace: String,
    /// Its name; empty where several are meant.
    #[serde(default)]
    pub name: String,
}

/// How a request was answered.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
pub struct Status {
    /// The HTTP status; 0 where there is none.
    #[serde(default)]
    pub code: u16,
}

/// Who did it.
#[derive(Debug, Clone, Deserialize)]
pub struct User {
    /// The user's name.
    pub username: String,
}

/// The beginning of the log, and so of the cluster.
pub fn beginning(log: PathBuf) -> Mark {
    Mark { log, offset: 0 }
}

/// The end of the log.
pub fn now(log: PathBuf) -> Result<Mark> {
    let size = log
        .metadata()
        .with_context(|| format!("there is no audit log at {}", log.display()))?
        .len();
    Ok(Mark { log, offset: size })
}

impl Mark {
    /// What `user` has asked for since.
    pub fn since(&self, user: &str) -> Result<Vec<Request>> {
        let mut log = File::open(&self.log)?;
        // A log that was begun anew is shorter.
        let start = self.offset.min(log.metadata()?.len());
        log.seek(SeekFrom::Start(start))?;
        let mut requests = Vec::new();
        for line in BufReader::new(log).lines() {
            // The last line may still be written to, the first may be a rest.
            if let Ok(request) = serde_json::from_str::<Request>(&line?)
                && request.user.username == user
            {
                requests.push(request);
            }
        }
        Ok(requests)
    }
}
