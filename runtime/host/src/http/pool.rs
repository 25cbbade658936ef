//! The pool of one service: a bounded number of requests in instances, and a bounded queue before them.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use http::{Request, Response};
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use super::control::{Control, Waiting};
use super::serve::serve;
use super::{HttpBody, HttpError, HttpSettings, HttpStats};
use crate::linked::{Linked, LinkedInner};
use crate::task::GuestError;

/// Where one version of a service answers HTTP. Dropping it closes it; what was admitted still runs to its end.
pub struct HttpPool(Arc<Shared>);

/// What the pool and its requests share.
pub(super) struct Shared {
    pub(super) linked: Arc<LinkedInner>,
    pub(super) settings: HttpSettings,
    pub(super) figures: Figures,
    /// One permit for each request in an instance.
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    runtime: Handle,
    /// Set, then told, when everything has to end.
    stopped: AtomicBool,
    stop: Notify,
}

/// Counters; see [`HttpStats`].
#[derive(Debug, Default)]
pub(super) struct Figures {
    pub(super) taken: AtomicU64,
    pub(super) answered: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) timed_out: AtomicU64,
    pub(super) cancelled: AtomicU64,
    pub(super) overloaded: AtomicU64,
    pub(super) memory_bytes: AtomicUsize,
    pub(super) busy_ns: AtomicU64,
}

impl fmt::Debug for HttpPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let service = &self.0.linked.service.settings.name;
        f.debug_struct("HttpPool").field("service", service).field("settings", &self.0.settings).finish_non_exhaustive()
    }
}

impl Linked {
    /// Makes a pool that answers HTTP. No instance exists until a request comes.
    pub fn http(&self, settings: HttpSettings) -> Result<HttpPool, GuestError> {
        if self.0.http.is_none() {
            return Err(GuestError::NotExported("wasi:http/incoming-handler"));
        }
        let runtime = self.0.host.0.http_runtime().ok_or(GuestError::NoThread)?;
        let concurrency = settings.concurrency.clamp(1, Semaphore::MAX_PERMITS);
        Ok(HttpPool(Arc::new(Shared {
            linked: self.0.clone(),
            settings: HttpSettings { concurrency, ..settings },
            figures: Figures::default(),
            permits: Arc::new(Semaphore::new(concurrency)),
            waiting: AtomicUsize::new(0),
            runtime,
            stopped: AtomicBool::new(false),
            stop: Notify::new(),
        })))
    }
}

/// A place in the queue.
struct Place<'a>(&'a AtomicUsize);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl HttpPool {
    /// Waits for the right to one instance, for a bounded time; says at once when too many wait already.
    pub async fn admit(&self) -> Result<Admitted, HttpError> {
        let shared = &self.0;
        let admitted = |permit| Admitted { shared: shared.clone(), permit };
        match shared.permits.clone().try_acquire_owned() {
            Ok(permit) => return Ok(admitted(permit)),
            Err(tokio::sync::TryAcquireError::Closed) => return Err(HttpError::Closed),
            Err(tokio::sync::TryAcquireError::NoPermits) => {}
        }
        let overloaded = || {
            shared.figures.overloaded.fetch_add(1, Relaxed);
            HttpError::Overloaded(shared.linked.service.settings.name.to_string())
        };
        let place = Place(&shared.waiting);
        if shared.waiting.fetch_add(1, Relaxed) >= shared.settings.queue {
            return Err(overloaded());
        }
        let permit = tokio::time::timeout(shared.settings.queue_time, shared.permits.clone().acquire_owned()).await;
        drop(place);
        match permit {
            Ok(Ok(permit)) => Ok(admitted(permit)),
            Ok(Err(_)) => Err(HttpError::Closed),
            Err(_) => Err(overloaded()),
        }
    }

    /// Takes nothing any more: whoever waits hears [`HttpError::Closed`]; what was admitted runs to its end.
    pub fn close(&self) {
        self.0.permits.close();
    }

    /// Closes the pool and ends what runs.
    pub fn stop(&self) {
        self.close();
        self.0.stopped.store(true, Relaxed);
        self.0.stop.notify_waiters();
    }

    /// Whether nothing runs.
    pub fn is_drained(&self) -> bool {
        self.0.running() == 0
    }

    /// How much there is to do for each instance that may be: what runs and what waits, divided by them.
    pub fn load(&self) -> f64 {
        (self.0.running() + self.0.waiting.load(Relaxed)) as f64 / self.0.settings.concurrency as f64
    }

    /// The pool's figures.
    pub fn stats(&self) -> HttpStats {
        let figures = &self.0.figures;
        HttpStats {
            running: self.0.running(),
            waiting: self.0.waiting.load(Relaxed),
            taken: figures.taken.load(Relaxed),
            answered: figures.answered.load(Relaxed),
            failed: figures.failed.load(Relaxed),
            timed_out: figures.timed_out.load(Relaxed),
            cancelled: figures.cancelled.load(Relaxed),
            overloaded: figures.overloaded.load(Relaxed),
            memory_bytes: figures.memory_bytes.load(Relaxed),
            busy_ns: figures.busy_ns.load(Relaxed),
        }
    }
}

impl Drop for HttpPool {
    fn drop(&mut self) {
        self.close();
    }
}

impl Shared {
    fn running(&self) -> usize {
        self.settings.concurrency.saturating_sub(self.permits.available_permits())
    }

    /// Returns when everything has to end.
    pub(super) async fn stopped(&self) {
        let stop = self.stop.notified();
        if !self.stopped.load(Relaxed) {
            stop.await;
        }
    }
}

/// The right to give one request to an instance.
pub struct Admitted {
    shared: Arc<Shared>,
    permit: OwnedSemaphorePermit,
}

impl fmt::Debug for Admitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admitted").finish_non_exhaustive()
    }
}

impl Admitted {
    /// Gives the request to an instance; returns with the head of the answer. Dropping this, or the body of the answer
    /// before its end, ends the request.
    pub async fn handle(self, request: Request<HttpBody>) -> Result<Response<HttpBody>, HttpError> {
        let Self { shared, permit } = self;
        check(&request)?;
        shared.figures.taken.fetch_add(1, Relaxed);
        let has_body = !http_body::Body::is_end_stream(request.body());
        let control = Arc::new(Control::new(shared.linked.service.clock.clone(), has_body));
        let waiting = Waiting::new(control.clone());
        let (tell, answer) = oneshot::channel();
        shared.runtime.spawn(serve(shared.clone(), control, request, tell, permit));
        let answer = answer.await;
        waiting.disarm();
        answer.unwrap_or_else(|_| Err(HttpError::Failed("the host ended the request; this is a bug of busway".into())))
    }
}

/// A component is told whom the request was for.
fn check(request: &Request<HttpBody>) -> Result<(), HttpError> {
    let invalid = |what: &str| Err(HttpError::Invalid(what.into()));
    match (request.uri().authority(), request.headers().get(http::header::HOST)) {
        (None, None) => invalid("the request names no host; send the header `Host`"),
        (None, Some(host)) if host.to_str().is_err() => invalid("the header `Host` is not text"),
        _ => Ok(()),
    }
}
