//! What must follow from the seismic feed.
//!
//! Role: a pure function from the feed's text to the numbers that the demo has to end with. Written independently of the
//! services, from what the example's README promises, so that it checks them.

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

/// Attempts that the manifest gives the faulty service.
const FAULTY_ATTEMPTS: u64 = 2;

/// What one service has to end with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Events it acknowledged.
    pub(crate) acked: u64,
    /// Events it published.
    pub(crate) published: u64,
    /// Attempts after the first.
    pub(crate) retried: u64,
    /// Events it gave up on.
    pub(crate) dead_lettered: u64,
    /// Attempts that trapped.
    pub(crate) trapped: u64,
    /// Attempts that took too long.
    pub(crate) timed_out: u64,
}

/// What the whole has to end with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expected {
    /// Features of the feed.
    pub(crate) features: u64,
    /// Features that are no earthquakes.
    pub(crate) no_earthquakes: u64,
    /// Events on the bus in the end, of whatever topic.
    pub(crate) events: u64,
    /// By name of the service.
    pub(crate) services: BTreeMap<&'static str, Counts>,
    /// The key-value of `count`.
    pub(crate) counters: BTreeMap<String, i64>,
}

#[derive(Deserialize)]
struct Feed {
    features: Vec<Feature>,
}

#[derive(Deserialize)]
struct Feature {
    properties: Properties,
    geometry: Geometry,
}

#[derive(Deserialize)]
struct Properties {
    #[serde(rename = "type")]
    kind: String,
    net: String,
    mag: Option<f64>,
}

#[derive(Deserialize)]
struct Geometry {
    coordinates: (f64, f64, Option<f64>),
}

impl Feature {
    fn is_earthquake(&self) -> bool {
        self.properties.kind == "earthquake"
    }

    fn magnitude_is_at_least(&self, least: f64) -> bool {
        self.properties.mag.is_some_and(|magnitude| magnitude >= least)
    }

    /// More than a kilometre above sea level.
    fn makes_faulty_trap(&self) -> bool {
        self.geometry.coordinates.2.is_some_and(|depth| depth < -1.0)
    }

    fn makes_faulty_spin(&self) -> bool {
        self.magnitude_is_at_least(6.1)
    }
}

/// Derives the numbers from the text of the feed.
pub(crate) fn from_feed(geojson: &str) -> Result<Expected> {
    let feed: Feed = serde_json::from_str(geojson).context("the feed is not the GeoJSON that the demo knows")?;
    let count = |which: &dyn Fn(&Feature) -> bool| feed.features.iter().filter(|feature| which(feature)).count() as u64;
    let features = feed.features.len() as u64;
    let quakes = count(&Feature::is_earthquake);
    let alerts = count(&|feature| feature.is_earthquake() && feature.magnitude_is_at_least(4.5));
    let traps = count(&|feature| feature.is_earthquake() && feature.makes_faulty_trap());
    let spins = count(&|feature| feature.is_earthquake() && feature.makes_faulty_spin());
    if count(&|feature| feature.is_earthquake() && feature.makes_faulty_trap() && feature.makes_faulty_spin()) > 0 {
        bail!("an event of the feed makes the faulty service both trap and spin; which comes first is not defined");
    }
    let failing = traps + spins;
    let normalise = Counts { acked: quakes, published: quakes, dead_lettered: features - quakes, ..Counts::default() };
    let faulty = Counts {
        acked: quakes - failing,
        retried: failing * (FAULTY_ATTEMPTS - 1),
        dead_lettered: failing,
        trapped: traps * FAULTY_ATTEMPTS,
        timed_out: spins * FAULTY_ATTEMPTS,
        ..Counts::default()
    };
    let mut counters = BTreeMap::from([("total".to_owned(), i64::try_from(quakes)?)]);
    for feature in feed.features.iter().filter(|feature| feature.is_earthquake()) {
        *counters.entry(format!("count.{}", feature.properties.net)).or_default() += 1;
    }
    Ok(Expected {
        features,
        no_earthquakes: features - quakes,
        events: features + quakes + alerts,
        services: BTreeMap::from([
            ("normalise", normalise),
            ("alert", Counts { acked: quakes, published: alerts, ..Counts::default() }),
            ("count", Counts { acked: quakes, ..Counts::default() }),
            ("faulty", faulty),
        ]),
        counters,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FEED: &str = include_str!("../../../../examples/quakes/usgs-quakes-week.geojson");
    const MANIFEST: &str = include_str!("../../../../examples/quakes/busway.toml");

    fn feature(kind: &str, net: &str, mag: &str, depth: &str) -> String {
        format!(
            r#"{{"properties":{{"type":"{kind}","net":"{net}","mag":{mag}}},"geometry":{{"coordinates":[1,2,{depth}]}}}}"#
        )
    }

    fn feed(features: &[String]) -> Result<Expected> {
        from_feed(&format!(r#"{{"features":[{}]}}"#, features.join(",")))
    }

    #[test]
    fn each_kind_of_feature_ends_where_it_should() {
        let expected = feed(&[
            feature("explosion", "ci", "7.0", "1"),
            feature("earthquake", "ci", "null", "null"),
            feature("earthquake", "ci", "4.5", "-1.5"),
            feature("earthquake", "us", "6.1", "-1"),
        ])
        .expect("a feed");
        assert_eq!((expected.features, expected.no_earthquakes, expected.events), (4, 1, 4 + 3 + 2));
        let faulty = expected.services["faulty"];
        assert_eq!((faulty.acked, faulty.retried, faulty.dead_lettered), (1, 2, 2));
        assert_eq!((faulty.trapped, faulty.timed_out), (2, 2));
        assert_eq!(expected.services["alert"].published, 2);
        let counters = [("count.ci", 2), ("count.us", 1), ("total", 3)].map(|(name, n)| (name.to_owned(), n));
        assert_eq!(expected.counters, BTreeMap::from(counters));
    }

    #[test]
    fn an_event_that_would_trap_and_spin_is_refused() {
        assert!(feed(&[feature("earthquake", "us", "7", "-2")]).is_err());
    }

    #[test]
    fn the_real_feed_has_the_features_that_its_readme_tells() {
        let expected = from_feed(FEED).expect("the feed");
        assert_eq!((expected.features, expected.no_earthquakes), (1_707, 28));
        assert_eq!(expected.counters["total"], 1_679);
        assert_eq!(expected.counters.len(), 1 + 12);
        assert_eq!(expected.services["alert"].published, 85);
        let faulty = expected.services["faulty"];
        assert_eq!((faulty.dead_lettered, faulty.trapped, faulty.timed_out), (15, 24, 6));
    }

    #[test]
    fn the_manifest_gives_the_attempts_that_are_expected() {
        assert!(MANIFEST.contains(&format!("attempts = {FAULTY_ATTEMPTS},")));
        for service in from_feed(FEED).expect("the feed").services.keys() {
            assert!(MANIFEST.contains(&format!("[services.{service}]")), "{service}");
        }
    }
}
