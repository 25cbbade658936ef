//! Where the queues of a column live.
//!
//! Invariants: every bus has a place of its own on the engine; a broker belongs to the column that it was started for.

use std::path::PathBuf;

use busway_brokers::{Nats, Rabbit};
use busway_engine::EngineKind;

/// An engine, with its broker if it has one.
pub(crate) struct Place {
    pub(crate) kind: EngineKind,
    pub(crate) broker: Option<Box<dyn Broker>>,
    folder: tempfile::TempDir,
    buses: u32,
}

/// A broker of this test, which may be treated badly.
pub(crate) trait Broker {
    /// The URL of a bus on it.
    fn bus(&self, name: &str) -> String;
    /// Ends it with SIGKILL.
    fn kill(&mut self) -> Result<(), String>;
    /// Starts it again on what it has on disk.
    fn start_again(&mut self) -> Result<(), String>;
}

macro_rules! broker {
    ($broker:ty, $bus:literal) => {
        impl Broker for $broker {
            fn bus(&self, name: &str) -> String {
                format!(concat!("{}", $bus, "{}"), self.url(), name)
            }
            fn kill(&mut self) -> Result<(), String> {
                Self::kill(self).map_err(|error| format!("{error:#}"))
            }
            fn start_again(&mut self) -> Result<(), String> {
                Self::start_again(self).map_err(|error| format!("{error:#}"))
            }
        }
    };
}

broker!(Nats, "/");
broker!(Rabbit, "?bus=");

/// What brokers that do not start are missing.
const MISSING: &str = "`cargo xtask brokers up` installs and starts it, and tells what is missing";

impl Place {
    fn new(kind: EngineKind, broker: Option<Box<dyn Broker>>) -> Self {
        Self { kind, broker, folder: tempfile::tempdir().expect("a folder"), buses: 0 }
    }

    pub(crate) fn memory() -> Self {
        Self::new(EngineKind::Memory, None)
    }

    pub(crate) fn file() -> Self {
        Self::new(EngineKind::File, None)
    }

    pub(crate) fn nats() -> Self {
        Self::new(EngineKind::Nats, Some(Box::new(Nats::start().expect(MISSING))))
    }

    pub(crate) fn amqp() -> Self {
        Self::new(EngineKind::Amqp, Some(Box::new(Rabbit::start().expect(MISSING))))
    }

    /// A bus that nobody has used, with a folder for its app.
    pub(crate) fn fresh(&mut self) -> (PathBuf, String) {
        self.buses += 1;
        let name = format!("bus{}", self.buses);
        let folder = self.folder.path().join(&name);
        std::fs::create_dir(&folder).expect("a folder");
        let engine = match (&self.broker, self.kind) {
            (Some(broker), _) => broker.bus(&name),
            (None, EngineKind::Memory) => "memory:".to_owned(),
            (None, _) => format!("file:{}", folder.join("data").display()),
        };
        (folder, engine)
    }

    /// The broker; an error where there is none.
    pub(crate) fn broker(&mut self) -> Result<&mut Box<dyn Broker>, String> {
        self.broker.as_mut().ok_or_else(|| "this engine has no broker".to_owned())
    }
}
