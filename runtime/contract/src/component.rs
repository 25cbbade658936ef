//! The contracts that a component produces and handles, read from the component's own type.
//!
//! Role: direction, functions and types as the binary has them: an import is listed with the functions that the component
//! calls, and nothing that tools put beside it. Names of types and doc comments are not here; see the WIT for them.
//!
//! A contract is a named instance with at least one function and no resource, outside of [`crate::RESERVED`]. Functions
//! and exports that stand alone, and instances that only hold types, are something else and are passed over.

use std::sync::Arc;

use wasmparser::component_types::{
    ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncType, ComponentInstanceType,
    ComponentValType,
};
use wasmparser::types::TypesRef;
use wasmparser::{
    ComponentType, ComponentTypeDeclaration, InstanceTypeDeclaration, Parser, Payload, PrimitiveValType, ValidPayload,
    Validator, WasmFeatures,
};

use crate::id::ContractId;
use crate::model::{Contract, Direction, Function, Param, Refused, Use};
use crate::types::{Case, Enum, Field, Flags, Label, Record, Type, Variant};
use crate::{MAX_DEPTH, MAX_FUNCTIONS, MAX_NAME, MAX_NODES, MAX_TOTAL_NODES};

/// What a component does with contracts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Uses {
    /// The contracts, imports first, each in the component's order.
    pub uses: Vec<Use>,
    /// Interfaces that look like contracts but cannot be carried.
    pub refused: Vec<Refused>,
    /// Interfaces that would be contracts if they had functions: they only hold types for others.
    pub types_only: Vec<(Direction, String)>,
}

impl Uses {
    /// Whether an interface is one of the contracts, carried or refused, or holds types for them.
    pub fn names(&self, direction: Direction, interface: &str) -> bool {
        self.uses.iter().any(|used| used.direction == direction && used.contract.id.to_string() == interface)
            || self.refused.iter().any(|refused| refused.direction == direction && refused.interface == interface)
            || self.types_only.iter().any(|(known, name)| *known == direction && name == interface)
    }
}

/// The bytes are not a valid component.
#[derive(Debug, thiserror::Error)]
pub enum Invalid {
    /// They are damaged.
    #[error("the component is not valid: {0}")]
    Binary(#[from] wasmparser::BinaryReaderError),
    /// A name in its types that nobody would give; the validator compares names over and over.
    #[error("a name in the types of the component has {0} letters; at most {LONGEST_NAME} are taken")]
    Name(usize),
}

/// Letters of a name in any type of a component, of a contract or not.
const LONGEST_NAME: usize = 1_024;

/// Reads the contracts of a component.
pub fn read(bytes: &[u8]) -> Result<Uses, Invalid> {
    let features = WasmFeatures::default()
        | WasmFeatures::COMPONENT_MODEL
        | WasmFeatures::CM_ASYNC
        | WasmFeatures::CM_MAP
        | WasmFeatures::CM_FIXED_LENGTH_LISTS;
    let mut validator = Validator::new_with_features(features);
    let (mut imports, mut exports) = (Vec::new(), Vec::new());
    let mut depth = 0_usize;
    let mut found = Uses::default();
    for payload in Parser::new(0).parse_all(bytes) {
        let payload = payload?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::ComponentImportSection(section) if depth == 0 => {
                for import in section.clone() {
                    imports.push(import?.name.name.to_owned());
                }
            }
            Payload::ComponentExportSection(section) if depth == 0 => {
                for export in section.clone() {
                    exports.push(export?.name.name.to_owned());
                }
            }
            Payload::ComponentTypeSection(section) => {
                for ty in section.clone() {
                    check_names(&ty?)?;
                }
            }
            _ => {}
        }
        // Bodies of functions are the compiler's business.
        if let ValidPayload::End(types) = validator.payload(&payload)? {
            if depth == 0 {
                let mut nodes = 0;
                collect(types.as_ref(), Direction::Produces, &imports, &mut nodes, &mut found);
                collect(types.as_ref(), Direction::Handles, &exports, &mut nodes, &mut found);
            }
            depth = depth.saturating_sub(1);
        }
    }
    Ok(found)
}

