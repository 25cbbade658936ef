//! The Rust code of a typed service: a function for every handler, a call for every event.
//!
//! Role: writes names and types as wit-bindgen does, from the WIT that lies in the new folder. Invariant: what is written
//! compiles for every contract that the bus carries; what a person has to write says so when it runs.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Result, bail};
use busway_contract::ContractId;
use heck::{ToSnakeCase, ToUpperCamelCase};
use wit_parser::{Function, InterfaceId, Resolve, Type, TypeDefKind, TypeId, TypeOwner};

/// Words of Rust that wit-bindgen writes with an underscore behind them.
const KEYWORDS: [&str; 51] = [
    "as", "break", "const", "continue", "crate", "else", "enum", "extern", "false", "fn", "for", "if", "impl", "in",
    "let", "loop", "match", "mod", "move", "mut", "pub", "ref", "return", "self", "static", "struct", "super", "trait",
    "true", "type", "unsafe", "use", "where", "while", "async", "await", "dyn", "abstract", "become", "box", "do",
    "final", "macro", "override", "priv", "typeof", "unsized", "virtual", "yield", "try", "gen",
];

fn ident(name: &str) -> String {
    // `gen` became a word of the language after wit-bindgen's list was written; nothing may be called so bare.
    match name {
        "gen" => "r#gen".to_owned(),
        word if KEYWORDS.contains(&word) => format!("{word}_"),
        other => other.to_snake_case(),
    }
}

fn camel(name: &str) -> String {
    // wit-bindgen keeps `Guest` for its traits.
    if name == "guest" { "Guest_".to_owned() } else { name.to_upper_camel_case() }
}

/// Writes code about some interfaces.
pub(super) struct Writer {
    resolve: Resolve,
    interfaces: Vec<InterfaceId>,
    exported: bool,
}

impl Writer {
    /// About the interfaces of these names in the WIT of a folder.
    pub(super) fn read(wit: &Path, names: &[ContractId], exported: bool) -> Result<Self> {
        let mut resolve = Resolve { all_features: true, ..Resolve::default() };
        if let Err(error) = resolve.push_path(wit) {
            bail!("the contract cannot be used by itself: {}", resolve.render_error(&error));
        }
        let mut interfaces = Vec::new();
        for name in names {
            let name = name.to_string();
            let found = resolve.interfaces.iter().find(|(id, _)| resolve.id_of(*id).is_some_and(|id| id == name));
            let Some((id, _)) = found else { bail!("the contract {name} is not in the WIT that was copied") };
            interfaces.push(id);
        }
        Ok(Self { resolve, interfaces, exported })
    }

    /// A service that handles every event.
    pub(super) fn handler(&self, name: &str) -> String {
        let mut code = format!(
            "//! {name} handles events: each function below is called with one.\n//!\n//! Returning acknowledges the event; \
             an error or a panic has it tried again. What is printed becomes lines of the node's log.\n\n"
        );
        code.push_str(&self.head());
        code.push_str("struct Service;\n");
        for interface in &self.interfaces {
            let module = self.module(*interface);
            let _ = write!(code, "\nimpl {module}::Guest for Service {{\n");
            let functions = self.resolve.interfaces[*interface].functions.values();
            let functions: Vec<_> = functions.map(|function| self.handle(*interface, function)).collect();
            code.push_str(&functions.join("\n"));
            code.push_str("}\n");
        }
        code.push_str("\nexport!(Service);\n");
        code
    }

    /// A program that publishes every event once.
    pub(super) fn producer(&self, name: &str) -> String {
        let mut code = format!(
            "//! {name} publishes events: a call of a function of a contract is one.\n//!\n//! It is a program, which runs once \
             when the node starts, or as the manifest says.\n\n"
        );
        code.push_str(&self.head());
        code.push_str("fn main() -> Result<(), String> {\n");
        let all = self
            .interfaces
            .iter()
            .flat_map(|id| self.resolve.interfaces[*id].functions.values().map(move |function| (*id, function)));
        // Requests wait for an answer, which may never come.
        let (events, requests): (Vec<_>, Vec<_>) = all.partition(|(_, function)| !is_request(&self.resolve, function));
        for (interface, function) in events.into_iter().chain(requests) {
            code.push_str(&self.call(interface, function));
        }
        code.push_str("    Ok(())\n}\n");
        code
    }

