//! The data folder: locked, of the right format, writable, and the owner's alone.

use super::*;
use crate::{Holder, RealFs};

#[test]
fn a_folder_in_use_is_refused_with_the_process_that_has_it() {
    let temp = tempfile::tempdir().expect("a folder");
    let dir = temp.path().join("bus");
    let (log, _) = Log::open(Arc::new(RealFs), &dir, small(Durability::Sync)).expect("opens");
    let error = Log::open(Arc::new(RealFs), &dir, small(Durability::Sync)).expect_err("locked");
    assert_eq!(
        error.to_string(),
        format!(
            "the data folder {} is in use by another busway node (process {}); stop it, or choose another folder with \
             --data",
            dir.display(),
            std::process::id()
        )
    );
    assert!(error.is_retryable());
    log.close().expect("closes");
    Log::open(Arc::new(RealFs), &dir, small(Durability::Sync)).expect("opens once the other is closed");
}

#[test]
fn a_log_dropped_by_its_last_completion_still_gives_the_folder_back() {
    let fs = MemFs::new();
    let (log, _) = open(&fs, small(Durability::Sync));
    let log = Arc::new(log);
    let (tell, told) = sync_channel(1);
    let (go, gone) = sync_channel::<()>(1);
    let last = log.clone();
    let dropping = move |result: Result<(), LogError>| {
        gone.recv().expect("the other reference is gone");
        drop(last);
        tell.send(result).expect("somebody waits");
    };
    log.submit(vec![Txn { seq: 1, ..Txn::default() }], Box::new(dropping));
    drop(log);
    go.send(()).expect("it waits");
    told.recv().expect("an answer").expect("commits");
    let opened = (0..200).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        try_open(&fs, small(Durability::Sync)).ok()
    });
    assert_eq!(opened.expect("the folder is free").1.state.next_seq, 2);
}

#[test]
fn a_log_on_a_real_disk_is_there_after_it_was_closed() {
    use std::os::unix::fs::PermissionsExt;
    let temp = tempfile::tempdir().expect("a folder");
    let dir = temp.path().join("some/bus");
    let mut source = Source::new(1);
    for _ in 0..3 {
        let (log, recovered) = Log::open(Arc::new(RealFs), &dir, small(Durability::Sync)).expect("opens");
        assert_eq!(recovered.state, source.state);
        assert_eq!(read_all(&log, 0), events_of(&source.txns));
        for _ in 0..100 {
            commit(&log, source.next()).expect("commits");
        }
    }
    let mode = std::fs::metadata(&dir).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let mode = std::fs::metadata(dir.join("00000000000000000001.seg")).expect("there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn a_folder_of_another_format_is_refused() {
    let fs = MemFs::new();
    drop(open(&fs, small(Durability::Sync)));
    assert!(fs.edit(&dir().join("FORMAT"), |bytes| *bytes = b"busway-log 2\n".to_vec()));
    let error = try_open(&fs, small(Durability::Sync)).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "/data/bus/FORMAT is of format 2, and this version of busway reads format 1; use the version that wrote it, or \
         choose another folder with --data"
    );
    assert!(fs.edit(&dir().join("FORMAT"), |bytes| *bytes = vec![0xff; 100]));
    assert!(matches!(try_open(&fs, small(Durability::Sync)), Err(LogError::Damaged { .. })));
}

#[test]
fn a_folder_with_other_things_in_it_is_left_alone() {
    let temp = tempfile::tempdir().expect("a folder");
    std::fs::write(temp.path().join("notes.txt"), "mine").expect("written");
    let error = Log::open(Arc::new(RealFs), temp.path(), small(Durability::Sync)).expect_err("refused");
    assert!(matches!(&error, LogError::NotADataFolder { found, .. } if found == "notes.txt"), "{error}");
    assert_eq!(std::fs::read_dir(temp.path()).expect("there").count(), 1, "nothing was added");
}

#[test]
fn a_folder_that_cannot_be_written_to_is_refused_by_name() {
    let fs = MemFs::new();
    fs.set_read_only(true);
    let error = try_open(&fs, small(Durability::Sync)).expect_err("refused");
    assert!(error.to_string().starts_with("the data folder /data/bus cannot be written to ("), "{error}");
    fs.set_read_only(false);
    drop(open(&fs, small(Durability::Sync)));
    let fs = fs.killed();
    assert!(crate::Fs::remove(&fs, &dir().join("LOCK")).is_ok());
    fs.set_read_only(true);
    assert!(matches!(try_open(&fs, small(Durability::Sync)), Err(LogError::ReadOnly { .. })));
}

#[test]
fn a_full_disk_is_named_at_the_start() {
    let fs = MemFs::new();
    fs.set_capacity(Some(1_000));
    let error = try_open(&fs, small(Durability::Sync)).expect_err("refused");
    assert_eq!(
        error.to_string(),
        "no space left while filling /data/bus/spare-0.tmp; free some space on that disk and start again"
    );
    fs.set_capacity(None);
    drop(open(&fs, small(Durability::Sync)));
}

#[test]
fn the_holder_is_named_as_far_as_it_is_known() {
    assert_eq!(Holder(None).to_string(), "another busway node");
}
