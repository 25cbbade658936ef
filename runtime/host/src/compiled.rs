//! A component whose code is ready, not yet tied to a service.

use std::fmt;
use std::sync::{Arc, OnceLock};

use wasmtime::component::Component;

use crate::cache::revive;
use crate::host::{Inner, Pool};
use crate::inspect::{InspectError, Inspection};

/// Why a file could not be made a component.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The bytes are no component.
    #[error(transparent)]
    Inspect(#[from] InspectError),
    /// It is a component, but the engine refuses it.
    #[error("the component cannot be compiled: {reason}")]
    Compile {
        /// What the engine said.
        reason: String,
    },
}

impl LoadError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Inspect(error) => error.is_retryable(),
            Self::Compile { .. } => false,
        }
    }
}

/// A compiled component. Cheap to clone; copies of one file share it.
#[derive(Clone)]
pub struct Compiled(pub(crate) Arc<CompiledInner>);

pub(crate) struct CompiledInner {
    pub(crate) inspection: Inspection,
    pub(crate) component: Component,
    /// The same code on the engine with the pooling allocator; none where it does not fit into the pool.
    pooled: OnceLock<Option<Component>>,
}

impl fmt::Debug for Compiled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Compiled").field(&self.0.inspection).finish()
    }
}

impl Compiled {
    /// What the component produces, handles and needs.
    pub fn inspection(&self) -> &Inspection {
        &self.0.inspection
    }
}

impl CompiledInner {
    pub(crate) fn new(inspection: Inspection, component: Component) -> Self {
        Self { inspection, component, pooled: OnceLock::new() }
    }

    /// The component on the pool's engine, if there is a pool and it fits.
    pub(crate) fn pooled<'h>(&self, host: &'h Inner) -> Option<(&'h Pool, Component)> {
        let pool = host.pool()?;
        let adopt = || {
            let adopted = self.component.serialize().and_then(|code| revive(&pool.set.engine, &code));
            adopted.inspect_err(|error| tracing::info!(%error, "a component is too large for the pool")).ok()
        };
        Some((pool, self.pooled.get_or_init(adopt).clone()?))
    }
}
