//! Who asks. A [`Caller`] is in the extensions of every request that passed authentication; what follows asks it, and
//! nothing else, whether something is allowed.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use busway_types::{Pattern, Timestamp, Topic};

use super::key::KeyHash;

/// A permission of a caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// `publish:PATTERN`: publish to the topics that match.
    Publish(Pattern),
    /// `subscribe:PATTERN`: see events of the topics that match.
    Subscribe(Pattern),
    /// `route:NAME`: use the route of that name; `route:*`: every route.
    Route(Box<str>),
}

impl Scope {
    /// What stands for every route.
    pub const EVERY_ROUTE: &str = "*";
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish(pattern) => write!(f, "publish:{pattern}"),
            Self::Subscribe(pattern) => write!(f, "subscribe:{pattern}"),
            Self::Route(name) => write!(f, "route:{name}"),
        }
    }
}

/// A text that is no scope. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{shown}` is not a scope: {problem}; write publish:PATTERN, subscribe:PATTERN or route:NAME")]
pub struct InvalidScope {
    shown: String,
    problem: String,
}

impl FromStr for Scope {
    type Err = InvalidScope;

    fn from_str(text: &str) -> Result<Self, InvalidScope> {
        let refused = |problem: String| InvalidScope { shown: text.chars().take(80).collect(), problem };
        let Some((kind, what)) = text.split_once(':') else { return Err(refused("it has no `:`".to_owned())) };
        let pattern = || what.parse::<Pattern>().map_err(|error| refused(error.to_string()));
        match kind {
            "publish" => Ok(Self::Publish(pattern()?)),
            "subscribe" => Ok(Self::Subscribe(pattern()?)),
            "route" if what.is_empty() || what.len() > 200 || what.chars().any(char::is_control) => {
                Err(refused("a route has a name of 1 to 200 characters".to_owned()))
            }
            "route" => Ok(Self::Route(what.into())),
            _ => Err(refused(format!("`{}` is no kind of permission", kind.chars().take(40).collect::<String>()))),
        }
    }
}

/// How somebody showed who they are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum CallerKind {
    /// Not at all.
    #[default]
    Anonymous,
    /// By an API key.
    Key,
    /// By a token that an issuer signed.
    Token,
    /// By a client certificate.
    Certificate,
}

/// What the credential of somebody was checked with. It ends when that does, and says nothing of a key.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Proof(pub(crate) KeyHash);

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Proof")
    }
}

/// Whoever sent a request.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// How they showed who they are.
    pub(crate) kind: CallerKind,
    /// The name of the key, the subject of the token or of the client certificate; none for the anonymous.
    pub(crate) name: Option<Arc<str>>,
    /// What they may do; none means everything, which is so only while no authentication is configured.
    pub(crate) scopes: Option<Arc<[Scope]>>,
    /// What the route they came by lets everybody see who may use it.
    pub(crate) sees: Option<Arc<[Pattern]>>,
    /// When that ends: what stays open longer than a request has to end then.
    pub(crate) expires: Option<Timestamp>,
    /// The key that was shown, or with which the token was signed that was shown.
    pub(crate) proof: Option<Proof>,
}

impl Caller {
    /// Everybody, while no authentication is configured.
    pub(crate) const UNRESTRICTED: Self =
        Self { kind: CallerKind::Anonymous, name: None, scopes: None, sees: None, expires: None, proof: None };

    /// Everybody, while no authentication is configured: the routes, and the events of these topics.
    pub(crate) fn everybody(topics: &[Pattern]) -> Self {
        let both = |topic: &Pattern| [Scope::Publish(topic.clone()), Scope::Subscribe(topic.clone())];
        let scopes = topics.iter().flat_map(both).chain([Scope::Route(Scope::EVERY_ROUTE.into())]);
        Self { scopes: Some(scopes.collect()), ..Self::UNRESTRICTED }
    }

