//! What a node that waits for its turn has the owner of the bus do.
//!
//! Role: what is published and asked over the admin API, between two nodes that share an engine. Each asks at most once:
//! without an answer nobody knows whether it was done, and whoever asked is told that.
//!
//! How a question gets to the owner and its answer back is `spread`'s.

use std::time::Duration;

use busway_gateway::api::{ApiError, AskRequest, PublishRequest, StatusReport};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Admin;
use crate::spread::Errand;

/// How long a node waits for what the owner shows.
const STATUS_FOR: Duration = Duration::from_secs(1);

/// What a node asks of another one.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Asked {
    Publish(Vec<PublishRequest>),
    Request(AskRequest),
    /// What the owner shows of the bus.
    Status,
    /// A guest of the other node needs it.
    Errand(Errand),
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
        let (Some(spread), Some(whose)) = (&self.inner.spread, self.inner.engine.standby()) else {
            return Err(ApiError::Overloaded { detail: "the bus comes to this node just now; ask again".to_owned() });
        };
        let answer = spread.ask(bytes.into(), &whose).await.map_err(super::failed)?;
        serde_json::from_slice::<Result<T, ApiError>>(&answer).map_err(malformed)?
    }

    /// What this node says of itself, with what the owner of the bus says of that; alone when it does not answer soon.
    pub(super) async fn with_the_owners(&self, own: StatusReport) -> StatusReport {
        let asked = tokio::time::timeout(STATUS_FOR, self.forward::<StatusReport>(&Asked::Status)).await;
        match asked {
            Ok(Ok(owners)) => StatusReport { node: own.node, ..owners },
            Ok(Err(_)) | Err(_) => own,
        }
    }

    /// Answers what another node asks.
    pub(crate) async fn answer(&self, asked: &[u8]) -> Result<Vec<u8>, serde_json::Error> {
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
            (Ok(Asked::Status), Ok(())) => {
                serde_json::to_vec(&Ok::<_, ApiError>(super::status::report(&self.inner).await))
            }
            (Ok(Asked::Errand(errand)), Ok(())) => errand.run(&self.inner).await,
        }
    }
}
