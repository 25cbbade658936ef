//! The walk through two types at once.
//!
//! Invariants: it goes as deep as the shallower type, and types are bounded by [`crate::MAX_DEPTH`] and
//! [`crate::MAX_NODES`]; names are looked up in maps, so that the time is linear in the sizes of both types.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::text::brief;
use super::{Change, Difference};
use crate::model::{Function, Kind};
use crate::types::{Label, Record, Type, Variant};

/// The differences between a function at the producer and at the handler.
pub(super) fn functions(producer: &Function, handler: &Function) -> Vec<Difference> {
    let mut walk = Walk { function: &producer.name, path: Vec::new(), answer: false, found: Vec::new() };
    if producer.kind() != handler.kind() {
        let shown = |function: &Function| {
            let result =
                function.result.as_ref().map_or_else(|| "no result".to_owned(), |ty| format!("-> {}", brief(ty)));
            Some(format!("{} ({result})", function.kind()))
        };
        walk.note(Change::Kind, shown(producer), shown(handler));
        return walk.found;
    }
    walk.fields(&parameters(producer), &parameters(handler));
    if let (Kind::Request, Some(asked), Some(answered)) = (producer.kind(), &producer.result, &handler.result) {
        walk.answer = true;
        walk.path.push("result".into());
        walk.types(answered, asked);
    }
    walk.found
}

/// A field of a record, or a parameter.
type Member<'t> = (&'t Arc<str>, &'t Type);

fn parameters(function: &Function) -> Vec<Member<'_>> {
    function.params.iter().map(|param| (&param.name, &param.ty)).collect()
}

fn members(record: &Record) -> Vec<Member<'_>> {
    record.fields.iter().map(|field| (&field.name, &field.ty)).collect()
}

struct Walk<'t> {
    function: &'t str,
    path: Vec<String>,
    /// Whether values travel from the handler to the producer.
    answer: bool,
    found: Vec<Difference>,
}

impl<'t> Walk<'t> {
    fn place(&self) -> String {
        let path = self.path.concat();
        match (self.answer, self.function) {
            (true, function) => format!("{function} -> {path}"),
            (false, function) if path.is_empty() => function.to_owned(),
            (false, function) => format!("{function}({path})"),
        }
    }

    fn at(&mut self, step: String, inside: impl FnOnce(&mut Self)) {
        self.path.push(step);
        inside(self);
        self.path.pop();
    }

    fn note(&mut self, change: Change, sent: Option<String>, taken: Option<String>) {
        let (producer, handler) = if self.answer { (taken, sent) } else { (sent, taken) };
        let difference = Difference {
            place: self.place(),
            producer,
            handler,
            change,
            answer: self.answer,
            bridged: change.is_bridged(),
        };
        self.found.push(difference);
    }

    fn differ(&mut self, change: Change, sent: &Type, taken: &Type) {
        self.note(change, Some(brief(sent)), Some(brief(taken)));
    }

