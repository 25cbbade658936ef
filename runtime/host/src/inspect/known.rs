//! What the host has for components to import, by name.

use std::fmt;

use super::Problem;

/// What an imported interface is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Capability {
    /// Publishing events.
    Publish,
    /// State in key-value.
    KeyValue,
    /// The envelope of the event in hand, and configuration.
    Context,
    /// Log lines.
    Log,
    /// Clocks.
    Clocks,
    /// Random numbers.
    Random,
    /// Standard streams and the plumbing of WASI.
    Streams,
    /// Environment variables and arguments; empty without a grant.
    Environment,
    /// Files; none without a grant.
    Files,
    /// Sockets; refused without a grant.
    Network,
    /// HTTP: answering requests, and making them, which is refused without a grant.
    Http,
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Publish => "publish",
            Self::KeyValue => "key-value",
            Self::Context => "context",
            Self::Log => "log",
            Self::Clocks => "clocks",
            Self::Random => "random",
            Self::Streams => "streams",
            Self::Environment => "environment",
            Self::Files => "files",
            Self::Network => "network",
            Self::Http => "http",
        })
    }
}

/// Every interface that the host links, with the version up to where changes are compatible.
const KNOWN: &[(&str, Capability)] = &[
    ("busway:bus/types@0.1", Capability::Context),
    ("busway:bus/producer@0.1", Capability::Publish),
    ("busway:bus/key-value@0.1", Capability::KeyValue),
    ("busway:bus/context@0.1", Capability::Context),
    ("busway:bus/log@0.1", Capability::Log),
    ("wasi:cli/environment@0.2", Capability::Environment),
    ("wasi:cli/exit@0.2", Capability::Streams),
    ("wasi:cli/stdin@0.2", Capability::Streams),
    ("wasi:cli/stdout@0.2", Capability::Streams),
    ("wasi:cli/stderr@0.2", Capability::Streams),
    ("wasi:cli/terminal-input@0.2", Capability::Streams),
    ("wasi:cli/terminal-output@0.2", Capability::Streams),
    ("wasi:cli/terminal-stdin@0.2", Capability::Streams),
    ("wasi:cli/terminal-stdout@0.2", Capability::Streams),
    ("wasi:cli/terminal-stderr@0.2", Capability::Streams),
    ("wasi:clocks/wall-clock@0.2", Capability::Clocks),
    ("wasi:clocks/monotonic-clock@0.2", Capability::Clocks),
    ("wasi:filesystem/preopens@0.2", Capability::Files),
    ("wasi:filesystem/types@0.2", Capability::Files),
    ("wasi:http/types@0.2", Capability::Http),
    ("wasi:http/outgoing-handler@0.2", Capability::Http),
    ("wasi:io/error@0.2", Capability::Streams),
    ("wasi:io/poll@0.2", Capability::Streams),
    ("wasi:io/streams@0.2", Capability::Streams),
    ("wasi:random/random@0.2", Capability::Random),
    ("wasi:random/insecure@0.2", Capability::Random),
    ("wasi:random/insecure-seed@0.2", Capability::Random),
    ("wasi:sockets/instance-network@0.2", Capability::Network),
    ("wasi:sockets/ip-name-lookup@0.2", Capability::Network),
    ("wasi:sockets/network@0.2", Capability::Network),
    ("wasi:sockets/tcp@0.2", Capability::Network),
    ("wasi:sockets/tcp-create-socket@0.2", Capability::Network),
    ("wasi:sockets/udp@0.2", Capability::Network),
    ("wasi:sockets/udp-create-socket@0.2", Capability::Network),
];

/// What others have for what we have, by how the other's name begins.
const NEIGHBOURS: &[(&str, &str)] = &[
    ("wasi:keyvalue", "busway:bus/key-value@0.1"),
    ("wasi:messaging", "busway:bus/producer@0.1"),
    ("wasmcloud:messaging", "busway:bus/producer@0.1"),
    ("wasi:logging", "busway:bus/log@0.1"),
    ("wasi:config", "busway:bus/context@0.1"),
];

