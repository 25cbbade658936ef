//! A component tied to a service: everything it imports is found.
//!
//! Role: the check at load, and the maker of instances. A missing import is an error here, never later.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use busway_contract::{Keys, Kind};
use busway_types::Topic;
use wasmtime::component::{Component, ComponentExportIndex, Func, InstancePre, Linker};
use wasmtime::{Engine, Store};
use wasmtime_wasi_http::p2::bindings::ProxyPre;

use crate::capability::Bus;
use crate::compiled::Compiled;
use crate::host::Host;
use crate::http::HttpPre;
use crate::inspect::{Capability, Inspection, Problem};
use crate::invoke::{Fault, drive, fault};
use crate::settings::{Instancing, ServiceSettings};
use crate::slots::Slots;
use crate::state::{GuestState, Service, on_epoch};
use crate::typed::{Handled, Warm, link};

/// Resource handles of one instance at most, of all kinds together.
const HANDLES: usize = 10_000;

/// Bytes that one host call may make the host hold, beyond what one delivery may publish: the fixed part of records.
const CALL_SLACK_BYTES: usize = 1024 * 1024;

/// What one value of a contract takes on the host, for example one byte of a list.
const VALUE_BYTES: usize = size_of::<wasmtime::component::Val>();

/// Why a component cannot be a service. Not worth retrying with the same component and settings.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// Something it imports or exports does not fit; every such thing is listed.
    #[error("{}", list(.problems))]
    Unfit {
        /// What does not fit.
        problems: Vec<Problem>,
    },
    /// The engine refuses it for a reason that the inspection did not foresee.
    #[error(
        "an interface of this host is used in another form than the host has it: {reason}; build the component with that \
         interface as it was published, and with current tools"
    )]
    Refused {
        /// What the engine said.
        reason: String,
    },
}

impl LinkError {
    /// Whether the same call may succeed later.
    pub fn is_retryable(&self) -> bool {
        false
    }
}

fn list(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// A component that is ready to run as a service. Cheap to clone.
#[derive(Clone)]
pub struct Linked(pub(crate) Arc<LinkedInner>);

pub(crate) struct LinkedInner {
    pub(crate) host: Host,
    pub(crate) service: Arc<Service>,
    compiled: Compiled,
    pre: InstancePre<GuestState>,
    /// Before an instance is made on the pool's engine.
    permits: Option<Arc<Slots>>,
    /// Whether host calls may wait for something outside.
    pub(crate) waits: bool,
    /// Whether it asks others, and waits for their answers in the middle of an event.
    pub(crate) asks: bool,
    pub(crate) handler: Option<Handler>,
    /// The contracts that it handles, in the order of [`Inspection::handled`].
    pub(crate) handled: Vec<Handled>,
    pub(crate) run: Option<ComponentExportIndex>,
    /// What answers HTTP.
    pub(crate) http: Option<HttpPre>,
}

/// Where the exports of `handler` are.
#[derive(Clone, Copy)]
pub(crate) struct Handler {
    pub(crate) subscriptions: ComponentExportIndex,
    handle: ComponentExportIndex,
}

/// One instance with its store.
pub(crate) struct Instance {
    pub(crate) store: Store<GuestState>,
    pub(crate) exports: wasmtime::component::Instance,
    /// `handler.handle`; none in tasks.
    pub(crate) handle: Option<Func>,
    /// What is kept from call to call for each contract that it handles.
    pub(crate) warm: Vec<Vec<Warm>>,
    /// Released after the store is gone: fields are dropped in order.
    _permit: Option<Permit>,
}

/// The right to one instance of the pool.
struct Permit(Arc<Slots>);

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.release();
    }
}

impl fmt::Debug for Linked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Linked").field("settings", &self.0.service.settings).finish_non_exhaustive()
    }
}

impl Compiled {
    /// Ties the component to a service: finds everything it imports.
    pub fn link(&self, host: &Host, settings: ServiceSettings, bus: Arc<dyn Bus>) -> Result<Linked, LinkError> {
        let inspection = self.inspection();
        if !inspection.problems.is_empty() {
            return Err(LinkError::Unfit { problems: inspection.problems.clone() });
        }
        // The bodies of HTTP wait, whatever is granted.
        let waits = settings.grants.can_wait() || inspection.needs(Capability::Http);
        let pooled = match settings.instances {
            Instancing::Reused => None,
            Instancing::PerEvent => self.0.pooled(&host.0),
        };
        let (set, component, permits) = match pooled {
            Some((pool, component)) => (&pool.set, component, Some(pool.permits.clone())),
            None => (&host.0.demand, self.0.component.clone(), None),
        };
        let refused = |error: wasmtime::Error| LinkError::Refused { reason: format!("{error:#}") };
        let linker = if waits { &set.linkers.waiting } else { &set.linkers.sync };
        let pre = find_imports(linker, &component, inspection, &settings.keys).map_err(refused)?;
        let http =
            inspection.http.is_some().then(|| self.http_pre(host, &settings.keys)).transpose().map_err(refused)?;
        let handled = inspection.handled().map(|contract| Handled::new(&component, contract)).collect::<Result<_, _>>();
        let handled = handled.map_err(|error| LinkError::Refused { reason: error.to_string() })?;
        let export = |interface: &Option<String>, function: &str| {
            let interface = component.get_export_index(None, interface.as_deref()?)?;
            component.get_export_index(Some(&interface), function)
        };
        let handler = export(&inspection.handler, "handle")
            .and_then(|handle| Some(Handler { handle, subscriptions: export(&inspection.handler, "subscriptions")? }));
        let run = export(&inspection.task, "run");
        let mut functions = inspection.produced().flat_map(|contract| &contract.functions);
        let asks = functions.any(|function| function.kind() == Kind::Request);
        let service = Service {
            settings,
            limits: host.0.config.limits.clone(),
            bus,
            clock: host.0.config.clock.clone(),
            slots: host.0.slots.clone(),
            asking: AtomicUsize::new(0),
        };
        let (host, compiled, service) = (host.clone(), self.clone(), Arc::new(service));
        let inner = LinkedInner { host, service, compiled, pre, permits, waits, asks, handler, handled, run, http };
        Ok(Linked(Arc::new(inner)))
    }

