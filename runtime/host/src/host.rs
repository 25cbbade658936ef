//! The process's one host: engines, ticker, threads, slots and the code cache.
//!
//! Role: what all services of a process share. It knows no service by name and no event.
//!
//! Invariants: one component is compiled at a time; identical components share their code; guests run on this host's
//! threads only, never on the caller's.

use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use busway_types::{Clock, Limits, SystemClock};
use tokio::runtime::{Handle, Runtime};
use wasmtime::component::Component;
use wasmtime::{Config, Engine, InstanceAllocationStrategy, PoolingAllocationConfig};

use crate::cache::{CodeCache, content_hash};
use crate::compiled::{Compiled, CompiledInner, LoadError};
use crate::epoch::Ticker;
use crate::inspect;
use crate::slots::Slots;
use crate::state::Linkers;
use crate::threads::Threads;

/// The guest's stack. Deeper recursion traps.
const GUEST_STACK_BYTES: usize = 512 * 1024;

/// Core instances that a pooled component may have; larger ones are allocated on demand.
const POOLED_CORE_INSTANCES: u32 = 40;

/// Memories that a pooled component may have.
const POOLED_MEMORIES: u32 = 2;

/// Tables that a pooled component may have.
const POOLED_TABLES: u32 = 8;

/// What is told about a compilation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compiling {
    /// It begins; may take seconds for a large component.
    Started,
    /// Done, by compiling.
    Compiled(Duration),
    /// Done, from the code cache.
    Loaded(Duration),
}

/// Hears about compilations: the component's name, its size in bytes, and what happened.
pub type Progress = Arc<dyn Fn(&str, usize, Compiling) + Send + Sync>;

/// What a host is set to.
#[derive(Clone)]
pub struct HostConfig {
    /// The limits that guests meet.
    pub limits: Limits,
    /// The folder for compiled code, of the user's own; none: nothing is kept.
    pub cache: Option<PathBuf>,
    /// Bytes of the code cache at most; the entries used longest ago go first.
    pub cache_bytes: u64,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Cores that overrunning calls share; none: one less than there are, at least one.
    pub overrun_slots: Option<usize>,
    /// Instances of services with one instance per event that may exist at the same time; further ones wait.
    pub pool_instances: usize,
    /// Hears about compilations.
    pub progress: Option<Progress>,
}

impl Default for HostConfig {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            cache: None,
            cache_bytes: 1024 * 1024 * 1024,
            clock: Arc::new(SystemClock::new()),
            overrun_slots: None,
            pool_instances: 128,
            progress: None,
        }
    }
}

impl fmt::Debug for HostConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostConfig").field("cache", &self.cache).field("limits", &self.limits).finish_non_exhaustive()
    }
}

/// Why a host could not be made. Not worth retrying.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// The engine does not run here.
    #[error("the WebAssembly engine cannot be set up on this machine: {0}")]
    Engine(wasmtime::Error),
    /// The system gives no thread.
    #[error("a thread cannot be started; look at the limits of this user (`ulimit -u`)")]
    Thread(#[from] std::io::Error),
}

/// The host. Cheap to clone; everything ends when the last clone and the last service are gone.
#[derive(Clone)]
pub struct Host(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) config: HostConfig,
    /// For reused instances: memory on demand.
    pub(crate) demand: EngineSet,
    /// For one instance per event; made when the first service asks for it, none where it does not work.
    pooled: OnceLock<Option<Pool>>,
    pub(crate) ticker: Ticker,
    pub(crate) threads: Arc<Threads>,
    pub(crate) slots: Arc<Slots>,
    cache: Option<CodeCache>,
    /// What is loaded, by content. Its lock makes compilations one at a time.
    loaded: Mutex<HashMap<[u8; 32], Weak<CompiledInner>>>,
    runtime: Option<Runtime>,
    /// Where HTTP is answered; made when the first service asks for it, none where there are no threads for it.
    http: OnceLock<Option<Runtime>>,
}

/// An engine and what components can import on it.
pub(crate) struct EngineSet {
    pub(crate) engine: Engine,
    pub(crate) linkers: Linkers,
}

/// The engine with the pooling allocator, and the permits that keep it from running out.
pub(crate) struct Pool {
    pub(crate) set: EngineSet,
    pub(crate) permits: Arc<Slots>,
    /// As many as HTTP may take of them: what waits for slow clients must not keep those waiting who handle events.
    pub(crate) http: Arc<Slots>,
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Host").field("config", &self.0.config).finish_non_exhaustive()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // The last clone may go on a thread of some runtime, where a plain drop would panic.
        for runtime in [self.runtime.take(), self.http.take().flatten()].into_iter().flatten() {
            runtime.shutdown_background();
        }
    }
}

impl EngineSet {
    fn new(config: &Config) -> wasmtime::Result<Self> {
        let engine = Engine::new(config)?;
        let linkers = Linkers::new(&engine)?;
        Ok(Self { engine, linkers })
    }
}

/// What both engines have in common; code compiled for one runs on the other.
fn engine_config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .wasm_component_model_map(true)
        .wasm_component_model_fixed_length_lists(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(GUEST_STACK_BYTES);
    config
}

