//! Checkpoints: a whole [`State`] in slices of bounded size.
//!
//! Role: the encoding of slices, and the putting together of slices that were read. The thread that makes them
//! (`view::run`) keeps a copy of the state (payloads shared with the node's) and applies to it what the committer has written,
//! so that a checkpoint is exactly the state after one transaction and the committer never waits for one: it writes the
//! slices between groups. What a view has is not in them. Slices lie in the log in order, possibly with other records between them.
//!
//! A slice is a body of its own kind: the number of the last transaction covered, the slice's index, whether it is the
//! last, then sections. A section's items go on in the next slice under the same tag and prefix.

use std::collections::VecDeque;

use busway_types::{SubId, mutant};

use crate::codec::{
    TopicCache, begin_section, end_section, kind, next_section, put_dead, put_event, put_id, put_parked, put_run,
    put_settings, put_time, tag, take_dead, take_event, take_id, take_parked, take_run, take_settings, take_time,
};
use crate::seen::Bucket;
use crate::state::{KvSpace, Progress, State, SubState};
use crate::txn::Txn;
use crate::wire::{Malformed, Reader, put_bytes, put_u64};

/// A slice is closed once it is this long.
const SLICE_BYTES: usize = 256 * 1024;

/// What the committer tells the thread.
#[derive(Debug)]
pub(crate) enum Feed {
    /// These were written.
    Written(Vec<Txn>),
    /// Make a checkpoint now.
    Checkpoint,
}

/// A checkpoint on its way into the log.
#[derive(Debug, Default)]
pub(crate) struct Slices {
    /// The number of the last transaction that it covers.
    pub(crate) covers: u64,
    /// The slices that are not yet written, as bodies.
    pub(crate) left: VecDeque<Vec<u8>>,
}

/// What stands before a slice's sections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SliceHeader {
    /// The number of the last transaction that the checkpoint covers.
    pub(crate) covers: u64,
    /// The slice's place, from 0.
    pub(crate) index: u64,
    /// Whether it is the last.
    pub(crate) last: bool,
}

impl SliceHeader {
    /// Reads the header of a slice's body (without its kind) and leaves the sections.
    pub(crate) fn take(body: &mut Reader<'_>) -> Result<Self, Malformed> {
        Ok(Self { last: body.u8()? != 0, covers: body.u64()?, index: body.u64()? })
    }
}

struct Writer {
    covers: u64,
    done: VecDeque<Vec<u8>>,
    current: Vec<u8>,
    limit: usize,
}

impl Writer {
    fn begin_slice(&mut self) {
        self.current.push(kind::CHECKPOINT);
        self.current.push(0);
        put_u64(&mut self.current, self.covers);
        put_u64(&mut self.current, self.done.len() as u64);
    }

    fn end_slice(&mut self) {
        self.done.push_back(std::mem::take(&mut self.current));
    }

    /// Appends a section, split over as many slices as needed; none when there are no items.
    fn section<T>(
        &mut self,
        tag: u8,
        prefix: impl Fn(&mut Vec<u8>),
        items: impl Iterator<Item = T>,
        mut put: impl FnMut(&mut Vec<u8>, T),
    ) {
        let mut start = None;
        for item in items {
            if self.current.len() >= self.limit {
                if let Some(start) = start.take() {
                    end_section(&mut self.current, start);
                }
                self.end_slice();
                self.begin_slice();
            }
            if start.is_none() {
                start = Some(begin_section(&mut self.current, tag));
                prefix(&mut self.current);
            }
            put(&mut self.current, item);
        }
        if let Some(start) = start {
            end_section(&mut self.current, start);
        }
    }
}

/// The slices of a checkpoint of `state`.
pub(crate) fn slices(state: &State) -> Slices {
    slices_of(state, SLICE_BYTES)
}

