//! `busway contract show`.

use std::path::PathBuf;

use anyhow::{Result, bail};
use busway_contract::document::{Api, Format};
use clap::Args;
use serde_json::{Value, json};

use crate::output::{Output, shown_lines};

/// Make a document from contracts
#[derive(Debug, Args)]
#[command(
    long_about = "Makes a document from the contracts of a .wit file, a folder of them (with deps/), a component, or all \
        services of an app (a folder of .wasm files, or a busway.toml).\n\n\
        Formats: `wit`; `markdown` with tables and examples; `json-schema` (2020-12), a definition for the data of each \
        topic; `asyncapi` (3.0), a channel for each topic; `openapi` (3.1), the paths under which the gateway takes \
        events and requests.\n\n\
        Doc comments are in WIT, but tools drop them when they make a component; `busway contract embed` puts them back. \
        Versions that understand each other (1.0.0 and 1.2.0) are shown as one contract in its newest form.\n\n\
        With --json and without --format: {\"title\", \"contracts\": [{\"id\", \"functions\": [{\"name\", \"kind\", \"topic\", \
        \"key\", \"wit\"}]}]}.",
    after_help = "Example: busway contract show target/wasm32-wasip2/release/checkout.wasm --format markdown"
)]
pub(super) struct ShowArgs {
    /// A .wit file, a folder of them, a component, or an app
    file: PathBuf,
    /// The kind of document: wit, markdown, json-schema, asyncapi or openapi [default: wit]
    #[arg(long, value_name = "FORMAT", value_parser = str::parse::<Format>)]
    format: Option<Format>,
    /// The title of the document [default: the name of the file]
    #[arg(long)]
    title: Option<String>,
}

pub(super) fn run(args: &ShowArgs, output: &mut Output) -> Result<()> {
    let api = super::api(&args.file, args.title.as_deref())?;
    if api.contracts().is_empty() {
        bail!(
            "{} has no contract: no interface with a plain function that is imported or exported under a package's name \
             (`package shop:orders@1.0.0; interface order-events {{ placed: func(key: string); }}`)",
            args.file.display()
        );
    }
    if output.is_json() && args.format.is_none() {
        return output.json(&value(&api));
    }
    let document = api.document(args.format.unwrap_or(Format::Wit))?;
    output.line(shown_lines(&document))
}

fn value(api: &Api) -> Value {
    let contracts = api.contracts().into_iter().map(|contract| {
        let functions = contract.functions.iter().map(|function| {
            json!({
                "name": function.name,
                "kind": function.kind().to_string(),
                "topic": contract.id.topic(&function.name).ok(),
                "key": function.key().map(|place| function.params[place].name.clone()),
                "wit": function.to_string(),
            })
        });
        json!({ "id": contract.id.to_string(), "functions": functions.collect::<Vec<_>>() })
    });
    json!({ "title": api.title(), "contracts": contracts.collect::<Vec<_>>() })
}
