//! The record format: what the bytes inside a frame mean.
//!
//! A body is a kind byte and then sections: a tag byte, a length of four bytes, the content. Events come first, so that
//! a scan finds their offsets without reading the rest. Growth happens by new kinds, new tags and new bits of an
//! event's flags; whoever meets one that it does not know refuses the file and never guesses.

mod event;
mod ids;
mod parts;
mod settings;
mod txn;

pub(crate) use event::{EventReader, Peek, TopicCache, put_event, take_event};
pub(crate) use ids::{put_id, take_id};
pub(crate) use parts::{put_dead, put_parked, put_run, put_time, take_dead, take_parked, take_run, take_time};
pub(crate) use settings::{put_ordering, put_settings, take_ordering, take_settings};
pub(crate) use txn::{decode_txn, encode_txn, events_in, put_op, settlement_in, take_op};

use crate::wire::{Malformed, Reader, begin_length, end_length};

/// Kinds of body.
pub(crate) mod kind {
    /// A transaction.
    pub(crate) const TXN: u8 = 1;
    /// Nothing but the frame, for its proof of what is synced.
    pub(crate) const SEAL: u8 = 2;
    /// A part of a checkpoint.
    pub(crate) const CHECKPOINT: u8 = 3;
}

/// Tags of sections. One space for transactions and checkpoints.
pub(crate) mod tag {
    pub(crate) const EVENTS: u8 = 1;
    pub(crate) const SETTLEMENT: u8 = 2;
    pub(crate) const KV: u8 = 3;
    pub(crate) const DELAYED: u8 = 4;
    pub(crate) const FIRED: u8 = 5;
    pub(crate) const SUBS: u8 = 6;
    pub(crate) const IDS: u8 = 7;
    /// Of the settlement in front of it.
    pub(crate) const SETTLED_AT: u8 = 8;
    pub(crate) const LAPSED: u8 = 9;
    pub(crate) const COUNTERS: u8 = 16;
    pub(crate) const SUB: u8 = 17;
    pub(crate) const SETTLED: u8 = 18;
    pub(crate) const PARKED: u8 = 19;
    pub(crate) const DEAD: u8 = 20;
    pub(crate) const KV_ENTRIES: u8 = 21;
    pub(crate) const TIMERS: u8 = 22;
    pub(crate) const SEEN: u8 = 23;
    pub(crate) const SUB_MOVES: u8 = 30;
    pub(crate) const SUB_SETTINGS: u8 = 31;
}

/// Begins a section; to be given to [`end_section`].
pub(crate) fn begin_section(out: &mut Vec<u8>, tag: u8) -> usize {
    out.push(tag);
    begin_length(out)
}

/// Ends a section.
pub(crate) fn end_section(out: &mut [u8], start: usize) {
    end_length(out, start);
}

/// The next section of a body.
pub(crate) fn next_section<'a>(body: &mut Reader<'a>) -> Result<Option<(u8, Reader<'a>)>, Malformed> {
    if body.is_empty() {
        return Ok(None);
    }
    Ok(Some((body.u8()?, body.part()?)))
}
