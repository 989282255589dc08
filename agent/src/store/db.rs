//! The records of this node's pods on disk: one tree, one small versioned value per pod UID.
//!
//! What [`Store::commit`] has returned from survives a crash of the process and of the machine. The
//! store knows nothing of deadlines; the controller is its only user.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::MetadataExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use curfew_agent_state::Batch;
use curfew_core::Record;
use serde::{Deserialize, Serialize};

use super::batches::Batches;

/// The version of the values that this build writes.
const VERSION: u32 = 1;

/// The default cache of 1 GiB is for databases; all records of a node fit in far less.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// How long to wait for the lock of the store. sled's own threads keep the file open, and so keep the lock, for a
/// moment after this process has dropped its last handle.
const LOCK_PATIENCE: Duration = Duration::from_secs(2);

/// How often the lock is tried meanwhile.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// How long reading a store may take. That of a node's records takes less than a second.
const READING: Duration = Duration::from_secs(30);

/// Where a value is kept that this build cannot read; behind it stands the UID.
const ASIDE: &str = "aside/";

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process has it.
    #[error("the store {0} is in use by another process")]
    Locked(PathBuf),
    /// The file system does not let us: full, read-only, of another owner. The store itself may be
    /// sound.
    #[error("the store {path} cannot be used: {error}; check its file system")]
    Denied {
        /// The folder.
        path: PathBuf,
        /// What the file system says.
        error: io::Error,
    },
    /// It is not what a store should be.
    #[error("the store {path} is damaged: {why}")]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What was seen.
        why: String,
    },
    /// Reading it does not end, as with some flipped bytes. A thread goes on reading it, so nothing can be
    /// put in its place before the process has ended.
    #[error("the store {0} cannot be read: reading does not end")]
    Endless(PathBuf),
    /// Its file was deleted, or another was put in its place, while it was open.
    #[error("the store {0} was deleted while it was in use")]
    Deleted(PathBuf),
    /// The folder that is mounted for it was deleted, and nothing can be made in it any more.
    #[error("the folder {0} was deleted; the kubelet creates it again when the agent restarts")]
    NoFolder(PathBuf),
    /// The file system can be written again, but not through the mount that this container was given while it could
    /// not. The kubelet mounts it again for the next container.
    #[error(
        "the folder {0} is mounted read-only, and its file system is not; the agent starts again to get another mount"
    )]
    OldMount(PathBuf),
    /// Writing or syncing failed; nothing of the batch is to be relied on.
    #[error("the store cannot write: {0}")]
    Write(String),
}

impl StoreError {
    /// What it is when the file system does not let us use this folder.
    pub(crate) fn denied(path: &Path) -> impl Fn(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Denied {
            path: path.clone(),
            error,
        }
    }
}

/// An open store. Cloning is cheap; all clones are the same store.
#[derive(Debug, Clone)]
pub struct Store {
    db: sled::Db,
    /// The file that sled writes: its flush hands the bytes to the kernel, but does not sync them.
    file: std::sync::Arc<File>,
    /// Where that file was opened.
    path: PathBuf,
    /// How many batches were written.
    batches: Batches,
}

/// What opening brought to light.
#[derive(Debug, Default)]
pub struct Contents {
    /// The records.
    pub records: Vec<Record>,
    /// UIDs whose value this build cannot read: of a later release, or torn. They are kept apart and
    /// tried again at each start.
    pub aside: Vec<String>,
    /// How many of the latest batches the store has lost, though they were on disk.
    pub lost_batches: u64,
}

/// A value of the tree, borrowed when written and owned when read.
#[derive(Serialize, Deserialize)]
struct Value<R> {
    version: u32,
    record: R,
}

impl Store {
    /// Opens the store in the folder `path`, which is made if need be. Blocks: not for an async task.
    ///
    /// # Errors
    /// When it is denied or damaged, or stays locked for longer than two seconds.
    pub fn open(path: &Path) -> Result<(Self, Contents), StoreError> {
        Self::open_within(path, LOCK_PATIENCE)
    }

    fn open_within(path: &Path, patience: Duration) -> Result<(Self, Contents), StoreError> {
        let begun = Instant::now();
        loop {
            match Self::try_open(path) {
                Err(StoreError::Locked(_)) if begun.elapsed() < patience => {
                    thread::sleep(LOCK_PAUSE);
                }
                opened => return opened,
            }
        }
    }

