//! One running process: start, drain, stop.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use busway_dispatch::{Machine, MachineOptions};
use busway_engine::{Engine, Fs};
use busway_gateway::api::StatusReport;
use busway_gateway::edge::Setup;
use busway_gateway::{AdminBackend, AdminConfig, AdminToken};
use busway_host::{Host, HostConfig};
use busway_types::{Clock, Limits, SystemClock};
use tokio::sync::watch;

use crate::admin::Admin;
use crate::bridges::Bridges;
use crate::contracts::Contracts;
use crate::driver::{self, Driver, Event, ReportTap};
use crate::edge::{Bound, Listening};
use crate::error::NodeError;
use crate::inner::{Inner, Stop};
use crate::manifest::{App, EngineUrl};
use crate::opening::{Opened, open_engine};
use crate::publisher::Publisher;
use crate::requests::Requests;
use crate::services::{Catalog, Preparer, Sources};
use crate::spread::{self, Spread};
use crate::task_set::TaskSet;

/// How long a message to another node may take, before this one ends.
const LEAVE_FOR: Duration = Duration::from_millis(100);
/// How long a drain waits for what is in flight.
const DRAIN_FOR: Duration = Duration::from_secs(30);

/// What a node is started with.
#[derive(Clone)]
pub struct NodeOptions {
    /// The app: a folder of components, a folder with a `busway.toml`, or a manifest.
    pub app: PathBuf,
    /// Where the queues live; overrides the manifest. In memory when neither says.
    pub engine: Option<EngineUrl>,
    /// Where the admin API listens; port 0 takes any free one.
    pub admin: SocketAddr,
    /// The token that the admin API asks for.
    pub token: String,
    /// Where the gateway listens; overrides the manifest. There is no gateway when neither says.
    pub listen: Option<SocketAddr>,
    /// Where compiled code is cached; none for no cache.
    pub cache_dir: Option<PathBuf>,
    /// Where a node in memory keeps the little that outlives it: a self-made certificate. None for nothing.
    pub state_dir: Option<PathBuf>,
    /// Whether components that appear, change or go are picked up.
    pub watch: bool,
    /// Overrides the manifest's limits; for tests and benchmarks.
    pub limits: Option<Limits>,
    /// Hears about compilations, which may take seconds.
    pub progress: Option<busway_host::Progress>,
    /// The generation of this deployment; overrides the manifest.
    pub generation: Option<u32>,
    /// Sees every report; for tests and benchmarks.
    pub tap: Option<ReportTap>,
    /// The file system under a bus on disk; tests put a faulty one here.
    pub fs: Arc<dyn Fs>,
}

impl NodeOptions {
    /// A node for `app` with everything at its default, an admin API on any free loopback port and the given token.
    pub fn new(app: impl Into<PathBuf>, token: impl Into<String>) -> Self {
        Self {
            app: app.into(),
            engine: None,
            admin: SocketAddr::from(([127, 0, 0, 1], 0)),
            token: token.into(),
            listen: None,
            cache_dir: None,
            state_dir: None,
            watch: true,
            limits: None,
            generation: None,
            tap: None,
            progress: None,
            fs: Arc::new(busway_engine::RealFs),
        }
    }
}

/// A running node.
pub struct Node {
    inner: Arc<Inner>,
    admin: Arc<Admin>,
    gateway: Option<Arc<Listening>>,
    tasks: TaskSet,
    busy_tasks: Arc<watch::Sender<usize>>,
    /// Whether something is scheduled, or comes in from a broker, so that it is never idle.
    schedules: bool,
    driver: Option<std::thread::JoinHandle<()>>,
}

