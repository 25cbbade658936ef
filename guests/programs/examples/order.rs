//! Notes the order in which it sees the events of each key: under `seen.KEY` in key-value, data joined by commas, and
//! publishes each to `public.order.out` with its key.

use busway_guest::{kv, publish};

busway_guest::service!(subscribe = ["public.order"], |event| {
    let key = event.key().unwrap_or("none");
    let name = format!("seen.{key}");
    let mut seen = kv::get(&name)?.unwrap_or_default();
    if !seen.is_empty() {
        seen.push(b',');
    }
    seen.extend_from_slice(event.data());
    kv::set(&name, &seen)?;
    publish("public.order.out").key(key).data(event.data()).send()?;
    Ok(())
});
