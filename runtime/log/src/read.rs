//! Reading events back.
//!
//! Role: find events by offset, topic, time and link through the indexes of segments, and decode them. Readers never wait for the committer: they see
//! what is written when they begin, and keep a segment's content by holding a reference to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use busway_types::{Event, EventId, Logged, Offset, Pattern, Timestamp};

use crate::codec::{EventReader, Peek, TopicCache, kind, next_section, tag};
use crate::error::LogError;
use crate::frame::Frame;
use crate::fs::Fs;
use crate::index::{Indexes, LinkTo, Spans, may_hold, with_builder};
use crate::log::Log;
use crate::segment::Segment;
use crate::shared::Shared;
use crate::walk::{Pieces, malformed};
use crate::wire::{Malformed, Reader};

/// Bytes read at a time.
const READ_PIECE: usize = 256 * 1024;

/// Bytes read at a time for single events.
const FETCH_PIECE: usize = 16 * 1024;

/// One call of `read` looks at no more than about this many bytes of the log.
const READ_MOST: u64 = 16 * 1024 * 1024;

/// What looking into the index of one segment counts for.
const LOOKED_AT_INDEX: u64 = 64 * 1024;

/// A segment, for those who decide what is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentInfo {
    /// The offset of its first event.
    pub first_offset: Offset,
    /// The offset after its last event.
    pub next_offset: Offset,
    /// Bytes in use.
    pub bytes: u64,
    /// The latest time of an event in it, 0 when it has none. Not known while it is written and a moment after.
    pub latest: Option<Timestamp>,
}

impl Log {
    /// Reads events in order from `from` on, those whose topic one of the patterns selects (all when there are none), up to
    /// `max_events` and about `max_bytes` (of [`Event::cost`]; at least one event if one is found). Gives also where to go
    /// on: all below was looked at, and when it is below [`Log::written_offset`] there is more. One call looks at a bounded
    /// part of the log, so it may give nothing and still have more. What is no longer kept is passed over, and so are
    /// parts of the log in which, as its index knows, no such topic occurs.
    pub fn read(
        &self,
        from: Offset,
        patterns: &[Pattern],
        max_events: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Logged>, Offset), LogError> {
        let head = self.written_offset();
        let mut wanted = Wanted::new(patterns);
        let mut out = Collected { events: Vec::new(), bytes: 0, max_events, max_bytes, next: from, looked: 0 };
        while out.next < head && !out.full() && out.looked < READ_MOST {
            let Some(segment) = self.segment_of(&mut out.next) else { break };
            let spans = self.spans(&segment, patterns, out.next)?;
            out.looked += LOOKED_AT_INDEX;
            read_segment(&segment, &spans, head, &mut wanted, &mut out)?;
        }
        Ok((out.events, out.next))
    }

    /// The parts of `segment` in which what the patterns select may be.
    fn spans(&self, segment: &Segment, patterns: &[Pattern], from: Offset) -> Result<Spans, LogError> {
        let Shared { fs, indexes, .. } = self.shared();
        if patterns.iter().all(|pattern| pattern.as_str() != ">") && !patterns.is_empty() {
            return indexes.spans(&**fs, segment, patterns, from);
        }
        let (covers, end) = (segment.next_offset(), segment.end());
        Ok(Spans { parts: vec![(indexes.seek(&**fs, segment, from)?, end)], covers })
    }

    /// Reads single events. What is no longer kept, or not yet written, is left out; the order is that of the request.
    pub fn fetch(&self, offsets: &[Offset]) -> Result<Vec<Logged>, LogError> {
        let shared = self.shared();
        let segments = shared.segments().clone();
        Source { fs: &*shared.fs, indexes: &shared.indexes, segments: &segments }.fetch(self.written_offset(), offsets)
    }

