//! `busway inspect`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use busway_contract::{Contract, Function, Kind, Use};
use busway_host::Inspection;
use busway_host::inspect::{Capability, inspect, read};
use clap::Args;
use owo_colors::OwoColorize;
use serde_json::json;

use crate::failure::Told;
use crate::format::bytes;
use crate::output::{Output, shown, shown_lines};

/// Show what a component produces, handles and needs
#[derive(Debug, Args)]
#[command(
    long_about = "Shows what a component is: what it produces, handles and needs, and why busway could not run it. Nothing \
        of it is run. Ends with 1 when busway could not run it.",
    after_help = "Example: busway inspect target/wasm32-wasip2/release/stock.wasm --wit"
)]
pub(crate) struct InspectArgs {
    /// The component
    file: PathBuf,
    /// Print its world as WIT as well
    #[arg(long)]
    wit: bool,
}

pub(crate) fn run(args: &InspectArgs, output: &mut Output) -> Result<()> {
    let content = read(&args.file).with_context(|| args.file.display().to_string())?;
    let found = inspect(&content).with_context(|| args.file.display().to_string())?;
    if output.is_json() {
        output.json(&value(&found))?;
    } else {
        human(args, &found, output)?;
    }
    if found.problems.is_empty() {
        return Ok(());
    }
    output.flush()?;
    bail!(Told)
}

fn value(found: &Inspection) -> serde_json::Value {
    let need = |need: &busway_host::inspect::Need| json!({ "interface": need.interface, "capability": need.capability.map(|c| c.to_string()) });
    json!({
        "bytes": found.bytes,
        "core_modules": found.core_modules,
        "handler": found.handler,
        "task": found.task,
        "http": found.http,
        "produces": found.produces(),
        "contracts": found.contracts.iter().map(contract).collect::<Vec<_>>(),
        "imports": found.imports.iter().map(need).collect::<Vec<_>>(),
        "exports": found.exports,
        "problems": found.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "wit": found.wit,
    })
}

fn contract(used: &Use) -> serde_json::Value {
    let function = |function: &Function| {
        let topic = used.contract.id.topic(&function.name).map(|topic| topic.to_string()).ok();
        json!({ "name": function.name, "kind": function.kind().to_string(), "topic": topic, "wit": function.to_string() })
    };
    json!({
        "direction": used.direction.to_string(),
        "contract": used.contract.id.to_string(),
        "functions": used.contract.functions.iter().map(function).collect::<Vec<_>>(),
    })
}

/// The events, or the requests, of contracts in one direction, a line for each, and raw events.
fn told<'c>(contracts: impl Iterator<Item = &'c Contract>, kind: Kind, raw: Option<String>) -> String {
    let contract = |contract: &Contract| {
        let functions: Vec<&str> =
            contract.functions.iter().filter(|f| f.kind() == kind).map(|function| &*function.name).collect();
        (!functions.is_empty()).then(|| shown(&format!("{}: {}", contract.id, functions.join(", "))))
    };
    contracts.filter_map(contract).chain(raw).collect::<Vec<_>>().join("\n            ")
}

fn human(args: &InspectArgs, found: &Inspection, output: &mut Output) -> Result<()> {
    let modules = if found.core_modules == 1 { "core module" } else { "core modules" };
    let size = bytes(found.bytes as u64);
    let file = args.file.display().to_string();
    output.line(format!("{}: {found} ({size}, {} {modules})", shown(&file).bold(), found.core_modules))?;
    let publishes = found.needs(Capability::Publish).then(|| "raw events (busway:bus/producer)".to_owned());
    let handles = found.handler.as_deref().map(|handler| format!("raw events ({})", shown(handler)));
    let needs: Vec<String> = found.capabilities().iter().map(ToString::to_string).collect();
    let lines = [
        ("produces", told(found.produced(), Kind::Event, publishes)),
        ("asks", told(found.produced(), Kind::Request, None)),
        ("handles", told(found.handled(), Kind::Event, handles)),
        ("answers", told(found.handled(), Kind::Request, None)),
        ("task", found.task.as_deref().map_or_else(|| "-".into(), shown)),
        (
            "http",
            found.http.as_deref().map_or_else(|| "-".into(), |http| format!("answers requests ({})", shown(http))),
        ),
        ("needs", if needs.is_empty() { "-".into() } else { needs.join(", ") }),
        ("imports", found.imports.iter().map(|n| shown(&n.interface)).collect::<Vec<_>>().join("\n            ")),
        ("exports", found.exports.iter().map(|e| shown(e)).collect::<Vec<_>>().join("\n            ")),
    ];
    let lines = lines.iter().filter(|(name, value)| !value.is_empty() || !["asks", "answers"].contains(name));
    lines.into_iter().try_for_each(|(name, value)| output.line(format!("  {name:<9} {}", dash(value))))?;
    for problem in &found.problems {
        output.line(format!("  {} {}", "problem".red().bold(), shown_lines(&problem.to_string())))?;
    }
    if args.wit {
        output.line("")?;
        output.line(shown_lines(&found.wit))?;
    }
    Ok(())
}

fn dash(text: &str) -> &str {
    if text.is_empty() { "-" } else { text }
}