/// Refuses names that are far too long, before the validator looks at them.
fn check_names(ty: &ComponentType<'_>) -> Result<(), Invalid> {
    let check = |name: &str| if name.len() > LONGEST_NAME { Err(Invalid::Name(name.len())) } else { Ok(()) };
    match ty {
        ComponentType::Defined(wasmparser::ComponentDefinedType::Record(fields)) => {
            fields.iter().try_for_each(|(name, _)| check(name))
        }
        ComponentType::Defined(wasmparser::ComponentDefinedType::Variant(cases)) => {
            cases.iter().try_for_each(|case| check(case.name))
        }
        ComponentType::Defined(
            wasmparser::ComponentDefinedType::Flags(names) | wasmparser::ComponentDefinedType::Enum(names),
        ) => names.iter().try_for_each(|name| check(name)),
        ComponentType::Func(function) => function.params.iter().try_for_each(|(name, _)| check(name)),
        ComponentType::Instance(declarations) => declarations.iter().try_for_each(|declared| match declared {
            InstanceTypeDeclaration::Type(ty) => check_names(ty),
            InstanceTypeDeclaration::Export { name, .. } => check(name.name),
            _ => Ok(()),
        }),
        ComponentType::Component(declarations) => declarations.iter().try_for_each(|declared| match declared {
            ComponentTypeDeclaration::Type(ty) => check_names(ty),
            ComponentTypeDeclaration::Export { name, .. } => check(name.name),
            _ => Ok(()),
        }),
        _ => Ok(()),
    }
}

fn collect(types: TypesRef<'_>, direction: Direction, names: &[String], nodes: &mut usize, found: &mut Uses) {
    for name in names {
        let item = match direction {
            Direction::Produces => types.component_item_for_import(name),
            Direction::Handles => types.component_item_for_export(name),
        };
        let Some(ComponentEntityType::Instance(instance)) = item.map(|item| item.ty) else { continue };
        let Ok(id) = name.parse::<ContractId>() else { continue };
        if id.is_reserved() {
            continue;
        }
        match contract(types, &types[instance], id, direction, nodes) {
            Ok(None) => found.types_only.push((direction, name.clone())),
            Ok(Some(contract)) => {
                let all: usize = found.uses.iter().map(|used| used.contract.functions.len()).sum();
                if all + contract.functions.len() > MAX_FUNCTIONS {
                    let reason = format!("a component may use at most {MAX_FUNCTIONS} functions of contracts");
                    let interface = contract.id.to_string();
                    found.refused.push(Refused { interface, direction, place: "its functions".into(), reason });
                    continue;
                }
                found.uses.push(Use { direction, contract });
            }
            Err(refused) => found.refused.push(refused),
        }
    }
}

fn contract(
    types: TypesRef<'_>,
    instance: &ComponentInstanceType,
    id: ContractId,
    direction: Direction,
    nodes: &mut usize,
) -> Result<Option<Contract>, Refused> {
    let refuse = |place: &str, reason: &str| Refused {
        interface: id.to_string(),
        direction,
        place: place.chars().take(2 * MAX_NAME).collect(),
        reason: reason.to_owned(),
    };
    let mut functions = Vec::new();
    for (name, item) in &instance.exports {
        match item.ty {
            ComponentEntityType::Type { created: ComponentAnyTypeId::Resource(_), .. } => {
                return Err(refuse(name, "a resource cannot leave its process; pass its data as a record"));
            }
            ComponentEntityType::Func(function) => {
                let function = &types[function];
                if function.async_ {
                    let reason = "it is an `async func`; events are handled one after the other by an instance, and several \
                                  instances work side by side: declare it as `func`";
                    return Err(refuse(name, reason));
                }
                let read = function_of(types, name, function, nodes);
                functions.push(read.map_err(|(place, reason)| refuse(&format!("{name}({place})"), &reason))?);
            }
            _ => {}
        }
    }
    Ok((!functions.is_empty()).then_some(Contract { id, docs: None, functions }))
}

