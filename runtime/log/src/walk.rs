//! Reading the frames of a segment one after the other.
//!
//! Role: the buffered reader that everything else reads through, the walk along a chain of frames, and the search for
//! frames that survived behind a damaged one. Nothing here changes a file.

use std::io;

use bytes::Bytes;

use crate::codec::{events_in, kind};
use crate::error::LogError;
use crate::frame::{FRAME_BYTES, Frame, FrameHeader, intact};
use crate::fs::FsFile;
use crate::segment::{HEADER_BYTES, Segment};
use crate::wire::Malformed;

/// Reads a file in pieces of a fixed size, larger only where one frame is.
#[derive(Debug)]
pub(crate) struct Pieces<'a> {
    file: &'a dyn FsFile,
    limit: u64,
    piece: usize,
    buffer: Bytes,
    at: u64,
}

impl<'a> Pieces<'a> {
    /// Reads nothing at or behind `limit`.
    pub(crate) fn new(file: &'a dyn FsFile, limit: u64, piece: usize) -> Self {
        Self { file, limit, piece, buffer: Bytes::new(), at: 0 }
    }

    /// Exactly these bytes, or none when they are not all there.
    pub(crate) fn get(&mut self, at: u64, bytes: usize) -> io::Result<Option<Bytes>> {
        if bytes as u64 > self.limit.saturating_sub(at) {
            return Ok(None);
        }
        let held = at >= self.at && at + bytes as u64 <= self.at + self.buffer.len() as u64;
        if !held {
            let wanted = (bytes.max(self.piece) as u64).min(self.limit - at);
            let mut buffer = vec![0; usize::try_from(wanted).map_err(|_| io::ErrorKind::OutOfMemory)?];
            let read = self.file.read_at(&mut buffer, at)?;
            buffer.truncate(read);
            self.buffer = buffer.into();
            self.at = at;
            if read < bytes {
                return Ok(None);
            }
        }
        let start = (at - self.at) as usize;
        Ok(Some(self.buffer.slice(start..start + bytes)))
    }

    /// The buffer in which what [`Self::get`] gave last lies.
    pub(crate) fn buffer(&self) -> &Bytes {
        &self.buffer
    }

    /// The header at `at`, if there are bytes for one.
    pub(crate) fn header(&mut self, at: u64) -> io::Result<Option<FrameHeader>> {
        let bytes = self.get(at, FRAME_BYTES)?;
        Ok(bytes.as_deref().and_then(<[u8]>::first_chunk).map(FrameHeader::parse))
    }

    /// The intact frame of `segment` at `at`, if there is one.
    pub(crate) fn frame(&mut self, segment: &Segment, at: u64) -> io::Result<Option<Frame>> {
        let Some(header) = self.header(at)? else { return Ok(None) };
        if !header.plausible() || header.epoch != segment.header.seal.epoch {
            return Ok(None);
        }
        let bytes = self.get(at, header.total() as usize)?;
        let bytes = bytes.filter(|bytes| intact(bytes, &header, segment.header.seal));
        Ok(bytes.map(|bytes| Frame::new(at, header, bytes)))
    }
}

/// Bytes read at a time when whole segments are read.
pub(crate) const WALK_PIECE: usize = 1024 * 1024;

/// Where a walk ended, and what it saw.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WalkEnd {
    /// Where the next frame would begin.
    pub(crate) at: u64,
    /// The checksum of the last frame.
    pub(crate) chain: u32,
    /// The number of the next transaction.
    pub(crate) next_seq: u64,
    /// The offset of the next event.
    pub(crate) next_offset: u64,
    /// The highest number that a frame proves to be synced.
    pub(crate) proven: u64,
    /// Transactions seen.
    pub(crate) txns: u64,
}

impl WalkEnd {
    /// Where the first frame of `segment` would begin.
    pub(crate) fn start_of(segment: &Segment) -> Self {
        let header = &segment.header;
        Self {
            at: HEADER_BYTES as u64,
            chain: header.chain,
            next_seq: header.first_seq,
            next_offset: header.first_offset,
            proven: 0,
            txns: 0,
        }
    }

