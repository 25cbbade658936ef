//! Who asks. A [`Caller`] is in the extensions of every request that passed authentication; what follows asks it, and
//! nothing else, whether something is allowed.

use std::sync::Arc;

use busway_types::{Pattern, Topic};

/// A permission of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `publish:PATTERN`: publish to the topics that match.
    Publish(Pattern),
    /// `subscribe:PATTERN`: see events of the topics that match.
    Subscribe(Pattern),
    /// `route:NAME`: use the route of that name (or path).
    Route(Box<str>),
}

/// Whoever sent a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The name of the key, the subject of the token or of the client certificate; none for the anonymous.
    pub name: Option<Arc<str>>,
    /// What they may do; none means everything, which is so only while no authentication is configured.
    pub scopes: Option<Arc<[Scope]>>,
}

impl Caller {
    /// Everybody, while no authentication is configured.
    pub const UNRESTRICTED: Self = Self { name: None, scopes: None };

    /// Whether they may publish to a topic.
    pub fn may_publish(&self, topic: &Topic) -> bool {
        self.any(|scope| matches!(scope, Scope::Publish(pattern) if pattern.matches(topic)))
    }

    /// Whether they may see the events of a topic.
    pub fn may_see(&self, topic: &Topic) -> bool {
        self.any(|scope| matches!(scope, Scope::Subscribe(pattern) if pattern.matches(topic)))
    }

    /// Whether they may use the route of that name.
    pub fn may_use(&self, route: &str) -> bool {
        self.any(|scope| matches!(scope, Scope::Route(name) if **name == *route))
    }

    fn any(&self, allows: impl Fn(&Scope) -> bool) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(allows))
    }
}
