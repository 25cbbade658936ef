//! Snapshots of a bus on RabbitMQ: each in a stream queue of its own, with the marks and the index of the journal; one more stream
//! says which there are.
//!
//! Role: a snapshot is begun in the list, written, and then listed as complete: only then is it one, and only then do those
//! before it go. What a stopped owner had begun goes with them.

use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use busway_types::Timestamp;
use bytes::Bytes;
use lapin::Channel;
use lapin::options::{ConfirmSelectOptions, QueueDeleteOptions};
use serde::{Deserialize, Serialize};

use super::broker::ANOTHER;
use super::envelope::{Envelope, Kind};
use super::index::{Index, Written};
use super::link::{confirmed, make_stream, put, send, within};
use super::recent::Recent;
use super::session::{Bus, Session};
use crate::EngineError;
use crate::shared::{Kept, Mark, Trouble, later, unreachable, unusable};

const FORMAT: u32 = 1;
/// Bytes of a part of a snapshot.
const PART_BYTES: usize = 512 * 1024;
/// Parts that are on their way at a time.
const AT_ONCE: usize = 16;

/// A line of the list of snapshots.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Line {
    format: u32,
    /// The last message of the journal that is in it.
    at: u64,
    /// When it is complete: how it is read.
    complete: Option<Complete>,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Complete {
    latest: Timestamp,
    parts: u64,
    /// Bytes of the description, with which the first part begins.
    about: u64,
    /// Bytes of all parts.
    bytes: u64,
}

/// What a snapshot has beside the state.
#[derive(Debug, Default, Serialize, Deserialize)]
struct About {
    index: Vec<Written>,
    marks: Vec<WrittenMark>,
}

/// A mark as it is kept: message, offset, bytes, latest time.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct WrittenMark(u64, u64, u64, u64);

/// What is known of a bus's snapshots.
#[derive(Debug, Default)]
struct Known {
    /// Every one that may still be there.
    listed: BTreeSet<u64>,
    /// The marks of the newest one.
    marks: Vec<Mark>,
}

/// The snapshots of a bus.
#[derive(Debug, Default)]
pub(super) struct Snapshots {
    known: Mutex<Known>,
}

fn refused(why: &str) -> EngineError {
    unusable(why, ANOTHER)
}

impl Snapshots {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The marks that were kept with the newest snapshot.
    pub(super) fn marks(&self) -> Vec<Mark> {
        self.known().marks.clone()
    }

    /// Reads the newest snapshot, and where the journal goes on behind it; makes the journal when there is nothing yet.
    pub(super) async fn load(&self, session: &Session, bus: &Bus) -> Result<Option<Kept>, EngineError> {
        *bus.recent() = Recent::default();
        let lines = lines(session, bus).await.map_err(|trouble| unreachable(&trouble))?;
        *self.known() = Known { listed: lines.iter().map(|line| line.at).collect(), marks: Vec::new() };
        let complete = |line: &Line| line.complete.map(|complete| (line.at, complete));
        let newest: std::collections::BTreeMap<u64, Complete> = lines.iter().filter_map(complete).collect();
        for (at, complete) in newest.iter().rev() {
            let found = read(session, bus, *at, *complete).await.map_err(|trouble| unreachable(&trouble))?;
            let Some(bytes) = found else { continue };
            let about = usize::try_from(complete.about).unwrap_or(usize::MAX).min(bytes.len());
            let state = bytes.slice(about..);
            let about: About = serde_json::from_slice(&bytes[..about]).map_err(|error| refused(&error.to_string()))?;
            let index = Index::read(&about.index).ok_or_else(|| refused("it does not say where the journal is"))?;
            *bus.index() = index;
            let mark = |WrittenMark(at, offset, bytes, latest): &WrittenMark| Mark {
                at: *at,
                offset: *offset,
                bytes: *bytes,
                latest: Timestamp(*latest),
            };
            self.known().marks = about.marks.iter().map(mark).collect();
            return Ok(Some(Kept { at: *at, latest: complete.latest, state }));
        }
        if !newest.is_empty() {
            return Err(refused("it is listed, but its queue is not there"));
        }
        session.make_journal().await.map_err(|trouble| match trouble {
            Trouble::Conflict => refused("there is none, and another program made the queue of the journal"),
            trouble => unreachable(&trouble),
        })?;
        *bus.index() = Index::default();
        Ok(None)
    }