    fn head(&self) -> String {
        let mut uses: Vec<_> = self
            .interfaces
            .iter()
            .filter(|id| self.is_alone(**id))
            .map(|id| format!("use {};\n", self.path(*id, self.exported)))
            .collect();
        uses.sort();
        let blank = if uses.is_empty() { "" } else { "\n" };
        let uses = uses.concat();
        format!(
            "{uses}{blank}wit_bindgen::generate!({{ path: \"wit\", world: \"local:service/service\", generate_all }});\n\n"
        )
    }

    /// Whether no other interface has this one's name.
    fn is_alone(&self, id: InterfaceId) -> bool {
        let name = |id: InterfaceId| self.resolve.interfaces[id].name.as_deref().map(ident);
        self.interfaces.iter().filter(|other| name(**other) == name(id)).count() == 1
    }

    /// An interface's module where the code names it.
    fn module(&self, id: InterfaceId) -> String {
        if self.interfaces.contains(&id) && self.is_alone(id) {
            return ident(self.resolve.interfaces[id].name.as_deref().unwrap_or_default());
        }
        self.path(id, self.exported && self.interfaces.contains(&id))
    }

    fn path(&self, id: InterfaceId, exported: bool) -> String {
        let interface = &self.resolve.interfaces[id];
        let exports = if exported { "exports::" } else { "" };
        let name = ident(interface.name.as_deref().unwrap_or_default());
        let Some(package) = interface.package.map(|package| &self.resolve.packages[package].name) else { return name };
        let versions = self.resolve.packages.iter().map(|(_, other)| &other.name);
        let same = versions.filter(|other| other.namespace == package.namespace && other.name == package.name).count();
        let version = match &package.version {
            Some(version) if same > 1 => version.to_string().replace(['.', '-', '+'], "_"),
            _ => String::new(),
        };
        format!("{exports}{}::{}{version}::{name}", ident(&package.namespace), package.name.to_snake_case())
    }

    fn handle(&self, interface: InterfaceId, function: &Function) -> String {
        let docs = function.docs.contents.iter().flat_map(|docs| docs.trim().lines());
        let docs: String = docs.map(|line| format!("    /// {line}").trim_end().to_owned() + "\n").collect();
        let params = function.params.iter();
        let params: Vec<_> =
            params.map(|param| format!("{}: {}", variable(&param.name), self.ty(interface, &param.ty))).collect();
        let result = function.result.as_ref().map_or_else(String::new, |ty| format!(" -> {}", self.ty(interface, ty)));
        let params_shown = function.params.iter().map(|param| format!(" {{{}:?}}", variable(&param.name)));
        let shown = params_shown.collect::<Vec<_>>().concat();
        let name = &function.name;
        let colon = if shown.is_empty() { "" } else { ":" };
        let mut body = format!("        println!(\"{name}{colon}{shown}\");\n");
        match result_kind(&self.resolve, function) {
            Outcome::Nothing => {}
            Outcome::Accepted => body.push_str("        Ok(())\n"),
            Outcome::Answer(Some(Type::String)) => {
                let _ = writeln!(body, "        Err(\"`{name}` is not written yet\".into())");
            }
            Outcome::Answer(_) => {
                let _ = writeln!(body, "        panic!(\"`{name}` is not written yet\")");
            }
        }
        format!("{docs}    fn {}({}){result} {{\n{body}    }}\n", ident(name), params.join(", "))
    }

    fn call(&self, interface: InterfaceId, function: &Function) -> String {
        let params: Vec<_> = function.params.iter().map(|param| self.argument(&param.ty)).collect();
        let name = &function.name;
        let call = format!("{}::{}({})", self.module(interface), ident(name), params.join(", "));
        match result_kind(&self.resolve, function) {
            Outcome::Nothing => format!("    {call};\n    println!(\"published {name}\");\n"),
            Outcome::Accepted => format!(
                "    {call}.map_err(|refusal| format!(\"{name} was refused: {{refusal:?}}\"))?;\n    println!(\"published \
                 {name}\");\n"
            ),
            Outcome::Answer(_) => format!("    println!(\"{name}: {{:?}}\", {call});\n"),
        }
    }

