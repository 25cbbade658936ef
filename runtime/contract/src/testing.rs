//! For tests, here and in other crates (feature `testing`): random types, changes to them, values of them, and a reader of
//! values that knows nothing but a type. A seed decides everything.

use std::sync::Arc;

use busway_types::{Entropy as _, SplitMix};
use serde_json::{Map, Value, json};

use crate::{Case, Enum, Field, Flags, Label, Record, Type, Variant};

/// A generator of numbers with its seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// A number below the bound.
    pub fn below(&mut self, bound: usize) -> usize {
        let mut entropy = SplitMix(self.0);
        let number = entropy.next_u64();
        *self = Self(entropy.0);
        (number % bound as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

const LEAVES: [Type; 14] = [
    Type::Bool,
    Type::S8,
    Type::U8,
    Type::S16,
    Type::U16,
    Type::S32,
    Type::U32,
    Type::S64,
    Type::U64,
    Type::F32,
    Type::F64,
    Type::Char,
    Type::String,
    Type::Bytes,
];

fn names(random: &mut Random) -> Vec<Arc<str>> {
    let count = 1 + random.below(4);
    NAMES.iter().take(count).map(|name| Arc::from(*name)).collect()
}

fn labels(random: &mut Random) -> Vec<Label> {
    names(random).into_iter().map(|name| Label { name, docs: None }).collect()
}

fn list_of(ty: Type) -> Type {
    if ty == Type::U8 { Type::Bytes } else { Type::List(Arc::new(ty)) }
}

/// A type at most so deep.
pub fn generate(random: &mut Random, depth: usize) -> Type {
    if depth == 0 || random.one_in(4) {
        return LEAVES[random.below(LEAVES.len())].clone();
    }
    let below = |random: &mut Random| generate(random, depth - 1);
    let maybe = |random: &mut Random| (!random.one_in(3)).then(|| generate(random, depth - 1));
    match random.below(10) {
        0 => list_of(below(random)),
        1 => Type::FixedList(Arc::new(below(random)), 1 + random.below(3) as u32),
        2 => Type::Map(Arc::new(LEAVES[random.below(9)].clone()), Arc::new(below(random))),
        3 => Type::Option(Arc::new(below(random))),
        4 => Type::Result(maybe(random).map(Arc::new), maybe(random).map(Arc::new)),
        5 => Type::Tuple((0..=random.below(3)).map(|_| below(random)).collect()),
        6 => {
            let fields = names(random).into_iter().map(|name| Field { name, docs: None, ty: below(random) }).collect();
            Type::Record(Arc::new(Record { name: None, docs: None, fields }))
        }
        7 => {
            let cases = names(random).into_iter().map(|name| Case { name, docs: None, ty: maybe(random) }).collect();
            Type::Variant(Arc::new(Variant { name: None, docs: None, cases }))
        }
        8 => Type::Enum(Arc::new(Enum { name: None, docs: None, cases: labels(random) })),
        _ => Type::Flags(Arc::new(Flags { name: None, docs: None, flags: labels(random) })),
    }
}

/// The type with changes here and there, about half of them harmless.
pub fn change(ty: &Type, random: &mut Random) -> Type {
    if random.one_in(12) {
        return match random.below(4) {
            0 => Type::Option(Arc::new(ty.clone())),
            1 => LEAVES[random.below(LEAVES.len())].clone(),
            2 => list_of(ty.clone()),
            _ => generate(random, 1),
        };
    }
    let arc = |ty: &Arc<Type>, random: &mut Random| Arc::new(change(ty, random));
    match ty {
        Type::List(of) => list_of(change(of, random)),
        Type::FixedList(of, _) if random.one_in(6) => list_of(change(of, random)),
        Type::FixedList(of, length) => Type::FixedList(arc(of, random), length + u32::from(random.one_in(12))),
        Type::Map(key, value) => Type::Map(key.clone(), arc(value, random)),
        Type::Option(of) => Type::Option(arc(of, random)),
        Type::Result(ok, err) => {
            let mut side =
                |ty: &Option<Arc<Type>>| ty.as_ref().map(|ty| arc(ty, random)).filter(|_| !random.one_in(12));
            Type::Result(side(ok), side(err))
        }
        Type::Tuple(of) => Type::Tuple(of.iter().map(|ty| change(ty, random)).collect()),
        Type::Record(record) => {
            let mut record = Record::clone(record);
            record.fields.iter_mut().for_each(|field| field.ty = change(&field.ty, random));
            let extra = generate(random, 1);
            edit(&mut record.fields, random, |name| Field { name, docs: None, ty: Type::Option(Arc::new(extra)) });
            Type::Record(Arc::new(record))
        }
        Type::Variant(variant) => {
            let mut variant = Variant::clone(variant);
            variant.cases.iter_mut().for_each(|case| case.ty = case.ty.as_ref().map(|ty| change(ty, random)));
            edit(&mut variant.cases, random, |name| Case { name, docs: None, ty: None });
            Type::Variant(Arc::new(variant))
        }
        Type::Enum(cases) => {
            let mut cases = Enum::clone(cases);
            edit(&mut cases.cases, random, |name| Label { name, docs: None });
            Type::Enum(Arc::new(cases))
        }
        Type::Flags(flags) => {
            let mut flags = Flags::clone(flags);
            edit(&mut flags.flags, random, |name| Label { name, docs: None });
            Type::Flags(Arc::new(flags))
        }
        Type::U8 if random.one_in(3) => Type::S16,
        Type::S32 if random.one_in(3) => Type::S64,
        Type::F32 if random.one_in(3) => Type::F64,
        leaf => leaf.clone(),
    }
}

/// Turns members around, takes one away, or adds one.
fn edit<T>(members: &mut Vec<T>, random: &mut Random, new: impl FnOnce(Arc<str>) -> T) {
    match random.below(8) {
        0 => members.reverse(),
        1 if members.len() > 1 => drop(members.pop()),
        2 | 3 => members.push(new("z".into())),
        _ => {}
    }
}

/// A value of a type, as it travels.
pub fn sample(ty: &Type, random: &mut Random) -> Value {
    let low_or_high = |random: &mut Random, low: Value, high: Value| if random.one_in(2) { low } else { high };
    match ty {
        Type::Bool => json!(random.one_in(2)),
        Type::S8 => low_or_high(random, json!(i8::MIN), json!(i8::MAX)),
        Type::U8 => low_or_high(random, json!(u8::MIN), json!(u8::MAX)),
        Type::S16 => low_or_high(random, json!(i16::MIN), json!(i16::MAX)),
        Type::U16 => low_or_high(random, json!(u16::MIN), json!(u16::MAX)),
        Type::S32 => low_or_high(random, json!(i32::MIN), json!(i32::MAX)),
        Type::U32 => low_or_high(random, json!(u32::MIN), json!(u32::MAX)),
        Type::S64 => low_or_high(random, json!(i64::MIN), json!(i64::MAX)),
        Type::U64 => low_or_high(random, json!(u64::MIN), json!(u64::MAX)),
        Type::F32 => low_or_high(random, json!("NaN"), json!(f32::MAX)),
        Type::F64 => low_or_high(random, json!("-Infinity"), json!(f64::MAX)),
        Type::Char => json!("\u{e9}"),
        Type::String => low_or_high(random, json!("not base64!"), json!("")),
        Type::Bytes => json!("AAEC"),
        Type::List(of) => (0..random.below(3)).map(|_| sample(of, random)).collect(),
        Type::FixedList(of, length) => (0..*length).map(|_| sample(of, random)).collect(),
        Type::Map(key, value) => {
            (0..random.below(3)).map(|_| json!([sample(key, random), sample(value, random)])).collect()
        }
        Type::Option(_) if random.one_in(2) => Value::Null,
        Type::Option(of) if of.is_optional() => json!({ "some": sample(of, random) }),
        Type::Option(of) => sample(of, random),
        Type::Result(ok, err) => {
            let (name, side) = if random.one_in(2) { ("ok", ok) } else { ("err", err) };
            json!({ name: side.as_ref().map_or(Value::Null, |ty| sample(ty, random)) })
        }
        Type::Tuple(of) => of.iter().map(|ty| sample(ty, random)).collect(),
        Type::Record(record) => {
            let mut object = Map::new();
            for field in &record.fields {
                let value = sample(&field.ty, random);
                if !(value.is_null() && random.one_in(2)) {
                    object.insert(field.name.to_string(), value);
                }
            }
            Value::Object(object)
        }
        Type::Variant(variant) => {
            let case = &variant.cases[random.below(variant.cases.len())];
            match &case.ty {
                None => json!(*case.name),
                Some(ty) => json!({ &*case.name: sample(ty, random) }),
            }
        }
        Type::Enum(cases) => json!(*cases.cases[random.below(cases.cases.len())].name),
        Type::Flags(flags) => flags.flags.iter().filter(|_| random.one_in(2)).map(|flag| json!(*flag.name)).collect(),
    }
}

fn integer<T: TryFrom<i128>>(value: &Value) -> bool {
    let whole = value.as_i64().map(i128::from).or(value.as_u64().map(i128::from));
    whole.is_some_and(|whole| T::try_from(whole).is_ok())
}

fn all(value: &Value, length: Option<usize>, readable: impl Fn(usize, &Value) -> bool) -> bool {
    value.as_array().is_some_and(|of| {
        length.is_none_or(|length| of.len() == length) && of.iter().enumerate().all(|(place, one)| readable(place, one))
    })
}

/// Whether a value can be read as a type.
pub fn reads(ty: &Type, value: &Value) -> bool {
    let float = || value.is_number() || matches!(value.as_str(), Some("NaN" | "Infinity" | "-Infinity"));
    match ty {
        Type::Bool => value.is_boolean(),
        Type::S8 => integer::<i8>(value),
        Type::U8 => integer::<u8>(value),
        Type::S16 => integer::<i16>(value),
        Type::U16 => integer::<u16>(value),
        Type::S32 => integer::<i32>(value),
        Type::U32 => integer::<u32>(value),
        Type::S64 => integer::<i64>(value),
        Type::U64 => integer::<u64>(value),
        Type::F32 => float() && value.as_f64().is_none_or(|float| float.abs() <= f64::from(f32::MAX)),
        Type::F64 => float(),
        Type::Char => value.as_str().is_some_and(|text| text.chars().count() == 1),
        Type::String => value.is_string(),
        Type::Bytes => value.as_str() == Some("AAEC"),
        Type::List(of) => all(value, None, |_, one| reads(of, one)),
        Type::FixedList(of, length) => all(value, Some(*length as usize), |_, one| reads(of, one)),
        Type::Map(key, of) => {
            all(value, None, |_, pair| all(pair, Some(2), |place, one| reads(if place == 0 { key } else { of }, one)))
        }
        Type::Option(_) if value.is_null() => true,
        Type::Option(of) if of.is_optional() => value
            .as_object()
            .is_some_and(|object| object.len() == 1 && object.get("some").is_some_and(|v| reads(of, v))),
        Type::Option(of) => reads(of, value),
        Type::Result(ok, err) => value.as_object().is_some_and(|object| {
            let side = |name: &str, ty: &Option<Arc<Type>>| {
                object.get(name).is_some_and(|v| ty.as_ref().map_or(v.is_null(), |ty| reads(ty, v)))
            };
            object.len() == 1 && (side("ok", ok) || side("err", err))
        }),
        Type::Tuple(of) => all(value, Some(of.len()), |place, one| reads(&of[place], one)),
        Type::Record(record) => value.as_object().is_some_and(|object| {
            let readable =
                |field: &Field| object.get(&*field.name).map_or(field.ty.is_optional(), |v| reads(&field.ty, v));
            record.fields.iter().all(readable)
        }),
        Type::Variant(variant) => variant.cases.iter().any(|case| match &case.ty {
            None => value.as_str() == Some(&*case.name),
            Some(ty) => value
                .as_object()
                .is_some_and(|object| object.len() == 1 && object.get(&*case.name).is_some_and(|v| reads(ty, v))),
        }),
        Type::Enum(cases) => cases.cases.iter().any(|case| value.as_str() == Some(&*case.name)),
        Type::Flags(flags) => {
            all(value, None, |_, one| flags.flags.iter().any(|flag| one.as_str() == Some(&*flag.name)))
        }
    }
}
