//! Contracts out of parsed WIT: names of types and doc comments included.
//!
//! Invariant: what this reads of an interface is, names and docs aside, what [`crate::component`] reads of a component that
//! has this interface in its type, and is refused for the same reasons.

use std::collections::HashMap;
use std::sync::Arc;

use wit_parser::{FunctionKind, InterfaceId, PackageId, Resolve, TypeDefKind, TypeId, WorldItem};

use crate::component::named;
use crate::model::{Contract, Direction, Function, Param};
use crate::types::{Case, Docs, Enum, Field, Flags, Label, Record, Type, Variant};
use crate::{ContractId, MAX_DEPTH, MAX_FUNCTIONS, MAX_NODES};

use super::{Found, Source};

/// The contracts of a package, and those of other packages that its worlds import and export.
pub(super) fn package(resolve: &Resolve, package: PackageId) -> Source {
    let mut source = Source::default();
    for (_, interface) in &resolve.packages[package].interfaces {
        take(resolve, *interface, None, &mut source);
    }
    for (_, world) in &resolve.packages[package].worlds {
        let world = &resolve.worlds[*world];
        for (direction, items) in [(Direction::Produces, &world.imports), (Direction::Handles, &world.exports)] {
            for item in items.values() {
                let WorldItem::Interface { id, .. } = item else { continue };
                if resolve.interfaces[*id].package != Some(package) {
                    take(resolve, *id, Some(direction), &mut source);
                }
            }
        }
    }
    source
}

fn take(resolve: &Resolve, interface: InterfaceId, direction: Option<Direction>, source: &mut Source) {
    match contract(resolve, interface) {
        Ok(Some(contract)) => {
            let found = Found { direction, contract };
            if !source.found.contains(&found) {
                source.found.push(found);
            }
        }
        Ok(None) => {}
        Err(problem) => source.problems.push(problem),
    }
}

/// An interface, if it is a contract; or why it cannot be carried.
pub(super) fn contract(resolve: &Resolve, interface: InterfaceId) -> Result<Option<Contract>, String> {
    let Some(Ok(id)) = resolve.id_of(interface).map(|name| name.parse::<ContractId>()) else { return Ok(None) };
    let interface = &resolve.interfaces[interface];
    if id.is_reserved() || interface.functions.is_empty() {
        return Ok(None);
    }
    let refuse = |place: &str, reason: &str| Err(format!("`{id}` cannot be carried by the bus: {place}: {reason}"));
    for (name, ty) in &interface.types {
        if matches!(resolve.types[*ty].kind, TypeDefKind::Resource) {
            return refuse(name, RESOURCE);
        }
    }
    if interface.functions.len() > MAX_FUNCTIONS {
        return refuse("its functions", &format!("there are more than {MAX_FUNCTIONS}"));
    }
    let mut reader = Reader { resolve, path: Vec::new(), nodes: 0, named: HashMap::new() };
    let mut functions = Vec::new();
    for (name, function) in &interface.functions {
        if function.kind != FunctionKind::Freestanding {
            return refuse(name, "only a plain `func` can be an event or a request");
        }
        reader.nodes = 0;
        reader.path.clear();
        match function_of(&mut reader, function) {
            Ok(function) => functions.push(function),
            Err(reason) => return refuse(&format!("{name}({})", reader.path.concat()), &reason),
        }
    }
    Ok(Some(Contract { docs: docs(&interface.docs), id, functions }))
}

const RESOURCE: &str = "a resource cannot leave its process; pass its data as a record";

fn docs(docs: &wit_parser::Docs) -> Docs {
    docs.contents.as_deref().map(str::trim).filter(|text| !text.is_empty()).map(Arc::from)
}

fn function_of(reader: &mut Reader<'_>, function: &wit_parser::Function) -> Result<Function, String> {
    let mut params = Vec::with_capacity(function.params.len());
    named(&function.name)?;
    for param in &function.params {
        named(&param.name)?;
        let ty = reader.at(param.name.clone(), |reader| reader.value(&param.ty))?;
        params.push(Param { name: param.name.as_str().into(), ty });
    }
    let result = match &function.result {
        None => None,
        Some(ty) => Some(reader.at("result".into(), |reader| reader.value(ty))?),
    };
    Ok(Function { name: function.name.as_str().into(), docs: docs(&function.docs), params, result })
}

/// Walks types. After an error the path says where.
struct Reader<'r> {
    resolve: &'r Resolve,
    path: Vec<String>,
    nodes: usize,
    /// Named types that were read before, with their number of nodes: one that is used twice is shared.
    named: HashMap<TypeId, (Type, usize, usize)>,
}

