//! `busway trace`.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use busway_gateway::api::{Trace, TraceDelivery, TraceEvent, TraceOutcome, TraceQuery};
use busway_types::EventId;
use clap::Args;
use owo_colors::OwoColorize;

use crate::client::Client;
use crate::format::counted;
use crate::output::{Output, Waiting, note, preview, shown, warn};
use crate::tree::Tree;

/// Show the journey of an event, from its first cause to its last effect
#[derive(Debug, Args)]
#[command(
    long_about = "Draws the journey of an event as a tree: the event that began it, what each service did with it (attempts, \
        times, outcomes), and the events that were published by handling it, down to the last. Works for all events that \
        are kept, also after a restart. A bus in memory keeps no record of what is over: there it says `settled`.\n\n\
        Outcomes: acked (handled), expired, parked (waits for another attempt), dead (given up), dropped (a dead letter that \
        was dropped), pending (not handled yet, or to be handled again), settled (over; how is not recorded).",
    after_help = "Example: busway trace 01890a5d-ac96-774b-bcce-b302099a8057"
)]
pub(crate) struct TraceArgs {
    /// The event's id, as `publish`, `tail` and `dead list` print it
    id: EventId,
    /// At most this many events
    #[arg(long, value_name = "N", default_value_t = TraceQuery::LIMIT)]
    limit: usize,
}

pub(crate) fn run(args: &TraceArgs, client: &Client, output: &mut Output) -> Result<()> {
    let query = TraceQuery { limit: Some(args.limit) };
    let waiting = Waiting::begin("looking through the log for what came of it, at most about 20 s; Ctrl-C stops");
    let trace = client.get(&format!("/v1/trace/{}", args.id), &query);
    drop(waiting);
    let trace: Trace = trace?;
    if output.is_json() {
        return output.json(&trace);
    }
    for tree in trees(&trace) {
        tree.lines().into_iter().try_for_each(|line| output.line(line))?;
    }
    if trace.cause_gone {
        note("the event that caused the first one is no longer kept");
    }
    if trace.more {
        warn(format!("{} are shown; there may be more", counted(trace.events.len() as u64, "event")));
    }
    if !trace.complete {
        warn("the log is long: not all that was settled was read; what is `settled` may be told on another try");
    }
    Ok(())
}

/// One tree for each event that nothing else here caused.
fn trees(trace: &Trace) -> Vec<Tree> {
    let mut effects: BTreeMap<EventId, Vec<&TraceEvent>> = BTreeMap::new();
    let mut first = Vec::new();
    for event in &trace.events {
        match event.cause.filter(|cause| trace.events.iter().any(|other| other.id == *cause)) {
            Some(cause) => effects.entry(cause).or_default().push(event),
            None => first.push(event),
        }
    }
    first.into_iter().map(|event| tree(event, trace.id, &mut effects)).collect()
}

/// An event with its deliveries, below each of them the events that it published.
fn tree(event: &TraceEvent, asked: EventId, effects: &mut BTreeMap<EventId, Vec<&TraceEvent>>) -> Tree {
    // Taken out: a second event of the same id would not be drawn twice.
    let mut caused = effects.remove(&event.id).unwrap_or_default();
    let mut below = Vec::new();
    for delivery in &event.deliveries {
        let mut branch = Tree::leaf(delivered(delivery));
        for (i, attempt) in delivery.errors.iter().enumerate() {
            let error = preview(&attempt.error, 200);
            branch.below.push(Tree::leaf(format!("attempt {} failed {}: {error}", i + 1, attempt.time.dimmed())));
        }
        let (own, others) = caused.into_iter().partition(|effect| effect.source == delivery.service);
        caused = others;
        branch.below.extend(Vec::into_iter(own).map(|effect| tree(effect, asked, effects)));
        below.push(branch);
    }
    below.extend(caused.into_iter().map(|effect| tree(effect, asked, effects)));
    Tree { text: published(event, asked), below }
}

fn published(event: &TraceEvent, asked: EventId) -> String {
    let TraceEvent { offset: _, id, topic, key, time_ms, source, .. } = event;
    let key = key.as_ref().map_or_else(String::new, |key| format!(" key {}", shown(key).bold()));
    let by = source.as_ref().map_or_else(|| " from outside".to_owned(), |source| format!(" by {source}"));
    let asked = if *id == asked { " (this one)" } else { "" };
    format!("{} {}{key} {}{by}{asked}", topic.cyan(), id.dimmed(), time_ms.dimmed())
}

fn delivered(delivery: &TraceDelivery) -> String {
    let TraceDelivery { subscription, outcome, time_ms, attempts, reason, due_ms, handled, .. } = delivery;
    let word = outcome.as_str();
    let word = match outcome {
        TraceOutcome::Acked => word.green().to_string(),
        TraceOutcome::Dead | TraceOutcome::Dropped => word.red().to_string(),
        TraceOutcome::Parked | TraceOutcome::Pending | TraceOutcome::Expired => word.yellow().to_string(),
        TraceOutcome::Settled => word.to_owned(),
    };
    let reason = reason.and_then(|reason| serde_json::to_value(reason).ok());
    let reason = reason.as_ref().and_then(|word| word.as_str()).map_or_else(String::new, |word| format!(" ({word})"));
    let mut text = format!("{} {word}{reason}", shown(subscription).bold());
    if let Some(attempts) = attempts.filter(|attempts| *attempts > 1 || *outcome != TraceOutcome::Acked) {
        let _ = write!(text, ", {}", counted(attempts as u64, "attempt"));
    }
    if *handled > 1 || (*handled == 1 && *outcome != TraceOutcome::Acked) {
        let _ = write!(text, ", handled {}", counted(*handled as u64, "time"));
    }
    if let Some(time) = time_ms {
        let _ = write!(text, " {}", time.dimmed());
    }
    if let Some(due) = due_ms.filter(|due| due.0 > 0) {
        let _ = write!(text, ", next attempt {}", due.dimmed());
    }
    text
}
