//! Owning a bus: the lease, and what it takes to begin.
//!
//! Role: the lease is a message that the server forgets when it is not renewed; whoever puts it where there is none owns the
//! bus. That is for peace only. What makes an owner is the claim: a record at the end of the journal, which the server takes
//! only if nothing was appended since it was read, and behind which an earlier owner's records are refused.

use std::sync::Arc;
use std::time::Duration;

use busway_log::State;
use busway_types::{Clock, Limits};
use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::journal::{NatsJournal, Shared};
use super::position::{MESSAGE_BYTES, Mark, Marks};
use super::reader::{Reader, damaged};
use super::record::{Head, Kind, Record, messages};
use super::remote::{Remote, Streams, Trouble, confirmed};
use super::snapshot::{Copied, Found, Snapshots, follow};
use super::url::NatsUrl;
use super::writer::{End, Writer};
use crate::EngineError;
use crate::embedded::Embedded;

/// How long the lease holds without being renewed.
const LEASE_FOR: Duration = Duration::from_secs(6);
/// How often it is renewed.
pub(super) const RENEW_EVERY: Duration = Duration::from_secs(2);
/// Bytes of journal that are read at a time when a bus is opened.
const READ_PIECE: usize = 8 * 1024 * 1024;
/// Places that are looked at in what lies in front of a snapshot.
const SAMPLES: u64 = 64;
/// Records that may wait for the copy of the state.
const FEED: usize = 1_024;

/// The lease of a bus, held.
#[derive(Debug)]
pub(super) struct Lease {
    remote: Remote,
    node: String,
    sequence: u64,
}

impl Lease {
    /// Takes the lease if nobody has it; else says who does.
    pub(super) async fn take(remote: &Remote, node: &str) -> Result<Result<Self, String>, Trouble> {
        let name = Bytes::from(node.to_owned());
        match remote.put("owner", name, Some(0), Some(LEASE_FOR)).await {
            Ok(sequence) => Ok(Ok(Self { remote: remote.clone(), node: node.to_owned(), sequence })),
            Err(Trouble::Conflict) => {
                let owner = remote.newest("owner").await?;
                Ok(Err(owner.map_or_else(String::new, |(_, name)| String::from_utf8_lossy(&name).into_owned())))
            }
            Err(trouble) => Err(trouble),
        }
    }

    /// Renews it; a conflict when it was lost.
    pub(super) async fn renew(&mut self) -> Result<(), Trouble> {
        let name = Bytes::from(self.node.clone());
        match self.remote.put("owner", name.clone(), Some(self.sequence), Some(LEASE_FOR)).await {
            Ok(sequence) => self.sequence = sequence,
            Err(Trouble::Conflict) => {
                // The answer to an earlier try may have been lost; or the server forgot it while nobody could be reached.
                match self.remote.newest("owner").await? {
                    Some((sequence, owner)) if owner == name => self.sequence = sequence,
                    Some(_) => return Err(Trouble::Conflict),
                    None => self.sequence = self.remote.put("owner", name, Some(0), Some(LEASE_FOR)).await?,
                }
            }
            Err(trouble) => return Err(trouble),
        }
        Ok(())
    }

    /// Gives it back, so that nobody has to wait for its end.
    pub(super) async fn give_back(self) -> Result<(), Trouble> {
        self.remote.remove(self.sequence).await
    }
}

/// A bus that is owned: the sequencer over its journal.
pub(super) struct Owned {
    pub(super) engine: Embedded,
    pub(super) epoch: u64,
    pub(super) shared: Arc<Shared>,
    pub(super) reader: Reader,
}

/// What was read of a bus.
struct Opened {
    found: Found,
    marks: Marks,
    /// The last message that was read.
    last: u64,
    snapshots: Snapshots,
    covered: u64,
    since: u64,
}

