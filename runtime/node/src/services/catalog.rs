//! The services that the node knows, and what each is doing.
//!
//! Role: a table for others to read: who subscribes to a topic, what `status` shows. Only the supervisor changes it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use busway_contract::Use;
use busway_gateway::api::{RefusedFile, ServiceState};
use busway_gateway::edge::Served;
use busway_host::{HttpPool, Lane, Linked, TaskHandle};
use busway_types::{Pattern, ServiceName, SubId, Timestamp, Topic};
use rustc_hash::FxHashMap;

use crate::manifest::ServiceConfig;
use crate::metrics::Metrics;
use crate::requests::Answerer;

/// Patterns that a topic is compared with for a hint.
const MOST_COMPARED: usize = 2_000;

/// One version of a service that runs or ran.
pub(crate) struct Version {
    /// Hash of the component's bytes.
    pub(crate) hash: [u8; 32],
    pub(crate) exports: Vec<String>,
    pub(crate) imports: Vec<String>,
    /// Its subscriptions and the lane that handles them.
    pub(crate) handlers: Vec<Handler>,
    /// The contracts that it produces and handles.
    pub(crate) contracts: Vec<Use>,
    /// The requests that it answers, by topic, with the place of their contract.
    pub(crate) answers: Vec<(Topic, usize)>,
    /// Where its code runs.
    pub(crate) lane: Arc<Lane>,
    /// Its task, while it runs.
    pub(crate) task: Option<TaskHandle>,
    /// Where it answers HTTP, if it does.
    pub(crate) http: Option<Arc<HttpPool>>,
}

#[derive(Clone)]
pub(crate) struct Handler {
    pub(crate) sub: SubId,
    pub(crate) name: String,
    pub(crate) patterns: Vec<Pattern>,
    pub(crate) lane: Arc<Lane>,
}

/// A service, in whatever state.
pub(crate) struct Service {
    pub(crate) config: ServiceConfig,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) now: Mutex<Now>,
}

/// What changes of a service.
pub(crate) struct Now {
    pub(crate) state: ServiceState,
    pub(crate) reason: Option<String>,
    pub(crate) version: Option<Version>,
    /// What a task is run from; none when the component is no task.
    pub(crate) runnable: Option<Linked>,
}

impl Service {
    pub(crate) fn new(config: ServiceConfig, metrics: Arc<Metrics>) -> Self {
        let now = Now { state: ServiceState::Starting, reason: None, version: None, runnable: None };
        Self { config, metrics, now: Mutex::new(now) }
    }

