//! Comparing a component's side of `busway:bus` with ours, by structure.
//!
//! Role: finds the first place where a function differs and says what was expected there, because the engine's own
//! message stops short of it. Names of types do not matter, names of fields and cases do.

use std::fmt::Write;
use std::sync::OnceLock;

use wit_parser::{Function, InterfaceId, Resolve, Type, TypeDefKind};

use super::Problem;

/// Our side.
const WIT: &str = include_str!("../../../../wit/bus.wit");

/// How deep types may nest before the comparison gives up and calls them equal; ours nest four deep.
const DEPTH: usize = 16;

fn ours() -> Option<&'static Resolve> {
    static OURS: OnceLock<Option<Resolve>> = OnceLock::new();
    let parse = || {
        let mut resolve = Resolve::default();
        resolve.push_str("bus.wit", WIT).ok()?;
        Some(resolve)
    };
    OURS.get_or_init(parse).as_ref()
}

fn our_interface(resolve: &Resolve, interface: &str) -> Option<InterfaceId> {
    let plain = interface.split('@').next()?.strip_prefix("busway:bus/")?;
    resolve.interfaces.iter().find(|(_, found)| found.name.as_deref() == Some(plain)).map(|(id, _)| id)
}

/// What is wrong with an imported interface of ours: functions that we do not have, or have with another type.
pub(super) fn import(theirs: &Resolve, id: InterfaceId, interface: &str) -> Vec<Problem> {
    let Some(ours) = ours() else { return Vec::new() };
    let Some(our_id) = our_interface(ours, interface) else { return Vec::new() };
    let problem = |(name, function): (&String, &Function)| {
        let difference = match ours.interfaces[our_id].functions.get(name) {
            None => absent(ours, our_id, name),
            Some(expected) => differ(ours, expected, theirs, function)?,
        };
        Some(Problem::WrongType { interface: interface.into(), function: name.clone(), difference })
    };
    theirs.interfaces[id].functions.iter().filter_map(problem).collect()
}

/// What is wrong with an exported handler: functions that are missing or have another type.
pub(super) fn handler(theirs: &Resolve, id: InterfaceId, interface: &str) -> Vec<Problem> {
    let Some(ours) = ours() else { return Vec::new() };
    let Some(our_id) = our_interface(ours, interface) else { return Vec::new() };
    let problem = |(name, expected): (&String, &Function)| {
        let difference = match theirs.interfaces[id].functions.get(name) {
            None => format!("it is missing, expected {}", signature(ours, expected)),
            Some(found) => differ(ours, expected, theirs, found)?,
        };
        Some(Problem::WrongType { interface: interface.into(), function: name.clone(), difference })
    };
    ours.interfaces[our_id].functions.iter().filter_map(problem).collect()
}

/// Says that there is no such function, and which one may have been meant.
fn absent(ours: &Resolve, id: InterfaceId, name: &str) -> String {
    let likeness = |known: &str| strsim::normalized_damerau_levenshtein(name, known);
    let functions = ours.interfaces[id].functions.keys().map(|known| (likeness(known), known));
    let closest = functions.filter(|(likeness, _)| *likeness >= 0.7).max_by(|one, other| one.0.total_cmp(&other.0));
    let hint = closest.map_or_else(String::new, |(_, known)| format!("; did you mean `{known}`?"));
    format!("there is no such function{hint}")
}

/// How a function differs from ours, if it does.
fn differ(ours: &Resolve, expected: &Function, theirs: &Resolve, found: &Function) -> Option<String> {
    let place = if expected.params.len() == found.params.len() && expected.result.is_some() == found.result.is_some() {
        let params = expected.params.iter().zip(&found.params);
        let result = expected.result.iter().zip(&found.result);
        params
            .map(|(one, other)| (one.name.clone(), &one.ty, &other.ty))
            .chain(result.map(|(one, other)| ("its result".to_owned(), one, other)))
            .find_map(|(path, one, other)| first_difference(ours, one, theirs, other, &path, 0))?
    } else {
        "the number of parameters or results differs".into()
    };
    let (expected, found) = (signature(ours, expected), signature(theirs, found));
    // Named types that differ inside have one signature; saying it twice explains nothing.
    Some(if expected == found { place } else { format!("{place} (expected {expected}, found {found})") })
}

