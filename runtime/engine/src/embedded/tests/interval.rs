//! A disk that is synced by the clock and fails while nobody publishes.

use std::path::Path;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use busway_log::testing::{ManualClock, MemFs};
use busway_log::{Durability, LogOptions, Stage};
use busway_types::{Clock as _, Limits};

use crate::conformance::event;
use crate::embedded::Embedded;
use crate::{Engine as _, EngineError};

#[test]
fn a_sync_that_fails_while_nothing_happens_is_told_at_the_next_tick() {
    let (disk, clock) = (MemFs::new(), ManualClock::default());
    let shared: Arc<dyn busway_types::Clock> = Arc::new(clock.clone());
    let durability = Durability::Interval(Duration::from_millis(100));
    let options = LogOptions { durability, clock: Arc::clone(&shared), seed: 1, ..LogOptions::default() };
    let engine = Embedded::open_stepped(Arc::new(disk.clone()), Path::new("/data"), options, shared, Limits::default());
    let engine = engine.expect("a new folder opens");
    let mut published = engine.publish(vec![Arc::new(event(1, b"x"))]);
    while engine.step(Stage::Commit) {}
    let answer = published.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(matches!(answer, Poll::Ready(Ok(_))), "acknowledged once it is written");
    disk.fail_syncs_after(0);
    clock.advance(Duration::from_millis(99));
    while engine.step(Stage::Commit) {}
    assert!(engine.tick(clock.now()).is_ok(), "the interval is not over");
    clock.advance(Duration::from_millis(1));
    while engine.step(Stage::Commit) {}
    let told = engine.tick(clock.now());
    assert!(matches!(&told, Err(EngineError::Failed(_))), "{told:?}");
}
