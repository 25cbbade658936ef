//! `busway contract embed`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use busway_contract::source::{self, SECTION};
use clap::Args;
use serde_json::json;

use crate::output::{Output, note};

/// Put the WIT of its contracts, with doc comments, into a component
#[derive(Debug, Args)]
#[command(
    long_about = "Tools drop doc comments when they make a component from WIT. This adds them again: the packages of the \
        component's contracts, in binary form, in custom sections called `busway-contract`, instead of those that it had. \
        Nothing else changes, and nothing but documents uses it. The WIT has to be what the component was built from, \
        as far as the component uses it.",
    after_help = "Example: busway contract embed checkout.wasm --wit wit -o checkout.documented.wasm"
)]
pub(super) struct EmbedArgs {
    /// The component
    component: PathBuf,
    /// A .wit file, a folder of them (with deps/), or a WIT package in binary form
    #[arg(long, value_name = "PATH")]
    wit: PathBuf,
    /// Where to write the component [default: the file itself]
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &EmbedArgs, output: &mut Output) -> Result<()> {
    let made = source::embed(&args.component, &args.wit)?;
    let out = args.output.as_ref().unwrap_or(&args.component);
    replace(out, &made).with_context(|| format!("{} cannot be written", out.display()))?;
    if output.is_json() {
        return output.json(&json!({ "component": out, "bytes": made.len(), "section": SECTION }));
    }
    note(format!("{} carries the docs of {}", out.display(), args.wit.display()));
    Ok(())
}

/// Writes beside the file and renames, so that a running node never sees half of a component.
fn replace(out: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut beside = out.as_os_str().to_owned();
    beside.push(".new");
    fs::write(&beside, bytes)?;
    fs::rename(&beside, out).inspect_err(|_| drop(fs::remove_file(&beside)))
}
