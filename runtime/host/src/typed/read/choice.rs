//! Objects with one member: the case of a variant, `ok` or `err` of a result, `some` of an option in an option.

use std::fmt;

use busway_contract::{Case, Type};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde_json::value::RawValue;
use wasmtime::component::Val;

use super::{Reading, Value, find_case, fresh, names_of_cases, values};
use crate::typed::mismatch::{Given, among, expected};

/// The name of a choice in an object with one member.
struct ChoiceName<'a> {
    ty: &'a Type,
    cx: &'a Reading,
}

/// Which choice was made, and what it carries.
enum Choice<'a> {
    Case(&'a Case),
    Ok(Option<&'a Type>),
    Err(Option<&'a Type>),
    Some(&'a Type),
}

impl<'de, 'a> DeserializeSeed<'de> for ChoiceName<'a> {
    type Value = Choice<'a>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'a> Visitor<'_> for ChoiceName<'a> {
    type Value = Choice<'a>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&expected(self.ty))
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let found = match self.ty {
            Type::Variant(variant) => find_case(variant, name).map(Choice::Case),
            Type::Result(ok, _) if name == "ok" => Some(Choice::Ok(ok.as_deref())),
            Type::Result(_, err) if name == "err" => Some(Choice::Err(err.as_deref())),
            Type::Option(of) if name == "some" => Some(Choice::Some(of)),
            _ => None,
        };
        found.ok_or_else(|| match self.ty {
            Type::Variant(variant) => self.cx.mismatch(among(names_of_cases(variant)), Given::Text(name)),
            _ => self.cx.mismatch(expected(self.ty), Given::Member(name)),
        })
    }
}

/// What a choice carries: a value, or null.
struct Payload<'a> {
    ty: Option<&'a Type>,
    slot: Option<&'a mut Val>,
    cx: &'a Reading,
}

impl<'de> DeserializeSeed<'de> for Payload<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.ty {
            Some(ty) => Value { ty, slot: self.slot, cx: self.cx }.deserialize(deserializer),
            None => match <&RawValue>::deserialize(deserializer)?.get() {
                "null" => Ok(()),
                other => Err(self.cx.mismatch("null, since that case carries no value", Given::Json(other))),
            },
        }
    }
}

impl Value<'_> {
    /// An object with one member: the case of a variant, `ok` or `err` of a result, `some` of an option in an option.
    pub(super) fn choice<'de, A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { ty, slot, cx } = self;
        let Some(choice) = map.next_key_seed(ChoiceName { ty, cx })? else {
            return Err(cx.mismatch(expected(ty), Given::Words("an empty object")));
        };
        let (name, of) = match &choice {
            Choice::Case(case) => (&*case.name, case.ty.as_ref()),
            Choice::Ok(of) => ("ok", *of),
            Choice::Err(of) => ("err", *of),
            Choice::Some(of) => ("some", Some(*of)),
        };
        cx.spend(of.map_or(0, values))?;
        let mut payload = match (of, slot.is_some()) {
            (Some(of), true) => Some(Box::new(fresh(of, cx)?)),
            _ => None,
        };
        let read = map.next_value_seed(Payload { ty: of, slot: payload.as_deref_mut(), cx });
        cx.at(|| format!(".{name}"), read)?;
        if let Some(slot) = slot {
            *slot = match choice {
                Choice::Case(case) => Val::Variant(case.name.to_string(), payload),
                Choice::Ok(_) => Val::Result(Ok(payload)),
                Choice::Err(_) => Val::Result(Err(payload)),
                Choice::Some(_) => Val::Option(payload),
            };
        }
        match map.next_key::<String>()? {
            None => Ok(()),
            Some(second) => {
                Err(cx.mismatch(format!("an object with one member, here `{name}`"), Given::Member(&second)))
            }
        }
    }
}
