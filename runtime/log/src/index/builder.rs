//! Building the index of a segment out of its frames.
//!
//! Role: take the frames of one segment in, one after the other and each once, and know where topics occur, which ids
//! may be there, and what a footer says. Works on a segment that is still written to as well: what is taken in so far
//! answers for that part.
//!
//! A segment is cut into *blocks* of about 8 KiB of frames with events; for each topic the index has the blocks in which
//! it occurs. A topic that occurs in many blocks has no list, so that common topics cost nothing; all of it together is
//! bounded, and beyond the bound the index says nothing about topics.

use busway_types::{Offset, Pattern, Timestamp};
use rustc_hash::FxHashMap;

use super::filter::{Filter, hash};
use super::{Hits, LinkTo};
use crate::checkpoint::SliceHeader;
use crate::codec::{EventReader, Peek, kind, next_section, tag};
use crate::error::LogError;
use crate::frame::Frame;
use crate::segment::{INDEX_EVERY, Segment};
use crate::walk::{Pieces, WALK_PIECE, WalkEnd, malformed};
use crate::wire::{Malformed, Reader, put_bytes, put_u64};

/// A topic in more blocks than this has no list.
const MANY: u32 = 1_024;

/// The bytes of a segment for each byte that its topics may take in the index.
const TOPICS_SHARE: u64 = 16;

/// About how many bytes of a segment there are for each event; sets the sizes of the filters.
const BYTES_PER_EVENT: u64 = 128;

/// A slice of a checkpoint in a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceAt {
    pub(crate) at: u64,
    pub(crate) header: SliceHeader,
}

/// Where one topic occurs.
#[derive(Debug, Default)]
struct List {
    /// Blocks in which it occurs.
    count: u32,
    last: u32,
    /// The differences between the blocks' numbers; empty when there are too many.
    bytes: Vec<u8>,
}

/// What is known of a segment's frames so far.
#[derive(Debug)]
pub(crate) struct Builder {
    /// Behind the last frame that was taken in.
    pub(crate) end: WalkEnd,
    /// Events seen.
    pub(crate) events: u64,
    /// The earliest and the latest time of an event.
    pub(crate) times: Option<(Timestamp, Timestamp)>,
    /// Slices of checkpoints, in order.
    pub(crate) slices: Vec<SliceAt>,
    /// The first offset of each block, and where it begins.
    pub(crate) blocks: Vec<(Offset, u64)>,
    pub(crate) ids: Filter,
    pub(crate) links: Filter,
    /// None when they are too many.
    topics: Option<FxHashMap<Box<str>, List>>,
    topic_bytes: u64,
    topic_room: u64,
    /// The topic noted last, with its block: neighbours often share both.
    last: (String, u32),
}

impl Builder {
    pub(crate) fn new(segment: &Segment) -> Self {
        let capacity = segment.header.capacity;
        Self {
            end: WalkEnd::start_of(segment),
            events: 0,
            times: None,
            slices: Vec::new(),
            blocks: Vec::new(),
            ids: Filter::sized_for(capacity / BYTES_PER_EVENT),
            links: Filter::sized_for(capacity / BYTES_PER_EVENT),
            topics: Some(FxHashMap::default()),
            topic_bytes: 0,
            topic_room: capacity / TOPICS_SHARE,
            last: (String::new(), u32::MAX),
        }
    }

    /// Takes in the frames that end at or before `to`, and stops after about `most` bytes of them.
    pub(crate) fn advance(&mut self, segment: &Segment, to: u64, most: u64) -> Result<(), LogError> {
        let stop = to.min(self.end.at.saturating_add(most));
        let mut pieces = Pieces::new(&*segment.file, to, WALK_PIECE);
        while self.end.at < stop {
            let Some(frame) = self.end.step(segment, &mut pieces)? else {
                let what = "a record that was written is not intact any more";
                return Err(LogError::damaged(&segment.path, self.end.at, what));
            };
            self.frame(&frame).map_err(|e| malformed(segment, &frame, e))?;
        }
        Ok(())
    }

