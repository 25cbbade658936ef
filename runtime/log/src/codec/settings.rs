//! What a deployment has set a subscription to.

use std::time::Duration;

use busway_types::{Ordering, RetryPolicy, Settings};

use crate::wire::{Malformed, Reader, put_bytes, put_u64};

const STRICT: u8 = 0;
const KEY: u8 = 1;
const NONE: u8 = 2;

pub(crate) fn put_ordering(out: &mut Vec<u8>, ordering: Ordering) {
    out.push(match ordering {
        Ordering::Strict => STRICT,
        Ordering::Key => KEY,
        Ordering::None => NONE,
    });
}

pub(crate) fn take_ordering(r: &mut Reader<'_>) -> Result<Ordering, Malformed> {
    match r.u8()? {
        STRICT => Ok(Ordering::Strict),
        KEY => Ok(Ordering::Key),
        NONE => Ok(Ordering::None),
        other => Err(Malformed::Unknown("ordering", u64::from(other))),
    }
}

fn put_time(out: &mut Vec<u8>, time: Duration) {
    put_u64(out, u64::try_from(time.as_millis()).unwrap_or(u64::MAX));
}

pub(crate) fn put_settings(out: &mut Vec<u8>, settings: &Settings) {
    let Settings { generation, patterns, ordering, retry, own_events } = settings;
    let RetryPolicy { attempts, backoff, backoff_max, jitter_percent } = retry;
    put_u64(out, u64::from(*generation));
    put_u64(out, patterns.len() as u64);
    for pattern in patterns {
        put_bytes(out, pattern.to_string().as_bytes());
    }
    put_ordering(out, *ordering);
    put_u64(out, u64::from(*attempts));
    put_time(out, *backoff);
    put_time(out, *backoff_max);
    out.push(*jitter_percent);
    out.push(u8::from(*own_events));
}

pub(crate) fn take_settings(r: &mut Reader<'_>) -> Result<Settings, Malformed> {
    let generation = r.u32()?;
    let mut patterns = Vec::new();
    for _ in 0..r.count(2)? {
        patterns.push(r.text()?.parse().map_err(|_| Malformed::Invalid("a pattern is malformed"))?);
    }
    let ordering = take_ordering(r)?;
    let retry = RetryPolicy {
        attempts: r.u32()?,
        backoff: Duration::from_millis(r.u64()?),
        backoff_max: Duration::from_millis(r.u64()?),
        jitter_percent: r.u8()?,
    };
    Ok(Settings { generation, patterns, ordering, retry, own_events: r.u8()? != 0 })
}
