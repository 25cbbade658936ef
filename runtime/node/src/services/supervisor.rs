//! Starts, swaps and stops services.
//!
//! Role: makes what runs match what the app says. Everything that compiles or instantiates happens on blocking threads;
//! everything that changes the catalog happens here, one step at a time.
//!
//! Invariants: all subscriptions of an app exist before any of its handlers or tasks runs; a new version is complete
//! (compiled, linked, subscribed) before the old one stops getting chunks; a version that cannot start changes nothing; a
//! service whose subscription is being detached is not attached again before that is over.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use busway_gateway::api::ServiceState;
use busway_host::{Binding, LaneSettings};
use busway_types::{ServiceName, SubId, SubscriptionSpec, SubscriptionState, Topic};
use tokio::sync::watch;

use super::catalog::{Handler, Service, Version};
use super::fitting;
use super::http;
use super::leaving::{DRAIN_FOR, Leaving, detach};
use super::manifest::WatchedManifest;
use super::prepare::{Prepared, Preparer};
use super::scan::{Change, Fingerprint, Scanner};
use super::tasks;
use crate::bridges;
use crate::driver::executor::Executor;
use crate::driver::{Event, PARTITION, Target};
use crate::error::StartError;
use crate::inner::{Inner, Stop};
use crate::manifest::{App, Origin, ServiceConfig, components};
use crate::metrics::Metrics;
use crate::spread;
use crate::task_set::TaskSet;

/// How often the app's files are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The first wait before a service that could not start is tried again; doubled each time.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_mins(1);

/// A service that could not start for a reason that may pass.
#[derive(Default)]
struct Waiting {
    attempts: u32,
    due_ns: u64,
    /// What was said of it, so that it is not said again at each attempt.
    reason: String,
    /// Whether it does not understand another one.
    is_unfit: bool,
}

pub(crate) struct Supervisor {
    inner: Arc<Inner>,
    preparer: Arc<Preparer>,
    tasks: TaskSet,
    app: App,
    scanner: Scanner,
    /// What each known service is configured as. Several may be made of one file.
    known: BTreeMap<ServiceName, ServiceConfig>,
    waiting: BTreeMap<ServiceName, Waiting>,
    leaving: Leaving,
    /// How many tasks run now that `idle` has to wait for.
    busy_tasks: Arc<watch::Sender<usize>>,
    manifest: WatchedManifest,
}

impl Supervisor {
    pub(crate) fn new(
        inner: Arc<Inner>,
        preparer: Arc<Preparer>,
        tasks: TaskSet,
        app: App,
        busy_tasks: Arc<watch::Sender<usize>>,
        manifest: WatchedManifest,
    ) -> Self {
        Self {
            inner,
            preparer,
            tasks,
            app,
            scanner: Scanner::default(),
            known: BTreeMap::new(),
            waiting: BTreeMap::new(),
            leaving: Leaving::default(),
            busy_tasks,
            manifest,
        }
    }

    /// Starts every service of the app: first all subscriptions, then handlers, then clients may publish, then tasks.
    pub(crate) async fn start(&mut self) {
        let mut ready = Vec::new();
        for refused in self.app.refused.clone() {
            self.refuse(refused.path, refused.reason);
        }
        for config in self.app.services.clone().into_values().filter(|config| config.enabled) {
            let name = config.name.clone();
            self.scanner.applied(&config.component, Fingerprint::of(&config.component));
            self.known.insert(name.clone(), config.clone());
            match self.prepare(config).await {
                Ok(prepared) => ready.push((name, prepared)),
                Err(error) => self.could_not_start(&name, &error),
            }
        }
        let mut complete: Vec<Staged> = Vec::new();
        let mut kept_out = fitting::kept_out(&ready);
        for (name, prepared) in ready {
            let staged = match kept_out.remove(&name) {
                Some(differences) => Err(StartError::Incompatible(differences)),
                None => self.subscribe(prepared),
            };
            match staged {
                Ok(staged) => complete.push(staged),
                Err(error) => self.could_not_start(&name, &error),
            }
        }
        let bridges = bridges::stage(&self.inner, &self.tasks, self.app.bridges());
        self.detach_the_gone(&complete);
        let started: Vec<Arc<Service>> = complete.into_iter().map(|staged| self.go_live(staged)).collect();
        fitting::tell(&self.inner.services.all(), &self.app.keys());
        self.manifest.advise(&self.inner);
        self.inner.ready.send_replace(true);
        bridges.open(&self.inner, &self.tasks);
        for service in started {
            self.start_sources(&service);
        }
    }

