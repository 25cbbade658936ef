//! A node made of a vector. What a test needs beside it: its public fields.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use busway_contract::Contract;
use busway_gateway::api::TailFrom;
use busway_gateway::edge::{BoxedBody, EdgeBackend, EdgeError, EdgeReply, EdgeRequest, RequestContext};
use busway_gateway::{TailBatch, TailRead};
use busway_types::{Draft, EventId, Limits, Logged, Offset, Receipt, ServiceName, Timestamp};
use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio::sync::Notify;

/// Answers a request over the bus, as a service would.
pub(crate) type Answerer = Box<dyn Fn(&EdgeRequest) -> Result<Bytes, EdgeError> + Send + Sync>;

/// A node that keeps what it is given.
pub(crate) struct Fake {
    pub(crate) limits: Limits,
    pub(crate) events: Mutex<Vec<Logged>>,
    pub(crate) appended: Notify,
    pub(crate) oldest: AtomicU64,
    pub(crate) is_ready: AtomicBool,
    /// The time of day, in milliseconds since 1970.
    pub(crate) now: AtomicU64,
    pub(crate) contracts: Mutex<Vec<Arc<Contract>>>,
    /// What was asked over the bus.
    pub(crate) requests: Mutex<Vec<EdgeRequest>>,
    /// Who answers it; nobody when there is none.
    pub(crate) answerer: Mutex<Option<Answerer>>,
    /// What the next publish fails with.
    pub(crate) refuse: Mutex<Option<EdgeError>>,
    /// After how long a read that waits is answered with nothing, as a node does; never when there is none.
    pub(crate) read_waits: Mutex<Option<Duration>>,
    /// How long an HTTP service takes.
    pub(crate) service_takes: Mutex<Duration>,
}

impl Default for Fake {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            events: Mutex::default(),
            appended: Notify::new(),
            oldest: AtomicU64::new(0),
            is_ready: AtomicBool::new(true),
            now: AtomicU64::new(1_000),
            contracts: Mutex::default(),
            requests: Mutex::default(),
            answerer: Mutex::default(),
            refuse: Mutex::default(),
            read_waits: Mutex::default(),
            service_takes: Mutex::default(),
        }
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Fake {
    fn head(&self) -> Offset {
        lock(&self.events).len() as u64
    }

    fn append(&self, drafts: Vec<Draft>) -> Result<Vec<Receipt>, EdgeError> {
        if let Some(refused) = lock(&self.refuse).take() {
            return Err(refused);
        }
        let mut events = lock(&self.events);
        let mut admitted = Vec::new();
        let mut receipts = Vec::new();
        for (index, draft) in drafts.into_iter().enumerate() {
            let offset = (events.len() + admitted.len()) as u64;
            let same = |logged: &&Logged| Some(logged.event.id) == draft.id && logged.event.topic == draft.topic;
            if let Some(known) = events.iter().find(same) {
                receipts.push(Receipt { id: known.event.id, offset: Some(known.offset) });
                continue;
            }
            let id = draft.id.unwrap_or_else(|| EventId::from_u128(u128::from(offset) + 1));
            let event = draft.admit(id, self.now(), &self.limits).map_err(|error| EdgeError::Invalid {
                detail: error.to_string(),
                index: Some(index),
                path: None,
                is_contract: false,
            })?;
            admitted.push(Logged { offset, event: Arc::new(event) });
            receipts.push(Receipt { id, offset: Some(offset) });
        }
        events.extend(admitted);
        drop(events);
        self.appended.notify_waiters();
        Ok(receipts)
    }

    fn read_now(&self, read: &TailRead) -> TailBatch {
        let events = lock(&self.events);
        let oldest = self.oldest.load(Ordering::Relaxed);
        let from = read.from.max(oldest);
        let mut next = from;
        let mut selected = Vec::new();
        for logged in events.iter().filter(|logged| logged.offset >= from) {
            if selected.len() >= read.max_events {
                break;
            }
            next = logged.offset + 1;
            if read.patterns.is_empty() || read.patterns.iter().any(|p| p.matches(&logged.event.topic)) {
                selected.push(logged.clone());
            }
        }
        TailBatch { events: selected, next, oldest, head: events.len() as u64 }
    }

    /// Gives back the body of a request, with what its head was.
    async fn echo(
        &self,
        service: &ServiceName,
        request: http::Request<BoxedBody>,
    ) -> Result<http::Response<BoxedBody>, EdgeError> {
        if service.as_str() == "nobody" {
            return Err(EdgeError::NotFound("the service `nobody` does not run".to_owned()));
        }
        let takes = *lock(&self.service_takes);
        tokio::time::sleep(takes).await;
        let (parts, mut body) = request.into_parts();
        if service.as_str() == "reads" {
            // As a component that gives up when its request breaks off.
            while let Some(frame) = body.frame().await {
                frame.map_err(|_| EdgeError::BadAnswer("the service failed".to_owned()))?;
            }
        }
        let context = parts.extensions.get::<RequestContext>().expect("what goes with every request");
        let certificate = context.peer.certificate.as_ref().and_then(|certificate| certificate.subject.clone());
        let mut builder = http::Response::builder()
            .header("x-method", parts.method.as_str())
            .header("x-path", parts.uri.path_and_query().map_or("", |path| path.as_str()));
        if let Some(subject) = certificate {
            builder = builder.header("x-client-certificate", &*subject);
        }
        for (name, value) in &parts.headers {
            builder = builder.header(format!("x-seen-{name}"), value);
        }
        builder.body(body).map_err(|error| EdgeError::Failed(error.to_string()))
    }
}

impl EdgeBackend for Fake {
    fn limits(&self) -> &Limits {
        &self.limits
    }

    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }

    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::Relaxed)
    }

    fn contracts(&self) -> Vec<Arc<Contract>> {
        lock(&self.contracts).clone()
    }

    fn publish(&self, drafts: Vec<Draft>) -> EdgeReply<'_, Vec<Receipt>> {
        Box::pin(async { self.append(drafts) })
    }

    fn request(&self, request: EdgeRequest) -> EdgeReply<'_, Bytes> {
        Box::pin(async move {
            lock(&self.requests).push(request.clone());
            match &*lock(&self.answerer) {
                Some(answerer) => answerer(&request),
                None => Err(EdgeError::NotFound(format!("no service answers `{}`", request.topic))),
            }
        })
    }

    fn http(
        &self,
        service: &ServiceName,
        request: http::Request<BoxedBody>,
    ) -> EdgeReply<'_, http::Response<BoxedBody>> {
        let service = service.clone();
        Box::pin(async move { self.echo(&service, request).await })
    }

    fn position(&self, from: TailFrom) -> EdgeReply<'_, Offset> {
        Box::pin(async move {
            Ok(match from {
                TailFrom::Start => self.oldest.load(Ordering::Relaxed),
                TailFrom::Now => self.head(),
                TailFrom::Offset(offset) => offset,
                TailFrom::Time(_) => 0,
            })
        })
    }

    fn read(&self, read: TailRead) -> EdgeReply<'_, TailBatch> {
        Box::pin(async move {
            loop {
                let appended = self.appended.notified();
                let batch = self.read_now(&read);
                if !read.wait || !batch.events.is_empty() || batch.next > read.from {
                    return Ok(batch);
                }
                let waits = *lock(&self.read_waits);
                match waits {
                    None => appended.await,
                    Some(waits) if tokio::time::timeout(waits, appended).await.is_err() => return Ok(batch),
                    Some(_) => {}
                }
            }
        })
    }
}