fn slices_of(state: &State, limit: usize) -> Slices {
    let State { next_seq, next_offset, next_sub, next_timer, subs, kv, delayed, delayed_bytes: _, seen, over: _ } =
        state;
    let covers = next_seq - 1;
    let mut w = Writer { covers, done: VecDeque::new(), current: Vec::new(), limit };
    w.begin_slice();
    let counters = [*next_offset, u64::from(*next_sub), *next_timer];
    w.section(
        tag::COUNTERS,
        |_| {},
        std::iter::once(counters),
        |out, counters| {
            for counter in counters {
                put_u64(out, counter);
            }
        },
    );
    for (id, sub) in subs {
        put_sub(&mut w, *id, sub);
    }
    for (service, KvSpace { entries, bytes: _ }) in kv {
        let prefix = |out: &mut Vec<u8>| put_bytes(out, service.as_str().as_bytes());
        w.section(tag::KV_ENTRIES, prefix, entries.iter(), |out, (key, entry)| {
            put_bytes(out, key.as_bytes());
            put_u64(out, entry.version);
            put_bytes(out, &entry.value);
        });
    }
    w.section(
        tag::TIMERS,
        |_| {},
        delayed.iter(),
        |out, (timer, event)| {
            put_u64(out, *timer);
            put_event(out, event);
        },
    );
    for (number, bucket) in seen.buckets.iter().enumerate().filter(|_| !mutant("dedup-window-lost")) {
        let prefix = |out: &mut Vec<u8>| {
            put_u64(out, number as u64);
            put_time(out, bucket.since);
            put_time(out, bucket.until);
        };
        w.section(tag::SEEN, prefix, bucket.iter(), put_id);
    }
    w.end_slice();
    if let Some(last) = w.done.back_mut() {
        last[1] = 1;
    }
    Slices { covers, left: w.done }
}

fn put_sub(w: &mut Writer, id: SubId, sub: &SubState) {
    let SubState { name, service, detached_since, began, generation, settings, progress } = sub;
    let Progress { cursor, settled, parked, dead } = progress;
    let prefix = |out: &mut Vec<u8>| put_u64(out, u64::from(id.0));
    w.section(tag::SUB, prefix, std::iter::once(()), |out, ()| {
        put_bytes(out, name.as_bytes());
        put_bytes(out, service.as_str().as_bytes());
        put_u64(out, *cursor);
        out.push(u8::from(detached_since.is_some()));
        put_time(out, detached_since.unwrap_or_default());
    });
    w.section(tag::SUB_MOVES, prefix, std::iter::once(()), |out, ()| {
        put_u64(out, *began);
        put_u64(out, if mutant("generation-not-durable") { 0 } else { u64::from(*generation) });
    });
    w.section(tag::SUB_SETTINGS, prefix, settings.iter(), |out, settings| put_settings(out, settings));
    // Each run stands for itself, because the next one may begin another slice.
    w.section(tag::SETTLED, prefix, settled.runs(), |out, run| put_run(out, 0, run));
    w.section(tag::PARKED, prefix, parked.values(), put_parked);
    w.section(tag::DEAD, prefix, dead.values(), put_dead);
}

const TOO_EARLY: Malformed = Malformed::Invalid("a checkpoint names a subscription too early");

/// Puts slices together.
#[derive(Debug)]
pub(crate) struct Assembly {
    state: State,
    topics: TopicCache,
}

impl Assembly {
    /// Begins a checkpoint that covers this transaction.
    pub(crate) fn new(covers: u64) -> Self {
        Self { state: State { next_seq: covers.saturating_add(1), ..State::default() }, topics: TopicCache::default() }
    }

    /// Takes the sections of the next slice in.
    pub(crate) fn add(&mut self, mut sections: Reader<'_>) -> Result<(), Malformed> {
        while let Some((tag, content)) = next_section(&mut sections)? {
            self.section(tag, content)?;
        }
        Ok(())
    }

    /// The state, once all slices are in.
    pub(crate) fn finish(self) -> State {
        self.state
    }

