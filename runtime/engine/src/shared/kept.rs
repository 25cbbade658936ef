//! A journal that a broker keeps, as the sequencer sees it.
//!
//! Role: the queue in front of the [`Writer`], figures that are asked for at any time, and reading for callers that are not
//! tasks. Bounds: what is queued is told by `queued_bytes`; at 64 MiB publishers wait, at 128 MiB handlers that publish.

use std::collections::VecDeque;
use std::ops::ControlFlow;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use busway_log::{Releases, SegmentInfo, Space, Txn};
use busway_types::{Event, EventId, Logged, Offset, Timestamp};
use tokio::runtime::Handle;
use tokio::sync::Notify;

use super::position::{Mark, Marks};
use super::reader::Reader;
use super::record::Record;
use super::{Broker, Trouble};
use crate::journal::{Done, Journal, Visit};
use crate::{EngineError, ReadRequest, ReadResult};

/// One call of `read` looks at about this many bytes of the journal at most.
const READ_MOST: usize = 16 * 1024 * 1024;
/// Bytes that are asked for at first, and then, when that was not enough, twice as many each time up to the most.
const FIRST_PIECE: usize = 64 * 1024;
const READ_PIECE: usize = 4 * 1024 * 1024;
/// How long closing waits for the broker to take what is left.
const CLOSE_FOR: Duration = Duration::from_secs(10);

/// One submission.
pub(super) struct Job {
    pub(super) txns: Vec<Txn>,
    pub(super) bytes: usize,
    pub(super) done: Option<Done>,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    /// The last transaction that ever was in it.
    submitted: u64,
    closed: bool,
    /// Why nothing is taken any more.
    ended: Option<EngineError>,
}

/// What the writer, the snapshots and the callers share.
pub(super) struct Shared {
    queue: Mutex<Queue>,
    work: Notify,
    queued_bytes: AtomicUsize,
    marks: Mutex<Marks>,
    releases: Mutex<Releases>,
    /// All up to this transaction is confirmed.
    safe_seq: AtomicU64,
    /// The last message that is confirmed.
    last: AtomicU64,
    /// The offset behind the last confirmed event.
    safe_offset: AtomicU64,
    /// The last message that a snapshot covers.
    covered: AtomicU64,
    /// Somebody wants a newer snapshot.
    pub(super) wanted: Notify,
    unwell: AtomicBool,
    given_up: AtomicBool,
    failure: OnceLock<EngineError>,
    /// Where the node is told that the journal failed though nobody waits for anything.
    pub(super) failed: Notify,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// Goes on behind the message `last`, the transaction `seq` and the event in front of `safe_offset`.
    pub(super) fn new(marks: Marks, last: u64, (seq, safe_offset): (u64, Offset), covered: u64) -> Self {
        Self {
            queue: Mutex::new(Queue { submitted: seq, ..Queue::default() }),
            work: Notify::new(),
            queued_bytes: AtomicUsize::new(0),
            marks: Mutex::new(marks),
            releases: Mutex::default(),
            safe_seq: AtomicU64::new(seq),
            last: AtomicU64::new(last),
            safe_offset: AtomicU64::new(safe_offset),
            covered: AtomicU64::new(covered),
            wanted: Notify::new(),
            unwell: AtomicBool::new(false),
            given_up: AtomicBool::new(false),
            failure: OnceLock::new(),
            failed: Notify::new(),
        }
    }

    /// Queues a job; gives it back with the reason when nothing is taken any more.
    fn push(&self, job: Job) -> Result<(), (Job, EngineError)> {
        let mut queue = lock(&self.queue);
        if let Some(error) = &queue.ended {
            return Err((job, error.clone()));
        }
        if queue.closed {
            return Err((job, EngineError::Closed));
        }
        self.queued_bytes.fetch_add(job.bytes, Ordering::Relaxed);
        queue.submitted = job.txns.last().map_or(queue.submitted, |txn| txn.seq);
        queue.jobs.push_back(job);
        drop(queue);
        self.work.notify_one();
        Ok(())
    }

    /// Takes jobs of about so many bytes, at least one if there is one.
    pub(super) fn take(&self, bytes: usize) -> Vec<Job> {
        let mut queue = lock(&self.queue);
        let (mut taken, mut count) = (0, 0);
        for job in &queue.jobs {
            if count > 0 && taken + job.bytes > bytes {
                break;
            }
            taken += job.bytes;
            count += 1;
        }
        queue.jobs.drain(..count).collect()
    }

