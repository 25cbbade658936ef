//! The two bodies of a request, watched: every part that moves is noted, and whoever gives up the answer ends the request.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::{Buf as _, Bytes};
use http_body::{Body, Frame, SizeHint};
use wasmtime_wasi_http::Error;
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;

use super::HttpBody;
use super::control::Control;

/// The body of a request, on its way to the guest.
pub(super) struct Asked {
    body: HttpBody,
    control: Arc<Control>,
}

impl Asked {
    pub(super) fn new(body: HttpBody, control: Arc<Control>) -> Self {
        Self { body, control }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.control.asked();
    }
}

impl Body for Asked {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.control.moved();
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                self.control.asked();
                Some(Err(Error::InternalError(Some(format!("the request broke off: {error}")))))
            }
            None => {
                self.control.asked();
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// The answer broke off.
#[derive(Debug, thiserror::Error)]
#[error("the service ended in the middle of its answer")]
struct BrokenOff;

/// The body of an answer, on its way from the guest.
pub(super) struct Answered {
    body: HyperOutgoingBody,
    control: Arc<Control>,
    /// What is left of the length that the answer announced.
    left: Option<u64>,
    ended: bool,
}

impl Answered {
    /// The body of an answer with this length, or of one that nobody will read.
    pub(super) fn new(body: HyperOutgoingBody, control: Arc<Control>, length: Option<u64>, unread: bool) -> Self {
        Self { body, control, left: length, ended: unread }
    }
}

impl Drop for Answered {
    fn drop(&mut self) {
        // A length that is used up is an end as well: nobody asks for what comes after it.
        if !self.ended && self.left != Some(0) {
            self.control.cancel();
        }
    }
}

impl Body for Answered {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(context));
        self.control.moved();
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
                    *left = left.saturating_sub(data.remaining() as u64);
                }
                Some(Ok(frame))
            }
            Some(Err(error)) => Some(Err(error.to_string().into())),
            None if self.control.is_broken() => Some(Err(BrokenOff.into())),
            None => {
                self.ended = true;
                None
            }
        })
    }

    fn is_end_stream(&self) -> bool {
        self.ended
    }

    fn size_hint(&self) -> SizeHint {
        self.left.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