/// A place inside a function and what is wrong there.
type Wrong = (String, String);

/// Reads a function; `nodes` counts those of all functions of the component, which each have types of their own here.
fn function_of(
    types: TypesRef<'_>,
    name: &str,
    function: &ComponentFuncType,
    nodes: &mut usize,
) -> Result<Function, Wrong> {
    let mut reader = Reader { types: &types, path: Vec::new(), nodes: 0 };
    let mut params = Vec::with_capacity(function.params.len());
    named(name).map_err(|reason| (String::new(), reason))?;
    for (name, ty) in &function.params {
        named(name).map_err(|reason| (String::new(), reason))?;
        let name: Arc<str> = name.as_str().into();
        let ty = reader.at(name.to_string(), |reader| reader.value(*ty));
        params.push(Param { name, ty: ty.map_err(|reason| (reader.place(), reason))? });
    }
    let result = match function.result {
        None => None,
        Some(ty) => {
            let ty = reader.at("result".into(), |reader| reader.value(ty));
            Some(ty.map_err(|reason| (reader.place(), reason))?)
        }
    };
    *nodes = nodes.saturating_add(reader.nodes);
    if *nodes > MAX_TOTAL_NODES {
        let reason = format!("the types of all functions have more than {MAX_TOTAL_NODES} parts; make them smaller");
        return Err((String::new(), reason));
    }
    Ok(Function { name: name.into(), docs: None, params, result })
}

/// Walks types. After an error the path says where.
struct Reader<'t> {
    types: &'t TypesRef<'t>,
    path: Vec<String>,
    nodes: usize,
}