    pub(crate) fn with<R>(&self, look: impl FnOnce(&mut Now) -> R) -> R {
        look(&mut self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn set_state(&self, state: ServiceState, reason: Option<String>) {
        self.with(|now| {
            now.state = state;
            now.reason = reason;
        });
    }

    /// Where the version that runs answers HTTP, if it does.
    pub(crate) fn http(&self) -> Option<Arc<HttpPool>> {
        self.with(|now| now.version.as_ref().and_then(|version| version.http.clone()))
    }

    pub(crate) fn is_task(&self) -> bool {
        self.with(|now| now.runnable.is_some())
    }

    /// What to run the task from; none once this version was replaced or removed.
    pub(crate) fn runnable(&self) -> Option<Linked> {
        self.with(|now| now.version.as_ref().and(now.runnable.clone()))
    }

    /// Notes the running task; false when this version was replaced or removed meanwhile.
    pub(crate) fn set_task(&self, task: Option<TaskHandle>) -> bool {
        self.with(|now| match &mut now.version {
            Some(version) => {
                version.task = task;
                true
            }
            None => false,
        })
    }

    pub(crate) fn handlers(&self) -> Vec<Handler> {
        self.with(|now| now.version.as_ref().map(|version| version.handlers.clone()).unwrap_or_default())
    }

    /// The handler of one of its subscriptions.
    pub(crate) fn handler_of(&self, sub: SubId) -> Option<Handler> {
        self.handlers().into_iter().find(|handler| handler.sub == sub)
    }
}

/// Every service, and the files that are none.
#[derive(Default)]
pub(crate) struct Catalog {
    services: RwLock<BTreeMap<ServiceName, Arc<Service>>>,
    /// By file and by the service that it was to be; none when its name cannot be one.
    refused: Mutex<BTreeMap<(PathBuf, Option<ServiceName>), RefusedFile>>,
}

impl Catalog {
    pub(crate) fn get(&self, name: &ServiceName) -> Option<Arc<Service>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Service>> {
        self.services.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    pub(crate) fn insert(&self, service: Arc<Service>) {
        let name = service.config.name.clone();
        self.services.write().unwrap_or_else(PoisonError::into_inner).insert(name, service);
    }

    /// Takes a service out, unless another one runs under its name by now.
    pub(crate) fn remove(&self, service: &Arc<Service>) -> bool {
        let mut services = self.services.write().unwrap_or_else(PoisonError::into_inner);
        let same = services.get(&service.config.name).is_some_and(|known| Arc::ptr_eq(known, service));
        if same {
            services.remove(&service.config.name);
        }
        same
    }

    fn refusals(&self) -> MutexGuard<'_, BTreeMap<(PathBuf, Option<ServiceName>), RefusedFile>> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a file does not run as a service, or (without a name) can be none at all.
    pub(crate) fn refuse(&self, path: PathBuf, service: Option<ServiceName>, reason: String, since: Timestamp) {
        let file = RefusedFile { path: path.display().to_string(), reason, since_ms: since };
        self.refusals().insert((path, service), file);
    }

    /// Whether a file is noted that can be no service.
    pub(crate) fn is_unfit(&self, path: &Path) -> bool {
        self.refusals().contains_key(&(path.to_owned(), None))
    }

    /// Forgets the files that could be no service, except those that are still there.
    pub(crate) fn forgive_unfit_except(&self, there: &BTreeSet<PathBuf>) {
        self.refusals().retain(|(path, service), _| service.is_some() || there.contains(path));
    }

    /// Forgets what was noted of a file that could be no service.
    pub(crate) fn forgive_unfit(&self, path: &Path) {
        self.refusals().remove(&(path.to_owned(), None));
    }

    pub(crate) fn forgive(&self, path: &Path, service: &ServiceName) {
        self.refusals().remove(&(path.to_owned(), Some(service.clone())));
    }

    pub(crate) fn refused(&self) -> Vec<RefusedFile> {
        self.refusals().values().cloned().collect()
    }

    /// Every contract that a running service produces or handles.
    pub(crate) fn contracts(&self) -> Vec<Use> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        let of = |service: &Arc<Service>| {
            service.with(|now| now.version.as_ref().map(|version| version.contracts.clone()).unwrap_or_default())
        };
        services.values().flat_map(of).collect()
    }

    /// What the gateway has behind it.
    pub(crate) fn served(&self) -> Served {
        let mut served = Served::default();
        for used in self.contracts() {
            if !served.contracts.iter().any(|known| **known == used.contract) {
                served.contracts.push(Arc::new(used.contract));
            }
        }
        served.answers = self.answerers().into_keys().collect();
        for service in self.all() {
            if service.with(|now| now.version.is_none()) {
                continue;
            }
            if service.http().is_some() {
                served.http.insert(service.config.name.clone());
            }
            served.services.insert(service.config.name.clone());
        }
        served
    }

    /// Who answers which request.
    pub(crate) fn answerers(&self) -> FxHashMap<Topic, Vec<Answerer>> {
        let mut answerers: FxHashMap<Topic, Vec<Answerer>> = FxHashMap::default();
        for service in self.all() {
            let known = service
                .with(|now| now.version.as_ref().map(|version| (version.answers.clone(), Arc::clone(&version.lane))));
            let Some((answers, lane)) = known else { continue };
            for (topic, contract) in answers {
                let (lane, metrics) = (Arc::clone(&lane), Arc::clone(&service.metrics));
                let answerer = Answerer { service: service.config.name.clone(), lane, contract, metrics };
                answerers.entry(topic).or_default().push(answerer);
            }
        }
        answerers
    }

    /// How many subscriptions select a topic.
    pub(crate) fn subscribers(&self, topic: &Topic) -> usize {
        let selects = |handler: &Handler| handler.patterns.iter().any(|pattern| pattern.matches(topic));
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        services.values().flat_map(|service| service.handlers()).filter(selects).count()
    }

    /// The pattern that somebody subscribes to and that looks most like `topic`, for a hint; none when nothing is close.
    pub(crate) fn nearest_pattern(&self, topic: &Topic) -> Option<String> {
        let services = self.services.read().unwrap_or_else(PoisonError::into_inner);
        let patterns = services.values().flat_map(|service| service.handlers()).flat_map(|handler| handler.patterns);
        patterns
            .take(MOST_COMPARED)
            .map(|pattern| (strsim::normalized_damerau_levenshtein(topic.as_str(), pattern.as_str()), pattern))
            .filter(|(likeness, _)| *likeness > 0.5)
            .max_by(|a, b| a.0.total_cmp(&b.0))
            .map(|(_, pattern)| pattern.to_string())
    }
}