    /// A type as wit-bindgen writes it where it is owned. Named types are in scope of the interface that uses them.
    fn ty(&self, interface: InterfaceId, ty: &Type) -> String {
        let Type::Id(id) = ty else { return primitive(ty).to_owned() };
        let def = &self.resolve.types[*id];
        if let Some(name) = &def.name {
            return format!("{}::{}", self.module(interface), camel(name));
        }
        let side = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "()".to_owned(), |ty| self.ty(interface, ty));
        match &def.kind {
            TypeDefKind::List(of) => format!("Vec<{}>", self.ty(interface, of)),
            TypeDefKind::FixedLengthList(of, length) => format!("[{}; {length}]", self.ty(interface, of)),
            TypeDefKind::Map(key, value) => {
                format!("wit_bindgen::rt::Map<{}, {}>", self.ty(interface, key), self.ty(interface, value))
            }
            TypeDefKind::Option(of) => format!("Option<{}>", self.ty(interface, of)),
            TypeDefKind::Result(of) => format!("Result<{}, {}>", side(&of.ok), side(&of.err)),
            TypeDefKind::Tuple(tuple) => tuple_of(tuple.types.iter().map(|ty| self.ty(interface, ty))),
            TypeDefKind::Type(of) => self.ty(interface, of),
            // The bus carries nothing else.
            _ => "()".to_owned(),
        }
    }

    /// An example of a value, as the argument of an imported function: what has lists or strings is borrowed.
    fn argument(&self, ty: &Type) -> String {
        match ty {
            Type::String => "\"example\"".to_owned(),
            Type::Id(id) if self.has_list(*ty) => self.borrowed(*id),
            _ => self.value(ty),
        }
    }

    fn borrowed(&self, id: TypeId) -> String {
        let def = &self.resolve.types[id];
        let side = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "()".to_owned(), |ty| self.argument(ty));
        match &def.kind {
            // An alias of `string` is borrowed as text.
            TypeDefKind::Type(of) if self.is_string(*of) => "\"example\"".to_owned(),
            _ if def.name.is_some() => format!("&{}", self.value(&Type::Id(id))),
            TypeDefKind::List(_) => "&[]".to_owned(),
            TypeDefKind::Tuple(tuple) => tuple_of(tuple.types.iter().map(|ty| self.argument(ty))),
            TypeDefKind::Result(of) => format!("Ok({})", side(&of.ok)),
            TypeDefKind::Option(_) => "None".to_owned(),
            _ => format!("&{}", self.value(&Type::Id(id))),
        }
    }

    fn is_string(&self, ty: Type) -> bool {
        match ty {
            Type::String => true,
            Type::Id(id) => matches!(self.resolve.types[id].kind, TypeDefKind::Type(of) if self.is_string(of)),
            _ => false,
        }
    }

    fn has_list(&self, ty: Type) -> bool {
        let Type::Id(id) = ty else { return ty == Type::String };
        let any = |ty: &Option<Type>| ty.is_some_and(|ty| self.has_list(ty));
        match &self.resolve.types[id].kind {
            TypeDefKind::List(_) | TypeDefKind::Map(..) => true,
            TypeDefKind::FixedLengthList(of, _) | TypeDefKind::Option(of) | TypeDefKind::Type(of) => self.has_list(*of),
            TypeDefKind::Record(record) => record.fields.iter().any(|field| self.has_list(field.ty)),
            TypeDefKind::Variant(variant) => variant.cases.iter().any(|case| any(&case.ty)),
            TypeDefKind::Tuple(tuple) => tuple.types.iter().any(|ty| self.has_list(*ty)),
            TypeDefKind::Result(of) => any(&of.ok) || any(&of.err),
            _ => false,
        }
    }

    /// An example of a value that is owned.
    fn value(&self, ty: &Type) -> String {
        let id = match ty {
            Type::Bool => return "false".to_owned(),
            Type::F32 | Type::F64 => return "0.0".to_owned(),
            Type::Char => return "'a'".to_owned(),
            Type::String => return "\"example\".into()".to_owned(),
            Type::Id(id) => *id,
            _ => return "0".to_owned(),
        };
        let side = |ty: &Option<Type>| ty.as_ref().map_or_else(|| "()".to_owned(), |ty| self.value(ty));
        match &self.resolve.types[id].kind {
            TypeDefKind::Type(of) => self.value(of),
            TypeDefKind::Record(record) => {
                let fields = record.fields.iter();
                let fields: Vec<_> =
                    fields.map(|field| format!("{}: {}", ident(&field.name), self.value(&field.ty))).collect();
                format!("{} {{ {} }}", self.named(id), fields.join(", "))
            }
            TypeDefKind::Variant(variant) => {
                let Some(case) = variant.cases.first() else { return "()".to_owned() };
                let of = case.ty.map_or_else(String::new, |ty| format!("({})", self.value(&ty)));
                format!("{}::{}{of}", self.named(id), case.name.to_upper_camel_case())
            }
            TypeDefKind::Enum(of) => {
                let case = of.cases.first().map(|case| case.name.to_upper_camel_case()).unwrap_or_default();
                format!("{}::{case}", self.named(id))
            }
            TypeDefKind::Flags(_) => format!("{}::empty()", self.named(id)),
            TypeDefKind::Tuple(tuple) => tuple_of(tuple.types.iter().map(|ty| self.value(ty))),
            TypeDefKind::List(_) => "Vec::new()".to_owned(),
            TypeDefKind::Map(..) => "Default::default()".to_owned(),
            TypeDefKind::FixedLengthList(of, _) => format!("std::array::from_fn(|_| {})", self.value(of)),
            TypeDefKind::Option(_) => "None".to_owned(),
            TypeDefKind::Result(of) => format!("Ok({})", side(&of.ok)),
            _ => "()".to_owned(),
        }
    }

    /// The name of a type, from anywhere.
    fn named(&self, id: TypeId) -> String {
        let def = &self.resolve.types[id];
        let name = camel(def.name.as_deref().unwrap_or_default());
        match def.owner {
            TypeOwner::Interface(interface) => format!("{}::{name}", self.module(interface)),
            _ => name,
        }
    }
}

