//! The committer: the only thread that writes to segments.
//!
//! Role: take everything that is queued, encode it into one buffer, write it with one call, sync it once, then tell
//! those who wait. While it syncs the queue fills, so groups grow with the load.
//!
//! Invariants:
//! - a completion is called only after its transactions are as safe as the durability promises, and in order;
//! - a failed write or sync is never tried again: what the disk holds is unknown then, so the log is failed for good and
//!   every later submission gets the same error; only a write that the disk had no room for waits until it has, and
//!   nothing is acknowledged meanwhile;
//! - each frame says what was synced before it; after a pause a seal says so of the last group.
//!
//! It never looks at what transactions mean, and never waits for a checkpoint.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::Ordering;
use std::sync::mpsc::SyncSender;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use busway_types::{Offset, mutant};

use crate::checkpoint::{Feed, Slices};
use crate::codec::{encode_txn, kind};
use crate::error::{LogError, Position};
use crate::frame::{FRAME_BYTES, MAX_BODY, finish};
use crate::lock;
use crate::options::Durability;
use crate::rotate::create_segment;
use crate::segment::Segment;
use crate::shared::{Job, Mark, Queue, Shared};
use crate::txn::{SettleRecord, Txn};
use crate::walk::WalkEnd;

/// A group takes no further submission beyond this many queued bytes.
const GROUP_BYTES: usize = 8 * 1024 * 1024;

/// Checkpoint slices written with one group.
const GROUP_SLICES: usize = 4;

/// A buffer larger than this is given back after use.
const BUFFER_KEPT: usize = 16 * 1024 * 1024;

/// How long after the last group a seal follows, when nothing else does.
const SEAL_AFTER: Duration = Duration::from_millis(25);

/// At most this many segments' worth of transactions lie behind the newest checkpoint, however large that one is.
const CHECKPOINT_SEGMENTS: u64 = 3;

/// The state of the checkpoint that is being written.
#[derive(Debug, Default)]
struct Checkpointing {
    /// Asked for and not yet completely written.
    asked: bool,
    /// What is left to write.
    slices: Option<Slices>,
    /// Where the first slice went.
    epoch: Option<u32>,
    /// A segment was begun meanwhile: without another checkpoint the ones before would wait for the next segment, which
    /// never comes when publishers wait for room.
    missed: bool,
    /// Complete, but not yet synced.
    unsynced: Option<Mark>,
    /// Bytes of the last one, and of the one being written.
    bytes: u64,
    /// Bytes of transactions written since the last one was asked for.
    since: u64,
}

/// The committer's own state.
#[derive(Debug)]
pub(crate) struct Committer {
    shared: Arc<Shared>,
    feed: SyncSender<Feed>,
    segment: Arc<Segment>,
    /// Where the buffer will be written.
    at: u64,
    chain: u32,
    next_seq: u64,
    next_offset: Offset,
    /// All up to this transaction is synced.
    synced: u64,
    /// Something was written since the last sync.
    dirty: bool,
    /// No frame says yet that the last group is synced; one is due at this time (monotonic ns).
    seal_at: Option<u64>,
    /// With [`Durability::Interval`]: when the next sync is due.
    sync_at: Option<u64>,
    buffer: Vec<u8>,
    /// First offsets and places of the frames with events in the buffer.
    marks: Vec<(Offset, u64)>,
    checkpoint: Checkpointing,
}

/// What became of a step.
#[cfg(any(test, feature = "testing"))]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Worked,
    Waits,
    Ended,
}

enum Work {
    Group(Vec<Job>),
    /// A checkpoint is to be asked for.
    Checkpoint,
    Idle,
    Close,
}

impl Committer {
    /// Goes on where recovery ended.
    pub(crate) fn new(shared: Arc<Shared>, feed: SyncSender<Feed>, segment: Arc<Segment>, end: &WalkEnd) -> Self {
        let last = end.next_seq - 1;
        let mut committer = Self {
            shared,
            feed,
            segment,
            at: end.at,
            chain: end.chain,
            next_seq: end.next_seq,
            next_offset: end.next_offset,
            synced: last,
            dirty: false,
            seal_at: None,
            sync_at: None,
            buffer: Vec::new(),
            marks: Vec::new(),
            checkpoint: Checkpointing::default(),
        };
        if end.proven < last {
            committer.seal_at = Some(committer.due(SEAL_AFTER));
        }
        committer
    }

