//! The key of a typed event as text: what its parameter `key` says, or the place that the app names.

use std::borrow::Cow;

use wasmtime::component::Val;

/// What is at a place inside records.
pub(super) fn inside<'v>(val: &'v Val, fields: &[usize]) -> Option<&'v Val> {
    fields.iter().try_fold(val, |val, place| match val {
        Val::Record(fields) => fields.get(*place).map(|(_, val)| val),
        _ => None,
    })
}

/// The text that a value orders by; none when it cannot.
pub(super) fn text(val: &Val) -> Option<Cow<'_, str>> {
    Some(match val {
        Val::String(text) | Val::Enum(text) => Cow::Borrowed(text.as_str()),
        Val::Char(value) => value.to_string().into(),
        Val::S8(value) => value.to_string().into(),
        Val::U8(value) => value.to_string().into(),
        Val::S16(value) => value.to_string().into(),
        Val::U16(value) => value.to_string().into(),
        Val::S32(value) => value.to_string().into(),
        Val::U32(value) => value.to_string().into(),
        Val::S64(value) => value.to_string().into(),
        Val::U64(value) => value.to_string().into(),
        _ => return None,
    })
}
