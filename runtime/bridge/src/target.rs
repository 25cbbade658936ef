//! Where events go, whatever the broker is.

use std::sync::Arc;

use busway_types::{Event, Outcome};

use crate::Broken;
use crate::amqp::AmqpTarget;
use crate::link::Link;
use crate::nats::NatsTarget;
use crate::outward::Outward;
use crate::place::At;

/// What became of events that were sent, in their order.
pub(crate) struct Sent {
    /// None: nobody knows.
    pub(crate) outcomes: Vec<Option<Outcome>>,
    /// Why the connection cannot be used any more, if it cannot.
    pub(crate) broken: Option<Broken>,
    /// What becomes of the one event because of which the broker ended the connection, where it said that it did.
    pub(crate) verdict: Option<Outcome>,
}

impl Sent {
    pub(crate) fn of(results: Vec<Result<Outcome, Broken>>) -> Self {
        let mut sent = Self { outcomes: Vec::with_capacity(results.len()), broken: None, verdict: None };
        for result in results {
            match result {
                Ok(outcome) => sent.outcomes.push(Some(outcome)),
                Err(broken) => {
                    sent.outcomes.push(None);
                    sent.broken.get_or_insert(broken);
                }
            }
        }
        sent
    }
}

/// An open connection that events go to.
pub(crate) enum Target {
    Nats(Box<NatsTarget>),
    Amqp(Box<AmqpTarget>),
}

impl Target {
    pub(crate) async fn open(bridge: &Outward, link: &Arc<Link>) -> Result<Self, Broken> {
        Ok(match &bridge.to.0 {
            At::Nats { server, at } => Self::Nats(Box::new(NatsTarget::open(bridge, server, at, link).await?)),
            At::Amqp { server, at } => Self::Amqp(Box::new(AmqpTarget::open(bridge, server, at).await?)),
        })
    }

    /// Sends events, all at once; gives what became of each.
    pub(crate) async fn send(&mut self, events: &[&Arc<Event>]) -> Sent {
        match self {
            Self::Nats(nats) => nats.send(events).await,
            Self::Amqp(amqp) => amqp.send(events).await,
        }
    }

    /// Returns when the connection is gone for good.
    pub(crate) async fn lost(&self) -> Broken {
        match self {
            // It mends itself, and tells the link.
            Self::Nats(_) => std::future::pending().await,
            Self::Amqp(amqp) => amqp.lost().await,
        }
    }
}
