//! Messages between the nodes that share a bus.
//!
//! Role: the trait [`Mesh`], and what engines need to be one: a bounded queue to whoever sends (`post`), and messages as
//! parts that fit what a broker takes at a time (`split`, `Joiner`). What the messages mean, nodes know.
//!
//! Invariants: a message arrives whole or not at all, at most once; messages of one sender to one address arrive in the
//! order in which they were sent, as far as they arrive. Nothing is kept for a node that is not there.
//!
//! Bounds: [`MESSAGE_BYTES`] for a message, [`QUEUE_BYTES`] and `QUEUED` for those that wait to be sent, `SENDERS` messages of
//! which parts are missing. Reading never panics, whatever the bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::{BufMut as _, Bytes, BytesMut};
use rustc_hash::FxHashMap;
use tokio::sync::mpsc;

/// The longest message.
pub const MESSAGE_BYTES: usize = 32 * 1024 * 1024;
/// Bytes that wait to be sent.
pub const QUEUE_BYTES: usize = 64 * 1024 * 1024;
/// Messages that wait to be sent.
const QUEUED: usize = 4_096;
/// Senders of which a part has come and others are missing.
const SENDERS: usize = 64;
/// The first byte of every part.
const VERSION: u8 = 1;
/// Bytes of a part's head beside the sender's name: version, length of the name, number, place and count.
const HEAD_BYTES: usize = 1 + 1 + 8 + 4 + 4;

/// Whom a message is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum To {
    /// The node that owns the bus when it arrives.
    Owner,
    /// The node of this name.
    Node(Arc<str>),
}

/// Why a message was not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsent {
    /// It never will be.
    #[error("{bytes} bytes are more than one node may send to another ({MESSAGE_BYTES}); send less at a time")]
    TooLarge {
        /// Its length.
        bytes: usize,
    },
    /// Later it may be.
    #[error("too much waits to be sent to other nodes")]
    Full,
    /// The engine is closed.
    #[error("the engine is closed")]
    Closed,
}

/// Messages between the nodes that share a bus: at most once, in order, kept nowhere. What arrives is told through
/// [`Sink::heard`](crate::Sink::heard); what is for the owner, only while this node is the owner.
pub trait Mesh: Send + Sync {
    /// The name of this node, which no other node of the bus has.
    fn node(&self) -> &str;

    /// Sends a message. Never waits; nobody is told whether it arrives.
    fn send(&self, to: To, message: Bytes) -> Result<(), Unsent>;
}

/// The way from a node to the task that sends for it.
#[derive(Debug)]
pub(crate) struct Post {
    node: String,
    queue: mpsc::Sender<(To, Bytes)>,
    waiting: Arc<AtomicUsize>,
}

/// The other end of a [`Post`].
#[derive(Debug)]
pub(crate) struct Posted {
    queue: mpsc::Receiver<(To, Bytes)>,
    waiting: Arc<AtomicUsize>,
    /// Bytes of the message that was taken last.
    taken: usize,
}

/// A bounded queue of messages to be sent.
pub(crate) fn post(node: String) -> (Post, Posted) {
    let (sender, queue) = mpsc::channel(QUEUED);
    let waiting = Arc::new(AtomicUsize::new(0));
    (Post { node, queue: sender, waiting: Arc::clone(&waiting) }, Posted { queue, waiting, taken: 0 })
}

impl Mesh for Post {
    fn node(&self) -> &str {
        &self.node
    }

    fn send(&self, to: To, message: Bytes) -> Result<(), Unsent> {
        let bytes = message.len();
        if bytes > MESSAGE_BYTES {
            return Err(Unsent::TooLarge { bytes });
        }
        if self.waiting.fetch_add(bytes, Ordering::Relaxed) + bytes > QUEUE_BYTES {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            return Err(Unsent::Full);
        }
        self.queue.try_send((to, message)).map_err(|refused| {
            self.waiting.fetch_sub(bytes, Ordering::Relaxed);
            match refused {
                mpsc::error::TrySendError::Full(_) => Unsent::Full,
                mpsc::error::TrySendError::Closed(_) => Unsent::Closed,
            }
        })
    }
}

impl Posted {
    /// The next message to be sent; the one before counts as sent. None when nobody can send any more.
    pub(crate) async fn next(&mut self) -> Option<(To, Bytes)> {
        self.waiting.fetch_sub(std::mem::take(&mut self.taken), Ordering::Relaxed);
        let next = self.queue.recv().await;
        self.taken = next.as_ref().map_or(0, |(_, message)| message.len());
        next
    }
}

/// A message as parts of at most `most` bytes, to be sent one after the other without another message of this node to the same
/// address between them. `number` is another one for each message of a node.
pub(crate) fn split(node: &str, number: u64, message: &Bytes, most: usize) -> Vec<Bytes> {
    let name = &node.as_bytes()[..node.len().min(usize::from(u8::MAX))];
    let room = most.saturating_sub(HEAD_BYTES + name.len()).max(1);
    let count = message.len().div_ceil(room).max(1);
    let part = |place: usize| {
        let content = &message[place * room..message.len().min((place + 1) * room)];
        let mut part = BytesMut::with_capacity(HEAD_BYTES + name.len() + content.len());
        part.put_u8(VERSION);
        part.put_u8(name.len() as u8);
        part.put_slice(name);
        part.put_u64_le(number);
        part.put_u32_le(place as u32);
        part.put_u32_le(count as u32);
        part.put_slice(content);
        part.freeze()
    };
    (0..count).map(part).collect()
}

/// A part of a message, read.
struct Part {
    from: Arc<str>,
    number: u64,
    place: u32,
    count: u32,
    content: Bytes,
}

