//! Turns raw USGS features into small, uniform events on `quakes.normalised`, keyed by seismic network. What is no
//! earthquake (explosions, quarry blasts) and what is no such feature is rejected and becomes a dead letter.

use busway_guest::{Event, Failure, Result, publish};
use serde::{Deserialize, Serialize};

/// The part of a feature that matters.
#[derive(Deserialize)]
struct Feature<'a> {
    id: &'a str,
    #[serde(borrow)]
    properties: Properties<'a>,
    geometry: Geometry,
}

#[derive(Deserialize)]
struct Properties<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    net: &'a str,
    /// The feed knows events without a magnitude yet.
    mag: Option<f64>,
    /// Borrowed only as long as nothing in it is escaped.
    place: Option<std::borrow::Cow<'a, str>>,
    time: i64,
}

#[derive(Deserialize)]
struct Geometry {
    /// Longitude, latitude, depth in kilometres.
    coordinates: (f64, f64, Option<f64>),
}

/// An earthquake, as the other services receive it.
#[derive(Serialize)]
struct Quake<'a> {
    id: &'a str,
    net: &'a str,
    mag: Option<f64>,
    place: Option<&'a str>,
    time: i64,
    lon: f64,
    lat: f64,
    depth: Option<f64>,
}

fn handle(event: Event) -> Result {
    let Feature { id, properties, geometry } = event.json()?;
    if properties.kind != "earthquake" {
        return Err(Failure::reject(format_args!("{id} is no earthquake but: {}", properties.kind)));
    }
    let (lon, lat, depth) = geometry.coordinates;
    let Properties { kind: _, net, mag, place, time } = properties;
    let quake = Quake { id, net, mag, place: place.as_deref(), time, lon, lat, depth };
    publish("quakes.normalised").key(net).json(&quake).send()?;
    Ok(())
}

busway_guest::service!(subscribe = ["quakes.raw"], handle);
