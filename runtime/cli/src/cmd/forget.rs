//! `busway forget`.

use anyhow::Result;
use busway_gateway::api::{ForgetRequest, Forgotten};
use clap::Args;

use crate::client::Client;
use crate::format::counted;
use crate::output::{Output, shown};

/// Let go of what a removed service left
#[derive(Debug, Args)]
#[command(
    long_about = "When a service is removed its subscription is detached: its position, waiting events and dead letters are \
        kept for 24 hours, so that it can come back, and hold the log. This lets go of them at once. A service of that name \
        that comes later is new. Its key-value stays unless --key-value is given.",
    after_help = "Examples:\n  busway forget stock\n  busway forget stock --key-value"
)]
pub(crate) struct ForgetArgs {
    /// The detached subscription, as `busway status` shows it
    name: String,
    /// Delete the key-value of its service too
    #[arg(long)]
    key_value: bool,
}

pub(crate) fn run(args: ForgetArgs, client: &Client, output: &mut Output) -> Result<()> {
    let gone: Forgotten =
        client.post("/v1/forget", &ForgetRequest { subscription: args.name, key_value: args.key_value })?;
    if output.is_json() {
        return output.json(&gone);
    }
    let Forgotten { subscription, parked, dead, lag, keys } = gone;
    let keys =
        if args.key_value { format!("; {} of key-value are deleted", counted(keys, "key")) } else { String::new() };
    output.line(format!(
        "{} is forgotten: it was {} behind, with {} and {}{keys}",
        shown(&subscription),
        counted(lag, "event"),
        counted(parked as u64, "waiting event"),
        counted(dead as u64, "dead letter")
    ))
}
