//! What one service is set to: limits, grants and configuration.
//!
//! Role: plain values that the embedder fills in from a manifest. Everything is denied unless it is granted here.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use busway_contract::Keys;
use busway_types::{Pattern, ServiceName};

/// Whether an instance handles one event or many.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instancing {
    /// Instances are kept and handle many events. Fast; memory of the instance lives on.
    #[default]
    Reused,
    /// Every event gets a new instance.
    PerEvent,
}

/// A folder that a service may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGrant {
    /// Where it is.
    pub host: PathBuf,
    /// Under which path the guest sees it.
    pub guest: String,
    /// Whether the guest may change it.
    pub write: bool,
}

/// What a service may do beyond computing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants {
    /// Topics it may publish to. Checked by the bus (`Bus::admit`), kept here so that one value tells everything.
    pub publish: Vec<Pattern>,
    /// Environment variables it sees.
    pub env: Vec<(String, String)>,
    /// Folders it may use.
    pub files: Vec<FileGrant>,
    /// Hosts it may connect to, `host` or `host:port`.
    pub network: Vec<String>,
    /// Whether it may use key-value.
    pub key_value: bool,
}

impl Grants {
    /// Whether a host call may wait for something outside, so that calls have to be asynchronous to stay bounded.
    pub(crate) fn can_wait(&self) -> bool {
        !self.files.is_empty() || !self.network.is_empty()
    }
}

/// What one service is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceSettings {
    /// Its name.
    pub name: ServiceName,
    /// Bytes of memories, tables, outbox and captured output of one instance.
    pub memory_bytes: usize,
    /// How long one event may take.
    pub timeout: Duration,
    /// What it may do.
    pub grants: Grants,
    /// Its `config` table.
    pub config: BTreeMap<String, String>,
    /// Whether instances are reused.
    pub instances: Instancing,
    /// Where the keys of contracts are that have no parameter `key`.
    pub keys: Keys,
}

impl ServiceSettings {
    /// The defaults for a service: 64 MiB, 5 s, nothing granted but key-value, instances reused.
    pub fn new(name: ServiceName) -> Self {
        Self {
            name,
            memory_bytes: 64 * 1024 * 1024,
            timeout: Duration::from_secs(5),
            grants: Grants { key_value: true, ..Grants::default() },
            config: BTreeMap::new(),
            instances: Instancing::Reused,
            keys: Keys::default(),
        }
    }
}