    /// The first kept event at or behind `from` for which `is_it` says yes, looking only at segments of which `may_have`
    /// does, and below which offset that answers.
    fn first(
        &self,
        from: Offset,
        may_have: &Question<'_>,
        is_it: &dyn Fn(&Peek<'_>) -> bool,
    ) -> Result<Option<Logged>, LogError> {
        let head = self.written_offset();
        let mut next = from;
        while next < head {
            let Some(segment) = self.segment_of(&mut next) else { break };
            let (may, covers) = may_have(&segment)?;
            if may && let Some(found) = self.first_in(&segment, next, head, is_it)? {
                return Ok(Some(found));
            }
            next = covers.max(next + 1);
        }
        Ok(None)
    }

    fn first_in(
        &self,
        segment: &Segment,
        from: Offset,
        head: Offset,
        is_it: &dyn Fn(&Peek<'_>) -> bool,
    ) -> Result<Option<Logged>, LogError> {
        let Shared { fs, indexes, .. } = self.shared();
        let limit = segment.end();
        let mut at = indexes.seek(&**fs, segment, from)?;
        let mut pieces = Pieces::new(&*segment.file, limit, READ_PIECE);
        let mut topics = TopicCache::default();
        while at < limit {
            let frame = frame_at(segment, &mut pieces, at)?;
            at = frame.end();
            let mut step = || -> Result<Option<Logged>, Malformed> {
                let Some(mut events) = events_of(&frame, pieces.buffer())? else { return Ok(None) };
                events.skip_to(from)?;
                while let Some((offset, peek)) = events.peek()?.filter(|(offset, _)| *offset < head) {
                    if is_it(&peek) {
                        return Ok(events.next(&mut topics)?.map(|(offset, event)| Logged { offset, event }));
                    }
                    events.skip_to(offset + 1)?;
                }
                Ok(None)
            };
            if let Some(found) = step().map_err(|e| malformed(segment, &frame, e))? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The first kept event at or behind `from` that has one of the links. Segments in which, as their indexes know, there
    /// is none are passed over; the others are read.
    pub fn find_linked(&self, links: &[LinkTo<'_>], from: Offset) -> Result<Option<Logged>, LogError> {
        let fs = &self.shared().fs;
        let may_have = |segment: &Segment| may_hold(&**fs, segment, links);
        let has = |event: &Peek<'_>| {
            links.iter().any(|link| match link {
                LinkTo::Id(id) => event.id == *id,
                LinkTo::Cause(id) => event.cause == Some(*id),
                LinkTo::Correlation(text) => event.correlation == Some(*text),
            })
        };
        self.first(from, &may_have, &has)
    }

    /// Finds a kept event by its id.
    pub fn find(&self, id: EventId) -> Result<Option<Logged>, LogError> {
        self.find_linked(&[LinkTo::Id(id)], self.oldest())
    }

    /// The offset of the first kept event whose time is `time` or later; the end of the log when there is none. Times of
    /// neighbours may be out of order, so events behind that offset may be older.
    pub fn offset_at(&self, time: Timestamp) -> Result<Offset, LogError> {
        let may_have = |segment: &Segment| {
            let (times, covers) = index_times(segment)?;
            Ok((times.is_some_and(|(_, latest)| latest >= time), covers))
        };
        let found = self.first(self.oldest(), &may_have, &|event| event.time >= time)?;
        Ok(found.map_or_else(|| self.written_offset(), |logged| logged.offset))
    }

    /// The segments that are kept, oldest first. The last one is being written and is never released.
    pub fn segments(&self) -> Vec<SegmentInfo> {
        let info = |segment: &Arc<Segment>| {
            let summary = segment.summary();
            SegmentInfo {
                first_offset: segment.header.first_offset,
                next_offset: segment.next_offset(),
                bytes: segment.end(),
                latest: summary.as_ref().map(|summary| summary.times.map_or(Timestamp(0), |(_, latest)| latest)),
            }
        };
        self.shared().segments().iter().map(info).collect()
    }

    /// The offset of the oldest event that is kept.
    pub fn oldest(&self) -> Offset {
        self.shared().segments().first().map_or(0, |s| s.header.first_offset)
    }

    /// Bytes of segments in use.
    pub fn bytes(&self) -> u64 {
        self.shared().segments().iter().map(|s| s.end()).sum()
    }

    /// The offset after the last event that can be read.
    pub fn written_offset(&self) -> Offset {
        self.shared().written_offset.load(Ordering::Acquire)
    }

    /// The offset after the last event that is synced to disk.
    pub fn synced_offset(&self) -> Offset {
        self.shared().synced_offset.load(Ordering::Acquire)
    }

    /// The segment of an offset, which is moved up to the oldest kept one.
    fn segment_of(&self, offset: &mut Offset) -> Option<Arc<Segment>> {
        segment_of(&self.shared().segments(), offset)
    }
}

/// The segment of an offset, which is moved up to the oldest kept one.
fn segment_of(segments: &[Arc<Segment>], offset: &mut Offset) -> Option<Arc<Segment>> {
    *offset = (*offset).max(segments.first()?.header.first_offset);
    let after = segments.partition_point(|s| s.header.first_offset <= *offset);
    segments.get(after.checked_sub(1)?).cloned()
}

/// Where single events are read from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Source<'a> {
    pub(crate) fs: &'a dyn Fs,
    pub(crate) indexes: &'a Indexes,
    pub(crate) segments: &'a [Arc<Segment>],
}

impl Source<'_> {
    /// Reads single events below `head`; see [`Log::fetch`].
    pub(crate) fn fetch(&self, head: Offset, offsets: &[Offset]) -> Result<Vec<Logged>, LogError> {
        let mut found = Vec::with_capacity(offsets.len());
        let mut topics = TopicCache::default();
        let mut last: Option<(Arc<Segment>, Frame)> = None;
        for &offset in offsets.iter().filter(|o| **o < head) {
            let mut at = offset;
            let Some(segment) = segment_of(self.segments, &mut at) else { continue };
            if at != offset {
                continue;
            }
            // Neighbours often lie in one frame, which then is read and checked once.
            let held = last.take().filter(|(s, frame)| Arc::ptr_eq(s, &segment) && holds(frame, offset));
            let frame = match held {
                Some((_, frame)) => frame,
                None => self.find_frame(&segment, offset)?,
            };
            let event = event_in(&frame, offset, &mut topics).map_err(|e| malformed(&segment, &frame, e))?;
            found.push(Logged { offset, event });
            last = Some((segment, frame));
        }
        Ok(found)
    }

    fn find_frame(&self, segment: &Segment, offset: Offset) -> Result<Frame, LogError> {
        let mut pieces = Pieces::new(&*segment.file, segment.end(), FETCH_PIECE);
        let mut at = self.indexes.seek(self.fs, segment, offset)?;
        loop {
            let frame = frame_at(segment, &mut pieces, at)?;
            if holds(&frame, offset) {
                return Ok(frame);
            }
            at = frame.end();
        }
    }
}

/// Whether a segment may have what is looked for, and below which offset that answers.
type Question<'a> = dyn Fn(&Segment) -> Result<(bool, Offset), LogError> + 'a;

struct Collected {
    events: Vec<Logged>,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
    next: Offset,
    looked: u64,
}

impl Collected {
    fn full(&self) -> bool {
        self.events.len() >= self.max_events || (self.bytes >= self.max_bytes && !self.events.is_empty())
    }
}

/// Which topics are wanted.
struct Wanted<'a> {
    /// Patterns without wildcards, for which comparing is enough.
    topics: Vec<&'a str>,
    patterns: Vec<&'a Pattern>,
    /// What the patterns said of the topic asked last, because neighbours often share it.
    last: (String, bool),
}

impl<'a> Wanted<'a> {
    fn new(patterns: &'a [Pattern]) -> Self {
        let (literal, patterns): (Vec<&Pattern>, Vec<&Pattern>) = patterns.iter().partition(|p| p.is_literal());
        let topics = literal.into_iter().map(Pattern::as_str).collect();
        Self { topics, patterns, last: (String::new(), false) }
    }