    /// Somebody who may do what `scopes` say.
    pub(crate) fn new(kind: CallerKind, name: impl Into<Arc<str>>, scopes: impl Into<Arc<[Scope]>>) -> Self {
        Self { kind, name: Some(name.into()), scopes: Some(scopes.into()), sees: None, expires: None, proof: None }
    }

    /// Somebody unknown, who may do nothing but use what is open to all.
    pub(crate) fn anonymous() -> Self {
        Self {
            kind: CallerKind::Anonymous,
            name: None,
            scopes: Some([].into()),
            sees: None,
            expires: None,
            proof: None,
        }
    }

    /// Who they are, for others: `key:shop`, `token:SUBJECT`, `certificate:NAME`. A name alone could be that of somebody who
    /// shows it in another way. None for the anonymous.
    pub(crate) fn identity(&self) -> Option<String> {
        let kind = match self.kind {
            CallerKind::Anonymous => return None,
            CallerKind::Key => "key",
            CallerKind::Token => "token",
            CallerKind::Certificate => "certificate",
        };
        Some(format!("{kind}:{}", self.name.as_deref()?))
    }

    /// Whether they may publish to a topic.
    pub(crate) fn may_publish(&self, topic: &Topic) -> bool {
        self.any(|scope| matches!(scope, Scope::Publish(pattern) if pattern.matches(topic)))
    }

    /// Whether they may see the events of a topic.
    pub(crate) fn may_see(&self, topic: &Topic) -> bool {
        self.any(|scope| matches!(scope, Scope::Subscribe(pattern) if pattern.matches(topic)))
            || self.sees.iter().flat_map(|patterns| patterns.iter()).any(|pattern| pattern.matches(topic))
    }

    /// Whether they may see events of some topic that one of these patterns selects.
    pub(crate) fn may_see_any(&self, patterns: &[Pattern]) -> bool {
        patterns.iter().any(|wanted| {
            self.any(|scope| matches!(scope, Scope::Subscribe(pattern) if pattern.overlaps(wanted)))
                || self.sees.iter().flat_map(|patterns| patterns.iter()).any(|pattern| pattern.overlaps(wanted))
        })
    }

    /// Whether they may use the route of that name.
    pub(crate) fn may_use(&self, route: &str) -> bool {
        self.any(|scope| matches!(scope, Scope::Route(name) if **name == *route || **name == *Scope::EVERY_ROUTE))
    }

    fn any(&self, allows: impl Fn(&Scope) -> bool) -> bool {
        self.scopes.as_ref().is_none_or(|scopes| scopes.iter().any(allows))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn topic(text: &str) -> Topic {
        text.parse().expect("a topic")
    }

    #[test]
    fn scopes_survive_their_text_and_others_are_refused() {
        for text in ["publish:shop.>", "subscribe:shop.*.placed", "route:quote", "route:*"] {
            assert_eq!(text.parse::<Scope>().expect(text).to_string(), text);
        }
        for bad in ["", "publish", "publish:", "publish:a..b", "route:", "admin:*", "Publish:a", "route:a\nb"] {
            assert!(bad.parse::<Scope>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_caller_may_do_what_the_scopes_say_and_nothing_else() {
        let scopes: Vec<Scope> =
            ["publish:shop.>", "route:quote"].iter().map(|s| s.parse().expect("a scope")).collect();
        let caller = Caller::new(CallerKind::Key, "shop", scopes);
        assert!(caller.may_publish(&topic("shop.orders")) && caller.may_use("quote"));
        assert!(!caller.may_publish(&topic("bank.orders")) && !caller.may_see(&topic("shop.orders")));
        assert!(!caller.may_use("quotes") && !caller.may_use("*"));
        let nobody = Caller::anonymous();
        assert!(!nobody.may_publish(&topic("shop.orders")) && !nobody.may_use("quote"));
        assert!(Caller::UNRESTRICTED.may_publish(&topic("shop.orders")) && Caller::UNRESTRICTED.may_use("quote"));
    }
}
