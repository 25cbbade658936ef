//! From a file to a service that could run.
//!
//! Role: everything about starting a service that needs no other part of the node to change: read, compile, link, ask for
//! its subscriptions, check what it may. Runs on a blocking thread; changes nothing.

use std::sync::{Arc, Mutex, PoisonError};

use busway_contract::Use;
use busway_host::{
    Binding, Bus, Compiled, FileGrant, Grants, Handles, Host, HttpPool, Inspection, Instancing, Linked, ServiceSettings,
};
use busway_types::{Entropy, Pattern, SplitMix, SubscriptionSpec};

use super::http;
use crate::bus::ServiceBus;
use crate::error::StartError;
use crate::inner::Inner;
use crate::manifest::{Instances, ServiceConfig};
use crate::metrics::Metrics;
use crate::spread::Errands;

/// A service that could run: compiled, linked and checked.
pub(crate) struct Prepared {
    pub(crate) config: ServiceConfig,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) hash: [u8; 32],
    pub(crate) linked: Linked,
    /// Its subscriptions; none when it handles nothing.
    pub(crate) subscriptions: Vec<Planned>,
    pub(crate) is_task: bool,
    /// Where it answers HTTP, if it does.
    pub(crate) http: Option<Arc<HttpPool>>,
    pub(crate) exports: Vec<String>,
    pub(crate) imports: Vec<String>,
}

impl Prepared {
    /// The settings of each of its subscriptions, with what handles it.
    pub(crate) fn specs(&self) -> Vec<(SubscriptionSpec, Binding)> {
        let config = &self.config;
        let spec = |planned: &Planned| {
            let spec = SubscriptionSpec {
                name: planned.name.clone(),
                service: config.name.clone(),
                patterns: planned.patterns.clone(),
                ordering: config.ordering,
                retry: config.retry.clone(),
                concurrency: config.concurrency,
                start: config.start,
                own_events: config.own_events,
                may_publish: self.linked.inspection().produces(),
            };
            (spec, Binding { subscription: planned.name.as_str().into(), handles: planned.handles })
        };
        self.subscriptions.iter().map(spec).collect()
    }

    /// The contracts that it produces and handles.
    pub(crate) fn contracts(&self) -> &[Use] {
        &self.linked.inspection().contracts
    }
}

/// Prepares services.
pub(crate) struct Preparer {
    inner: Arc<Inner>,
    runtime: tokio::runtime::Handle,
    seeds: Mutex<SplitMix>,
}

impl Preparer {
    pub(crate) fn new(inner: Arc<Inner>, runtime: tokio::runtime::Handle, seed: u64) -> Self {
        Self { inner, runtime, seeds: Mutex::new(SplitMix(seed)) }
    }

    /// Makes a service of a component's file.
    pub(crate) fn prepare(&self, config: ServiceConfig, metrics: Arc<Metrics>) -> Result<Prepared, StartError> {
        self.prepare_with(config, metrics, None)
    }

    /// The same for one that works for the node that owns the bus.
    pub(crate) fn prepare_to_help(&self, config: ServiceConfig) -> Result<Prepared, StartError> {
        let errands = Errands::new(&self.inner, &self.runtime);
        self.prepare_with(config, Arc::new(Metrics::new()), errands)
    }

    fn prepare_with(
        &self,
        config: ServiceConfig,
        metrics: Arc<Metrics>,
        errands: Option<Errands>,
    ) -> Result<Prepared, StartError> {
        let Examined { hash, compiled, linked, subscriptions, config } =
            examine(&self.inner.host, config, |config| self.bus(config, &metrics, errands))?;
        let inspection = compiled.inspection();
        let http = inspection.http.is_some().then(|| linked.http(http::settings(&config))).transpose()?;
        Ok(Prepared {
            http: http.map(Arc::new),
            hash,
            subscriptions,
            is_task: inspection.task.is_some(),
            exports: inspection.exports.clone(),
            imports: inspection.imports.iter().map(|need| need.interface.clone()).collect(),
            linked,
            config,
            metrics,
        })
    }

    fn bus(&self, config: &ServiceConfig, metrics: &Arc<Metrics>, errands: Option<Errands>) -> Arc<dyn Bus> {
        let seed = self.seeds.lock().unwrap_or_else(PoisonError::into_inner).next_u64();
        Arc::new(ServiceBus {
            config: config.clone(),
            publisher: Arc::clone(&self.inner.publisher),
            contracts: Arc::clone(&self.inner.contracts),
            requests: Arc::clone(&self.inner.requests),
            engine: Arc::clone(&self.inner.engine),
            clock: Arc::clone(&self.inner.clock),
            limits: self.inner.limits.clone(),
            entropy: Mutex::new(SplitMix(seed)),
            metrics: Arc::clone(metrics),
            errands,
            runtime: self.runtime.clone(),
        })
    }
}

