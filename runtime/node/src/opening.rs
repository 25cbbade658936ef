//! Opening the engine that a URL names.

use std::fmt::Display;
use std::sync::Arc;

use busway_engine::{
    Amqp, Embedded, Engine, EngineError, EngineKind, Fact, Fs, Guarantee, Nats, SharedEngine, Storage, guarantees,
};
use busway_types::{Clock, Limits};

use crate::error::NodeError;
use crate::manifest::{Durability, EngineUrl};

/// What a broker's durability is called.
pub(crate) const BROKER: &str = "broker";

/// An engine, with the word for its durability.
pub(crate) struct Opened {
    pub(crate) engine: Arc<dyn Engine>,
    pub(crate) durability: String,
}

/// Opens an engine, away from the runtime: disks and networks take their time.
pub(crate) async fn open_engine(
    url: &EngineUrl,
    durability: Option<Durability>,
    fs: Arc<dyn Fs>,
    clock: &Arc<dyn Clock>,
    limits: &Limits,
) -> Result<Opened, NodeError> {
    let (clock, limits) = (Arc::clone(clock), limits.clone());
    let (opening, durability) = match url {
        EngineUrl::Memory => (embedded(Storage::Memory, fs, clock, limits), "memory".to_owned()),
        EngineUrl::File(dir) => {
            let durability = durability.unwrap_or_default();
            let word = durability.to_string();
            let durability = match durability {
                Durability::Sync => busway_engine::Durability::Sync,
                Durability::Interval(every) => busway_engine::Durability::Interval(every),
                Durability::Memory => busway_engine::Durability::Memory,
            };
            (embedded(Storage::Disk { dir: dir.clone(), durability }, fs, clock, limits), word)
        }
        EngineUrl::Nats(url) => {
            not_promised(durability, url, "NATS decide when they sync (sync_interval)")?;
            let url = url.clone().with_environment(environment);
            (shared(move |node| Nats::open(url, node, clock, limits)), BROKER.to_owned())
        }
        EngineUrl::Amqp(url) => {
            not_promised(durability, url, "RabbitMQ decide when they sync")?;
            let url = url.clone().with_environment(environment);
            (shared(move |node| Amqp::open(url, node, clock, limits)), BROKER.to_owned())
        }
    };
    match opening.await {
        Ok(engine) => Ok(Opened { engine: engine?, durability }),
        Err(panic) => Err(NodeError::Host(panic.to_string())),
    }
}

/// What the engine of a URL guarantees.
pub fn engine_guarantees(url: &EngineUrl) -> impl Iterator<Item = Guarantee> {
    guarantees(match url {
        EngineUrl::Memory => EngineKind::Memory,
        EngineUrl::File(_) => EngineKind::File,
        EngineUrl::Nats(_) => EngineKind::Nats,
        EngineUrl::Amqp(_) => EngineKind::Amqp,
    })
}

/// What the server of an engine says of itself; nothing for one that has none. Nothing is made or changed. To be called on a
/// thread that is no task's.
pub fn engine_facts(url: &EngineUrl) -> Result<Vec<Fact>, EngineError> {
    match url {
        EngineUrl::Memory | EngineUrl::File(_) => Ok(Vec::new()),
        EngineUrl::Nats(url) => Nats::facts(&url.clone().with_environment(environment)),
        EngineUrl::Amqp(url) => Amqp::facts(&url.clone().with_environment(environment)),
    }
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// A durability that somebody asked for, of an engine whose servers decide about it.
fn not_promised(asked: Option<Durability>, url: &dyn Display, who: &str) -> Result<(), NodeError> {
    let Some(asked) = asked else { return Ok(()) };
    Err(NodeError::Engine(EngineError::Refused(format!(
        "`durability = \"{asked}\"` cannot be promised for {url}: the servers of {who} and how many of them keep it \
         (replicas=N in the address); remove `durability` from [bus]"
    ))))
}

type Opening = tokio::task::JoinHandle<Result<Arc<dyn Engine>, NodeError>>;

fn embedded(storage: Storage, fs: Arc<dyn Fs>, clock: Arc<dyn Clock>, limits: Limits) -> Opening {
    tokio::task::spawn_blocking(move || Ok(Arc::new(Embedded::open(&storage, fs, clock, limits)?) as Arc<dyn Engine>))
}

fn shared(open: impl FnOnce(String) -> Result<SharedEngine, EngineError> + Send + 'static) -> Opening {
    tokio::task::spawn_blocking(move || Ok(Arc::new(open(node_name()?)?) as Arc<dyn Engine>))
}

/// A name that no other node has, and that tells an operator which one it is.
fn node_name() -> Result<String, NodeError> {
    let refused = |error: getrandom::Error| std::io::Error::other(error.to_string());
    let random =
        getrandom::u32().map_err(|error| NodeError::System { what: "random bytes", source: refused(error) })?;
    let system = rustix::system::uname();
    let host = system.nodename().to_string_lossy();
    Ok(format!("{host}/{}-{:04x}", std::process::id(), random & 0xffff))
}
