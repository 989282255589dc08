//! Detects whether the store has lost batches. sled reads a damaged file up to the damage, and does not report what
//! is missing.
//!
//! Each batch has a number. The number is written to the store together with the batch and, after the batch is on
//! disk, to a file next to the store. If the number in the store is lower than the number in the file, batches were
//! lost. The file is not synced, because that would cost time. After a crash of the machine its number may be too
//! low: then a loss may stay undetected, but a loss that did not happen is never reported.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The tree of the number and its key. It is not among the records, which other releases read one by one.
const TREE: &str = "batches";
const KEY: &str = "written";

/// The digits of the longest number, so that a shorter one leaves nothing of another behind.
const DIGITS: usize = 20;

/// Counts batches. Cloning is cheap; all clones count the same.
#[derive(Debug, Clone)]
pub(super) struct Batches {
    number: Arc<AtomicU64>,
    beside: Arc<File>,
    tree: sled::Tree,
}

impl Batches {
    /// Those of a store in this folder. Returns how many it has lost, too.
    ///
    /// # Errors
    /// When the store or the file beside it cannot be read.
    pub(super) fn open(db: &sled::Db, folder: &Path) -> io::Result<(Self, u64)> {
        let tree = db.open_tree(TREE)?;
        let stored = tree.get(KEY)?.and_then(|value| number(&value));
        let stored = stored.unwrap_or_default();
        let path = folder.with_extension("batches");
        let before = match fs::read(&path) {
            Ok(text) => number(&text).unwrap_or_default(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(error),
        };
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)?;
        let batches = Self {
            number: Arc::new(AtomicU64::new(stored)),
            beside: Arc::new(file),
            tree,
        };
        Ok((batches, before.saturating_sub(stored)))
    }

    /// Gives the next batch its number, in the store.
    ///
    /// # Errors
    /// When the store cannot be written.
    pub(super) fn next(&self) -> sled::Result<()> {
        let number = self.number.fetch_add(1, Ordering::Relaxed) + 1;
        self.tree.insert(KEY, text(number).as_bytes())?;
        Ok(())
    }

    /// The batch is on disk.
    pub(super) fn written(&self) {
        let number = text(self.number.load(Ordering::Relaxed));
        if let Err(error) = self.beside.write_all_at(number.as_bytes(), 0) {
            tracing::debug!(
                %error,
                "cannot write the number of the batch; the agent would not notice the loss of this batch"
            );
        }
    }
}

fn text(number: u64) -> String {
    format!("{number:0DIGITS$}\n")
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> (Batches, u64) {
        let path = folder.join("records");
        let db = sled::Config::new().path(&path).open().unwrap();
        Batches::open(&db, &path).unwrap()
    }

    #[test]
    fn a_store_that_lost_batches_is_noticed_once() {
        let folder = tempfile::tempdir().unwrap();
        for already in [0, 3] {
            let (batches, lost) = open(folder.path());
            assert_eq!(lost, 0);
            for _ in 0..3 {
                batches.next().unwrap();
                batches.written();
            }
            assert_eq!(batches.number.load(Ordering::Relaxed), already + 3);
        }
        fs::remove_dir_all(folder.path().join("records")).unwrap();
        let (batches, lost) = open(folder.path());
        assert_eq!(lost, 6);
        batches.next().unwrap();
        batches.written();
        drop(batches);
        assert_eq!(open(folder.path()).1, 0);
    }

    #[test]
    fn a_batch_that_is_not_known_to_be_on_disk_is_not_missed() {
        let folder = tempfile::tempdir().unwrap();
        let (batches, _) = open(folder.path());
        batches.next().unwrap();
        drop(batches);
        assert_eq!(open(folder.path()).1, 0);
        for unreadable in ["", "twelve", "\u{0}\u{0}"] {
            fs::write(folder.path().join("records.batches"), unreadable).unwrap();
            assert_eq!(open(folder.path()).1, 0, "{unreadable:?}");
        }
    }
}
