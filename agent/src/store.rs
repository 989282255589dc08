//! The records of this node's pods on disk: one tree, one small versioned value per pod UID.
//!
//! What [`Store::commit`] has returned from survives a crash of the process and of the machine. The
//! store knows nothing of deadlines; the schedule is its only user.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use curfew_core::Record;
use serde::{Deserialize, Serialize};

/// The version of the values that this build writes.
const VERSION: u32 = 1;

/// The default cache of 1 GiB is for databases; all records of a node fit in far less.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// How long the predecessor of a rolling update may still hold the lock.
const LOCK_PATIENCE: Duration = Duration::from_secs(20);

/// How often the lock is tried meanwhile.
const LOCK_RETRY: Duration = Duration::from_millis(250);

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the store {0} is in use by another process")]
    Locked(PathBuf),
    /// It cannot be opened, even empty.
    #[error("the store {path} cannot be opened: {why}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// What was seen.
        why: String,
    },
    /// Writing or syncing failed; nothing of the batch is to be relied on.
    #[error("the store cannot write: {0}")]
    Write(String),
}

/// Changes that become durable together: the record of a UID, or its end.
pub type Batch = BTreeMap<String, Option<Record>>;

/// An open store. Cloning is cheap; all clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    db: sled::Db,
    /// The file that sled writes: its flush hands the bytes to the kernel, but does not sync them.
    file: std::sync::Arc<File>,
}

/// What opening brought to light.
#[derive(Debug, Default)]
pub struct Opened {
    /// The records.
    pub records: Vec<Record>,
    /// UIDs whose value this build cannot read. They stay in the store as they are.
    pub unreadable: Vec<String>,
    /// Where the old store was moved, if it could not be opened and a new one was begun.
    pub moved_to: Option<PathBuf>,
}

/// A value of the tree, borrowed when written and owned when read.
#[derive(Serialize, Deserialize)]
struct Value<R> {
    version: u32,
    record: R,
}

