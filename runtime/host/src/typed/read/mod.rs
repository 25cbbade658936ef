//! From JSON to values, by type.
//!
//! Role: reads the data of an event into the arguments of a function, or only checks it. `serde_json` parses; what is here
//! decides what fits, by the mapping of the README ("Typed events as JSON").
//!
//! Invariants: a value tree is written over in place, so that events of one shape allocate nothing but longer texts; a tree
//! never has more than [`MAX_VALUES`] values, however short the JSON is that asks for them; depth is bounded by the type;
//! unknown members are passed over without recursion.

mod choice;
mod many;
mod members;

use std::cell::{Cell, RefCell};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use busway_contract::{Case, Enum, Field, Flags, KeyPath, Param, Type, Variant};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use wasmtime::component::Val;

use self::many::{elements, map, read_flags, tuple};
use self::members::{Members, Names, Slots};
use super::key::{inside as within, text};
use super::mismatch::{Given, Mismatch, Trail, among, expected};

/// Values that one event may consist of, counting every field and element. A tree of that many takes about 100 MB.
pub const MAX_VALUES: usize = 1_000_000;

/// How members that the type does not have are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unknown {
    /// They are passed over: the sender may know a newer version.
    Ignore,
    /// They are an error that names the nearest one: somebody wrote the JSON by hand.
    Refuse,
}

/// Checks the data of an event against the parameters of its function.
///
/// # Errors
/// The first place that does not fit.
pub fn check(params: &[Param], json: &[u8], unknown: Unknown) -> Result<(), Mismatch> {
    read(params, json, &Reading::new(unknown), Slots::None)
}

/// Checks the data of an event against the parameters of its function, and gives the key that it has: the text of what is at
/// `key`; none when that is empty.
///
/// # Errors
/// The first place that does not fit.
pub fn check_with_key(
    params: &[Param],
    key: Option<&KeyPath>,
    json: &[u8],
    unknown: Unknown,
) -> Result<Option<String>, Mismatch> {
    let cx = Reading { key: key.map(|path| path.param), ..Reading::new(unknown) };
    read(params, json, &cx, Slots::None)?;
    let found = cx.found.take();
    let found = found.as_ref().zip(key).and_then(|(found, path)| within(found, &path.fields));
    let text = found.and_then(text).filter(|text| !text.is_empty());
    Ok(text.map(std::borrow::Cow::into_owned))
}

/// Reads the data of an event into the arguments of a call. After an error they are in an undefined state, but of the
/// right type.
///
/// Gives how many bytes were allocated for it, at most `room`; what was written over is not counted.
pub(crate) fn read_into(
    params: &[Param],
    json: &[u8],
    arguments: &mut Vec<Val>,
    room: usize,
) -> Result<usize, Mismatch> {
    let cx = Reading { budget: Budget::of(room), ..Reading::new(Unknown::Ignore) };
    if arguments.len() != params.len() {
        let made = params.iter().map(|param| template(&param.ty, &cx.budget)).collect::<Option<_>>();
        *arguments = made.ok_or_else(no_room)?;
    }
    read(params, json, &cx, Slots::Arguments(arguments))?;
    Ok(room.saturating_sub(cx.budget.bytes.get()))
}

/// Reads one value alone; what is allocated for it is at most `room`.
///
/// # Errors
/// The first place that does not fit.
pub(crate) fn read_value(ty: &Type, json: &[u8], room: usize) -> Result<Val, Mismatch> {
    let cx = Reading { budget: Budget::of(room), ..Reading::new(Unknown::Ignore) };
    let mut val = template(ty, &cx.budget).ok_or_else(no_room)?;
    finish(&cx, json, |deserializer| Value { ty, slot: Some(&mut val), cx: &cx }.deserialize(deserializer))?;
    Ok(val)
}

fn read(params: &[Param], json: &[u8], cx: &Reading, slots: Slots<'_>) -> Result<(), Mismatch> {
    let members = Members { names: Names::Params(params), slots, cx };
    finish(cx, json, |deserializer| {
        cx.spend(params.iter().map(|param| values(&param.ty)).sum())?;
        deserializer.deserialize_any(members)
    })
}

