//! One event: all of it, its causality included.
//!
//! Layout: length (4 bytes), flags (2), id (16), time, topic, then what the flags say is there, hops, data.

use std::sync::Arc;

use busway_types::{Event, EventId, Header, Key, Offset, Origin, ServiceName, Timestamp, Topic};

use super::parts::{put_time, take_time};
use crate::wire::{Malformed, Reader, begin_length, end_length, put_bytes, put_u64};

const KEY: u16 = 1;
const CONTENT_TYPE: u16 = 1 << 1;
const HEADERS: u16 = 1 << 2;
const NOT_BEFORE: u16 = 1 << 3;
const EXPIRES: u16 = 1 << 4;
const SOURCE: u16 = 1 << 5;
const CAUSE: u16 = 1 << 6;
const CORRELATION: u16 = 1 << 7;
const TRACEPARENT: u16 = 1 << 8;
const CHOSEN_ID: u16 = 1 << 9;
const KNOWN: u16 = (1 << 10) - 1;

/// The fewest bytes of an event: length, flags, id, time, topic, hops, data.
const LEAST: usize = 4 + 2 + 16 + 1 + 1 + 1 + 1;

/// The topic read last: neighbours in a log often share it, and parsing one costs more than comparing.
#[derive(Debug, Default)]
pub(crate) struct TopicCache(Option<Topic>);

impl TopicCache {
    fn topic(&mut self, text: &str) -> Result<Topic, Malformed> {
        match &self.0 {
            Some(topic) if topic.as_str() == text => Ok(topic.clone()),
            _ => {
                let topic: Topic = text.parse().map_err(|_| Malformed::Invalid("a topic is malformed"))?;
                self.0 = Some(topic.clone());
                Ok(topic)
            }
        }
    }
}

fn flags_of(event: &Event) -> u16 {
    let Event { id: _, topic: _, key, time: _, content_type, headers, data: _, not_before, expires, causality } = event;
    let Origin { source, cause, correlation, traceparent, hops: _, chosen_id } = &**causality;
    let flag = |present: bool, bit: u16| if present { bit } else { 0 };
    flag(key.is_some(), KEY)
        | flag(content_type.is_some(), CONTENT_TYPE)
        | flag(!headers.is_empty(), HEADERS)
        | flag(not_before.is_some(), NOT_BEFORE)
        | flag(expires.is_some(), EXPIRES)
        | flag(source.is_some(), SOURCE)
        | flag(cause.is_some(), CAUSE)
        | flag(correlation.is_some(), CORRELATION)
        | flag(traceparent.is_some(), TRACEPARENT)
        | flag(*chosen_id, CHOSEN_ID)
}

/// Appends one event.
pub(crate) fn put_event(out: &mut Vec<u8>, event: &Event) {
    let start = begin_length(out);
    out.extend_from_slice(&flags_of(event).to_le_bytes());
    out.extend_from_slice(&event.id.as_u128().to_be_bytes());
    put_time(out, event.time);
    put_bytes(out, event.topic.as_str().as_bytes());
    if let Some(key) = &event.key {
        put_bytes(out, key.as_str().as_bytes());
    }
    if let Some(content_type) = &event.content_type {
        put_bytes(out, content_type.as_bytes());
    }
    if !event.headers.is_empty() {
        put_u64(out, event.headers.len() as u64);
        for (name, value) in &event.headers {
            put_bytes(out, name.as_bytes());
            put_bytes(out, value.as_bytes());
        }
    }
    for time in [event.not_before, event.expires].into_iter().flatten() {
        put_time(out, time);
    }
    let from = &event.causality;
    if let Some(source) = &from.source {
        put_bytes(out, source.as_str().as_bytes());
    }
    if let Some(cause) = from.cause {
        out.extend_from_slice(&cause.as_u128().to_be_bytes());
    }
    for text in [&from.correlation, &from.traceparent].into_iter().flatten() {
        put_bytes(out, text.as_bytes());
    }
    out.push(from.hops);
    put_bytes(out, &event.data);
    end_length(out, start);
}

/// What every event begins with.
struct Head<'a> {
    flags: u16,
    id: EventId,
    time: Timestamp,
    topic: &'a str,
}

fn take_head<'a>(r: &mut Reader<'a>) -> Result<Head<'a>, Malformed> {
    let flags = u16::from_le_bytes(r.array()?);
    if flags & !KNOWN != 0 {
        return Err(Malformed::Unknown("event flags", u64::from(flags & !KNOWN)));
    }
    let id = EventId::from_u128(u128::from_be_bytes(r.array()?));
    Ok(Head { flags, id, time: take_time(r)?, topic: r.text()? })
}