impl Store {
    /// Opens the store below `folder`, which is made if need be. A store that is damaged is moved aside
    /// and a new one begun: the pods' metadata holds what is needed to go on.
    ///
    /// # Errors
    /// When another process keeps it locked, or not even a new one can be opened.
    pub fn open(folder: &Path) -> Result<(Self, Opened), StoreError> {
        let path = folder.join("records");
        let refused = |why: io::Error| StoreError::Open {
            path: path.clone(),
            why: why.to_string(),
        };
        fs::create_dir_all(folder).map_err(refused)?;
        let since = Instant::now();
        let mut opened = Opened::default();
        loop {
            match Self::try_open(&path) {
                Ok((store, records, unreadable)) => {
                    opened.records = records;
                    opened.unreadable = unreadable;
                    return Ok((store, opened));
                }
                Err(StoreError::Locked(_)) if since.elapsed() < LOCK_PATIENCE => {
                    thread::sleep(LOCK_RETRY);
                }
                Err(StoreError::Open { why, .. }) if opened.moved_to.is_none() && path.exists() => {
                    let aside = set_aside(&path).map_err(refused)?;
                    tracing::error!(
                        store = %path.display(), moved_to = %aside.display(), why,
                        "the store cannot be opened and was moved aside; records are rebuilt from \
                         the pods' metadata; delete the old one when it is not wanted for diagnosis"
                    );
                    opened.moved_to = Some(aside);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn try_open(path: &Path) -> Result<(Self, Vec<Record>, Vec<String>), StoreError> {
        let refused = |why: String| StoreError::Open {
            path: path.to_owned(),
            why,
        };
        remove_half_snapshots(path).map_err(|error| refused(error.to_string()))?;
        // sled panics on some torn files. The half-open database is dropped with the panic.
        let attempt = catch_unwind(AssertUnwindSafe(|| -> sled::Result<_> {
            let db = sled::Config::new()
                .path(path)
                .cache_capacity(CACHE_BYTES)
                .flush_every_ms(None)
                .open()?;
            let values = db
                .iter()
                .map(|entry| entry.map(|(uid, value)| (uid.to_vec(), value.to_vec())))
                .collect::<sled::Result<Vec<_>>>()?;
            Ok((db, values))
        }));
        let (db, values) = match attempt {
            Ok(Ok(opened)) => opened,
            Ok(Err(sled::Error::Io(error))) if error.to_string().contains("acquire lock") => {
                return Err(StoreError::Locked(path.to_owned()));
            }
            Ok(Err(error)) => return Err(refused(error.to_string())),
            Err(_) => return Err(refused("sled panicked".to_owned())),
        };
        let file = File::open(path.join("db")).map_err(|error| refused(error.to_string()))?;
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        for (uid, value) in values {
            match decode(&value) {
                Some(record) => records.push(record),
                None => unreadable.push(String::from_utf8_lossy(&uid).into_owned()),
            }
        }
        let file = std::sync::Arc::new(file);
        Ok((Self { db, file }, records, unreadable))
    }

    /// Writes the batch and returns once it is on disk. Blocks: not for an async task.
    ///
    /// # Errors
    /// When any of it may not be on disk.
    pub fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut changes = sled::Batch::default();
        for (uid, record) in batch {
            match record {
                Some(record) => changes.insert(uid.as_bytes(), encode(record)?),
                None => changes.remove(uid.as_bytes()),
            }
        }
        let failed = |error: sled::Error| StoreError::Write(error.to_string());
        self.db.apply_batch(changes).map_err(failed)?;
        self.db.flush().map_err(failed)?;
        self.file
            .sync_all()
            .map_err(|error| StoreError::Write(error.to_string()))
    }
}

fn encode(record: &Record) -> Result<Vec<u8>, StoreError> {
    let value = Value {
        version: VERSION,
        record,
    };
    serde_json::to_vec(&value).map_err(|error| StoreError::Write(error.to_string()))
}

fn decode(value: &[u8]) -> Option<Record> {
    let value: Value<Record> = serde_json::from_slice(value).ok()?;
    (value.version <= VERSION).then_some(value.record)
}

/// A start that was killed while sled wrote a snapshot leaves a file that makes every later open fail.
fn remove_half_snapshots(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        if name.starts_with("snap.") && name.ends_with(".generating") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// Moves a folder to the first free name beside it.
fn set_aside(path: &Path) -> io::Result<PathBuf> {
    for n in 1..1000 {
        let aside = path.with_extension(format!("broken-{n}"));
        if !aside.exists() {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other(
        "there are 999 stores moved aside already; delete them",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{record, shell};

    fn batch(uids: &[&str]) -> Batch {
        uids.iter()
            .map(|uid| ((*uid).to_owned(), Some(record(uid, shell(0)))))
            .collect()
    }

    #[test]
    fn what_was_committed_is_there_again() {
        let folder = tempfile::tempdir().unwrap();
        let (store, opened) = Store::open(folder.path()).unwrap();
        assert!(opened.records.is_empty());
        store.commit(&batch(&["a", "b"])).unwrap();
        store.commit(&Batch::from([("a".into(), None)])).unwrap();
        drop(store);
        let (_store, opened) = Store::open(folder.path()).unwrap();
        assert_eq!(opened.records, vec![record("b", shell(0))]);
    }

    #[test]
    fn a_value_of_the_future_stays_and_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        store.commit(&batch(&["a"])).unwrap();
        store
            .db
            .insert("b", r#"{"version":2,"record":{}}"#)
            .unwrap();
        store.db.insert("c", "torn").unwrap();
        drop(store);
        for _ in 0..2 {
            let (store, opened) = Store::open(folder.path()).unwrap();
            assert_eq!(opened.records.len(), 1);
            assert_eq!(opened.unreadable, ["b", "c"]);
            drop(store);
        }
    }

    #[test]
    fn a_damaged_store_is_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        store.commit(&batch(&["a"])).unwrap();
        drop(store);
        let file = folder.path().join("records/db");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();
        let (store, opened) = Store::open(folder.path()).unwrap();
        assert!(opened.moved_to.unwrap().join("db").is_dir());
        store.commit(&batch(&["b"])).unwrap();
    }

    #[test]
    fn a_half_written_snapshot_is_no_obstacle() {
        let folder = tempfile::tempdir().unwrap();
        let (store, _) = Store::open(folder.path()).unwrap();
        store.commit(&batch(&["a"])).unwrap();
        drop(store);
        fs::write(folder.path().join("records/snap.0000.generating"), "").unwrap();
        let (_, opened) = Store::open(folder.path()).unwrap();
        assert_eq!(opened.records.len(), 1);
        assert_eq!(opened.moved_to, None);
    }
}