fn finish<'j>(
    cx: &Reading,
    json: &'j [u8],
    read: impl FnOnce(&mut serde_json::Deserializer<serde_json::de::SliceRead<'j>>) -> Result<(), serde_json::Error>,
) -> Result<(), Mismatch> {
    let mut deserializer = serde_json::Deserializer::from_slice(json);
    read(&mut deserializer).and_then(|()| deserializer.end()).map_err(|error| cx.trail.take().into_mismatch(&error))
}

/// What one value takes, whatever it is.
const VALUE_BYTES: usize = size_of::<Val>();

/// What is said when the memory that values may take is used up.
const ROOM: &str = "values that fit into what is left of the service's `memory`";

fn no_room() -> Mismatch {
    Mismatch::Type { path: String::new(), expected: ROOM.into(), given: "more".into() }
}

/// What is left of [`MAX_VALUES`], and of the memory that the values may take.
struct Budget {
    values: Cell<usize>,
    bytes: Cell<usize>,
}

impl Budget {
    fn of(bytes: usize) -> Self {
        Self { values: Cell::new(MAX_VALUES), bytes: Cell::new(bytes) }
    }

    fn take(&self, values: usize) -> Option<()> {
        self.values.set(self.values.get().checked_sub(values)?);
        Some(())
    }

    fn allocate(&self, bytes: usize) -> Option<()> {
        self.bytes.set(self.bytes.get().checked_sub(bytes)?);
        Some(())
    }
}

/// What one reading shares.
struct Reading {
    unknown: Unknown,
    /// The place of the parameter whose value is to be found.
    key: Option<usize>,
    found: RefCell<Option<Val>>,
    budget: Budget,
    trail: RefCell<Trail>,
}

impl Reading {
    fn new(unknown: Unknown) -> Self {
        let (budget, trail) = (Budget::of(usize::MAX), RefCell::default());
        Self { unknown, key: None, found: RefCell::default(), budget, trail }
    }

    /// Notes what does not fit; the path is added on the way out.
    fn mismatch<E: Error>(&self, expected: impl fmt::Display, given: Given<'_>) -> E {
        self.trail.borrow_mut().begin(expected.to_string(), given.to_string());
        E::custom("mismatch")
    }

    fn at<T, E>(&self, step: impl FnOnce() -> String, result: Result<T, E>) -> Result<T, E> {
        if result.is_err() {
            self.trail.borrow_mut().step(step());
        }
        result
    }

    /// Notes that something is allocated.
    fn allocate<E: Error>(&self, bytes: usize) -> Result<(), E> {
        self.budget.allocate(bytes).ok_or_else(|| self.no_room())
    }

    fn no_room<E: Error>(&self) -> E {
        self.mismatch(ROOM, Given::Words("more"))
    }

    fn spend<E: Error>(&self, values: usize) -> Result<(), E> {
        let too_many = || format!("at most {MAX_VALUES} values in one event");
        self.budget.take(values).ok_or_else(|| self.mismatch(too_many(), Given::Words("more")))
    }
}

/// How many values one of a type has before anything is known of it. Counted alike whether it is read or only checked.
fn values(ty: &Type) -> usize {
    match ty {
        Type::Record(record) => 1 + record.fields.iter().map(|field| values(&field.ty)).sum::<usize>(),
        Type::Tuple(of) => 1 + of.iter().map(values).sum::<usize>(),
        Type::FixedList(of, length) => 1 + values(of).saturating_mul(*length as usize),
        _ => 1,
    }
}

