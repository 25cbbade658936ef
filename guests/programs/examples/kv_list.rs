//! Numbers events by listing: each takes the number of keys under `item.` for its own key there, and counts in `last` with
//! compare-and-set. Deliveries at the same time find the same number, so the numbers are dense only if the bus sees each
//! conflict. `config.hold-ms` keeps it between listing and writing.

use std::time::Duration;

use busway_guest::{OrReject, config, kv};

busway_guest::service!(subscribe = ["public.kv-list"], |event| {
    let mut number = 0;
    for key in kv::keys("item.") {
        key?;
        number += 1;
    }
    if let Some(hold) = config("hold-ms") {
        std::thread::sleep(Duration::from_millis(hold.parse().or_reject()?));
    }
    kv::set(&format!("item.{number:04}"), event.data())?;
    kv::set("other", b"never listed")?;
    let before = kv::get_versioned("last")?;
    kv::set_if("last", number.to_string().as_bytes(), before.map(|last| last.version))?;
    Ok(())
});