impl Part {
    fn read(mut part: Bytes) -> Option<Self> {
        use bytes::Buf as _;
        if part.try_get_u8().ok()? != VERSION {
            return None;
        }
        let length = usize::from(part.try_get_u8().ok()?);
        if part.len() < length {
            return None;
        }
        let from = Arc::from(std::str::from_utf8(&part.split_to(length)).ok()?);
        let number = part.try_get_u64_le().ok()?;
        let (place, count) = (part.try_get_u32_le().ok()?, part.try_get_u32_le().ok()?);
        (place < count).then_some(Self { from, number, place, count, content: part })
    }
}

/// A message of which parts are missing.
struct Begun {
    number: u64,
    count: u32,
    /// The place of the part that has to come next.
    next: u32,
    content: BytesMut,
}

/// Makes messages of parts as they come.
#[derive(Default)]
pub(crate) struct Joiner {
    begun: FxHashMap<Arc<str>, Begun>,
}

impl Joiner {
    /// Takes a part; gives the message that it ends, with its sender. What is no part, or does not follow the one before,
    /// is dropped with what it would have been a part of.
    pub(crate) fn take(&mut self, part: Bytes) -> Option<(Arc<str>, Bytes)> {
        let Part { from, number, place, count, content } = Part::read(part)?;
        if count == 1 {
            self.begun.remove(&from);
            return Some((from, content));
        }
        if place == 0 {
            if self.begun.len() >= SENDERS {
                self.begun.clear();
            }
            self.begun.insert(from, Begun { number, count, next: 1, content: BytesMut::from(&content[..]) });
            return None;
        }
        let begun = self.begun.get_mut(&from)?;
        let follows = begun.number == number && begun.count == count && begun.next == place;
        if !follows || begun.content.len() + content.len() > MESSAGE_BYTES {
            self.begun.remove(&from);
            return None;
        }
        begun.content.extend_from_slice(&content);
        begun.next += 1;
        if begun.next < count {
            return None;
        }
        let message = self.begun.remove(&from)?.content.freeze();
        Some((from, message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(bytes: usize) -> Bytes {
        (0..bytes).map(|i| i as u8).collect()
    }

    #[test]
    fn messages_of_any_length_arrive_whole_and_in_order() {
        let mut joiner = Joiner::default();
        for (number, bytes) in [0, 1, 50, 99, 100, 101, 5_000].into_iter().enumerate() {
            let sent = message(bytes);
            let parts = split("node", number as u64, &sent, 100);
            assert!(parts.iter().all(|part| part.len() <= 100));
            let arrived: Vec<_> = parts.into_iter().filter_map(|part| joiner.take(part)).collect();
            assert_eq!(arrived, [(Arc::from("node"), sent)]);
        }
    }

    #[test]
    fn a_message_that_lost_a_part_is_dropped_and_the_next_one_arrives() {
        let mut joiner = Joiner::default();
        let (first, second) = (split("node", 1, &message(500), 100), split("node", 2, &message(500), 100));
        for lost in 0..first.len() {
            for (place, part) in first.iter().enumerate() {
                assert!(place == lost || joiner.take(part.clone()).is_none());
            }
            let mut arrived = second.iter().filter_map(|part| joiner.take(part.clone()));
            assert_eq!(arrived.next(), Some((Arc::from("node"), message(500))));
        }
        // Parts of several senders may be mixed.
        let other = split("other", 1, &message(500), 100);
        let mixed: Vec<_> = first.iter().zip(&other).flat_map(|(a, b)| [a.clone(), b.clone()]).collect();
        let arrived: Vec<_> = mixed.into_iter().filter_map(|part| joiner.take(part)).collect();
        assert_eq!(arrived, [(Arc::from("node"), message(500)), (Arc::from("other"), message(500))]);
    }

    #[test]
    fn what_is_no_part_is_dropped() {
        let mut joiner = Joiner::default();
        let part = split("node", 7, &message(10), 1_000).remove(0);
        for cut in 0..HEAD_BYTES + 4 {
            assert_eq!(joiner.take(part.slice(..cut)), None);
        }
        for at in 0..part.len() {
            for bit in 0..8 {
                let mut bytes = part.to_vec();
                bytes[at] ^= 1 << bit;
                // Whatever it is taken for, nothing panics.
                let _ = joiner.take(bytes.into());
            }
        }
        for from in 0..1_000 {
            let first = split(&from.to_string(), 1, &message(500), 100).remove(0);
            assert_eq!(joiner.take(first), None);
            assert!(joiner.begun.len() <= SENDERS);
        }
    }

    #[tokio::test]
    async fn what_waits_to_be_sent_is_bounded() {
        let (post, mut posted) = post("node".to_owned());
        assert_eq!(
            post.send(To::Owner, Bytes::from(vec![0; MESSAGE_BYTES + 1])),
            Err(Unsent::TooLarge { bytes: MESSAGE_BYTES + 1 })
        );
        let half = Bytes::from(vec![0; MESSAGE_BYTES]);
        assert_eq!(post.send(To::Owner, half.clone()), Ok(()));
        assert_eq!(post.send(To::Owner, half.clone()), Ok(()));
        assert_eq!(post.send(To::Owner, half.clone()), Err(Unsent::Full));
        assert!(posted.next().await.is_some());
        // The one that was taken is still on its way.
        assert_eq!(post.send(To::Owner, half.clone()), Err(Unsent::Full));
        assert!(posted.next().await.is_some());
        assert_eq!(post.send(To::Owner, half), Ok(()));
        drop(posted);
        assert_eq!(post.send(To::Owner, Bytes::new()), Err(Unsent::Closed));
    }
}
