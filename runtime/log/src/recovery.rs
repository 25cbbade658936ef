//! Opening a folder: from the bytes on disk to a state, or to a refusal.
//!
//! Rules:
//! - frames are followed from segment to segment until one is not intact or does not follow;
//! - if any frame that survived behind that place proves that more had been synced, the log is *damaged* and refused
//!   with file and offset, and nothing is changed;
//! - otherwise what lies behind was never acknowledged as synced and is *truncated*;
//! - what is kept but not proven to be synced is written again and synced before anybody relies on it: it may have been
//!   read from a cache that the disk never got;
//! - the state is that of the newest complete checkpoint plus all transactions after it.
//!
//! A segment with a good footer is full and synced: where it ends is taken from the footer, and it is read only as far as
//! the state needs it. Damage in one that is not read is found by whoever reads it, and then refused like any other. All
//! other segments are read completely, which finds damage and builds the index of events.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use busway_types::mutant;

use crate::checkpoint::{Assembly, SliceHeader};
use crate::codec::{decode_txn, kind};
use crate::error::{LogError, Position};
use crate::folder::Folder;
use crate::frame::Frame;
use crate::fs::{Fs, OpenMode};
use crate::index::{Found, Indexes, Summary, footer_name, read_summary};
use crate::log::LogPlace;
use crate::read::Source;
use crate::rotate::create_segment;
use crate::segment::{Segment, segment_name};
use crate::shared::Mark;
use crate::spare::Spares;
use crate::state::State;
use crate::view::{Overlay, View, flush};
use crate::walk::{WALK_PIECE, WalkEnd, malformed, remains, walk};
use crate::wire::Reader;

/// What recovery found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Segments found.
    pub segments: usize,
    /// Of these, how many were known by their footers and not read to find their end.
    pub trusted: usize,
    /// Bytes of records read.
    pub bytes: u64,
    /// Transactions found.
    pub transactions: u64,
    /// Transactions applied on top of the checkpoint.
    pub replayed: u64,
    /// The last transaction that the checkpoint covers; none when the log was replayed from its beginning.
    pub checkpoint: Option<u64>,
    /// What was cut off, if anything was.
    pub truncated: Option<Truncation>,
    /// Bytes written again because nothing proved them to be on the disk.
    pub rewritten: u64,
    /// How long it took.
    pub took: Duration,
}

/// What recovery cut off: writes that a crash interrupted. Nothing of it had been acknowledged as synced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Truncation {
    /// Which file.
    pub file: std::path::PathBuf,
    /// From where on.
    pub at: u64,
    /// How many bytes of remains, as far as they can be told.
    pub bytes: u64,
}

/// What the log goes on with.
#[derive(Debug)]
pub(crate) struct Recovery {
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) end: WalkEnd,
    pub(crate) state: State,
    pub(crate) mark: Option<Mark>,
    pub(crate) report: RecoveryReport,
}

/// What replay may collect in memory for the view.
const REPLAY_BYTES: usize = 16 * 1024 * 1024;

/// A checkpoint found in the log.
#[derive(Clone, Copy, Debug)]
struct Begun {
    /// The segment's place in the list, and the first slice's in the segment.
    first: (usize, u64),
    covers: u64,
    /// The index of the slice that comes next.
    next: u64,
}

#[derive(Debug, Default)]
struct Checkpoints {
    current: Option<Begun>,
    complete: Option<Begun>,
}

impl Checkpoints {
    fn see(&mut self, segment: usize, at: u64, header: SliceHeader) {
        let SliceHeader { covers, index, last } = header;
        if index == 0 {
            self.current = Some(Begun { first: (segment, at), covers, next: 0 });
        }
        match self.current.take() {
            Some(found) if found.covers == covers && found.next == index => {
                let found = Begun { next: index + 1, ..found };
                *(if last { &mut self.complete } else { &mut self.current }) = Some(found);
            }
            // Slices of a checkpoint whose beginning is gone.
            _ => {}
        }
    }
}