    fn section(&mut self, tag: u8, mut r: Reader<'_>) -> Result<(), Malformed> {
        match tag {
            tag::COUNTERS => {
                self.state.next_offset = r.u64()?;
                self.state.next_sub = r.u32()?;
                self.state.next_timer = r.u64()?;
            }
            tag::SUB => {
                let id = SubId(r.u32()?);
                let (name, service) = (r.text()?.to_owned(), r.text()?.parse());
                let service = service.map_err(|_| Malformed::Invalid("a service name is malformed"))?;
                let progress = Progress { cursor: r.u64()?, ..Progress::default() };
                let detached = r.u8()? != 0;
                let since = take_time(&mut r)?;
                let detached_since = detached.then_some(since);
                let (began, generation) = (progress.cursor, 0);
                let settings = None;
                let sub = SubState { name, service, detached_since, began, generation, settings, progress };
                self.state.subs.insert(id, sub);
            }
            tag::SUB_MOVES => {
                let sub = self.state.subs.get_mut(&SubId(r.u32()?)).ok_or(TOO_EARLY)?;
                (sub.began, sub.generation) = (r.u64()?, r.u32()?);
            }
            tag::SUB_SETTINGS => {
                let sub = self.state.subs.get_mut(&SubId(r.u32()?)).ok_or(TOO_EARLY)?;
                sub.settings = Some(Box::new(take_settings(&mut r)?));
            }
            tag::KV_ENTRIES => {
                let service = r.text()?.parse().map_err(|_| Malformed::Invalid("a service name is malformed"))?;
                let space = self.state.kv.entry(service).or_default();
                while !r.is_empty() {
                    let (key, version) = (r.text()?, r.u64()?);
                    space.set(key, r.payload()?, version);
                }
            }
            tag::TIMERS => {
                while !r.is_empty() {
                    let timer = r.u64()?;
                    let event = take_event(&mut r, &mut self.topics)?;
                    // The counter of timers is above every timer already.
                    let next = self.state.next_timer;
                    self.state.delay(timer, event.into());
                    self.state.next_timer = next;
                }
            }
            tag::SEEN => self.seen(r)?,
            tag::SETTLED | tag::PARKED | tag::DEAD => self.progress(tag, r)?,
            other => return Err(Malformed::Unknown("checkpoint section", u64::from(other))),
        }
        Ok(())
    }

    fn seen(&mut self, mut r: Reader<'_>) -> Result<(), Malformed> {
        let number = r.u64()?;
        let bucket = Bucket::new(take_time(&mut r)?, take_time(&mut r)?);
        let buckets = &mut self.state.seen.buckets;
        if number == buckets.len() as u64 {
            buckets.push_back(bucket);
        }
        let going_on = buckets.len() as u64 == number.wrapping_add(1);
        let bucket = buckets.back_mut().filter(|_| going_on).ok_or(Malformed::Invalid("a bucket of ids is missing"))?;
        while !r.is_empty() {
            let (id, offset) = take_id(&mut r)?;
            bucket.insert(id, offset);
        }
        Ok(())
    }

    fn progress(&mut self, tag: u8, mut r: Reader<'_>) -> Result<(), Malformed> {
        let sub = self.state.subs.get_mut(&SubId(r.u32()?));
        let progress = &mut sub.ok_or(TOO_EARLY)?.progress;
        while !r.is_empty() {
            match tag {
                tag::SETTLED => {
                    let (start, end) = take_run(&mut r, 0)?;
                    progress.settled.insert_run(start, end);
                }
                tag::PARKED => {
                    let parked = take_parked(&mut r)?;
                    progress.parked.insert(parked.offset, parked);
                }
                _ => {
                    let letter = take_dead(&mut r)?;
                    progress.dead.insert(letter.offset, letter);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::arbitrary;
    use proptest::prelude::*;

    fn read_back(slices: &Slices) -> State {
        let mut assembly = Assembly::new(slices.covers);
        for (i, body) in slices.left.iter().enumerate() {
            assert_eq!(body[0], kind::CHECKPOINT);
            let mut reader = Reader::new(&body[1..]);
            let header = SliceHeader::take(&mut reader).expect("a header");
            let last = i + 1 == slices.left.len();
            assert_eq!(header, SliceHeader { covers: slices.covers, index: i as u64, last });
            assembly.add(reader).expect("a good slice");
        }
        assembly.finish()
    }

    proptest! {
        #[test]
        fn states_survive_their_slices(txns in arbitrary::history(30), limit in 20_usize..400) {
            let mut state = State::default();
            for txn in &txns {
                state.apply(txn);
            }
            prop_assert_eq!(read_back(&slices_of(&state, limit)), state.clone());
            prop_assert_eq!(slices(&state).left.len(), 1);
        }

        #[test]
        fn garbage_slices_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Assembly::new(1).add(Reader::new(&bytes));
        }
    }
}
