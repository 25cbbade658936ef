//! Arrays: lists, lists of fixed length, tuples, maps and flags.

use std::fmt;

use busway_contract::{Flags, Type};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use wasmtime::component::Val;

use super::{Reading, Value, fresh, names_of_flags, values};
use crate::typed::mismatch::{Given, among};

/// The next element of a list; its place is made once it is known to be there.
struct Element<'a> {
    of: &'a Type,
    /// How many values it stands for.
    one: usize,
    list: Option<&'a mut Vec<Val>>,
    count: usize,
    grows: bool,
    cx: &'a Reading,
}

impl<'de> DeserializeSeed<'de> for Element<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { of, one, mut list, count, grows, cx } = self;
        cx.spend(one)?;
        if let Some(items) = list.as_deref_mut()
            && grows
            && items.len() == count
        {
            items.push(fresh(of, cx)?);
        }
        let slot = list.and_then(|items| items.get_mut(count));
        Value { ty: of, slot, cx }.deserialize(deserializer)
    }
}

pub(super) fn elements<'de, A: SeqAccess<'de>>(
    mut seq: A,
    of: &Type,
    mut list: Option<&mut Vec<Val>>,
    length: Option<usize>,
    cx: &Reading,
) -> Result<(), A::Error> {
    let mut count = 0;
    let one = values(of);
    loop {
        // One that is too much is read as well, so that the message tells how many there are at least.
        let grows = length.is_none();
        let read = seq.next_element_seed(Element { of, one, list: list.as_deref_mut(), count, grows, cx });
        match cx.at(|| format!("[{count}]"), read)? {
            Some(()) => count += 1,
            None => break,
        }
    }
    match length {
        Some(length) if length != count => {
            Err(cx.mismatch(format!("an array of exactly {length} elements"), Given::Count(count)))
        }
        Some(_) => Ok(()),
        None => {
            if let Some(items) = list {
                items.truncate(count);
            }
            Ok(())
        }
    }
}

pub(super) fn tuple<'de, A: SeqAccess<'de>>(
    mut seq: A,
    of: &[Type],
    mut items: Option<&mut [Val]>,
    cx: &Reading,
) -> Result<(), A::Error> {
    let wanted = || format!("an array of exactly {} elements", of.len());
    for (place, ty) in of.iter().enumerate() {
        let slot = items.as_deref_mut().and_then(|items| items.get_mut(place));
        let read = seq.next_element_seed(Value { ty, slot, cx });
        if cx.at(|| format!("[{place}]"), read)?.is_none() {
            return Err(cx.mismatch(wanted(), Given::Count(place)));
        }
    }
    match seq.next_element::<IgnoredAny>()? {
        None => Ok(()),
        Some(_) => Err(cx.mismatch(wanted(), Given::Words("more"))),
    }
}

/// A pair of a map, as an array of two.
struct Pair<'a> {
    key: Value<'a>,
    value: Value<'a>,
}

impl<'de> DeserializeSeed<'de> for Pair<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Pair<'_> {
    fn wrong<E: Error>(&self, given: Given<'_>) -> E {
        self.key.cx.mismatch("an array of a key and a value", given)
    }
}

impl<'de> Visitor<'de> for Pair<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of a key and a value")
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        Err(self.wrong(Given::Bool(value)))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        Err(self.wrong(Given::Number(&value)))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        Err(self.wrong(Given::Number(&value)))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        Err(self.wrong(Given::Number(&value)))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        Err(self.wrong(Given::Text(text)))
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Err(self.wrong(Given::Words("null")))
    }

    fn visit_map<A: MapAccess<'de>>(self, _: A) -> Result<(), A::Error> {
        Err(self.wrong(Given::Words("an object")))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let cx = self.key.cx;
        let missing = |count| cx.mismatch("an array of a key and a value", Given::Count(count));
        let key = seq.next_element_seed(self.key);
        cx.at(|| "[0]".into(), key)?.ok_or_else(|| missing(0))?;
        let value = seq.next_element_seed(self.value);
        cx.at(|| "[1]".into(), value)?.ok_or_else(|| missing(1))?;
        match seq.next_element::<IgnoredAny>()? {
            None => Ok(()),
            Some(_) => Err(missing(3)),
        }
    }
}

/// The next entry of a map; its place is made once it is known to be there.
struct Entry<'a> {
    of: (&'a Type, &'a Type),
    pairs: Option<&'a mut Vec<(Val, Val)>>,
    count: usize,
    cx: &'a Reading,
}

impl<'de> DeserializeSeed<'de> for Entry<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        let Self { of: (key, value), mut pairs, count, cx } = self;
        cx.spend(values(key).saturating_add(values(value)))?;
        if let Some(pairs) = pairs.as_deref_mut()
            && pairs.len() == count
        {
            pairs.push((fresh(key, cx)?, fresh(value, cx)?));
        }
        let (key_slot, value_slot) = match pairs.and_then(|pairs| pairs.get_mut(count)) {
            Some((key, value)) => (Some(key), Some(value)),
            None => (None, None),
        };
        let key = Value { ty: key, slot: key_slot, cx };
        Pair { key, value: Value { ty: value, slot: value_slot, cx } }.deserialize(deserializer)
    }
}

pub(super) fn map<'de, A: SeqAccess<'de>>(
    mut seq: A,
    (key, value): (&Type, &Type),
    mut pairs: Option<&mut Vec<(Val, Val)>>,
    cx: &Reading,
) -> Result<(), A::Error> {
    let mut count = 0;
    loop {
        let read = seq.next_element_seed(Entry { of: (key, value), pairs: pairs.as_deref_mut(), count, cx });
        match cx.at(|| format!("[{count}]"), read)? {
            Some(()) => count += 1,
            None => break,
        }
    }
    if let Some(pairs) = pairs {
        pairs.truncate(count);
    }
    Ok(())
}

pub(super) fn read_flags<'de, A: SeqAccess<'de>>(
    mut seq: A,
    flags: &Flags,
    mut held: Option<&mut Vec<String>>,
    cx: &Reading,
) -> Result<(), A::Error> {
    if let Some(held) = held.as_deref_mut() {
        held.clear();
    }
    let mut seen = vec![false; flags.flags.len()];
    for count in 0.. {
        let mut name = Val::String(String::new());
        let read = seq.next_element_seed(Value { ty: &Type::String, slot: Some(&mut name), cx });
        if cx.at(|| format!("[{count}]"), read)?.is_none() {
            break;
        }
        let Val::String(name) = name else { break };
        let Some(place) = flags.flags.iter().position(|flag| *flag.name == *name) else {
            return Err(cx.mismatch(among(names_of_flags(flags)), Given::Text(&name)));
        };
        if std::mem::replace(&mut seen[place], true) {
            return Err(cx.mismatch("each flag once", Given::Text(&name)));
        }
        if let Some(held) = held.as_deref_mut() {
            held.push(name);
        }
    }
    Ok(())
}
