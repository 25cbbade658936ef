//! Counts earthquakes in key-value: `total`, and `count.NETWORK` for each seismic network. Because a count becomes visible
//! only together with the acknowledgement, it is exact however often a delivery is repeated.

use busway_guest::{Failure, kv};

busway_guest::service!(subscribe = ["quakes.normalised"], |event| {
    let network = event.key().ok_or_else(|| Failure::reject("an earthquake is keyed by its network"))?;
    kv::increment(&format!("count.{network}"), 1)?;
    kv::increment("total", 1)?;
    Ok(())
});
