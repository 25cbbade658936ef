//! What has to be done about segments that are full: footers, and giving them back.
//!
//! Role: a thread of its own, so that neither the committer nor whoever decides what may go does work on files. It gives
//! released segments back first, because that makes room, and then writes the footer of the oldest full segment that has
//! none. What fails for want of room is tried again later; nobody waits for it.
//!
//! Invariants: segments are given back oldest first and one after the other, so that a crash cannot leave a gap; a footer
//! is written only after its segment and all before it are synced.

use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use busway_types::{Offset, mutant};

use crate::error::LogError;
use crate::index::{build_footer, footer_name, write_footer};
use crate::lock;
use crate::options::Durability;
use crate::segment::Segment;
use crate::shared::Shared;

/// How long after something failed it is tried again.
const AGAIN: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
struct Inner {
    /// Taken out of the list, and still there as files; oldest first.
    released: VecDeque<Arc<Segment>>,
    /// Something may be to be done.
    wanted: bool,
    /// Nothing is being done.
    idle: bool,
    stopped: bool,
}

/// What the thread has to do.
#[derive(Debug, Default)]
pub(crate) struct Upkeep {
    inner: Mutex<Inner>,
    changed: Condvar,
}

impl Upkeep {
    /// Has the thread look whether there is something to do.
    pub(crate) fn wake(&self) {
        lock(&self.inner).wanted = true;
        self.changed.notify_all();
    }

    fn release(&self, segments: impl Iterator<Item = Arc<Segment>>) {
        lock(&self.inner).released.extend(segments);
        self.wake();
    }

    /// Ends the thread once what is released is given back, as far as it can be.
    pub(crate) fn stop(&self) {
        lock(&self.inner).stopped = true;
        self.changed.notify_all();
    }

    fn goes_on(&self) -> bool {
        !lock(&self.inner).stopped
    }

    /// Waits until everything is done that could be, for tests.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn settle(&self) {
        let mut inner = lock(&self.inner);
        while !inner.stopped && (inner.wanted || !inner.idle) {
            inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The thread.
    pub(crate) fn run(&self, shared: &Shared) {
        let mut told = false;
        loop {
            lock(&self.inner).wanted = false;
            let done = self.round(shared);
            if let (Err(error), false) = (&done, told) {
                tracing::warn!(%error, "giving segments back or indexing them is tried again until it succeeds");
            }
            told = done.is_err();
            let mut inner = lock(&self.inner);
            inner.idle = true;
            self.changed.notify_all();
            while !inner.wanted && !inner.stopped {
                if done.is_ok() {
                    inner = self.changed.wait(inner).unwrap_or_else(PoisonError::into_inner);
                } else {
                    let waited = self.changed.wait_timeout(inner, AGAIN);
                    let (held, timeout) = waited.unwrap_or_else(PoisonError::into_inner);
                    inner = held;
                    inner.wanted |= timeout.timed_out();
                }
            }
            if inner.stopped && (done.is_err() || inner.released.is_empty()) {
                return;
            }
            inner.idle = false;
        }
    }

    /// The thread's work without waiting; false when there was nothing to do or it failed.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn step(&self, shared: &Shared) -> bool {
        if !std::mem::take(&mut lock(&self.inner).wanted) {
            return false;
        }
        let done = self.round(shared);
        lock(&self.inner).wanted |= done.is_err();
        done.is_ok()
    }

    /// Does everything there is to do.
    fn round(&self, shared: &Shared) -> Result<(), LogError> {
        loop {
            loop {
                // The lock is let go before the file is touched: what cannot be given back is put back under it.
                let next = lock(&self.inner).released.pop_front();
                let Some(segment) = next else { break };
                if let Err((segment, error)) = give_back(shared, segment) {
                    lock(&self.inner).released.push_front(segment);
                    return Err(error);
                }
            }
            let Some(segment) = next_without_footer(shared).filter(|_| self.goes_on()) else { return Ok(()) };
            if !self.index(shared, &segment)? {
                return Ok(());
            }
        }
    }

