//! What nodes ask one another through the server: a node that waits has the owner answer what it was asked.
//!
//! Role: a subject of its own, no stream: asked and answered at most once, kept nowhere. Bound: [`AT_ONCE`] at a time; what
//! comes beyond that is not answered, and whoever asked is told after its time that nobody knows.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, Request, RequestErrorKind};
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use crate::{EngineError, Sink};

/// Questions that are being answered.
const AT_ONCE: usize = 256;
/// How long an answer may take.
const ANSWER_FOR: Duration = Duration::from_secs(40);
/// Marks an answer that was too long to be sent.
const TOO_LONG: &str = "Busway-Too-Long";

/// The subject on which the owner of a bus is asked.
pub(super) fn subject(name: &str) -> String {
    format!("busway.{name}.ask")
}

/// Has the owner answer; `whose` says who that is.
pub(super) async fn ask(client: Client, name: String, asked: Bytes, whose: String) -> Result<Bytes, EngineError> {
    let most = client.max_payload();
    if asked.len() > most {
        return Err(EngineError::Overloaded(format!(
            "{whose}, and {} bytes are more than can be forwarded to it ({most}); send less at a time, or to that node",
            asked.len()
        )));
    }
    let request = Request::new().payload(asked).timeout(Some(ANSWER_FOR));
    match client.send_request(subject(&name), request).await {
        Ok(answer) if answer.headers.as_ref().is_some_and(|headers| headers.get(TOO_LONG).is_some()) => {
            Err(EngineError::Unanswered(format!(
                "{whose}; it did what was asked, but its answer is too long to be sent here"
            )))
        }
        Ok(answer) => Ok(answer.payload),
        Err(error) => match error.kind() {
            RequestErrorKind::NoResponders => {
                Err(EngineError::Overloaded(format!("{whose}, and it does not answer now")))
            }
            _ => Err(EngineError::Unanswered(format!("{whose}, and its answer did not come: {error}"))),
        },
    }
}

/// Answers for as long as this node owns the bus.
pub(super) async fn answer(client: Client, name: String, sink: Arc<dyn Sink>) {
    let mut asked = match client.subscribe(subject(&name)).await {
        Ok(asked) => asked,
        Err(error) => {
            tracing::warn!("what other nodes forward cannot be answered: {error}");
            return;
        }
    };
    let room = Arc::new(Semaphore::new(AT_ONCE));
    while let Some(Message { reply, payload, .. }) = asked.next().await {
        let (Some(reply), Ok(place)) = (reply, Arc::clone(&room).try_acquire_owned()) else { continue };
        let (client, runtime) = (client.clone(), Handle::current());
        let send = move |answer: Bytes| {
            runtime.spawn(async move {
                // Whoever asked is told after its time when this does not arrive.
                let sent = if answer.len() > client.max_payload() {
                    let mut headers = HeaderMap::new();
                    headers.insert(TOO_LONG, answer.len().to_string());
                    client.publish_with_headers(reply, headers, Bytes::new()).await
                } else {
                    client.publish(reply, answer).await
                };
                if let Err(error) = sent {
                    tracing::debug!("an answer to another node was not sent: {error}");
                }
                drop(place);
            });
        };
        sink.asked(payload, Box::new(send));
    }
}
