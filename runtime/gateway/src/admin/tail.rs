//! Events as a stream of lines, at the reader's pace.
//!
//! Role: reads the log piece by piece, the next one only when the connection has taken the last, so that a slow reader
//! holds nothing but its own position. What is gone when it gets there is told as `missed`, never left out silently.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::body::Body;
use busway_types::{Offset, Pattern};
use bytes::Bytes;

use super::TailRead;
use super::server::Admin;
use crate::admin::api::{ApiError, Envelope, TailFrom, TailLine};

const READ_EVENTS: usize = 256;
const READ_BYTES: usize = 1024 * 1024;

/// What a reader asked for.
#[derive(Debug)]
pub(crate) struct TailRequest {
    pub(crate) patterns: Arc<[Pattern]>,
    pub(crate) from: TailFrom,
    /// Go on with what is published later.
    pub(crate) follow: bool,
    /// End after this many events.
    pub(crate) limit: Option<u64>,
}

struct Reader {
    admin: Arc<Admin>,
    patterns: Arc<[Pattern]>,
    next: Offset,
    /// Without `follow`: where the log ended when the reading began.
    end: End,
    left: u64,
    finished: bool,
}

#[derive(Clone, Copy)]
enum End {
    Never,
    AtFirstHead,
    At(Offset),
}

/// The body of the answer; refused when the starting place cannot be found.
pub(crate) async fn body(admin: Arc<Admin>, request: TailRequest) -> Result<Body, ApiError> {
    let next = admin.backend.tail_position(request.from).await?;
    let reader = Reader {
        admin,
        patterns: request.patterns,
        next,
        end: if request.follow { End::Never } else { End::AtFirstHead },
        left: request.limit.unwrap_or(u64::MAX),
        finished: false,
    };
    let stream = futures_util::stream::unfold(reader, |mut reader| async move {
        let piece = reader.piece().await?;
        Some((Ok::<_, std::convert::Infallible>(piece), reader))
    });
    Ok(Body::from_stream(stream))
}

impl Reader {
    /// The next lines; none at the end.
    async fn piece(&mut self) -> Option<Bytes> {
        let mut lines = VecDeque::new();
        while lines.is_empty() && !self.finished && self.left > 0 {
            if let Err(error) = self.read(&mut lines).await {
                lines.push_back(TailLine::Problem(error.problem()));
                self.finished = true;
            }
        }
        if lines.is_empty() {
            return None;
        }
        let mut text = Vec::new();
        for line in lines {
            if serde_json::to_writer(&mut text, &line).is_err() {
                self.finished = true;
                break;
            }
            text.push(b'\n');
        }
        Some(text.into())
    }

    async fn read(&mut self, lines: &mut VecDeque<TailLine>) -> Result<(), ApiError> {
        let read = TailRead {
            from: self.next,
            patterns: self.patterns.clone(),
            max_events: READ_EVENTS.min(usize::try_from(self.left).unwrap_or(READ_EVENTS)),
            max_bytes: READ_BYTES,
            wait: matches!(self.end, End::Never),
        };
        let mut stop = self.admin.stop.clone();
        let batch = tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => return Err(ApiError::stopping()),
            batch = self.admin.backend.tail_read(read) => batch?,
        };
        if batch.oldest > self.next {
            lines.push_back(TailLine::Missed(batch.oldest - self.next));
        }
        if let End::AtFirstHead = self.end {
            self.end = End::At(batch.head);
        }
        let before = self.next;
        self.next = batch.next.max(batch.oldest).max(before);
        for logged in &batch.events {
            if let End::At(end) = self.end
                && logged.offset >= end
            {
                break;
            }
            lines.push_back(TailLine::Event(Box::new(Envelope::from(logged))));
            self.left -= 1;
        }
        if let End::At(end) = self.end {
            self.finished = self.next >= end || self.next == before;
        }
        Ok(())
    }
}
