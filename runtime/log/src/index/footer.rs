//! The footer of a segment: a file beside it, named like it with `.idx`.
//!
//! ```text
//! "BUSWAYIX" 8 | format 4 | epoch 4 | salt 4 | length 4 | summary | crc 4 | blocks | topics | ids | links
//! ```
//!
//! - `crc` is CRC32C over all before it; the summary has the length and the CRC32C of each part behind it, so that each
//!   can be read by itself when it is needed.
//! - Epoch and salt are those of the segment's header: a footer of another use of the name does not pass.
//! - The file is written under another name, synced and renamed, after the segment was synced. It can be deleted at any
//!   time, and is built again.

use std::path::Path;

use busway_types::{Offset, Timestamp};

use super::builder::{Builder, SliceAt};
use crate::checkpoint::SliceHeader;
use crate::error::LogError;
use crate::fs::{Fs, FsFile, OpenMode};
use crate::segment::Segment;
use crate::walk::WalkEnd;
use crate::wire::{Malformed, Reader, put_u64};

const MAGIC: &[u8; 8] = b"BUSWAYIX";
const FORMAT: u32 = 1;

/// Bytes before the summary.
const HEAD: usize = 24;

/// Bytes read at first; most summaries end in them.
const FIRST_READ: usize = 4 * 1024;

/// The longest summary.
const MOST_SUMMARY: usize = 1024 * 1024;

const SUFFIX: &str = ".idx";
const SUFFIX_NEW: &str = ".idx.tmp";

/// What a footer says of the whole segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Summary {
    /// Where its frames end, and what the next segment begins with.
    pub(crate) end: WalkEnd,
    /// Its events.
    pub(crate) events: u64,
    /// The earliest and the latest time of an event.
    pub(crate) times: Option<(Timestamp, Timestamp)>,
    /// Slices of checkpoints in it.
    pub(crate) slices: Vec<SliceAt>,
    parts: [Part; 4],
}

/// A part behind the summary.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Part {
    at: u64,
    length: u32,
    crc: u32,
}

const BLOCKS: usize = 0;
const TOPICS: usize = 1;
const IDS: usize = 2;
const LINKS: usize = 3;

/// The name of the footer of a segment with this name.
pub(crate) fn footer_name(segment: &Path) -> std::path::PathBuf {
    segment.with_extension(&SUFFIX[1..])
}

/// If a file of this name is a footer: the name of its segment without the extension, and whether it was finished.
pub(crate) fn footer_stem(name: &str) -> Option<(&str, bool)> {
    let finished = name.strip_suffix(SUFFIX).map(|stem| (stem, true));
    finished.or_else(|| name.strip_suffix(SUFFIX_NEW).map(|stem| (stem, false)))
}

/// The bytes of a footer for a segment that was taken in completely.
pub(crate) fn encode(segment: &Segment, builder: &Builder) -> Vec<u8> {
    let mut blocks = Vec::new();
    let (mut offset, mut at) = (segment.header.first_offset, 0);
    for (next, begin) in &builder.blocks {
        put_u64(&mut blocks, next - offset);
        put_u64(&mut blocks, begin - at);
        (offset, at) = (*next, *begin);
    }
    // The first byte says whether there is an index of topics at all.
    let mut topics = vec![0];
    if let Some(bytes) = builder.topics_to_bytes() {
        topics[0] = 1;
        topics.extend_from_slice(&bytes);
    }
    let parts = [blocks, topics, builder.ids.to_bytes(), builder.links.to_bytes()];
    let summary = put_summary(builder, &parts);
    let mut out = Vec::with_capacity(HEAD + summary.len() + 4 + parts.iter().map(Vec::len).sum::<usize>());
    out.extend_from_slice(MAGIC);
    let seal = segment.header.seal;
    for word in [FORMAT, seal.epoch, seal.salt, summary.len() as u32] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&summary);
    let crc = crc32c::crc32c(&out);
    out.extend_from_slice(&crc.to_le_bytes());
    for part in &parts {
        out.extend_from_slice(part);
    }
    out
}

