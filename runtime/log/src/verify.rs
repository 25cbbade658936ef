//! Looking at a whole log without using it: what is intact, what is not, and what a start would do about it.
//!
//! Role: read every byte that means something, also what a start would skip, and go on behind damage, so that a person
//! learns all of it at once. Nothing of the log is changed but the name of the process in `LOCK`.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use busway_types::Offset;

use crate::error::LogError;
use crate::folder::{LookedAt, look};
use crate::fs::{Fs, OpenMode};
use crate::index::{Builder, Found, encode_footer, footer_name, read_summary};
use crate::recovery::{Examined, RecoveryReport, examine};
use crate::segment::Segment;
use crate::view;
use crate::walk::{Pieces, WALK_PIECE, WalkEnd, remains};

/// Something in a file that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Which file.
    pub file: PathBuf,
    /// Where.
    pub at: u64,
    /// What is wrong.
    pub what: String,
    /// Whether what is lost had been safely stored. If not, it is what an interruption leaves behind, and a start cuts it
    /// off; in a footer it is built again.
    pub stored: bool,
}

/// What there is of a segment's footer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IndexState {
    /// It says what the segment says.
    Good,
    /// There is none; it is built when the log is opened.
    Missing,
    /// It is damaged and is built again when the log is opened.
    Damaged,
}

/// One segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentReport {
    /// Its file.
    pub file: PathBuf,
    /// The numbers of its first transaction and of the one after its last.
    pub seqs: (u64, u64),
    /// The offsets of its first event and the one after its last.
    pub offsets: (Offset, Offset),
    /// Where its intact records end.
    pub bytes: u64,
    /// Its footer.
    pub index: IndexState,
    /// Whether all of its records are intact, as far as can be told.
    pub intact: bool,
}

/// The view beside the log.
#[derive(Clone, Debug)]
pub struct ViewReport {
    /// Its folder.
    pub dir: PathBuf,
    /// The number of the last transaction in it and how many entries it has, all of which were read; none of both when
    /// there is no view. Or why it cannot be used.
    pub found: Result<Option<(u64, u64)>, LogError>,
    /// Whether the log has everything since its beginning, so that a view can be made again.
    pub log_is_whole: bool,
}

/// What a look at a whole log found.
#[derive(Clone, Debug)]
pub struct Verified {
    /// Oldest first.
    pub segments: Vec<SegmentReport>,
    /// Everything that is wrong, oldest first.
    pub problems: Vec<Problem>,
    /// All transactions up to this one are proven to have been safely stored.
    pub proven: u64,
    /// The view, where there can be one.
    pub view: Option<ViewReport>,
    /// What a start would find, or why it would be refused.
    pub start: Result<RecoveryReport, LogError>,
}

impl Verified {
    /// Whether something is lost or changed that had been safely stored, or an index is damaged: what an interruption
    /// leaves behind does not count.
    pub fn is_damaged(&self) -> bool {
        let index = self.segments.iter().any(|s| s.index == IndexState::Damaged);
        let view = self.view.as_ref().is_some_and(|view| view.found.is_err());
        self.start.is_err() || index || view || self.problems.iter().any(|problem| problem.stored)
    }

    /// Transactions in intact records.
    pub fn transactions(&self) -> u64 {
        self.segments.iter().map(|s| s.seqs.1 - s.seqs.0).sum()
    }

    /// Events in intact records.
    pub fn events(&self) -> u64 {
        self.segments.iter().map(|s| s.offsets.1 - s.offsets.0).sum()
    }
}

