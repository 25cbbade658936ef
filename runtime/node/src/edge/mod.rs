//! The node behind the gateway.
//!
//! Role: answers the calls of `busway_gateway::edge` from the publisher, the contracts, the services and the engine. Holds
//! no state of its own. Invariant: until every subscription of the app exists nothing is accepted; while the node drains,
//! what is in flight is still answered.

mod listen;

use std::sync::Arc;

use busway_contract::Contract;
use busway_engine::EngineError;
use busway_gateway::api::TailFrom;
use busway_gateway::edge::{BoxedBody, EdgeBackend, EdgeError, EdgeReply, EdgeRequest};
use busway_gateway::{TailBatch, TailRead};
use busway_host::{Mismatch, Request, RequestError};
use busway_types::{Causality, Draft, InvalidEvent, Key, Limits, Offset, Origin, Receipt, ServiceName, Timestamp};
use bytes::Bytes;

use crate::contracts::Unfit;
use crate::inner::{Inner, Stop};
use crate::publisher::PublishError;

pub(crate) use listen::{Bound, Listening};

/// The gateway's view of a node.
pub(crate) struct EdgeNode {
    pub(crate) inner: Arc<Inner>,
}

impl EdgeNode {
    fn check_running(&self) -> Result<(), EdgeError> {
        if *self.inner.stop.borrow() == Stop::Now {
            return Err(EdgeError::Stopping);
        }
        self.inner.check_turn().map_err(failed)?;
        if !*self.inner.ready.borrow() {
            return Err(EdgeError::Overloaded("the services of the app are being started".to_owned()));
        }
        Ok(())
    }

    async fn ask(&self, request: EdgeRequest) -> Result<Bytes, EdgeError> {
        self.check_running()?;
        let EdgeRequest { topic, key, data, within, traceparent, correlation } = request;
        let limits = &self.inner.limits;
        if data.len() > limits.event_bytes {
            let most = limits.event_bytes;
            return Err(EdgeError::TooLarge(format!(
                "the parameters have more than {most} bytes (limits.event-bytes)"
            )));
        }
        let Some(checked) = self.inner.contracts.check_request(&topic, &data) else {
            return Err(EdgeError::NotFound(format!("no service answers `{topic}`")));
        };
        let key = match checked.map_err(|unfit| unfit_data(&unfit, None))?.key {
            Some(found) => Some(Key::new(&found, limits).map_err(|error| EdgeError::Invalid {
                detail: error.to_string(),
                index: None,
                path: Some("key".to_owned()),
                is_contract: false,
            })?),
            None => key,
        };
        let causality: Causality = Origin { traceparent, correlation, ..Origin::default() }.into();
        let request = Request { id: None, topic, key, data, causality, within, chain: Arc::new([]) };
        self.inner.requests.ask(request).await.map_err(|error| match error {
            RequestError::NoHandler(_) => EdgeError::NotFound(error.to_string()),
            RequestError::Overloaded(detail) => EdgeError::Overloaded(detail),
            // Others are waiting in a circle; once they gave up it may be answered.
            RequestError::Deadlock(_) => EdgeError::Overloaded(error.to_string()),
            RequestError::TimedOut(detail) => EdgeError::TimedOut(detail),
            RequestError::Failed(_) => EdgeError::BadAnswer(error.to_string()),
        })
    }
}

/// Data that breaks a contract, with the field.
fn unfit_data(unfit: &Unfit, index: Option<usize>) -> EdgeError {
    let path = match unfit {
        Unfit::Data { mismatch: Mismatch::Type { path, .. }, .. } if !path.is_empty() => Some(path.clone()),
        Unfit::OtherKey { .. } | Unfit::Key(_) => Some("key".to_owned()),
        _ => None,
    };
    EdgeError::Invalid { detail: unfit.to_string(), index, path, is_contract: true }
}

fn failed(error: EngineError) -> EdgeError {
    match error {
        EngineError::Closed => EdgeError::Stopping,
        EngineError::Overloaded(why) => EdgeError::Overloaded(why),
        error => EdgeError::Failed(error.to_string()),
    }
}

impl From<PublishError> for EdgeError {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Invalid { source: InvalidEvent::TooLarge { .. }, .. }
            | PublishError::BatchTooLarge { .. }
            | PublishError::BatchBytes { .. } => Self::TooLarge(error.to_string()),
            PublishError::Invalid { index, source } => {
                Self::Invalid { detail: source.to_string(), index: Some(index), path: None, is_contract: false }
            }
            PublishError::Unfit { index, source } => unfit_data(&source, Some(index)),
            PublishError::Overloaded(detail) => Self::Overloaded(detail),
            PublishError::Engine(error) => failed(error),
        }
    }
}

impl EdgeBackend for EdgeNode {
    fn limits(&self) -> &Limits {
        &self.inner.limits
    }

    fn now(&self) -> Timestamp {
        self.inner.clock.now()
    }

    fn is_ready(&self) -> bool {
        *self.inner.ready.borrow() && !self.inner.is_stopping() && self.inner.check_turn().is_ok()
    }

    fn contracts(&self) -> Vec<Arc<Contract>> {
        self.inner.contracts.all()
    }

    fn publish(&self, drafts: Vec<Draft>) -> EdgeReply<'_, Vec<Receipt>> {
        Box::pin(async move {
            self.check_running()?;
            Ok(self.inner.publisher.publish(drafts).await?)
        })
    }

    fn request(&self, request: EdgeRequest) -> EdgeReply<'_, Bytes> {
        Box::pin(self.ask(request))
    }

    fn http(
        &self,
        service: &ServiceName,
        request: http::Request<BoxedBody>,
    ) -> EdgeReply<'_, http::Response<BoxedBody>> {
        let service = service.clone();
        Box::pin(async move {
            self.check_running()?;
            crate::services::http::answer(&self.inner, &service, request).await
        })
    }

    fn position(&self, from: TailFrom) -> EdgeReply<'_, Offset> {
        Box::pin(async move { self.inner.position(from).map_err(failed) })
    }

    fn read(&self, read: TailRead) -> EdgeReply<'_, TailBatch> {
        Box::pin(async move { self.inner.read(read).await.map_err(failed) })
    }
}
