//! Recovers from failures of the store.
//!
//! - A store that fails is closed, and is opened again for the next write.
//! - A damaged store is moved aside and replaced by a new one. The metadata of the pods contain what the agent
//!   needs.
//! - A store that was deleted is replaced by a new one, and the controller writes what it knows.
//! - A store that cannot be read to its end is moved aside too, but only the next process creates a new one.
//!
//! So the agent runs, evicts and reports even while its disk is full. It only refuses notices then, and the webhook
//! records the interactions on the pods.

use std::{
    fs,
    io::{self, Read},
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use procfs::process::{MountInfo, MountInfos, Process};

use super::{Batch, Contents, Store, StoreError};

/// The folder of the store itself, below the one that is given to the agent: beside it is room for
/// those that were moved aside.
pub fn path(folder: &Path) -> PathBuf {
    folder.join("records")
}

/// The most bytes that the name of a file has.
const MAX_NAME: usize = 255;

/// Opens the store when it has to and writes to it. All of it blocks: not for an async task.
#[derive(Debug)]
pub struct RecoveringStore {
    path: PathBuf,
    store: Option<Store>,
    /// Whether the one before was deleted while it was open, and no new one was begun yet.
    deleted: bool,
}

/// A store was opened.
#[derive(Debug)]
pub struct Opened {
    /// What it holds.
    pub contents: Contents,
    /// Where the one before was moved, if that was damaged and this one is new.
    pub moved_to: Option<PathBuf>,
    /// Whether the one before was deleted while it was open.
    pub deleted: bool,
}

impl RecoveringStore {
    /// The store below `folder`, still closed.
    pub fn new(folder: &Path) -> Self {
        Self {
            path: path(folder),
            store: None,
            deleted: false,
        }
    }

    /// Whether the store is open.
    pub fn is_open(&self) -> bool {
        self.store.is_some()
    }

    /// The bytes of the store on disk, when it is open.
    pub fn size(&self) -> Option<u64> {
        self.store.as_ref()?.size().ok()
    }

    /// Closes the store when it was deleted. Returns whether it is not in place any more.
    fn close_if_deleted(&mut self) -> bool {
        let in_place = |store: &Store| store.is_in_place();
        if self.store.as_ref().is_none_or(in_place) {
            return false;
        }
        tracing::error!(
            store = %self.path.display(),
            "the store was deleted while the agent was using it; the agent creates a new one and writes what \
             it knows; interactions are recorded on the pods in the meantime"
        );
        self.store = None;
        self.deleted = true;
        true
    }

    /// Opens the store unless it is open and in place.
    ///
    /// # Errors
    /// If neither this store nor a new one in its place can be opened. If the folder was deleted or is an old mount,
    /// or if reading the store does not end, retrying does not help: the process has to end.
    pub fn open(&mut self) -> Result<Option<Opened>, StoreError> {
        self.close_if_deleted();
        if self.store.is_some() {
            return Ok(None);
        }
        let mut moved_to = moved_before(&self.path);
        if let Some(folder) = self.path.parent() {
            if is_deleted(folder) {
                return Err(StoreError::NoFolder(folder.to_owned()));
            }
            keep_private(folder).map_err(StoreError::denied(folder))?;
        }
        let (store, contents) = match Store::open(&self.path) {
            Err(StoreError::Damaged { path, why }) => {
                let aside = move_aside(&path).map_err(StoreError::denied(&path))?;
                tracing::error!(
                    store = %path.display(), moved_to = %aside.display(), why,
                    "the store is damaged and was moved aside; records are rebuilt from the pods' metadata; \
                     delete the old store when it is no longer needed for diagnosis"
                );
                moved_to = Some(aside);
                Store::open(&self.path)?
            }
            Err(StoreError::Endless(path)) => {
                let aside = move_for_the_next(&path).map_err(StoreError::denied(&path))?;
                tracing::error!(
                    store = %path.display(), moved_to = %aside.display(),
                    "reading the store does not end; the store was moved aside, and the agent restarts with a \
                     new one"
                );
                return Err(StoreError::Endless(path));
            }
            Err(StoreError::Denied { path, error })
                if error.kind() == io::ErrorKind::ReadOnlyFilesystem && is_old_mount(&path) =>
            {
                return Err(StoreError::OldMount(path));
            }
            opened => opened?,
        };
        for uid in &contents.aside {
            tracing::error!(
                uid,
                "a record in the store is damaged or from a later release; it is kept and not used"
            );
        }
        if contents.lost_batches > 0 && moved_to.is_none() && !self.deleted {
            tracing::error!(
                store = %self.path.display(), lost_batches = contents.lost_batches,
                "the store has lost its latest batches; their records are rebuilt from the pods' metadata"
            );
        }
        self.store = Some(store);
        forget_moved(&self.path);
        Ok(Some(Opened {
            contents,
            moved_to,
            deleted: std::mem::take(&mut self.deleted),
        }))
    }

    /// Writes to the open store. When this returns, the batch is on disk. A store that fails is closed, because it
    /// cannot be trusted any more.
    ///
    /// # Errors
    /// When any of the batch may not be on disk.
    pub fn commit(&mut self, batch: &Batch) -> Result<(), StoreError> {
        let Some(store) = &self.store else {
            return Err(StoreError::Write("it is not open".to_owned()));
        };
        if batch.is_empty() {
            return Ok(());
        }
        let written = store.commit(batch);
        if written.is_err() {
            self.store = None;
        } else if self.close_if_deleted() {
            return Err(StoreError::Deleted(self.path.clone()));
        }
        written
    }
}

/// Makes sure that the folder exists and that only its owner may read it. The kubelet creates the folder on the node
/// with mode 0755, but not everyone on the node may see who ran which command in which pod.
fn keep_private(folder: &Path) -> io::Result<()> {
    const OWNER_ONLY: u32 = 0o700;
    fs::create_dir_all(folder)?;
    let mode = fs::metadata(folder)?.permissions().mode() & 0o7777;
    if mode != OWNER_ONLY {
        fs::set_permissions(folder, fs::Permissions::from_mode(OWNER_ONLY))?;
    }
    Ok(())
}

/// Moves a folder to the first free name beside it.
fn move_aside(path: &Path) -> io::Result<PathBuf> {
    const MOST: u32 = 10;
    for n in 1..=MOST {
        let aside = path.with_extension(format!("broken-{n}"));
        if !aside.exists() {
            fs::rename(path, &aside)?;
            return Ok(aside);
        }
    }
    // Something breaks stores again and again; keeping ever more of them would fill the disk.
    fs::remove_dir_all(path)?;
    Ok(path.with_extension(format!("broken-{MOST}")))
}

/// Where it is written that the store was moved aside, for the process that begins a new one.
fn moved_note(path: &Path) -> PathBuf {
    path.with_extension("moved")
}

/// Moves the store aside, and leaves a note of it.
fn move_for_the_next(path: &Path) -> io::Result<PathBuf> {
    let aside = move_aside(path)?;
    let name = aside.file_name().unwrap_or_default();
    fs::write(moved_note(path), name.as_encoded_bytes())?;
    Ok(aside)
}

/// Where an earlier process moved the store, if nobody has begun a new one since.
fn moved_before(path: &Path) -> Option<PathBuf> {
    let mut name = String::new();
    let note = fs::File::open(moved_note(path)).ok()?;
    // Longer than any name, so that one that was cut is not taken for another.
    let read = note.take(MAX_NAME as u64 + 1).read_to_string(&mut name);
    let aside = path.with_file_name(&name);
    let is_a_name = aside.file_name() == Some(name.as_ref()) && aside.parent() == path.parent();
    (read.is_ok() && name.len() <= MAX_NAME && is_a_name).then_some(aside)
}

/// A new store was begun.
fn forget_moved(path: &Path) {
    if let Err(error) = fs::remove_file(moved_note(path))
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!(%error, "the next start will report the store as new again");
    }
}

