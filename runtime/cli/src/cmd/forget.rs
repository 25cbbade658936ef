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
        that comes later is new. Its key-value stays.",
    after_help = "Example: busway forget stock"
)]
pub(crate) struct ForgetArgs {
    /// The detached subscription, as `busway status` shows it
    name: String,
}

pub(crate) fn run(args: ForgetArgs, client: &Client, output: &mut Output) -> Result<()> {
    let gone: Forgotten = client.post("/v1/forget", &ForgetRequest { subscription: args.name })?;
    if output.is_json() {
        return output.json(&gone);
    }
    let Forgotten { subscription, parked, dead, lag } = gone;
    output.line(format!(
        "{} is forgotten: it was {} behind, with {} and {}",
        shown(&subscription),
        counted(lag, "event"),
        counted(parked as u64, "waiting event"),
        counted(dead as u64, "dead letter")
    ))
}