/// Reads the bus, claims its journal and begins to write.
pub(super) async fn begin(
    streams: &Streams,
    url: &NatsUrl,
    node: &str,
    clock: Arc<dyn Clock>,
    limits: Limits,
) -> Result<Owned, EngineError> {
    let reader = Reader::new(streams.journal.clone());
    let mut opened = open(streams, &reader).await?;
    let epoch = loop {
        match claim(streams, &opened, node).await? {
            Some(epoch) => break epoch,
            // Somebody still appends: what that was has to be known first.
            None => read_on(&reader, &mut opened).await?,
        }
    };
    let Opened { found, mut marks, snapshots, covered, since, .. } = opened;
    marks.add(Mark { at: epoch, offset: found.state.next_offset, bytes: MESSAGE_BYTES, latest: found.latest });
    let shared = Arc::new(Shared::new(marks, epoch, (found.state.next_seq - 1, found.state.next_offset), covered));
    let (tell, written) = mpsc::channel(FEED);
    let end = End { at: epoch, epoch, latest: found.latest };
    let writer = Writer::new(Arc::clone(&shared), streams.journal.clone(), tell, end);
    let state = found.state.clone();
    // The engine's own runtime, with which they end.
    let runtime = Handle::current();
    runtime.spawn(follow(Copied { found, since }, snapshots, written, Arc::clone(&shared)));
    runtime.spawn(writer.run());
    let journal = NatsJournal::new(Arc::clone(&shared), reader.clone(), streams.journal.clone(), runtime);
    let engine = Embedded::over(Some(Box::new(journal)), state, epoch, url.to_string(), clock, limits);
    Ok(Owned { engine, epoch, shared, reader })
}

async fn open(streams: &Streams, reader: &Reader) -> Result<Opened, EngineError> {
    let (snapshots, found) = Snapshots::load(streams.state.clone()).await?;
    let extent = reader.extent().await?;
    let covered = found.at;
    if extent.last < covered || extent.first > covered + 1 {
        return Err(damaged(
            covered + 1,
            &format!(
                "the snapshot goes up to message {covered}, and the journal from {} to {}",
                extent.first, extent.last
            ),
        ));
    }
    let mut marks = Marks::default();
    let ahead = match covered {
        0 => Vec::new(),
        _ => reader.samples(extent.first, covered + 1, SAMPLES).await?,
    };
    let messages = extent.last.saturating_sub(extent.first) + 1;
    for (i, (at, head)) in ahead.iter().enumerate() {
        let next = ahead.get(i + 1);
        let bytes = extent.bytes / messages.max(1) * (next.map_or(covered + 1, |(at, _)| *at) - at);
        let latest = next.map_or(found.latest, |(_, head)| head.latest);
        marks.add_apart(Mark { at: *at, offset: head.offset, bytes, latest });
    }
    let mut opened = Opened { found, marks, last: covered, snapshots, covered, since: 0 };
    read_on(reader, &mut opened).await?;
    Ok(opened)
}

/// Takes in what the journal has beyond what was read.
async fn read_on(reader: &Reader, opened: &mut Opened) -> Result<(), EngineError> {
    let last = reader.extent().await?.last;
    let mut from = opened.last + 1;
    while from <= last {
        let (records, next) = reader.records(from, last, READ_PIECE).await?;
        for (record, bytes) in records {
            let bytes = bytes as u64 + MESSAGE_BYTES;
            take(&mut opened.found.state, &record)?;
            opened.found.latest = opened.found.latest.max(record.head.latest);
            opened.found.at = record.at;
            opened.since += bytes;
            let mark = Mark { at: record.at, offset: record.head.offset, bytes, latest: opened.found.latest };
            opened.marks.add(mark);
        }
        from = next;
    }
    opened.last = last;
    Ok(())
}

/// Applies a record, which has to follow what was applied before.
fn take(state: &mut State, record: &Record) -> Result<(), EngineError> {
    if record.head.seq > state.next_seq {
        let why = format!("transaction {} follows where {} was due", record.head.seq, state.next_seq);
        return Err(damaged(record.at, &why));
    }
    for txn in record.txns().map_err(|why| damaged(record.at, &why))? {
        state.apply(&txn);
    }
    Ok(())
}

/// Claims the journal behind what was read; none when somebody appended since.
async fn claim(streams: &Streams, opened: &Opened, node: &str) -> Result<Option<u64>, EngineError> {
    let epoch = opened.last + 1;
    let State { next_seq: seq, next_offset: offset, .. } = opened.found.state;
    let head = Head { kind: Kind::Claim, part: 0, last: true, epoch, seq, offset, latest: opened.found.latest };
    let refused = |why: &dyn std::fmt::Display| EngineError::Overloaded(format!("the bus could not be claimed: {why}"));
    let messages = messages(head, node.as_bytes(), streams.journal.most()).map_err(|why| refused(&why))?;
    let message = messages.into_iter().next().ok_or_else(|| refused(&"it has no message"))?;
    let sent = match streams.journal.append(opened.last, message).await {
        Ok(answer) => confirmed(answer).await,
        Err(trouble) => Err(trouble),
    };
    match sent {
        Ok(sequence) => Ok(Some(sequence)),
        Err(Trouble::Conflict) => Ok(None),
        Err(Trouble::Gone) => Err(refused(&"its stream was removed")),
        Err(Trouble::Later(why)) => Err(refused(&why)),
    }
}
