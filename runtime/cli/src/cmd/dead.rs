//! `busway dead`.

use anyhow::{Result, bail};
use busway_gateway::api::{DeadChanged, DeadDetail, DeadFilter, DeadPage};
use busway_types::{DeadReason, EventId, Pattern, ServiceName, Timestamp};
use clap::{Args, Subcommand};
use owo_colors::OwoColorize;

use crate::client::{Client, some};
use crate::failure::Usage;
use crate::format;
use crate::output::{Output, note, preview, shown, shown_lines};
use crate::table::{Align, Table};

/// Look at dead letters, retry or drop them
#[derive(Debug, Args)]
#[command(
    long_about = "Events that a service gave up on are kept as dead letters, with the reason and every attempt. Nothing \
        happens to them until they are retried or dropped.",
    after_help = "Example: busway dead list --service stock --since 1h"
)]
pub(crate) struct DeadArgs {
    #[command(subcommand)]
    command: DeadCommand,
}

#[derive(Debug, Subcommand)]
enum DeadCommand {
    /// List dead letters, the oldest first
    #[command(after_help = "Example: busway dead list --reason trapped --json")]
    List(Filter),
    /// Show the dead letters of one event, with every attempt and the event itself
    #[command(after_help = "Example: busway dead show 01890a5d-ac96-774b-bcce-b302099a8057")]
    Show {
        /// The event's id
        id: EventId,
    },
    /// Give dead letters back to their services, as if they were new
    #[command(after_help = "Example: busway dead retry --service stock")]
    Retry(Change),
    /// Drop dead letters for good
    #[command(after_help = "Example: busway dead drop --id 01890a5d-ac96-774b-bcce-b302099a8057")]
    Drop(Change),
}

#[derive(Debug, Args)]
struct Filter {
    /// Only those of this service
    #[arg(long)]
    service: Option<ServiceName>,
    /// Only those with this reason
    #[arg(long, value_parser = reason, value_name = "rejected|exhausted|trapped|timed-out|loop")]
    reason: Option<DeadReason>,
    /// Only those given up since then: a time (2026-01-31T09:05:00Z) or a while ago (10m)
    #[arg(long, value_parser = format::moment, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Only those given up before then
    #[arg(long, value_parser = format::moment, value_name = "TIME")]
    until: Option<Timestamp>,
    /// Only those of this event
    #[arg(long)]
    id: Option<EventId>,
    /// Only those of topics that this pattern selects
    #[arg(long, value_name = "PATTERN")]
    topic: Option<Pattern>,
    /// At most this many
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

#[derive(Debug, Args)]
struct Change {
    #[command(flatten)]
    filter: Filter,
    /// All dead letters; needed when nothing else is said
    #[arg(long)]
    all: bool,
}

fn reason(text: &str) -> Result<DeadReason, String> {
    serde_json::from_value(text.into())
        .map_err(|_| format!("`{text}` is no reason; the reasons are rejected, exhausted, trapped, timed-out and loop"))
}

fn word(reason: DeadReason) -> String {
    serde_json::to_value(reason).ok().and_then(|v| v.as_str().map(str::to_owned)).unwrap_or_default()
}

impl From<Filter> for DeadFilter {
    fn from(filter: Filter) -> Self {
        let Filter { service, reason, since, until, id, topic, limit } = filter;
        Self { service, reason, since_ms: since, until_ms: until, id, topic, limit }
    }
}

pub(crate) fn run(args: DeadArgs, client: &Client, output: &mut Output) -> Result<()> {
    match args.command {
        DeadCommand::List(filter) => list(&filter.into(), client, output),
        DeadCommand::Show { id } => show(id, client, output),
        DeadCommand::Retry(change) => self::change(change, "retry", client, output),
        DeadCommand::Drop(change) => self::change(change, "drop", client, output),
    }
}

fn list(filter: &DeadFilter, client: &Client, output: &mut Output) -> Result<()> {
    let page: DeadPage = client.get("/v1/dead", filter)?;
    if output.is_json() {
        return output.json(&page);
    }
    if page.letters.is_empty() {
        note("no dead letters");
        return Ok(());
    }
    let headings = ["TIME", "SERVICE", "REASON", "TOPIC", "KEY", "ID"].map(|h| (h, Align::Left));
    let mut table = Table::new(&[&headings[..], &[("ATTEMPTS", Align::Right), ("LAST ERROR", Align::Left)]].concat());
    for letter in &page.letters {
        table.row(vec![
            letter.time_ms.to_string(),
            letter.service.to_string(),
            word(letter.reason),
            letter.topic.to_string(),
            letter.key.as_deref().map_or_else(|| "-".to_owned(), |key| preview(key, 40)),
            letter.id.to_string(),
            letter.attempts.to_string(),
            preview(&letter.error, 80),
        ]);
    }
    table.lines().into_iter().try_for_each(|line| output.line(line))?;
    if page.total > page.letters.len() {
        note(format!("{} of {}; --limit shows more", page.letters.len(), some(page.total, "dead letter")));
    }
    Ok(())
}

fn show(id: EventId, client: &Client, output: &mut Output) -> Result<()> {
    let letters: Vec<DeadDetail> = client.get(&format!("/v1/dead/{id}"), &())?;
    if output.is_json() {
        return output.json(&letters);
    }
    for letter in &letters {
        let DeadDetail { subscription, service, reason, time_ms, attempts, event } = letter;
        output.line(format!("{} given up by {} at {time_ms}: {}", id.bold(), service.bold(), word(*reason)))?;
        output.line(format!("  subscription  {}", shown(subscription)))?;
        output.line(format!("  topic         {}", event.topic))?;
        output.line(format!("  key           {}", event.key.as_deref().map_or_else(|| "-".into(), shown)))?;
        output.line(format!("  published     {} as offset {}", event.time_ms, event.offset))?;
        if let Some(source) = &event.source {
            let cause = event.cause.map_or_else(String::new, |cause| format!(", while handling {cause}"));
            output.line(format!("  by            {}{cause}", shown(source)))?;
        }
        for header in &event.headers {
            output.line(format!("  header        {}: {}", shown(&header.name), shown(&header.value)))?;
        }
        for (i, attempt) in attempts.iter().enumerate() {
            let error = shown_lines(&attempt.error).replace('\n', "\n                ");
            output.line(format!("  attempt {:<5} {} {error}", i + 1, attempt.time))?;
        }
        let json = event.data.as_ref().map(|data| data.get());
        let data = json.or(event.text.as_deref()).or(event.base64.as_deref()).unwrap_or_default();
        output.line(format!("  data          {}", preview(data, 2_000)))?;
    }
    Ok(())
}

fn change(change: Change, action: &str, client: &Client, output: &mut Output) -> Result<()> {
    let filter = DeadFilter::from(change.filter);
    match (filter.is_everything(), change.all) {
        (true, false) => bail!(Usage(format!("say which dead letters to {action}, or --all for every one"))),
        (false, true) => bail!(Usage("--all and a selection contradict each other; leave one out".to_owned())),
        _ => {}
    }
    let changed: DeadChanged = client.post(&format!("/v1/dead/{action}"), &filter)?;
    if output.is_json() {
        return output.json(&changed);
    }
    let done = if action == "drop" { "dropped" } else { "given back" };
    output.line(format!("{} {done}", some(changed.changed, "dead letter")))
}
