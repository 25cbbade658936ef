//! A service with two bugs, to show that nobody else notices. It looks up the layer of the crust in which an earthquake
//! happened, and panics on those more than a kilometre *above* sea level, in mountains. And it estimates the length of a
//! rupture with an iteration that does not end from magnitude 6.1 on.

use busway_guest::log;
use serde::Deserialize;

#[derive(Deserialize)]
struct Quake {
    mag: Option<f64>,
    depth: Option<f64>,
}

/// Names of layers and where they end, in kilometres below sea level.
const LAYERS: [(f64, &str); 3] = [(20.0, "upper crust"), (50.0, "lower crust"), (f64::INFINITY, "mantle")];

fn layer(depth: f64) -> &'static str {
    assert!(depth >= -1.0, "no layer {} km above sea level", -depth);
    LAYERS.iter().find(|(end, _)| depth < *end).map_or("unknown", |(_, name)| name)
}

/// Narrows the estimate until it is near enough; what "near enough" means for a large magnitude was never thought about.
fn rupture_km(magnitude: f64) -> f64 {
    let tolerance = 6.1 - magnitude;
    let mut error = 64.0;
    while error >= tolerance {
        error = std::hint::black_box(error / 2.0);
    }
    magnitude + error
}

busway_guest::service!(subscribe = ["quakes.normalised"], |event| {
    let quake: Quake = event.json()?;
    let layer = quake.depth.map_or("unknown", layer);
    let rupture = quake.mag.map_or(0.0, rupture_km);
    log::debug!(layer = layer, rupture = rupture; "analysed {}", event.id());
    Ok(())
});