    fn try_open(path: &Path) -> Result<(Self, Contents), StoreError> {
        let denied = StoreError::denied(path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent).map_err(&denied)?;
        }
        remove_half_snapshots(path).map_err(&denied)?;
        let config = sled::Config::new()
            .path(path)
            .cache_capacity(CACHE_BYTES)
            .flush_every_ms(None);
        // sled panics on some torn files, and never ends on others. The half-open database is dropped with the
        // panic.
        let attempt = within(READING, move || {
            catch_unwind(AssertUnwindSafe(|| -> sled::Result<_> {
                let db = config.open()?;
                let (contents, moved) = sort_out(&db)?;
                Ok((db, contents, moved))
            }))
        });
        let Some(attempt) = attempt.map_err(&denied)? else {
            return Err(StoreError::Endless(path.to_owned()));
        };
        let (db, contents, moved) = match attempt {
            Ok(opened) => opened.map_err(|error| read_failure(path, error))?,
            Err(_) => {
                return Err(StoreError::Damaged {
                    path: path.to_owned(),
                    why: "sled panicked".to_owned(),
                });
            }
        };
        let (batches, lost_batches) = Batches::open(&db, path).map_err(&denied)?;
        let path = path.join("db");
        let file = File::open(&path).map_err(&denied)?;
        let store = Self {
            db,
            file: std::sync::Arc::new(file),
            path,
            batches,
        };
        store.apply(|db| db.apply_batch(moved))?;
        let contents = Contents {
            lost_batches,
            ..contents
        };
        Ok((store, contents))
    }

    /// Writes the batch and returns once it is on disk. Blocks: not for an async task.
    ///
    /// After a crash in the meantime, some records of it may be on disk and others not.
    ///
    /// # Errors
    /// When any of it may not be on disk.
    pub fn commit(&self, batch: &Batch) -> Result<(), StoreError> {
        let mut changes = Vec::with_capacity(batch.len());
        for (uid, record) in batch {
            changes.push((uid, record.as_ref().map(encode).transpose()?));
        }
        // Not as a batch of sled's, which begins and ends a write to the file: this is one write.
        self.apply(|db| {
            for (uid, value) in changes {
                match value {
                    Some(value) => db.insert(uid, value)?,
                    None => db.remove(uid)?,
                };
            }
            // Behind the records: where the number is found, they are.
            self.batches.next()
        })?;
        self.batches.written();
        Ok(())
    }

    /// Makes changes, and returns once they are on disk.
    fn apply(&self, change: impl FnOnce(&sled::Db) -> sled::Result<()>) -> Result<(), StoreError> {
        let written = catch_unwind(AssertUnwindSafe(|| -> sled::Result<()> {
            change(&self.db)?;
            self.db.flush()?;
            // The length of the file with it, if it has changed, and not the time of its last change.
            self.file.sync_data()?;
            Ok(())
        }));
        match written {
            Ok(written) => written.map_err(|error| StoreError::Write(error.to_string())),
            Err(_) => Err(StoreError::Write("sled panicked".to_owned())),
        }
    }

    /// Whether the next start will find the file that is being written. A deleted file can still be written and
    /// synced. Blocks: do not call it from an async task.
    pub fn is_in_place(&self) -> bool {
        let (own, found) = match (self.file.metadata(), fs::metadata(&self.path)) {
            (Ok(own), Ok(found)) => (own, found),
            (_, Err(error)) => return error.kind() != io::ErrorKind::NotFound,
            (Err(_), Ok(_)) => return true,
        };
        own.nlink() > 0 && (own.dev(), own.ino()) == (found.dev(), found.ino())
    }

    /// How many bytes the store has on disk.
    ///
    /// # Errors
    /// When they cannot be counted.
    pub fn size(&self) -> Result<u64, StoreError> {
        self.db
            .size_on_disk()
            .map_err(|error| StoreError::Write(error.to_string()))
    }
}

/// Does this on a thread of its own. None when it has not ended by then; the thread goes on.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<Option<T>> {
    let (done, result) = mpsc::channel();
    thread::Builder::new()
        .name("store".to_owned())
        .spawn(move || {
            // Nobody takes what comes too late.
            let _ = done.send(work());
        })?;
    Ok(result.recv_timeout(limit).ok())
}

/// Reads the values one by one (copies of all of them would leave garbage behind), and tells how
/// those that cannot be read are moved out of the way of new ones.
fn sort_out(db: &sled::Db) -> sled::Result<(Contents, sled::Batch)> {
    let mut contents = Contents {
        // Counting reads all pages, which stay: what is made of them comes behind them.
        records: Vec::with_capacity(db.len()),
        ..Contents::default()
    };
    let mut moved = sled::Batch::default();
    for entry in db.iter() {
        let (key, value) = entry?;
        let name = String::from_utf8_lossy(&key).into_owned();
        let set_aside = name.strip_prefix(ASIDE);
        match (decode(&value), set_aside) {
            (Some(record), set_aside) => {
                if set_aside.is_some() {
                    moved.remove(key);
                    moved.insert(record.pod.uid.as_bytes(), value);
                }
                contents.records.push(record);
            }
            (None, Some(uid)) => contents.aside.push(uid.to_owned()),
            (None, None) => {
                moved.remove(key);
                moved.insert(format!("{ASIDE}{name}").as_bytes(), value);
                contents.aside.push(name);
            }
        }
    }
    Ok((contents, moved))
}

/// Distinguishes errors that people have to correct from damage that a new store repairs.
fn read_failure(path: &Path, error: sled::Error) -> StoreError {
    let path = path.to_owned();
    match error {
        sled::Error::Io(error) if error.to_string().contains("acquire lock") => {
            StoreError::Locked(path)
        }
        sled::Error::Io(error)
            if matches!(
                error.kind(),
                io::ErrorKind::StorageFull
                    | io::ErrorKind::QuotaExceeded
                    | io::ErrorKind::ReadOnlyFilesystem
                    | io::ErrorKind::PermissionDenied
            ) =>
        {
            StoreError::Denied { path, error }
        }
        error => StoreError::Damaged {
            path,
            why: error.to_string(),
        },
    }
}

/// The value of a record in the tree.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn encode(record: &Record) -> Result<Vec<u8>, StoreError> {
    let value = Value {
        version: VERSION,
        record,
    };
    serde_json::to_vec(&value).map_err(|error| StoreError::Write(error.to_string()))
}

/// The record of a value in the tree; none where this build cannot read it.
pub fn decode(value: &[u8]) -> Option<Record> {
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

#[cfg(test)]
mod tests;