    /// From the sender's type to the receiver's.
    fn types(&mut self, sent: &'t Type, taken: &'t Type) {
        match (sent, taken) {
            (Type::Option(from), Type::Option(to)) if from.is_optional() == to.is_optional() => {
                self.at("?".into(), |walk| walk.types(from, to));
            }
            (Type::Option(_), Type::Option(_)) => self.differ(Change::NestedOption, sent, taken),
            (_, Type::Option(to)) if to.is_optional() => self.differ(Change::NestedOption, sent, taken),
            (_, Type::Option(to)) => {
                self.differ(Change::Wrapped, sent, taken);
                self.types(sent, to);
            }
            (Type::Option(_), _) => self.differ(Change::Unwrapped, sent, taken),
            (Type::List(from), Type::List(to)) => self.at("[]".into(), |walk| walk.types(from, to)),
            (Type::FixedList(from, length), Type::FixedList(to, other)) => {
                if length != other {
                    self.differ(Change::Length, sent, taken);
                }
                self.at("[]".into(), |walk| walk.types(from, to));
            }
            (Type::FixedList(from, _), Type::List(to)) => {
                self.differ(Change::AnyLength, sent, taken);
                self.at("[]".into(), |walk| walk.types(from, to));
            }
            (Type::List(from), Type::FixedList(to, _)) => {
                self.differ(Change::Length, sent, taken);
                self.at("[]".into(), |walk| walk.types(from, to));
            }
            (Type::Bytes, Type::List(_) | Type::FixedList(..)) | (Type::List(_) | Type::FixedList(..), Type::Bytes) => {
                self.differ(Change::Bytes, sent, taken);
            }
            (Type::Map(key, value), Type::Map(to_key, to_value)) => {
                self.at("[key]".into(), |walk| walk.types(key, to_key));
                self.at("[value]".into(), |walk| walk.types(value, to_value));
            }
            (Type::Tuple(from), Type::Tuple(to)) => {
                if from.len() != to.len() {
                    self.differ(Change::Length, sent, taken);
                    return;
                }
                for (place, (from, to)) in from.iter().zip(to.iter()).enumerate() {
                    self.at(format!("[{place}]"), |walk| walk.types(from, to));
                }
            }
            (Type::Result(ok, err), Type::Result(to_ok, to_err)) => {
                self.at(".ok".into(), |walk| walk.payloads(ok.as_deref(), to_ok.as_deref()));
                self.at(".err".into(), |walk| walk.payloads(err.as_deref(), to_err.as_deref()));
            }
            (Type::Record(from), Type::Record(to)) => self.fields(&members(from), &members(to)),
            (Type::Variant(from), Type::Variant(to)) => self.variants(from, to),
            (Type::Enum(from), Type::Enum(to)) => self.labels("case", &from.cases, &to.cases),
            (Type::Flags(from), Type::Flags(to)) => self.labels("flag", &from.flags, &to.flags),
            _ => self.others(sent, taken),
        }
    }

    /// Types that have nothing inside, and types that differ in kind.
    fn others(&mut self, sent: &Type, taken: &Type) {
        let change = match (integer(sent), integer(taken)) {
            (Some((low, high)), Some((floor, ceiling))) => {
                if (low, high) == (floor, ceiling) {
                    return;
                }
                if floor <= low && high <= ceiling { Change::Widened } else { Change::Narrowed }
            }
            _ => match (sent, taken) {
                (Type::Bool, Type::Bool)
                | (Type::F32, Type::F32)
                | (Type::F64, Type::F64)
                | (Type::Char, Type::Char)
                | (Type::String, Type::String)
                | (Type::Bytes, Type::Bytes) => return,
                (Type::F32, Type::F64) => Change::Widened,
                (Type::F64, Type::F32) => Change::Narrowed,
                _ => Change::Type,
            },
        };
        self.differ(change, sent, taken);
    }

    /// Fields of records, or parameters: by name.
    fn fields(&mut self, sent: &[Member<'t>], taken: &[Member<'t>]) {
        let name = |member: &Member<'t>| &**member.0;
        self.order("fields", sent.iter().map(name), taken.iter().map(name));
        let by_name: HashMap<&str, &Type> = sent.iter().map(|(name, ty)| (&***name, *ty)).collect();
        let root = self.path.is_empty();
        let step = |name: &str| if root { name.to_owned() } else { format!(".{name}") };
        for (name, to) in taken {
            let from = by_name.get(&***name);
            self.at(step(name), |walk| match from {
                Some(from) => walk.types(from, to),
                None if to.is_optional() => walk.note(Change::Absent, None, Some(brief(to))),
                None => walk.note(Change::Missing, None, Some(brief(to))),
            });
        }
        let known: HashSet<&str> = taken.iter().map(|(name, _)| &***name).collect();
        for (name, from) in sent.iter().filter(|(name, _)| !known.contains(&***name)) {
            self.at(step(name), |walk| walk.note(Change::Ignored, Some(brief(from)), None));
        }
    }

