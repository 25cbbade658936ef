//! One namespace: its clients, and the task that reads the log for them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use busway_types::Pattern;
use socketioxide::extract::SocketRef;
use tokio::sync::watch;

use super::super::config::{LiveConfig, SocketIoNamespace};
use super::super::feed::{Feed, Missed, Start};
use super::super::permit::Permit;
use super::hub::{Emit, Hub};
use crate::admin::api::TailFrom;
use crate::edge::auth::{Caller, CallerKind, forbidden};
use crate::edge::problem::{Problem, Refusal};
use crate::edge::{Edge, EdgeBackend, EdgeError, Matched, RequestContext};

/// What a stranger is told.
const MISSING: &str = "show who you are: a key or a token as `token` in `auth`, or in a header";

/// A namespace of a route.
pub(super) struct Namespace {
    pub(super) name: Box<str>,
    pub(super) config: SocketIoNamespace,
    /// Events that are larger are not emitted.
    pub(super) message_bytes: usize,
    pub(super) patterns: Arc<[Pattern]>,
    pub(super) backend: Arc<dyn EdgeBackend>,
    pub(super) hub: Hub,
    edge: Weak<Edge>,
}

impl Namespace {
    /// A namespace, and the reader that has to be run for it.
    pub(super) async fn open(
        name: &str,
        config: SocketIoNamespace,
        message_bytes: usize,
        backend: Arc<dyn EdgeBackend>,
        edge: Weak<Edge>,
    ) -> Result<(Arc<Self>, Feed), EdgeError> {
        let pattern = config.pattern().ok_or_else(|| EdgeError::Failed(format!("{} is too long", config.outgoing)))?;
        let patterns: Arc<[Pattern]> = [pattern].into();
        let feed = Feed::open(backend.clone(), patterns.clone(), None, Start::From(TailFrom::Now)).await?;
        let namespace = Self { name: name.into(), config, message_bytes, patterns, backend, hub: Hub::default(), edge };
        namespace.hub.hand_out(&[], feed.cursor().0);
        Ok((Arc::new(namespace), feed))
    }

    /// The bounds of whoever comes in now; none when the node stops.
    pub(super) fn live(&self) -> Option<LiveConfig> {
        self.edge.upgrade().map(|edge| edge.config().live.clone())
    }

    /// Who a client is, by the credential that it shows when it connects, else by that of its transport; and whether it may.
    pub(super) async fn admit(&self, socket: &SocketRef, credential: Option<&str>) -> Result<Permit, Problem> {
        let edge = self.edge.upgrade().ok_or_else(|| Problem::from(EdgeError::Stopping))?;
        let parts = socket.req_parts();
        let shown = credential.zip(parts.extensions.get::<RequestContext>());
        let caller = if let Some((credential, context)) = shown {
            edge.identify(credential, &context.peer, &parts.headers).await?
        } else {
            // A transport may outlive what it was opened with.
            let caller = parts.extensions.get::<Caller>().filter(|caller| edge.gate.load().is_current(caller));
            caller.cloned().unwrap_or_else(Caller::anonymous)
        };
        let route = parts.extensions.get::<Matched>().map(|matched| Arc::clone(&matched.route));
        let may_use = route.as_ref().is_some_and(|route| route.is_open || caller.may_use(&route.name));
        match caller.kind {
            _ if may_use => Ok(Permit { edge: self.edge.clone(), caller, route }),
            CallerKind::Anonymous => Err(Problem::new(Refusal::Unauthorized, MISSING)),
            _ => Err(forbidden()),
        }
    }

    /// Hands out what happens until the node stops or the route goes.
    pub(super) async fn read(self: Arc<Self>, mut feed: Feed, mut stop: watch::Receiver<bool>) {
        loop {
            let before = feed.cursor().0;
            let piece = tokio::select! {
                biased;
                _ = stop.wait_for(|stopped| *stopped) => return,
                piece = feed.next(usize::MAX) => piece,
            };
            match piece {
                Ok(piece) => {
                    if let Some(missed) = piece.missed {
                        let namespace = &*self.name;
                        tracing::warn!(
                            namespace,
                            ?missed,
                            "Socket.IO did not read the log fast enough; events are missing"
                        );
                        let next = match missed {
                            Missed::Events(count) => before + count,
                            Missed::AnotherLog => feed.cursor().0,
                        };
                        self.hub.tell_missed(missed, next);
                    }
                    let emits = piece.events.iter().filter_map(|logged| self.emit(logged)).collect::<Vec<_>>();
                    self.hub.hand_out(&emits, feed.cursor().0);
                }
                Err(EdgeError::Stopping) => return,
                Err(error) => {
                    tracing::warn!(%error, "Socket.IO cannot read the log; it is tried again");
                    tokio::time::sleep(Duration::from_millis(500)).await;
                }
            }
        }
    }

    fn emit(&self, logged: &busway_types::Logged) -> Option<Arc<Emit>> {
        Emit::of(logged, &self.config, self.message_bytes).map(Arc::new)
    }
}
