//! What the host keeps for one instance.
//!
//! Role: the data of a wasmtime store: limits, captured output, WASI, the deadline of the call in progress and the
//! delivery in hand. The modules below implement what guests import on top of it.
//!
//! Invariant: between two deliveries nothing of the previous one is left here except the chunk's key-value overlay and
//! the results that were not reported yet.

mod deadline;
mod delivery;
mod http;
mod imports;
mod kv;
mod kv_imports;
mod limiter;
mod output;
mod wasi;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};

use busway_types::{Clock, Limits, ServiceName};
use wasmtime::component::ResourceTable;
use wasmtime_wasi::{WasiCtx, WasiCtxView, WasiView};

use crate::capability::Bus;
use crate::settings::ServiceSettings;
use crate::slots::Slots;
use crate::typed::Next;

pub(crate) use deadline::{Ended, Meter, on_epoch};
pub(crate) use delivery::ChunkContext;
pub(crate) use http::Trace;
pub(crate) use limiter::{MemoryLimiter, mib};
pub(crate) use wasi::Linkers;

use delivery::Delivering;
use http::Http;
use output::Output;

/// What all instances of one service share.
pub(crate) struct Service {
    pub(crate) settings: ServiceSettings,
    pub(crate) limits: Limits,
    pub(crate) bus: Arc<dyn Bus>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) slots: Arc<Slots>,
    /// How many of its instances wait for an answer now.
    pub(crate) asking: AtomicUsize,
}

/// What the guest is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Being made, or asked for its subscriptions: nothing may be published or written.
    Idle,
    /// Running as a task: publishing and writing take effect at once.
    Task,
    /// Answering an HTTP request, on a thread that it shares with others: publishing and writing take effect at once.
    Http,
    /// Handling an event: publishing and writing are noted and take effect with the acknowledgement.
    Delivery,
}

/// The data of one store.
pub(crate) struct GuestState {
    pub(crate) service: Arc<Service>,
    pub(crate) limiter: MemoryLimiter,
    pub(crate) output: Arc<Output>,
    pub(crate) meter: Arc<Meter>,
    pub(crate) mode: Mode,
    /// The delivery in hand; kept from one to the next, so that a quiet one allocates nothing.
    delivery: Delivering,
    /// What the guest said about the next typed event that it publishes.
    pub(crate) next: Option<Next>,
    /// The services that wait for what this instance does now, the first one first; empty when it handles an event.
    pub(crate) chain: Arc<[ServiceName]>,
    /// The chunk in progress; none outside of lanes.
    pub(crate) chunk: Option<ChunkContext>,
    /// The arguments of a task, the program's name first.
    args: Vec<String>,
    pub(crate) table: ResourceTable,
    wasi: Option<WasiCtx>,
    /// For what is asked of others over HTTP, and the request in hand.
    http: Http,
}

/// Entries of WASI's resource table at most: streams, pollables, descriptors and sockets of one instance.
const RESOURCES: usize = 1_024;

impl GuestState {
    /// A state for a new instance, of a task if there are arguments; `stop` ends its calls from outside.
    pub(crate) fn new(service: Arc<Service>, stop: Arc<AtomicBool>, task: Option<Vec<String>>) -> Self {
        let seconds = task.is_some().then(|| service.clock.clone());
        let mut table = ResourceTable::new();
        table.set_max_capacity(RESOURCES);
        Self {
            limiter: MemoryLimiter::new(service.settings.memory_bytes),
            output: Arc::new(Output::new(service.bus.clone(), service.settings.name.clone(), seconds)),
            meter: Arc::new(Meter::new(service.clock.clone(), service.slots.clone(), stop)),
            mode: Mode::Idle,
            delivery: Delivering::default(),
            next: None,
            chain: Arc::default(),
            chunk: None,
            args: task.unwrap_or_default(),
            table,
            wasi: None,
            http: Http::new(&service),
            service,
        }
    }
}

impl GuestState {
    /// Runs something on the bus that may wait for a bounded time. Threads that answer HTTP go to others meanwhile.
    pub(crate) fn wait<T>(&self, wait: impl FnOnce(&Service) -> T) -> T {
        if self.mode == Mode::Http {
            return self.meter.wait(|| tokio::task::block_in_place(|| wait(&self.service)));
        }
        self.meter.give_slot_back();
        wait(&self.service)
    }
}

impl WasiView for GuestState {
    fn ctx(&mut self) -> WasiCtxView<'_> {
        let Self { service, output, args, table, wasi, .. } = self;
        // Made on first use: most handlers never ask, and an instance per event should not pay for it.
        let ctx = wasi.get_or_insert_with(|| wasi::context(service, output, args));
        WasiCtxView { ctx, table }
    }
}