/// Whether the folder is only there because somebody has it open or mounted.
fn is_deleted(folder: &Path) -> bool {
    fs::metadata(folder).is_ok_and(|metadata| metadata.nlink() == 0)
}

/// Whether the mount of this folder is read-only though its file system is not.
fn is_old_mount(folder: &Path) -> bool {
    let mounts = Process::myself().and_then(|own| own.mountinfo());
    mounts.is_ok_and(|MountInfos(mounts)| is_read_only_alone(&mounts, folder))
}

/// Whether the mount that holds this folder is read-only, and its file system is not.
fn is_read_only_alone(mounts: &[MountInfo], folder: &Path) -> bool {
    let holding = mounts
        .iter()
        .filter(|mount| folder.starts_with(&mount.mount_point));
    let nearest = holding.max_by_key(|mount| mount.mount_point.components().count());
    nearest.is_some_and(|mount| {
        mount.mount_options.contains_key("ro") && !mount.super_options.contains_key("ro")
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{record, shell};
    use std::os::fd::AsRawFd;

    fn batch() -> Batch {
        Batch::from([("u".to_owned(), Some(record("u", shell(0))))])
    }

    #[test]
    fn a_note_names_a_neighbour_of_the_store() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        let note = |text: &[u8]| {
            fs::write(moved_note(&path), text).unwrap();
            moved_before(&path)
        };
        let aside = folder.path().join("records.broken-1");
        assert_eq!(note(b"records.broken-1"), Some(aside));
        let long = [b'x'; 300];
        for other in [
            &b""[..],
            b".",
            b"..",
            b"../records",
            b"/etc/passwd",
            b"a/b",
            b"\xff",
            &long,
        ] {
            assert_eq!(note(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_mount_that_stayed_read_only_is_told_from_a_file_system_that_is() {
        let root = "20 1 8:1 / / rw - ext4 /dev/sda1 rw";
        let mount = |options, file_system| {
            format!("30 20 8:2 /curfew /var/lib/curfew {options} - ext4 /dev/sdb1 {file_system}")
        };
        let folder = Path::new("/var/lib/curfew");
        for (options, file_system, alone) in [
            ("ro,relatime", "rw", true),
            ("ro,relatime", "ro", false),
            ("rw,relatime", "ro", false),
            ("rw,relatime", "rw", false),
        ] {
            let lines = [root.to_owned(), mount(options, file_system)];
            let mounts = lines.map(|line| MountInfo::from_line(&line).unwrap());
            assert_eq!(
                is_read_only_alone(&mounts, folder),
                alone,
                "{options} {file_system}"
            );
        }
        assert!(!is_old_mount(Path::new("/proc")));
    }

    #[test]
    fn a_damaged_store_is_moved_aside() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = RecoveringStore::new(folder.path());
        assert!(store.open().unwrap().unwrap().moved_to.is_none());
        store.commit(&batch()).unwrap();
        drop(store);
        let file = folder.path().join("records/db");
        fs::remove_file(&file).unwrap();
        fs::create_dir(&file).unwrap();

        let mut store = RecoveringStore::new(folder.path());
        let opened = store.open().unwrap().unwrap();
        assert!(opened.moved_to.unwrap().join("db").is_dir());
        assert!(opened.contents.records.is_empty());
        store.commit(&batch()).unwrap();
        assert!(store.open().unwrap().is_none(), "it is open");
    }

    #[test]
    fn a_store_that_was_moved_aside_for_the_next_process_is_told_of_once() {
        let folder = tempfile::tempdir().unwrap();
        let mut store = RecoveringStore::new(folder.path());
        store.open().unwrap();
        store.commit(&batch()).unwrap();
        drop(store);
        let aside = move_for_the_next(&path(folder.path())).unwrap();
        assert!(aside.join("db").exists());

        let opened = RecoveringStore::new(folder.path()).open().unwrap().unwrap();
        assert_eq!(opened.moved_to, Some(aside));
        assert!(opened.contents.records.is_empty());
        let again = RecoveringStore::new(folder.path()).open().unwrap().unwrap();
        assert_eq!(again.moved_to, None);
    }

    #[test]
    fn a_store_that_is_deleted_is_begun_anew() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(folder.path());
        let mut store = RecoveringStore::new(folder.path());
        assert!(!store.open().unwrap().unwrap().deleted);
        store.commit(&batch()).unwrap();
        let deletions: [fn(&Path) -> io::Result<()>; 3] = [
            |path| fs::remove_dir_all(path),
            |path| fs::remove_file(path.join("db")),
            // A copy in its place is not what is written.
            |path| {
                fs::copy(path.join("db"), path.join("copy"))?;
                fs::rename(path.join("copy"), path.join("db"))
            },
        ];
        for delete in deletions {
            assert!(store.open().unwrap().is_none(), "it is in place");
            delete(&path).unwrap();
            let refused = store.commit(&batch());
            assert!(
                matches!(refused, Err(StoreError::Deleted(_))),
                "{refused:?}"
            );
            assert!(!store.is_open());
            assert!(store.open().unwrap().unwrap().deleted);
            store.commit(&batch()).unwrap();

            // It is seen without a write, too.
            delete(&path).unwrap();
            assert!(store.open().unwrap().unwrap().deleted);
            store.commit(&batch()).unwrap();
        }
        drop(store);
        let opened = RecoveringStore::new(folder.path()).open().unwrap().unwrap();
        assert_eq!(opened.contents.records.len(), 1);
    }

    #[test]
    fn in_a_folder_that_is_deleted_no_store_is_begun() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("mounted");
        fs::create_dir(&folder).unwrap();
        // As it is with a mount, the path leads there whatever happens to the folder.
        let mounted = fs::File::open(&folder).unwrap();
        let mut store =
            RecoveringStore::new(Path::new(&format!("/proc/self/fd/{}", mounted.as_raw_fd())));
        store.open().unwrap();
        fs::remove_dir_all(&folder).unwrap();
        for _ in 0..2 {
            assert!(matches!(store.open(), Err(StoreError::NoFolder(_))));
        }
        assert!(!store.is_open());
    }

    #[test]
    fn nobody_else_looks_into_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mode = || fs::metadata(folder.path()).unwrap().permissions().mode() & 0o7777;
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        RecoveringStore::new(folder.path()).open().unwrap();
        assert_eq!(mode(), 0o700);

        let below = folder.path().join("a/b");
        RecoveringStore::new(&below).open().unwrap();
        let mode = fs::metadata(below).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode, 0o700);
    }

    #[test]
    fn a_closed_store_takes_nothing_and_can_be_opened_later() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = RecoveringStore::new(folder.path());
        first.open().unwrap();
        let mut second = RecoveringStore::new(folder.path());
        assert!(matches!(second.open(), Err(StoreError::Locked(_))));
        assert!(second.commit(&batch()).is_err());
        first.commit(&batch()).unwrap();
        drop(first);
        let opened = second.open().unwrap().unwrap();
        assert_eq!(opened.contents.records.len(), 1);
    }
}
