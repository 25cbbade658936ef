//! Appending to a journal.
//!
//! Role: one task that makes records of what is queued, sends them, and tells who waits once the server has confirmed them.
//! Each message says after which one it has to come, so several are on their way at a time and none can land behind a
//! gap, twice, or behind the claim of a newer owner.
//!
//! When something goes wrong (an answer is missing, the connection is lost, the server has no room) the end of the journal is
//! read: what landed is confirmed, the very same bytes of the rest are sent again. A message of an earlier try that
//! arrives late is then either the one that was meant for its place, or refused.
//!
//! Invariant: `done` is called in the order of the submissions, with success only for records that are whole in the journal.

use std::collections::VecDeque;
use std::sync::Arc;

use busway_log::Txn;
use busway_types::{Offset, Timestamp};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::kept::{Job, Shared};
use super::position::{MESSAGE_BYTES, Mark};
use super::reader::gone;
use super::record::{Head, Kind, body_of, messages};
use super::{Broker, Landing, Trouble, pause};
use crate::EngineError;
use crate::journal::Done;

/// About how many bytes of transactions one record has, unless a single one is larger.
const RECORD_BYTES: usize = 256 * 1024;
/// What may be on its way.
const MOST_RECORDS: usize = 256;
const MOST_BYTES: usize = 8 * 1024 * 1024;

/// Transactions that are in the journal for good.
pub(super) struct Written {
    pub(super) txns: Vec<Txn>,
    /// The last message of their record.
    pub(super) at: u64,
    pub(super) bytes: u64,
}

/// A record on its way.
struct Sent {
    /// Its messages; the first one's place is `at`.
    messages: Vec<Bytes>,
    at: u64,
    offset: Offset,
    end_offset: Offset,
    latest: Timestamp,
    cost: usize,
    txns: Vec<Txn>,
    done: Vec<Done>,
    landing: Option<Landing>,
}

impl Sent {
    fn last(&self) -> u64 {
        self.at + self.messages.len() as u64 - 1
    }

    fn bytes(&self) -> u64 {
        self.messages.iter().map(|message| message.len() as u64 + MESSAGE_BYTES).sum()
    }
}

/// Where a journal ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct End {
    /// The last message.
    pub(super) at: u64,
    pub(super) epoch: u64,
    pub(super) latest: Timestamp,
}

