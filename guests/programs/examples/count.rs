//! Counts events in key-value with `increment`: under `total`, and under `key.KEY` for those with a key.

use busway_guest::kv;

busway_guest::service!(subscribe = ["public.count"], |event| {
    kv::increment("total", 1)?;
    if let Some(key) = event.key() {
        kv::increment(&format!("key.{key}"), 1)?;
    }
    Ok(())
});
