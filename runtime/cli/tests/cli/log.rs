//! `busway log verify`, from the binary itself.

use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use busway_log::{Log, LogOptions, RealFs, Txn};

use super::harness::{Sandbox, text};

/// A closed log of ten empty transactions.
fn log_in(sandbox: &Sandbox) -> std::path::PathBuf {
    let dir = sandbox.path().join("data");
    let options = LogOptions { segment_bytes: 8 * 1024, ..LogOptions::default() };
    let (log, _) = Log::open(Arc::new(RealFs), &dir, options).expect("opens");
    let (tell, told) = sync_channel(1);
    let txns = (1..=10).map(|seq| Txn { seq, ..Txn::default() }).collect();
    log.submit(txns, Box::new(move |result| tell.send(result).expect("somebody waits")));
    told.recv().expect("an answer").expect("commits");
    log.close().expect("closes");
    dir.join("00000000000000000001.seg")
}

#[test]
fn an_intact_log_is_told_and_a_damaged_one_fails_with_file_and_byte() {
    let sandbox = Sandbox::new();
    let segment = log_in(&sandbox);
    let run = sandbox.busway(&["log", "verify", "data"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.stdout.contains("00000000000000000001.seg            10       0"), "{}", run.stdout);
    assert_eq!(run.stderr, "nothing is damaged: 10 transactions with 0 events\n");
    let mut bytes = std::fs::read(&segment).expect("the segment");
    bytes[64 + 33 + 5] ^= 1;
    std::fs::write(&segment, bytes).expect("written");
    let run = sandbox.busway(&["log", "verify", "data"]);
    assert_eq!((run.code, run.stderr.as_str()), (1, ""));
    let told = "data/00000000000000000001.seg, byte 97: record 2 is missing or broken, and something follows it; this had been \
                safely stored";
    assert!(run.stdout.contains(told), "{}", run.stdout);
    assert!(run.stdout.contains("a start would be refused: data/00000000000000000001.seg is damaged at byte 97"));
    let run = sandbox.busway(&["log", "verify", &text(&sandbox.path().join("data")), "--json"]);
    assert_eq!(run.code, 1);
    let answer: serde_json::Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert_eq!((&answer["ok"], &answer["problems"][0]["at"]), (&false.into(), &97.into()));
}

#[test]
fn a_folder_of_something_else_is_refused() {
    let sandbox = Sandbox::new();
    let run = sandbox.busway(&["log", "verify", "."]);
    assert_eq!(run.code, 1);
    assert!(run.stderr.contains("is not a data folder of busway"), "{}", run.stderr);
}
