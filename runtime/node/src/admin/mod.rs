//! The node behind the admin API.
//!
//! Role: answers the calls of `busway-gateway` from the engine, the driver and the services. Holds no state of its own.

mod ask;
mod dead;
mod forward;
mod replay;
mod status;
mod trace;

use std::sync::Arc;

use busway_engine::KvSelect;
use busway_gateway::api::{
    ApiError, AskReply, AskRequest, DeadChanged, DeadDetail, DeadFilter, DeadPage, ForgetRequest, Forgotten, KvEntry,
    KvPage, KvQuery, PublishReply, PublishRequest, ReplayReply, ReplayRequest, ServiceInfo, ShutdownRequest,
    StatusReport, TailFrom, Trace, TraceQuery,
};
use busway_gateway::{AdminBackend, Reply, TailBatch, TailRead};
use busway_types::{EventId, Offset, ServiceName, Topic};
use rustc_hash::FxHashMap;

pub(crate) use self::forward::Asked;
use crate::inner::{Inner, Stop};
use crate::publisher::PublishError;

/// The admin API's view of a node.
pub(crate) struct Admin {
    pub(crate) inner: Arc<Inner>,
}

impl From<PublishError> for ApiError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Invalid { index, source } => Self::from(source).at(index),
            PublishError::Unfit { index, source } => Self::invalid(source.to_string()).at(index),
            PublishError::BatchTooLarge { .. } | PublishError::BatchBytes { .. } => Self::invalid(error.to_string()),
            PublishError::Overloaded(detail) => Self::Overloaded { detail },
            PublishError::Engine(busway_engine::EngineError::Closed) => Self::stopping(),
            PublishError::Engine(error) => Self::Failed { detail: error.to_string() },
        }
    }
}

fn failed(error: busway_engine::EngineError) -> ApiError {
    match error {
        busway_engine::EngineError::Closed => ApiError::stopping(),
        busway_engine::EngineError::Overloaded(detail) => ApiError::Overloaded { detail },
        error @ busway_engine::EngineError::Unanswered(_) => ApiError::TimedOut { detail: error.to_string() },
        error => ApiError::Failed { detail: error.to_string() },
    }
}

impl Admin {
    fn check_running(&self) -> Result<(), ApiError> {
        if self.inner.is_stopping() { Err(ApiError::stopping()) } else { self.check_turn() }
    }

    fn check_turn(&self) -> Result<(), ApiError> {
        self.inner.check_turn().map_err(failed)
    }

    /// Waits until the app has started; the gateway bounds how long.
    async fn started(&self) -> Result<(), ApiError> {
        self.inner.check_turn().map_err(failed)?;
        let (mut ready, mut stop) = (self.inner.ready.subscribe(), self.inner.stop.subscribe());
        tokio::select! {
            _ = ready.wait_for(|ready| *ready) => {}
            _ = stop.wait_for(|stop| *stop != Stop::No) => {}
        }
        self.check_running()
    }

    async fn publish_batch(&self, batch: Vec<PublishRequest>) -> Result<Vec<PublishReply>, ApiError> {
        self.started().await?;
        let now = self.inner.clock.now();
        let mut drafts = Vec::with_capacity(batch.len());
        for (index, request) in batch.into_iter().enumerate() {
            drafts.push(request.into_draft(now, &self.inner.limits).map_err(|error| error.at(index))?);
        }
        let topics: Vec<Topic> = drafts.iter().map(|draft| draft.topic.clone()).collect();
        let receipts = self.inner.publisher.publish(drafts).await?;
        // Most batches have one topic: look each up once.
        let mut known: FxHashMap<Topic, (usize, Option<String>)> = FxHashMap::default();
        let (catalog, bridges) = (&self.inner.services, &self.inner.bridges);
        let selecting = |topic: &Topic| catalog.subscribers(topic) + bridges.subscribers(topic);
        let replies = receipts.into_iter().zip(topics).map(|(receipt, topic)| {
            let (subscribers, hint) = known.entry(topic).or_insert_with_key(|topic| match selecting(topic) {
                0 => (0, catalog.nearest_pattern(topic)),
                subscribers => (subscribers, None),
            });
            PublishReply { id: receipt.id, offset: receipt.offset, subscribers: *subscribers, hint: hint.clone() }
        });
        Ok(replies.collect())
    }

    async fn ask(&self, request: AskRequest) -> Result<AskReply, ApiError> {
        self.started().await?;
        ask::ask(&self.inner, request).await
    }