    /// Writes the footer of a full segment; false when there was no time for it.
    fn index(&self, shared: &Shared, segment: &Segment) -> Result<bool, LogError> {
        if shared.failure().is_some() {
            return Ok(false);
        }
        if shared.options.durability == Durability::Memory && !segment.settled.load(Ordering::Acquire) {
            segment.file.sync_data().map_err(|e| segment.io("syncing", e)).inspect_err(|e| shared.fail(e))?;
            segment.settled.store(true, Ordering::Release);
        }
        let keep_on = || self.goes_on() && lock(&self.inner).released.is_empty();
        // What was written a moment ago cannot be read: nothing more is to be promised on this disk.
        let Some(bytes) = build_footer(segment, &keep_on).inspect_err(|e| shared.fail(e))? else {
            return Ok(self.goes_on());
        };
        segment.set_summary(write_footer(&*shared.fs, &shared.dir, segment, &bytes)?);
        Ok(true)
    }
}

/// The oldest full segment that has no footer. The last segment is the one being written.
fn next_without_footer(shared: &Shared) -> Option<Arc<Segment>> {
    let segments = shared.segments();
    segments.iter().take(segments.len() - 1).find(|segment| segment.summary().is_none()).cloned()
}

/// Takes whole segments out of the list whose events are all below `offset` and that no replay needs, once everything
/// submitted so far is safe: until then a wish waits for the next call. Cheap: the files are given back by the thread.
pub(crate) fn release_before(shared: &Shared, offset: Offset) {
    let submitted = lock(&shared.queue).submitted;
    let safe = if mutant("released-before-safe") { submitted } else { shared.safe_seq() };
    if let Some(offset) = lock(&shared.releases).ask(offset, submitted, safe) {
        take_out(shared, offset);
    }
}

fn take_out(shared: &Shared, offset: Offset) {
    let Some(mark) = *lock(&shared.checkpoint) else { return };
    let free = |segments: &[Arc<Segment>]| {
        let needless = |s: &Segment| {
            s.header.seal.epoch < mark.epoch
                && s.next_seq() <= mark.covers + 1
                && (s.next_offset() <= offset || mutant("segment-released-early"))
        };
        // The last segment is the one being written.
        segments.iter().take(segments.len() - 1).take_while(|s| needless(s)).count()
    };
    if free(&shared.segments()) == 0 {
        return;
    }
    let mut segments = shared.segments_mut();
    let count = free(&segments);
    shared.upkeep.release(segments.drain(..count));
}

/// Whether a whole segment lies below `offset` that the newest checkpoint does not make needless.
pub(crate) fn waits_for_checkpoint(shared: &Shared, offset: Offset) -> bool {
    let segments = shared.segments();
    // What could be given back was taken out before; the last one is the one being written.
    segments.len() > 1 && segments[0].next_offset() <= offset
}

/// Gives one segment back, which is in the list no more.
fn give_back(shared: &Shared, segment: Arc<Segment>) -> Result<(), (Arc<Segment>, LogError)> {
    let try_it = |segment: &Arc<Segment>| -> Result<(), LogError> {
        if shared.options.durability == Durability::Memory {
            sync_all(shared)?;
        }
        let footer = footer_name(&segment.path);
        match shared.fs.remove(&footer) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(LogError::io("removing", &footer, error));
            }
            _ => {}
        }
        let whole = segment.file.size().map_err(|e| segment.io("looking at", e))?;
        // With another reference somebody is reading, and the file must keep its content.
        let unused = Arc::strong_count(segment) == 1 && whole >= shared.options.segment_bytes;
        shared.spares.give_back(&segment.path, unused.then(|| segment.file.clone()), whole)?;
        // After a failed sync of the folder nothing is known about its names.
        let synced = shared.fs.sync_dir(&shared.dir).map_err(|e| LogError::io("syncing", &shared.dir, e));
        let _ = synced.inspect_err(|e| shared.fail(e));
        Ok(())
    };
    try_it(&segment).map_err(|error| (segment, error))
}

/// Syncs all segments, where that is not done with each group.
pub(crate) fn sync_all(shared: &Shared) -> Result<(), LogError> {
    let segments = shared.segments().clone();
    for segment in segments.iter().filter(|s| !s.settled.load(Ordering::Acquire)) {
        if let Err(error) = segment.file.sync_data() {
            let error = segment.io("syncing", error);
            shared.fail(&error);
            return Err(error);
        }
    }
    // All but the last are never written to again.
    for segment in segments.iter().rev().skip(1) {
        segment.settled.store(true, Ordering::Release);
    }
    Ok(())
}