    fn frame(&mut self, frame: &Frame) -> Result<(), Malformed> {
        let mut body = Reader::new(frame.body());
        if frame.kind() == kind::CHECKPOINT {
            self.slices.push(SliceAt { at: frame.at, header: SliceHeader::take(&mut body)? });
        }
        if frame.kind() != kind::TXN {
            return Ok(());
        }
        let Some((tag::EVENTS, content)) = next_section(&mut body)? else { return Ok(()) };
        let mut events = EventReader::new(content)?;
        if self.blocks.last().is_none_or(|(_, last)| frame.at >= last + INDEX_EVERY) {
            self.blocks.push((events.range().0, frame.at));
        }
        while let Some((offset, event)) = events.peek()? {
            self.event(&event);
            events.skip_to(offset + 1)?;
        }
        Ok(())
    }

    fn event(&mut self, event: &Peek<'_>) {
        self.events += 1;
        let (first, last) = self.times.unwrap_or((event.time, event.time));
        self.times = Some((first.min(event.time), last.max(event.time)));
        self.ids.add(LinkTo::Id(event.id).hash());
        if let Some(cause) = event.cause {
            self.links.add(LinkTo::Cause(cause).hash());
        }
        if let Some(correlation) = event.correlation {
            self.links.add(LinkTo::Correlation(correlation).hash());
        }
        self.topic(event.topic);
    }

    fn topic(&mut self, topic: &str) {
        let block = (self.blocks.len() - 1) as u32;
        if self.last.1 == block && self.last.0 == topic {
            return;
        }
        self.last.0.clear();
        self.last.0.push_str(topic);
        self.last.1 = block;
        let Some(topics) = &mut self.topics else { return };
        if let Some(list) = topics.get_mut(topic) {
            self.topic_bytes += list.add(block);
        } else {
            let mut list = List::default();
            self.topic_bytes += list.add(block) + topic.len() as u64 + 2;
            topics.insert(topic.into(), list);
        }
        if self.topic_bytes > self.topic_room {
            self.topics = None;
        }
    }

    /// The blocks in which topics that one of the patterns selects may occur.
    pub(crate) fn hits(&self, patterns: &[Pattern]) -> Hits {
        let mut hits = Hits::none();
        let Some(topics) = &self.topics else { return Hits::All };
        for pattern in patterns {
            if pattern.is_literal() {
                if let Some(list) = topics.get(pattern.as_str()) {
                    hits.add(&list.bytes);
                }
            } else {
                for (_, list) in topics.iter().filter(|(topic, _)| pattern.matches_text(topic)) {
                    hits.add(&list.bytes);
                }
            }
        }
        hits
    }

    /// The topics as they lie in a footer; none when they are too many.
    pub(crate) fn topics_to_bytes(&self) -> Option<Vec<u8>> {
        let mut topics: Vec<(&str, &List)> = self.topics.as_ref()?.iter().map(|(t, list)| (&**t, list)).collect();
        topics.sort_unstable_by_key(|(topic, _)| *topic);
        let mut out = Vec::new();
        let mut before = "";
        for (topic, list) in topics {
            let shared = topic.bytes().zip(before.bytes()).take_while(|(a, b)| a == b).count();
            put_u64(&mut out, shared as u64);
            put_bytes(&mut out, &topic.as_bytes()[shared..]);
            // A topic in most of the blocks is not worth a list.
            let many = list.count as usize * 4 > self.blocks.len() * 3;
            put_bytes(&mut out, if many { &[] } else { &list.bytes });
            before = topic;
        }
        Some(out)
    }
}

impl List {
    /// Notes a block; gives how many bytes that takes.
    fn add(&mut self, block: u32) -> u64 {
        if self.count > MANY || (self.count > 0 && self.last == block) {
            return 0;
        }
        let before = self.bytes.len();
        put_u64(&mut self.bytes, u64::from(block - self.last));
        self.last = block;
        self.count += 1;
        if self.count > MANY {
            self.bytes = Vec::new();
            return 0;
        }
        (self.bytes.len() - before) as u64
    }
}

impl LinkTo<'_> {
    /// The hash under which a filter has it.
    pub(crate) fn hash(&self) -> u64 {
        match self {
            Self::Id(id) => hash(0, &id.as_u128().to_le_bytes()),
            Self::Cause(id) => hash(1, &id.as_u128().to_le_bytes()),
            Self::Correlation(text) => hash(2, text.as_bytes()),
        }
    }
}
