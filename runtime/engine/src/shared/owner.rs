//! Owning a bus: the lease, and what it takes to begin.
//!
//! Role: whoever has the lease owns the bus. That is for peace only. What makes an owner is the claim: a record at the end of the
//! journal, which lands only if nothing was appended since it was read, and behind which an earlier owner's records do
//! not land.

use std::sync::Arc;

use busway_log::State;
use busway_types::{Clock, Limits};
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use super::kept::{KeptJournal, Shared};
use super::position::{MESSAGE_BYTES, Mark, Marks};
use super::reader::Reader;
use super::record::{Head, Kind, Record, messages};
use super::snapshot::{Copied, Found, follow, load};
use super::writer::{End, Writer};
use super::{Broker, Trouble};
use crate::EngineError;
use crate::embedded::Embedded;

/// Bytes of journal that are read at a time when a bus is opened.
const READ_PIECE: usize = 8 * 1024 * 1024;
/// Records that may wait for the copy of the state.
const FEED: usize = 1_024;

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
    covered: u64,
    since: u64,
}

/// Reads the bus, claims its journal and begins to write.
pub(super) async fn begin(
    broker: &Arc<dyn Broker>,
    node: &str,
    clock: Arc<dyn Clock>,
    limits: Limits,
) -> Result<Owned, EngineError> {
    let reader = Reader::new(Arc::clone(broker));
    let mut opened = open(&**broker, &reader).await?;
    let epoch = loop {
        match claim(&**broker, &opened, node).await? {
            Some(epoch) => break epoch,
            // Somebody still appends: what that was has to be known first.
            None => read_on(&reader, &mut opened).await?,
        }
    };
    let Opened { found, mut marks, covered, since, .. } = opened;
    marks.add(Mark { at: epoch, offset: found.state.next_offset, bytes: MESSAGE_BYTES, latest: found.latest });
    let shared = Arc::new(Shared::new(marks, epoch, (found.state.next_seq - 1, found.state.next_offset), covered));
    let (tell, written) = mpsc::channel(FEED);
    let end = End { at: epoch, epoch, latest: found.latest };
    let writer = Writer::new(Arc::clone(&shared), Arc::clone(broker), tell, end);
    let state = found.state.clone();
    // The engine's own runtime, with which they end.
    let runtime = Handle::current();
    runtime.spawn(follow(Copied { found, since }, Arc::clone(broker), written, Arc::clone(&shared)));
    runtime.spawn(writer.run());
    let journal = KeptJournal::new(Arc::clone(&shared), reader.clone(), Arc::clone(broker), runtime);
    let engine = Embedded::over(Some(Box::new(journal)), state, epoch, broker.shown(), clock, limits);
    Ok(Owned { engine, epoch, shared, reader })
}

async fn open(broker: &dyn Broker, reader: &Reader) -> Result<Opened, EngineError> {
    let found = load(broker).await?;
    let extent = reader.extent().await?;
    let covered = found.at;
    if extent.last < covered || extent.first > covered + 1 {
        let (first, last) = (extent.first, extent.last);
        let why = format!("the snapshot goes up to message {covered}, and the journal from {first} to {last}");
        return Err(reader.damaged(covered + 1, &why));
    }
    let mut marks = Marks::default();
    let end = Mark { at: covered, offset: found.state.next_offset, bytes: 0, latest: found.latest };
    for mark in reader.ahead(extent, end).await? {
        marks.add_apart(mark);
    }
    let mut opened = Opened { found, marks, last: covered, covered, since: 0 };
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
            take(&mut opened.found.state, &record).map_err(|why| reader.damaged(record.at, &why))?;
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
fn take(state: &mut State, record: &Record) -> Result<(), String> {
    if record.head.seq > state.next_seq {
        return Err(format!("transaction {} follows where {} was due", record.head.seq, state.next_seq));
    }
    for txn in record.txns().map_err(|why| why.to_string())? {
        state.apply(&txn);
    }
    Ok(())
}

/// Claims the journal behind what was read; none when somebody appended since.
async fn claim(broker: &dyn Broker, opened: &Opened, node: &str) -> Result<Option<u64>, EngineError> {
    let epoch = opened.last + 1;
    let State { next_seq: seq, next_offset: offset, .. } = opened.found.state;
    let head = Head { kind: Kind::Claim, part: 0, last: true, epoch, seq, offset, latest: opened.found.latest };
    let refused = |why: &dyn std::fmt::Display| EngineError::Overloaded(format!("the bus could not be claimed: {why}"));
    let messages = messages(head, node.as_bytes(), broker.most()).map_err(|why| refused(&why))?;
    let landed = match broker.append(epoch, messages.get(..1).unwrap_or_default()).await {
        Ok(landing) => landing.await,
        Err(trouble) => Err(trouble),
    };
    match landed {
        Ok(()) => Ok(Some(epoch)),
        Err(Trouble::Conflict) => Ok(None),
        Err(Trouble::Gone) => Err(refused(&"its journal was removed")),
        Err(Trouble::Later(why)) => Err(refused(&why)),
    }
}
