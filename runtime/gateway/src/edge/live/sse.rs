//! Server-Sent Events: the log as a stream that every browser can read, and resume.
//!
//! Invariants: each event carries the cursor behind it as `id`, so `Last-Event-ID` resumes without a gap and without a
//! repetition; the first thing sent and each sign of life carry one too, so a client that saw nothing resumes there as
//! well. A reader that takes nothing holds one piece of the log and its place.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::time::Duration;

use axum::response::sse::{Event as Line, Sse};
use axum::response::{IntoResponse, Response};
use busway_types::Logged;
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::Instant;

use super::feed::{Cursor, Feed, Missed, Piece};
use super::permit::Over;
use super::places::Place;
use super::render::{self, Form};
use crate::edge::EdgeError;
use crate::edge::problem::Problem;

/// When a client comes back after the stream has ended.
const RETRY: Duration = Duration::from_secs(2);

/// What one stream needs.
pub(crate) struct Stream {
    pub(crate) feed: Feed,
    pub(crate) form: Form,
    pub(crate) heartbeat: Duration,
    pub(crate) until: Instant,
    pub(crate) stop: watch::Receiver<bool>,
    /// Ends when whoever listens may not any more.
    pub(crate) over: BoxFuture<'static, Over>,
    #[expect(dead_code, reason = "held as long as the stream")]
    pub(crate) place: Place,
}

struct Reader {
    stream: Stream,
    waiting: VecDeque<Logged>,
    first: bool,
    ended: bool,
    /// When a sign of life is due: so long after the last line, however often the log was read in vain meanwhile.
    next_sign: Instant,
}

/// The answer; it goes on until the client leaves, the time is over, or the node stops.
pub(crate) fn response(stream: Stream) -> Response {
    let reader = Reader { stream, waiting: VecDeque::new(), first: true, ended: false, next_sign: Instant::now() };
    let lines = futures_util::stream::unfold(reader, |mut reader| async move {
        let line = reader.line().await?;
        reader.next_sign = Instant::now() + reader.stream.heartbeat;
        Some((Ok::<_, Infallible>(line), reader))
    });
    let mut response = Sse::new(lines).into_response();
    // Proxies that buffer would hold events back.
    response.headers_mut().insert("x-accel-buffering", http::HeaderValue::from_static("no"));
    response
}

impl Reader {
    async fn line(&mut self) -> Option<Line> {
        if std::mem::take(&mut self.first) {
            return Some(self.at(Line::default().retry(RETRY)));
        }
        loop {
            if let Some(logged) = self.waiting.pop_front() {
                return Some(event(&logged, self.stream.form));
            }
            if self.ended {
                return None;
            }
            match self.piece().await {
                Next::Piece(Piece { missed, events }) => {
                    self.waiting = events.into();
                    if let Some(missed) = missed {
                        return Some(render_missed(missed));
                    }
                }
                Next::Silence => return Some(self.at(Line::default().comment("still here"))),
                Next::End(reason) => {
                    self.ended = true;
                    let text = serde_json::json!({ "reason": reason }).to_string();
                    return Some(self.at(Line::default().event("end").retry(RETRY).data(text)));
                }
                Next::Failed(error) => {
                    self.ended = true;
                    let text = Problem::from(error).document().to_string();
                    return Some(self.at(Line::default().event("problem").retry(RETRY).data(text)));
                }
            }
        }
    }

    async fn piece(&mut self) -> Next {
        let Stream { feed, until, stop, over, .. } = &mut self.stream;
        tokio::select! {
            biased;
            _ = stop.wait_for(|stopped| *stopped) => Next::End("stopping"),
            over = over => Next::End(over.reason()),
            () = tokio::time::sleep_until(*until) => Next::End("renew"),
            // Before the log, which may have something to look at all the time that is not for this stream.
            () = tokio::time::sleep_until(self.next_sign) => Next::Silence,
            piece = feed.next(usize::MAX) => match piece {
                Ok(piece) => Next::Piece(piece),
                Err(EdgeError::Stopping) => Next::End("stopping"),
                Err(error) => Next::Failed(error),
            },
        }
    }

    fn at(&self, line: Line) -> Line {
        line.id(self.stream.feed.cursor().to_string())
    }
}

enum Next {
    Piece(Piece),
    Silence,
    End(&'static str),
    Failed(EdgeError),
}

fn event(logged: &Logged, form: Form) -> Line {
    let line = Line::default().id(Cursor::behind(logged).to_string());
    let rendered = render::event(logged, form);
    let line = if rendered.is_base64 { line.event("base64") } else { line };
    line.data(rendered.text)
}

fn render_missed(missed: Missed) -> Line {
    Line::default().event("missed").data(render::missed(missed).to_string())
}
