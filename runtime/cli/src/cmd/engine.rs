//! `busway engine`.

use anyhow::{Result, anyhow};
use busway_node::manifest::EngineUrl;
use busway_node::{engine_facts, engine_guarantees};
use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use crate::failure::Usage;
use crate::output::{Output, shown};
use crate::table::{Align, Table};

/// Look at the engines: where queues live
#[derive(Debug, Args)]
#[command(
    long_about = "Says what the engine of an address guarantees, and what its server says of itself. No node has to run.",
    after_help = "Example: busway engine show nats://127.0.0.1:4222"
)]
pub(crate) struct EngineArgs {
    #[command(subcommand)]
    command: EngineCommand,
}

#[derive(Debug, Subcommand)]
enum EngineCommand {
    /// Show what an engine guarantees, and its server
    #[command(
        long_about = "Shows the guarantees of an engine (native: whatever keeps the events does it; host: busway does it; no, \
            not yet: not available) and, of a broker, what the server says of itself. Nothing is made or changed. With \
            --json: {\"engine\", \"facts\": {...}, \"guarantees\": [{\"what\", \"how\"}]}.",
        after_help = "Example: busway engine show nats://127.0.0.1:4222/shop"
    )]
    Show {
        /// The address, as for `run --engine`
        url: String,
    },
}

pub(crate) fn run(args: &EngineArgs, output: &mut Output) -> Result<()> {
    let EngineCommand::Show { url } = &args.command;
    let url = url.parse::<EngineUrl>().map_err(|error| Usage(error.to_string()))?;
    let facts = engine_facts(&url).map_err(|error| anyhow!("{error}"))?;
    let guarantees = engine_guarantees(&url);
    if output.is_json() {
        let facts: Map<String, Value> =
            facts.into_iter().map(|(what, found)| (what.to_owned(), found.into())).collect();
        let guarantees: Vec<Value> = guarantees.map(|row| json!({ "what": row.what, "how": row.how })).collect();
        return output.json(&json!({ "engine": url.to_string(), "facts": facts, "guarantees": guarantees }));
    }
    output.line(format!("engine {}", shown(&url.to_string())))?;
    for (what, found) in facts {
        output.line(format!("{what}: {}", shown(&found)))?;
    }
    output.line("")?;
    let mut table = Table::new(&[("GUARANTEE", Align::Left), ("BY", Align::Left)]);
    for row in guarantees {
        table.row(vec![row.what.to_owned(), row.how.to_owned()]);
    }
    table.lines().into_iter().try_for_each(|line| output.line(line))
}
