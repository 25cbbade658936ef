//! Panics on data that begins with `trap`, after it has published and written: neither may be seen. Republishes other
//! data to `public.trap.out`. Static memory counts the events of this instance, to show that none outlives a trap.

use std::sync::atomic::{AtomicU32, Ordering};

use busway_guest::{Event, Result, kv, publish};

static HANDLED: AtomicU32 = AtomicU32::new(0);

fn handle(event: Event) -> Result {
    let handled = HANDLED.fetch_add(1, Ordering::Relaxed) + 1;
    kv::increment("handled", 1)?;
    publish("public.trap.out").header("handled-by-instance", handled.to_string()).data(event.data()).send()?;
    assert!(!event.data().starts_with(b"trap"), "told to trap by event {}", event.id());
    Ok(())
}

busway_guest::service!(subscribe = ["public.trap"], handle);
