//! Events by the clock.

use std::fmt;

use busway_types::{Timestamp, Topic};
use croner::Cron;

/// Publish an event at the times a cron pattern selects.
#[derive(Clone, Debug)]
pub struct Schedule {
    cron: Cron,
    text: String,
    /// Where the event goes.
    pub emit: Topic,
}

impl Schedule {
    /// A schedule; the pattern has five fields (minute, hour, day of month, month, day of week), or six with seconds
    /// first, and is meant in UTC. Refused with the reason when it is no pattern or selects no time at all.
    pub fn new(pattern: &str, emit: Topic) -> Result<Self, String> {
        if pattern.len() > 200 {
            return Err("a cron pattern of more than 200 characters".to_owned());
        }
        let cron: Cron = pattern.parse().map_err(|e: croner::errors::CronError| e.to_string())?;
        let schedule = Self { cron, text: pattern.trim().to_owned(), emit };
        match schedule.next(Timestamp(0)) {
            Some(_) => Ok(schedule),
            None => Err("it selects no time at all".to_owned()),
        }
    }

    /// The pattern.
    pub fn pattern(&self) -> &str {
        &self.text
    }

    /// The first selected time after `after`; none when there is none that a calendar can hold.
    pub fn next(&self, after: Timestamp) -> Option<Timestamp> {
        let after = chrono::DateTime::from_timestamp_millis(i64::try_from(after.0).ok()?)?;
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        u64::try_from(next.timestamp_millis()).ok().map(Timestamp)
    }
}

impl PartialEq for Schedule {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text && self.emit == other.emit
    }
}

impl Eq for Schedule {}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}", self.text, self.emit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(pattern: &str) -> Result<Schedule, String> {
        Schedule::new(pattern, "public.tick".parse().expect("a topic"))
    }

    #[test]
    fn the_next_time_is_after_the_given_one_and_in_utc() {
        let noon = schedule("0 12 * * *").expect("a schedule");
        let first = noon.next(Timestamp(0)).expect("a time");
        assert_eq!(first, Timestamp(12 * 3_600_000));
        assert_eq!(noon.next(first), Some(Timestamp(36 * 3_600_000)));
    }

    #[test]
    fn what_never_happens_is_refused() {
        assert!(schedule("0 0 31 2 *").is_err());
        assert!(schedule("every day").is_err());
        assert!(schedule("").is_err());
        assert!(schedule(&"1,".repeat(500)).is_err());
    }
}