fn put_summary(builder: &Builder, parts: &[Vec<u8>]) -> Vec<u8> {
    let Builder { end, events, times, slices, .. } = builder;
    let WalkEnd { at, chain, next_seq, next_offset, proven: _, txns } = *end;
    let mut out = Vec::new();
    for number in [at, u64::from(chain), next_seq, next_offset, txns, *events] {
        put_u64(&mut out, number);
    }
    put_u64(&mut out, u64::from(times.is_some()));
    let (first, last) = times.unwrap_or_default();
    put_u64(&mut out, first.0);
    put_u64(&mut out, last.0);
    put_u64(&mut out, slices.len() as u64);
    for SliceAt { at, header: SliceHeader { covers, index, last } } in slices {
        for number in [*at, *covers, *index, u64::from(*last)] {
            put_u64(&mut out, number);
        }
    }
    for part in parts {
        put_u64(&mut out, part.len() as u64);
        put_u64(&mut out, u64::from(crc32c::crc32c(part)));
    }
    out
}

fn take_summary(mut r: Reader<'_>, behind: u64) -> Result<Summary, Malformed> {
    let at = r.u64()?;
    let chain = r.u32()?;
    let (next_seq, next_offset, txns, events) = (r.u64()?, r.u64()?, r.u64()?, r.u64()?);
    // A footer is written when everything in its segment is synced.
    let end = WalkEnd { at, chain, next_seq, next_offset, proven: next_seq.saturating_sub(1), txns };
    let timed = r.u64()? != 0;
    let times = (Timestamp(r.u64()?), Timestamp(r.u64()?));
    let mut slices = Vec::new();
    for _ in 0..r.count(4)? {
        let at = r.u64()?;
        let header = SliceHeader { covers: r.u64()?, index: r.u64()?, last: r.u64()? != 0 };
        slices.push(SliceAt { at, header });
    }
    let mut parts = [Part::default(); 4];
    let mut at = behind;
    for part in &mut parts {
        *part = Part { at, length: r.u32()?, crc: r.u32()? };
        at += u64::from(part.length);
    }
    if !r.is_empty() {
        return Err(Malformed::Invalid("a footer is longer than its parts"));
    }
    Ok(Summary { end, events, times: timed.then_some(times), slices, parts })
}

/// What became of looking for a footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// It is there and fits the segment.
    Good(Summary),
    /// It is not there.
    Missing,
    /// It is there and of no use: where, and why.
    Bad(u64, String),
}

/// Reads the summary of a segment's footer.
pub(crate) fn read_summary(fs: &dyn Fs, segment: &Segment) -> Found {
    let file = match fs.open(&footer_name(&segment.path), OpenMode::Read) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Found::Missing,
        Err(error) => return Found::Bad(0, format!("it cannot be opened: {error}")),
    };
    match summary_in(&*file, segment) {
        Ok(summary) => Found::Good(summary),
        Err(why) => Found::Bad(0, why),
    }
}

fn summary_in(file: &dyn FsFile, segment: &Segment) -> Result<Summary, String> {
    let mut bytes = vec![0; FIRST_READ];
    let read = |bytes: &mut [u8]| file.read_at(bytes, 0).map_err(|e| format!("it cannot be read: {e}"));
    let mut got = read(&mut bytes)?;
    let head: &[u8; HEAD] = bytes[..got].first_chunk().ok_or("it is too short")?;
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
    let (format, epoch, salt, length) = (word(8), word(12), word(16), word(20) as usize);
    if &head[..8] != MAGIC || format != FORMAT || length > MOST_SUMMARY {
        return Err("it does not begin like a footer".to_owned());
    }
    if (epoch, salt) != (segment.header.seal.epoch, segment.header.seal.salt) {
        return Err("it belongs to another segment".to_owned());
    }
    let behind = HEAD + length + 4;
    if behind > got {
        bytes.resize(behind, 0);
        got = read(&mut bytes)?;
    }
    let (said, rest) = bytes[..got].split_at_checked(HEAD + length).ok_or("it is too short")?;
    let crc: &[u8; 4] = rest.first_chunk().ok_or("it is too short")?;
    if crc32c::crc32c(said) != u32::from_le_bytes(*crc) {
        return Err("the checksum of its summary is wrong".to_owned());
    }
    take_summary(Reader::new(&said[HEAD..]), behind as u64).map_err(|e| format!("its summary is malformed: {e:?}"))
}