    fn http_pre(&self, host: &Host, keys: &Keys) -> wasmtime::Result<HttpPre> {
        let made = |linker: &Linker<GuestState>, component: &Component| {
            ProxyPre::new(find_imports(linker, component, self.inspection(), keys)?)
        };
        let pooled = self.0.pooled(&host.0).map(|(pool, component)| {
            let permits = [pool.http.clone(), pool.permits.clone()];
            made(&pool.set.linkers.waiting, &component).map(|pre| (pre, permits))
        });
        let demand = made(&host.0.demand.linkers.waiting, &self.0.component)?;
        Ok(HttpPre { demand, pooled: pooled.transpose()? })
    }
}

/// Finds everything that a component imports, the contracts that it produces among it.
fn find_imports(
    linker: &Linker<GuestState>,
    component: &Component,
    inspection: &Inspection,
    keys: &Keys,
) -> wasmtime::Result<InstancePre<GuestState>> {
    if inspection.produced().next().is_none() {
        return linker.instantiate_pre(component);
    }
    let mut linker = linker.clone();
    for contract in inspection.produced() {
        link(&mut linker, contract, keys)?;
    }
    linker.instantiate_pre(component)
}

impl Linked {
    /// What the component produces, handles and needs.
    pub fn inspection(&self) -> &Inspection {
        self.0.compiled.inspection()
    }

    /// The topics of the events of each contract that it handles, in the order of [`Inspection::handled`]; empty for a
    /// contract of nothing but requests.
    pub fn event_topics(&self) -> Vec<Vec<Topic>> {
        let sorted = |handled: &Handled| {
            let mut topics: Vec<_> = handled.event_topics().cloned().collect();
            topics.sort_unstable();
            topics
        };
        self.0.handled.iter().map(sorted).collect()
    }

    /// The topics of the requests of each contract that it handles, in the order of [`Inspection::handled`].
    pub fn request_topics(&self) -> Vec<Vec<Topic>> {
        self.0.handled.iter().map(|handled| handled.request_topics().cloned().collect()).collect()
    }

    /// What the service is set to.
    pub fn settings(&self) -> &ServiceSettings {
        &self.0.service.settings
    }
}

impl LinkedInner {
    /// Bytes that one call may make the host hold. Typed values are larger on the host than in the guest: an event of bytes
    /// alone takes [`VALUE_BYTES`] for each, but no more than the instance may hold itself.
    fn call_bytes(&self) -> usize {
        let Service { limits, settings, .. } = &*self.service;
        let raw = limits.outbox_bytes.max(limits.event_bytes).saturating_add(CALL_SLACK_BYTES);
        if self.compiled.inspection().contracts.is_empty() {
            return raw;
        }
        raw.max(limits.event_bytes.saturating_mul(VALUE_BYTES).min(settings.memory_bytes))
    }

    fn engine(&self) -> &Engine {
        self.pre.engine()
    }

    /// Makes a store with the limits of the service.
    pub(crate) fn store(&self, engine: &Engine, state: GuestState) -> Store<GuestState> {
        let mut store = Store::new(engine, state);
        store.limiter(|state| &mut state.limiter);
        store.epoch_deadline_callback(on_epoch);
        store.set_epoch_deadline(1);
        store.set_hostcall_fuel(self.call_bytes());
        store.set_max_component_handles(HANDLES);
        store
    }

    /// Makes an instance, for a task if there are arguments, within the timeout. Must be called on a lane thread.
    pub(crate) fn instantiate(&self, stop: &Arc<AtomicBool>, task: Option<Vec<String>>) -> Result<Instance, Fault> {
        let permit = match &self.permits {
            None => None,
            Some(permits) => {
                let stopped = || stop.load(std::sync::atomic::Ordering::Relaxed);
                if !permits.acquire(&stopped) {
                    return Err(Fault::Stopped);
                }
                Some(Permit(permits.clone()))
            }
        };
        let is_task = task.is_some();
        let state = GuestState::new(self.service.clone(), stop.clone(), task);
        let meter = state.meter.clone();
        let mut store = self.store(self.engine(), state);
        meter.begin(meter.now(), Some(self.service.settings.timeout));
        let made = if self.waits {
            drive(&meter, self.pre.instantiate_async(&mut store))
        } else {
            self.pre.instantiate(&mut store)
        };
        meter.end(meter.now());
        let instance = match made {
            Ok(instance) => instance,
            Err(error) => return Err(fault(&error, store.data_mut())),
        };
        let handle = match &self.handler {
            Some(handler) if !is_task => instance.get_func(&mut store, handler.handle),
            _ => None,
        };
        let warm = self.handled.iter().map(|_| Vec::new()).collect();
        Ok(Instance { store, exports: instance, handle, warm, _permit: permit })
    }
}
