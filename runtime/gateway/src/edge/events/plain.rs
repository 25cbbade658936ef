//! One event with nothing around it: the body is the data, the path is the topic, headers say the rest.

use busway_types::{Draft, EventId, Key, Timestamp, Topic};
use bytes::Bytes;
use http::{HeaderMap, HeaderName};

use super::{Cx, id};
use crate::edge::auth::Caller;
use crate::edge::problem::{Problem, Refusal};
use crate::edge::units::duration;

/// What orders the event.
pub(crate) const KEY: HeaderName = HeaderName::from_static("busway-key");
/// Deliver not before so long from now.
pub(crate) const DELAY: HeaderName = HeaderName::from_static("busway-delay");
/// Do not deliver later than so long from now.
pub(crate) const EXPIRES: HeaderName = HeaderName::from_static("busway-expires");
/// What the journey is about.
pub(crate) const CORRELATION: HeaderName = HeaderName::from_static("busway-correlation");
/// `Busway-Header-NAME`: a header of the event.
pub(crate) const HEADER: &str = "busway-header-";
/// The client's own name for the event.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The longest `Idempotency-Key`, in bytes.
pub(crate) const IDEMPOTENCY_KEY_BYTES: usize = 255;

pub(super) fn draft(cx: &Cx<'_>, content_type: Option<Box<str>>, body: &[u8]) -> Result<Draft, Problem> {
    let Some(topic) = &cx.topic else {
        return Err(Problem::invalid(
            "`POST /events` takes CloudEvents, whose `type` is the topic, or lines of JSON with a `topic`; for plain data \
             write the topic into the path: `POST /events/TOPIC`",
        ));
    };
    // What was received is a part of a buffer that is larger, which the event would keep as long as it is in memory.
    let mut draft = Draft::new(topic.clone(), Bytes::copy_from_slice(body));
    draft.content_type = content_type;
    dress(cx, &mut draft)?;
    draft.id = idempotency_key(cx.headers)?.map(|name| named(cx.caller, topic, &name, None));
    Ok(draft)
}

/// What the headers of the request say about each of its events.
pub(super) fn dress(cx: &Cx<'_>, draft: &mut Draft) -> Result<(), Problem> {
    let headers = cx.headers;
    if let Some(text) = one(headers, &KEY)? {
        draft.key = Some(Key::new(text, cx.limits).map_err(|error| about(&KEY, error.to_string()))?);
    }
    draft.not_before = from_now(cx, &DELAY)?;
    draft.expires = from_now(cx, &EXPIRES)?;
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix(HEADER) else { continue };
        let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
            return Err(Problem::invalid("its value is not UTF-8").with("parameter", format!("{HEADER}{name}")));
        };
        draft.headers.push((name.into(), value.into()));
    }
    if let Some(correlation) = one(headers, &CORRELATION)? {
        draft.causality.correlation = Some(correlation.into());
    }
    Ok(())
}

/// The id of an event that a caller gives this name, whichever way it comes in (`Idempotency-Key`, `id`), and this place
/// in its request if it is one of several.
pub(in crate::edge) fn named(caller: &Caller, topic: &Topic, name: &str, place: Option<usize>) -> EventId {
    let caller = caller.identity();
    let caller = caller.as_deref();
    match place {
        None => id::derived("idempotency-key", caller, topic, &[name]),
        Some(place) => id::derived("idempotency-key", caller, topic, &[name, &place.to_string()]),
    }
}

/// The `Idempotency-Key`: a text, in quotes as the draft of its standard has it, or bare as everybody sends it.
pub(super) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let Some(text) = one(headers, &IDEMPOTENCY_KEY)? else { return Ok(None) };
    let inner = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')).unwrap_or(text);
    if inner.is_empty() || inner.len() > IDEMPOTENCY_KEY_BYTES {
        let detail = format!("an idempotency key has 1 to {IDEMPOTENCY_KEY_BYTES} bytes; this one has {}", inner.len());
        return Err(about(&IDEMPOTENCY_KEY, detail));
    }
    Ok(Some(inner.to_owned()))
}

fn from_now(cx: &Cx<'_>, name: &HeaderName) -> Result<Option<Timestamp>, Problem> {
    let Some(text) = one(cx.headers, name)? else { return Ok(None) };
    match duration(text) {
        Some(duration) => Ok(Some(cx.now.after(duration))),
        None => {
            Err(about(name, "it is not a duration; write a whole number and a unit, such as 1500ms, 30s, 5m, 2h or 7d"))
        }
    }
}

/// A header that may be there once, as text.
fn one<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Result<Option<&'h str>, Problem> {
    let mut given = headers.get_all(name).iter();
    let Some(value) = given.next() else { return Ok(None) };
    if given.next().is_some() {
        return Err(about(name, "it is there twice; send it once"));
    }
    std::str::from_utf8(value.as_bytes()).map(Some).map_err(|_| about(name, "its value is not UTF-8"))
}

/// What is wrong with a header.
pub(super) fn about(name: &HeaderName, what: impl std::fmt::Display) -> Problem {
    Problem::new(Refusal::Invalid, format!("the header `{name}`: {what}")).with("parameter", name.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::edge::auth::CallerKind;

    #[test]
    fn one_name_of_several_kinds_of_callers_is_several_events() {
        let topic: Topic = "a".parse().expect("a topic");
        let kinds = [CallerKind::Key, CallerKind::Token, CallerKind::Certificate];
        let callers = kinds.map(|kind| Caller::new(kind, "shop", []));
        let ids: HashSet<_> = callers.iter().map(|caller| named(caller, &topic, "1", None)).collect();
        assert_eq!(ids.len(), 3);
        assert!(!ids.contains(&named(&Caller::UNRESTRICTED, &topic, "1", None)));
    }
}
