//! Sizes and durations as people write them: `64MiB`, `200ms`.

use std::time::Duration;

/// A text that is no size or duration. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidUnit {
    /// Not a size.
    #[error("`{0}` is not a size; write a whole number and a unit, such as 512KiB, 64MiB or 4GiB")]
    Bytes(String),
    /// Not a duration.
    #[error("`{0}` is not a duration; write a whole number and a unit, such as 200ms, 5s, 2m or 1h")]
    Duration(String),
}

const BYTES: [(&str, u64); 8] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("kB", 1_000),
    ("KB", 1_000),
    ("B", 1),
];

const MICROS: [(&str, u64); 6] =
    [("us", 1), ("ms", 1_000), ("s", 1_000_000), ("m", 60_000_000), ("h", 3_600_000_000), ("d", 86_400_000_000)];

fn measure(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let at = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(at);
    let scale = units.iter().find(|(name, _)| *name == unit.trim_start()).map(|(_, scale)| *scale)?;
    number.parse::<u64>().ok()?.checked_mul(scale)
}

/// The number of bytes that a text such as `64MiB` names.
pub fn parse_bytes(text: &str) -> Result<u64, InvalidUnit> {
    measure(text.trim(), &BYTES).ok_or_else(|| InvalidUnit::Bytes(text.chars().take(40).collect()))
}

/// The duration that a text such as `200ms` names.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidUnit> {
    measure(text.trim(), &MICROS)
        .map(Duration::from_micros)
        .ok_or_else(|| InvalidUnit::Duration(text.chars().take(40).collect()))
}

/// A size as [`parse_bytes`] reads it, in the largest unit that leaves nothing over.
pub fn format_bytes(bytes: u64) -> String {
    let (unit, scale) = BYTES[..3]
        .iter()
        .find(|(_, scale)| bytes >= *scale && bytes.is_multiple_of(*scale))
        .copied()
        .unwrap_or(("B", 1));
    format!("{}{unit}", bytes / scale)
}

/// A duration as [`parse_duration`] reads it, in the largest unit that leaves nothing over.
pub fn format_duration(duration: Duration) -> String {
    let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    let (unit, scale) = MICROS[..5]
        .iter()
        .rev()
        .find(|(_, scale)| micros >= *scale && micros.is_multiple_of(*scale))
        .copied()
        .unwrap_or(("us", 1));
    format!("{}{unit}", micros / scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_and_durations_survive_their_text() {
        for bytes in [0, 1, 1_000, 1_024, 3 << 20, 4 << 30, (1 << 30) + 1] {
            assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }
        for micros in [0, 1, 1_500, 200_000, 5_000_000, 120_000_000, 3_600_000_000] {
            let duration = Duration::from_micros(micros);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        assert_eq!(format_bytes(64 << 20), "64MiB");
        assert_eq!(format_duration(Duration::from_millis(200)), "200ms");
    }

    #[test]
    fn a_missing_or_strange_unit_is_refused() {
        for bad in ["", "5", "MiB", "5 parsecs", "-5MiB", "1.5GiB", "99999999999999GiB"] {
            assert!(parse_bytes(bad).is_err(), "{bad}");
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert_eq!(parse_bytes("64 MiB"), Ok(64 << 20));
    }
}