/// A value of a type, to be written over; none when there is no room for it.
fn template(ty: &Type, budget: &Budget) -> Option<Val> {
    budget.allocate(VALUE_BYTES)?;
    Some(match ty {
        Type::Bool => Val::Bool(false),
        Type::S8 => Val::S8(0),
        Type::U8 => Val::U8(0),
        Type::S16 => Val::S16(0),
        Type::U16 => Val::U16(0),
        Type::S32 => Val::S32(0),
        Type::U32 => Val::U32(0),
        Type::S64 => Val::S64(0),
        Type::U64 => Val::U64(0),
        Type::F32 => Val::Float32(0.0),
        Type::F64 => Val::Float64(0.0),
        Type::Char => Val::Char(' '),
        Type::String => Val::String(String::new()),
        Type::Bytes | Type::List(_) => Val::List(Vec::new()),
        Type::FixedList(of, length) => {
            Val::FixedLengthList((0..*length).map(|_| template(of, budget)).collect::<Option<_>>()?)
        }
        Type::Map(..) => Val::Map(Vec::new()),
        Type::Option(_) => Val::Option(None),
        Type::Result(..) => Val::Result(Ok(None)),
        Type::Tuple(of) => Val::Tuple(of.iter().map(|ty| template(ty, budget)).collect::<Option<_>>()?),
        Type::Record(record) => {
            let field = |field: &Field| {
                budget.allocate(size_of::<String>() + field.name.len())?;
                Some((field.name.to_string(), template(&field.ty, budget)?))
            };
            Val::Record(record.fields.iter().map(field).collect::<Option<_>>()?)
        }
        Type::Variant(_) => Val::Variant(String::new(), None),
        Type::Enum(_) => Val::Enum(String::new()),
        Type::Flags(_) => Val::Flags(Vec::new()),
    })
}

/// Reads one value into its slot, or only checks it.
struct Value<'a> {
    ty: &'a Type,
    slot: Option<&'a mut Val>,
    cx: &'a Reading,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.ty {
            // Taken as they are written: rounding twice, over another width, would change some of them.
            Type::F32 | Type::F64 => {
                let text = <&RawValue>::deserialize(deserializer)?.get();
                self.float(text)
            }
            Type::Option(of) if matches!(**of, Type::F32 | Type::F64) => {
                let text = <&RawValue>::deserialize(deserializer)?.get();
                if text == "null" { self.visit_unit() } else { self.some()?.float(text) }
            }
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl Value<'_> {
    fn set(self, val: Val) {
        if let Some(slot) = self.slot {
            *slot = val;
        }
    }

    /// The value inside an option that is there; itself when it is no option. A nested option is written as an object, see
    /// [`Self::is_nested_option`], and stays.
    fn some<E: Error>(self) -> Result<Self, E> {
        let Type::Option(of) = self.ty else { return Ok(self) };
        if self.is_nested_option() {
            return Ok(self);
        }
        self.cx.spend(values(of))?;
        let slot = self.slot.map(|slot| inside(slot, of, self.cx)).transpose()?;
        Ok(Self { ty: of, slot, cx: self.cx })
    }

    fn is_nested_option(&self) -> bool {
        matches!(self.ty, Type::Option(of) if matches!(**of, Type::Option(_)))
    }

    fn wrong<E: Error>(&self, given: Given<'_>) -> E {
        self.cx.mismatch(expected(self.ty), given)
    }

    fn float<E: Error>(self, text: &str) -> Result<(), E> {
        // The names are short enough that nobody writes them with escapes.
        let word = text.strip_prefix('"').and_then(|text| text.strip_suffix('"'));
        let number = match word {
            None => Some(text).filter(|text| text.starts_with(|first: char| first == '-' || first.is_ascii_digit())),
            Some("NaN") => Some("nan"),
            Some("Infinity") => Some("inf"),
            Some("-Infinity") => Some("-inf"),
            Some(_) => None,
        };
        let Some(number) = number else { return Err(self.wrong(Given::Json(text))) };
        let is_far = |is_infinite: bool| is_infinite && word.is_none();
        match self.ty {
            Type::F32 => match number.parse::<f32>() {
                Ok(value) if !is_far(value.is_infinite()) => self.set(Val::Float32(value)),
                _ => return Err(self.wrong(Given::Json(text))),
            },
            _ => match number.parse::<f64>() {
                Ok(value) if !is_far(value.is_infinite()) => self.set(Val::Float64(value)),
                _ => return Err(self.wrong(Given::Json(text))),
            },
        }
        Ok(())
    }

    /// An integer of a type, if it is one and fits.
    fn integer<E: Error>(self, value: i128, given: Given<'_>) -> Result<(), E> {
        macro_rules! fit {
            ($val:ident) => {
                value.try_into().map(Val::$val).ok()
            };
        }
        let val = match self.ty {
            Type::S8 => fit!(S8),
            Type::U8 => fit!(U8),
            Type::S16 => fit!(S16),
            Type::U16 => fit!(U16),
            Type::S32 => fit!(S32),
            Type::U32 => fit!(U32),
            Type::S64 => fit!(S64),
            Type::U64 => fit!(U64),
            _ => None,
        };
        let Some(val) = val else { return Err(self.wrong(given)) };
        self.set(val);
        Ok(())
    }

    fn bytes<E: Error>(self, text: &str) -> Result<(), E> {
        let Ok(bytes) = STANDARD.decode(text) else { return Err(self.wrong(Given::Text(text))) };
        self.cx.spend(bytes.len())?;
        if let Some(slot) = self.slot {
            let Val::List(items) = slot else {
                self.cx.allocate(bytes.len().saturating_mul(VALUE_BYTES))?;
                *slot = Val::List(bytes.into_iter().map(Val::U8).collect());
                return Ok(());
            };
            self.cx.allocate(bytes.len().saturating_sub(items.capacity()).saturating_mul(VALUE_BYTES))?;
            items.clear();
            items.extend(bytes.into_iter().map(Val::U8));
        }
        Ok(())
    }

    /// A case without payload, or the name of an enum's case.
    fn label<E: Error>(self, text: &str) -> Result<(), E> {
        match self.ty {
            Type::Enum(cases) => {
                if !cases.cases.iter().any(|case| *case.name == *text) {
                    return Err(self.cx.mismatch(among(names_of_enum(cases)), Given::Text(text)));
                }
                match self.slot {
                    Some(Val::Enum(name)) => write_over(name, text, self.cx)?,
                    slot => Value { slot, ..self }.set(Val::Enum(text.to_owned())),
                }
            }
            Type::Variant(variant) => match find_case(variant, text) {
                Some(Case { ty: None, .. }) => self.set(Val::Variant(text.to_owned(), None)),
                Some(Case { ty: Some(ty), .. }) => {
                    let how = format!("{{\"{text}\": {ty}}}, since that case carries a value");
                    return Err(self.cx.mismatch(how, Given::Text(text)));
                }
                None => return Err(self.cx.mismatch(among(names_of_cases(variant)), Given::Text(text))),
            },
            _ => return Err(self.wrong(Given::Text(text))),
        }
        Ok(())
    }
}

