//! Why a node or a service could not start.

use std::path::PathBuf;

use busway_engine::EngineError;
use busway_types::ServiceName;

/// Why a node could not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The manifest or the app folder.
    #[error(transparent)]
    App(#[from] crate::manifest::LoadError),
    /// The admin API has no address.
    #[error(transparent)]
    Admin(#[from] busway_gateway::ServeError),
    /// The gateway has no address.
    #[error(transparent)]
    Gateway(#[from] busway_gateway::edge::EdgeServeError),
    /// The gateway cannot serve what it is set to.
    #[error("the gateway cannot start: {0}")]
    GatewayConfig(#[from] busway_gateway::edge::EdgeConfigError),
    /// The engine cannot be opened.
    #[error("the engine cannot start: {0}")]
    Engine(#[from] EngineError),
    /// The Wasm host cannot be set up on this machine.
    #[error("the WebAssembly host cannot start: {0}")]
    Host(String),
    /// A thread or a random seed could not be had from the system.
    #[error("the system refused {what}: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Why a service could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The file is no component that can be compiled.
    #[error(transparent)]
    Component(#[from] busway_host::LoadError),
    /// The component does not fit the host.
    #[error(transparent)]
    Link(#[from] busway_host::LinkError),
    /// Its `subscriptions` function gave no answer.
    #[error("asking it for its subscriptions failed: {0}")]
    Guest(#[from] busway_host::GuestError),
    /// Its `subscriptions` gave something that is no pattern.
    #[error("it subscribes to {pattern:?}: {source}")]
    Subscription {
        /// What it gave.
        pattern: String,
        /// Why that is none.
        source: busway_types::InvalidPattern,
    },
    /// It handles events but nobody said which.
    #[error(
        "it exports a handler but subscribes to nothing; let its `subscriptions` give topics, or add to busway.toml: [services.{service}] subscribe = [\"...\"]"
    )]
    NoSubscription {
        /// The service.
        service: ServiceName,
    },
    /// It wants what it was not granted.
    #[error(transparent)]
    Denied(#[from] crate::manifest::Denied),
    /// Another file runs under the name.
    #[error("a service `{name}` already runs from {other}; names must be unique, rename one of the files", other = other.display())]
    NameTaken {
        /// The name.
        name: ServiceName,
        /// Where the running one comes from.
        other: PathBuf,
    },
    /// It and another service do not understand each other on a contract.
    #[error("it does not understand another service on a contract\n{0}")]
    Incompatible(String),
    /// The manifest names a key that its contract does not have.
    #[error("{0}")]
    Key(#[from] busway_contract::KeyError),
    /// The engine refused its subscription.
    #[error("its subscription could not be made: {0}")]
    Engine(#[from] EngineError),
    /// Starting it crashed; a bug of busway.
    #[error("starting it crashed (please report this): {0}")]
    Crashed(String),
}

impl StartError {
    /// Whether the same start may succeed later without a change of the file.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Component(error) => error.is_retryable(),
            Self::Link(error) => error.is_retryable(),
            Self::Guest(error) => error.is_retryable(),
            Self::Engine(error) => error.is_retryable(),
            // The other side may be swapped for one that fits.
            Self::Crashed(_) | Self::Incompatible(_) => true,
            Self::Key(_)
            | Self::Subscription { .. }
            | Self::NoSubscription { .. }
            | Self::Denied(_)
            | Self::NameTaken { .. } => false,
        }
    }

    /// The error with its causes on one line.
    pub fn report(&self) -> String {
        let mut text = self.to_string();
        let mut next = std::error::Error::source(self);
        while let Some(cause) = next {
            let cause_text = cause.to_string();
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            next = cause.source();
        }
        text
    }
}