/// From which similarity on a known name is worth telling: none is better than a wrong one.
const SIMILAR: f64 = 0.85;

/// Whether a name with its full version is `known`, which has only as much of the version as must be equal.
pub(super) fn is(name: &str, known: &str) -> bool {
    // A prerelease is compatible with nothing but itself.
    name.strip_prefix(known).is_some_and(|rest| rest.is_empty() || (rest.starts_with('.') && !rest.contains('-')))
}

/// What an import is for, or why there is no such thing.
pub(super) fn capability(import: &str) -> Result<Capability, Problem> {
    if let Some((_, capability)) = KNOWN.iter().find(|(known, _)| is(import, known)) {
        return Ok(*capability);
    }
    let plain = import.split('@').next().unwrap_or(import);
    if let Some((known, _)) = KNOWN.iter().find(|(known, _)| known.split('@').next() == Some(plain)) {
        return Err(Problem::OtherVersion { interface: import.into(), host: (*known).into() });
    }
    let similarity =
        |known: &str| strsim::normalized_damerau_levenshtein(plain, known.split('@').next().unwrap_or(known));
    let neighbour = NEIGHBOURS.iter().find(|(theirs, _)| plain.starts_with(theirs));
    if let Some((_, ours)) = neighbour {
        return Err(Problem::UnknownImport { import: import.into(), closest: Some((*ours).into()) });
    }
    let closest = KNOWN
        .iter()
        .map(|(known, _)| (similarity(known), *known))
        .filter(|(similarity, _)| *similarity >= SIMILAR)
        .max_by(|one, other| one.0.total_cmp(&other.0));
    Err(Problem::UnknownImport { import: import.into(), closest: closest.map(|(_, known)| known.into()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compatible_versions_are_known_and_others_are_told_apart() {
        assert_eq!(capability("wasi:cli/stdout@0.2.6"), Ok(Capability::Streams));
        assert_eq!(capability("busway:bus/producer@0.1.7"), Ok(Capability::Publish));
        assert!(matches!(capability("busway:bus/producer@0.10.0"), Err(Problem::OtherVersion { .. })));
        assert!(matches!(capability("wasi:cli/stdout@0.3.0"), Err(Problem::OtherVersion { .. })));
        assert!(matches!(capability("wasi:cli/stdout@0.2.0-rc"), Err(Problem::OtherVersion { .. })));
    }

    #[test]
    fn what_others_have_is_answered_with_what_we_have_and_never_with_something_unrelated() {
        let closest = |import: &str| match capability(import) {
            Err(Problem::UnknownImport { closest, .. }) => closest,
            other => panic!("{import}: {other:?}"),
        };
        for (import, ours) in [
            ("wasi:keyvalue/store@0.2.0-draft", Some("busway:bus/key-value@0.1")),
            ("wasi:messaging/producer@0.2.0-draft", Some("busway:bus/producer@0.1")),
            ("wasmcloud:messaging/consumer@0.2.0", Some("busway:bus/producer@0.1")),
            ("wasi:logging/logging@0.1.0", Some("busway:bus/log@0.1")),
            ("wasi:config/runtime@0.2.0", Some("busway:bus/context@0.1")),
            ("wasi:blobstore/container@0.2.0", None),
            ("shop:orders/store@1.0.0", None),
        ] {
            assert_eq!(closest(import).as_deref(), ours, "{import}");
        }
    }

    #[test]
    fn an_unknown_import_is_told_with_the_closest_known_one() {
        assert_eq!(
            capability("busway:bus/producers@0.1.0"),
            Err(Problem::UnknownImport {
                import: "busway:bus/producers@0.1.0".into(),
                closest: Some("busway:bus/producer@0.1".into())
            })
        );
    }
}
