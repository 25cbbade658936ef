//! Where the queues live, and when an event counts as safe.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use busway_engine::{AmqpUrl, NatsUrl};

use super::units::{format_duration, parse_duration};

/// Why a text is no engine or durability. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidBus {
    /// An engine that a later version may have.
    #[error(
        "this build has no engine for `{0}:`; it has `memory:`, `file:DIR`, `nats://HOST:PORT` and `amqp://HOST:PORT`"
    )]
    Unavailable(String),
    /// An address of NATS that cannot be used.
    #[error(transparent)]
    Nats(#[from] busway_engine::InvalidNatsUrl),
    /// An address of RabbitMQ that cannot be used.
    #[error(transparent)]
    Amqp(#[from] busway_engine::InvalidAmqpUrl),
    /// Not an engine at all.
    #[error("`{0}` is not an engine; write `memory:`, `file:DIR`, `nats://HOST:PORT` or `amqp://HOST:PORT`")]
    Engine(String),
    /// Not a durability.
    #[error("`{0}` is not a durability; write `sync`, `interval(50ms)` or `memory`")]
    Durability(String),
    /// An interval out of its bounds.
    #[error("an interval of {0} is out of bounds; 1ms to 10s are allowed")]
    Interval(String),
}

/// Where the queues live.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum EngineUrl {
    /// In memory: everything is gone when the node ends.
    #[default]
    Memory,
    /// On disk, in this folder.
    File(PathBuf),
    /// In streams of NATS JetStream, which several nodes may share.
    Nats(NatsUrl),
    /// In stream queues of RabbitMQ, which several nodes may share.
    Amqp(AmqpUrl),
}

impl EngineUrl {
    /// The same engine, with a relative folder, and relative files of an address, taken from `base`.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> Self {
        match self {
            Self::Memory => Self::Memory,
            Self::File(dir) => Self::File(base.join(dir)),
            Self::Nats(url) => Self::Nats(url.relative_to(base)),
            Self::Amqp(url) => Self::Amqp(url.relative_to(base)),
        }
    }
}

impl fmt::Display for EngineUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory:"),
            Self::File(dir) => write!(f, "file:{}", dir.display()),
            // Without what is secret in it.
            Self::Nats(url) => url.fmt(f),
            Self::Amqp(url) => url.fmt(f),
        }
    }
}

impl FromStr for EngineUrl {
    type Err = InvalidBus;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What stands before an @ is the login of an address.
        let shown = || text.rsplit('@').next().unwrap_or_default().chars().take(80).collect::<String>();
        let Some((scheme, rest)) = text.split_once(':') else {
            return if text == "memory" { Ok(Self::Memory) } else { Err(InvalidBus::Engine(shown())) };
        };
        match scheme {
            "memory" if rest.is_empty() => Ok(Self::Memory),
            "file" => match rest.strip_prefix("//").unwrap_or(rest) {
                "" => Err(InvalidBus::Engine(shown())),
                dir => Ok(Self::File(dir.into())),
            },
            "nats" | "tls" => Ok(Self::Nats(text.parse()?)),
            "amqp" | "amqps" => Ok(Self::Amqp(text.parse()?)),
            "kafka" | "rocketmq" => Err(InvalidBus::Unavailable(scheme.to_owned())),
            _ => Err(InvalidBus::Engine(shown())),
        }
    }
}

/// When a published event counts as safe.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// When it is synced to disk.
    #[default]
    Sync,
    /// When it is written; synced at this interval.
    Interval(Duration),
    /// When it is in memory.
    Memory,
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sync => f.write_str("sync"),
            Self::Interval(every) => write!(f, "interval({})", format_duration(*every)),
            Self::Memory => f.write_str("memory"),
        }
    }
}

impl FromStr for Durability {
    type Err = InvalidBus;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidBus::Durability(text.chars().take(80).collect());
        match text {
            "sync" => Ok(Self::Sync),
            "memory" => Ok(Self::Memory),
            _ => {
                let inner = text.strip_prefix("interval(").and_then(|t| t.strip_suffix(')')).ok_or_else(invalid)?;
                let every = parse_duration(inner).map_err(|_| invalid())?;
                if (Duration::from_millis(1)..=Duration::from_secs(10)).contains(&every) {
                    Ok(Self::Interval(every))
                } else {
                    Err(InvalidBus::Interval(inner.to_owned()))
                }
            }
        }
    }
}

/// The `[bus]` table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BusConfig {
    /// Where the queues live, when the manifest says so.
    pub engine: Option<EngineUrl>,
    /// When an event counts as safe, when the manifest says so.
    pub durability: Option<Durability>,
    /// The generation of the deployment: the settings of subscriptions are those of the highest one.
    pub generation: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_and_durabilities_survive_their_text() {
        for engine in [EngineUrl::Memory, EngineUrl::File("a/b".into())] {
            assert_eq!(engine.to_string().parse(), Ok(engine));
        }
        for durability in [Durability::Sync, Durability::Memory, Durability::Interval(Duration::from_millis(50))] {
            assert_eq!(durability.to_string().parse(), Ok(durability));
        }
        assert_eq!("file:///var/bus".parse(), Ok(EngineUrl::File("/var/bus".into())));
    }

    #[test]
    fn later_engines_are_told_from_nonsense() {
        assert_eq!("kafka://localhost".parse::<EngineUrl>(), Err(InvalidBus::Unavailable("kafka".into())));
        assert_eq!("redis://u:p@x".parse::<EngineUrl>(), Err(InvalidBus::Engine("x".into())));
        let nats: EngineUrl = "nats://me:secret@h/shop".parse().expect("an engine");
        assert_eq!(nats.to_string(), "nats://***@h:4222/shop");
        let amqp: EngineUrl = "amqps://me:secret@h/v?bus=shop".parse().expect("an engine");
        assert_eq!(amqp.to_string(), "amqps://***@h:5671/v?bus=shop");
        assert!(matches!("amqp://h?x=1".parse::<EngineUrl>(), Err(InvalidBus::Amqp(_))));
        assert!(matches!("nats://h?x=1".parse::<EngineUrl>(), Err(InvalidBus::Nats(_))));
        assert_eq!("redis://x".parse::<EngineUrl>(), Err(InvalidBus::Engine("redis://x".into())));
        assert_eq!("file:".parse::<EngineUrl>(), Err(InvalidBus::Engine("file:".into())));
        assert!("interval(1h)".parse::<Durability>().is_err());
    }
}
