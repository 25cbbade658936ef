//! One segment: a file of frames, named by the number of its first transaction.
//!
//! The file is filled with zeros, or with what it held before it was recycled, before it is used; the header is synced
//! before the file gets its name, so a file called `*.seg` always has one. A segment knows where its frames end
//! (`end`, published after the write) and, sparsely, where events lie. Readers take any number of references; the
//! file is overwritten only when nobody but the list of segments had one.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use busway_types::Offset;

use crate::error::LogError;
use crate::frame::Seal;
use crate::fs::{Fs, FsFile, OpenMode};
use crate::index::{Builder, Summary};
use crate::lock;

/// The on-disk format that this version reads and writes.
pub(crate) const FORMAT: u32 = 1;

/// Bytes of a segment's header; the first frame follows.
pub(crate) const HEADER_BYTES: usize = 64;

/// About how many bytes lie between two entries of a segment's index.
pub(crate) const INDEX_EVERY: u64 = 8 * 1024;

const MAGIC: &[u8; 8] = b"BUSWAYSG";

/// What a segment begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    /// Its epoch, which grows from segment to segment, and its salt.
    pub(crate) seal: Seal,
    /// The number of its first transaction.
    pub(crate) first_seq: u64,
    /// The offset of its first event.
    pub(crate) first_offset: Offset,
    /// The checksum of the last frame of the segment before it.
    pub(crate) chain: u32,
    /// Bytes that the file was prepared for.
    pub(crate) capacity: u64,
}

impl SegmentHeader {
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut out = [0; HEADER_BYTES];
        let Self { seal, first_seq, first_offset, chain, capacity } = self;
        out[..8].copy_from_slice(MAGIC);
        out[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        out[12..16].copy_from_slice(&seal.epoch.to_le_bytes());
        out[16..24].copy_from_slice(&first_seq.to_le_bytes());
        out[24..32].copy_from_slice(&first_offset.to_le_bytes());
        out[32..36].copy_from_slice(&seal.salt.to_le_bytes());
        out[36..40].copy_from_slice(&chain.to_le_bytes());
        out[40..48].copy_from_slice(&capacity.to_le_bytes());
        let crc = crc32c::crc32c(&out[..60]);
        out[60..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(path: &Path, bytes: &[u8]) -> Result<Self, LogError> {
        let (Some(bytes), Some(MAGIC)) = (bytes.first_chunk::<HEADER_BYTES>(), bytes.first_chunk::<8>()) else {
            return Err(LogError::damaged(path, 0, "it does not begin like a segment"));
        };
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        // The checksum comes first: a flipped bit in the version is damage, not another version.
        if crc32c::crc32c(&bytes[..60]) != u32_at(60) {
            return Err(LogError::damaged(path, 0, "the header's checksum is wrong"));
        }
        if u32_at(8) != FORMAT {
            return Err(LogError::Version { file: path.to_owned(), found: u32_at(8).to_string(), supported: FORMAT });
        }
        if u64_at(16) == 0 {
            return Err(LogError::damaged(path, 16, "records are numbered from 1"));
        }
        Ok(Self {
            seal: Seal { epoch: u32_at(12), salt: u32_at(32) },
            first_seq: u64_at(16),
            first_offset: u64_at(24),
            chain: u32_at(36),
            capacity: u64_at(40),
        })
    }
}

/// The name of the segment that begins with this transaction.
pub(crate) fn segment_name(first_seq: u64) -> String {
    format!("{first_seq:020}.seg")
}

/// An open segment.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn FsFile>,
    pub(crate) header: SegmentHeader,
    /// Where the frames end. Everything before it can be read.
    end: AtomicU64,
    /// The number after its last transaction.
    next_seq: AtomicU64,
    /// The offset after its last event.
    next_offset: AtomicU64,
    /// Whether nothing will be written any more and all that was is synced.
    pub(crate) settled: AtomicBool,
    /// Offset of the first event in a frame, and where the frame begins; both ascending. None once the footer has it.
    index: Mutex<Option<Vec<(Offset, u64)>>>,
    /// What is built of the footer so far, as long as there is none.
    pub(crate) building: Mutex<Option<Box<Builder>>>,
    /// What the footer says, once there is one.
    summary: RwLock<Option<Arc<Summary>>>,
}

impl Segment {
    pub(crate) fn new(path: PathBuf, file: Arc<dyn FsFile>, header: SegmentHeader) -> Self {
        Self {
            path,
            file,
            header,
            end: AtomicU64::new(HEADER_BYTES as u64),
            next_seq: AtomicU64::new(header.first_seq),
            next_offset: AtomicU64::new(header.first_offset),
            settled: AtomicBool::new(false),
            index: Mutex::new(Some(Vec::new())),
            building: Mutex::default(),
            summary: RwLock::default(),
        }
    }

