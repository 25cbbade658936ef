//! Headers that say which Socket.IO client emitted an event, and that nobody else may set.
//!
//! Invariant: a handler of what comes in may believe them: whoever publishes over HTTP or a WebSocket cannot pass an event
//! off as that of somebody else. Events that go out may be addressed by anybody who may publish them.

use busway_types::{Draft, Topic};

use super::names::{CALLER, NAMESPACE, PREFIX};
use crate::edge::problem::{Problem, Refusal};
use crate::edge::{RouteConfig, Target};

/// Refuses an event from outside that claims to have come in over Socket.IO.
pub(crate) fn may_say(routes: &[RouteConfig], draft: &Draft) -> Result<(), Problem> {
    let is_ours = |name: &str| name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    let is_claim = |name: &str| {
        [CALLER, NAMESPACE].iter().any(|known| known.eq_ignore_ascii_case(name)) || comes_in(routes, &draft.topic)
    };
    match draft.headers.iter().find(|(name, _)| is_ours(name) && is_claim(name)) {
        None => Ok(()),
        Some((name, _)) => {
            let detail = format!("the header `{name}` of events of `{}` is set by Socket.IO alone", draft.topic);
            Err(Problem::new(Refusal::Forbidden, detail).with("parameter", &**name))
        }
    }
}

/// Whether events of a topic come from Socket.IO clients.
fn comes_in(routes: &[RouteConfig], topic: &Topic) -> bool {
    let namespaces = routes.iter().filter_map(|route| match &route.target {
        Target::SocketIo(config) => Some(config.namespaces.values()),
        _ => None,
    });
    let below = |incoming: &Topic| topic.as_str().strip_prefix(incoming.as_str()).is_some_and(|r| r.starts_with('.'));
    namespaces.flatten().any(|namespace| below(&namespace.incoming))
}
