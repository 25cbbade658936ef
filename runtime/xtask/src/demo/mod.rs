//! `cargo xtask demo`: a week of earthquakes through four services, one of them faulty, every number checked.
//!
//! Role: build, start a node, publish the feed, wait until nothing moves, compare. Succeeds only if every number is the
//! one that follows from the feed.

mod expect;
mod node;
mod report;
mod table;

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::value::RawValue;

use self::expect::Expected;
use self::node::Node;
use self::report::Report;
use crate::process::{self, Progress};
use crate::{guests, process::say};

const POLL: Duration = Duration::from_millis(150);
/// How long nothing may change while events still wait. Above every timeout, back-off and build of an instance here.
const PATIENCE: Duration = Duration::from_mins(1);

/// Runs the demo.
pub(crate) fn run() -> Result<()> {
    guests::build()?;
    say("building the runtime");
    let busway = process::build("busway", &[])?;
    let example = process::root().join("examples/quakes");
    let feed = example.join("usgs-quakes-week.geojson");
    let feed = std::fs::read_to_string(&feed).with_context(|| format!("cannot read {}", feed.display()))?;
    let expected = expect::from_feed(&feed)?;

    let folder = process::target().join("demo");
    let node = Node::start(&busway, &example.join("busway.toml"), &folder)?;
    refuse_unless_running(&node.status()?, &expected)?;
    say(&format!("publishing {} seismic events to `quakes.raw`", expected.features));
    node.publish("quakes.raw", &lines(&feed)?)?;
    let report = wait_until_quiet(&node, &expected)?;
    let counters = node.key_value("count")?.integers();
    let differences = table::differences(&expected, &report, &counters);
    process::print(&format!("\n{}\n", table::render(&report)));
    if !differences.is_empty() {
        bail!(
            "not what follows from the feed:\n  {}\n\nEnd of the node's log:\n{}",
            differences.join("\n  "),
            node.log_tail()
        );
    }
    let status = node.stop()?;
    if !status.success() {
        bail!("the numbers are right, but the node ended with {status}");
    }
    process::print(&conclusion(&expected));
    Ok(())
}

/// The features as `busway publish --lines` reads them, keyed by seismic network so that each network stays in order.
fn lines(feed: &str) -> Result<String> {
    #[derive(Deserialize)]
    struct Feed<'a> {
        #[serde(borrow)]
        features: Vec<&'a RawValue>,
    }
    #[derive(Deserialize)]
    struct Feature {
        properties: Properties,
    }
    #[derive(Deserialize)]
    struct Properties {
        net: String,
    }
    let feed: Feed<'_> = serde_json::from_str(feed)?;
    let mut lines = String::new();
    for raw in feed.features {
        let feature: Feature = serde_json::from_str(raw.get())?;
        let key = serde_json::to_string(&feature.properties.net)?;
        // A feature may span several lines of the file; a line of NDJSON may not.
        let data = raw.get().replace(['\n', '\r'], " ");
        // Writing to a String does not fail.
        let _ = writeln!(lines, "{{\"key\":{key},\"data\":{data}}}");
    }
    Ok(lines)
}

fn refuse_unless_running(report: &Report, expected: &Expected) -> Result<()> {
    for name in expected.services.keys() {
        match report.service(name) {
            Some(service) if service.state == "running" => {}
            Some(service) => {
                bail!(
                    "the service {name} is {}: {}",
                    service.state,
                    service.reason.as_deref().unwrap_or("no reason given")
                )
            }
            None => bail!("the node knows no service {name}"),
        }
    }
    Ok(())
}

/// Waits until nothing waits anywhere and the numbers stand still, with a line of progress.
fn wait_until_quiet(node: &Node, expected: &Expected) -> Result<Report> {
    let mut progress = Progress::new();
    let mut last: Option<Report> = None;
    let mut unchanged = 0;
    loop {
        let report = node.status()?;
        progress.draw(&progress_line(&report, expected));
        let counts = |report: &Report| report.services.iter().map(report::Service::counts).collect::<Vec<_>>();
        let same = last.as_ref().is_some_and(|last| last.bus == report.bus && counts(last) == counts(&report));
        unchanged = if same { unchanged + 1 } else { 0 };
        if report.is_quiet() && unchanged >= 2 {
            return Ok(report);
        }
        if POLL * unchanged > PATIENCE {
            let open: Vec<_> = report.services.iter().map(|s| format!("{}: {}", s.name, s.open())).collect();
            drop(progress);
            bail!(
                "nothing has moved for {} s, but events wait ({}). End of the node's log:\n{}",
                PATIENCE.as_secs(),
                open.join(", "),
                node.log_tail()
            );
        }
        last = Some(report);
        std::thread::sleep(POLL);
    }
}

fn progress_line(report: &Report, expected: &Expected) -> String {
    let part = |(name, counts): (&&str, &expect::Counts)| {
        let is = report.service(name).map(report::Service::counts).unwrap_or_default();
        format!("{name} {}/{}", is.acked + is.dead_lettered, counts.acked + counts.dead_lettered)
    };
    expected.services.iter().map(part).collect::<Vec<_>>().join("   ")
}

fn conclusion(expected: &Expected) -> String {
    let Expected { features, no_earthquakes, counters, .. } = expected;
    let networks = counters.len().saturating_sub(1);
    format!(
        "All as it follows from the feed: {features} events, {no_earthquakes} of them no earthquakes and rejected; the \
         counts of {networks} networks are exact,\nalthough `faulty` was killed again and again beside them.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_feature_becomes_one_line_with_its_network_as_key() {
        let feed = "{\"features\":[{\"id\":\"a\",\n \"properties\":{\"net\":\"ci\"}}]}";
        assert_eq!(
            lines(feed).expect("lines"),
            "{\"key\":\"ci\",\"data\":{\"id\":\"a\",  \"properties\":{\"net\":\"ci\"}}}\n"
        );
    }
}
