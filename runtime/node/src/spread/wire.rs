//! What nodes that share a bus say to one another, as bytes.
//!
//! Role: the format, and nothing else. A message is a version, a kind, and what the kind says; numbers are little-endian.
//! Reading never panics, whatever the bytes, and what is unknown is refused: another version of busway may have sent it.

use std::sync::Arc;

use busway_engine::Epoch;
use bytes::{Buf as _, BufMut as _, Bytes};
use serde::{Deserialize, Serialize};

/// The first byte of every message.
const VERSION: u8 = 1;
const HELLO: u8 = 1;
const BEAT: u8 = 2;
const ASK: u8 = 3;
const ANSWER: u8 = 4;

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
#[derive(Clone, Debug, PartialEq)]
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
            _ => Err(Unreadable),
        }
    }
}

fn number(bytes: &mut Bytes) -> Result<u64, Unreadable> {
    bytes.try_get_u64_le().map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn messages() -> Vec<Message> {
        vec![
            Message::Hello(Box::new(Hello { session: u64::MAX, epoch: 7 })),
            Message::Beat(Beat { epoch: 7, session: 1 }),
            Message::Ask { epoch: 7, id: 3, asked: Bytes::from_static(b"{}") },
            Message::Answer { id: 3, answer: Answer::Given(Bytes::new()) },
            Message::Answer { id: 3, answer: Answer::Refused("no".into()) },
            Message::Answer { id: 3, answer: Answer::Kept("too long".into()) },
        ]
    }

    #[test]
    fn messages_survive_their_bytes() {
        for message in messages() {
            assert_eq!(Message::read(message.write().expect("written")), Ok(message));
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
        for unknown in
            [&[][..], &[VERSION], &[VERSION, 99], &[VERSION + 1, BEAT], &[VERSION, ANSWER, 0, 0, 0, 0, 0, 0, 0, 0, 9]]
        {
            assert_eq!(Message::read(Bytes::copy_from_slice(unknown)), Err(Unreadable));
        }
    }
}