fn pooled_config(instances: u32) -> Config {
    let mut pool = PoolingAllocationConfig::new();
    pool.total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(POOLED_CORE_INSTANCES))
        .max_core_instances_per_component(POOLED_CORE_INSTANCES)
        .total_memories(instances.saturating_mul(POOLED_MEMORIES))
        .max_memories_per_component(POOLED_MEMORIES)
        .total_tables(instances.saturating_mul(POOLED_TABLES))
        .max_tables_per_component(POOLED_TABLES)
        .total_stacks(instances);
    let mut config = engine_config();
    config.allocation_strategy(InstanceAllocationStrategy::Pooling(pool));
    config
}

impl Host {
    /// Makes a host.
    pub fn new(config: HostConfig) -> Result<Self, HostError> {
        let demand = EngineSet::new(&engine_config()).map_err(HostError::Engine)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("busway-wasi")
            .enable_all()
            .build()?;
        let ticker = Ticker::start(demand.engine.clone(), config.clock.clone())?;
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let slots = config.overrun_slots.unwrap_or_else(|| cores.saturating_sub(1)).max(1);
        let cache = config.cache.as_ref().and_then(|folder| CodeCache::open(folder, config.cache_bytes));
        Ok(Self(Arc::new(Inner {
            demand,
            pooled: OnceLock::new(),
            ticker,
            threads: Threads::new(runtime.handle().clone()),
            slots: Arc::new(Slots::new(slots)),
            cache,
            loaded: Mutex::new(HashMap::new()),
            runtime: Some(runtime),
            http: OnceLock::new(),
            config,
        })))
    }

    /// Inspects and compiles a component, or takes it from what is loaded or cached. Blocks, up to many seconds for a
    /// large component; `name` is for people. What is wrong with the component's imports and exports is found by
    /// [`Compiled::link`](crate::Compiled::link).
    pub fn compile(&self, name: &str, bytes: &[u8]) -> Result<Compiled, LoadError> {
        let inspection = inspect::inspect(bytes)?;
        let inner = &self.0;
        let hash = content_hash(bytes);
        let mut loaded = inner.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = loaded.get(&hash).and_then(Weak::upgrade) {
            return Ok(Compiled(known));
        }
        loaded.retain(|_, known| known.strong_count() > 0);
        let tell = |event| {
            tracing::debug!(component = name, bytes = bytes.len(), ?event, "compiling");
            if let Some(progress) = &inner.config.progress {
                progress(name, bytes.len(), event);
            }
        };
        let clock = &inner.config.clock;
        let began = clock.monotonic_ns();
        let took = || Duration::from_nanos(clock.monotonic_ns().saturating_sub(began));
        let engine = &inner.demand.engine;
        let component = if let Some(component) = inner.cache.as_ref().and_then(|cache| cache.load(engine, &hash)) {
            tell(Compiling::Loaded(took()));
            component
        } else {
            tell(Compiling::Started);
            let component =
                Component::new(engine, bytes).map_err(|error| LoadError::Compile { reason: format!("{error:#}") })?;
            tell(Compiling::Compiled(took()));
            if let Some(cache) = &inner.cache {
                cache.store(&component, &hash);
            }
            component
        };
        let compiled = Arc::new(CompiledInner::new(inspection, component));
        loaded.insert(hash, Arc::downgrade(&compiled));
        Ok(Compiled(compiled))
    }
}

impl Inner {
    /// The runtime on which HTTP is answered. It has a thread more than overrunning calls may take, so that sockets and
    /// timers are looked after whatever guests do.
    pub(crate) fn http_runtime(&self) -> Option<Handle> {
        let make = || {
            let cores = std::thread::available_parallelism().map_or(1, usize::from);
            let overrun = self.config.overrun_slots.unwrap_or_else(|| cores.saturating_sub(1)).max(1);
            tokio::runtime::Builder::new_multi_thread()
                .worker_threads(cores.max(overrun + 1))
                .thread_name("busway-http")
                .enable_all()
                .build()
                .inspect_err(|error| tracing::error!(%error, "no threads to answer HTTP on"))
                .ok()
        };
        self.http.get_or_init(make).as_ref().map(|runtime| runtime.handle().clone())
    }

    /// The pool, as large as the address space allows; none where there is no room for the smallest.
    pub(crate) fn pool(&self) -> Option<&Pool> {
        let wanted = u32::try_from(self.config.pool_instances.clamp(1, 4_096)).unwrap_or(4_096);
        let make = || {
            let mut instances = wanted;
            loop {
                match EngineSet::new(&pooled_config(instances)) {
                    Ok(set) => {
                        self.ticker.add(set.engine.clone());
                        let (all, half) = (instances as usize, instances as usize / 2);
                        return Some(Pool {
                            set,
                            permits: Arc::new(Slots::new(all)),
                            http: Arc::new(Slots::new(half)),
                        });
                    }
                    Err(error) if instances <= 4 => {
                        tracing::warn!(%error, "no pooled instances on this machine; they are made on demand");
                        return None;
                    }
                    Err(_) => instances /= 4,
                }
            }
        };
        self.pooled.get_or_init(make).as_ref()
    }
}
