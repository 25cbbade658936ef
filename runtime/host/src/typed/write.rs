//! From values to JSON, by type: the other way of [`super::read`].
//!
//! Invariant: what is written is what [`super::read`] reads, and gives the same value again (any NaN stays a NaN).

use std::io::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use busway_contract::{Param, Type};
use wasmtime::component::Val;

/// The engine gave a value that is not of the type that the component has: a bug, never the guest's fault.
#[derive(Debug, thiserror::Error)]
#[error("a value is not of its type {0}; this is a bug of busway")]
pub(crate) struct Unfit(String);

/// Writes the arguments of a call as one object.
pub(crate) fn write_params(params: &[Param], arguments: &[Val], out: &mut Vec<u8>) -> Result<(), Unfit> {
    out.push(b'{');
    for (place, (param, argument)) in params.iter().zip(arguments).enumerate() {
        member(&param.name, place, out);
        write(&param.ty, argument, out)?;
    }
    out.push(b'}');
    Ok(())
}

fn member(name: &str, place: usize, out: &mut Vec<u8>) {
    if place > 0 {
        out.push(b',');
    }
    // Names are WIT's: letters, digits and hyphens.
    out.push(b'"');
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":");
}

fn text(text: &str, out: &mut Vec<u8>) {
    // Writing into a vector cannot fail.
    let _ = serde_json::to_writer(out, text);
}

fn float(value: f64, shortest: impl std::fmt::Debug, out: &mut Vec<u8>) {
    if value.is_finite() {
        let _ = write!(out, "{shortest:?}");
    } else if value.is_nan() {
        out.extend_from_slice(b"\"NaN\"");
    } else if value > 0.0 {
        out.extend_from_slice(b"\"Infinity\"");
    } else {
        out.extend_from_slice(b"\"-Infinity\"");
    }
}

fn sequence<'a>(items: impl Iterator<Item = (&'a Type, &'a Val)>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    out.push(b'[');
    for (place, (ty, item)) in items.enumerate() {
        if place > 0 {
            out.push(b',');
        }
        write(ty, item, out)?;
    }
    out.push(b']');
    Ok(())
}

/// An object with one member.
fn choice(name: &str, ty: Option<&Type>, payload: Option<&Val>, out: &mut Vec<u8>) -> Result<(), Unfit> {
    out.push(b'{');
    member(name, 0, out);
    match (ty, payload) {
        (Some(ty), Some(payload)) => write(ty, payload, out)?,
        (None, None) => out.extend_from_slice(b"null"),
        _ => return Err(Unfit(name.to_owned())),
    }
    out.push(b'}');
    Ok(())
}

/// Writes a value.
pub(crate) fn write(ty: &Type, val: &Val, out: &mut Vec<u8>) -> Result<(), Unfit> {
    match (ty, val) {
        (Type::Bool, Val::Bool(value)) => out.extend_from_slice(if *value { b"true" } else { b"false" }),
        (Type::S8, Val::S8(value)) => drop(write!(out, "{value}")),
        (Type::U8, Val::U8(value)) => drop(write!(out, "{value}")),
        (Type::S16, Val::S16(value)) => drop(write!(out, "{value}")),
        (Type::U16, Val::U16(value)) => drop(write!(out, "{value}")),
        (Type::S32, Val::S32(value)) => drop(write!(out, "{value}")),
        (Type::U32, Val::U32(value)) => drop(write!(out, "{value}")),
        (Type::S64, Val::S64(value)) => drop(write!(out, "{value}")),
        (Type::U64, Val::U64(value)) => drop(write!(out, "{value}")),
        (Type::F32, Val::Float32(value)) => float((*value).into(), *value, out),
        (Type::F64, Val::Float64(value)) => float(*value, *value, out),
        (Type::Char, Val::Char(value)) => text(value.encode_utf8(&mut [0; 4]), out),
        (Type::String, Val::String(value)) => text(value, out),
        (Type::Bytes, Val::List(items)) => {
            let byte = |item: &Val| if let Val::U8(byte) = item { Ok(*byte) } else { Err(Unfit(ty.to_string())) };
            let bytes = items.iter().map(byte).collect::<Result<Vec<u8>, _>>()?;
            base64(&bytes, out);
        }
        (Type::List(of), Val::List(items)) | (Type::FixedList(of, _), Val::FixedLengthList(items)) => {
            sequence(items.iter().map(|item| (&**of, item)), out)?;
        }
        (Type::Tuple(of), Val::Tuple(items)) if of.len() == items.len() => sequence(of.iter().zip(items), out)?,
        (Type::Map(key, value), Val::Map(pairs)) => {
            out.push(b'[');
            for (place, (k, v)) in pairs.iter().enumerate() {
                if place > 0 {
                    out.push(b',');
                }
                sequence([(&**key, k), (&**value, v)].into_iter(), out)?;
            }
            out.push(b']');
        }
        (Type::Option(_), Val::Option(None)) => out.extend_from_slice(b"null"),
        (Type::Option(of), Val::Option(Some(value))) if matches!(**of, Type::Option(_)) => {
            choice("some", Some(of), Some(value), out)?;
        }
        (Type::Option(of), Val::Option(Some(value))) => write(of, value, out)?,
        (Type::Result(ok, _), Val::Result(Ok(payload))) => choice("ok", ok.as_deref(), payload.as_deref(), out)?,
        (Type::Result(_, err), Val::Result(Err(payload))) => choice("err", err.as_deref(), payload.as_deref(), out)?,
        (Type::Record(record), Val::Record(fields)) if record.fields.len() == fields.len() => {
            out.push(b'{');
            for (place, (field, (_, value))) in record.fields.iter().zip(fields).enumerate() {
                member(&field.name, place, out);
                write(&field.ty, value, out)?;
            }
            out.push(b'}');
        }
        (Type::Variant(variant), Val::Variant(name, payload)) => {
            let case = variant.cases.iter().find(|case| *case.name == **name).ok_or_else(|| Unfit(name.clone()))?;
            match (&case.ty, payload) {
                (None, None) => text(name, out),
                (of, payload) => choice(name, of.as_ref(), payload.as_deref(), out)?,
            }
        }
        (Type::Enum(_), Val::Enum(name)) => text(name, out),
        (Type::Flags(_), Val::Flags(names)) => {
            // Writing into a vector cannot fail.
            let _ = serde_json::to_writer(&mut *out, names);
        }
        _ => return Err(Unfit(ty.to_string())),
    }
    Ok(())
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    let start = out.len();
    out.resize(start + base64::encoded_len(bytes.len(), true).unwrap_or(0), 0);
    // The room is exactly what it needs.
    let written = STANDARD.encode_slice(bytes, &mut out[start..]).unwrap_or(0);
    out.truncate(start + written);
    out.push(b'"');
}