    /// Waits until something is queued; false when nothing will be any more.
    pub(super) async fn wait_for_work(&self) -> bool {
        loop {
            let queued = self.work.notified();
            {
                let queue = lock(&self.queue);
                if !queue.jobs.is_empty() {
                    return true;
                }
                if queue.closed {
                    return false;
                }
            }
            queued.await;
        }
    }

    /// Waits until something is queued, if ever.
    pub(super) async fn more_work(&self) {
        loop {
            let queued = self.work.notified();
            if !lock(&self.queue).jobs.is_empty() {
                return;
            }
            queued.await;
        }
    }

    /// Nothing is taken from now on; gives what was queued.
    pub(super) fn end(&self, error: EngineError) -> VecDeque<Job> {
        let mut queue = lock(&self.queue);
        queue.closed = true;
        queue.ended.get_or_insert_with(|| error.clone());
        let left = std::mem::take(&mut queue.jobs);
        drop(queue);
        if !matches!(error, EngineError::Closed) {
            let _ = self.failure.set(error);
        }
        self.failed.notify_one();
        left
    }

    /// The bus is another node's: nothing more is taken, and nothing that waits is answered with success.
    pub(super) fn abandon(&self, epoch: u64) {
        let error = EngineError::Stale { partition: 0, epoch };
        for job in self.end(error.clone()) {
            if let Some(done) = job.done {
                done(Err(error.clone()));
            }
        }
        self.work.notify_one();
    }

    /// A record is in the journal for good.
    pub(super) fn landed(&self, mark: Mark, last: u64, (seq, end_offset): (u64, Offset), cost: usize) {
        lock(&self.marks).add(mark);
        self.last.store(last, Ordering::Release);
        self.safe_offset.store(end_offset, Ordering::Release);
        self.safe_seq.fetch_max(seq, Ordering::AcqRel);
        self.queued_bytes.fetch_sub(cost, Ordering::Relaxed);
    }

    /// The broker does not take records.
    pub(super) fn unwell(&self, trouble: &Trouble) {
        self.unwell.store(true, Ordering::Relaxed);
        let why = match trouble {
            Trouble::Later(why) => why,
            Trouble::Conflict => "a record was refused at its place",
            Trouble::Gone => "the journal is gone",
        };
        tracing::warn!(why, "the broker does not confirm records; they are kept and sent again");
    }

    /// Whether the broker does not take records.
    pub(super) fn is_unwell(&self) -> bool {
        self.unwell.load(Ordering::Relaxed)
    }

    /// It does again.
    pub(super) fn well(&self) {
        self.unwell.store(false, Ordering::Relaxed);
        tracing::info!("the broker confirms records again");
    }

    /// Whether nobody waits any longer for the broker to come back.
    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// The marks of what a snapshot up to a message covers.
    pub(super) fn marks_up_to(&self, at: u64) -> Vec<Mark> {
        lock(&self.marks).up_to(at)
    }

    /// A snapshot covers everything up to a message.
    pub(super) fn cover(&self, at: u64) {
        self.covered.store(at, Ordering::Release);
    }

    /// Why nothing can be written any more, if so.
    pub(super) fn failure(&self) -> Option<&EngineError> {
        self.failure.get()
    }
}

/// A journal on a broker.
pub(super) struct KeptJournal {
    shared: Arc<Shared>,
    reader: Reader,
    broker: Arc<dyn Broker>,
    runtime: Handle,
}

impl KeptJournal {
    pub(super) fn new(shared: Arc<Shared>, reader: Reader, broker: Arc<dyn Broker>, runtime: Handle) -> Self {
        Self { shared, reader, broker, runtime }
    }