/// Reads a folder that is already ours.
pub(crate) fn recover(
    fs: &dyn Fs,
    place: &LogPlace<'_>,
    folder: &Folder,
    spares: &Spares,
    view: Option<&Arc<dyn View>>,
) -> Result<Recovery, LogError> {
    if folder.segments.is_empty() {
        return begin(fs, place, spares, view);
    }
    let open = |name: &String| Ok(Arc::new(Segment::open(fs, place.dir.join(name), OpenMode::Write)?));
    let mut segments = folder.segments.iter().map(open).collect::<Result<Vec<_>, LogError>>()?;
    let over = view.map(|view| Overlay::new(view.clone(), place.options.cache_bytes).map(Box::new)).transpose()?;
    let Examined { stop, end, state, mark, newest: _, mut report } = examine(fs, &segments, over)?;
    // From here on the folder is changed.
    for name in &folder.stray {
        let path = place.dir.join(name);
        fs.remove(&path).map_err(|e| LogError::io("removing", &path, e))?;
    }
    for segment in segments.drain(stop + 1..).rev() {
        fs.remove(&segment.path).map_err(|e| LogError::io("removing", &segment.path, e))?;
        fs.sync_dir(place.dir).map_err(|e| LogError::io("syncing", place.dir, e))?;
    }
    report.rewritten = rewrite(&segments, &end, report.truncated.is_some())?;
    Ok(Recovery { segments, end, state, mark, report })
}

/// What there is, without a change to anything.
#[derive(Debug)]
pub(crate) struct Examined {
    /// The segment in which the chain of frames ends, and how.
    stop: usize,
    end: WalkEnd,
    state: State,
    mark: Option<Mark>,
    /// The newest complete checkpoint, used or not.
    newest: Option<Begun>,
    pub(crate) report: RecoveryReport,
}

impl Examined {
    /// Why a view does not fit the log, if so.
    pub(crate) fn fits(&self, segments: &[Arc<Segment>], view: &Arc<dyn View>) -> Result<(), LogError> {
        usable_checkpoint(&segments[..=self.stop], self.newest, &self.end, Some(view)).map(|_| ())
    }
}

/// Finds out what recovery would go on with, or why it would not.
///
/// What is proven to be safe moves on into the view, if there is one, when it becomes too much to collect.
pub(crate) fn examine(
    fs: &dyn Fs,
    segments: &[Arc<Segment>],
    over: Option<Box<Overlay>>,
) -> Result<Examined, LogError> {
    let mut checkpoints = Checkpoints::default();
    let mut report = RecoveryReport { segments: segments.len(), ..RecoveryReport::default() };
    read_footers(fs, segments);
    let (stop, end) = follow(segments, &mut checkpoints, &mut report)?;
    report.truncated = look_behind(segments, stop, &end)?;
    let view = over.as_ref().map(|over| over.view().clone());
    let usable = usable_checkpoint(&segments[..=stop], checkpoints.complete, &end, view.as_ref())?;
    let begin = Begin { fs, found: usable, over, proven: end.proven };
    let state = replay(&segments[..=stop], begin, &mut report)?;
    let mark = usable.map(|found| Mark { covers: found.covers, epoch: segments[found.first.0].header.seal.epoch });
    Ok(Examined { stop, end, state, mark, newest: checkpoints.complete, report })
}

/// Takes in the footers that are good. What is not is as if it were missing: it is written again.
fn read_footers(fs: &dyn Fs, segments: &[Arc<Segment>]) {
    for segment in segments {
        match read_summary(fs, segment) {
            Found::Good(summary) => segment.set_summary(summary),
            Found::Missing => {}
            Found::Bad(_, why) => {
                tracing::warn!(file = %footer_name(&segment.path).display(), why, "a footer is of no use; it is written again");
            }
        }
    }
}