impl Node {
    /// Starts a node: reads the app, opens the engine, loads every service, serves the admin API. A service that cannot
    /// start is refused with its reason (see [`Node::status`]) and stops nothing else.
    pub async fn start(options: NodeOptions) -> Result<Self, NodeError> {
        let NodeOptions { app: app_path, engine, admin, token, listen, cache_dir, state_dir, .. } = options;
        let NodeOptions { watch, limits, tap, progress, fs, generation, .. } = options;
        let app = App::load(&app_path)?;
        let limits = limits.unwrap_or_else(|| app.limits());
        let listener = busway_gateway::bind(admin).await?;
        let bound = Bound::take(listen.or(app.gateway().listen))?;
        let address = listener.local_addr().map_err(|source| NodeError::System { what: "a socket", source })?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let bus = app.bus();
        let url = engine.or(bus.engine).unwrap_or(EngineUrl::Memory);
        // What the gateway makes by itself lies beside what the node keeps.
        let folder = match &url {
            EngineUrl::File(dir) => Some(dir.join("gateway")),
            EngineUrl::Memory | EngineUrl::Nats(_) | EngineUrl::Amqp(_) => state_dir,
        };
        let Opened { engine, durability } = open_engine(&url, bus.durability, fs, &clock, &limits).await?;
        let host =
            Host::new(HostConfig { cache: cache_dir, limits: limits.clone(), progress, ..HostConfig::default() })
                .map_err(|error| NodeError::Host(error.to_string()))?;
        let seed = seed()?;
        let shared = driver::Shared::new(&limits);
        let gate = Arc::clone(&shared.gate);
        let contracts = Arc::new(Contracts::new(app.keys()));
        let publisher =
            Publisher::new(Arc::clone(&engine), Arc::clone(&clock), limits.clone(), seed, Arc::clone(&contracts), gate);
        let publisher = Arc::new(publisher);
        let requests = Requests::new(Arc::clone(&engine), Arc::clone(&clock), limits.clone(), seed.rotate_left(32));
        let requests = Arc::new(requests);
        let spread = engine.mesh().map(|mesh| Spread::new(mesh, seed ^ 4, Arc::clone(&shared) as _));
        start_engine(&engine, &shared).await?;
        let thread = start_driver(&shared, &engine, &clock, &publisher, &limits, seed ^ 1, tap)?;
        let inner = Arc::new(Inner {
            started_ns: clock.monotonic_ns(),
            clock,
            limits,
            engine,
            driver: shared,
            publisher,
            contracts,
            requests,
            host,
            spread,
            services: Catalog::default(),
            bridges: Bridges::default(),
            durability,
            generation: generation.unwrap_or(bus.generation),
            admin: address,
            gateway: OnceLock::new(),
            stop: watch::Sender::new(Stop::No),
            ready: watch::Sender::new(false),
        });
        let mut node = Self {
            admin: Arc::new(Admin { inner: Arc::clone(&inner) }),
            inner,
            gateway: None,
            tasks: TaskSet::default(),
            busy_tasks: Arc::new(watch::Sender::new(0)),
            schedules: app.comes_to_no_end(),
            driver: Some(thread),
        };
        node.serve_admin(listener, token);
        node.attend_other_nodes();
        if let Err(error) = node.serve_gateway(bound, &app, Setup { seed: seed ^ 3, folder, is_public: false }) {
            let _ = node.stop().await;
            return Err(error);
        }
        Box::pin(node.start_services(app, app_path, seed ^ 2, watch)).await;
        Ok(node)
    }

    fn serve_admin(&self, listener: tokio::net::TcpListener, token: String) {
        let backend = Arc::clone(&self.admin) as Arc<dyn AdminBackend>;
        let config = AdminConfig::new(AdminToken::new(token));
        let mut stop = self.inner.stop.subscribe();
        let inner = Arc::clone(&self.inner);
        self.tasks.spawn(async move {
            let stopped = async move {
                let _ = stop.wait_for(|stop| *stop == Stop::Now).await;
            };
            if let Err(error) = busway_gateway::serve(listener, backend, config, stopped).await {
                tracing::error!(%error, "the admin API stopped");
                inner.driver.failure.send_replace(Some(format!("the admin API stopped: {error}")));
            }
        });
    }