impl Summary {
    fn part(&self, file: &dyn FsFile, which: usize) -> Option<Vec<u8>> {
        let Part { at, length, crc } = self.parts[which];
        if u64::from(length) + at > file.size().ok()? {
            return None;
        }
        let mut bytes = vec![0; length as usize];
        let read = file.read_at(&mut bytes, at).ok()?;
        (read == bytes.len() && crc32c::crc32c(&bytes) == crc).then_some(bytes)
    }

    /// Where the first part begins whose content is not intact any more, of those behind the summary.
    pub(crate) fn broken_part(&self, file: &dyn FsFile) -> Option<u64> {
        (0..self.parts.len()).find(|which| self.part(file, *which).is_none()).map(|which| self.parts[which].at)
    }

    /// The first offset of each block and where it begins; none when that cannot be read.
    pub(crate) fn blocks(&self, file: &dyn FsFile, first: Offset) -> Option<Vec<(Offset, u64)>> {
        let bytes = self.part(file, BLOCKS)?;
        let mut reader = Reader::new(&bytes);
        let (mut offset, mut at) = (first, 0_u64);
        let mut blocks = Vec::new();
        while !reader.is_empty() {
            offset = offset.checked_add(reader.u64().ok()?)?;
            at = at.checked_add(reader.u64().ok()?)?;
            blocks.push((offset, at));
        }
        Some(blocks)
    }

    /// The index of topics as [`topics_matching`](super::load) reads it, after a byte that says whether there is one.
    pub(crate) fn topics(&self, file: &dyn FsFile) -> Option<Vec<u8>> {
        self.part(file, TOPICS)
    }

    pub(crate) fn ids(&self, file: &dyn FsFile) -> Option<Vec<u8>> {
        self.part(file, IDS)
    }

    pub(crate) fn links(&self, file: &dyn FsFile) -> Option<Vec<u8>> {
        self.part(file, LINKS)
    }
}

/// Writes a footer that [`encode`] made of a segment, which is synced; gives its summary.
pub(crate) fn write_footer(fs: &dyn Fs, dir: &Path, segment: &Segment, bytes: &[u8]) -> Result<Summary, LogError> {
    let path = footer_name(&segment.path);
    let new = segment.path.with_extension(&SUFFIX_NEW[1..]);
    let write = || -> Result<(), LogError> {
        let file = fs.open(&new, OpenMode::Create).map_err(|e| LogError::io("creating", &new, e))?;
        file.write_all_at(bytes, 0).map_err(|e| LogError::io("writing", &new, e))?;
        file.sync_data().map_err(|e| LogError::io("syncing", &new, e))?;
        fs.rename(&new, &path).map_err(|e| LogError::io("renaming", &new, e))?;
        fs.sync_dir(dir).map_err(|e| LogError::io("syncing", dir, e))
    };
    let written = write();
    if written.is_err() {
        // Half a footer only takes room; the next try replaces it.
        let _ = fs.remove(&new);
    }
    written?;
    match read_summary(fs, segment) {
        Found::Good(summary) => Ok(summary),
        _ => Err(LogError::damaged(&path, 0, "what was just written cannot be read")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = take_summary(Reader::new(&bytes), 100);
            let patterns = ["a.>".parse().expect("a pattern"), "b".parse().expect("a pattern")];
            let _ = super::super::load::topics_matching(&bytes, &patterns);
        }
    }

    #[test]
    fn names_of_footers_are_told_apart() {
        assert_eq!(footer_stem("00000000000000000001.idx"), Some(("00000000000000000001", true)));
        assert_eq!(footer_stem("00000000000000000001.idx.tmp"), Some(("00000000000000000001", false)));
        assert_eq!(footer_stem("00000000000000000001.seg"), None);
    }
}
