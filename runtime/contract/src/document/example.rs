//! A value of a type, as it travels.

use serde_json::{Map, Value, json};

use crate::model::Function;
use crate::types::Type;

/// The data of an event or request that shows all of its members.
pub fn example(function: &Function) -> Value {
    let members = function.params.iter().map(|param| (param.name.to_string(), value(&param.ty)));
    Value::Object(members.collect())
}

/// A value of a type: options are there, lists have one element, variants have their first case.
pub(super) fn value(ty: &Type) -> Value {
    match ty {
        Type::Bool => json!(true),
        Type::S8 | Type::S16 | Type::S32 | Type::S64 => json!(-1),
        Type::U8 | Type::U16 | Type::U32 | Type::U64 => json!(1),
        Type::F32 | Type::F64 => json!(0.5),
        Type::Char => json!("a"),
        Type::String => json!("text"),
        Type::Bytes => json!("AAEC"),
        Type::List(of) => json!([value(of)]),
        Type::FixedList(of, length) => vec![value(of); *length as usize].into(),
        Type::Map(key, of) => json!([[value(key), value(of)]]),
        Type::Option(of) if of.is_optional() => json!({ "some": value(of) }),
        Type::Option(of) => value(of),
        Type::Result(ok, _) => json!({ "ok": ok.as_ref().map_or(Value::Null, |ok| value(ok)) }),
        Type::Tuple(of) => of.iter().map(value).collect(),
        Type::Record(record) => {
            let members = record.fields.iter().map(|field| (field.name.to_string(), value(&field.ty)));
            Value::Object(members.collect::<Map<_, _>>())
        }
        Type::Variant(variant) => variant.cases.first().map_or(Value::Null, |case| match &case.ty {
            None => json!(*case.name),
            Some(ty) => json!({ &*case.name: value(ty) }),
        }),
        Type::Enum(cases) => cases.cases.first().map_or(Value::Null, |case| json!(*case.name)),
        Type::Flags(flags) => flags.flags.first().map(|flag| json!(*flag.name)).into_iter().collect(),
    }
}