    /// Subscriptions of services, or of contracts of theirs, that went while the node was down: their time begins to run.
    fn detach_the_gone(&self, started: &[Staged]) {
        for known in self.inner.engine.subscriptions() {
            let service = started.iter().find(|staged| staged.prepared.config.name == known.service);
            let is_gone = match service {
                // A contract that it handled before.
                Some(staged) => !staged.attach.iter().any(|attach| attach.sub == known.id),
                None => !self.known.contains_key(&known.service) && !self.inner.bridges.has(&known.service),
            };
            if known.detached_since.is_none() && is_gone {
                // Whoever starts the node shows everything that is detached; once is enough.
                tracing::debug!(subscription = known.name, "its service is gone; its position is kept for 24 h");
                let now = self.inner.clock.now();
                if let Err(error) = self.inner.engine.detach(PARTITION, self.inner.epoch(), known.id, now) {
                    tracing::warn!(subscription = known.name, %error, "could not be detached");
                }
            }
        }
    }

    /// Watches the app until the node stops.
    pub(crate) async fn run(mut self, watch_files: bool) {
        let mut stop = self.inner.stop.subscribe();
        loop {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                stopped = stop.wait_for(|stop| *stop != Stop::No) => {
                    drop(stopped);
                    return;
                }
            }
            if watch_files {
                self.look().await;
            }
            self.retry_waiting().await;
        }
    }

    async fn look(&mut self) {
        let mut is_other = self.manifest.look(&self.inner);
        let mut now: BTreeMap<PathBuf, Option<Fingerprint>> = BTreeMap::new();
        if let Some(Ok(files)) = self.app.folder.as_deref().map(components) {
            // The manifest stands among the components, and what is noted of it has nothing to do with them.
            let mut unfit: BTreeSet<PathBuf> = self.manifest.path().map(Path::to_owned).into_iter().collect();
            for file in files {
                match self.app.service_for(&file) {
                    Ok(config) if config.enabled => {
                        now.insert(config.component.clone(), Fingerprint::of(&config.component));
                        self.known.entry(config.name.clone()).or_insert(config);
                    }
                    Ok(_) => {}
                    Err(refused) => {
                        unfit.insert(refused.path.clone());
                        self.refuse(refused.path, refused.reason);
                    }
                }
            }
            self.inner.services.forgive_unfit_except(&unfit);
        }
        for config in self.app.manifest.iter().flat_map(|manifest| manifest.services.values()).filter(|c| c.enabled) {
            now.insert(config.component.clone(), Fingerprint::of(&config.component));
        }
        for change in self.scanner.look(&now) {
            is_other = true;
            match change {
                Change::Settled(path) => {
                    for name in self.made_of(&path) {
                        // Another file is another first attempt.
                        self.waiting.remove(&name);
                        self.apply(&name).await;
                    }
                }
                Change::Gone(path) => {
                    for name in self.made_of(&path) {
                        self.remove(&name);
                    }
                }
            }
        }
        if is_other {
            self.manifest.advise(&self.inner);
        }
    }

    /// The services of a file.
    fn made_of(&self, path: &Path) -> Vec<ServiceName> {
        self.known.values().filter(|config| config.component == path).map(|config| config.name.clone()).collect()
    }

    async fn retry_waiting(&mut self) {
        let now = self.inner.clock.monotonic_ns();
        let due: Vec<ServiceName> =
            self.waiting.iter().filter(|(_, w)| w.due_ns <= now).map(|(name, _)| name.clone()).collect();
        for name in &due {
            self.apply(name).await;
        }
        if !due.is_empty() {
            self.manifest.advise(&self.inner);
        }
    }

    /// Whoever could not start is tried again at the next look: it may be that what has changed was what kept it out.
    fn wake_the_waiting(&mut self) {
        self.waiting.values_mut().for_each(|waiting| waiting.due_ns = 0);
    }

    /// Starts a service from its component, or swaps the running one for it.
    async fn apply(&mut self, name: &ServiceName) {
        let Some(config) = self.known.get(name).cloned() else { return };
        if self.leaving.contains(name) {
            // What it still settles belongs to the position from which it goes on: at the next look.
            self.waiting.entry(name.clone()).or_default();
            return;
        }
        let path = config.component.clone();
        let result = match self.prepare(config).await {
            Ok(prepared) if self.is_same(&prepared) => {
                self.inner.services.forgive(&path, name);
                self.waiting.remove(name);
                return;
            }
            Ok(prepared) => match fitting::fits(&prepared, &self.inner.services.all()) {
                Ok(()) => self.subscribe(prepared),
                Err(_) if self.take_over_together(name, &prepared).await => return,
                Err(error) => Err(error),
            },
            Err(error) => Err(error),
        };
        match result {
            // A node that drains starts nothing new.
            Ok(_) if self.inner.is_stopping() => {}
            Ok(staged) => {
                self.waiting.remove(name);
                self.inner.services.forgive(&path, name);
                let service = self.go_live(staged);
                self.start_sources(&service);
                tracing::info!(service = %name, component = %path.display(), "the service runs");
                self.wake_the_waiting();
            }
            Err(error) => self.could_not_start(name, &error),
        }
    }

    /// A change that both sides of a contract made: each new version is kept out by the other's old one, so those that wait for
    /// each other take over at once. False when that mends nothing.
    async fn take_over_together(&mut self, name: &ServiceName, prepared: &Prepared) -> bool {
        let others = self.waiting.iter().filter(|(other, waiting)| waiting.is_unfit && *other != name);
        let others: Vec<ServiceName> = others.map(|(other, _)| other.clone()).collect();
        let mut ready = Vec::new();
        for other in others.into_iter().filter(|other| !self.leaving.contains(other)) {
            let Some(config) = self.known.get(&other).cloned() else { continue };
            ready.extend(self.prepare(config).await.ok());
        }
        let running = self.inner.services.all();
        let all: Vec<&Prepared> = std::iter::once(prepared).chain(&ready).collect();
        if ready.is_empty() || self.inner.is_stopping() {
            return false;
        }
        // All of those that wait, else one of them: another may be kept out for good.
        let fits_with = |other: &Prepared| fitting::fit_together(&[prepared, other], &running);
        let chosen: Vec<ServiceName> = if fitting::fit_together(&all, &running) {
            ready.iter().map(|prepared| prepared.config.name.clone()).collect()
        } else if let Some(other) = ready.iter().find(|other| fits_with(other)) {
            vec![other.config.name.clone()]
        } else {
            return false;
        };
        let Some(config) = self.known.get(name).cloned() else { return false };
        let Ok(own) = self.prepare(config).await else { return false };
        ready.retain(|prepared| chosen.contains(&prepared.config.name));
        ready.push(own);
        let staged: Result<Vec<Staged>, StartError> =
            ready.into_iter().map(|prepared| self.subscribe(prepared)).collect();
        let Ok(staged) = staged else { return false };
        let names: Vec<ServiceName> = staged.iter().map(|staged| staged.prepared.config.name.clone()).collect();
        let live: Vec<Arc<Service>> = staged.into_iter().map(|staged| self.go_live(staged)).collect();
        for service in live {
            self.waiting.remove(&service.config.name);
            self.inner.services.forgive(&service.config.component, &service.config.name);
            self.start_sources(&service);
        }
        let names = names.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(", ");
        tracing::info!("{names}: these take over together, since each understands only the new versions of the others");
        self.wake_the_waiting();
        true
    }

    /// Whether a prepared component is what already runs (the file was touched, not changed).
    fn is_same(&self, prepared: &Prepared) -> bool {
        let running = self.inner.services.get(&prepared.config.name);
        running.is_some_and(|service| {
            service.with(|now| now.version.as_ref().is_some_and(|version| version.hash == prepared.hash))
        })
    }

    async fn prepare(&self, config: ServiceConfig) -> Result<Prepared, StartError> {
        let running = self.inner.services.get(&config.name);
        if let Some(other) = &running
            && other.config.component != config.component
        {
            return Err(StartError::NameTaken { name: config.name.clone(), other: other.config.component.clone() });
        }
        let metrics = running.map_or_else(|| Arc::new(Metrics::new()), |service| Arc::clone(&service.metrics));
        let preparer = Arc::clone(&self.preparer);
        match tokio::task::spawn_blocking(move || preparer.prepare(config, metrics)).await {
            Ok(result) => result,
            Err(panic) => Err(StartError::Crashed(panic.to_string())),
        }
    }

    /// Creates or finds the subscriptions of a prepared service.
    fn subscribe(&self, prepared: Prepared) -> Result<Staged, StartError> {
        let mut attach = Vec::new();
        for (spec, binding) in prepared.specs() {
            let (sub, state) =
                self.inner.patiently(|| self.inner.engine.subscribe(PARTITION, self.inner.epoch(), &spec))?;
            let spec = self.settings(sub, spec)?;
            attach.push(Attach { sub, state, spec, binding });
        }
        Ok(Staged { prepared, attach })
    }

    /// What a subscription is set to, which a newer deployment may have decided.
    fn settings(&self, sub: SubId, spec: SubscriptionSpec) -> Result<SubscriptionSpec, StartError> {
        let inner = &self.inner;
        let own = spec.settings(inner.generation);
        let spec = inner.engine.settings(PARTITION, inner.epoch(), sub, spec, inner.generation)?;
        if spec.settings(inner.generation) != own {
            let (subscription, generation) = (&spec.name, inner.generation);
            tracing::warn!(subscription, generation, "a newer deployment has set it to something else, which it keeps");
        }
        Ok(spec)
    }

    /// Puts a staged service to work; one that ran under its name before gets no further chunk.
    fn go_live(&self, staged: Staged) -> Arc<Service> {
        let Staged { prepared, attach } = staged;
        let name = prepared.config.name.clone();
        let previous = self.inner.services.get(&name);
        let old = previous.as_ref().and_then(|service| service.with(|now| now.version.take()));
        let sink = Arc::clone(&self.inner.driver) as Arc<dyn busway_host::LaneSink>;
        let concurrency = prepared.config.concurrency;
        let mut settings = LaneSettings::for_subscriptions(concurrency, attach.len());
        if self.inner.spread.is_some() {
            // Whatever no other node takes has to find room here.
            settings.queue = usize::MAX;
        }
        let lane = Arc::new(prepared.linked.lane(settings, sink));
        let handler = |Attach { sub, state, spec, binding }: Attach| {
            lane.bind(sub, binding);
            let (handler_name, patterns) = (spec.name.clone(), spec.patterns.clone());
            let grants = prepared.config.publish.clone();
            let executor: Arc<dyn Executor> = match &self.inner.spread {
                Some(spread) => {
                    Arc::new(spread::Shared::new(spread, &self.inner.clock, &lane, &handler_name, concurrency))
                }
                None => Arc::clone(&lane) as Arc<dyn Executor>,
            };
            let target = Box::new(Target { spec, executor, metrics: Arc::clone(&prepared.metrics), grants });
            let swapped = old.as_ref().is_some_and(|old| old.handlers.iter().any(|old| old.sub == sub));
            let head = *self.inner.driver.head.borrow();
            self.inner.driver.inbox.push(if swapped {
                Event::Swap { sub, target }
            } else {
                Event::Attach { sub, target, state, head }
            });
            Handler { sub, name: handler_name, patterns, lane: Arc::clone(&lane) }
        };
        let handlers: Vec<Handler> = attach.into_iter().map(handler).collect();
        let kept: Vec<SubId> = handlers.iter().map(|handler| handler.sub).collect();
        let version = Version {
            hash: prepared.hash,
            exports: prepared.exports,
            imports: prepared.imports,
            contracts: prepared.linked.inspection().contracts.clone(),
            answers: answers(&prepared.linked),
            lane,
            handlers,
            task: None,
            http: prepared.http,
        };
        let service = Arc::new(Service::new(prepared.config, prepared.metrics));
        service.with(|now| {
            now.version = Some(version);
            now.state = ServiceState::Running;
            now.runnable = prepared.is_task.then_some(prepared.linked);
        });
        self.inner.services.insert(Arc::clone(&service));
        self.inner.contracts.set(self.inner.services.contracts());
        self.inner.requests.set(self.inner.services.answerers());
        if let Some(old) = old {
            self.retire(&service.config.name, old, &kept);
        }
        service
    }

    /// Stops what is left of an old version, all but the subscriptions that its successor has; its chunks in flight finish.
    fn retire(&self, name: &ServiceName, old: Version, kept: &[SubId]) {
        if let Some(task) = old.task {
            task.stop();
        }
        if let Some(pool) = old.http {
            http::retire(&self.inner, &self.tasks, pool, None);
        }
        let lane = old.lane;
        let gone: Vec<Handler> = old.handlers.into_iter().filter(|handler| !kept.contains(&handler.sub)).collect();
        let inner = Arc::clone(&self.inner);
        let leaves = (!gone.is_empty()).then(|| self.leaving.begin(name));
        self.tasks.spawn(async move {
            for handler in &gone {
                detach(&inner, handler).await;
            }
            drop(leaves);
            lane.close();
        });
    }

    fn start_sources(&self, service: &Arc<Service>) {
        tasks::start(&self.inner, &self.tasks, service, &self.busy_tasks);
    }

    /// The file is gone: what is in flight finishes, then the subscription is detached.
    fn remove(&mut self, name: &ServiceName) {
        let Some(config) = self.known.get(name) else { return };
        self.waiting.remove(name);
        self.inner.services.forgive(&config.component, name);
        if matches!(config.origin, Origin::Manifest(_)) {
            tracing::warn!(
                service = %name,
                component = %config.component.display(),
                "a component of the manifest is gone; the service goes on as it is"
            );
            return;
        }
        self.known.remove(name);
        self.wake_the_waiting();
        let Some(service) = self.inner.services.get(name) else { return };
        service.set_state(ServiceState::Draining, Some("its component was removed".to_owned()));
        let Some(version) = service.with(|now| now.version.take()) else { return };
        if let Some(task) = &version.task {
            task.stop();
        }
        if let Some(pool) = &version.http {
            http::retire(&self.inner, &self.tasks, Arc::clone(pool), Some(DRAIN_FOR));
        }
        // In the background: what it still does holds up no other service.
        let inner = Arc::clone(&self.inner);
        let leaves = self.leaving.begin(name);
        self.tasks.spawn(async move {
            let kept = if version.handlers.is_empty() { "" } else { "; its position is kept for 24 h" };
            for handler in &version.handlers {
                detach(&inner, handler).await;
            }
            version.lane.close();
            inner.contracts.set(inner.services.contracts());
            inner.requests.set(inner.services.answerers());
            if inner.services.remove(&service) {
                tracing::info!(service = %service.config.name, "the service was removed{kept}");
            }
            drop(leaves);
        });
    }

    /// Notes a file that is no service; says so once.
    fn refuse(&self, path: PathBuf, reason: String) {
        if !self.inner.services.is_unfit(&path) {
            tracing::error!(component = %path.display(), "refused: {reason}");
            self.inner.services.refuse(path, None, reason, self.inner.clock.now());
        }
    }

    /// Notes why a service does not run; says so again only when the reason is another one.
    fn could_not_start(&mut self, name: &ServiceName, error: &StartError) {
        let Some(config) = self.known.get(name) else { return };
        let path = config.component.clone();
        let reason = error.report();
        let said = self.waiting.get(name).is_some_and(|waiting| waiting.reason == reason);
        if !said {
            let running = self.inner.services.get(name);
            let goes_on = running.is_some_and(|service| service.with(|now| now.version.is_some()));
            let then = if goes_on { "the old version goes on" } else { "it does not run" };
            tracing::error!(service = %name, component = %path.display(), "refused, {then}: {reason}");
        }
        self.inner.services.refuse(path, Some(name.clone()), reason.clone(), self.inner.clock.now());
        if error.is_retryable() {
            let waiting = self.waiting.entry(name.clone()).or_default();
            let wait = RETRY_FIRST.saturating_mul(1 << waiting.attempts.min(16)).min(RETRY_LONGEST);
            waiting.attempts += 1;
            let wait_ns = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
            waiting.due_ns = self.inner.clock.monotonic_ns().saturating_add(wait_ns);
            waiting.reason = reason;
            waiting.is_unfit = matches!(error, StartError::Incompatible(_));
        } else {
            self.waiting.remove(name);
        }
    }
}

/// The topics of the requests that a component answers, with the place of their contract.
fn answers(linked: &busway_host::Linked) -> Vec<(Topic, usize)> {
    let topics = linked.request_topics().into_iter().enumerate();
    topics.flat_map(|(place, topics)| topics.into_iter().map(move |topic| (topic, place))).collect()
}

/// A service whose subscriptions exist.
struct Staged {
    prepared: Prepared,
    attach: Vec<Attach>,
}

/// A subscription that is about to get its handler.
struct Attach {
    sub: SubId,
    state: SubscriptionState,
    spec: SubscriptionSpec,
    binding: Binding,
}