fn write_over<E: Error>(text: &mut String, new: &str, cx: &Reading) -> Result<(), E> {
    cx.allocate(new.len().saturating_sub(text.capacity()))?;
    text.clear();
    text.push_str(new);
    Ok(())
}

fn names_of_enum(cases: &Enum) -> impl Iterator<Item = &str> {
    cases.cases.iter().map(|case| &*case.name)
}

fn names_of_cases(variant: &Variant) -> impl Iterator<Item = &str> {
    variant.cases.iter().map(|case| &*case.name)
}

fn names_of_flags(flags: &Flags) -> impl Iterator<Item = &str> {
    flags.flags.iter().map(|flag| &*flag.name)
}

fn find_case<'v>(variant: &'v Variant, name: &str) -> Option<&'v Case> {
    variant.cases.iter().find(|case| *case.name == *name)
}

/// The slot inside an option.
fn inside<'a, E: Error>(slot: &'a mut Val, ty: &Type, cx: &Reading) -> Result<&'a mut Val, E> {
    if !matches!(slot, Val::Option(Some(_))) {
        *slot = Val::Option(Some(Box::new(fresh(ty, cx)?)));
    }
    match slot {
        Val::Option(Some(inner)) => Ok(inner),
        _ => Err(E::custom("unreachable")),
    }
}

