//! Tells in the node's log which services give events up.
//!
//! Role: one line per service and second at most, with the number and the last reason: a service that rejects everything
//! would flood the log otherwise. Costs nothing as long as nothing becomes a dead letter.

use std::time::Duration;

use busway_types::{ServiceName, Timestamp};
use rustc_hash::FxHashMap;

use crate::metrics::Died;

/// How often one service is told about.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Longer reasons are cut; `busway dead show` has all of them.
const REASON_BYTES: usize = 300;

/// What was not told yet.
#[derive(Debug, Default)]
struct Untold {
    count: u64,
    last: String,
    told: Timestamp,
}

/// Dead letters of all services.
#[derive(Debug, Default)]
pub(crate) struct DeadLog {
    services: FxHashMap<ServiceName, Untold>,
}

impl DeadLog {
    pub(crate) fn note(&mut self, service: &ServiceName, died: &Died<'_>) {
        let untold = self.services.entry(service.clone()).or_default();
        untold.count += died.count;
        died.reason.clone_into(&mut untold.last);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// The lines that are due, or all when nothing follows; a service of which nothing new is to be told is forgotten.
    pub(crate) fn due(&mut self, now: Timestamp, all: bool) -> Vec<String> {
        let mut lines = Vec::new();
        self.services.retain(|service, untold| {
            if !all && now.since(untold.told) < TELL_EVERY {
                return true;
            }
            if untold.count == 0 {
                return false;
            }
            lines.push(line(service, untold));
            *untold = Untold { told: now, ..Untold::default() };
            true
        });
        lines
    }
}

fn line(service: &ServiceName, untold: &Untold) -> String {
    let Untold { count, last, .. } = untold;
    let end = last.floor_char_boundary(REASON_BYTES);
    let (last, more) = (&last[..end], if end < last.len() { "..." } else { "" });
    let what = if *count == 1 { "event of `{}` became a dead letter" } else { "events of `{}` became dead letters" };
    format!("{count} {}; last: {last}{more}", what.replace("{}", service.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_a_second_and_service_says_how_many_and_why() {
        let mut log = DeadLog::default();
        let (a, b): (ServiceName, ServiceName) = ("a".parse().expect("a name"), "b".parse().expect("a name"));
        let at = |ms: u64| Timestamp(1_000_000 + ms);
        log.note(&a, &Died { count: 1, reason: "bad" });
        assert_eq!(log.due(at(0), false), ["1 event of `a` became a dead letter; last: bad"]);
        for round in 0..10 {
            log.note(&a, &Died { count: 10, reason: "worse" });
            assert_eq!(log.due(at(round), false), Vec::<String>::new());
        }
        log.note(&b, &Died { count: 2, reason: "other" });
        assert_eq!(log.due(at(20), false), ["2 events of `b` became dead letters; last: other"]);
        assert_eq!(log.due(at(1_000), false), ["100 events of `a` became dead letters; last: worse"]);
        assert_eq!(log.due(at(2_500), false), Vec::<String>::new());
        assert!(log.is_empty(), "nothing is kept of the quiet");
        log.note(&a, &Died { count: 1, reason: &"\u{e9}".repeat(400) });
        let last = log.due(at(2_501), true).remove(0);
        assert!(last.ends_with("\u{e9}...") && last.len() < 400, "{last}");
    }
}
