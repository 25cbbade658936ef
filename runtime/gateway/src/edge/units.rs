//! Durations in headers: `1500ms`, `30s`, `5m`, `2h`, `7d`.

use std::time::Duration;

/// The duration that a text names; a number alone is seconds.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: u64 = number.parse().ok()?;
    let ms = match unit.trim_start() {
        "ms" => number,
        "s" | "" => number.checked_mul(1_000)?,
        "m" => number.checked_mul(60_000)?,
        "h" => number.checked_mul(3_600_000)?,
        "d" => number.checked_mul(86_400_000)?,
        _ => return None,
    };
    Some(Duration::from_millis(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_unit_or_are_seconds() {
        for (text, ms) in [("1500ms", 1_500), ("30s", 30_000), ("30", 30_000), ("5 m", 300_000), ("7d", 604_800_000)] {
            assert_eq!(duration(text), Some(Duration::from_millis(ms)), "{text}");
        }
        for bad in ["", "s", "-1s", "1.5s", "5 parsecs", "99999999999999999d", "99999999999999999999999"] {
            assert_eq!(duration(bad), None, "{bad}");
        }
    }
}
