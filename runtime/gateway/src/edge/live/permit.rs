//! Whether somebody may go on listening.
//!
//! Role: what lets a stream begin may end before it does: a credential expires, is taken out of the manifest or gets other
//! scopes, the key of an issuer goes, a route becomes another one. Invariant: a stream is over within [`LOOK_EVERY`] of such
//! an end, and at once when it is a changed configuration that ends it.

use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::edge::auth::Caller;
use crate::edge::{Edge, RouteConfig};

/// How often it is looked whether a credential still holds; the clock of the node may be set, and keys of issuers come and go.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Why somebody may not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Over {
    /// What they showed of themselves does not hold any more.
    Credential,
    /// The route is gone, or is another one.
    Route,
}

impl Over {
    /// How clients are told.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Credential => "credential",
            // Whoever comes back finds what is there now.
            Self::Route => "renew",
        }
    }
}

/// What a listener came in by.
#[derive(Clone)]
pub(crate) struct Permit {
    /// The gateway keeps what listens; so this only looks at it.
    pub(crate) edge: Weak<Edge>,
    pub(crate) caller: Caller,
    /// The route of the manifest, if it was one.
    pub(crate) route: Option<Arc<RouteConfig>>,
}

impl Permit {
    /// Returns once it does not hold any more.
    pub(crate) async fn over(self) -> Over {
        let Some(mut reloads) = self.edge.upgrade().map(|edge| edge.reloads()) else { return Over::Route };
        let mut may_be_another = true;
        loop {
            let Some(edge) = self.edge.upgrade() else { return Over::Route };
            let gate = edge.gate.load_full();
            if !gate.is_current(&self.caller) {
                return Over::Credential;
            }
            let is_gone = |route: &RouteConfig| !edge.config().routes.contains(route);
            if may_be_another && self.route.as_deref().is_some_and(is_gone) {
                return Over::Route;
            }
            let wait = gate.left(&self.caller).map_or(LOOK_EVERY, |left| left.min(LOOK_EVERY));
            drop((gate, edge));
            // An end that is told by the clock of the node may be a little later by that of the runtime.
            let wait = wait.max(Duration::from_millis(1));
            may_be_another = match tokio::time::timeout(wait, reloads.changed()).await {
                Ok(Ok(())) => true,
                Ok(Err(_)) => return Over::Route,
                Err(_) => false,
            };
        }
    }
}
