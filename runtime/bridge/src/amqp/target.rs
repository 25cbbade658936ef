//! Events to a queue or an exchange.
//!
//! Invariant: an event counts as given once the server has confirmed it and has not returned it: it is in a queue then.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use busway_engine::AmqpServer;
use busway_types::{Clock, Event, Outcome};
use futures_util::future::join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueDeclareOptions};
use lapin::types::{FieldTable, ShortString};
use lapin::{Channel, Confirmation, Connection, ErrorKind, ExchangeKind, PublisherConfirm};

use super::{broken, connect, properties};
use crate::Broken;
use crate::outward::Outward;
use crate::place::Amqp;
use crate::target::Sent;

/// How long confirmations may take. A server without memory or disk left takes its time.
const CONFIRM_FOR: Duration = Duration::from_secs(30);
/// How often it is looked whether the connection is still there.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Why a server closes a channel: there is something wrong with what was sent, for example its size.
const PRECONDITION_FAILED: u16 = 406;
/// The same: this login may not do that.
const ACCESS_REFUSED: u16 = 403;

/// An open queue or exchange.
pub(crate) struct AmqpTarget {
    connection: Connection,
    channel: Channel,
    exchange: ShortString,
    /// None: the topic of the event.
    routing_key: Option<ShortString>,
    key_header: String,
    clock: Arc<dyn Clock>,
    /// What becomes of the event because of which the server closed the channel.
    verdict: Mutex<Option<Outcome>>,
}

impl AmqpTarget {
    pub(crate) async fn open(bridge: &Outward, server: &AmqpServer, at: &Amqp) -> Result<Self, Broken> {
        let (connection, channel) = connect(server, &bridge.name).await?;
        let name = |name: &str| ShortString::try_new(name).map_err(|error| broken("the name is too long", &error));
        // Only looked at, never made.
        let (exchange, routing_key) = match at {
            Amqp::Queue(queue) => {
                let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
                let found = channel.queue_declare(name(queue)?, options, FieldTable::default()).await;
                found.map_err(|error| broken(&format!("the queue `{queue}` cannot be used"), &error))?;
                (ShortString::default(), Some(name(queue)?))
            }
            Amqp::Exchange { name: exchange, routing_key } => {
                let options = ExchangeDeclareOptions { passive: true, ..ExchangeDeclareOptions::default() };
                let kind = ExchangeKind::Direct;
                let found = channel.exchange_declare(name(exchange)?, kind, options, FieldTable::default()).await;
                found.map_err(|error| broken(&format!("the exchange `{exchange}` cannot be used"), &error))?;
                (name(exchange)?, routing_key.as_deref().map(name).transpose()?)
            }
        };
        let confirms = channel.confirm_select(ConfirmSelectOptions::default()).await;
        confirms.map_err(|error| broken("RabbitMQ gives no confirmations", &error))?;
        let (key_header, clock) = (bridge.key_header.clone(), Arc::clone(&bridge.clock));
        let verdict = Mutex::new(None);
        Ok(Self { connection, channel, exchange, routing_key, key_header, clock, verdict })
    }

    /// Returns when the connection is gone.
    pub(crate) async fn lost(&self) -> Broken {
        while self.connection.status().connected() && self.channel.status().connected() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Broken("the connection to RabbitMQ is lost".to_owned())
    }

    /// Sends events; gives what became of each.
    pub(crate) async fn send(&mut self, events: &[&Arc<Event>]) -> Sent {
        let late =
            || Broken(format!("RabbitMQ did not confirm within {CONFIRM_FOR:?}; it may be out of memory or disk"));
        let mut begun = Vec::with_capacity(events.len());
        let deadline = tokio::time::Instant::now() + CONFIRM_FOR;
        for event in events {
            let publishing = tokio::time::timeout_at(deadline, self.publish(event)).await;
            begun.push(publishing.unwrap_or_else(|_| Err(late())));
        }
        let confirm = async |begun: Result<Begun, Broken>| match begun? {
            Begun::Over(outcome) => Ok(outcome),
            Begun::Sent(confirm) => {
                let confirmed = tokio::time::timeout_at(deadline, confirm).await.map_err(|_| late())?;
                confirmed.map_or_else(|error| Err(self.lost_by(&error)), outcome)
            }
        };
        let mut sent = Sent::of(join_all(begun.into_iter().map(confirm)).await);
        sent.verdict = self.verdict.lock().unwrap_or_else(PoisonError::into_inner).take();
        sent
    }

    /// The connection cannot be used any more; notes what that says of an event.
    fn lost_by(&self, error: &lapin::Error) -> Broken {
        let verdict = match error.kind() {
            ErrorKind::ProtocolError(said) => match said.get_id() {
                PRECONDITION_FAILED => {
                    Some(Outcome::Rejected { reason: format!("RabbitMQ takes no such message: {said}") })
                }
                ACCESS_REFUSED => Some(Outcome::Retry { reason: format!("RabbitMQ refuses: {said}"), after: None }),
                _ => None,
            },
            _ => None,
        };
        if verdict.is_some() {
            *self.verdict.lock().unwrap_or_else(PoisonError::into_inner) = verdict;
        }
        broken("the connection to RabbitMQ is lost", error)
    }

    async fn publish(&self, event: &Event) -> Result<Begun, Broken> {
        let rejected = |reason| Ok(Begun::Over(Outcome::Rejected { reason }));
        let properties = match properties(event, &self.key_header, self.clock.now()) {
            Ok(properties) => properties,
            Err(reason) => return rejected(reason),
        };
        let routing_key = match &self.routing_key {
            Some(key) => key.clone(),
            None => match ShortString::try_new(event.topic.as_str()) {
                Ok(key) => key,
                Err(error) => return rejected(error.to_string()),
            },
        };
        let options = BasicPublishOptions { mandatory: true, immediate: false };
        let sent =
            self.channel.basic_publish(self.exchange.clone(), routing_key, options, &event.data, properties).await;
        sent.map(Begun::Sent).map_err(|error| self.lost_by(&error))
    }
}

/// A message that is on its way, or is not to be.
enum Begun {
    Over(Outcome),
    Sent(PublisherConfirm),
}

fn outcome(confirmation: Confirmation) -> Result<Outcome, Broken> {
    let retry = |reason: String| Ok(Outcome::Retry { reason, after: None });
    match confirmation {
        Confirmation::Ack(None) => Ok(Outcome::Acked),
        Confirmation::Ack(Some(back)) | Confirmation::Nack(Some(back)) => {
            retry(format!("no queue takes it ({} {}); is one bound there?", back.reply_code, back.reply_text))
        }
        Confirmation::Nack(None) => retry("RabbitMQ did not take it (nack); a queue may be full".to_owned()),
        Confirmation::NotRequested => Err(Broken("RabbitMQ does not confirm".to_owned())),
    }
}