/// A new log.
fn begin(
    fs: &dyn Fs,
    place: &LogPlace<'_>,
    spares: &Spares,
    view: Option<&Arc<dyn View>>,
) -> Result<Recovery, LogError> {
    let options = place.options;
    let over = view.map(|view| Overlay::new(view.clone(), options.cache_bytes).map(Box::new)).transpose()?;
    let state = State { over, ..State::default() };
    let spare = spares.make_now(options.first_segment_bytes.min(options.segment_bytes))?;
    let first = Position { seq: 1, offset: 0 };
    let segment = create_segment(fs, place.dir, &spare, first, (1, options.seed), 0)?;
    let end = WalkEnd { at: segment.end(), chain: 0, next_seq: 1, next_offset: 0, proven: 0, txns: 0 };
    let report = RecoveryReport { segments: 1, ..RecoveryReport::default() };
    Ok(Recovery { segments: vec![Arc::new(segment)], end, state, mark: None, report })
}

/// Follows the chain of frames; gives the segment in which it ends and how.
fn follow(
    segments: &[Arc<Segment>],
    checkpoints: &mut Checkpoints,
    report: &mut RecoveryReport,
) -> Result<(usize, WalkEnd), LogError> {
    let mut proven = 0;
    let mut last = None;
    for (i, segment) in segments.iter().enumerate() {
        let size = segment.file.size().map_err(|e| segment.io("looking at", e))?;
        if let Some(summary) = segment.summary() {
            let next = segments.get(i + 1);
            check_footer(segment, next.map(|next| &**next), &summary, size)?;
            for slice in &summary.slices {
                checkpoints.see(i, slice.at, slice.header);
            }
            let end = summary.end;
            proven = end.proven.max(proven);
            report.trusted += 1;
            report.transactions += end.txns;
            segment.publish(end.at, end.next_seq, end.next_offset);
            last = Some((i, end));
            continue;
        }
        let mut end = walk(segment, size, &mut |frame| {
            if frame.kind() == kind::CHECKPOINT {
                let header = SliceHeader::take(&mut Reader::new(frame.body()));
                checkpoints.see(i, frame.at, header.map_err(|e| malformed(segment, frame, e))?);
            } else if frame.kind() == kind::TXN
                && let Some((first, _)) =
                    crate::codec::events_in(frame.body()).map_err(|e| malformed(segment, frame, e))?
            {
                segment.note(first, frame.at);
            }
            Ok(())
        })?;
        proven = end.proven.max(proven);
        end.proven = proven;
        report.transactions += end.txns;
        report.bytes += end.at;
        segment.publish(end.at, end.next_seq, end.next_offset);
        let follows = segments.get(i + 1).is_some_and(|next| {
            let h = &next.header;
            (h.first_seq, h.first_offset, h.chain) == (end.next_seq, end.next_offset, end.chain)
        });
        last = Some((i, end));
        if !follows {
            break;
        }
    }
    last.ok_or(LogError::Closed)
}

/// Whether what a footer says of a full segment can be: the file is long enough, and the next segment is there and
/// follows.
fn check_footer(segment: &Segment, next: Option<&Segment>, summary: &Summary, size: u64) -> Result<(), LogError> {
    let WalkEnd { at, chain, next_seq, next_offset, .. } = summary.end;
    if size < at {
        return Err(LogError::damaged(
            &segment.path,
            size,
            format!("it ends there, and {at} bytes were safely stored"),
        ));
    }
    match next.map(|next| &next.header) {
        Some(header) if (header.first_seq, header.first_offset, header.chain) == (next_seq, next_offset, chain) => {
            Ok(())
        }
        _ => {
            let path = segment.path.with_file_name(segment_name(next_seq));
            Err(LogError::damaged(&path, 0, "it is missing or does not follow the segment before it, which is full"))
        }
    }
}

