//! What nodes that share a bus say to one another, as bytes.
//!
//! Role: the format, and nothing else. A message is a version, a kind, and what the kind says; numbers are little-endian.
//! Reading never panics, whatever the bytes, and what is unknown is refused: another version of busway may have sent it.

use std::net::SocketAddr;
use std::sync::Arc;

use busway_engine::Epoch;
use busway_log::passing::{put_chunk, put_reports, take_chunk, take_reports};
use busway_types::{Chunk, Report, ServiceName};
use bytes::{Buf as _, BufMut as _, Bytes};
use serde::{Deserialize, Serialize};

/// The first byte of every message.
const VERSION: u8 = 1;
const HELLO: u8 = 1;
const BEAT: u8 = 2;
const ASK: u8 = 3;
const ANSWER: u8 = 4;
const CHUNK: u8 = 5;
const REPORTS: u8 = 6;
const GAVE_BACK: u8 = 7;

/// A message is none, or one of another version of busway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message of another node cannot be read; do all nodes run the same version of busway?")]
pub(crate) struct Unreadable;

/// What a node that waits says of itself, again and again, to whoever owns the bus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hello {
    /// A number that the node drew when it began to wait, and has no other time.
    pub(crate) session: u64,
    /// The epoch of the owner that it listens to; 0 when it knows none.
    pub(crate) epoch: Epoch,
    /// The number of the newest message with a chunk that it got of this owner.
    pub(crate) seen: u64,
    /// The chunks of this owner that it has.
    pub(crate) holds: Vec<u64>,
    /// Whether its services are ready.
    pub(crate) ready: bool,
    /// What it can do.
    pub(crate) offers: Vec<Offer>,
    /// The generation of its deployment.
    pub(crate) generation: u32,
    /// Its process.
    pub(crate) about: About,
}

/// A process, for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct About {
    pub(crate) version: String,
    pub(crate) pid: u32,
    pub(crate) admin: SocketAddr,
}

/// A subscription whose events a node can handle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Offer {
    pub(crate) subscription: String,
    pub(crate) service: ServiceName,
    /// The beginning of the hash of its component.
    pub(crate) version: String,
    /// How many deliveries of the service it runs at a time.
    pub(crate) concurrency: usize,
}

/// What the owner answers to that.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Beat {
    /// The epoch under which it owns the bus.
    pub(crate) epoch: Epoch,
    /// The session that it answers.
    pub(crate) session: u64,
}

/// What became of a question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    /// It was answered.
    Given(Bytes),
    /// Nothing was done, and why.
    Refused(Arc<str>),
    /// It was done, and why there is no answer.
    Kept(Arc<str>),
}

/// What one node says to another.
#[derive(Clone, Debug)]
pub(crate) enum Message {
    Hello(Box<Hello>),
    Beat(Beat),
    /// Has the owner, if it is the one of this epoch, do something and answer.
    Ask {
        epoch: Epoch,
        id: u64,
        asked: Bytes,
    },
    Answer {
        id: u64,
        answer: Answer,
    },
    /// The owner has a chunk run. Numbers grow.
    Chunk {
        epoch: Epoch,
        number: u64,
        subscription: Arc<str>,
        chunk: Chunk,
    },
    /// What became of chunks of the owner of this epoch.
    Reports {
        epoch: Epoch,
        reports: Vec<Report>,
    },
    /// Chunks of the owner of this epoch that could not be run to their end.
    GaveBack {
        epoch: Epoch,
        chunks: Vec<u64>,
    },
}

impl Message {
    pub(crate) fn write(&self) -> Result<Bytes, serde_json::Error> {
        let mut out = vec![VERSION];
        match self {
            Self::Hello(hello) => {
                out.push(HELLO);
                serde_json::to_writer(&mut out, hello)?;
            }
            Self::Beat(beat) => {
                out.push(BEAT);
                serde_json::to_writer(&mut out, beat)?;
            }
            Self::Ask { epoch, id, asked } => {
                out.push(ASK);
                out.put_u64_le(*epoch);
                out.put_u64_le(*id);
                out.put_slice(asked);
            }
            Self::Answer { id, answer } => {
                out.push(ANSWER);
                out.put_u64_le(*id);
                let (what, content) = match answer {
                    Answer::Given(content) => (0, &content[..]),
                    Answer::Refused(why) => (1, why.as_bytes()),
                    Answer::Kept(why) => (2, why.as_bytes()),
                };
                out.push(what);
                out.put_slice(content);
            }
            Self::Chunk { epoch, number, subscription, chunk } => {
                out.push(CHUNK);
                out.put_u64_le(*epoch);
                out.put_u64_le(*number);
                out.put_u16_le(u16::try_from(subscription.len()).unwrap_or(0));
                out.put_slice(subscription.as_bytes());
                put_chunk(&mut out, chunk);
            }
            Self::Reports { epoch, reports } => {
                out.push(REPORTS);
                out.put_u64_le(*epoch);
                put_reports(&mut out, reports);
            }
            Self::GaveBack { epoch, chunks } => {
                out.push(GAVE_BACK);
                out.put_u64_le(*epoch);
                for chunk in chunks {
                    out.put_u64_le(*chunk);
                }
            }
        }
        Ok(out.into())
    }