    fn variants(&mut self, sent: &'t Variant, taken: &'t Variant) {
        self.order("cases", sent.cases.iter().map(|case| &*case.name), taken.cases.iter().map(|case| &*case.name));
        let shown = |name: &str, ty: Option<&Type>| {
            Some(ty.map_or_else(|| format!("case {name}"), |ty| format!("case {name}({})", brief(ty))))
        };
        let mut by_name: HashMap<&str, Option<&'t Type>> =
            sent.cases.iter().map(|case| (&*case.name, case.ty.as_ref())).collect();
        for case in &taken.cases {
            let from = by_name.remove(&*case.name);
            self.at(format!(".{}", case.name), |walk| match from {
                Some(from) => walk.payloads(from, case.ty.as_ref()),
                None => walk.note(Change::NeverSent, None, shown(&case.name, case.ty.as_ref())),
            });
        }
        for case in sent.cases.iter().filter(|case| by_name.contains_key(&*case.name)) {
            let told = shown(&case.name, case.ty.as_ref());
            self.at(format!(".{}", case.name), |walk| walk.note(Change::Unknown, told, None));
        }
    }

    /// What a case, or a side of a `result`, carries.
    fn payloads(&mut self, sent: Option<&'t Type>, taken: Option<&'t Type>) {
        let shown = |ty: Option<&Type>| Some(ty.map_or_else(|| "no value".to_owned(), brief));
        match (sent, taken) {
            (None, None) => {}
            (Some(from), Some(to)) => self.types(from, to),
            _ => self.note(Change::Payload, shown(sent), shown(taken)),
        }
    }

    /// Cases of an enum, or flags.
    fn labels(&mut self, what: &'static str, sent: &'t [Label], taken: &'t [Label]) {
        let plural = if what == "case" { "cases" } else { "flags" };
        self.order(plural, sent.iter().map(|label| &*label.name), taken.iter().map(|label| &*label.name));
        let names = |labels: &'t [Label]| -> HashSet<&'t str> { labels.iter().map(|label| &*label.name).collect() };
        let (known, possible) = (names(taken), names(sent));
        let shown = |label: &Label| Some(format!("{what} {}", label.name));
        for label in taken.iter().filter(|label| !possible.contains(&*label.name)) {
            self.at(format!(".{}", label.name), |walk| walk.note(Change::NeverSent, None, shown(label)));
        }
        for label in sent.iter().filter(|label| !known.contains(&*label.name)) {
            self.at(format!(".{}", label.name), |walk| walk.note(Change::Unknown, shown(label), None));
        }
    }

    /// Whether what both sides have comes in one order.
    fn order<'n>(&mut self, what: &str, sent: impl Iterator<Item = &'n str>, taken: impl Iterator<Item = &'n str>) {
        let mut places: HashMap<&str, usize> = HashMap::new();
        for (place, name) in sent.enumerate() {
            places.insert(name, place);
        }
        let both: Vec<_> = taken.filter_map(|name| places.get(name).map(|place| (*place, name))).collect();
        if both.is_sorted() {
            return;
        }
        let mut in_order = both.clone();
        in_order.sort_unstable();
        let list = |names: &[(usize, &str)]| {
            let names: Vec<_> = names.iter().map(|(_, name)| *name).collect();
            Some(super::text::shortened(&format!("{what} {}", names.join(", "))))
        };
        self.note(Change::Reordered, list(&in_order), list(&both));
    }
}

/// The lowest and the highest value of an integer type.
fn integer(ty: &Type) -> Option<(i128, i128)> {
    Some(match ty {
        Type::S8 => (i8::MIN.into(), i8::MAX.into()),
        Type::U8 => (u8::MIN.into(), u8::MAX.into()),
        Type::S16 => (i16::MIN.into(), i16::MAX.into()),
        Type::U16 => (u16::MIN.into(), u16::MAX.into()),
        Type::S32 => (i32::MIN.into(), i32::MAX.into()),
        Type::U32 => (u32::MIN.into(), u32::MAX.into()),
        Type::S64 => (i64::MIN.into(), i64::MAX.into()),
        Type::U64 => (u64::MIN.into(), u64::MAX.into()),
        _ => return None,
    })
}
