//! What is held of indexes in memory, and how it is looked up.
//!
//! Role: load the blocks and topics of footers when somebody reads, keep those used last up to [`CACHE_BYTES`], and let
//! readers share what is built of a segment that has no footer yet.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use busway_types::{Offset, Pattern};

use super::builder::Builder;
use super::filter::Filter;
use super::footer::encode;
use super::{Hits, LinkTo, Summary, footer_name};
use crate::error::LogError;
use crate::fs::{Fs, OpenMode};
use crate::lock;
use crate::segment::{HEADER_BYTES, Segment};
use crate::wire::Reader;

/// The most bytes of loaded blocks and topics.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// Taken in at a time while a segment without a footer is indexed; others may use it in between.
const STEP: u64 = 1024 * 1024;

/// Blocks and topics out of a footer.
#[derive(Debug)]
struct Loaded {
    blocks: Vec<(Offset, u64)>,
    /// None when the index says nothing about topics.
    topics: Option<Vec<u8>>,
}

impl Loaded {
    fn bytes(&self) -> usize {
        self.blocks.len() * size_of::<(Offset, u64)>() + self.topics.as_ref().map_or(0, Vec::len)
    }

    fn hits(&self, patterns: &[Pattern]) -> Hits {
        match &self.topics {
            Some(topics) => topics_matching(topics, patterns).unwrap_or(Hits::All),
            None => Hits::All,
        }
    }
}

/// Looks patterns up in the topics of a footer; none when they are malformed.
pub(super) fn topics_matching(topics: &[u8], patterns: &[Pattern]) -> Option<Hits> {
    let mut hits = Hits::none();
    let mut reader = Reader::new(topics);
    let mut topic: Vec<u8> = Vec::new();
    while !reader.is_empty() {
        let shared = usize::try_from(reader.u64().ok()?).ok()?;
        topic.truncate(shared);
        topic.extend_from_slice(reader.bytes().ok()?);
        let list = reader.bytes().ok()?;
        let text = std::str::from_utf8(&topic).ok()?;
        if patterns.iter().any(|pattern| pattern.matches_text(text)) {
            hits.add(list);
        }
    }
    Some(hits)
}

/// The indexes of a log's segments.
#[derive(Debug, Default)]
pub(crate) struct Indexes {
    /// By the segment's epoch, used last at the end.
    cache: Mutex<VecDeque<(u32, Arc<Loaded>)>>,
}

/// The part of a segment that is to be read, and how far that answers.
#[derive(Debug)]
pub(crate) struct Spans {
    /// Parts to be read, in order.
    pub(crate) parts: Vec<(u64, u64)>,
    /// Everything below was looked at once the parts are.
    pub(crate) covers: Offset,
}

impl Indexes {
    /// The parts of `segment` that may have events from `from` on that one of the patterns selects.
    pub(crate) fn spans(
        &self,
        fs: &dyn Fs,
        segment: &Segment,
        patterns: &[Pattern],
        from: Offset,
    ) -> Result<Spans, LogError> {
        if let Some(summary) = segment.summary()
            && let Some(loaded) = self.loaded(fs, segment, &summary)
        {
            let parts = loaded.hits(patterns).spans(&loaded.blocks, from, summary.end.at);
            return Ok(Spans { parts, covers: summary.end.next_offset });
        }
        with_builder(segment, |builder| {
            let parts = builder.hits(patterns).spans(&builder.blocks, from, builder.end.at);
            Spans { parts, covers: builder.end.next_offset }
        })
    }

    /// Where to begin looking for the event at `offset`.
    pub(crate) fn seek(&self, fs: &dyn Fs, segment: &Segment, offset: Offset) -> Result<u64, LogError> {
        if let Some(at) = segment.seek(offset) {
            return Ok(at);
        }
        let seek = |blocks: &[(Offset, u64)]| match blocks.partition_point(|(first, _)| *first <= offset) {
            0 => HEADER_BYTES as u64,
            n => blocks[n - 1].1,
        };
        match segment.summary().and_then(|summary| self.loaded(fs, segment, &summary)) {
            Some(loaded) => Ok(seek(&loaded.blocks)),
            None => with_builder(segment, |builder| seek(&builder.blocks)),
        }
    }

