//! Making a segment out of a spare file, and giving segments back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use busway_types::{Entropy, Offset, SplitMix};

use crate::error::{LogError, Position};
use crate::frame::Seal;
use crate::fs::Fs;
use crate::lock;
use crate::options::Durability;
use crate::segment::{HEADER_BYTES, Segment, SegmentHeader, segment_name};
use crate::shared::Shared;
use crate::spare::Spare;

/// Makes a segment: the header is synced before the file gets its name, and the name before anything is written to it.
pub(crate) fn create_segment(
    fs: &dyn Fs,
    dir: &Path,
    spare: Spare,
    first: Position,
    (epoch, seed): (u32, u64),
    chain: u32,
) -> Result<Segment, LogError> {
    let salt = SplitMix(seed ^ u64::from(epoch).rotate_left(32)).next_u64() as u32;
    let header = SegmentHeader {
        seal: Seal { epoch, salt },
        first_seq: first.seq,
        first_offset: first.offset,
        chain,
        capacity: spare.capacity.max(HEADER_BYTES as u64),
    };
    spare.file.write_all_at(&header.encode(), 0).map_err(|e| LogError::io("writing", &spare.path, e))?;
    spare.file.sync_data().map_err(|e| LogError::io("syncing", &spare.path, e))?;
    let path = dir.join(segment_name(first.seq));
    fs.rename(&spare.path, &path).map_err(|e| LogError::io("renaming", &spare.path, e))?;
    fs.sync_dir(dir).map_err(|e| LogError::io("syncing", dir, e))?;
    Ok(Segment::new(path, spare.file, header))
}

/// Gives whole segments back whose events are all below `offset` and that no replay needs.
pub(crate) fn release_before(shared: &Shared, offset: Offset) -> Result<(), LogError> {
    let Some(mark) = *lock(&shared.checkpoint) else { return Ok(()) };
    let free = |segments: &[Arc<Segment>]| {
        let needless = |s: &Segment| {
            s.header.seal.epoch < mark.epoch && s.next_seq() <= mark.covers + 1 && s.next_offset() <= offset
        };
        // The last segment is the one being written.
        segments.iter().take(segments.len() - 1).take_while(|s| needless(s)).count()
    };
    if free(&shared.segments()) == 0 {
        return Ok(());
    }
    if shared.options.durability == Durability::Memory {
        sync_all(shared)?;
    }
    let released: Vec<Arc<Segment>> = {
        let mut segments = shared.segments_mut();
        let count = free(&segments);
        segments.drain(..count).collect()
    };
    for segment in released {
        let path = segment.path.clone();
        let whole = segment.file.size().map_err(|e| segment.io("looking at", e))?;
        // With another reference somebody is reading, and the file must keep its content.
        let file = Arc::into_inner(segment).map(|s| s.file).filter(|_| whole >= shared.options.segment_bytes);
        shared.spares.give_back(&path, file, whole)?;
        // One after the other, so that a crash cannot leave a gap.
        shared.fs.sync_dir(&shared.dir).map_err(|e| LogError::io("syncing", &shared.dir, e))?;
    }
    Ok(())
}

/// What a checkpoint stands for must not be given back before everything kept is safe.
fn sync_all(shared: &Shared) -> Result<(), LogError> {
    let segments = shared.segments().clone();
    for segment in segments.iter().filter(|s| !s.settled.load(Ordering::Acquire)) {
        if let Err(error) = segment.file.sync_data() {
            let error = segment.io("syncing", error);
            shared.fail(&error);
            return Err(error);
        }
    }
    // All but the last are never written to again.
    for segment in segments.iter().rev().skip(1) {
        segment.settled.store(true, Ordering::Release);
    }
    Ok(())
}