/// A tuple; one of a single part needs its comma.
fn tuple_of(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if let [one] = &parts[..] { format!("({one},)") } else { format!("({})", parts.join(", ")) }
}

/// What a function returns.
enum Outcome {
    /// Nothing.
    Nothing,
    /// That the event was taken, or not.
    Accepted,
    /// An answer, with the type of the error if there may be one.
    Answer(Option<Type>),
}

fn result_kind(resolve: &Resolve, function: &Function) -> Outcome {
    let Some(mut ty) = function.result else { return Outcome::Nothing };
    while let Type::Id(id) = ty
        && let TypeDefKind::Type(of) = resolve.types[id].kind
    {
        ty = of;
    }
    match ty {
        Type::Id(id) => match &resolve.types[id].kind {
            TypeDefKind::Result(of) if of.ok.is_none() => Outcome::Accepted,
            TypeDefKind::Result(of) => Outcome::Answer(of.err),
            _ => Outcome::Answer(None),
        },
        _ => Outcome::Answer(None),
    }
}

fn is_request(resolve: &Resolve, function: &Function) -> bool {
    matches!(result_kind(resolve, function), Outcome::Answer(_))
}

/// The name of a parameter, which may be chosen freely.
fn variable(name: &str) -> String {
    if KEYWORDS.contains(&name) { format!("{name}_") } else { name.to_snake_case() }
}

fn primitive(ty: &Type) -> &'static str {
    match ty {
        Type::Bool => "bool",
        Type::S8 => "i8",
        Type::U8 => "u8",
        Type::S16 => "i16",
        Type::U16 => "u16",
        Type::S32 => "i32",
        Type::U32 => "u32",
        Type::S64 => "i64",
        Type::U64 => "u64",
        Type::F32 => "f32",
        Type::F64 => "f64",
        Type::Char => "char",
        Type::String => "String",
        _ => "()",
    }
}