/// Looks at the log in `dir`, which no node may be using.
///
/// The view is opened as a start opens it, which cuts off what an interruption left in its files.
pub fn verify(fs: &dyn Fs, dir: &Path) -> Result<Verified, LogError> {
    let LookedAt { segments: names, _lock } = look(fs, dir)?;
    let mut look = Look::default();
    let mut unreadable = None;
    for name in &names {
        match Segment::open(fs, dir.join(name), OpenMode::Read) {
            Ok(segment) => look.segment(fs, segment)?,
            Err(error) => {
                let LogError::Damaged { file, at, what } = &error else { return Err(error) };
                look.problems.push((None, Problem { file: file.clone(), at: *at, what: what.clone(), stored: true }));
                unreadable.get_or_insert(error);
            }
        }
    }
    look.between();
    let segments: Vec<Arc<Segment>> = look.walked.iter().map(|walked| walked.segment.clone()).collect();
    let (start, view) = match unreadable {
        Some(error) => (Err(error), None),
        None if segments.is_empty() => (Ok(RecoveryReport::default()), None),
        None => match examine(fs, &segments, None) {
            Ok(examined) => {
                let view = look_at_view(fs, dir, &segments, &examined);
                let (view, refused) = view.unzip();
                (refused.flatten().map_or(Ok(examined.report), Err), view)
            }
            Err(error) => (Err(error), None),
        },
    };
    Ok(Verified { view, ..look.finish(start) })
}

/// Reads the view completely and holds it against the log; also gives why a start would be refused because of it, if so.
fn look_at_view(
    fs: &dyn Fs,
    dir: &Path,
    segments: &[Arc<Segment>],
    examined: &Examined,
) -> Option<(ViewReport, Option<LogError>)> {
    let (views, dir) = (fs.views()?, dir.join(view::FOLDER));
    let log_is_whole = segments.first().is_some_and(|first| first.header.first_seq == 1);
    let report = |found| ViewReport { dir: dir.clone(), found, log_is_whole };
    if !views.exists(&dir) {
        let what = "it is missing, and the log no longer has everything".to_owned();
        let missing = LogError::View { dir: dir.clone(), what };
        return Some(if log_is_whole {
            (report(Ok(None)), None)
        } else {
            (report(Err(missing.clone())), Some(missing))
        });
    }
    let view = match views.open(&dir) {
        Ok(view) => view,
        Err(error) => return Some((report(Err(error.clone())), (!log_is_whole).then_some(error))),
    };
    let fits = examined.fits(segments, &view);
    let read = fits.clone().and_then(|()| view.read_all()).map(|values| Some((view.applied(), values)));
    view.close();
    Some((report(read), fits.err()))
}

/// A segment that was walked along.
#[derive(Debug)]
struct Walked {
    segment: Arc<Segment>,
    end: WalkEnd,
    index: IndexState,
    intact: bool,
}

#[derive(Debug, Default)]
struct Look {
    walked: Vec<Walked>,
    /// With the number of the first transaction that is lost by it, if it is one.
    problems: Vec<(Option<u64>, Problem)>,
    proven: u64,
}

impl Look {
    fn problem(&mut self, lost: Option<u64>, file: &Path, at: u64, what: impl Into<String>) {
        self.problems.push((lost, Problem { file: file.to_owned(), at, what: what.into(), stored: false }));
    }

    fn segment(&mut self, fs: &dyn Fs, segment: Segment) -> Result<(), LogError> {
        let size = segment.file.size().map_err(|e| segment.io("looking at", e))?;
        let mut pieces = Pieces::new(&*segment.file, size, WALK_PIECE);
        let mut end = WalkEnd::start_of(&segment);
        let mut intact = true;
        loop {
            match end.step(&segment, &mut pieces) {
                Ok(Some(_)) => {}
                Ok(None) => break,
                // What an intact record holds contradicts the format: nothing behind it can be relied upon.
                Err(LogError::Damaged { at, what, .. }) => {
                    intact = false;
                    self.problem(Some(end.next_seq), &segment.path, at, what);
                    break;
                }
                Err(other) => return Err(other),
            }
        }
        segment.publish(end.at, end.next_seq, end.next_offset);
        let behind = remains(&segment, end.at)?;
        self.proven = self.proven.max(end.proven).max(behind.proven);
        if intact && behind.end.is_some() {
            intact = false;
            let what = format!("record {} is missing or broken, and something follows it", end.next_seq);
            self.problem(Some(end.next_seq), &segment.path, end.at, what);
        }
        let index = self.index(fs, &segment, &end, &mut intact)?;
        self.walked.push(Walked { segment: Arc::new(segment), end, index, intact });
        Ok(())
    }