/// Reads one event.
pub(crate) fn take_event(from: &mut Reader<'_>, topics: &mut TopicCache) -> Result<Event, Malformed> {
    let mut r = from.part()?;
    let Head { flags, id, time, topic } = take_head(&mut r)?;
    let has = |bit: u16| flags & bit != 0;
    let topic = topics.topic(topic)?;
    let key = if has(KEY) { Some(Key::stored(r.text()?)) } else { None };
    let content_type = optional_text(&mut r, has(CONTENT_TYPE))?;
    let headers = if has(HEADERS) { take_headers(&mut r)? } else { Vec::new() };
    let not_before = optional_time(&mut r, has(NOT_BEFORE))?;
    let expires = optional_time(&mut r, has(EXPIRES))?;
    let source = if has(SOURCE) { Some(take_service(&mut r)?) } else { None };
    let cause = if has(CAUSE) { Some(EventId::from_u128(u128::from_be_bytes(r.array()?))) } else { None };
    let correlation = optional_text(&mut r, has(CORRELATION))?;
    let traceparent = optional_text(&mut r, has(TRACEPARENT))?;
    let causality = Origin { source, cause, correlation, traceparent, hops: r.u8()?, chosen_id: has(CHOSEN_ID) }.into();
    let data = r.payload()?;
    if !r.is_empty() {
        return Err(Malformed::Invalid("an event is longer than its parts"));
    }
    Ok(Event { id, topic, key, time, content_type, headers, data, not_before, expires, causality })
}

/// What finding an event needs of it, without building it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Peek<'a> {
    pub(crate) id: EventId,
    pub(crate) time: Timestamp,
    pub(crate) topic: &'a str,
    pub(crate) cause: Option<EventId>,
    pub(crate) correlation: Option<&'a str>,
}

/// Looks at one event, given with its length.
fn peek_event<'a>(from: &mut Reader<'a>) -> Result<Peek<'a>, Malformed> {
    let mut r = from.part()?;
    let Head { flags, id, time, topic } = take_head(&mut r)?;
    let has = |bit: u16| flags & bit != 0;
    let mut peek = Peek { id, time, topic, cause: None, correlation: None };
    if !has(CAUSE | CORRELATION) {
        return Ok(peek);
    }
    for _ in 0..u32::from(has(KEY)) + u32::from(has(CONTENT_TYPE)) {
        r.bytes()?;
    }
    if has(HEADERS) {
        for _ in 0..2 * r.count(2)? {
            r.bytes()?;
        }
    }
    for _ in 0..u32::from(has(NOT_BEFORE)) + u32::from(has(EXPIRES)) {
        take_time(&mut r)?;
    }
    if has(SOURCE) {
        r.bytes()?;
    }
    if has(CAUSE) {
        peek.cause = Some(EventId::from_u128(u128::from_be_bytes(r.array()?)));
    }
    if has(CORRELATION) {
        peek.correlation = Some(r.text()?);
    }
    Ok(peek)
}

fn optional_text(r: &mut Reader<'_>, present: bool) -> Result<Option<Box<str>>, Malformed> {
    if present { Ok(Some(r.text()?.into())) } else { Ok(None) }
}

fn optional_time(r: &mut Reader<'_>, present: bool) -> Result<Option<Timestamp>, Malformed> {
    if present { Ok(Some(take_time(r)?)) } else { Ok(None) }
}

fn take_headers(r: &mut Reader<'_>) -> Result<Vec<Header>, Malformed> {
    let count = r.count(2)?;
    if count == 0 {
        return Err(Malformed::Invalid("headers are announced and missing"));
    }
    let mut headers = Vec::new();
    for _ in 0..count {
        headers.push((r.text()?.into(), r.text()?.into()));
    }
    Ok(headers)
}

pub(super) fn take_service(r: &mut Reader<'_>) -> Result<ServiceName, Malformed> {
    r.text()?.parse().map_err(|_| Malformed::Invalid("a service name is malformed"))
}

/// Reads the events of a section one by one, and can pass over some without decoding them.
#[derive(Debug)]
pub(crate) struct EventReader<'a> {
    section: Reader<'a>,
    next: Offset,
    end: Offset,
}

impl<'a> EventReader<'a> {
    pub(crate) fn new(mut section: Reader<'a>) -> Result<Self, Malformed> {
        let next = section.u64()?;
        let count = section.count(LEAST)? as u64;
        let end = next.checked_add(count).ok_or(Malformed::Invalid("an offset is too large"))?;
        Ok(Self { section, next, end })
    }

    /// The offsets that are still to come: the first and the one after the last.
    pub(crate) fn range(&self) -> (Offset, Offset) {
        (self.next, self.end)
    }

    /// Passes over events until `offset` is next.
    pub(crate) fn skip_to(&mut self, offset: Offset) -> Result<(), Malformed> {
        while self.next < offset.min(self.end) {
            self.section.part()?;
            self.next += 1;
        }
        Ok(())
    }

    /// Looks at the next event without passing over it; none when there is none.
    pub(crate) fn peek(&self) -> Result<Option<(Offset, Peek<'a>)>, Malformed> {
        if self.next == self.end {
            return Ok(None);
        }
        Ok(Some((self.next, peek_event(&mut self.section.clone())?)))
    }

    /// The next event and its offset.
    pub(crate) fn next(&mut self, topics: &mut TopicCache) -> Result<Option<(Offset, Arc<Event>)>, Malformed> {
        if self.next == self.end {
            return if self.section.is_empty() {
                Ok(None)
            } else {
                Err(Malformed::Invalid("more events than counted"))
            };
        }
        let event = take_event(&mut self.section, topics)?;
        self.next += 1;
        Ok(Some((self.next - 1, Arc::new(event))))
    }
}
