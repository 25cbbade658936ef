//! `busway inspect`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use busway_host::Inspection;
use busway_host::inspect::{inspect, read};
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
        "imports": found.imports.iter().map(need).collect::<Vec<_>>(),
        "exports": found.exports,
        "problems": found.problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "wit": found.wit,
    })
}

fn human(args: &InspectArgs, found: &Inspection, output: &mut Output) -> Result<()> {
    let modules = if found.core_modules == 1 { "core module" } else { "core modules" };
    let size = bytes(found.bytes as u64);
    let file = args.file.display().to_string();
    output.line(format!("{}: {found} ({size}, {} {modules})", shown(&file).bold(), found.core_modules))?;
    let yes = |yes: bool, text: &str| if yes { text.to_owned() } else { "-".to_owned() };
    let needs: Vec<String> = found.capabilities().iter().map(ToString::to_string).collect();
    let lines = [
        ("produces", yes(found.produces(), "raw events (busway:bus/producer)")),
        ("handles", found.handler.as_deref().map_or_else(|| "-".into(), |h| format!("raw events ({})", shown(h)))),
        ("task", found.task.as_deref().map_or_else(|| "-".into(), shown)),
        ("needs", if needs.is_empty() { "-".into() } else { needs.join(", ") }),
        ("imports", found.imports.iter().map(|n| shown(&n.interface)).collect::<Vec<_>>().join("\n            ")),
        ("exports", found.exports.iter().map(|e| shown(e)).collect::<Vec<_>>().join("\n            ")),
    ];
    lines.iter().try_for_each(|(name, value)| output.line(format!("  {name:<9} {}", dash(value))))?;
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
