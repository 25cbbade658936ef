//! A value of a type, as it travels.
//!
//! Examples are written in the order of the WIT, which a [`Value`] would forget.

use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use serde_json::Value;

use crate::model::Function;
use crate::types::Type;

/// The data of an event or request that shows all of its members.
pub fn example(function: &Function) -> Value {
    serde_json::to_value(Data(function)).unwrap_or_default()
}

/// A value of a type: options are there, lists have one element, variants have their first case.
pub(super) fn value(ty: &Type) -> Value {
    serde_json::to_value(One(ty)).unwrap_or_default()
}

/// The data of a function as text for people.
pub(super) fn text(function: &Function) -> String {
    serde_json::to_string_pretty(&Data(function)).unwrap_or_default()
}

/// A value of a type as text for people.
pub(super) fn value_text(ty: &Type) -> String {
    serde_json::to_string_pretty(&One(ty)).unwrap_or_default()
}

struct Data<'f>(&'f Function);

impl Serialize for Data<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.params.iter().map(|param| (&*param.name, One(&param.ty))))
    }
}

struct One<'t>(&'t Type);

impl Serialize for One<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Type::Bool => serializer.serialize_bool(true),
            Type::S8 | Type::S16 | Type::S32 | Type::S64 => serializer.serialize_i8(-1),
            Type::U8 | Type::U16 | Type::U32 | Type::U64 => serializer.serialize_u8(1),
            Type::F32 | Type::F64 => serializer.serialize_f32(0.5),
            Type::Char => serializer.serialize_char('a'),
            Type::String => serializer.serialize_str("text"),
            Type::Bytes => serializer.serialize_str("AAEC"),
            Type::List(of) => serializer.collect_seq([One(of)]),
            Type::FixedList(of, length) => serializer.collect_seq((0..*length).map(|_| One(of))),
            Type::Map(key, of) => serializer.collect_seq([[One(key), One(of)]]),
            Type::Option(of) if of.is_optional() => member(serializer, "some", Some(of)),
            Type::Option(of) => One(of).serialize(serializer),
            Type::Result(ok, _) => member(serializer, "ok", ok.as_deref()),
            Type::Tuple(of) => {
                let mut places = serializer.serialize_seq(Some(of.len()))?;
                of.iter().try_for_each(|of| places.serialize_element(&One(of)))?;
                places.end()
            }
            Type::Record(record) => {
                serializer.collect_map(record.fields.iter().map(|field| (&*field.name, One(&field.ty))))
            }
            Type::Variant(variant) => match variant.cases.first() {
                Some(case) if case.ty.is_some() => member(serializer, &case.name, case.ty.as_ref()),
                first => serializer.serialize_str(first.map_or("", |case| &case.name)),
            },
            Type::Enum(of) => serializer.serialize_str(of.cases.first().map_or("", |case| &case.name)),
            Type::Flags(of) => serializer.collect_seq(of.flags.first().map(|flag| &*flag.name)),
        }
    }
}

/// An object with this member and no other.
fn member<S: Serializer>(serializer: S, name: &str, ty: Option<&Type>) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(1))?;
    map.serialize_entry(name, &ty.map(One))?;
    map.end()
}