    /// Holds the footer of a segment against the segment.
    fn index(
        &mut self,
        fs: &dyn Fs,
        segment: &Segment,
        end: &WalkEnd,
        intact: &mut bool,
    ) -> Result<IndexState, LogError> {
        let path = footer_name(&segment.path);
        let summary = match read_summary(fs, segment) {
            Found::Missing => return Ok(IndexState::Missing),
            Found::Bad(at, what) => {
                self.problem(None, &path, at, what);
                return Ok(IndexState::Damaged);
            }
            Found::Good(summary) => summary,
        };
        self.proven = self.proven.max(summary.end.proven);
        if summary.end.at != end.at || summary.end.next_seq != end.next_seq || summary.end.chain != end.chain {
            if *intact {
                *intact = false;
                let what =
                    format!("record {} is missing or broken, and was there when the segment was full", end.next_seq);
                self.problem(Some(end.next_seq), &segment.path, end.at, what);
            }
            return Ok(IndexState::Good);
        }
        let file = fs.open(&path, OpenMode::Read).map_err(|e| LogError::io("opening", &path, e))?;
        if let Some(at) = summary.broken_part(&*file) {
            self.problem(None, &path, at, "the checksum of a part of the index is wrong");
            return Ok(IndexState::Damaged);
        }
        let mut builder = Builder::new(segment);
        builder.advance(segment, end.at, u64::MAX)?;
        let size = file.size().map_err(|e| LogError::io("looking at", &path, e))?;
        let expected = encode_footer(segment, &builder);
        let mut found = vec![0; expected.len()];
        let read = file.read_at(&mut found, 0).map_err(|e| LogError::io("reading", &path, e))?;
        if read != expected.len() || size != expected.len() as u64 || found != expected {
            let at = expected.iter().zip(&found).take_while(|(a, b)| a == b).count();
            self.problem(None, &path, at as u64, "the index does not say what the segment says");
            return Ok(IndexState::Damaged);
        }
        Ok(IndexState::Good)
    }

    /// Looks whether each segment goes on where the one before it ended.
    fn between(&mut self) {
        let mut found = Vec::new();
        for pair in self.walked.windows(2) {
            let (before, next) = (&pair[0], &pair[1].segment.header);
            let follows = (next.first_seq, next.first_offset, next.chain)
                == (before.end.next_seq, before.end.next_offset, before.end.chain);
            if !follows && before.intact {
                let what = format!(
                    "record {} is missing or broken: the next segment begins with record {}",
                    before.end.next_seq, next.first_seq
                );
                found.push((before.end.next_seq, before.segment.path.clone(), before.end.at, what));
            }
        }
        for (lost, path, at, what) in found {
            self.problem(Some(lost), &path, at, what);
        }
        if let Some(last) = self.walked.last()
            && last.index == IndexState::Good
        {
            let path = last.segment.path.with_file_name(crate::segment::segment_name(last.end.next_seq));
            let lost = last.end.next_seq;
            self.problem(None, &path, 0, format!("the segment that begins with record {lost} is missing"));
            if let Some((_, problem)) = self.problems.last_mut() {
                problem.stored = true;
            }
        }
    }

    fn finish(self, start: Result<RecoveryReport, LogError>) -> Verified {
        let proven = self.proven;
        let mut broken: Vec<PathBuf> = Vec::new();
        let problems = self.problems.into_iter().map(|(lost, problem)| {
            let stored = problem.stored || lost.is_some_and(|seq| seq <= proven);
            broken.push(problem.file.clone());
            Problem { stored, ..problem }
        });
        let mut problems: Vec<Problem> = problems.collect();
        problems.sort_by(|a, b| (&a.file, a.at).cmp(&(&b.file, b.at)));
        let report = |Walked { segment, end, index, intact: _ }: Walked| SegmentReport {
            file: segment.path.clone(),
            seqs: (segment.header.first_seq, end.next_seq),
            offsets: (segment.header.first_offset, end.next_offset),
            bytes: end.at,
            index,
            intact: !broken.contains(&segment.path),
        };
        Verified { segments: self.walked.into_iter().map(report).collect(), problems, proven, view: None, start }
    }
}