    pub(crate) fn read(mut bytes: Bytes) -> Result<Self, Unreadable> {
        if bytes.try_get_u8().map_err(|_| Unreadable)? != VERSION {
            return Err(Unreadable);
        }
        match bytes.try_get_u8().map_err(|_| Unreadable)? {
            HELLO => serde_json::from_slice(&bytes).map(Self::Hello).map_err(|_| Unreadable),
            BEAT => serde_json::from_slice(&bytes).map(Self::Beat).map_err(|_| Unreadable),
            ASK => Ok(Self::Ask { epoch: number(&mut bytes)?, id: number(&mut bytes)?, asked: bytes }),
            ANSWER => {
                let id = number(&mut bytes)?;
                let what = bytes.try_get_u8().map_err(|_| Unreadable)?;
                let why = || std::str::from_utf8(&bytes).map(Arc::from).map_err(|_| Unreadable);
                let answer = match what {
                    0 => Answer::Given(bytes),
                    1 => Answer::Refused(why()?),
                    2 => Answer::Kept(why()?),
                    _ => return Err(Unreadable),
                };
                Ok(Self::Answer { id, answer })
            }
            CHUNK => {
                let (epoch, sent) = (number(&mut bytes)?, number(&mut bytes)?);
                let length = usize::from(bytes.try_get_u16_le().map_err(|_| Unreadable)?);
                if bytes.len() < length {
                    return Err(Unreadable);
                }
                let subscription =
                    std::str::from_utf8(&bytes.split_to(length)).map(Arc::from).map_err(|_| Unreadable)?;
                let chunk = take_chunk(&bytes).map_err(|_| Unreadable)?;
                Ok(Self::Chunk { epoch, number: sent, subscription, chunk })
            }
            REPORTS => {
                let epoch = number(&mut bytes)?;
                Ok(Self::Reports { epoch, reports: take_reports(&bytes).map_err(|_| Unreadable)? })
            }
            GAVE_BACK => {
                let epoch = number(&mut bytes)?;
                let mut chunks = Vec::new();
                while !bytes.is_empty() {
                    chunks.push(number(&mut bytes)?);
                }
                Ok(Self::GaveBack { epoch, chunks })
            }
            _ => Err(Unreadable),
        }
    }
}

fn number(bytes: &mut Bytes) -> Result<u64, Unreadable> {
    bytes.try_get_u64_le().map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use busway_types::{Ordering, SubId};

    use super::*;

    fn messages() -> Vec<Message> {
        let offer = Offer {
            subscription: "a:b".into(),
            service: "a".parse().expect("a name"),
            version: "00ff".into(),
            concurrency: 3,
        };
        let about = About { version: "0".into(), pid: 1, admin: SocketAddr::from(([127, 0, 0, 1], 1)) };
        let (session, holds) = (u64::MAX, vec![1, u64::MAX]);
        let hello = Hello { session, epoch: 7, seen: 9, holds, ready: true, offers: vec![offer], generation: 2, about };
        let chunk = Chunk { id: 1, sub: SubId(2), ordering: Ordering::Key, generation: 3, deliveries: Vec::new() };
        let report = Report { chunk: 1, sub: SubId(2), results: Vec::new(), finished: true };
        vec![
            Message::Hello(Box::new(hello)),
            Message::Beat(Beat { epoch: 7, session: 1 }),
            Message::Ask { epoch: 7, id: 3, asked: Bytes::from_static(b"{}") },
            Message::Answer { id: 3, answer: Answer::Given(Bytes::new()) },
            Message::Answer { id: 3, answer: Answer::Refused("no".into()) },
            Message::Answer { id: 3, answer: Answer::Kept("too long".into()) },
            Message::Chunk { epoch: 7, number: 8, subscription: "a:b".into(), chunk },
            Message::Reports { epoch: 7, reports: vec![report] },
            Message::GaveBack { epoch: 7, chunks: vec![1, 2] },
        ]
    }

    fn shown(message: Result<Message, Unreadable>) -> String {
        format!("{message:?}")
    }

    #[test]
    fn messages_survive_their_bytes() {
        for message in messages() {
            let read = Message::read(message.write().expect("written"));
            assert_eq!(shown(read), shown(Ok(message)));
        }
    }

    #[test]
    fn whatever_arrives_nothing_panics() {
        for message in messages() {
            let bytes = message.write().expect("written");
            for at in 0..bytes.len() {
                let _ = Message::read(bytes.slice(..at));
                for bit in 0..8 {
                    let mut flipped = bytes.to_vec();
                    flipped[at] ^= 1 << bit;
                    let _ = Message::read(flipped.into());
                }
            }
        }
        let no_answer = [VERSION, ANSWER, 0, 0, 0, 0, 0, 0, 0, 0, 9];
        for unknown in [&[][..], &[VERSION], &[VERSION, 99], &[VERSION + 1, BEAT], &no_answer] {
            assert!(Message::read(Bytes::copy_from_slice(unknown)).is_err(), "{unknown:?}");
        }
    }
}
