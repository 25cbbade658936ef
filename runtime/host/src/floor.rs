//! The floor: what a bare call of a handler costs.
//!
//! Role: the measure beside which `busway bench` sets its figures. The same engine, the same borrowed types and the same
//! store as a lane's, but nothing else: no chunk, no report, no bus.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use busway_types::{Event, Outcome, ServiceName};

use crate::bindings::{EventRef, header_refs};
use crate::capability::NoBus;
use crate::compiled::Compiled;
use crate::host::Host;
use crate::invoke::{call_raw, raw};
use crate::linked::{Linked, LinkedInner};
use crate::settings::{Instancing, ServiceSettings};
use crate::task::GuestError;

/// Longer than any bench; a handler that loops for ever still ends.
const TIMEOUT: Duration = Duration::from_mins(10);

impl Host {
    /// Measures `iterations` calls of a component's handler with one event, in one instance or each in a new one. Blocks.
    pub fn floor(
        &self,
        compiled: &Compiled,
        event: Arc<Event>,
        iterations: u64,
        per_event: bool,
    ) -> Result<Duration, GuestError> {
        let name: ServiceName = "floor".parse().map_err(|_| GuestError::NotExported("a name"))?;
        let instances = if per_event { Instancing::PerEvent } else { Instancing::Reused };
        let settings = ServiceSettings { timeout: TIMEOUT, instances, ..ServiceSettings::new(name) };
        let linked = compiled.link(self, settings, Arc::new(NoBus));
        let Linked(linked) = linked.map_err(|error| GuestError::Failed(error.to_string()))?;
        if linked.handler.is_none() {
            return Err(GuestError::NotExported("busway:bus/handler"));
        }
        linked.clone().on_thread(move || {
            let clock = linked.service.clock.clone();
            let _running = linked.host.0.ticker.run();
            let began = clock.monotonic_ns();
            if per_event {
                for _ in 0..iterations {
                    calls(&linked, &event, 1)?;
                }
            } else {
                calls(&linked, &event, iterations)?;
            }
            Ok(Duration::from_nanos(clock.monotonic_ns().saturating_sub(began)))
        })
    }
}

/// A new instance, and calls of it in a row.
fn calls(linked: &LinkedInner, event: &Event, count: u64) -> Result<(), GuestError> {
    let stop = Arc::new(AtomicBool::new(false));
    let mut instance = linked.instantiate(&stop, None).map_err(|why| GuestError::Failed(why.reason()))?;
    let failed = |error: wasmtime::Error| GuestError::Failed(format!("{error:#}"));
    let handle = instance.handle.ok_or(GuestError::NotExported("busway:bus/handler.handle"))?;
    let typed = raw(handle, &mut instance.store).map_err(failed)?;
    let mut text = [0; 36];
    let id = event.id.encode(&mut text);
    let headers = header_refs(event);
    let call = EventRef::new(event, id, event.topic.as_str(), &headers);
    let meter = instance.store.data().meter.clone();
    meter.begin(meter.now(), Some(TIMEOUT));
    instance.store.set_epoch_deadline(1);
    for _ in 0..count {
        let outcome = call_raw(&typed, &mut instance.store, false, call).map_err(failed)?;
        if outcome != Outcome::Acked {
            return Err(GuestError::Failed(format!("the handler did not take the event: {outcome:?}")));
        }
    }
    Ok(())
}