    fn loaded(&self, fs: &dyn Fs, segment: &Segment, summary: &Summary) -> Option<Arc<Loaded>> {
        let epoch = segment.header.seal.epoch;
        {
            let mut cache = lock(&self.cache);
            if let Some(at) = cache.iter().position(|(held, _)| *held == epoch) {
                let entry = cache.remove(at)?;
                let loaded = entry.1.clone();
                cache.push_back(entry);
                return Some(loaded);
            }
        }
        let loaded = load(fs, segment, summary);
        let Some(loaded) = loaded.map(Arc::new) else {
            tracing::warn!(file = %footer_name(&segment.path).display(), "the index of a segment is damaged; it is built again");
            segment.forget_summary();
            return None;
        };
        let mut cache = lock(&self.cache);
        cache.push_back((epoch, loaded.clone()));
        let mut bytes: usize = cache.iter().map(|(_, loaded)| loaded.bytes()).sum();
        while bytes > CACHE_BYTES && cache.len() > 1 {
            bytes -= cache.pop_front().map_or(0, |(_, oldest)| oldest.bytes());
        }
        Some(loaded)
    }
}

/// Whether an event with one of these links may be in `segment`, and below which offset that holds.
pub(crate) fn may_hold(fs: &dyn Fs, segment: &Segment, links: &[LinkTo<'_>]) -> Result<(bool, Offset), LogError> {
    if let Some(summary) = segment.summary()
        && let Some((ids, others)) = filters(fs, segment, &summary, links)
    {
        return Ok((any(links, &ids, &others), summary.end.next_offset));
    }
    with_builder(segment, |b| (any(links, &b.ids, &b.links), b.end.next_offset))
}

fn load(fs: &dyn Fs, segment: &Segment, summary: &Summary) -> Option<Loaded> {
    let file = fs.open(&footer_name(&segment.path), OpenMode::Read).ok()?;
    let blocks = summary.blocks(&*file, segment.header.first_offset)?;
    let mut topics = summary.topics(&*file)?;
    let has_topics = topics.first().copied()? == 1;
    topics.drain(..1);
    Some(Loaded { blocks, topics: has_topics.then_some(topics) })
}

/// The filters out of a footer, each only when a link asks for it.
fn filters(fs: &dyn Fs, segment: &Segment, summary: &Summary, links: &[LinkTo<'_>]) -> Option<(Filter, Filter)> {
    let by_id = |link: &LinkTo<'_>| matches!(link, LinkTo::Id(_));
    let file = fs.open(&footer_name(&segment.path), OpenMode::Read).ok()?;
    let part = |wanted: bool, read: &dyn Fn() -> Option<Vec<u8>>| {
        if wanted { read().and_then(Filter::from_bytes) } else { Some(Filter::sized_for(0)) }
    };
    let ids = part(links.iter().any(by_id), &|| summary.ids(&*file));
    let others = part(!links.iter().all(by_id), &|| summary.links(&*file));
    if ids.is_none() || others.is_none() {
        tracing::warn!(file = %footer_name(&segment.path).display(), "the index of a segment is damaged; it is built again");
        segment.forget_summary();
    }
    Some((ids?, others?))
}

fn any(links: &[LinkTo<'_>], ids: &Filter, others: &Filter) -> bool {
    links.iter().any(|link| match link {
        LinkTo::Id(_) => ids.may_hold(link.hash()),
        _ => others.may_hold(link.hash()),
    })
}

/// Brings what is built of a segment up to what is written of it, and uses it.
pub(crate) fn with_builder<T>(segment: &Segment, use_it: impl FnOnce(&Builder) -> T) -> Result<T, LogError> {
    let to = segment.end();
    loop {
        let mut building = lock(&segment.building);
        let builder = building.get_or_insert_with(|| Box::new(Builder::new(segment)));
        if builder.end.at >= to {
            return Ok(use_it(builder));
        }
        builder.advance(segment, to, STEP)?;
    }
}

/// Takes everything of a full segment in and gives the bytes of its footer; none when `keep_on`, which is asked between
/// steps, says no.
pub(crate) fn build_footer(segment: &Segment, keep_on: &dyn Fn() -> bool) -> Result<Option<Vec<u8>>, LogError> {
    let to = segment.end();
    while keep_on() {
        let mut building = lock(&segment.building);
        let builder = building.get_or_insert_with(|| Box::new(Builder::new(segment)));
        if builder.end.at >= to {
            return Ok(Some(encode(segment, builder)));
        }
        builder.advance(segment, to, STEP)?;
    }
    Ok(None)
}
