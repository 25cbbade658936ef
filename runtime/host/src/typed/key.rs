//! The key of a typed event: what its parameter `key` says, as text.

use std::borrow::Cow;
use std::collections::HashMap;

use busway_contract::Function;
use serde_json::value::RawValue;
use wasmtime::component::Val;

use super::read::read_value;

/// The key that the data of an event has for its function; none when the function has no key, when it is an empty text, or
/// when the data does not fit.
pub fn key(function: &Function, json: &[u8]) -> Option<String> {
    let param = &function.params[function.key()?];
    let members: HashMap<Cow<'_, str>, &RawValue> = serde_json::from_slice(json).ok()?;
    let value = read_value(&param.ty, members.get(&*param.name)?.get().as_bytes()).ok()?;
    text(&value).filter(|text| !text.is_empty()).map(Cow::into_owned)
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
