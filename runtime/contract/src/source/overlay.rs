//! Names and docs from WIT onto what a component's own type says.
//!
//! The component decides what is there; names and docs are taken over wherever the shapes agree, and left out where they do
//! not, so that a component with the docs of another version is described by what it is.

use std::sync::Arc;

use crate::model::{Contract, Function};
use crate::types::{Case, Docs, Enum, Field, Flags, Label, Record, Type, Variant};

/// Takes names and docs over.
pub(super) fn contract(onto: &mut Contract, from: &Contract) {
    fill(&mut onto.docs, &from.docs);
    for function in &mut onto.functions {
        if let Some(from) = from.function(&function.name) {
            self::function(function, from);
        }
    }
}

fn function(onto: &mut Function, from: &Function) {
    fill(&mut onto.docs, &from.docs);
    for param in &mut onto.params {
        if let Some(from) = from.params.iter().find(|other| other.name == param.name) {
            param.ty = merged(&param.ty, &from.ty);
        }
    }
    if let (Some(result), Some(from)) = (&mut onto.result, &from.result) {
        *result = merged(result, from);
    }
}

fn fill(onto: &mut Docs, from: &Docs) {
    if onto.is_none() {
        onto.clone_from(from);
    }
}

fn either(one: &Docs, other: &Docs) -> Docs {
    one.as_ref().or(other.as_ref()).cloned()
}

fn arc(onto: &Arc<Type>, from: &Arc<Type>) -> Arc<Type> {
    Arc::new(merged(onto, from))
}

fn maybe(onto: Option<&Arc<Type>>, from: Option<&Arc<Type>>) -> Option<Arc<Type>> {
    match (onto, from) {
        (Some(onto), Some(from)) => Some(arc(onto, from)),
        (onto, _) => onto.cloned(),
    }
}

/// The first type with the names and docs of the second, where the shapes agree.
fn merged(onto: &Type, from: &Type) -> Type {
    match (onto, from) {
        (Type::List(onto), Type::List(from)) => Type::List(arc(onto, from)),
        (Type::FixedList(onto, length), Type::FixedList(from, _)) => Type::FixedList(arc(onto, from), *length),
        (Type::Map(key, value), Type::Map(from_key, from_value)) => {
            Type::Map(arc(key, from_key), arc(value, from_value))
        }
        (Type::Option(onto), Type::Option(from)) => Type::Option(arc(onto, from)),
        (Type::Result(ok, err), Type::Result(from_ok, from_err)) => {
            Type::Result(maybe(ok.as_ref(), from_ok.as_ref()), maybe(err.as_ref(), from_err.as_ref()))
        }
        (Type::Tuple(onto), Type::Tuple(from)) if onto.len() == from.len() => {
            Type::Tuple(onto.iter().zip(from.iter()).map(|(onto, from)| merged(onto, from)).collect())
        }
        (Type::Record(onto), Type::Record(from)) if alike(&onto.fields, &from.fields, |field| &field.name) => {
            let both = onto.fields.iter().zip(&from.fields);
            let fields = both.map(|(onto, from)| Field {
                name: onto.name.clone(),
                docs: either(&onto.docs, &from.docs),
                ty: merged(&onto.ty, &from.ty),
            });
            let (name, docs) = (onto.name.clone().or(from.name.clone()), either(&onto.docs, &from.docs));
            Type::Record(Arc::new(Record { name, docs, fields: fields.collect() }))
        }
        (Type::Variant(onto), Type::Variant(from)) if alike(&onto.cases, &from.cases, |case| &case.name) => {
            let cases = onto.cases.iter().zip(&from.cases).map(|(onto, from)| Case {
                name: onto.name.clone(),
                docs: either(&onto.docs, &from.docs),
                ty: match (&onto.ty, &from.ty) {
                    (Some(onto), Some(from)) => Some(merged(onto, from)),
                    (onto, _) => onto.clone(),
                },
            });
            let (name, docs) = (onto.name.clone().or(from.name.clone()), either(&onto.docs, &from.docs));
            Type::Variant(Arc::new(Variant { name, docs, cases: cases.collect() }))
        }
        (Type::Enum(onto), Type::Enum(from)) if alike(&onto.cases, &from.cases, |case| &case.name) => {
            let (name, docs) = (onto.name.clone().or(from.name.clone()), either(&onto.docs, &from.docs));
            Type::Enum(Arc::new(Enum { name, docs, cases: labels(&onto.cases, &from.cases) }))
        }
        (Type::Flags(onto), Type::Flags(from)) if alike(&onto.flags, &from.flags, |flag| &flag.name) => {
            let (name, docs) = (onto.name.clone().or(from.name.clone()), either(&onto.docs, &from.docs));
            Type::Flags(Arc::new(Flags { name, docs, flags: labels(&onto.flags, &from.flags) }))
        }
        (onto, _) => onto.clone(),
    }
}

fn labels(onto: &[Label], from: &[Label]) -> Vec<Label> {
    let both = onto.iter().zip(from);
    both.map(|(onto, from)| Label { name: onto.name.clone(), docs: either(&onto.docs, &from.docs) }).collect()
}

/// Whether both have the same members in the same order.
fn alike<T>(these: &[T], those: &[T], name: impl Fn(&T) -> &Arc<str>) -> bool {
    these.iter().map(&name).eq(those.iter().map(&name))
}
