//! Finding events without reading everything: what is known of a segment's content.
//!
//! Role: for each segment that is full a *footer*, kept in a file beside it, says where it ends, where topics occur and
//! which ids and links may be in it; for the others the same is built in memory as far as somebody needs it. Full
//! segments are never written to again, so a footer stays true for as long as its segment is there.
//!
//! Invariants:
//! - a footer is written only after everything in its segment is synced, so it proves that;
//! - a footer that is missing or damaged costs time and nothing else: it is built again;
//! - an index may say that something could be there when it is not, never the other way round;
//! - what is held in memory is bounded ([`Indexes`]).

mod builder;
mod filter;
mod footer;
mod load;

use std::collections::BTreeSet;

use busway_types::{EventId, Offset};

pub(crate) use builder::Builder;
pub(crate) use footer::{
    Found, Summary, encode as encode_footer, footer_name, footer_stem, read_summary, write_footer,
};
pub(crate) use load::{Indexes, Spans, build_footer, may_hold, with_builder};

use crate::wire::Reader;

/// By what an event is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkTo<'a> {
    /// The event with this id.
    Id(EventId),
    /// Events whose cause is this event.
    Cause(EventId),
    /// Events with this correlation.
    Correlation(&'a str),
}

/// In which blocks of a segment something may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hits {
    /// Any.
    All,
    /// These.
    Blocks(BTreeSet<u32>),
}

impl Hits {
    fn none() -> Self {
        Self::Blocks(BTreeSet::new())
    }

    /// Adds a topic's list of blocks: differences of numbers; an empty list stands for any block.
    fn add(&mut self, list: &[u8]) {
        let Self::Blocks(blocks) = self else { return };
        let mut reader = Reader::new(list);
        let mut block = 0_u32;
        while let Ok(step) = reader.u32() {
            block = block.saturating_add(step);
            blocks.insert(block);
        }
        if list.is_empty() {
            *self = Self::All;
        }
    }

    /// The parts of a segment to be read, in order: those of the blocks that have events from `from` on. Blocks side by
    /// side make one part.
    pub(crate) fn spans(&self, blocks: &[(Offset, u64)], from: Offset, end: u64) -> Vec<(u64, u64)> {
        let first = blocks.partition_point(|(offset, _)| *offset <= from).saturating_sub(1);
        let Some((_, begin)) = blocks.get(first) else { return Vec::new() };
        let Self::Blocks(numbers) = self else { return vec![(*begin, end)] };
        let mut spans: Vec<(u64, u64)> = Vec::new();
        for number in numbers.range(first as u32..) {
            let Some((_, at)) = blocks.get(*number as usize) else { break };
            let to = blocks.get(*number as usize + 1).map_or(end, |(_, next)| *next);
            match spans.last_mut() {
                Some(span) if span.1 == *at => span.1 = to,
                _ => spans.push((*at, to)),
            }
        }
        spans
    }
}
