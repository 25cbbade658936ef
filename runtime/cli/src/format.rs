//! Figures and times for people.

use std::time::Duration;

use busway_types::Clock as _;
use busway_types::{SystemClock, Timestamp};

/// A count with thousands set apart: `1,707`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A size with at most one decimal: `1.5 MiB`.
pub(crate) fn bytes(number: u64) -> String {
    let units = [("GiB", 1_u64 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match units.iter().find(|(_, scale)| number >= *scale) {
        None => format!("{number} B"),
        Some((unit, scale)) => {
            let tenths = number.saturating_mul(10) / scale;
            match tenths % 10 {
                0 => format!("{} {unit}", tenths / 10),
                tenth => format!("{}.{tenth} {unit}", tenths / 10),
            }
        }
    }
}

/// Microseconds in the unit that reads best.
pub(crate) fn micros(us: Option<f64>) -> String {
    match us {
        None => "-".to_owned(),
        Some(us) if us < 1_000.0 => format!("{us:.1} us"),
        Some(us) if us < 1_000_000.0 => format!("{:.1} ms", us / 1_000.0),
        Some(us) => format!("{:.1} s", us / 1_000_000.0),
    }
}

/// How long something has lasted: `2 h 5 min`.
pub(crate) fn lasted(ms: u64) -> String {
    let seconds = ms / 1_000;
    match (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60) {
        (0, 0, 0, s) => format!("{s} s"),
        (0, 0, m, s) => format!("{m} min {s} s"),
        (0, h, m, _) => format!("{h} h {m} min"),
        (d, h, ..) => format!("{d} d {h} h"),
    }
}

/// `1 event`, `2 events`.
pub(crate) fn counted(number: u64, what: &str) -> String {
    if number == 1 { format!("1 {what}") } else { format!("{} {what}s", count(number)) }
}

/// A moment: a time in RFC 3339, or a duration such as `10m` back from now.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    if let Some(time) = busway_gateway::api::parse_rfc3339(text) {
        return Ok(time);
    }
    let back: Duration = busway_node::manifest::parse_duration(text)
        .map_err(|_| format!("`{text}` is neither a time such as 2026-01-31T09:05:00Z nor a while ago such as 10m"))?;
    let now = SystemClock::new().now();
    Ok(Timestamp(now.0.saturating_sub(u64::try_from(back.as_millis()).unwrap_or(u64::MAX))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_read_well() {
        assert_eq!([0, 999, 1_707, 1_234_567].map(count), ["0", "999", "1,707", "1,234,567"]);
        assert_eq!([512, 1024, 1536, 3 << 30].map(bytes), ["512 B", "1 KiB", "1.5 KiB", "3 GiB"]);
        assert_eq!(micros(Some(1_250.0)), "1.2 ms");
        assert_eq!(lasted(3_725_000), "1 h 2 min");
        assert_eq!(counted(1, "event"), "1 event");
        assert_eq!(counted(1_000, "event"), "1,000 events");
    }

    #[test]
    fn moments_are_times_or_a_while_ago() {
        assert_eq!(moment("2000-02-29"), Ok(Timestamp(951_782_400_000)));
        assert!(moment("10m").is_ok_and(|then| then < SystemClock::new().now()));
        assert!(moment("soon").is_err());
    }
}