/// Why the writer ended.
enum Ended {
    Closed,
    Failed(EngineError),
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    broker: Arc<dyn Broker>,
    written: mpsc::Sender<Written>,
    epoch: u64,
    /// The message after the last one that was sent.
    next: u64,
    /// The last message that was confirmed.
    confirmed: u64,
    latest: Timestamp,
    sent: VecDeque<Sent>,
    sent_bytes: usize,
    /// Tries in a row without success.
    tries: usize,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>, broker: Arc<dyn Broker>, written: mpsc::Sender<Written>, end: End) -> Self {
        let End { at, epoch, latest } = end;
        let sent = VecDeque::new();
        Self { shared, broker, written, epoch, next: at + 1, confirmed: at, latest, sent, sent_bytes: 0, tries: 0 }
    }

    /// Runs until everything is written after the journal was closed, or until nothing can be written any more.
    pub(super) async fn run(mut self) {
        let error = match self.work().await {
            Ended::Closed => EngineError::Closed,
            Ended::Failed(error) => error,
        };
        let unwritten = self.sent.drain(..).flat_map(|sent| sent.done);
        let queued = self.shared.end(error.clone()).into_iter().filter_map(|job| job.done);
        for done in unwritten.chain(queued).collect::<Vec<_>>() {
            done(Err(error.clone()));
        }
    }

    async fn work(&mut self) -> Ended {
        loop {
            let filled = match self.fill().await {
                Ok(()) => self.confirm().await,
                Err(trouble) => Err(trouble),
            };
            let ended = match filled {
                Ok(true) => continue,
                Ok(false) => return Ended::Closed,
                Err(Trouble::Gone) => Err(EngineError::Failed(gone())),
                Err(trouble) => self.mend(&trouble).await,
            };
            if let Err(error) = ended {
                return Ended::Failed(error);
            }
        }
    }

    /// Sends what is queued, as far as more may be on its way.
    async fn fill(&mut self) -> Result<(), Trouble> {
        while self.sent.len() < MOST_RECORDS && self.sent_bytes < MOST_BYTES {
            let jobs = self.shared.take(RECORD_BYTES);
            if jobs.is_empty() {
                return Ok(());
            }
            let record = self.record(jobs);
            if record.messages.is_empty() {
                // Nothing to write: whoever asked waits for what is in front.
                match self.sent.back_mut() {
                    Some(before) => before.done.extend(record.done),
                    None => record.done.into_iter().for_each(|done| done(Ok(()))),
                }
                continue;
            }
            self.next = record.last() + 1;
            self.sent_bytes += record.cost;
            self.sent.push_back(record);
            let at = self.sent.len() - 1;
            self.send(at, 0).await?;
        }
        Ok(())
    }

    fn record(&mut self, jobs: Vec<Job>) -> Sent {
        let (mut txns, mut done, mut cost) = (Vec::new(), Vec::new(), 0);
        for job in jobs {
            cost += job.bytes;
            txns.extend(job.txns);
            done.extend(job.done);
        }
        let times = txns.iter().flat_map(|txn: &Txn| &txn.events).map(|event| event.time);
        self.latest = times.fold(self.latest, Timestamp::max);
        let (offset, end_offset) = txns
            .first()
            .map_or((0, 0), |first| (first.first_offset, txns.last().map_or(first.end_offset(), Txn::end_offset)));
        let head = txns.first().map(|first| Head {
            kind: Kind::Txns,
            part: 0,
            last: true,
            epoch: self.epoch,
            seq: first.seq,
            offset,
            latest: self.latest,
        });
        let messages = head.map(|head| messages(head, &body_of(&txns), self.broker.most()));
        // More parts than a record may have is 60 GB: limits keep a transaction far below.
        let messages = messages.and_then(Result::ok).unwrap_or_default();
        Sent { messages, at: self.next, offset, end_offset, latest: self.latest, cost, txns, done, landing: None }
    }

    /// Sends a record that is kept in `sent`, without its first `skip` messages.
    async fn send(&mut self, index: usize, skip: usize) -> Result<(), Trouble> {
        let Some(record) = self.sent.get_mut(index) else { return Ok(()) };
        record.landing = None;
        let landing =
            self.broker.append(record.at + skip as u64, record.messages.get(skip..).unwrap_or_default()).await?;
        record.landing = Some(landing);
        Ok(())
    }

    /// Waits for the next answer or for something to send. False when all is written and nothing will follow.
    async fn confirm(&mut self) -> Result<bool, Trouble> {
        let may_send = self.sent.len() < MOST_RECORDS && self.sent_bytes < MOST_BYTES;
        let Some(front) = self.sent.front_mut() else {
            return Ok(self.shared.wait_for_work().await);
        };
        let Some(landing) = &mut front.landing else {
            return Err(Trouble::Later("a record was not sent".to_owned()));
        };
        tokio::select! {
            landed = landing => landed?,
            () = self.shared.more_work(), if may_send => return Ok(true),
        };
        self.settle_front().await;
        Ok(true)
    }

    /// The oldest record on its way is in the journal.
    async fn settle_front(&mut self) {
        let Some(sent) = self.sent.pop_front() else { return };
        if std::mem::take(&mut self.tries) > 0 {
            self.shared.well();
        }
        self.sent_bytes -= sent.cost;
        self.confirmed = sent.last();
        let bytes = sent.bytes();
        let mark = Mark { at: sent.at, offset: sent.offset, bytes, latest: sent.latest };
        let seq = sent.txns.last().map_or(0, |txn| txn.seq);
        self.shared.landed(mark, sent.last(), (seq, sent.end_offset), sent.cost);
        for done in sent.done {
            done(Ok(()));
        }
        let at = self.confirmed;
        // Nobody listens only when the engine is being closed.
        drop(self.written.send(Written { at, bytes, txns: sent.txns }).await);
    }

    /// Something went wrong: finds out what landed, and sends the rest again.
    async fn mend(&mut self, trouble: &Trouble) -> Result<(), EngineError> {
        if self.tries == 0 {
            self.shared.unwell(trouble);
        }
        loop {
            if self.tries > 0 {
                tokio::time::sleep(pause(self.tries - 1)).await;
            }
            self.tries = self.tries.saturating_add(1);
            if self.shared.is_given_up() {
                return Err(EngineError::Failed(
                    "the broker did not take everything before the end; what was not confirmed may be lost".to_owned(),
                ));
            }
            if let Some(error) = self.shared.failure() {
                return Err(error.clone());
            }
            match self.try_to_mend().await {
                Ok(()) => return Ok(()),
                Err(Mend::Again) => {}
                Err(Mend::Never(error)) => return Err(error),
            }
        }
    }

    async fn try_to_mend(&mut self) -> Result<(), Mend> {
        let end = self.broker.extent().await.map_err(again)?.last;
        if end < self.confirmed {
            return Err(Mend::Never(EngineError::Failed(format!(
                "the journal ends at message {end}, but {} had been confirmed: the broker has lost records. The node stops; \
                 with several replicas (?replicas=3) a failure of one server loses nothing",
                self.confirmed
            ))));
        }
        let mut landed = self.confirmed;
        while landed < end {
            let piece = self.broker.read(landed + 1, end, MOST_BYTES).await.map_err(again)?;
            let ours = |(at, message): &&(u64, Bytes)| {
                *at < self.next && Head::take(message).is_ok_and(|(head, _)| head.epoch == self.epoch)
            };
            let read = piece.messages.len();
            let own = piece.messages.iter().take_while(ours).last().map_or(landed, |(at, _)| *at);
            let all = piece.messages.last().is_some_and(|(at, _)| *at == own);
            landed = own;
            if read == 0 || !all {
                break;
            }
        }
        while self.sent.front().is_some_and(|sent| sent.last() <= landed) {
            self.settle_front().await;
        }
        if landed < end {
            return Err(Mend::Never(EngineError::Stale { partition: 0, epoch: self.epoch }));
        }
        for index in 0..self.sent.len() {
            let at = self.sent.get(index).map_or(0, |sent| sent.at);
            let skip = (landed + 1).saturating_sub(at) as usize;
            self.send(index, skip).await.map_err(again)?;
        }
        Ok(())
    }
}

enum Mend {
    Again,
    Never(EngineError),
}

fn again(trouble: Trouble) -> Mend {
    match trouble {
        Trouble::Gone => Mend::Never(EngineError::Failed(gone())),
        Trouble::Conflict | Trouble::Later(_) => Mend::Again,
    }
}