    /// Refuses to work on a service that never was here: more likely its name is mistyped.
    fn check_known(&self, service: &ServiceName) -> Result<(), ApiError> {
        let engine = &self.inner.engine;
        if self.inner.services.get(service).is_some() || engine.subscriptions().iter().any(|s| s.service == *service) {
            return Ok(());
        }
        let select = KvSelect { prefix: "", after: None, limit: 1 };
        if !engine.kv_entries(service, &select).map_err(failed)?.0.is_empty() {
            return Ok(());
        }
        Err(ApiError::not_found(format!("no service `{service}` is known here; `busway status` lists them")))
    }
}

impl AdminBackend for Admin {
    fn publish(&self, batch: Vec<PublishRequest>) -> Reply<'_, Vec<PublishReply>> {
        Box::pin(async move {
            if self.inner.engine.standby().is_some() {
                return self.forward(&Asked::Publish(batch)).await;
            }
            self.publish_batch(batch).await
        })
    }

    fn request(&self, request: AskRequest) -> Reply<'_, AskReply> {
        Box::pin(async move {
            if self.inner.engine.standby().is_some() {
                return self.forward(&Asked::Request(request)).await;
            }
            self.ask(request).await
        })
    }

    fn tail_position(&self, from: TailFrom) -> Reply<'_, Offset> {
        Box::pin(async move { self.inner.position(from).map_err(failed) })
    }

    fn tail_read(&self, read: TailRead) -> Reply<'_, TailBatch> {
        Box::pin(async move { self.inner.read(read).await.map_err(failed) })
    }

    fn status(&self) -> Reply<'_, StatusReport> {
        Box::pin(async move {
            let own = status::report(&self.inner).await;
            Ok(if own.node.standby.is_some() { self.with_the_owners(own).await } else { own })
        })
    }

    fn service(&self, name: ServiceName) -> Reply<'_, ServiceInfo> {
        Box::pin(async move {
            self.check_turn()?;
            status::service(&self.inner, &name).await.ok_or_else(|| {
                ApiError::not_found(format!("no service `{name}` runs here; `busway status` lists them"))
            })
        })
    }

    fn dead_list(&self, filter: DeadFilter) -> Reply<'_, DeadPage> {
        Box::pin(async move {
            self.check_turn()?;
            dead::list(&self.inner, &filter)
        })
    }

    fn dead_show(&self, id: EventId) -> Reply<'_, Vec<DeadDetail>> {
        Box::pin(async move {
            self.check_turn()?;
            dead::show(&self.inner, id)
        })
    }

    fn dead_retry(&self, filter: DeadFilter) -> Reply<'_, DeadChanged> {
        Box::pin(async move {
            self.check_running()?;
            filter.service.as_ref().map_or(Ok(()), |service| self.check_known(service))?;
            dead::change(&self.inner, &filter, dead::Change::Retry).await
        })
    }

    fn dead_drop(&self, filter: DeadFilter) -> Reply<'_, DeadChanged> {
        Box::pin(async move {
            self.check_running()?;
            filter.service.as_ref().map_or(Ok(()), |service| self.check_known(service))?;
            dead::change(&self.inner, &filter, dead::Change::Drop).await
        })
    }

    fn trace(&self, id: EventId, query: TraceQuery) -> Reply<'_, Trace> {
        Box::pin(async move {
            self.check_turn()?;
            trace::trace(&self.inner, id, query).await
        })
    }

    fn forget(&self, request: ForgetRequest) -> Reply<'_, Forgotten> {
        Box::pin(async move {
            self.check_running()?;
            replay::forget(&self.inner, request).await
        })
    }

    fn replay(&self, request: ReplayRequest) -> Reply<'_, ReplayReply> {
        Box::pin(async move {
            self.check_running()?;
            replay::replay(&self.inner, request).await
        })
    }

    fn kv_list(&self, service: ServiceName, query: KvQuery) -> Reply<'_, KvPage> {
        Box::pin(async move {
            self.check_turn()?;
            self.check_known(&service)?;
            let prefix = query.prefix.unwrap_or_default();
            let limit = query.limit.unwrap_or(KvQuery::LIMIT).min(KvQuery::LIMIT);
            let select = KvSelect { prefix: &prefix, after: query.after.as_deref(), limit };
            let (entries, more) = self.inner.engine.kv_entries(&service, &select).map_err(failed)?;
            let entries = entries.into_iter().map(|(key, value)| KvEntry::new(key.into(), &value)).collect();
            Ok(KvPage { entries, more })
        })
    }

    fn shutdown(&self, request: ShutdownRequest) -> Reply<'_, ()> {
        Box::pin(async move {
            self.inner.request_stop(request.now);
            Ok(())
        })
    }
}