    /// Waits, on a thread that is nobody's task, for what a task of the engine finds out.
    fn wait<T: Send + 'static>(
        &self,
        future: impl Future<Output = Result<T, EngineError>> + Send + 'static,
    ) -> Result<T, EngineError> {
        let (tell, told) = sync_channel(1);
        self.runtime.spawn(async move {
            // Nobody listens any more only when the caller's thread is gone.
            let _ = tell.send(future.await);
        });
        told.recv().unwrap_or(Err(EngineError::Closed))
    }

    /// A message at or in front of the record that has the event at `offset`, if one does.
    fn place(&self, offset: Offset) -> Result<Option<u64>, EngineError> {
        let Some((from, until)) = lock(&self.shared.marks).around(offset) else { return Ok(None) };
        let until = until.unwrap_or_else(|| self.last() + 1);
        let reader = self.reader.clone();
        self.wait(async move { reader.place(offset, from, until).await.map(Some) })
    }

    fn last(&self) -> u64 {
        self.shared.last.load(Ordering::Acquire)
    }

    /// Gives every record from a message on, in order, until there are no more or `each` has seen enough.
    fn walk(
        &self,
        from: u64,
        each: &mut dyn FnMut(&Record) -> Result<ControlFlow<()>, EngineError>,
    ) -> Result<ControlFlow<()>, EngineError> {
        let last = self.last();
        let (mut at, mut piece) = (from, FIRST_PIECE);
        while at <= last {
            let reader = self.reader.clone();
            let (records, next) = self.wait(async move { reader.records(at, last, piece).await })?;
            for (record, _) in &records {
                if each(record)?.is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            at = next;
            piece = (piece * 2).min(READ_PIECE);
        }
        Ok(ControlFlow::Continue(()))
    }

    fn txns(&self, record: &Record) -> Result<Vec<Txn>, EngineError> {
        record.txns().map_err(|why| self.reader.damaged(record.at, &why))
    }

    /// The events of a record.
    fn events(&self, record: &Record) -> Result<Vec<Logged>, EngineError> {
        let of = |txn: Txn| {
            let first = txn.first_offset;
            txn.events.into_iter().zip(first..).map(|(event, offset)| Logged { offset, event })
        };
        Ok(self.txns(record)?.into_iter().flat_map(of).collect())
    }

    /// The first event from `from` on that is wanted.
    fn first(&self, from: Offset, wanted: &dyn Fn(&Event) -> bool) -> Result<Option<Logged>, EngineError> {
        let Some(at) = self.place(from)? else { return Ok(None) };
        let mut found = None;
        let _ = self.walk(at, &mut |record| {
            found = self.events(record)?.into_iter().find(|logged| logged.offset >= from && wanted(&logged.event));
            Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found)
    }
}

impl Journal for KeptJournal {
    fn submit(&self, txns: Vec<Txn>, done: Done) {
        let bytes = txns.iter().map(Txn::cost).sum();
        if let Err((job, error)) = self.shared.push(Job { txns, bytes, done: Some(done) })
            && let Some(done) = job.done
        {
            done(Err(error));
        }
    }

    fn queued_bytes(&self) -> usize {
        self.shared.queued_bytes.load(Ordering::Relaxed)
    }

    fn bytes(&self) -> u64 {
        lock(&self.shared.marks).bytes()
    }

    fn space(&self) -> Space {
        if self.shared.is_unwell() { Space::Low } else { Space::Enough }
    }

    fn oldest(&self) -> Offset {
        let oldest = lock(&self.shared.marks).oldest();
        oldest.unwrap_or_else(|| self.safe_offset())
    }

    fn written_offset(&self) -> Offset {
        self.safe_offset()
    }

    fn safe_offset(&self) -> Offset {
        self.shared.safe_offset.load(Ordering::Acquire)
    }

    fn failure(&self) -> Option<EngineError> {
        self.shared.failure().cloned()
    }

    fn flush(&self) -> Result<(), EngineError> {
        let (tell, told) = sync_channel(1);
        self.submit(
            Vec::new(),
            Box::new(move |result| {
                let _ = tell.send(result);
            }),
        );
        told.recv().unwrap_or(Err(EngineError::Closed))
    }

    fn read(&self, request: &ReadRequest) -> Result<ReadResult, EngineError> {
        let head = self.safe_offset();
        let mut result = ReadResult { events: Vec::new(), next: request.from };
        let Some(at) = self.place(request.from)? else { return Ok(result) };
        let (mut bytes, mut looked_at) = (0, 0);
        let _ = self.walk(at, &mut |record| {
            looked_at += record.body.len();
            for logged in self.events(record)? {
                if logged.offset < result.next || logged.offset >= head {
                    continue;
                }
                let event = &logged.event;
                if request.patterns.is_empty() || request.patterns.iter().any(|p| p.matches(&event.topic)) {
                    let full = bytes > 0 && bytes + event.cost() > request.max_bytes;
                    if result.events.len() >= request.max_events || full {
                        return Ok(ControlFlow::Break(()));
                    }
                    bytes += event.cost();
                    result.next = logged.offset + 1;
                    result.events.push(logged);
                } else {
                    result.next = logged.offset + 1;
                }
            }
            Ok(if looked_at >= READ_MOST { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(result)
    }

    fn fetch(&self, offsets: &[Offset]) -> Result<Vec<Logged>, EngineError> {
        let mut wanted: Vec<Offset> = offsets.to_vec();
        wanted.sort_unstable();
        wanted.dedup();
        let mut found = Vec::with_capacity(wanted.len());
        let mut next = 0;
        while let Some(&offset) = wanted.get(next) {
            let Some(at) = self.place(offset)? else { break };
            let before = next;
            let _ = self.walk(at, &mut |record| {
                let events = self.events(record)?;
                let Some(reached) = events.last().map(|last| last.offset) else { return Ok(ControlFlow::Continue(())) };
                // Neighbours are often in the same record.
                while let Some(&offset) = wanted.get(next).filter(|offset| **offset <= reached) {
                    found.extend(events.iter().find(|logged| logged.offset == offset).cloned());
                    next += 1;
                }
                Ok(if next > before { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            })?;
            next = next.max(before + 1);
        }
        Ok(found)
    }

    fn find(&self, id: EventId) -> Result<Option<Logged>, EngineError> {
        self.first(self.oldest(), &|event| event.id == id)
    }

    fn caused(&self, causes: &[EventId], from: Offset) -> Result<Option<Logged>, EngineError> {
        self.first(from.max(self.oldest()), &|event| event.causality.cause.is_some_and(|cause| causes.contains(&cause)))
    }

    fn offset_at(&self, time: Timestamp) -> Result<Offset, EngineError> {
        let Some(at) = lock(&self.shared.marks).at_time(time) else { return Ok(self.safe_offset()) };
        let mut found = None;
        let _ = self.walk(at, &mut |record| {
            if record.head.latest < time {
                return Ok(ControlFlow::Continue(()));
            }
            found =
                self.events(record)?.into_iter().find(|logged| logged.event.time >= time).map(|logged| logged.offset);
            Ok(if found.is_some() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        })?;
        Ok(found.unwrap_or_else(|| self.safe_offset()))
    }

    fn settlements(&self, from: Offset, visit: &mut Visit<'_>) -> Result<ControlFlow<()>, EngineError> {
        let Some(at) = self.place(from)? else { return Ok(ControlFlow::Continue(())) };
        self.walk(at, &mut |record| {
            for txn in self.txns(record)? {
                if visit(txn.settlement).is_break() {
                    return Ok(ControlFlow::Break(()));
                }
            }
            Ok(ControlFlow::Continue(()))
        })
    }

    fn segments(&self) -> Vec<SegmentInfo> {
        lock(&self.shared.marks).segments(self.safe_offset())
    }

    fn release_before(&self, offset: Offset, short: bool) -> Result<(), EngineError> {
        let covered = self.shared.covered.load(Ordering::Acquire);
        let (submitted, safe) = (lock(&self.shared.queue).submitted, self.shared.safe_seq.load(Ordering::Acquire));
        let Some(offset) = lock(&self.shared.releases).ask(offset, submitted, safe) else { return Ok(()) };
        let at = {
            let mut marks = lock(&self.shared.marks);
            if short && marks.releasable(offset, u64::MAX) > marks.releasable(offset, covered) {
                self.shared.wanted.notify_one();
            }
            let Some(at) = marks.releasable(offset, covered) else { return Ok(()) };
            marks.release(at);
            at
        };
        let broker = Arc::clone(&self.broker);
        self.runtime.spawn(async move {
            // What could not be removed goes with the next part.
            if let Err(Trouble::Later(why)) = broker.trim(at).await {
                tracing::debug!(why, "the front of the journal was not removed");
            }
        });
        Ok(())
    }

    fn close(&self) -> Result<(), EngineError> {
        let (tell, told) = sync_channel(1);
        self.submit(
            Vec::new(),
            Box::new(move |result| {
                let _ = tell.send(result);
            }),
        );
        lock(&self.shared.queue).closed = true;
        self.shared.work.notify_one();
        let written = match told.recv_timeout(CLOSE_FOR) {
            Ok(written) => written,
            Err(RecvTimeoutError::Timeout) => {
                self.shared.given_up.store(true, Ordering::Release);
                Err(EngineError::Failed(format!("the broker did not take what was left within {CLOSE_FOR:?}")))
            }
            Err(RecvTimeoutError::Disconnected) => Err(EngineError::Closed),
        };
        self.reader.stop();
        match (written, self.shared.failure()) {
            (Ok(()) | Err(EngineError::Closed), None) => Ok(()),
            (_, Some(error)) => Err(error.clone()),
            (Err(error), None) => Err(error),
        }
    }
}
