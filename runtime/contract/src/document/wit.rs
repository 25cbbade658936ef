//! WIT, as it would be written for what is known of contracts.
//!
//! Invariant: parsed again it is the same contracts; types that have no name get one where WIT needs it.

use std::collections::BTreeMap;

use super::names::Names;
use crate::id::ContractId;
use crate::model::{Contract, Function};
use crate::types::{Docs, Type};

/// Words that WIT keeps for itself; a percent sign makes a name of any.
const KEYWORDS: [&str; 49] = [
    "as",
    "async",
    "bool",
    "borrow",
    "char",
    "constructor",
    "enum",
    "error-context",
    "export",
    "external-id",
    "f32",
    "f64",
    "flags",
    "from",
    "func",
    "future",
    "get",
    "implements",
    "import",
    "include",
    "interface",
    "list",
    "map",
    "option",
    "own",
    "package",
    "record",
    "resource",
    "result",
    "s16",
    "s32",
    "s64",
    "s8",
    "set",
    "since",
    "static",
    "stream",
    "string",
    "tuple",
    "type",
    "u16",
    "u32",
    "u64",
    "u8",
    "unstable",
    "use",
    "variant",
    "with",
    "world",
];

/// The packages of the contracts.
pub(super) fn text(contracts: &[Contract]) -> String {
    let mut packages: BTreeMap<String, Vec<&Contract>> = BTreeMap::new();
    for contract in contracts {
        packages.entry(package(&contract.id)).or_default().push(contract);
    }
    let alone = packages.len() == 1;
    let mut written = Vec::new();
    for (package, contracts) in packages {
        let interfaces: Vec<_> = contracts.iter().map(|contract| interface(contract)).collect();
        let interfaces = interfaces.join("\n");
        written.push(if alone {
            format!("package {package};\n\n{interfaces}")
        } else {
            format!("package {package} {{\n{}}}\n", indented(&interfaces))
        });
    }
    written.join("\n")
}

/// `shop:orders@1.0.0`.
fn package(id: &ContractId) -> String {
    let version = id.version.as_ref().map_or_else(String::new, |version| format!("@{version}"));
    format!("{}:{}{version}", name(&id.namespace), name(&id.package))
}

/// A name as WIT writes it: with a percent sign where it is one of its own words.
pub fn name(of: &str) -> String {
    if KEYWORDS.contains(&of) { format!("%{of}") } else { of.to_owned() }
}

fn indented(text: &str) -> String {
    let line = |line: &str| if line.is_empty() { "\n".to_owned() } else { format!("  {line}\n") };
    text.lines().map(line).collect()
}

fn docs(docs: &Docs, indent: &str) -> String {
    let lines = docs.iter().flat_map(|docs| docs.lines());
    lines.map(|line| format!("{indent}/// {line}").trim_end().to_owned() + "\n").collect()
}

fn interface(contract: &Contract) -> String {
    let mut writer = Writer { names: Names::default(), types: String::new() };
    let functions: Vec<_> = contract.functions.iter().map(|function| writer.function(function)).collect();
    let Writer { types, .. } = writer;
    let about = docs(&contract.docs, "");
    format!("{about}interface {} {{\n{types}{}}}\n", name(&contract.id.interface), functions.join("\n"))
}

struct Writer {
    names: Names,
    types: String,
}

impl Writer {
    fn function(&mut self, function: &Function) -> String {
        let params: Vec<_> = function
            .params
            .iter()
            .map(|param| {
                let ty = self.of(&param.ty, &format!("{}-{}", function.name, param.name));
                format!("{}: {ty}", name(&param.name))
            })
            .collect();
        let result = function.result.as_ref().map(|ty| self.of(ty, &format!("{}-result", function.name)));
        let result = result.map_or_else(String::new, |ty| format!(" -> {ty}"));
        format!("{}  {}: func({}){result};\n", docs(&function.docs, "  "), name(&function.name), params.join(", "))
    }

    /// A type where it is used; `hint` is its name if it has none and needs one.
    fn of(&mut self, ty: &Type, hint: &str) -> String {
        match ty {
            Type::List(of) => format!("list<{}>", self.of(of, hint)),
            Type::FixedList(of, length) => format!("list<{}, {length}>", self.of(of, hint)),
            Type::Map(key, value) => {
                let key = self.of(key, &format!("{hint}-key"));
                format!("map<{key}, {}>", self.of(value, hint))
            }
            Type::Option(of) => format!("option<{}>", self.of(of, hint)),
            Type::Result(ok, err) => {
                let ok = ok.as_ref().map(|ok| self.of(ok, hint));
                let err = err.as_ref().map(|err| self.of(err, &format!("{hint}-error")));
                match (ok, err) {
                    (None, None) => "result".into(),
                    (Some(ok), None) => format!("result<{ok}>"),
                    (ok, Some(err)) => format!("result<{}, {err}>", ok.as_deref().unwrap_or("_")),
                }
            }
            Type::Tuple(of) => {
                let of: Vec<_> =
                    of.iter().enumerate().map(|(place, ty)| self.of(ty, &format!("{hint}-p{place}"))).collect();
                format!("tuple<{}>", of.join(", "))
            }
            Type::Record(_) | Type::Variant(_) | Type::Enum(_) | Type::Flags(_) => {
                let (found, new) = self.names.of(ty.name().map_or(hint, |name| name), ty);
                if new {
                    let definition = self.definition(ty, &found);
                    self.types.push_str(&definition);
                    self.types.push('\n');
                }
                name(&found)
            }
            leaf => leaf.to_string(),
        }
    }

    fn definition(&mut self, ty: &Type, called: &str) -> String {
        let (what, about, members): (_, _, Vec<String>) = match ty {
            Type::Record(record) => {
                let mut fields = Vec::with_capacity(record.fields.len());
                for field in &record.fields {
                    let ty = self.of(&field.ty, &format!("{called}-{}", field.name));
                    fields.push(format!("{}    {}: {ty}", docs(&field.docs, "    "), name(&field.name)));
                }
                ("record", &record.docs, fields)
            }
            Type::Variant(variant) => {
                let mut cases = Vec::with_capacity(variant.cases.len());
                for case in &variant.cases {
                    let ty = case.ty.as_ref().map(|ty| self.of(ty, &format!("{called}-{}", case.name)));
                    let ty = ty.map_or_else(String::new, |ty| format!("({ty})"));
                    cases.push(format!("{}    {}{ty}", docs(&case.docs, "    "), name(&case.name)));
                }
                ("variant", &variant.docs, cases)
            }
            Type::Enum(cases) => ("enum", &cases.docs, labels(&cases.cases)),
            Type::Flags(flags) => ("flags", &flags.docs, labels(&flags.flags)),
            _ => return String::new(),
        };
        format!("{}  {what} {} {{\n{},\n  }}\n", docs(about, "  "), name(called), members.join(",\n"))
    }
}

fn labels(labels: &[crate::types::Label]) -> Vec<String> {
    labels.iter().map(|label| format!("{}    {}", docs(&label.docs, "    "), name(&label.name))).collect()
}