    fn has(&mut self, topic: &str) -> bool {
        if self.topics.contains(&topic) {
            return true;
        }
        if self.patterns.is_empty() {
            // Without any pattern at all everything is wanted.
            return self.topics.is_empty();
        }
        if self.last.0 != topic {
            self.last.0.clear();
            self.last.0.push_str(topic);
            self.last.1 = self.patterns.iter().any(|pattern| pattern.matches_text(topic));
        }
        self.last.1
    }
}

/// Reads the given parts of the segment that has `out.next` until they end or enough is collected.
fn read_segment(
    segment: &Segment,
    spans: &Spans,
    head: Offset,
    wanted: &mut Wanted<'_>,
    out: &mut Collected,
) -> Result<(), LogError> {
    let mut topics = TopicCache::default();
    for &(begin, end) in &spans.parts {
        let mut at = begin;
        let mut pieces = Pieces::new(&*segment.file, end, READ_PIECE);
        while at < end {
            if out.next >= head || out.full() || out.looked >= READ_MOST {
                return Ok(());
            }
            let frame = frame_at(segment, &mut pieces, at)?;
            at = frame.end();
            let step = match events_of(&frame, pieces.buffer()) {
                Ok(Some(events)) if events.range().1 > out.next => {
                    // Only what moves `next` counts, so that every call gets further.
                    out.looked += frame.header.total();
                    out.take(events, wanted, &mut topics)
                }
                Ok(_) => Ok(()),
                Err(error) => Err(error),
            };
            step.map_err(|e| malformed(segment, &frame, e))?;
        }
    }
    if !out.full() {
        // Everything that this segment has was looked at; it may end without events.
        out.next = out.next.max(spans.covers.min(head));
    }
    Ok(())
}

impl Collected {
    /// Takes the wanted events of a frame.
    fn take(
        &mut self,
        mut events: EventReader<'_>,
        wanted: &mut Wanted<'_>,
        topics: &mut TopicCache,
    ) -> Result<(), Malformed> {
        events.skip_to(self.next)?;
        while !self.full() {
            let Some((offset, peek)) = events.peek()? else { break };
            if wanted.has(peek.topic) {
                let Some((_, event)) = events.next(topics)? else { break };
                let cost = event.cost();
                // An event that does not fit any more is left for the next call.
                if self.bytes + cost > self.max_bytes && !self.events.is_empty() {
                    self.bytes = self.max_bytes;
                    break;
                }
                self.bytes += cost;
                self.events.push(Logged { offset, event });
            } else {
                events.skip_to(offset + 1)?;
            }
            self.next = offset + 1;
        }
        Ok(())
    }
}

/// The earliest and the latest time in a segment, as far as it is written, and below which offset that holds.
fn index_times(segment: &Segment) -> Result<(Option<(Timestamp, Timestamp)>, Offset), LogError> {
    match segment.summary() {
        Some(summary) => Ok((summary.times, summary.end.next_offset)),
        None => with_builder(segment, |builder| (builder.times, builder.end.next_offset)),
    }
}

fn frame_at(segment: &Segment, pieces: &mut Pieces<'_>, at: u64) -> Result<Frame, LogError> {
    let frame = pieces.frame(segment, at).map_err(|e| segment.io("reading", e))?;
    frame.ok_or_else(|| LogError::damaged(&segment.path, at, "a record that was written is not intact any more"))
}

/// The events of a frame; payloads may share `buffer`, in which the frame lies.
fn events_of<'a>(frame: &'a Frame, buffer: &'a bytes::Bytes) -> Result<Option<EventReader<'a>>, Malformed> {
    if frame.kind() != kind::TXN {
        return Ok(None);
    }
    let mut body = Reader::sharing(frame.body(), buffer);
    match next_section(&mut body)? {
        Some((tag::EVENTS, content)) => EventReader::new(content).map(Some),
        _ => Ok(None),
    }
}

fn holds(frame: &Frame, offset: Offset) -> bool {
    let range = events_of(frame, frame.bytes()).ok().flatten().map(|events| events.range());
    range.is_some_and(|(first, end)| (first..end).contains(&offset))
}

fn event_in(frame: &Frame, offset: Offset, topics: &mut TopicCache) -> Result<Arc<Event>, Malformed> {
    let missing = Malformed::Invalid("an event is missing");
    let mut events = events_of(frame, frame.bytes())?.ok_or(missing.clone())?;
    events.skip_to(offset)?;
    Ok(events.next(topics)?.ok_or(missing)?.1)
}