    /// Goes one frame further, if the next one is intact and follows.
    pub(crate) fn step(&mut self, segment: &Segment, pieces: &mut Pieces<'_>) -> Result<Option<Frame>, LogError> {
        let Some(frame) = pieces.frame(segment, self.at).map_err(|e| segment.io("reading", e))? else {
            return Ok(None);
        };
        let FrameHeader { prev, seq, synced, crc, .. } = frame.header;
        let txn = frame.kind() == kind::TXN;
        if prev != self.chain || seq != if txn { self.next_seq } else { self.next_seq - 1 } {
            return Ok(None);
        }
        if txn {
            let events = events_in(frame.body()).map_err(|e| malformed(segment, &frame, e))?;
            if let Some((first, after)) = events {
                if first != self.next_offset {
                    return Err(LogError::damaged(&segment.path, frame.at, "its events have the wrong offsets"));
                }
                self.next_offset = after;
            }
            self.next_seq += 1;
            self.txns += 1;
        } else if frame.kind() != kind::SEAL && frame.kind() != kind::CHECKPOINT {
            return Err(malformed(segment, &frame, Malformed::Unknown("record kind", u64::from(frame.kind()))));
        }
        self.proven = self.proven.max(synced);
        self.chain = crc;
        self.at = frame.end();
        Ok(Some(frame))
    }
}

/// Walks along the frames of `segment` up to `limit` or the first that is not intact or does not follow.
pub(crate) fn walk(
    segment: &Segment,
    limit: u64,
    visit: &mut dyn FnMut(&Frame) -> Result<(), LogError>,
) -> Result<WalkEnd, LogError> {
    let mut pieces = Pieces::new(&*segment.file, limit, WALK_PIECE);
    let mut end = WalkEnd::start_of(segment);
    while let Some(frame) = end.step(segment, &mut pieces)? {
        visit(&frame)?;
    }
    Ok(end)
}

/// What is wrong with the content of an intact frame.
pub(crate) fn malformed(segment: &Segment, frame: &Frame, error: Malformed) -> LogError {
    let what = match error {
        Malformed::Unknown(what, number) => {
            return LogError::Unknown { file: segment.path.clone(), at: frame.at, what: format!("{what} {number}") };
        }
        Malformed::Short => "a record ends too early",
        Malformed::Invalid(what) => what,
    };
    LogError::damaged(&segment.path, frame.at, format!("record {}: {what}", frame.header.seq))
}

/// What lies behind the end of a chain.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Remains {
    /// The highest number that a surviving frame proves to be synced.
    pub(crate) proven: u64,
    /// Where the last thing that was once a frame ends; none when there is nothing.
    pub(crate) end: Option<u64>,
}

/// Looks for intact frames from `from` on, wherever they begin.
pub(crate) fn remains(segment: &Segment, from: u64) -> Result<Remains, LogError> {
    const BLOCK: usize = 4096;
    /// Where the epoch stands in a header.
    const EPOCH_AT: u64 = 12;
    let io = |e| segment.io("reading", e);
    let size = segment.file.size().map_err(io)?;
    let epoch = segment.header.seal.epoch.to_le_bytes();
    let mut found = Remains::default();
    let mut pieces = Pieces::new(&*segment.file, size, WALK_PIECE);
    let mut frames = Pieces::new(&*segment.file, size, 64 * 1024);
    // Looks for the epoch, which is not zero, so that zeros are passed over quickly.
    let mut at = from + EPOCH_AT;
    while at + 4 <= size {
        let block = pieces.get(at, BLOCK.min((size - at) as usize)).map_err(io)?.unwrap_or_default();
        if block.len() < 4 {
            break;
        }
        if block.iter().all(|byte| *byte == 0) {
            at += block.len() as u64 - 3;
            continue;
        }
        let mut next = at + block.len() as u64 - 3;
        for (i, window) in block.windows(4).enumerate() {
            if window == epoch
                && let Some(frame) = frames.frame(segment, at + i as u64 - EPOCH_AT).map_err(io)?
            {
                found.proven = found.proven.max(frame.header.synced);
                found.end = found.end.max(Some(frame.end()));
                next = frame.end() + EPOCH_AT;
                break;
            }
        }
        at = next;
    }
    // Nothing intact is left: what stands there may say how long it was meant to be.
    if found.end.is_none()
        && let Some(header) = frames.header(from).map_err(io)?
        && header.epoch == segment.header.seal.epoch
        && header.plausible()
    {
        found.end = Some((from + header.total()).min(size));
    }
    Ok(found)
}