/// Decides whether what lies behind the end of the chain is truncated or means damage.
fn look_behind(segments: &[Arc<Segment>], stop: usize, end: &WalkEnd) -> Result<Option<Truncation>, LogError> {
    let here = &segments[stop];
    let found = remains(here, end.at)?;
    let mut proven = end.proven.max(found.proven);
    let mut bytes = found.end.map_or(0, |to| to - end.at);
    for segment in &segments[stop + 1..] {
        if let Some(summary) = segment.summary() {
            proven = proven.max(summary.end.proven);
            continue;
        }
        let size = segment.file.size().map_err(|e| segment.io("looking at", e))?;
        let walked = walk(segment, size, &mut |_| Ok(()))?;
        proven = proven.max(walked.proven).max(remains(segment, walked.at)?.proven);
        bytes += walked.at;
    }
    if end.next_seq <= proven && !mutant("damage-cut-off") {
        let what =
            format!("record {} is missing or broken, and was safely stored (as all up to {proven})", end.next_seq);
        return Err(LogError::damaged(&here.path, end.at, what));
    }
    Ok((bytes > 0).then(|| Truncation { file: here.path.clone(), at: end.at, bytes }))
}

/// The checkpoint to begin with, if it fits the view.
fn usable_checkpoint(
    segments: &[Arc<Segment>],
    found: Option<Begun>,
    end: &WalkEnd,
    view: Option<&Arc<dyn View>>,
) -> Result<Option<Begun>, LogError> {
    let Some(view) = view else { return Ok(found) };
    let (applied, last) = (view.applied(), end.next_seq - 1);
    if applied > last {
        let what = format!("it has transaction {applied}, and the log ends with {last}: a part of the log is missing");
        return Err(view.damaged(&what));
    }
    let whole = segments[0].header.first_seq == 1;
    match found {
        Some(found) if found.covers <= applied => Ok(Some(found)),
        // A view that lags behind its checkpoint was put back or cut; with the whole log that does not matter.
        None | Some(_) if whole => Ok(None),
        Some(found) => {
            let covers = found.covers;
            Err(view.damaged(&format!("it ends with transaction {applied}, and the log needs it up to {covers}")))
        }
        None => Ok(None),
    }
}

/// What replay begins with.
struct Begin<'a> {
    fs: &'a dyn Fs,
    found: Option<Begun>,
    over: Option<Box<Overlay>>,
    /// All up to this transaction is proven to be synced.
    proven: u64,
}

/// The state after the last transaction.
fn replay(segments: &[Arc<Segment>], begin: Begin<'_>, report: &mut RecoveryReport) -> Result<State, LogError> {
    let Begin { fs, found, over, proven } = begin;
    let (indexes, head) = (Indexes::default(), segments.last().map_or(0, |s| s.next_offset()));
    let first = &segments[0];
    let mut state = match found {
        Some(found) => {
            report.checkpoint = Some(found.covers);
            assemble(segments, found)?
        }
        None => State::default(),
    };
    if first.header.first_seq > state.next_seq {
        let what = "the records before it were released and no complete checkpoint is left";
        return Err(LogError::damaged(&first.path, 0, what));
    }
    state.put_over(over);
    for segment in segments.iter().filter(|s| s.next_seq() > state.next_seq).collect::<Vec<_>>() {
        walk_all(segment, &mut |frame| {
            let stale = found.is_some() && mutant("stale-checkpoint-accepted");
            if frame.kind() == kind::TXN && frame.header.seq >= state.next_seq && !stale {
                let txn = decode_txn(frame.body(), frame.header.seq, state.next_offset);
                let txn = txn.map_err(|e| malformed(segment, frame, e))?;
                state.load(&txn)?;
                state.apply(&txn);
                report.replayed += 1;
                if state.waiting_bytes() > REPLAY_BYTES && frame.header.seq <= proven {
                    let source = Source { fs, indexes: &indexes, segments };
                    flush(&mut state, &|offsets| source.fetch(head, offsets))?;
                }
            }
            Ok(())
        })?;
    }
    Ok(state)
}

