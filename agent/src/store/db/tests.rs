use super::*;
use crate::testing::{record, shell};

fn batch(uids: &[&str]) -> Batch {
    uids.iter()
        .map(|uid| ((*uid).to_owned(), Some(record(uid, shell(0)))))
        .collect()
}

#[test]
fn what_does_not_end_is_not_waited_for() {
    let forever = within(Duration::from_millis(10), || {
        loop {
            thread::park();
        }
    });
    assert_eq!(forever.unwrap(), None::<()>);
    assert_eq!(within(READING, || 7).unwrap(), Some(7));
}

#[test]
fn what_was_committed_is_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, contents) = Store::open(&folder.path().join("records")).unwrap();
    assert!(contents.records.is_empty());
    store.commit(&batch(&["a", "b"])).unwrap();
    store.commit(&Batch::from([("a".into(), None)])).unwrap();
    drop(store);
    let (_store, contents) = Store::open(&folder.path().join("records")).unwrap();
    assert_eq!(contents.records, vec![record("b", shell(0))]);
}

/// Whatever is missing at the end of the file: where a record is gone, so is the number of its batch.
#[test]
fn a_record_that_is_lost_from_the_end_is_missed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let (store, _) = Store::open(&path).unwrap();
    let file = path.join("db");
    store.commit(&batch(&["a"])).unwrap();
    let before = fs::read(&file).unwrap().len();
    store.commit(&batch(&["b"])).unwrap();
    drop(store);
    let whole = fs::read(&file).unwrap();
    let mut lost = 0;
    for cut in (before..whole.len()).step_by(23) {
        let torn = tempfile::tempdir().unwrap();
        let path = torn.path().join("records");
        fs::create_dir(&path).unwrap();
        fs::copy(folder.path().join("records/conf"), path.join("conf")).unwrap();
        let written = "records.batches";
        fs::copy(folder.path().join(written), torn.path().join(written)).unwrap();
        fs::write(path.join("db"), &whole[..cut]).unwrap();
        let (_store, contents) = Store::open(&path).unwrap();
        let is_there = contents.records.contains(&record("b", shell(0)));
        assert!(
            is_there || contents.lost_batches == 1,
            "{cut}: {contents:?}"
        );
        lost += contents.lost_batches;
    }
    assert!(lost > 0);
}

#[test]
fn what_cannot_be_read_is_kept_apart_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("records")).unwrap();
    let sound = encode(&record("b", shell(0))).unwrap();
    store
        .db
        .insert("a", r#"{"version":2,"record":{}}"#)
        .unwrap();
    store.db.insert("aside/b", sound).unwrap();
    store.db.insert("c", "torn").unwrap();
    drop(store);
    for _ in 0..2 {
        let (store, contents) = Store::open(&folder.path().join("records")).unwrap();
        assert_eq!(contents.records, vec![record("b", shell(0))]);
        assert_eq!(contents.aside, ["a", "c"]);
        // A new record of the pod does not overwrite what was set aside.
        store.commit(&batch(&["b"])).unwrap();
        drop(store);
    }
}

#[test]
fn says_what_is_in_the_way() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("records");
    let (store, _) = Store::open(&path).unwrap();
    assert!(matches!(Store::open(&path), Err(StoreError::Locked(_))));
    drop(store);
    let file = path.join("db");
    fs::remove_file(&file).unwrap();
    fs::create_dir(&file).unwrap();
    assert!(matches!(
        Store::open(&path),
        Err(StoreError::Damaged { .. })
    ));
    fs::write(folder.path().join("file"), "").unwrap();
    let below_a_file = folder.path().join("file/records");
    assert!(matches!(
        Store::open(&below_a_file),
        Err(StoreError::Denied { .. })
    ));
}

#[test]
fn a_lock_that_is_let_go_soon_is_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    drop(Store::open(&folder.path().join("records")).unwrap());
    let file = File::open(folder.path().join("records/db")).unwrap();
    file.lock().unwrap();
    let holder = thread::spawn(move || {
        thread::sleep(LOCK_PATIENCE / 10);
        drop(file);
    });
    // Long for a machine that is busy.
    let patience = 30 * LOCK_PATIENCE;
    assert!(Store::open_within(&folder.path().join("records"), patience).is_ok());
    holder.join().unwrap();
}

#[test]
fn a_half_written_snapshot_is_no_obstacle() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("records")).unwrap();
    store.commit(&batch(&["a"])).unwrap();
    drop(store);
    fs::write(folder.path().join("records/snap.0000.generating"), "").unwrap();
    let (_, contents) = Store::open(&folder.path().join("records")).unwrap();
    assert_eq!(contents.records.len(), 1);
}
