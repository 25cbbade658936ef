//! Parts that transactions and checkpoints share.

use busway_types::{Attempt, DeadLetter, DeadReason, Parked, Timestamp};

use crate::wire::{Malformed, Reader, put_bytes, put_u64};

pub(crate) fn put_time(out: &mut Vec<u8>, time: Timestamp) {
    put_u64(out, time.0);
}

pub(crate) fn take_time(r: &mut Reader<'_>) -> Result<Timestamp, Malformed> {
    Ok(Timestamp(r.u64()?))
}

/// Appends the offsets from `start` to before `end`; `after` is where the run before it ended.
pub(crate) fn put_run(out: &mut Vec<u8>, after: u64, (start, end): (u64, u64)) {
    crate::wire::put_i64(out, start.wrapping_sub(after).cast_signed());
    put_u64(out, end - start);
}

/// Reads what [`put_run`] wrote.
pub(crate) fn take_run(r: &mut Reader<'_>, after: u64) -> Result<(u64, u64), Malformed> {
    let start = after.wrapping_add(r.i64()?.cast_unsigned());
    let end = start.checked_add(r.u64()?).filter(|end| *end > start);
    Ok((start, end.ok_or(Malformed::Invalid("a run of offsets is empty or too long"))?))
}

fn put_attempts(out: &mut Vec<u8>, attempts: &[Attempt]) {
    put_u64(out, attempts.len() as u64);
    for Attempt { time, error } in attempts {
        put_time(out, *time);
        put_bytes(out, error.as_bytes());
    }
}

fn take_attempts(r: &mut Reader<'_>) -> Result<Vec<Attempt>, Malformed> {
    let count = r.count(2)?;
    let mut attempts = Vec::new();
    for _ in 0..count {
        attempts.push(Attempt { time: take_time(r)?, error: r.text()?.to_owned() });
    }
    Ok(attempts)
}

pub(crate) fn put_parked(out: &mut Vec<u8>, parked: &Parked) {
    let Parked { offset, due, attempts } = parked;
    put_u64(out, *offset);
    match due {
        None => out.push(0),
        Some(due) => {
            out.push(1);
            put_time(out, *due);
        }
    }
    put_attempts(out, attempts);
}

pub(crate) fn take_parked(r: &mut Reader<'_>) -> Result<Parked, Malformed> {
    let offset = r.u64()?;
    let due = match r.u8()? {
        0 => None,
        1 => Some(take_time(r)?),
        _ => return Err(Malformed::Invalid("a due time is neither there nor absent")),
    };
    Ok(Parked { offset, due, attempts: take_attempts(r)? })
}

pub(crate) fn put_dead(out: &mut Vec<u8>, dead: &DeadLetter) {
    let DeadLetter { offset, reason, time, attempts } = dead;
    put_u64(out, *offset);
    out.push(match reason {
        DeadReason::Rejected => 0,
        DeadReason::Exhausted => 1,
        DeadReason::Trapped => 2,
        DeadReason::TimedOut => 3,
        DeadReason::Loop => 4,
    });
    put_time(out, *time);
    put_attempts(out, attempts);
}

pub(crate) fn take_dead(r: &mut Reader<'_>) -> Result<DeadLetter, Malformed> {
    let offset = r.u64()?;
    let reason = match r.u8()? {
        0 => DeadReason::Rejected,
        1 => DeadReason::Exhausted,
        2 => DeadReason::Trapped,
        3 => DeadReason::TimedOut,
        4 => DeadReason::Loop,
        other => return Err(Malformed::Unknown("dead-letter reason", u64::from(other))),
    };
    Ok(DeadLetter { offset, reason, time: take_time(r)?, attempts: take_attempts(r)? })
}
