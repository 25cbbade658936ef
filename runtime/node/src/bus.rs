//! The bus as the guest code of one service sees it.
//!
//! Role: [`busway_host::Bus`] for one service: its publish grants, the limits, key-value. Called on lane threads.

use std::sync::Arc;

use busway_engine::{Engine, EngineError, KvSelect};
use busway_host::{Answering, Bus, Refusal, Request, RequestError};
use busway_types::{
    Clock, Draft, Entropy, Event, EventId, KvRead, KvVersion, KvWrite, Limits, ServiceName, SplitMix, Topic,
};
use bytes::Bytes;
use std::sync::{Mutex, PoisonError};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::contracts::Contracts;
use crate::manifest::ServiceConfig;
use crate::metrics::Metrics;
use crate::publisher::{PublishError, Publisher};
use crate::requests::Requests;
use crate::spread::Errands;

/// What one service reaches of the bus.
pub(crate) struct ServiceBus {
    pub(crate) config: ServiceConfig,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) contracts: Arc<Contracts>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) entropy: Mutex<SplitMix>,
    pub(crate) metrics: Arc<Metrics>,
    /// Who is asked for what only the owner of a bus that several nodes share has, on one that works for it.
    pub(crate) errands: Option<Errands>,
    /// Where blocking calls of tasks wait for answers; lane threads are not tokio's.
    pub(crate) runtime: Handle,
}

/// A request in progress; whoever gives it up ends it.
struct AbortOnDrop(JoinHandle<Result<Bytes, RequestError>>);

impl AbortOnDrop {
    async fn answer(mut self) -> Result<Bytes, RequestError> {
        match (&mut self.0).await {
            Ok(answer) => answer,
            Err(_) => Err(RequestError::Overloaded("the node stops".into())),
        }
    }
}

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ServiceBus {
    fn check_grant(&self, topic: &Topic) -> Result<(), Refusal> {
        if self.config.may_publish(topic) {
            return Ok(());
        }
        Err(Refusal::Denied(self.config.publish_denied(topic.as_str()).to_string()))
    }
}

impl Bus for ServiceBus {
    fn admit(&self, _service: &ServiceName, mut draft: Draft, id: Option<EventId>) -> Result<Event, Refusal> {
        self.check_grant(&draft.topic)?;
        self.contracts.check(&mut draft, &self.limits).map_err(|unfit| Refusal::Invalid(unfit.to_string()))?;
        let now = self.clock.now();
        let id = id.unwrap_or_else(|| {
            let mut entropy = self.entropy.lock().unwrap_or_else(PoisonError::into_inner);
            EventId::new(now, &mut *entropy as &mut dyn Entropy)
        });
        draft.admit(id, now, &self.limits).map_err(|error| match error {
            error @ busway_types::InvalidEvent::TooLarge { .. } => Refusal::TooLarge(error.to_string()),
            error => Refusal::Invalid(error.to_string()),
        })
    }

    fn publish_blocking(&self, _service: &ServiceName, drafts: Vec<Draft>) -> Result<Vec<EventId>, Refusal> {
        for draft in &drafts {
            self.check_grant(&draft.topic)?;
        }
        let receipts = self.runtime.block_on(self.publisher.publish(drafts)).map_err(|error| match error {
            PublishError::Overloaded(reason) => Refusal::Overloaded(reason),
            PublishError::Invalid { source: error @ busway_types::InvalidEvent::TooLarge { .. }, .. } => {
                Refusal::TooLarge(error.to_string())
            }
            error @ PublishError::Engine(_) => Refusal::Overloaded(error.to_string()),
            error => Refusal::Invalid(error.to_string()),
        })?;
        self.metrics.published(receipts.len() as u64);
        Ok(receipts.into_iter().map(|receipt| receipt.id).collect())
    }

    fn request(&self, _service: &ServiceName, request: Request) -> Answering {
        // On the node's runtime: the caller's thread is no place for timers.
        let asked = AbortOnDrop(if let Some(errands) = &self.errands {
            self.runtime.spawn(errands.request(&request))
        } else {
            let requests = Arc::clone(&self.requests);
            self.runtime.spawn(async move { requests.ask(request).await })
        });
        Box::pin(async move { asked.answer().await })
    }

    fn kv_get(&self, service: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), Refusal> {
        match &self.errands {
            Some(errands) => errands.kv_get(service, key),
            None => self.engine.kv_get(service, key).map_err(refusal),
        }
    }

    fn kv_keys(
        &self,
        service: &ServiceName,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Box<str>>, Refusal> {
        let select = KvSelect { prefix, after, limit };
        match &self.errands {
            Some(errands) => errands.kv_keys(service, &select),
            None => self.engine.kv_keys(service, &select).map_err(refusal),
        }
    }

    fn kv_bytes(&self, service: &ServiceName) -> usize {
        self.errands.as_ref().map_or_else(|| self.engine.kv_bytes(service), |errands| errands.kv_bytes(service))
    }

    fn kv_write_blocking(
        &self,
        service: &ServiceName,
        reads: Vec<KvRead>,
        writes: Vec<KvWrite>,
    ) -> Result<(), Refusal> {
        self.runtime.block_on(self.engine.kv_write(service, reads, writes)).map_err(refusal)
    }
}

fn refusal(error: EngineError) -> Refusal {
    match error {
        EngineError::Conflict(reason) => Refusal::Conflict(reason),
        error => Refusal::Overloaded(error.to_string()),
    }
}