    /// Opens an existing segment and reads its header.
    pub(crate) fn open(fs: &dyn Fs, path: PathBuf, mode: OpenMode) -> Result<Self, LogError> {
        let file = fs.open(&path, mode).map_err(|e| LogError::io("opening", &path, e))?;
        let mut bytes = [0; HEADER_BYTES];
        let read = file.read_at(&mut bytes, 0).map_err(|e| LogError::io("reading", &path, e))?;
        let header = SegmentHeader::decode(&path, &bytes[..read])?;
        Ok(Self::new(path, file, header))
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn next_seq(&self) -> u64 {
        self.next_seq.load(Ordering::Acquire)
    }

    pub(crate) fn next_offset(&self) -> Offset {
        self.next_offset.load(Ordering::Acquire)
    }

    /// Makes what was written up to `end` visible to readers.
    pub(crate) fn publish(&self, end: u64, next_seq: u64, next_offset: Offset) {
        self.next_seq.store(next_seq, Ordering::Release);
        self.end.store(end, Ordering::Release);
        self.next_offset.store(next_offset, Ordering::Release);
    }

    /// Notes that the frame at `at` has events from `offset` on; keeps about one note in [`INDEX_EVERY`] bytes.
    pub(crate) fn note(&self, offset: Offset, at: u64) {
        if let Some(index) = &mut *lock(&self.index)
            && index.last().is_none_or(|(_, last)| at >= last + INDEX_EVERY)
        {
            index.push((offset, at));
        }
    }

    /// Where to begin looking for the event at `offset`; none when the footer has to be asked.
    pub(crate) fn seek(&self, offset: Offset) -> Option<u64> {
        let index = lock(&self.index);
        let index = index.as_ref()?;
        Some(match index.partition_point(|(first, _)| *first <= offset) {
            0 => HEADER_BYTES as u64,
            n => index[n - 1].1,
        })
    }

    /// What the footer says, if there is one.
    pub(crate) fn summary(&self) -> Option<Arc<Summary>> {
        self.summary.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Takes the footer of this full segment in; what was held instead of it is let go.
    pub(crate) fn set_summary(&self, summary: Summary) {
        *self.summary.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(summary));
        *lock(&self.building) = None;
        *lock(&self.index) = None;
    }

    /// The footer is of no use any more.
    pub(crate) fn forget_summary(&self) {
        *self.summary.write().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// As an error about this file.
    pub(crate) fn io(&self, action: &'static str, cause: std::io::Error) -> LogError {
        LogError::io(action, &self.path, cause)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader =
        SegmentHeader { seal: Seal { epoch: 3, salt: 9 }, first_seq: 17, first_offset: 4, chain: 5, capacity: 4096 };

    #[test]
    fn headers_survive_their_bytes_and_any_flipped_bit_is_noticed() {
        let path = Path::new("x.seg");
        let bytes = HEADER.encode();
        assert_eq!(SegmentHeader::decode(path, &bytes).expect("intact"), HEADER);
        for at in 0..bytes.len() * 8 {
            let mut bad = bytes;
            bad[at / 8] ^= 1 << (at % 8);
            assert!(matches!(SegmentHeader::decode(path, &bad), Err(LogError::Damaged { .. })), "bit {at}");
        }
    }

    #[test]
    fn a_newer_format_is_refused_by_name() {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..60]);
        bytes[60..].copy_from_slice(&crc.to_le_bytes());
        let error = SegmentHeader::decode(Path::new("x.seg"), &bytes).expect_err("refused");
        assert_eq!(
            error.to_string(),
            "x.seg is of format 2, and this version of busway reads format 1; use the version that wrote it, or choose \
             another folder with --data"
        );
    }
}