    /// Runs until the log is closed and everything queued is done.
    pub(crate) fn run(mut self) {
        loop {
            let work = self.wait();
            if !self.perform(work) {
                return;
            }
        }
    }

    /// The same, one piece of work at a time and without waiting.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn step(&mut self) -> Step {
        let shared = self.shared.clone();
        let work = self.look(&mut lock(&shared.queue));
        match work.map(|work| self.perform(work)) {
            Some(true) => Step::Worked,
            Some(false) => Step::Ended,
            None => Step::Waits,
        }
    }

    /// False when that was the end.
    fn perform(&mut self, work: Work) -> bool {
        let goes_on = !matches!(work, Work::Close);
        match work {
            Work::Group(jobs) => self.group(jobs),
            Work::Checkpoint => {
                let result = self.ask_for_checkpoint();
                self.check(&result);
            }
            Work::Idle => {
                let result = self.idle();
                self.check(&result);
            }
            Work::Close => {
                let result = self.finish();
                self.check(&result);
            }
        }
        goes_on
    }

    fn check(&self, result: &Result<(), LogError>) {
        if let Err(error) = result {
            self.shared.fail(error);
        }
    }

    fn now(&self) -> u64 {
        self.shared.options.clock.monotonic_ns()
    }

    /// The moment this long from now.
    fn due(&self, after: Duration) -> u64 {
        let after = if mutant("interval-not-kept") { after * 10 } else { after };
        self.now().saturating_add(u64::try_from(after.as_nanos()).unwrap_or(u64::MAX))
    }

    /// Waits for something to do.
    fn wait(&mut self) -> Work {
        let shared = self.shared.clone();
        let mut queue = lock(&shared.queue);
        loop {
            if let Some(work) = self.look(&mut queue) {
                return work;
            }
            queue.waiting = true;
            queue = match self.deadline().map(|at| at.saturating_sub(self.now())) {
                Some(ns) => {
                    let waited = shared.wake.wait_timeout(queue, Duration::from_nanos(ns));
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => shared.wake.wait(queue).unwrap_or_else(PoisonError::into_inner),
            };
            queue.waiting = false;
        }
    }

    /// What there is to do now. After a failure the only things left to do are to refuse and to close.
    fn look(&mut self, queue: &mut Queue) -> Option<Work> {
        if self.checkpoint.slices.is_none() {
            self.checkpoint.slices = queue.slices.take();
        }
        let failed = self.shared.failure().is_some();
        if queue.checkpoint && !self.checkpoint.asked && !failed {
            queue.checkpoint = false;
            return Some(Work::Checkpoint);
        }
        if !queue.jobs.is_empty() || (self.checkpoint.slices.is_some() && !failed) {
            let mut bytes = 0;
            let taken = queue.jobs.iter().take_while(|job| {
                let fits = bytes < GROUP_BYTES;
                bytes += job.bytes;
                fits
            });
            let taken = taken.count();
            return Some(Work::Group(queue.jobs.drain(..taken).collect()));
        }
        if queue.closed {
            return Some(Work::Close);
        }
        self.deadline().is_some_and(|at| at <= self.now()).then_some(Work::Idle)
    }

    /// When something is due although nothing is queued.
    fn deadline(&self) -> Option<u64> {
        let due = [self.seal_at, self.sync_at].into_iter().flatten().min();
        due.filter(|_| self.shared.failure().is_none())
    }

    /// Commits one group and tells those who wait for it.
    fn group(&mut self, jobs: Vec<Job>) {
        let result = match self.shared.failure() {
            Some(error) => Err(error.clone()),
            None => self.commit(&jobs),
        };
        self.check(&result);
        let mut written = Vec::new();
        for Job { mut txns, bytes, sync: _, done } in jobs {
            self.shared.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            if catch_unwind(AssertUnwindSafe(|| done(result.clone()))).is_err() {
                self.shared.fail(&LogError::Stopped { thread: "completing" });
            }
            written.append(&mut txns);
        }
        if result.is_ok() && !written.is_empty() && self.feed.send(Feed::Written(written)).is_err() {
            self.shared.fail(&LogError::Stopped { thread: "checkpoint" });
        }
    }

    fn commit(&mut self, jobs: &[Job]) -> Result<(), LogError> {
        let before = self.next_seq;
        for txn in jobs.iter().flat_map(|job| &job.txns) {
            self.append_txn(txn)?;
        }
        self.append_slices()?;
        self.write_out()?;
        match self.shared.options.durability {
            Durability::Sync if mutant("acknowledge-before-sync") => {}
            Durability::Sync => self.sync()?,
            Durability::Interval(_) if jobs.iter().any(|job| job.sync) => self.sync()?,
            // Under load there is no idle moment, so what is due is looked at here as well.
            Durability::Interval(every) => match self.sync_at {
                Some(at) if at <= self.now() => self.sync()?,
                Some(_) => {}
                None => self.sync_at = self.dirty.then(|| self.due(every)),
            },
            Durability::Memory => {}
        }
        if self.dirty {
            self.seal_at = None;
        } else if self.next_seq > before {
            self.seal_at = Some(self.due(SEAL_AFTER));
        }
        Ok(())
    }

    /// Does what is due while nothing is queued.
    fn idle(&mut self) -> Result<(), LogError> {
        let now = self.now();
        if self.sync_at.is_some_and(|at| at <= now) {
            self.sync()?;
            self.seal_at = Some(self.due(SEAL_AFTER));
        }
        if self.seal_at.is_some_and(|at| at <= now) && !self.dirty {
            self.seal()?;
        }
        Ok(())
    }

    /// Makes everything safe before the log is closed.
    fn finish(&mut self) -> Result<(), LogError> {
        if self.shared.failure().is_some() || self.shared.options.durability == Durability::Memory {
            return Ok(());
        }
        let unsealed = self.dirty || self.seal_at.is_some();
        self.sync()?;
        if unsealed { self.seal() } else { Ok(()) }
    }

    /// Writes a frame that says what is synced, and syncs that.
    fn seal(&mut self) -> Result<(), LogError> {
        self.seal_at = None;
        let start = self.begin_frame();
        self.buffer.push(kind::SEAL);
        self.end_frame(start, self.next_seq - 1);
        self.write_out()?;
        self.sync()
    }

    fn begin_frame(&mut self) -> usize {
        let start = self.buffer.len();
        self.buffer.resize(start + FRAME_BYTES, 0);
        start
    }

    fn end_frame(&mut self, start: usize, seq: u64) {
        self.chain = finish(&mut self.buffer[start..], self.segment.header.seal, self.chain, seq, self.synced);
    }

    fn append_txn(&mut self, txn: &Txn) -> Result<(), LogError> {
        let expected = Position { seq: self.next_seq, offset: self.next_offset };
        if txn.seq != expected.seq || (!txn.events.is_empty() && txn.first_offset != expected.offset) {
            let found = Position { seq: txn.seq, offset: txn.first_offset };
            return Err(LogError::OutOfOrder { expected, found });
        }
        let mut start = self.begin_frame();
        encode_txn(&mut self.buffer, txn);
        let bytes = self.buffer.len() - start;
        let acked = txn.settlement.as_ref().map_or(0, |s| s.acked.len().max(s.revived.len()).max(s.dropped.len()));
        if bytes - FRAME_BYTES > MAX_BODY || acked > SettleRecord::MAX_ACKED {
            return Err(LogError::TooLarge { seq: txn.seq, bytes: bytes + 8 * acked, max: MAX_BODY });
        }
        let fits = self.at + self.buffer.len() as u64 <= self.segment.header.capacity;
        if !fits && self.next_seq > self.segment.header.first_seq {
            let frame = self.buffer.split_off(start);
            self.write_out()?;
            self.rotate()?;
            self.buffer.extend_from_slice(&frame);
            start = 0;
        }
        self.end_frame(start, txn.seq);
        self.checkpoint.since += bytes as u64;
        if !txn.events.is_empty() {
            self.marks.push((txn.first_offset, self.at + start as u64));
            self.next_offset = txn.end_offset();
        }
        self.next_seq += 1;
        Ok(())
    }

    /// Appends the next slices of a checkpoint, if one is on its way.
    fn append_slices(&mut self) -> Result<(), LogError> {
        let Some(mut slices) = self.checkpoint.slices.take() else { return Ok(()) };
        for _ in 0..GROUP_SLICES {
            let Some(body) = slices.left.pop_front() else { break };
            if body.len() > MAX_BODY {
                return Err(LogError::TooLarge { seq: slices.covers, bytes: body.len(), max: MAX_BODY });
            }
            let start = self.begin_frame();
            self.buffer.extend_from_slice(&body);
            self.end_frame(start, self.next_seq - 1);
            self.checkpoint.bytes += body.len() as u64;
            self.checkpoint.epoch.get_or_insert(self.segment.header.seal.epoch);
        }
        if !slices.left.is_empty() {
            self.checkpoint.slices = Some(slices);
        } else if let Some(epoch) = self.checkpoint.epoch.take() {
            self.checkpoint.unsynced = Some(Mark { covers: slices.covers, epoch });
            self.checkpoint.asked = false;
            if self.checkpoint.missed && self.is_checkpoint_due() {
                self.ask_for_checkpoint()?;
            }
        }
        Ok(())
    }

    /// Not more is written for checkpoints than for transactions.
    fn is_checkpoint_due(&self) -> bool {
        let Checkpointing { bytes, since, .. } = self.checkpoint;
        since >= bytes.min(CHECKPOINT_SEGMENTS * self.shared.options.segment_bytes)
    }

    fn ask_for_checkpoint(&mut self) -> Result<(), LogError> {
        if self.feed.send(Feed::Checkpoint).is_err() {
            return Err(LogError::Stopped { thread: "checkpoint" });
        }
        self.checkpoint = Checkpointing { asked: true, unsynced: self.checkpoint.unsynced, ..Checkpointing::default() };
        Ok(())
    }

    /// Writes the buffer and lets readers see it.
    fn write_out(&mut self) -> Result<(), LogError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let segment = &self.segment;
        loop {
            match segment.file.write_all_at(&self.buffer, self.at).map_err(|e| segment.io("writing", e)) {
                // What was refused for want of room is not written, and can be written again in its place.
                Err(LogError::Full { .. }) if self.shared.spares.wait_for_room() => {}
                written => break written?,
            }
        }
        self.shared.spares.found_room();
        self.dirty = true;
        self.at += self.buffer.len() as u64;
        for (offset, at) in self.marks.drain(..) {
            segment.note(offset, at);
        }
        segment.publish(self.at, self.next_seq, self.next_offset);
        self.shared.written_offset.store(self.next_offset, Ordering::Release);
        self.shared.groups.fetch_add(1, Ordering::Relaxed);
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER_KEPT);
        if self.at >= self.segment.header.capacity / 2 {
            self.shared.spares.want(self.next_capacity());
        }
        if self.shared.options.durability == Durability::Memory {
            self.note_checkpoint();
        }
        Ok(())
    }

    /// Makes everything written safe.
    fn sync(&mut self) -> Result<(), LogError> {
        self.sync_at = None;
        if self.dirty {
            let synced = self.segment.file.sync_data().map_err(|e| self.segment.io("syncing", e));
            if !mutant("failed-sync-ignored") {
                synced?;
            }
            self.shared.syncs.fetch_add(1, Ordering::Relaxed);
            self.dirty = false;
        }
        self.synced = self.next_seq - 1;
        self.shared.note_synced(self.synced);
        self.shared.synced_offset.store(self.next_offset, Ordering::Release);
        self.note_checkpoint();
        Ok(())
    }

    /// Lets segments be released that a complete checkpoint makes needless.
    fn note_checkpoint(&mut self) {
        if let Some(mark) = self.checkpoint.unsynced.take() {
            *lock(&self.shared.checkpoint) = Some(mark);
        }
    }

    fn next_capacity(&self) -> u64 {
        self.segment.header.capacity.saturating_mul(4).min(self.shared.options.segment_bytes)
    }

    /// Goes on in the next segment.
    fn rotate(&mut self) -> Result<(), LogError> {
        if self.shared.options.durability != Durability::Memory {
            self.sync()?;
            self.segment.settled.store(true, Ordering::Release);
        }
        let spare = self.shared.spares.take(self.next_capacity())?;
        let position = Position { seq: self.next_seq, offset: self.next_offset };
        let epoch = self.segment.header.seal.epoch + 1;
        let shared = self.shared.clone();
        let segment = loop {
            let place = (epoch, shared.options.seed);
            match create_segment(&*shared.fs, &shared.dir, &spare, position, place, self.chain) {
                // Nothing is written yet but what is written again.
                Err(LogError::Full { action: "writing", .. }) if shared.spares.wait_for_room() => {}
                made => break made?,
            }
        };
        shared.spares.found_room();
        self.at = segment.end();
        self.segment = Arc::new(segment);
        shared.segments_mut().push(self.segment.clone());
        shared.upkeep.wake();
        if self.is_checkpoint_due() && !self.checkpoint.asked {
            return self.ask_for_checkpoint();
        }
        self.checkpoint.missed |= self.checkpoint.asked;
        Ok(())
    }
}