/// A new value to be written over.
fn fresh<E: Error>(ty: &Type, cx: &Reading) -> Result<Val, E> {
    match template(ty, &cx.budget) {
        Some(val) => Ok(val),
        None => Err(cx.no_room()),
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&expected(self.ty))
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<(), E> {
        let this = self.some()?;
        if !matches!(this.ty, Type::Bool) {
            return Err(this.wrong(Given::Bool(value)));
        }
        this.set(Val::Bool(value));
        Ok(())
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<(), E> {
        self.some()?.integer(value.into(), Given::Number(&value))
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<(), E> {
        self.some()?.integer(value.into(), Given::Number(&value))
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<(), E> {
        /// From here on a float does not tell an integer exactly.
        const EXACT: f64 = 9_007_199_254_740_992.0;
        let this = self.some()?;
        if value.fract() != 0.0 || value.abs() > EXACT {
            return Err(this.wrong(Given::Number(&value)));
        }
        this.integer(value as i128, Given::Number(&value))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<(), E> {
        let this = self.some()?;
        match this.ty {
            Type::String => {
                match this.slot {
                    Some(Val::String(held)) => write_over(held, text, this.cx)?,
                    slot => Value { slot, ..this }.set(Val::String(text.to_owned())),
                }
                Ok(())
            }
            Type::Char => {
                let mut chars = text.chars();
                match (chars.next(), chars.next()) {
                    (Some(value), None) => this.set(Val::Char(value)),
                    _ => return Err(this.wrong(Given::Text(text))),
                }
                Ok(())
            }
            Type::Bytes => this.bytes(text),
            Type::S64 | Type::U64 | Type::S32 | Type::U32 | Type::S16 | Type::U16 | Type::S8 | Type::U8 => {
                let digits = text.strip_prefix('-').unwrap_or(text);
                let is_plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
                match text.parse::<i128>() {
                    Ok(value) if is_plain => this.integer(value, Given::Text(text)),
                    _ => Err(this.wrong(Given::Text(text))),
                }
            }
            _ => this.label(text),
        }
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        match self.ty {
            Type::Option(_) => {
                self.set(Val::Option(None));
                Ok(())
            }
            _ => Err(self.wrong(Given::Words("null"))),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<(), A::Error> {
        let this = self.some()?;
        let cx = this.cx;
        match this.ty {
            Type::List(of) => {
                let list = match this.slot {
                    None => None,
                    Some(Val::List(items)) => Some(items),
                    Some(slot) => {
                        *slot = Val::List(Vec::new());
                        if let Val::List(items) = slot { Some(items) } else { None }
                    }
                };
                elements(seq, of, list, None, cx)
            }
            Type::FixedList(of, length) => {
                let list = match this.slot {
                    Some(Val::FixedLengthList(items)) => Some(items),
                    _ => None,
                };
                elements(seq, of, list, Some(*length as usize), cx)
            }
            Type::Tuple(of) => {
                let items = match this.slot {
                    Some(Val::Tuple(items)) => Some(&mut items[..]),
                    _ => None,
                };
                tuple(seq, of, items, cx)
            }
            Type::Map(key, value) => {
                let pairs = match this.slot {
                    Some(Val::Map(pairs)) => Some(pairs),
                    _ => None,
                };
                map(seq, (key, value), pairs, cx)
            }
            Type::Flags(flags) => {
                let held = match this.slot {
                    Some(Val::Flags(held)) => Some(held),
                    _ => None,
                };
                read_flags(seq, flags, held, cx)
            }
            _ => Err(this.wrong(Given::Words("an array"))),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<(), A::Error> {
        let this = self.some()?;
        let cx = this.cx;
        match this.ty {
            Type::Record(record) => {
                let slots = match this.slot {
                    Some(Val::Record(fields)) => Slots::Fields(fields),
                    _ => Slots::None,
                };
                Members { names: Names::Fields(&record.fields), slots, cx }.visit_map(map)
            }
            Type::Variant(_) | Type::Result(..) | Type::Option(_) => this.choice(map),
            _ => Err(this.wrong(Given::Words("an object"))),
        }
    }
}