/// The first place where two types differ.
fn first_difference(
    ours: &Resolve,
    one: &Type,
    theirs: &Resolve,
    other: &Type,
    path: &str,
    depth: usize,
) -> Option<String> {
    let (one, other) = (resolved(ours, one), resolved(theirs, other));
    let unequal = || Some(format!("{path} is {}, expected {}", text(theirs, &other), text(ours, &one)));
    if depth >= DEPTH {
        return None;
    }
    let (one_id, other_id) = match (one, other) {
        (Type::Id(one), Type::Id(other)) => (one, other),
        (one, other) if one == other => return None,
        _ => return unequal(),
    };
    let deeper = |one: &Type, other: &Type, path: String| first_difference(ours, one, theirs, other, &path, depth + 1);
    let optional = |one: Option<&Type>, other: Option<&Type>, path: String| match (one, other) {
        (Some(one), Some(other)) => deeper(one, other, path),
        (None, None) => None,
        _ => unequal(),
    };
    match (&ours.types[one_id].kind, &theirs.types[other_id].kind) {
        (TypeDefKind::Record(one), TypeDefKind::Record(other)) => {
            let names = |record: &wit_parser::Record| record.fields.iter().map(|f| f.name.clone()).collect::<Vec<_>>();
            let (wanted, found) = (names(one), names(other));
            if wanted != found {
                let found = found.join(", ");
                return Some(format!("{path} has the fields {found}, expected {}", wanted.join(", ")));
            }
            let mut fields = one.fields.iter().zip(&other.fields);
            fields.find_map(|(one, other)| deeper(&one.ty, &other.ty, format!("{path}.{}", one.name)))
        }
        (TypeDefKind::Variant(one), TypeDefKind::Variant(other)) => {
            let names =
                |variant: &wit_parser::Variant| variant.cases.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
            let (wanted, found) = (names(one), names(other));
            if wanted != found {
                let found = found.join(", ");
                return Some(format!("{path} has the cases {found}, expected {}", wanted.join(", ")));
            }
            let mut cases = one.cases.iter().zip(&other.cases);
            cases.find_map(|(one, other)| optional(one.ty.as_ref(), other.ty.as_ref(), format!("{path}.{}", one.name)))
        }
        (TypeDefKind::Enum(one), TypeDefKind::Enum(other)) => {
            let names = |list: &wit_parser::Enum| list.cases.iter().map(|c| c.name.clone()).collect::<Vec<_>>();
            if names(one) == names(other) { None } else { unequal() }
        }
        (TypeDefKind::Option(one), TypeDefKind::Option(other)) => deeper(one, other, path.into()),
        (TypeDefKind::List(one), TypeDefKind::List(other)) => deeper(one, other, format!("{path}[]")),
        (TypeDefKind::Result(one), TypeDefKind::Result(other)) => {
            optional(one.ok.as_ref(), other.ok.as_ref(), format!("{path}.ok"))
                .or_else(|| optional(one.err.as_ref(), other.err.as_ref(), format!("{path}.err")))
        }
        _ => unequal(),
    }
}

/// A type without its aliases.
fn resolved(resolve: &Resolve, ty: &Type) -> Type {
    let mut ty = *ty;
    while let Type::Id(id) = ty {
        match resolve.types[id].kind {
            TypeDefKind::Type(aliased) => ty = aliased,
            _ => break,
        }
    }
    ty
}

/// A function's type as WIT.
fn signature(resolve: &Resolve, function: &Function) -> String {
    let params: Vec<_> = function.params.iter().map(|p| format!("{}: {}", p.name, text(resolve, &p.ty))).collect();
    let mut signature = format!("func({})", params.join(", "));
    if let Some(result) = &function.result {
        let _ = write!(signature, " -> {}", text(resolve, result));
    }
    signature
}

/// A type as WIT; named types by their name.
fn text(resolve: &Resolve, ty: &Type) -> String {
    let id = match ty {
        Type::Id(id) => *id,
        Type::Bool => return "bool".into(),
        Type::U8 => return "u8".into(),
        Type::U16 => return "u16".into(),
        Type::U32 => return "u32".into(),
        Type::U64 => return "u64".into(),
        Type::S8 => return "s8".into(),
        Type::S16 => return "s16".into(),
        Type::S32 => return "s32".into(),
        Type::S64 => return "s64".into(),
        Type::F32 => return "f32".into(),
        Type::F64 => return "f64".into(),
        Type::Char => return "char".into(),
        Type::String => return "string".into(),
        Type::ErrorContext => return "error-context".into(),
    };
    let found = &resolve.types[id];
    if let Some(name) = &found.name {
        return name.clone();
    }
    let optional = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "_".into(), |ty| text(resolve, ty));
    match &found.kind {
        TypeDefKind::Option(ty) => format!("option<{}>", text(resolve, ty)),
        TypeDefKind::List(ty) => format!("list<{}>", text(resolve, ty)),
        TypeDefKind::Result(result) => match (&result.ok, &result.err) {
            (None, None) => "result".into(),
            (Some(ok), None) => format!("result<{}>", text(resolve, ok)),
            (ok, err) => format!("result<{}, {}>", optional(ok), optional(err)),
        },
        TypeDefKind::Tuple(tuple) => {
            format!("tuple<{}>", tuple.types.iter().map(|ty| text(resolve, ty)).collect::<Vec<_>>().join(", "))
        }
        TypeDefKind::Type(ty) => text(resolve, ty),
        other => other.as_str().into(),
    }
}