/// Walks along all frames of a segment whose end is known.
fn walk_all(segment: &Segment, visit: &mut dyn FnMut(&Frame) -> Result<(), LogError>) -> Result<(), LogError> {
    let end = walk(segment, segment.end(), visit)?;
    if end.at == segment.end() {
        return Ok(());
    }
    let what = format!("record {} is missing or broken, and was safely stored", end.next_seq);
    Err(LogError::damaged(&segment.path, end.at, what))
}

fn assemble(segments: &[Arc<Segment>], found: Begun) -> Result<State, LogError> {
    let mut assembly = Assembly::new(found.covers);
    let (from, at) = found.first;
    let mut next = 0;
    for (i, segment) in segments.iter().enumerate().skip(from) {
        walk_all(segment, &mut |frame: &Frame| {
            if frame.kind() == kind::CHECKPOINT && next < found.next && (i > from || frame.at >= at) {
                let mut body = Reader::new(frame.body());
                let added = SliceHeader::take(&mut body).and_then(|_| assembly.add(body));
                added.map_err(|e| malformed(segment, frame, e))?;
                next += 1;
            }
            Ok(())
        })?;
        if next == found.next {
            break;
        }
    }
    Ok(assembly.finish())
}

/// Writes again what is not proven to be synced, and zeros over what was truncated.
fn rewrite(segments: &[Arc<Segment>], end: &WalkEnd, truncated: bool) -> Result<u64, LogError> {
    let mut rewritten = 0;
    let last = segments.len() - 1;
    for (i, segment) in segments.iter().enumerate() {
        // What follows the last transaction in a segment is proven by nothing, unless a later segment was begun, which
        // happens only after a sync; but that does not hold when syncs are turned off.
        if i < last && (segment.next_seq() <= end.proven + 1 || segment.summary().is_some()) {
            segment.settled.store(true, Ordering::Release);
            continue;
        }
        let mut from = crate::segment::HEADER_BYTES as u64;
        walk(segment, segment.end(), &mut |frame| {
            if frame.kind() == kind::TXN && frame.header.seq <= end.proven {
                from = frame.end();
            }
            Ok(())
        })?;
        let to = segment.end();
        if !mutant("unproven-tail-not-rewritten") {
            copy_onto_itself(segment, from, to)?;
        }
        rewritten += to - from;
        if i == last && truncated {
            blank(segment, to)?;
        }
        segment.file.sync_data().map_err(|e| segment.io("syncing", e))?;
        segment.settled.store(i < last, Ordering::Release);
    }
    Ok(rewritten)
}

fn copy_onto_itself(segment: &Segment, from: u64, to: u64) -> Result<(), LogError> {
    let mut buffer = vec![0; WALK_PIECE.min((to - from) as usize)];
    let mut at = from;
    while at < to {
        let piece = &mut buffer[..((to - at) as usize).min(WALK_PIECE)];
        segment.file.read_at(piece, at).map_err(|e| segment.io("reading", e))?;
        segment.file.write_all_at(piece, at).map_err(|e| segment.io("writing", e))?;
        at += piece.len() as u64;
    }
    Ok(())
}

/// Zeros from `from` to the end of the file, where there are no zeros yet.
fn blank(segment: &Segment, from: u64) -> Result<(), LogError> {
    let size = segment.file.size().map_err(|e| segment.io("looking at", e))?;
    let zeros = vec![0; WALK_PIECE];
    let mut buffer = vec![0; WALK_PIECE];
    let mut at = from;
    while at < size {
        let piece = &mut buffer[..((size - at) as usize).min(WALK_PIECE)];
        segment.file.read_at(piece, at).map_err(|e| segment.io("reading", e))?;
        if piece != &zeros[..piece.len()] {
            segment.file.write_all_at(&zeros[..piece.len()], at).map_err(|e| segment.io("writing", e))?;
        }
        at += piece.len() as u64;
    }
    Ok(())
}
