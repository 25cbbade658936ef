//! What the parts of a node share.

use std::net::SocketAddr;
use std::sync::{Arc, OnceLock, Weak};

use busway_engine::{Engine, EngineError, Epoch};
use busway_gateway::edge::Gateway;
use busway_host::Host;
use busway_types::{Clock, Limits};
use tokio::sync::watch;

use crate::bridges::Bridges;
use crate::contracts::Contracts;
use crate::driver;
use crate::publisher::Publisher;
use crate::requests::Requests;
use crate::services::Catalog;
use crate::spread::Spread;

/// How far a node is on its way to the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stop {
    /// It runs.
    No,
    /// It finishes what is in flight.
    Drain,
    /// It ends at once; what is in flight is tried again at the next start.
    Now,
}

/// What the parts of a node share.
pub(crate) struct Inner {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) limits: Limits,
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) driver: Arc<driver::Shared>,
    pub(crate) publisher: Arc<Publisher>,
    pub(crate) contracts: Arc<Contracts>,
    pub(crate) requests: Arc<Requests>,
    pub(crate) host: Host,
    /// The other nodes of a bus that several share; none where none do.
    pub(crate) spread: Option<Arc<Spread>>,
    pub(crate) services: Catalog,
    pub(crate) bridges: Bridges,
    pub(crate) durability: String,
    /// The generation of this deployment.
    pub(crate) generation: u32,
    pub(crate) started_ns: u64,
    pub(crate) admin: SocketAddr,
    /// The gateway and where it listens, once it does. It holds the node, so the node only looks at it.
    pub(crate) gateway: OnceLock<(SocketAddr, Weak<Gateway>)>,
    pub(crate) stop: watch::Sender<Stop>,
    /// Whether every subscription of the app exists. Clients that publish earlier wait for it, or a service that is still
    /// being compiled would miss their events.
    pub(crate) ready: watch::Sender<bool>,
}

impl Inner {
    pub(crate) fn is_stopping(&self) -> bool {
        *self.stop.borrow() != Stop::No
    }

    /// Begins to stop; a request to stop at once overrides an earlier one to drain.
    pub(crate) fn request_stop(&self, now: bool) {
        let wanted = if now { Stop::Now } else { Stop::Drain };
        self.stop.send_if_modified(|stop| {
            let later = wanted > *stop;
            *stop = wanted.max(*stop);
            later
        });
    }

    /// Why this node does nothing now, if it waits for its turn to own a bus that several nodes share.
    pub(crate) fn check_turn(&self) -> Result<(), EngineError> {
        self.engine.standby().map_or(Ok(()), |why| Err(EngineError::Overloaded(why)))
    }

    /// The epoch under which this node owns the bus; none while it does not.
    pub(crate) fn owns(&self) -> Option<Epoch> {
        Some(self.epoch()).filter(|epoch| *epoch > 0 && self.engine.standby().is_none())
    }

    /// Asks the engine something that it may have to read. On a broker that may take long, and other tasks go on meanwhile.
    pub(crate) fn patiently<T>(&self, ask: impl FnOnce() -> T) -> T {
        let flavor = tokio::runtime::Handle::try_current().map(|runtime| runtime.runtime_flavor());
        let others_go_on = matches!(flavor, Ok(tokio::runtime::RuntimeFlavor::MultiThread));
        if self.engine.capabilities().shared && others_go_on { tokio::task::block_in_place(ask) } else { ask() }
    }

    /// The epoch under which this node owns its partition.
    pub(crate) fn epoch(&self) -> Epoch {
        *self.driver.epoch.borrow()
    }
}