    /// Other nodes of a bus that several share are heard and answered.
    fn attend_other_nodes(&self) {
        if let Some(spread) = &self.inner.spread {
            self.tasks.spawn(spread::attend(Arc::clone(spread), Arc::clone(&self.admin), self.tasks.clone()));
        }
    }

    fn serve_gateway(&mut self, bound: Option<Bound>, app: &App, setup: Setup) -> Result<(), NodeError> {
        let Some(bound) = bound else { return Ok(()) };
        let listening = bound.serve(&self.inner, &app.gateway(), setup, &self.tasks)?;
        let seen = (listening.addr(), Arc::downgrade(listening.gateway()));
        // Set once, here.
        let _ = self.inner.gateway.set(seen);
        self.gateway = Some(Arc::new(listening));
        Ok(())
    }

    async fn start_services(&mut self, app: App, app_path: PathBuf, seed: u64, watch: bool) {
        let sources = Sources {
            inner: Arc::clone(&self.inner),
            preparer: Arc::new(Preparer::new(Arc::clone(&self.inner), tokio::runtime::Handle::current(), seed)),
            tasks: self.tasks.clone(),
            busy_tasks: Arc::clone(&self.busy_tasks),
            gateway: self.gateway.clone(),
            watch,
        };
        if self.inner.engine.standby().is_none() {
            let supervisor = sources.start(app).await;
            self.tasks.spawn(supervisor.run(watch));
        } else {
            self.tasks.spawn(sources.start_in_turn(app, app_path));
        }
    }

    /// Where the admin API listens.
    pub fn admin_addr(&self) -> SocketAddr {
        self.inner.admin
    }

    /// Where the gateway listens, if there is one.
    pub fn gateway_addr(&self) -> Option<SocketAddr> {
        self.gateway.as_ref().map(|gateway| gateway.addr())
    }

    /// Publishes into this node.
    pub fn publisher(&self) -> &Arc<Publisher> {
        &self.inner.publisher
    }

    /// What the admin API would answer.
    pub fn admin(&self) -> Arc<dyn AdminBackend> {
        Arc::clone(&self.admin) as Arc<dyn AdminBackend>
    }

    /// Figures of everything.
    pub async fn status(&self) -> StatusReport {
        self.admin.status().await.unwrap_or_else(|_| unreachable!("status cannot fail"))
    }

    /// Returns when nothing is queued, in flight, parked or delayed, and no task runs. Never, when something is scheduled or comes in
    /// over a bridge.
    pub async fn idle(&self) {
        if self.schedules {
            std::future::pending::<()>().await;
        }
        self.ready().await;
        let mut busy = self.busy_tasks.subscribe();
        let mut idle = self.inner.driver.idle.subscribe();
        loop {
            if busy.wait_for(|count| *count == 0).await.is_err() {
                return;
            }
            // Events that a task published just before it ended reach the driver before this question does.
            self.inner.driver.stats().await;
            if *idle.borrow_and_update() && *busy.borrow_and_update() == 0 {
                return;
            }
            tokio::select! {
                _ = idle.wait_for(|idle| *idle) => {}
                _ = busy.changed() => {}
            }
        }
    }

    /// Returns when every service of the app has been started, or refused. On an engine that several nodes share that is once
    /// this node owns the bus.
    pub async fn ready(&self) {
        // Never an error: the sender is this node's.
        let _ = self.inner.ready.subscribe().wait_for(|ready| *ready).await;
    }

    /// Returns when another node has taken the bus over. This one can do nothing more: stop it, and start another one in its
    /// place, which waits for its turn.
    pub async fn lost(&self) {
        let _ = self.inner.driver.revoked.subscribe().wait_for(|revoked| *revoked).await;
    }

    /// Returns when the node has to end: because it was asked to over the admin API, or because it failed (the reason).
    pub async fn stopped(&self) -> Option<String> {
        let mut stop = self.inner.stop.subscribe();
        let mut failure = self.inner.driver.failure.subscribe();
        tokio::select! {
            _ = stop.wait_for(|stop| *stop != Stop::No) => None,
            failed = failure.wait_for(Option::is_some) => failed.ok().and_then(|reason| reason.clone()),
        }
    }

