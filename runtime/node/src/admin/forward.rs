//! What a node that waits for its turn has the owner of the bus do.
//!
//! Role: what is published and asked over the admin API, between two nodes that share an engine. Each asks at most once:
//! without an answer nobody knows whether it was done, and whoever asked is told that.
//!
//! Bound: [`WAITING`] questions; what comes beyond that is refused.

use std::sync::Arc;

use busway_gateway::api::{ApiError, AskRequest, PublishRequest};
use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::Admin;
use crate::task_set::TaskSet;

/// Questions of other nodes that wait.
pub(crate) const WAITING: usize = 256;

/// A question of another node, and where the answer goes.
pub(crate) type Forwarded = (Bytes, Box<dyn FnOnce(Bytes) + Send>);

/// What a node asks of another one.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Asked {
    Publish(Vec<PublishRequest>),
    Request(AskRequest),
}

impl Admin {
    /// Has the owner of the bus do it.
    pub(super) async fn forward<T: DeserializeOwned>(&self, asked: &Asked) -> Result<T, ApiError> {
        let malformed = |error: serde_json::Error| ApiError::Failed {
            detail: format!(
                "what goes between two nodes is malformed ({error}); do they run the same version of busway?"
            ),
        };
        let bytes = serde_json::to_vec(asked).map_err(malformed)?;
        let answer = self.inner.engine.ask_owner(bytes.into()).await.map_err(super::failed)?;
        serde_json::from_slice::<Result<T, ApiError>>(&answer).map_err(malformed)?
    }

    async fn answer(&self, asked: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
        // What is forwarded is not forwarded again: the bus may have moved meanwhile.
        let turn = self.check_turn();
        match (serde_json::from_slice::<Asked>(asked), turn) {
            (Err(error), _) => {
                let detail = format!("another version of busway asks what this one does not know: {error}");
                serde_json::to_vec(&Err::<(), _>(ApiError::Failed { detail }))
            }
            (_, Err(error)) => serde_json::to_vec(&Err::<(), _>(error)),
            (Ok(Asked::Publish(batch)), Ok(())) => serde_json::to_vec(&self.publish_batch(batch).await),
            (Ok(Asked::Request(request)), Ok(())) => serde_json::to_vec(&self.ask(request).await),
        }
    }
}

/// Answers what other nodes ask, until the node ends.
pub(crate) async fn answer(admin: Arc<Admin>, tasks: TaskSet, mut forwarded: mpsc::Receiver<Forwarded>) {
    while let Some((asked, reply)) = forwarded.recv().await {
        let admin = Arc::clone(&admin);
        tasks.spawn(async move {
            match admin.answer(&asked).await {
                Ok(answer) => reply(answer.into()),
                Err(error) => tracing::error!(%error, "the answer to another node cannot be written"),
            }
        });
    }
}
