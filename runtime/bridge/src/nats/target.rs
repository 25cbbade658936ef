//! Events to a subject or into a stream.
//!
//! Invariant: an event counts as given once the stream has confirmed it, or, for a subject of core NATS, once the server has
//! read it: then a message to oneself, sent after it, has come back.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::context::{ContextBuilder, PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Subscriber, client};
use busway_engine::NatsUrl;
use busway_types::{Event, Outcome};
use futures_util::StreamExt as _;
use futures_util::future::join_all;

use super::{Connection, broken, headers};
use crate::Broken;
use crate::link::Link;
use crate::outward::Outward;
use crate::place::Nats;
use crate::target::Sent;

/// How long a confirmation may take.
const CONFIRM_FOR: Duration = Duration::from_secs(10);
/// Messages to oneself that may be on their way.
const HELD: usize = 64;

/// An open subject or stream.
pub(crate) struct NatsTarget {
    connection: Connection,
    to: To,
    key_header: String,
}

enum To {
    /// The subject, and where messages to oneself come.
    Subject {
        subject: String,
        inbox: String,
        echo: Subscriber,
    },
    Stream {
        stream: String,
        subject: String,
        context: Context,
    },
}

impl NatsTarget {
    pub(crate) async fn open(bridge: &Outward, url: &NatsUrl, at: &Nats, link: &Arc<Link>) -> Result<Self, Broken> {
        let connection = Connection::open(url, &bridge.name, HELD, link).await?;
        let client = &connection.client;
        let to = match at {
            Nats::Subject { subject, .. } => {
                let inbox = client.new_inbox();
                let echo = client.subscribe(inbox.clone()).await;
                let echo = echo.map_err(|error| broken("an inbox cannot be subscribed to", &error))?;
                To::Subject { subject: subject.clone(), inbox, echo }
            }
            Nats::Target { stream, subject } => {
                let context = ContextBuilder::new().timeout(CONFIRM_FOR).build(client.clone());
                let found = context.get_stream(stream).await;
                found.map_err(|error| broken(&format!("the stream {stream} cannot be looked at"), &error))?;
                To::Stream { stream: stream.clone(), subject: subject.clone(), context }
            }
            Nats::Source { .. } => return Err(Broken("nothing can be written there".to_owned())),
        };
        connection.used();
        Ok(Self { connection, to, key_header: bridge.key_header.clone() })
    }

    /// Sends events; gives what became of each.
    pub(crate) async fn send(&mut self, events: &[&Arc<Event>]) -> Sent {
        let Self { connection, to, key_header } = self;
        match to {
            To::Subject { subject, inbox, echo } => core(connection, subject, inbox, echo, events, key_header).await,
            To::Stream { stream, subject, context } => {
                let sends = events.iter().map(|event| stored(context, stream, subject, event, key_header));
                Sent::of(join_all(sends).await)
            }
        }
    }
}

async fn core(
    connection: &Connection,
    subject: &str,
    inbox: &str,
    echo: &mut Subscriber,
    events: &[&Arc<Event>],
    key_header: &str,
) -> Sent {
    let (client, troubles) = (&connection.client, connection.troubles());
    let mut outcomes = Vec::with_capacity(events.len());
    for event in events {
        let headers = match headers(event, key_header) {
            Ok(headers) => headers,
            Err(reason) => {
                outcomes.push(Ok(Outcome::Rejected { reason }));
                continue;
            }
        };
        let sent = client.publish_with_headers(subject.to_owned(), headers, event.data.clone()).await;
        outcomes.push(match sent {
            Ok(()) => Ok(Outcome::Acked),
            Err(error) if error.kind() == client::PublishErrorKind::Send => Err(broken("it cannot be sent", &error)),
            Err(error) => Ok(Outcome::Rejected { reason: format!("NATS takes no such message: {error}") }),
        });
    }
    let confirmed = async {
        client
            .publish(inbox.to_owned(), bytes::Bytes::new())
            .await
            .map_err(|error| broken("it cannot be sent", &error))?;
        echo.next().await.ok_or_else(|| Broken("the connection ended".to_owned()))?;
        if connection.troubles() == troubles {
            return Ok(());
        }
        Err(Broken(
            "NATS complained, or the connection was lost, while messages were sent: does this login have the right?"
                .to_owned(),
        ))
    };
    let late = || Broken(format!("NATS did not confirm within {CONFIRM_FOR:?}"));
    match tokio::time::timeout(CONFIRM_FOR, confirmed).await.unwrap_or_else(|_| Err(late())) {
        Ok(()) => Sent::of(outcomes),
        Err(broken) => Sent::of(
            outcomes
                .into_iter()
                .map(|outcome| outcome.and_then(|o| if o == Outcome::Acked { Err(broken.clone()) } else { Ok(o) }))
                .collect(),
        ),
    }
}

/// Whether a server says of its stream that it is unavailable, and not that it is full.
fn is_away(error: &PublishError) -> bool {
    let said =
        std::error::Error::source(error).and_then(|source| source.downcast_ref::<async_nats::jetstream::Error>());
    said.is_some_and(|said| said.code() == 503 && said.error_code() != ErrorCode::STREAM_STORE_FAILED)
}

async fn stored(
    context: &Context,
    stream: &str,
    subject: &str,
    event: &Event,
    key_header: &str,
) -> Result<Outcome, Broken> {
    let headers = match headers(event, key_header) {
        Ok(headers) => headers,
        Err(reason) => return Ok(Outcome::Rejected { reason }),
    };
    let message = PublishMessage::build().headers(headers).payload(event.data.clone()).expected_stream(stream);
    let sent = match context.send_publish(subject.to_owned(), message).await {
        Ok(sent) => sent.await.map(drop),
        Err(error) => Err(error),
    };
    match sent {
        Ok(()) => Ok(Outcome::Acked),
        Err(error) => match error.kind() {
            PublishErrorKind::TimedOut | PublishErrorKind::BrokenPipe => {
                Err(broken("the stream did not confirm", &error))
            }
            PublishErrorKind::MaxPayloadExceeded => {
                Ok(Outcome::Rejected { reason: format!("NATS takes no such message: {error}") })
            }
            // Also while the stream has no leader: that is no attempt.
            _ if is_away(&error) => Err(broken("the stream cannot store anything just now", &error)),
            PublishErrorKind::StreamNotFound => Err(Broken(format!("no stream takes the subject {subject} just now"))),
            _ => Ok(Outcome::Retry { reason: format!("the stream {stream} did not take it: {error}"), after: None }),
        },
    }
}
