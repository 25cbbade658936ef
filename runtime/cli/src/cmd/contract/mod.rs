//! `busway contract`.
//!
//! All three commands read files alone: no node is asked, nothing is run.

mod diff;
mod embed;
mod show;

use std::path::{Path, PathBuf};

use anyhow::Result;
use busway_contract::document::Api;
use busway_contract::source::{self, Source};
use busway_node::manifest::App;
use clap::{Args, Subcommand};

use crate::output::{Output, shown_lines, warn};

/// Look at event contracts, compare them, and make documents from them
#[derive(Debug, Args)]
#[command(
    long_about = "A contract is a WIT interface whose functions are events. A component that imports it produces them, one \
        that exports it handles them. These commands read files; no node has to run.",
    after_help = "Example: busway contract show wit/orders.wit --format asyncapi"
)]
pub(crate) struct ContractArgs {
    #[command(subcommand)]
    command: ContractCommand,
}

#[derive(Debug, Subcommand)]
enum ContractCommand {
    Show(show::ShowArgs),
    Diff(diff::DiffArgs),
    Embed(embed::EmbedArgs),
}

pub(crate) fn run(args: &ContractArgs, output: &mut Output) -> Result<()> {
    match &args.command {
        ContractCommand::Show(args) => show::run(args, output),
        ContractCommand::Diff(args) => diff::run(args, output),
        ContractCommand::Embed(args) => embed::run(args, output),
    }
}

/// What a file or folder says about contracts; what cannot be read of it is told.
fn read(path: &Path) -> Result<Source> {
    let source = source::read(path)?;
    source.problems.iter().for_each(|problem| warn(shown_lines(problem)));
    Ok(source)
}

/// Whether a path is an app rather than WIT or a component.
fn is_app(path: &Path) -> bool {
    if !path.is_dir() {
        return path.extension().is_some_and(|found| found == "toml");
    }
    let has_wit = std::fs::read_dir(path).is_ok_and(|entries| {
        entries.flatten().any(|entry| entry.path().extension().is_some_and(|found| found == "wit"))
    });
    !has_wit
}

/// A file, or all services of an app.
fn api(path: &Path, title: Option<&str>) -> Result<Api> {
    let stem =
        |path: &Path| path.file_stem().map_or_else(|| "contracts".into(), |stem| stem.to_string_lossy().into_owned());
    let named: PathBuf = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let mut api = Api::new(title.map_or_else(|| stem(&named), str::to_owned));
    if !is_app(path) {
        let source = read(path)?;
        let service = stem(&named);
        let is_component = path.extension().is_some_and(|found| found == "wasm");
        api.add(is_component.then_some(&*service), source);
        return Ok(api);
    }
    let app = App::load(path)?;
    if let Some(nothing) = app.nothing_to_run() {
        return Err(nothing.into());
    }
    for refused in &app.refused {
        warn(format!("{}: {}", refused.path.display(), shown_lines(&refused.reason)));
    }
    for service in app.services.values() {
        api.add(Some(service.name.as_str()), read(&service.component)?);
    }
    Ok(api)
}