impl Reader<'_> {
    fn place(&self) -> String {
        self.path.concat()
    }

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
        Ok(())
    }

    fn value(&mut self, ty: ComponentValType) -> Result<Type, String> {
        self.nodes += 1;
        self.check()?;
        if self.path.len() > MAX_DEPTH {
            return Err(format!("its types are nested more than {MAX_DEPTH} deep; make them flatter"));
        }
        match ty {
            ComponentValType::Primitive(ty) => primitive(ty),
            ComponentValType::Type(id) => {
                let types = self.types;
                self.defined(&types[id])
            }
        }
    }

    /// Cases of an enum, or flags; each is a part.
    fn labels<'n>(&mut self, names: impl Iterator<Item = &'n str>) -> Result<Vec<Label>, String> {
        let labels: Vec<Label> = names.map(label).collect::<Result<_, _>>()?;
        self.nodes = self.nodes.saturating_add(labels.len());
        self.check()?;
        Ok(labels)
    }

    fn fixed_list(&mut self, of: ComponentValType, length: u32) -> Result<Type, String> {
        let before = self.nodes;
        let of = self.at("[]".into(), |reader| reader.value(of))?;
        // A value is made of all of its elements.
        let one = self.nodes - before;
        self.nodes = before.saturating_add(one.saturating_mul(length as usize));
        self.check()?;
        Ok(Type::FixedList(of.into(), length))
    }

    fn defined(&mut self, ty: &ComponentDefinedType) -> Result<Type, String> {
        Ok(match ty {
            ComponentDefinedType::Primitive(ty) => primitive(*ty)?,
            ComponentDefinedType::List(of) => match self.at("[]".into(), |reader| reader.value(*of))? {
                Type::U8 => Type::Bytes,
                of => Type::List(of.into()),
            },
            ComponentDefinedType::FixedLengthList(of, length) => self.fixed_list(*of, *length)?,
            ComponentDefinedType::Map(key, value) => {
                let key = self.at("[key]".into(), |reader| reader.value(*key))?;
                Type::Map(key.into(), self.at("[value]".into(), |reader| reader.value(*value))?.into())
            }
            ComponentDefinedType::Option(of) => Type::Option(self.at("?".into(), |reader| reader.value(*of))?.into()),
            ComponentDefinedType::Result { ok, err } => {
                let mut side = |name: &str, ty: &Option<ComponentValType>| match ty {
                    None => Ok(None),
                    Some(ty) => self.at(format!(".{name}"), |reader| reader.value(*ty)).map(|ty| Some(Arc::new(ty))),
                };
                Type::Result(side("ok", ok)?, side("err", err)?)
            }
            ComponentDefinedType::Tuple(tuple) => {
                let mut of = Vec::with_capacity(tuple.types.len());
                for (place, ty) in tuple.types.iter().enumerate() {
                    of.push(self.at(format!("[{place}]"), |reader| reader.value(*ty))?);
                }
                Type::Tuple(of.into())
            }
            ComponentDefinedType::Record(record) => {
                let mut fields = Vec::with_capacity(record.fields.len());
                for (name, ty) in &record.fields {
                    named(name)?;
                    let ty = self.at(format!(".{name}"), |reader| reader.value(*ty))?;
                    fields.push(Field { name: name.as_str().into(), docs: None, ty });
                }
                Type::Record(Record { name: None, docs: None, fields }.into())
            }
            ComponentDefinedType::Variant(variant) => {
                let mut cases = Vec::with_capacity(variant.cases.len());
                for (name, case) in &variant.cases {
                    named(name)?;
                    let ty = match case.ty {
                        None => None,
                        Some(ty) => Some(self.at(format!(".{name}"), |reader| reader.value(ty))?),
                    };
                    cases.push(Case { name: name.as_str().into(), docs: None, ty });
                }
                Type::Variant(Variant { name: None, docs: None, cases }.into())
            }
            ComponentDefinedType::Enum(names) => {
                let cases = self.labels(names.iter().map(wasmparser::names::KebabString::as_str))?;
                Type::Enum(Enum { name: None, docs: None, cases }.into())
            }
            ComponentDefinedType::Flags(names) => {
                let flags = self.labels(names.iter().map(wasmparser::names::KebabString::as_str))?;
                Type::Flags(Flags { name: None, docs: None, flags }.into())
            }
            ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => {
                return Err("a resource cannot leave its process; pass its data as a record".into());
            }
            ComponentDefinedType::Future(_) => {
                return Err("a future cannot be stored; publish another event when the value is there".into());
            }
            ComponentDefinedType::Stream(_) => {
                return Err("a stream cannot be stored; pass a list, or publish an event for each part".into());
            }
        })
    }
}

fn label(name: &str) -> Result<Label, String> {
    Ok(Label { name: named(name)?.into(), docs: None })
}

/// A name that values carry with them: every record of a list has its own.
pub(crate) fn named(name: &str) -> Result<&str, String> {
    if name.len() <= MAX_NAME {
        return Ok(name);
    }
    let start: String = name.chars().take(20).collect();
    Err(format!("the name `{start}...` has {} letters; at most {MAX_NAME} are allowed", name.len()))
}

fn primitive(ty: PrimitiveValType) -> Result<Type, String> {
    Ok(match ty {
        PrimitiveValType::Bool => Type::Bool,
        PrimitiveValType::S8 => Type::S8,
        PrimitiveValType::U8 => Type::U8,
        PrimitiveValType::S16 => Type::S16,
        PrimitiveValType::U16 => Type::U16,
        PrimitiveValType::S32 => Type::S32,
        PrimitiveValType::U32 => Type::U32,
        PrimitiveValType::S64 => Type::S64,
        PrimitiveValType::U64 => Type::U64,
        PrimitiveValType::F32 => Type::F32,
        PrimitiveValType::F64 => Type::F64,
        PrimitiveValType::Char => Type::Char,
        PrimitiveValType::String => Type::String,
        PrimitiveValType::ErrorContext => {
            return Err("an error context cannot leave its process; pass a string".into());
        }
    })
}