/// A component that was found fit to be a service.
pub struct Examined {
    /// Hash of its bytes.
    pub hash: [u8; 32],
    /// Its code.
    pub compiled: Compiled,
    /// Tied to the service.
    pub linked: Linked,
    /// Its subscriptions; none when it handles nothing.
    pub subscriptions: Vec<Planned>,
    /// Its configuration, with what its contracts grant by themselves.
    pub config: ServiceConfig,
}

impl Examined {
    /// What it subscribes to, of all its subscriptions.
    pub fn patterns(&self) -> Vec<Pattern> {
        self.subscriptions.iter().flat_map(|planned| planned.patterns.clone()).collect()
    }
}

/// A subscription that a service is to have.
#[derive(Clone, Debug)]
pub struct Planned {
    /// Its name: that of the service for what `busway:bus/handler` handles, `SERVICE:NAMESPACE.PACKAGE.VERSION.INTERFACE`
    /// for a contract.
    pub name: String,
    /// What it selects.
    pub patterns: Vec<Pattern>,
    /// What handles it.
    pub handles: Handles,
}

/// Everything that decides whether a component may run as a service: reads, compiles and links it, asks it what it wants
/// to subscribe to, and checks that against its grants. Blocks; runs no handler.
pub fn examine(
    host: &Host,
    mut config: ServiceConfig,
    bus: impl FnOnce(&ServiceConfig) -> Arc<dyn Bus>,
) -> Result<Examined, StartError> {
    let bytes = busway_host::inspect::read(&config.component).map_err(busway_host::LoadError::from)?;
    let hash = busway_host::content_hash(&bytes);
    let compiled = host.compile(config.name.as_str(), &bytes)?;
    drop(bytes);
    config.keys.check(&compiled.inspection().contracts)?;
    grant_contracts(&mut config, compiled.inspection())?;
    let bus = bus(&config);
    let linked = compiled.link(host, settings(&config), bus)?;
    let mut subscriptions = Vec::new();
    let patterns = raw_patterns(&config, &linked, compiled.inspection())?;
    if !patterns.is_empty() {
        subscriptions.push(Planned { name: config.name.to_string(), patterns, handles: Handles::Raw });
    }
    for (place, (contract, topics)) in compiled.inspection().handled().zip(linked.event_topics()).enumerate() {
        if !topics.is_empty() {
            let name = format!("{}:{}", config.name, contract.id.topic_prefix());
            let patterns = topics.iter().map(Pattern::from).collect();
            subscriptions.push(Planned { name, patterns, handles: Handles::Contract(place) });
        }
    }
    Ok(Examined { hash, compiled, linked, subscriptions, config })
}

fn grant_contracts(config: &mut ServiceConfig, inspection: &Inspection) -> Result<(), StartError> {
    for contract in inspection.produced() {
        let topics = contract.functions.iter().filter_map(|function| contract.id.topic(&function.name).ok());
        config.grant_contract(&contract.id, &topics.collect::<Vec<_>>())?;
    }
    Ok(())
}

/// What the host has to know of a service's manifest.
fn settings(config: &ServiceConfig) -> ServiceSettings {
    let mut settings = ServiceSettings::new(config.name.clone());
    settings.memory_bytes = config.memory_bytes;
    settings.timeout = config.timeout;
    settings.config = config.config.clone();
    settings.keys = config.keys.clone();
    settings.instances = match config.instances {
        Instances::Reused => Instancing::Reused,
        Instances::PerEvent => Instancing::PerEvent,
    };
    settings.grants = Grants {
        publish: config.publish.clone(),
        env: config.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
        files: config.files.iter().map(file_grant).collect(),
        network: config.network.iter().map(ToString::to_string).collect(),
        key_value: config.key_value,
    };
    settings
}

fn file_grant(grant: &crate::manifest::FileGrant) -> FileGrant {
    FileGrant { host: grant.host.clone(), guest: grant.guest.clone(), write: grant.write }
}

/// What a raw handler subscribes to: the manifest's word, else its own.
fn raw_patterns(config: &ServiceConfig, linked: &Linked, inspection: &Inspection) -> Result<Vec<Pattern>, StartError> {
    if inspection.handler.is_none() {
        return Ok(Vec::new());
    }
    let wanted = if config.subscribe.is_some() {
        Vec::new()
    } else {
        let parse = |pattern: String| pattern.parse().map_err(|source| StartError::Subscription { pattern, source });
        linked.subscriptions()?.into_iter().map(parse).collect::<Result<Vec<Pattern>, _>>()?
    };
    let patterns = config.subscriptions(&wanted)?;
    if patterns.is_empty() {
        return Err(StartError::NoSubscription { service: config.name.clone() });
    }
    Ok(patterns)
}
