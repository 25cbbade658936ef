//! Reading events back.
//!
//! Role: find events by offset through the sparse index, and decode them. Readers never wait for the committer: they see
//! what is written when they begin, and keep a segment's content by holding a reference to it.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use busway_types::{Event, EventId, Logged, Offset};

use crate::codec::{EventReader, TopicCache, kind, next_section, tag};
use crate::error::LogError;
use crate::frame::Frame;
use crate::log::Log;
use crate::segment::Segment;
use crate::walk::{Pieces, malformed};
use crate::wire::Reader;

/// Bytes read at a time.
const READ_PIECE: usize = 256 * 1024;

/// Bytes read at a time for single events.
const FETCH_PIECE: usize = 16 * 1024;

/// One call of `read` looks at no more than about this many bytes of the log.
const READ_MOST: u64 = 16 * 1024 * 1024;

impl Log {
    /// Reads events in order from `from` on, those that `select` wants, up to `max_events` and about `max_bytes` (of
    /// [`Event::cost`]; at least one event if one is found). Gives also where to go on: all below was looked at, and
    /// when it is below [`Log::written_offset`] there is more. One call looks at a bounded part of the log, so it may
    /// give nothing and still have more. What is no longer kept is passed over.
    pub fn read(
        &self,
        from: Offset,
        select: &dyn Fn(&Event) -> bool,
        max_events: usize,
        max_bytes: usize,
    ) -> Result<(Vec<Logged>, Offset), LogError> {
        let head = self.written_offset();
        let mut out = Collected { events: Vec::new(), bytes: 0, max_events, max_bytes, next: from, looked: 0 };
        while out.next < head && !out.full() && out.looked < READ_MOST {
            let Some(segment) = self.segment_of(&mut out.next) else { break };
            read_segment(&segment, head, select, &mut out)?;
        }
        Ok((out.events, out.next))
    }

    /// Reads single events. What is no longer kept, or not yet written, is left out; the order is that of the request.
    pub fn fetch(&self, offsets: &[Offset]) -> Result<Vec<Logged>, LogError> {
        let head = self.written_offset();
        let mut found = Vec::with_capacity(offsets.len());
        let mut topics = TopicCache::default();
        let mut last: Option<(Arc<Segment>, Frame)> = None;
        for &offset in offsets.iter().filter(|o| **o < head) {
            let mut at = offset;
            let Some(segment) = self.segment_of(&mut at) else { continue };
            if at != offset {
                continue;
            }
            // Neighbours often lie in one frame, which then is read and checked once.
            let held = last.take().filter(|(s, frame)| Arc::ptr_eq(s, &segment) && holds(frame, offset));
            let frame = match held {
                Some((_, frame)) => frame,
                None => find_frame(&segment, offset)?,
            };
            let event = event_in(&frame, offset, &mut topics).map_err(|e| malformed(&segment, &frame, e))?;
            found.push(Logged { offset, event });
            last = Some((segment, frame));
        }
        Ok(found)
    }

    /// Finds a kept event by its id, looking at all of them. Slow; for people.
    pub fn find(&self, id: EventId) -> Result<Option<Logged>, LogError> {
        let mut from = self.oldest();
        while from < self.written_offset() {
            let (found, next) = self.read(from, &|event| event.id == id, 1, usize::MAX)?;
            if let Some(found) = found.into_iter().next() {
                return Ok(Some(found));
            }
            if next == from {
                break;
            }
            from = next;
        }
        Ok(None)
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
        let segments = self.shared().segments();
        *offset = (*offset).max(segments.first()?.header.first_offset);
        let after = segments.partition_point(|s| s.header.first_offset <= *offset);
        segments.get(after.checked_sub(1)?).cloned()
    }
}

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

/// Reads from the segment that has `out.next` until it ends or enough is collected.
fn read_segment(
    segment: &Segment,
    head: Offset,
    select: &dyn Fn(&Event) -> bool,
    out: &mut Collected,
) -> Result<(), LogError> {
    let limit = segment.end();
    let mut at = segment.seek(out.next);
    let mut pieces = Pieces::new(&*segment.file, limit, READ_PIECE);
    let mut topics = TopicCache::default();
    while at < limit && out.next < head && !out.full() && out.looked < READ_MOST {
        let frame = frame_at(segment, &mut pieces, at)?;
        at = frame.end();
        let mut events = match events_of(&frame, pieces.buffer()).map_err(|e| malformed(segment, &frame, e))? {
            Some(events) if events.range().1 > out.next => events,
            _ => continue,
        };
        // Only what moves `next` counts, so that every call gets further.
        out.looked += frame.header.total();
        let mut step = || -> Result<(), crate::wire::Malformed> {
            events.skip_to(out.next)?;
            while !out.full() {
                let Some((offset, event)) = events.next(&mut topics)? else { break };
                if select(&event) {
                    let cost = event.cost();
                    // An event that does not fit any more is left for the next call.
                    if out.bytes + cost > out.max_bytes && !out.events.is_empty() {
                        out.bytes = out.max_bytes;
                        break;
                    }
                    out.bytes += cost;
                    out.events.push(Logged { offset, event });
                }
                out.next = offset + 1;
            }
            Ok(())
        };
        step().map_err(|e| malformed(segment, &frame, e))?;
    }
    if at >= limit && !out.full() {
        // Everything that this segment has was looked at; it may end without events.
        out.next = out.next.max(segment.next_offset().min(head));
    }
    Ok(())
}

fn frame_at(segment: &Segment, pieces: &mut Pieces<'_>, at: u64) -> Result<Frame, LogError> {
    let frame = pieces.frame(segment, at).map_err(|e| segment.io("reading", e))?;
    frame.ok_or_else(|| LogError::damaged(&segment.path, at, "a record that was written is not intact any more"))
}

/// The events of a frame; payloads may share `buffer`, in which the frame lies.
fn events_of<'a>(
    frame: &'a Frame,
    buffer: &'a bytes::Bytes,
) -> Result<Option<EventReader<'a>>, crate::wire::Malformed> {
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

fn find_frame(segment: &Segment, offset: Offset) -> Result<Frame, LogError> {
    let mut pieces = Pieces::new(&*segment.file, segment.end(), FETCH_PIECE);
    let mut at = segment.seek(offset);
    loop {
        let frame = frame_at(segment, &mut pieces, at)?;
        if holds(&frame, offset) {
            return Ok(frame);
        }
        at = frame.end();
    }
}

fn event_in(frame: &Frame, offset: Offset, topics: &mut TopicCache) -> Result<Arc<Event>, crate::wire::Malformed> {
    let missing = crate::wire::Malformed::Invalid("an event is missing");
    let mut events = events_of(frame, frame.bytes())?.ok_or(missing.clone())?;
    events.skip_to(offset)?;
    Ok(events.next(topics)?.ok_or(missing)?.1)
}