    /// Finishes what is in flight (at most 30 s), makes everything safe and ends. Nothing new is accepted meanwhile. The
    /// gateway goes first, while the bus can still answer what it has taken.
    pub async fn drain(self) -> Result<(), NodeError> {
        if let Some(gateway) = &self.gateway {
            gateway.drain().await;
        }
        self.inner.request_stop(false);
        self.inner.driver.inbox.push(Event::PauseAll);
        let helps = self.inner.spread.as_ref().filter(|_| self.inner.owns().is_none());
        if let Some(spread) = helps {
            spread.leave(&self.inner);
            // What the owner has sent before it hears that.
            tokio::time::sleep(LEAVE_FOR).await;
        }
        let empty = async {
            while helps.is_some_and(|spread| !spread.is_free()) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let answers = || self.inner.services.all().iter().filter_map(|s| s.http()).any(|pool| !pool.is_drained());
            while answers() || self.inner.driver.stats().await.values().any(|stats| stats.in_flight > 0) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(DRAIN_FOR, empty).await.is_err() {
            tracing::warn!("still busy after {DRAIN_FOR:?}; the rest is tried again at the next start");
        }
        self.stop().await
    }

    /// Ends at once: what is in flight is void and is tried again at the next start.
    pub async fn stop(mut self) -> Result<(), NodeError> {
        self.inner.request_stop(true);
        self.inner.driver.inbox.push(Event::Stop);
        self.tasks.finish(Duration::from_secs(2)).await;
        let inner = Arc::clone(&self.inner);
        let driver = self.driver.take();
        let closed = tokio::task::spawn_blocking(move || {
            if let Some(driver) = driver {
                let _ = driver.join();
            }
            for service in inner.services.all() {
                if let Some(pool) = service.http() {
                    pool.stop();
                }
                if let Some(handler) = service.handlers().first() {
                    handler.lane.stop();
                }
            }
            inner.engine.close()
        });
        match closed.await {
            Ok(result) => Ok(result?),
            Err(_) => Ok(()),
        }
    }
}

fn start_driver(
    shared: &Arc<driver::Shared>,
    engine: &Arc<dyn Engine>,
    clock: &Arc<dyn Clock>,
    publisher: &Arc<Publisher>,
    limits: &Limits,
    seed: u64,
    tap: Option<ReportTap>,
) -> Result<std::thread::JoinHandle<()>, NodeError> {
    let replayable = engine.capabilities().replay;
    let machine = Machine::new(MachineOptions { limits: limits.clone(), seed, replayable });
    let (shared, engine, clock) = (Arc::clone(shared), Arc::clone(engine), Arc::clone(clock));
    let driver = Driver::new(shared, engine, clock, Arc::clone(publisher), machine, limits.clone(), tap);
    std::thread::Builder::new()
        .name("busway-driver".to_owned())
        .spawn(move || driver.run())
        .map_err(|source| NodeError::System { what: "a thread", source })
}

/// Starts the engine away from the runtime: a broker may take its time.
async fn start_engine(engine: &Arc<dyn Engine>, shared: &Arc<driver::Shared>) -> Result<(), NodeError> {
    let (engine, sink) = (Arc::clone(engine), Arc::clone(shared) as Arc<dyn busway_engine::Sink>);
    match tokio::task::spawn_blocking(move || engine.start(sink)).await {
        Ok(started) => Ok(started?),
        Err(panic) => Err(NodeError::Host(panic.to_string())),
    }
}

/// A random seed from the operating system.
fn seed() -> Result<u64, NodeError> {
    let refused = |error: getrandom::Error| std::io::Error::other(error.to_string());
    getrandom::u64().map_err(|error| NodeError::System { what: "random bytes", source: refused(error) })
}
