//! Making a segment out of a spare file.

use std::path::Path;

use busway_types::{Entropy, SplitMix, mutant};

use crate::error::{LogError, Position};
use crate::frame::Seal;
use crate::fs::Fs;
use crate::segment::{HEADER_BYTES, Segment, SegmentHeader, segment_name};
use crate::spare::Spare;

/// Makes a segment: the header is synced before the file gets its name, and the name before anything is written to it.
pub(crate) fn create_segment(
    fs: &dyn Fs,
    dir: &Path,
    spare: &Spare,
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
    if !mutant("folder-not-synced") {
        fs.sync_dir(dir).map_err(|e| LogError::io("syncing", dir, e))?;
    }
    Ok(Segment::new(path, spare.file.clone(), header))
}
