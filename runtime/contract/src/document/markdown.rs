//! Markdown for people: each contract with its functions, their data and examples, then its types.

use std::fmt::Write as _;
use std::sync::Arc;

use super::example;
use super::names::Names;
use super::{Document, Entry};
use crate::model::{Contract, Kind};
use crate::types::{Docs, Type};

pub(super) fn text(document: &Document<'_>) -> String {
    let mut text = format!("# {}\n", document.title);
    for contract in document.contracts {
        let mut types = Types::default();
        section(&mut text, contract);
        for entry in document.entries.iter().filter(|entry| std::ptr::eq(entry.contract, contract)) {
            function(&mut text, entry, &mut types);
        }
        if !types.written.is_empty() {
            add(&mut text, format_args!("\n### Types\n{}", types.written.concat()));
        }
    }
    text
}

fn add(text: &mut String, what: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    text.write_fmt(what).unwrap_or_default();
}

fn section(text: &mut String, contract: &Contract) {
    add(text, format_args!("\n## {}\n", contract.id));
    paragraph(text, &contract.docs);
}

fn paragraph(text: &mut String, docs: &Docs) {
    if let Some(docs) = docs {
        add(text, format_args!("\n{docs}\n"));
    }
}

fn function(text: &mut String, entry: &Entry<'_>, types: &mut Types) {
    let function = entry.function;
    add(text, format_args!("\n### {} ({})\n", function.name, function.kind()));
    paragraph(text, &function.docs);
    add(text, format_args!("\n- Topic: `{}`\n", entry.topic));
    if let Some(key) = entry.key() {
        add(text, format_args!("- Events with the same `{key}` are handled in order\n"));
    }
    for (what, services) in [("Produced", &entry.producers), ("Handled", &entry.handlers)] {
        let names: Vec<_> =
            services.iter().filter(|service| !service.is_empty()).map(|name| format!("`{name}`")).collect();
        if !names.is_empty() {
            add(text, format_args!("- {what} by {}\n", names.join(", ")));
        }
    }
    if !function.params.is_empty() {
        text.push_str("\n| parameter | type |\n|---|---|\n");
        for param in &function.params {
            add(text, format_args!("| `{}` | {} |\n", param.name, cell(&param.ty)));
            types.of(&param.ty);
        }
    }
    code(text, &example::text(function));
    if let (Kind::Request, Some(result)) = (function.kind(), &function.result) {
        types.of(result);
        add(text, format_args!("\nThe answer is {}:\n", cell(result)));
        code(text, &example::value_text(result));
    }
}

fn code(text: &mut String, json: &str) {
    add(text, format_args!("\n```json\n{json}\n```\n"));
}

/// A type in a cell of a table.
fn cell(ty: &Type) -> String {
    format!("`{}`", ty.to_string().replace('|', "\\|"))
}

fn about(docs: &Docs) -> String {
    docs.as_deref().unwrap_or_default().replace('\n', " ").replace('|', "\\|")
}

/// The named types of a contract, in the order of their first use.
#[derive(Default)]
struct Types {
    names: Names,
    written: Vec<String>,
}

impl Types {
    fn of(&mut self, ty: &Type) {
        let new = ty.name().map(|name| self.names.of(name, ty)).filter(|(_, new)| *new);
        if let Some((name, _)) = new {
            self.written.push(definition(&name, ty));
        } else if ty.name().is_some() {
            return;
        }
        ty.inner().into_iter().for_each(|inner| self.of(inner));
    }
}

/// A row of a type's table: its name, its type, what is said about it.
type Row<'t> = (&'t Arc<str>, Option<String>, &'t Docs);

fn definition(name: &str, ty: &Type) -> String {
    let (what, docs, rows): (_, _, Vec<Row<'_>>) = match ty {
        Type::Record(record) => {
            let fields = record.fields.iter().map(|field| (&field.name, Some(cell(&field.ty)), &field.docs));
            ("record", &record.docs, fields.collect())
        }
        Type::Variant(variant) => {
            let cases = variant
                .cases
                .iter()
                .map(|case| (&case.name, Some(case.ty.as_ref().map_or_else(String::new, cell)), &case.docs));
            ("variant", &variant.docs, cases.collect())
        }
        Type::Enum(of) => ("enum", &of.docs, of.cases.iter().map(|case| (&case.name, None, &case.docs)).collect()),
        Type::Flags(of) => ("flags", &of.docs, of.flags.iter().map(|flag| (&flag.name, None, &flag.docs)).collect()),
        _ => return String::new(),
    };
    let mut text = format!("\n#### {name} ({what})\n");
    paragraph(&mut text, docs);
    let typed = matches!(ty, Type::Record(_) | Type::Variant(_));
    let member = if what == "record" { "field" } else { "name" };
    let (head, line) = if typed { (" type |", "---|") } else { ("", "") };
    add(&mut text, format_args!("\n| {member} |{head} |\n|---|---|{line}\n"));
    for (name, ty, docs) in rows {
        let ty = ty.map_or_else(String::new, |ty| format!(" {ty} |"));
        add(&mut text, format_args!("| `{name}` |{ty} {} |\n", about(docs)));
    }
    text
}