    /// Keeps a snapshot in place of those before.
    pub(super) async fn keep(&self, session: &Session, bus: &Bus, kept: &Kept, marks: &[Mark]) -> Result<(), Trouble> {
        let channel = session.another_channel().await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let mut line = Line { format: FORMAT, at: kept.at, complete: None };
        list(&channel, bus, &line).await?;
        self.known().listed.insert(kept.at);
        let about = About {
            index: bus.index().write(kept.at),
            marks: marks.iter().map(|mark| WrittenMark(mark.at, mark.offset, mark.bytes, mark.latest.0)).collect(),
        };
        let about = serde_json::to_vec(&about).map_err(|error| later(&error))?;
        let (length, bytes) = (about.len() as u64, (about.len() + kept.state.len()) as u64);
        let content = [about.as_slice(), &kept.state].concat();
        let queue = bus.names.snapshot(kept.at);
        // An earlier try may have left a part of it.
        within(channel.queue_delete(queue.as_str().into(), QueueDeleteOptions::default())).await?;
        make_stream(&channel, &queue, bus.replicas).await?;
        for parts in content.chunks(PART_BYTES * AT_ONCE) {
            let mut confirms = Vec::with_capacity(AT_ONCE);
            for part in parts.chunks(PART_BYTES) {
                confirms.push(within(send(&channel, &queue, part)).await?);
            }
            for confirm in confirms {
                confirmed(within(confirm).await?)?;
            }
        }
        let parts = content.len().div_ceil(PART_BYTES) as u64;
        line.complete = Some(Complete { latest: kept.latest, parts, about: length, bytes });
        list(&channel, bus, &line).await?;
        let before: Vec<u64> = self.known().listed.range(..kept.at).copied().collect();
        for at in before {
            within(channel.queue_delete(bus.names.snapshot(at).into(), QueueDeleteOptions::default())).await?;
            self.known().listed.remove(&at);
        }
        Ok(())
    }
}

async fn list(channel: &Channel, bus: &Bus, line: &Line) -> Result<(), Trouble> {
    let line = serde_json::to_vec(line).map_err(|error| later(&error))?;
    put(channel, &bus.names.snapshots(), &line).await
}

/// All lines of the list.
async fn lines(session: &Session, bus: &Bus) -> Result<Vec<Line>, Trouble> {
    let (channel, list) = (session.another_channel().await?, bus.names.snapshots());
    within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
    let pen = getrandom::u64().map_err(|error| later(&error))?;
    let probe = Envelope { kind: Kind::Probe, number: 0, pen };
    put(&channel, &list, &probe.put(b"")).await?;
    let mut stream = session.stream(&list, 0).await?;
    let mut lines = Vec::new();
    loop {
        let (_, message) = stream.soon().await?;
        match Envelope::take(&message) {
            Some(envelope) if envelope.pen == pen => return Ok(lines),
            Some(_) => {}
            None => lines.extend(serde_json::from_slice::<Line>(&message).ok().filter(|line| line.format == FORMAT)),
        }
    }
}

/// The bytes of a snapshot; none when it is not there any more.
async fn read(session: &Session, bus: &Bus, at: u64, complete: Complete) -> Result<Option<Bytes>, Trouble> {
    let mut stream = match session.stream(&bus.names.snapshot(at), 0).await {
        Ok(stream) => stream,
        Err(Trouble::Gone) => return Ok(None),
        Err(trouble) => return Err(trouble),
    };
    let mut bytes = Vec::new();
    for _ in 0..complete.parts {
        bytes.extend_from_slice(&stream.soon().await?.1);
    }
    Ok((bytes.len() as u64 == complete.bytes).then(|| bytes.into()))
}
