//! Where messages come from, whatever the broker is.

use std::sync::Arc;

use crate::amqp::AmqpSource;
use crate::inward::Inward;
use crate::link::Link;
use crate::message::Envelope;
use crate::nats::NatsSource;
use crate::place::At;
use crate::{Broken, amqp, nats};

/// Bytes of payload after which a batch gets nothing more.
pub(crate) const BATCH_BYTES: usize = 4 * 1024 * 1024;

/// A message that is not acknowledged yet.
pub(crate) struct Received {
    pub(crate) envelope: Envelope,
    pub(crate) handle: Handle,
    /// What it is called in a log.
    pub(crate) shown: String,
}

/// How a message is acknowledged.
pub(crate) enum Handle {
    /// Not at all: it came at most once.
    Nothing,
    Stream(Box<nats::Acker>),
    Amqp(Box<lapin::Acker>),
}

/// An open connection that messages come from.
pub(crate) enum Source {
    Nats(Box<NatsSource>),
    Amqp(Box<AmqpSource>),
}

impl Source {
    pub(crate) async fn open(bridge: &Inward, link: &Arc<Link>) -> Result<Self, Broken> {
        Ok(match &bridge.from.0 {
            At::Nats { server, at } => Self::Nats(Box::new(NatsSource::open(bridge, server, at, link).await?)),
            At::Amqp { server, at } => Self::Amqp(Box::new(AmqpSource::open(bridge, server, at).await?)),
        })
    }

    /// Waits for a message, and gives it with those that are there already. May be given up at any time.
    pub(crate) async fn gather(&mut self) -> Result<Vec<Received>, Broken> {
        match self {
            Self::Nats(nats) => nats.gather().await,
            Self::Amqp(amqp) => amqp.gather().await,
        }
    }

    /// The bus has these.
    pub(crate) async fn acknowledge(&mut self, handles: Vec<Handle>) -> Result<(), Broken> {
        match self {
            Self::Nats(_) => nats::acknowledge(handles).await,
            Self::Amqp(_) => amqp::acknowledge(handles).await,
        }
    }

    /// The bus will never take this one. Gives what becomes of it.
    pub(crate) async fn refuse(&mut self, handle: Handle) -> Result<&'static str, Broken> {
        match handle {
            Handle::Nothing => Ok("dropped, as core NATS keeps nothing"),
            Handle::Stream(acker) => nats::refuse(&acker).await,
            Handle::Amqp(acker) => amqp::refuse(&acker).await,
        }
    }

    /// These wait for the bus and are not to be delivered again meanwhile.
    pub(crate) async fn hold(&mut self, handles: impl Iterator<Item = &Handle>) -> Result<(), Broken> {
        match self {
            Self::Nats(_) => nats::hold(handles).await,
            // A server delivers again what is not acknowledged within half an hour, and not before.
            Self::Amqp(_) => Ok(()),
        }
    }

    /// Gives back what was not acknowledged, and ends the connection.
    pub(crate) async fn close(self) {
        match self {
            Self::Nats(nats) => nats.close().await,
            Self::Amqp(amqp) => amqp.close().await,
        }
    }
}
