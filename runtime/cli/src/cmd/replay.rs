//! `busway replay`.

use anyhow::{Result, bail};
use busway_gateway::api::{ReplayReply, ReplayRequest, TailFrom};
use clap::Args;

use crate::client::Client;
use crate::cmd::tail::place;
use crate::failure::Usage;
use crate::format::{count, counted};
use crate::output::{Output, note, warn};

/// Deliver past events to a service again
#[derive(Debug, Args)]
#[command(
    long_about = "Moves a service's position back, so that it gets a part of the log again: those events that its patterns \
        select and that it had handled. What it handles now is finished first; order is kept, and new events wait behind \
        the replay. Events that wait for another attempt stay as they are, dead letters stay dead unless --dead is given.\n\n\
        What the handlers publish in a replay gets new ids, and what they write to key-value is written again: an event \
        that is counted is counted twice. --dry-run says how many events it would be.",
    after_help = "Example: busway replay stock --from 2026-01-31T09:00:00Z --to 2026-01-31T10:00:00Z --dry-run"
)]
pub(crate) struct ReplayArgs {
    /// The service, or its subscription when it has several
    service: String,
    /// Where the part begins: start, an offset, a time (2026-01-31T09:05:00Z) or a while ago (10m)
    #[arg(long, value_parser = place, value_name = "start|OFFSET|TIME")]
    from: TailFrom,
    /// Where it ends; what is there and later and was handled is not delivered again
    #[arg(long, value_parser = place, value_name = "OFFSET|TIME|now", default_value = "now")]
    to: TailFrom,
    /// Deliver the dead letters of the part as well
    #[arg(long)]
    dead: bool,
    /// Only say what would be delivered again
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn run(args: ReplayArgs, client: &Client, output: &mut Output) -> Result<()> {
    let ReplayArgs { service, from, to, dead, dry_run } = args;
    if from == TailFrom::Now {
        bail!(Usage("nothing was handled after now; give --from start, an offset or a time".to_owned()));
    }
    let request = ReplayRequest { service, from, to: Some(to), dead, dry_run };
    let reply: ReplayReply = client.post("/v1/replay", &request)?;
    if output.is_json() {
        return output.json(&reply);
    }
    output.line(sentence(&reply))?;
    if let TailFrom::Offset(asked) = from
        && asked < reply.from
    {
        warn(format!("events before {} are no longer kept; it begins there", count(reply.from)));
    }
    if reply.parked > 0 {
        note(format!("{} there still to be tried again: kept as before", counted(reply.parked as u64, "event")));
    }
    if reply.dead > 0 && !dead {
        note(format!("{} there: not delivered again without --dead", counted(reply.dead as u64, "dead letter")));
    }
    Ok(())
}

fn sentence(reply: &ReplayReply) -> String {
    let ReplayReply { subscription, from, to, events, counted_to, moved, generation, .. } = reply;
    let least = if counted_to < to { "at least " } else { "" };
    let events =
        events.map_or_else(|| "what it selects".to_owned(), |events| format!("{least}{}", counted(events, "event")));
    let range = format!("of {} to {}", count(*from), count(*to));
    if *moved {
        format!("{subscription} gets {events} {range} again (replay {generation})")
    } else {
        format!("{subscription} would get {events} {range} again")
    }
}
