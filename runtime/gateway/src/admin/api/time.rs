//! Times as people write them.

use busway_types::Timestamp;

/// The moment that an RFC 3339 text names, such as `2026-01-31T09:05:00Z`, `2026-01-31T10:05:00.5+01:00` or, for the
/// start of a day in UTC, `2026-01-31`. None when it is none, or before 1970.
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let (date, time) = match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => (date, Some(time)),
        None => (text, None),
    };
    let days = days_since_epoch(date)?;
    let (ms_of_day, offset_minutes) = time.map_or(Some((0, 0)), time_of_day)?;
    let ms = days.checked_mul(86_400_000)?.checked_add(ms_of_day)?.checked_sub(offset_minutes * 60_000)?;
    u64::try_from(ms).ok().map(Timestamp)
}

fn digits(text: &str, len: usize) -> Option<i64> {
    (text.len() == len && text.bytes().all(|b| b.is_ascii_digit())).then(|| text.parse().ok())?
}

/// Days from civil, after Howard Hinnant's "chrono-compatible low-level date algorithms".
fn days_since_epoch(date: &str) -> Option<i64> {
    let mut parts = date.split('-');
    let (year, month, day) = (digits(parts.next()?, 4)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || !(1..=12).contains(&month) {
        return None;
    }
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let longest = match month {
        2 => 28 + i64::from(leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    if !(1..=longest).contains(&day) {
        return None;
    }
    let y = if month <= 2 { year - 1 } else { year };
    let era = y.div_euclid(400);
    let yoe = y.rem_euclid(400);
    let doy = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    Some(era * 146_097 + yoe * 365 + yoe / 4 - yoe / 100 + doy - 719_468)
}

/// Milliseconds of the day, and minutes that the zone is ahead of UTC.
fn time_of_day(text: &str) -> Option<(i64, i64)> {
    let zone_at = text.find(['Z', 'z', '+', '-'])?;
    let (clock, zone) = (text.get(..zone_at)?, text.get(zone_at..)?);
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = whole.split(':');
    let (h, m, s) = (digits(parts.next()?, 2)?, digits(parts.next()?, 2)?, digits(parts.next()?, 2)?);
    if parts.next().is_some() || h > 23 || m > 59 || s > 59 {
        return None;
    }
    if fraction.is_empty() || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let ms: i64 = fraction.bytes().chain(*b"00").take(3).fold(0, |sum, b| sum * 10 + i64::from(b - b'0'));
    let ahead = match zone {
        "Z" | "z" => 0,
        _ => {
            let (zh, zm) = zone.get(1..)?.split_once(':')?;
            let (zh, zm) = (digits(zh, 2)?, digits(zm, 2)?);
            if zh > 23 || zm > 59 {
                return None;
            }
            let minutes = zh * 60 + zm;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
    };
    Some((((h * 60 + m) * 60 + s) * 1_000 + ms, ahead))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_back_what_timestamps_print() {
        for ms in [0, 951_782_400_000, 1_517_968_154_042, 4_102_444_799_999] {
            assert_eq!(parse_rfc3339(&Timestamp(ms).to_string()), Some(Timestamp(ms)));
        }
    }

    #[test]
    fn takes_zones_fractions_and_days() {
        assert_eq!(parse_rfc3339("2000-02-29"), Some(Timestamp(951_782_400_000)));
        assert_eq!(parse_rfc3339("2000-02-29T01:00:00.5+01:00"), Some(Timestamp(951_782_400_500)));
        assert_eq!(parse_rfc3339("1999-12-31T23:30:00-00:30"), Some(Timestamp(946_684_800_000)));
    }

    #[test]
    fn refuses_what_is_no_time() {
        for bad in ["", "now", "2001-02-29", "2000-13-01", "2000-01-01T00:00:00", "2000-01-01T24:00:00Z", "1969-12-31"]
        {
            assert_eq!(parse_rfc3339(bad), None, "{bad}");
        }
    }
}
