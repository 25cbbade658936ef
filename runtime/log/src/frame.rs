//! Frames: how a body lies in a segment.
//!
//! ```text
//! crc 4 | length 4 | prev 4 | epoch 4 | seq 8 | synced 8 | body: kind 1, sections
//! ```
//!
//! - `crc` is CRC32C over all that follows it, started from the segment's salt. The salt is random and nowhere in an
//!   event's reach, so neither what a file held before it was recycled nor what a payload imitates passes for a frame.
//! - `prev` is the `crc` of the frame before it. A frame that was written after a torn one and survived it cannot be
//!   taken for the successor of whatever is written in the torn one's place.
//! - `seq` is the transaction's number; other kinds carry that of the last transaction before them.
//! - `synced` says that all up to this transaction was synced before this frame was written.

use busway_types::mutant;
use bytes::Bytes;

/// Bytes before the body.
pub(crate) const FRAME_BYTES: usize = 32;

/// The largest body.
pub(crate) const MAX_BODY: usize = 256 * 1024 * 1024;

/// What stands before a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHeader {
    pub(crate) crc: u32,
    pub(crate) length: u32,
    pub(crate) prev: u32,
    pub(crate) epoch: u32,
    pub(crate) seq: u64,
    pub(crate) synced: u64,
}

fn u32_at(bytes: &[u8; FRAME_BYTES], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl FrameHeader {
    pub(crate) fn parse(bytes: &[u8; FRAME_BYTES]) -> Self {
        let u64_at = |at: usize| u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32;
        Self {
            crc: u32_at(bytes, 0),
            length: u32_at(bytes, 4),
            prev: u32_at(bytes, 8),
            epoch: u32_at(bytes, 12),
            seq: u64_at(16),
            synced: u64_at(24),
        }
    }

    /// Whether header and body together may be a frame of this length.
    pub(crate) fn plausible(&self) -> bool {
        (1..=MAX_BODY).contains(&(self.length as usize))
    }

    /// Bytes of header and body.
    pub(crate) fn total(&self) -> u64 {
        FRAME_BYTES as u64 + u64::from(self.length)
    }
}

/// What the frames of a segment have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seal {
    pub(crate) epoch: u32,
    pub(crate) salt: u32,
}

/// Fills in the header of `frame`, whose body is in place, and gives its checksum.
pub(crate) fn finish(frame: &mut [u8], seal: Seal, prev: u32, seq: u64, synced: u64) -> u32 {
    let length = (frame.len() - FRAME_BYTES) as u32;
    frame[4..8].copy_from_slice(&length.to_le_bytes());
    frame[8..12].copy_from_slice(&prev.to_le_bytes());
    frame[12..16].copy_from_slice(&seal.epoch.to_le_bytes());
    frame[16..24].copy_from_slice(&seq.to_le_bytes());
    frame[24..32].copy_from_slice(&synced.to_le_bytes());
    let crc = crc32c::crc32c_append(seal.salt, &frame[4..]);
    frame[..4].copy_from_slice(&crc.to_le_bytes());
    crc
}

/// Whether `frame`, header and body, is intact.
pub(crate) fn intact(frame: &[u8], header: &FrameHeader, seal: Seal) -> bool {
    mutant("torn-record-accepted")
        || header.epoch == seal.epoch && crc32c::crc32c_append(seal.salt, &frame[4..]) == header.crc
}

/// A frame that was read and found intact.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) at: u64,
    pub(crate) header: FrameHeader,
    bytes: Bytes,
}

impl Frame {
    pub(crate) fn new(at: u64, header: FrameHeader, bytes: Bytes) -> Self {
        Self { at, header, bytes }
    }

    /// Where the next frame begins.
    pub(crate) fn end(&self) -> u64 {
        self.at + self.header.total()
    }

    pub(crate) fn kind(&self) -> u8 {
        self.bytes[FRAME_BYTES]
    }

    /// The body after its kind.
    pub(crate) fn body(&self) -> &[u8] {
        &self.bytes[FRAME_BYTES + 1..]
    }

    /// Header and body.
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEAL: Seal = Seal { epoch: 7, salt: 0x1234_5678 };

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut frame = vec![0; FRAME_BYTES];
        frame.extend_from_slice(body);
        finish(&mut frame, SEAL, 1, 2, 3);
        frame
    }

    fn header(frame: &[u8]) -> FrameHeader {
        FrameHeader::parse(frame.first_chunk().expect("a whole header"))
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(body in proptest::collection::vec(any::<u8>(), 1..60), at in any::<prop::sample::Index>(), bit in 0_u8..8) {
            let good = frame(&body);
            prop_assert!(intact(&good, &header(&good), SEAL));
            let mut bad = good.clone();
            let at = at.index(bad.len());
            bad[at] ^= 1_u8 << bit;
            let h = header(&bad);
            // A flipped length makes another frame of it, which is checked over other bytes.
            prop_assert!(h.length as usize != body.len() || !intact(&bad, &h, SEAL));
        }
    }

    #[test]
    fn a_frame_of_another_use_of_the_file_is_not_intact() {
        let good = frame(b"body");
        assert!(!intact(&good, &header(&good), Seal { salt: 1, ..SEAL }));
        assert!(!intact(&good, &header(&good), Seal { epoch: 8, ..SEAL }));
    }
}
