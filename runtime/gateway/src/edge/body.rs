//! Bodies of requests: bounded in size, in time and in what they hold.
//!
//! Invariants: no more than `body_bytes` of a body leave [`GuardedBody`]; a client that stops sending, or sends less than
//! [`EdgeLimits::BODY_PROGRESS`] bytes in `body_time`, ends its request; what [`Edge::read_body`] holds of all requests
//! together stays within `buffered_bytes`. Time that the reader takes does not count against the client.

use std::error::Error;
use std::future::Future as _;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};

use super::limits::EdgeLimits;
use super::problem::{Problem, Refusal};
use super::serve::Edge;

/// Bytes that one permit of the budget for buffered bodies stands for.
pub(super) const PERMIT_BYTES: usize = 1024;

/// Why the rest of a body does not come.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is larger than allowed.
    #[error("the body is larger than {0} bytes, which is the most that is taken here")]
    TooLarge(usize),
    /// It comes too slowly.
    #[error("the body comes in too slowly: less than 1 KiB in {0:?}")]
    Slow(Duration),
    /// The connection ended, or what came is no body.
    #[error("the body ended early: {0}")]
    Broken(String),
}

impl From<&BodyError> for Problem {
    fn from(error: &BodyError) -> Self {
        let refusal = match error {
            BodyError::TooLarge(_) => Refusal::TooLarge,
            BodyError::Slow(_) => Refusal::Slow,
            BodyError::Broken(_) => Refusal::Invalid,
        };
        Self::new(refusal, error.to_string())
    }
}

/// What an error of a body means for whoever sent it.
fn body_problem(error: &(dyn Error + 'static)) -> Problem {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<BodyError>() {
            return found.into();
        }
        next = error.source();
    }
    Problem::invalid("the body ended early")
}

/// What became of the body of a request, in the extensions of the request: whoever answers may not see it, or not say it.
#[derive(Debug, Default)]
pub(super) struct BodyState {
    /// Why the rest did not come.
    error: OnceLock<BodyError>,
    /// Whether somebody waits for more of it now.
    is_awaited: AtomicBool,
}

impl BodyState {
    /// What the client did wrong with its body.
    pub(super) fn fault(&self) -> Option<Problem> {
        self.error.get().map(Problem::from)
    }

    /// The same when the time of the whole request is over: who is waited for then is too slow.
    pub(super) fn overdue(&self) -> Option<Problem> {
        let is_awaited = self.is_awaited.load(Ordering::Relaxed);
        let slow = || is_awaited.then(|| Problem::new(Refusal::Slow, "the rest of the body did not come in time"));
        self.fault().or_else(slow)
    }

    fn failed(&self, error: BodyError) -> BodyError {
        // The first is the one that counts.
        let _ = self.error.set(error.clone());
        error
    }
}

/// The body of a request, with its bounds.
pub(super) struct GuardedBody {
    inner: Incoming,
    state: Arc<BodyState>,
    /// Bytes that may still come.
    left: usize,
    limit: usize,
    body_time: Duration,
    /// What is left of `body_time` until the next `BODY_PROGRESS` bytes have to be there.
    budget: Duration,
    progress: usize,
    waiting: Option<(Instant, Pin<Box<Sleep>>)>,
}

impl GuardedBody {
    pub(super) fn new(inner: Incoming, limits: &EdgeLimits, state: Arc<BodyState>) -> Self {
        Self {
            inner,
            state,
            left: limits.body_bytes,
            limit: limits.body_bytes,
            body_time: limits.body_time,
            budget: limits.body_time,
            progress: 0,
            waiting: None,
        }
    }

    fn came(&mut self, bytes: usize) -> Result<(), BodyError> {
        if let Some((since, _)) = self.waiting.take() {
            self.budget = self.budget.saturating_sub(since.elapsed());
        }
        self.progress += bytes;
        if self.progress >= EdgeLimits::BODY_PROGRESS {
            (self.progress, self.budget) = (0, self.body_time);
        }
        match self.left.checked_sub(bytes) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(BodyError::TooLarge(self.limit)),
        }
    }
}

impl HttpBody for GuardedBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = Pin::new(&mut this.inner).poll_frame(cx);
        this.state.is_awaited.store(frame.is_pending(), Ordering::Relaxed);
        match frame {
            Poll::Ready(Some(Ok(frame))) => {
                let bytes = frame.data_ref().map_or(0, Bytes::len);
                let came = this.came(bytes).map_err(|error| this.state.failed(error));
                Poll::Ready(Some(came.map(|()| frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                let error = this.state.failed(BodyError::Broken(error.to_string()));
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let budget = this.budget;
                let (_, sleep) =
                    this.waiting.get_or_insert_with(|| (Instant::now(), Box::pin(tokio::time::sleep(budget))));
                ready!(sleep.as_mut().poll(cx));
                Poll::Ready(Some(Err(this.state.failed(BodyError::Slow(this.body_time)))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// A body in memory. Keep it as long as its bytes are worked on: it holds their place in the budget of all requests.
#[derive(Debug, Default)]
pub struct Buffered {
    bytes: Bytes,
    _held: Option<OwnedSemaphorePermit>,
}

impl Buffered {
    /// The bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }
}

impl Edge {
    /// Reads a body into memory, within the limits.
    pub async fn read_body(&self, mut body: Body) -> Result<Buffered, Problem> {
        let mut held: Option<OwnedSemaphorePermit> = None;
        let mut first = Bytes::new();
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|error| body_problem(&error))?;
            let Ok(piece) = frame.into_data() else { continue };
            hold(&self.buffered, &mut held, piece.len())?;
            // Most bodies come in one piece and are never copied.
            if first.is_empty() {
                first = piece;
                continue;
            }
            if whole.is_empty() {
                whole.extend_from_slice(&first);
            }
            whole.extend_from_slice(&piece);
        }
        let bytes = if whole.is_empty() { first } else { whole.freeze() };
        Ok(Buffered { bytes, _held: held })
    }
}

fn hold(budget: &Arc<Semaphore>, held: &mut Option<OwnedSemaphorePermit>, bytes: usize) -> Result<(), Problem> {
    let permits = u32::try_from(bytes.div_ceil(PERMIT_BYTES)).unwrap_or(u32::MAX);
    let more = Arc::clone(budget).try_acquire_many_owned(permits).map_err(|_| {
        Problem::new(Refusal::Overloaded, "the bodies of other requests fill the space for them; send it again later")
    })?;
    match held {
        Some(held) => held.merge(more),
        None => *held = Some(more),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_went_wrong_with_a_body_is_found_under_whatever_wraps_it() {
        let wrapped = |error: BodyError| body_problem(&axum::Error::new(error)).refusal();
        assert_eq!(wrapped(BodyError::Slow(Duration::from_secs(1))), Refusal::Slow);
        assert_eq!(wrapped(BodyError::TooLarge(1)), Refusal::TooLarge);
        assert_eq!(body_problem(&std::fmt::Error).refusal(), Refusal::Invalid);
    }
}
