//! Objects with named members: records, and the parameters of a function.

use std::fmt;

use busway_contract::{Field, Param, Type};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use wasmtime::component::Val;

use super::{Reading, Unknown, Value, fresh};
use crate::typed::mismatch::{Given, among, expected};

/// The named members of an object.
#[derive(Clone, Copy)]
pub(super) enum Names<'a> {
    Params(&'a [Param]),
    Fields(&'a [Field]),
}

impl<'a> Names<'a> {
    fn len(self) -> usize {
        match self {
            Self::Params(params) => params.len(),
            Self::Fields(fields) => fields.len(),
        }
    }

    fn get(self, place: usize) -> (&'a str, &'a Type) {
        match self {
            Self::Params(params) => (&params[place].name, &params[place].ty),
            Self::Fields(fields) => (&fields[place].name, &fields[place].ty),
        }
    }

    fn all(self) -> impl Iterator<Item = &'a str> {
        (0..self.len()).map(move |place| self.get(place).0)
    }
}

/// Where the members go.
pub(super) enum Slots<'a> {
    None,
    Arguments(&'a mut [Val]),
    Fields(&'a mut [(String, Val)]),
}

impl Slots<'_> {
    fn at(&mut self, place: usize) -> Option<&mut Val> {
        match self {
            Self::None => None,
            Self::Arguments(arguments) => arguments.get_mut(place),
            Self::Fields(fields) => fields.get_mut(place).map(|(_, slot)| slot),
        }
    }
}

/// An object with named members: a record, or the parameters of a function.
pub(super) struct Members<'a> {
    pub(super) names: Names<'a>,
    pub(super) slots: Slots<'a>,
    pub(super) cx: &'a Reading,
}

/// The name of a member; its place if there is one of that name. Mostly members come in the order of the type.
struct MemberName<'a> {
    names: Names<'a>,
    next: usize,
    cx: &'a Reading,
}

impl<'de> DeserializeSeed<'de> for MemberName<'_> {
    type Value = Option<usize>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberName<'_> {
    type Value = Option<usize>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a member")
    }

    fn visit_str<E: Error>(self, name: &str) -> Result<Self::Value, E> {
        let (names, next) = (self.names, self.next);
        if next < names.len() && names.get(next).0 == name {
            return Ok(Some(next));
        }
        let found = (0..names.len()).find(|place| names.get(*place).0 == name);
        if found.is_none() && self.cx.unknown == Unknown::Refuse {
            return Err(self.cx.mismatch(among(names.all()), Given::Member(name)));
        }
        Ok(found)
    }
}

/// Which members were there.
enum Seen {
    Few(u64),
    Many(Vec<bool>),
}

impl Seen {
    fn new(members: usize) -> Self {
        if members <= 64 { Self::Few(0) } else { Self::Many(vec![false; members]) }
    }

    /// Notes one; whether it was there before.
    fn note(&mut self, place: usize) -> bool {
        match self {
            Self::Few(bits) => {
                let was = *bits & (1 << place) != 0;
                *bits |= 1 << place;
                was
            }
            Self::Many(seen) => std::mem::replace(&mut seen[place], true),
        }
    }
}

impl<'de> Visitor<'de> for Members<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "an object with {}", self.names.all().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { names, mut slots, cx } = self;
        let count = names.len();
        let mut seen = Seen::new(count);
        let mut next = 0;
        while let Some(place) = map.next_key_seed(MemberName { names, next, cx })? {
            let Some(place) = place else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let (name, ty) = names.get(place);
            if seen.note(place) {
                return Err(cx.mismatch("each member once", Given::Member(name)));
            }
            if matches!(names, Names::Params(_)) && cx.key == Some(place) {
                let mut found = fresh(ty, cx)?;
                let read = map.next_value_seed(Value { ty, slot: Some(&mut found), cx });
                cx.at(|| format!(".{name}"), read)?;
                cx.found.replace(Some(found));
            } else {
                let read = map.next_value_seed(Value { ty, slot: slots.at(place), cx });
                cx.at(|| format!(".{name}"), read)?;
            }
            next = place + 1;
        }
        for place in 0..count {
            if !seen.note(place) {
                let (name, ty) = names.get(place);
                if !ty.is_optional() {
                    let missing = cx.mismatch(expected(ty), Given::Words("nothing"));
                    return cx.at(|| format!(".{name}"), Err(missing));
                }
                if let Some(slot) = slots.at(place) {
                    *slot = Val::Option(None);
                }
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        Err(self.cx.mismatch("an object", Given::Bool(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        Err(self.cx.mismatch("an object", Given::Number(&value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        Err(self.cx.mismatch("an object", Given::Number(&value)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        Err(self.cx.mismatch("an object", Given::Number(&value)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Err(self.cx.mismatch("an object", Given::Text(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Err(self.cx.mismatch("an object", Given::Words("null")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.cx.mismatch("an object", Given::Words("an array")))
    }
}
