//! What a handler's error means, and how a producer learns that it was refused.
//!
//! Role: both look at the same thing, the `E` of `result<_, E>`: a variant or an enum with the cases `retry` and `reject` says
//! how an event failed, whatever its name is and whatever other cases it has.

use std::time::Duration;

use busway_contract::{Function, Type};
use busway_types::Outcome;
use wasmtime::component::Val;

use super::write::write;
use crate::capability::Refusal;
use crate::invoke::cut;

/// The wait that a producer is told of when `retry` carries a number: milliseconds.
const RETRY_MS: u64 = 1_000;

/// The longest wait that a handler may ask for, as in the manifest: 7 days.
const LONGEST_MS: u64 = 7 * 24 * 3_600_000;

/// The outcome that the result of a handler stands for.
pub(super) fn outcome(function: &Function, result: Option<&Val>) -> Outcome {
    let Some(Val::Result(Err(error))) = result else { return Outcome::Acked };
    let (Some(ty), Some(error)) = (function.error(), error.as_deref()) else {
        return Outcome::Retry { reason: "the handler returned an error".into(), after: None };
    };
    let (name, payload) = match error {
        Val::Variant(name, payload) => (Some(name.as_str()), payload.as_deref()),
        Val::Enum(name) => (Some(name.as_str()), None),
        _ => (None, None),
    };
    match name {
        Some("retry") => match payload.and_then(integer) {
            Some(ms) => {
                let ms = ms.min(LONGEST_MS);
                let reason = format!("the handler asks to be called again in {ms} ms");
                Outcome::Retry { reason, after: Some(Duration::from_millis(ms)) }
            }
            None => Outcome::Retry { reason: told(ty, name, payload, error), after: None },
        },
        Some("reject") => Outcome::Rejected { reason: told(ty, name, payload, error) },
        _ => Outcome::Retry { reason: told(ty, name, None, error), after: None },
    }
}

/// The reason as text: a string as it is, everything else as JSON.
fn told(ty: &Type, case: Option<&str>, payload: Option<&Val>, error: &Val) -> String {
    let text = match (payload, case, error) {
        (Some(Val::String(text)), _, _) | (None, _, Val::String(text)) => text.clone(),
        _ => {
            let mut json = Vec::new();
            match write(ty, error, &mut json) {
                Ok(()) => format!("the handler returned the error {}", String::from_utf8_lossy(&json)),
                Err(unfit) => unfit.to_string(),
            }
        }
    };
    cut(text)
}

/// A number of milliseconds; a negative one is none.
fn integer(val: &Val) -> Option<u64> {
    Some(match val {
        Val::U8(value) => (*value).into(),
        Val::U16(value) => (*value).into(),
        Val::U32(value) => (*value).into(),
        Val::U64(value) => *value,
        Val::S8(value) => u64::try_from(*value).unwrap_or(0),
        Val::S16(value) => u64::try_from(*value).unwrap_or(0),
        Val::S32(value) => u64::try_from(*value).unwrap_or(0),
        Val::S64(value) => u64::try_from(*value).unwrap_or(0),
        _ => return None,
    })
}

/// The error that tells a producer why it was refused; none when its type has no room for it, and then the call traps.
pub(super) fn refused(function: &Function, refusal: &Refusal) -> Option<Val> {
    let Some(Type::Result(_, ty)) = &function.result else { return None };
    let error = match ty {
        None => None,
        Some(ty) => Some(Box::new(error(ty, refusal)?)),
    };
    Some(Val::Result(Err(error)))
}

fn error(ty: &Type, refusal: &Refusal) -> Option<Val> {
    let case = if refusal.is_retryable() { "retry" } else { "reject" };
    match ty {
        Type::String => Some(Val::String(refusal.to_string())),
        Type::Enum(cases) => cases.cases.iter().any(|known| &*known.name == case).then(|| Val::Enum(case.to_owned())),
        Type::Variant(variant) => {
            let known = variant.cases.iter().find(|known| &*known.name == case)?;
            let payload = match &known.ty {
                None => None,
                // A number under `reject` is a code of theirs, not a wait.
                Some(ty) if case == "reject" && *ty != Type::String => return None,
                Some(ty) => Some(Box::new(payload(ty, refusal)?)),
            };
            Some(Val::Variant(case.to_owned(), payload))
        }
        _ => None,
    }
}

fn payload(ty: &Type, refusal: &Refusal) -> Option<Val> {
    Some(match ty {
        Type::String => Val::String(refusal.to_string()),
        Type::U16 => Val::U16(RETRY_MS as u16),
        Type::U32 => Val::U32(RETRY_MS as u32),
        Type::U64 => Val::U64(RETRY_MS),
        Type::S16 => Val::S16(RETRY_MS as i16),
        Type::S32 => Val::S32(RETRY_MS as i32),
        Type::S64 => Val::S64(RETRY_MS.cast_signed()),
        _ => return None,
    })
}