impl Reader<'_> {
    fn at<T>(&mut self, step: String, read: impl FnOnce(&mut Self) -> Result<T, String>) -> Result<T, String> {
        self.path.push(step);
        let read = read(self)?;
        self.path.pop();
        Ok(read)
    }

    fn check(&self) -> Result<(), String> {
        if self.nodes > MAX_NODES {
            return Err(format!("its types have more than {MAX_NODES} parts in all; make them smaller"));
        }
        if self.path.len() > MAX_DEPTH {
            return Err(format!("its types are nested more than {MAX_DEPTH} deep; make them flatter"));
        }
        Ok(())
    }

    fn value(&mut self, ty: &wit_parser::Type) -> Result<Type, String> {
        let mut ty = *ty;
        let id = loop {
            let wit_parser::Type::Id(id) = ty else {
                self.nodes += 1;
                self.check()?;
                return primitive(ty);
            };
            // An alias is what it stands for.
            match self.resolve.types[id].kind {
                TypeDefKind::Type(of) => ty = of,
                _ => break id,
            }
        };
        if let Some((ty, nodes, depth)) = self.named.get(&id)
            && self.path.len() + depth <= MAX_DEPTH
        {
            let ty = ty.clone();
            self.nodes += nodes;
            self.check()?;
            return Ok(ty);
        }
        self.nodes += 1;
        self.check()?;
        let before = self.nodes - 1;
        let ty = self.defined(id)?;
        self.named.insert(id, (ty.clone(), self.nodes - before, depth(&ty)));
        Ok(ty)
    }

    fn defined(&mut self, id: TypeId) -> Result<Type, String> {
        let resolve = self.resolve;
        let def = &resolve.types[id];
        let (name, about) = (def.name.as_deref().map(Arc::<str>::from), docs(&def.docs));
        Ok(match &def.kind {
            TypeDefKind::Record(record) => {
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    named(&field.name)?;
                    let ty = self.at(format!(".{}", field.name), |reader| reader.value(&field.ty))?;
                    fields.push(Field { name: field.name.as_str().into(), docs: docs(&field.docs), ty });
                }
                Type::Record(Record { name, docs: about, fields }.into())
            }
            TypeDefKind::Variant(variant) => {
                let mut cases = Vec::with_capacity(variant.cases.len());
                for case in &variant.cases {
                    named(&case.name)?;
                    let ty = match &case.ty {
                        None => None,
                        Some(ty) => Some(self.at(format!(".{}", case.name), |reader| reader.value(ty))?),
                    };
                    cases.push(Case { name: case.name.as_str().into(), docs: docs(&case.docs), ty });
                }
                Type::Variant(Variant { name, docs: about, cases }.into())
            }
            TypeDefKind::Enum(of) => {
                let cases: Vec<_> =
                    of.cases.iter().map(|case| label(&case.name, &case.docs)).collect::<Result<_, _>>()?;
                self.nodes = self.nodes.saturating_add(cases.len());
                self.check()?;
                Type::Enum(Enum { name, docs: about, cases }.into())
            }
            TypeDefKind::Flags(of) => {
                let flags: Vec<_> =
                    of.flags.iter().map(|flag| label(&flag.name, &flag.docs)).collect::<Result<_, _>>()?;
                self.nodes = self.nodes.saturating_add(flags.len());
                self.check()?;
                Type::Flags(Flags { name, docs: about, flags }.into())
            }
            kind => self.unnamed(kind)?,
        })
    }

    fn unnamed(&mut self, kind: &TypeDefKind) -> Result<Type, String> {
        Ok(match kind {
            TypeDefKind::List(of) => match self.at("[]".into(), |reader| reader.value(of))? {
                Type::U8 => Type::Bytes,
                of => Type::List(of.into()),
            },
            TypeDefKind::FixedLengthList(of, length) => {
                let before = self.nodes;
                let of = self.at("[]".into(), |reader| reader.value(of))?;
                let one = self.nodes - before;
                self.nodes = before.saturating_add(one.saturating_mul(*length as usize));
                self.check()?;
                Type::FixedList(of.into(), *length)
            }
            TypeDefKind::Map(key, value) => {
                let key = self.at("[key]".into(), |reader| reader.value(key))?;
                Type::Map(key.into(), self.at("[value]".into(), |reader| reader.value(value))?.into())
            }
            TypeDefKind::Option(of) => Type::Option(self.at("?".into(), |reader| reader.value(of))?.into()),
            TypeDefKind::Result(of) => {
                let mut side = |name: &str, ty: &Option<wit_parser::Type>| match ty {
                    None => Ok(None),
                    Some(ty) => self.at(format!(".{name}"), |reader| reader.value(ty)).map(|ty| Some(Arc::new(ty))),
                };
                Type::Result(side("ok", &of.ok)?, side("err", &of.err)?)
            }
            TypeDefKind::Tuple(tuple) => {
                let mut of = Vec::with_capacity(tuple.types.len());
                for (place, ty) in tuple.types.iter().enumerate() {
                    of.push(self.at(format!("[{place}]"), |reader| reader.value(ty))?);
                }
                Type::Tuple(of.into())
            }
            TypeDefKind::Resource | TypeDefKind::Handle(_) => return Err(RESOURCE.into()),
            TypeDefKind::Future(_) => {
                return Err("a future cannot be stored; publish another event when the value is there".into());
            }
            TypeDefKind::Stream(_) => {
                return Err("a stream cannot be stored; pass a list, or publish an event for each part".into());
            }
            _ => return Err("a type of an unknown kind".into()),
        })
    }
}

/// How many steps a path inside a type may have.
fn depth(ty: &Type) -> usize {
    ty.inner().iter().map(|inner| 1 + depth(inner)).max().unwrap_or(0)
}

fn label(name: &str, about: &wit_parser::Docs) -> Result<Label, String> {
    Ok(Label { name: named(name)?.into(), docs: docs(about) })
}

fn primitive(ty: wit_parser::Type) -> Result<Type, String> {
    use wit_parser::Type as Wit;
    Ok(match ty {
        Wit::Bool => Type::Bool,
        Wit::S8 => Type::S8,
        Wit::U8 => Type::U8,
        Wit::S16 => Type::S16,
        Wit::U16 => Type::U16,
        Wit::S32 => Type::S32,
        Wit::U32 => Type::U32,
        Wit::S64 => Type::S64,
        Wit::U64 => Type::U64,
        Wit::F32 => Type::F32,
        Wit::F64 => Type::F64,
        Wit::Char => Type::Char,
        Wit::String => Type::String,
        Wit::ErrorContext => return Err("an error context cannot leave its process; pass a string".into()),
        Wit::Id(_) => return Err("a type of an unknown kind".into()),
    })
}
