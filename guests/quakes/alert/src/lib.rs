//! Raises alerts by magnitude, keyed by seismic network: `quakes.alerts.moderate` from 4.5, `quakes.alerts.severe` from 6.
//! An earthquake whose magnitude is not known yet raises none.

use busway_guest::{Event, Result, publish};
use serde::{Deserialize, Serialize};

const MODERATE: f64 = 4.5;
const SEVERE: f64 = 6.0;

#[derive(Deserialize, Serialize)]
struct Quake {
    id: String,
    net: String,
    mag: Option<f64>,
    place: Option<String>,
    time: i64,
}

fn level(magnitude: Option<f64>) -> Option<&'static str> {
    match magnitude? {
        magnitude if magnitude >= SEVERE => Some("severe"),
        magnitude if magnitude >= MODERATE => Some("moderate"),
        _ => None,
    }
}

fn handle(event: Event) -> Result {
    let quake: Quake = event.json()?;
    if let Some(level) = level(quake.mag) {
        publish(format!("quakes.alerts.{level}")).key(&quake.net).json(&quake).send()?;
    }
    Ok(())
}

busway_guest::service!(subscribe = ["quakes.normalised"], handle);
