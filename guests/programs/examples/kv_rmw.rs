//! Counts events by reading `counter` and writing it back, so that deliveries at the same time conflict and have to run
//! again: the sum is exact only if the bus sees each conflict. `config.hold-ms` keeps it between read and write.

use std::time::Duration;

use busway_guest::{OrReject, config, kv};

busway_guest::service!(subscribe = ["public.kv-rmw"], |_event| {
    let before: u64 = match kv::get("counter")? {
        Some(value) => String::from_utf8(value).or_reject()?.parse().or_reject()?,
        None => 0,
    };
    if let Some(hold) = config("hold-ms") {
        std::thread::sleep(Duration::from_millis(hold.parse().or_reject()?));
    }
    kv::set("counter", (before + 1).to_string().as_bytes())?;
    Ok(())
});
