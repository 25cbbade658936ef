//! Names of contracts, and the topics that follow from them.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use busway_types::{InvalidTopic, Topic};
use semver::Version;

/// Namespaces whose interfaces are never contracts: they belong to hosts.
pub const RESERVED: [&str; 5] = ["wasi", "wasmcloud", "fermyon", "spin", "busway"];

/// The name of a contract: `shop:orders/order-events@1.0.0`. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ContractId {
    /// `shop`.
    pub namespace: Arc<str>,
    /// `orders`.
    pub package: Arc<str>,
    /// `order-events`.
    pub interface: Arc<str>,
    /// `1.0.0`; none when the package has no version.
    pub version: Option<Version>,
}

/// Why a text names no contract.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the name of an interface in a package; one looks like `shop:orders/order-events@1.0.0`")]
pub struct IdError(pub String);

impl ContractId {
    /// Whether its namespace belongs to hosts; such an interface is not a contract.
    pub fn is_reserved(&self) -> bool {
        RESERVED.contains(&&*self.namespace)
    }

    /// The topic of a function: `shop.orders.v1.order-events.placed`.
    ///
    /// The version stands in it as far as versions that do not understand each other need it: `v1` for 1.x, `v0-3` for
    /// 0.3.x, `v0-0-3` for 0.0.3, `v1-0-0-rc-1` for a prerelease, nothing without a version.
    ///
    /// # Errors
    /// Only if the names together are longer than a topic may be.
    pub fn topic(&self, function: &str) -> Result<Topic, InvalidTopic> {
        format!("{}.{function}", self.topic_prefix()).parse()
    }

    /// What the topics of all its functions begin with, without the last dot.
    pub fn topic_prefix(&self) -> String {
        let Self { namespace, package, interface, .. } = self;
        match self.version_token() {
            Some(version) => format!("{namespace}.{package}.{version}.{interface}"),
            None => format!("{namespace}.{package}.{interface}"),
        }
    }

    /// The version as it stands in topics.
    pub fn version_token(&self) -> Option<String> {
        let Version { major, minor, patch, pre, .. } = self.version.as_ref()?;
        Some(if !pre.is_empty() {
            format!("v{major}-{minor}-{patch}-{}", pre.as_str().replace('.', "-"))
        } else if *major > 0 {
            format!("v{major}")
        } else if *minor > 0 {
            format!("v0-{minor}")
        } else {
            format!("v0-0-{patch}")
        })
    }

    /// Whether both name one contract in versions that are meant to understand each other: same names, and versions with
    /// the same token.
    pub fn meets(&self, other: &Self) -> bool {
        self.is_named_like(other) && self.version_token() == other.version_token()
    }

    /// Whether both are the same but for the version.
    pub fn is_named_like(&self, other: &Self) -> bool {
        self.namespace == other.namespace && self.package == other.package && self.interface == other.interface
    }
}

impl FromStr for ContractId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        let error = || IdError(text.to_owned());
        let (path, version) = match text.split_once('@') {
            Some((path, version)) => (path, Some(version.parse().map_err(|_| error())?)),
            None => (text, None),
        };
        let (namespace, rest) = path.split_once(':').ok_or_else(error)?;
        let (package, interface) = rest.split_once('/').ok_or_else(error)?;
        if [namespace, package, interface].into_iter().any(|name| !is_name(name)) {
            return Err(error());
        }
        Ok(Self { namespace: namespace.into(), package: package.into(), interface: interface.into(), version })
    }
}

/// Whether a text is a WIT name: words of letters and digits, joined by single hyphens.
fn is_name(text: &str) -> bool {
    let is_word = |word: &str| {
        word.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && word.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
    };
    text.split('-').all(is_word)
}

impl fmt::Display for ContractId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}/{}", self.namespace, self.package, self.interface)?;
        self.version.iter().try_for_each(|version| write!(f, "@{version}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> ContractId {
        text.parse().unwrap()
    }

    #[test]
    fn topics_carry_the_part_of_the_version_that_breaks() {
        for (name, topic) in [
            ("shop:orders/order-events@1.4.2", "shop.orders.v1.order-events.placed"),
            ("shop:orders/order-events@0.3.1", "shop.orders.v0-3.order-events.placed"),
            ("shop:orders/order-events@0.0.3", "shop.orders.v0-0-3.order-events.placed"),
            ("shop:orders/order-events@1.0.0-rc.1", "shop.orders.v1-0-0-rc-1.order-events.placed"),
            ("shop:orders/order-events@1.0.0+build.7", "shop.orders.v1.order-events.placed"),
            ("shop:orders/order-events", "shop.orders.order-events.placed"),
        ] {
            assert_eq!(id(name).topic("placed").unwrap().as_str(), topic);
        }
    }

    #[test]
    fn versions_meet_unless_they_may_break() {
        let meet = |a: &str, b: &str| id(&format!("a:b/c@{a}")).meets(&id(&format!("a:b/c@{b}")));
        assert!(meet("1.0.0", "1.2.0"));
        assert!(!meet("1.0.0", "2.0.0"));
        assert!(!meet("0.1.0", "0.2.0"));
        assert!(!meet("1.0.0-rc.1", "1.0.0"));
        assert!(!meet("1.0.0-rc.1", "1.0.0-rc.2"));
        assert!(meet("1.0.0-rc.1", "1.0.0-rc.1"));
        assert!(!id("a:b/c").meets(&id("a:b/d")));
    }

    #[test]
    fn names_that_are_none_are_refused() {
        for bad in
            ["", "a", "a:b", "a/b", "a:b/", ":b/c", "a:b/c@1", "a:b/c@", "a:b/c.d", "a:b/-c", "a:b/c d", "a:b/c/d"]
        {
            assert!(bad.parse::<ContractId>().is_err(), "{bad}");
        }
        assert_eq!(id("a:b-2/c@1.0.0").to_string(), "a:b-2/c@1.0.0");
    }
}
