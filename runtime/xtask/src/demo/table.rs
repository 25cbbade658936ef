//! The demo's table, and what in it is not as it must be.

use std::fmt::Write;

use super::expect::{Counts, Expected};
use super::report::{Report, Service};

/// The order of the rows: the order in which events pass the services.
const ROWS: [&str; 4] = ["normalise", "alert", "count", "faulty"];

/// One line per service.
pub(super) fn render(report: &Report) -> String {
    let mut text = format!(
        "{:<10} {:>8} {:>9} {:>8} {:>13} {:>8} {:>9} {:>9} {:>9} {:>9}\n",
        "service", "handled", "published", "retried", "dead-lettered", "trapped", "timed out", "p50", "p99", "memory"
    );
    for service in ROWS.iter().filter_map(|name| report.service(name)) {
        let Counts { acked, published, retried, dead_lettered, trapped, timed_out } = service.counts();
        let (p50, p99, memory) = (time(service.p50_us), time(service.p99_us), memory(service.memory_bytes));
        let name = &service.name;
        // Writing to a String does not fail.
        let _ = writeln!(
            text,
            "{name:<10} {acked:>8} {published:>9} {retried:>8} {dead_lettered:>13} {trapped:>8} {timed_out:>9} {p50:>9} \
             {p99:>9} {memory:>9}",
        );
    }
    text
}

fn time(us: Option<f64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) if us < 1_000.0 => format!("{us:.0} us"),
        Some(us) => format!("{:.1} ms", us / 1_000.0),
    }
}

fn memory(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Everything that differs from what must be, one line each; nothing when all is right.
pub(super) fn differences(
    expected: &Expected,
    report: &Report,
    counters: &std::collections::BTreeMap<String, i64>,
) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, expected: u64, is: u64| {
        if expected != is {
            found.push(format!("{what}: {is}, but {expected} follow from the feed"));
        }
    };
    compare("events on the bus", expected.events, report.bus.head);
    for (name, counts) in &expected.services {
        let is = report.service(name).map(Service::counts).unwrap_or_default();
        let Counts { acked, published, retried, dead_lettered, trapped, timed_out } = *counts;
        compare(&format!("{name}: handled"), acked, is.acked);
        compare(&format!("{name}: published"), published, is.published);
        compare(&format!("{name}: retried"), retried, is.retried);
        compare(&format!("{name}: dead-lettered"), dead_lettered, is.dead_lettered);
        compare(&format!("{name}: trapped"), trapped, is.trapped);
        compare(&format!("{name}: timed out"), timed_out, is.timed_out);
    }
    for (key, value) in &expected.counters {
        if counters.get(key) != Some(value) {
            let is = counters.get(key).map_or("missing".to_owned(), i64::to_string);
            found.push(format!("key-value of count, {key}: {is}, but {value} follows from the feed"));
        }
    }
    let surplus = counters.keys().filter(|key| !expected.counters.contains_key(*key));
    found.extend(surplus.map(|key| format!("key-value of count, {key}: does not follow from the feed")));
    found
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn report(acked: u64) -> Report {
        let text = format!(
            r#"{{"bus":{{"head":3}},"services":[{{"name":"count","state":"running","acked":{acked},"published":0,
            "retried":0,"dead_lettered":0,"trapped":0,"timed_out":0,"p50_us":12.3,"memory_bytes":1572864,
            "subscriptions":[]}}]}}"#
        );
        serde_json::from_str(&text).expect("a report")
    }

    fn expected() -> Expected {
        Expected {
            events: 3,
            services: BTreeMap::from([("count", Counts { acked: 3, ..Counts::default() })]),
            counters: BTreeMap::from([("total".to_owned(), 3)]),
            ..Expected::default()
        }
    }

    #[test]
    fn equal_numbers_are_no_difference_and_every_other_is_told() {
        let right = BTreeMap::from([("total".to_owned(), 3)]);
        assert_eq!(differences(&expected(), &report(3), &right), Vec::<String>::new());
        assert_eq!(
            differences(&expected(), &report(2), &BTreeMap::from([("more".to_owned(), 1)])),
            [
                "count: handled: 2, but 3 follow from the feed",
                "key-value of count, total: missing, but 3 follows from the feed",
                "key-value of count, more: does not follow from the feed",
            ]
        );
    }

    #[test]
    fn a_service_that_is_missing_is_a_difference() {
        let mut none = report(3);
        none.services.clear();
        assert!(!differences(&expected(), &none, &BTreeMap::new()).is_empty());
    }

    #[test]
    fn the_table_has_a_row_with_units_per_service() {
        let text = render(&report(3));
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("12 us") && text.contains("1.5 MiB"), "{text}");
    }
}
