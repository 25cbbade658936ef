//! The key of a typed event: what its parameter `key` says, as text.

use std::borrow::Cow;

use wasmtime::component::Val;

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
