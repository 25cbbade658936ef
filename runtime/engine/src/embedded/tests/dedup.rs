//! Deduplication beyond what every engine has to do.

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use busway_log::testing::MemFs;
use busway_log::{Durability, Fs};
use busway_types::{Event, Limits};

use super::Fixed;
use crate::conformance::event;
use crate::embedded::{Embedded, Storage};
use crate::{Answer, Engine};

fn open(fs: &MemFs, limits: Limits) -> Embedded {
    let storage = Storage::Disk { dir: PathBuf::from("/data/bus"), durability: Durability::Sync };
    let fs: Arc<dyn Fs> = Arc::new(fs.clone());
    Embedded::open(&storage, fs, Arc::new(Fixed), limits).expect("the engine opens")
}

fn chosen(number: u128) -> Vec<Arc<Event>> {
    let mut event = event(number, b"chosen");
    event.causality.chosen_id = true;
    vec![Arc::new(event)]
}

fn poll<T>(answer: &mut Answer<T>) -> Poll<T> {
    pin!(answer).poll(&mut Context::from_waker(Waker::noop()))
}

fn wait<T>(answer: Answer<T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(answer)
}

#[test]
fn the_receipt_of_a_repetition_waits_for_the_sync_of_the_first() {
    let fs = MemFs::new();
    let engine = open(&fs, Limits::default());
    fs.set_sync_time(Duration::from_millis(300));
    let mut first = engine.publish(chosen(1));
    let mut again = engine.publish(chosen(1));
    assert!(poll(&mut first).is_pending());
    assert!(poll(&mut again).is_pending(), "the first is not safe yet");
    let again = wait(again).expect("published");
    assert_eq!(wait(first).expect("published"), again);
    assert_eq!(open(&fs.killed(), Limits::default()).publish_now(chosen(1)), again);
}

#[test]
fn a_repetition_fails_like_the_first_when_the_sync_fails() {
    let fs = MemFs::new();
    let engine = open(&fs, Limits::default());
    fs.set_sync_time(Duration::from_millis(100));
    fs.fail_syncs_after(0);
    let first = engine.publish(chosen(1));
    let again = engine.publish(chosen(1));
    assert!(wait(first).is_err());
    assert!(wait(again).is_err());
}

#[test]
fn without_a_window_every_event_is_taken() {
    let limits = Limits { dedup_window: Duration::ZERO, ..Limits::default() };
    let engine = open(&MemFs::new(), limits);
    assert_eq!(engine.publish_now(chosen(1))[0].offset, Some(0));
    assert_eq!(engine.publish_now(chosen(1))[0].offset, Some(1));
}

impl Embedded {
    fn publish_now(&self, events: Vec<Arc<Event>>) -> Vec<busway_types::Receipt> {
        wait(self.publish(events)).expect("published")
    }
}
