//! `busway publish`.

mod lines;

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use busway_gateway::AdminConfig;
use busway_gateway::api::{HeaderField, Payload, PublishReply, PublishRequest, PublishResponse};
use busway_types::{EventId, Topic};
use clap::{Args, ValueEnum};

use crate::client::{Client, Refused};
use crate::output::{Output, is_attended, note, warn};

/// How long `--lines` goes on trying when the bus has no room.
const PATIENCE: Duration = Duration::from_mins(1);

/// Bytes that are read for one event.
const MOST_BYTES: u64 = 65 * 1024 * 1024;

/// Publish an event, or many
#[derive(Debug, Args)]
#[command(
    long_about = "Publishes an event and prints its id once it is as safe as the node's durability promises. The data \
        comes from --data (the data itself, not the name of a file), --file FILE or stdin, byte for byte.\n\n\
        With --lines each line of the input is an event (NDJSON, in order, 256 at a time):\n  \
        - a JSON object with `data` (any JSON), `text` or `base64`, and no fields beside those of an event (topic, key, id, \
        content_type, headers, correlation, traceparent, delay_ms, expires_ms), is an event; what it does not say comes \
        from the command line;\n  \
        - any other JSON is itself the data of an event.\n\
        --lines=data takes every line as data, --lines=events takes only events. Empty lines are skipped. At a bad line it \
        stops and says which one it is, and how many before it were published.",
    after_help = "Examples:\n  busway publish shop.orders.placed --key o-17 --data '{\"total\": 12}'\n  \
        jq -c '{key: .region, data: .}' orders.json | busway publish shop.orders.placed --lines"
)]
pub(crate) struct PublishArgs {
    /// Where to
    topic: Topic,
    /// What orders it: events of one key are handled in order
    #[arg(long)]
    key: Option<String>,
    /// A header; may be given more than once
    #[arg(long = "header", value_name = "NAME=VALUE", value_parser = header)]
    headers: Vec<HeaderField>,
    /// An id of your choice (a UUID): published to this topic before, within 2 minutes, nothing is published
    #[arg(long, conflicts_with = "lines")]
    id: Option<EventId>,
    /// Deliver not before this long from now, such as 5s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    delay: Option<Duration>,
    /// Do not deliver later than this long from now, such as 30s
    #[arg(long, value_name = "DURATION", value_parser = duration)]
    expires: Option<Duration>,
    /// Media type of the data [default: application/json when it is JSON]
    #[arg(long, value_name = "TYPE")]
    content_type: Option<String>,
    /// The data itself; --file reads it from a file
    #[arg(long, value_name = "TEXT", conflicts_with_all = ["file", "lines"])]
    data: Option<String>,
    /// Read the data from this file instead of stdin
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Each line of the input is an event
    #[arg(long, value_name = "AS", num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    lines: Option<LineMode>,
}

/// What the lines of the input are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LineMode {
    /// An event when it looks like one, else data
    Auto,
    /// Always data
    Data,
    /// Always an event
    Events,
}

fn header(text: &str) -> Result<HeaderField, String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok(HeaderField { name: name.into(), value: value.into() }),
        _ => Err("write NAME=VALUE".to_owned()),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    busway_node::manifest::parse_duration(text).map_err(|e| e.to_string())
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(crate) fn run(args: PublishArgs, client: &Client, output: &mut Output) -> Result<()> {
    let template = PublishRequest {
        topic: args.topic.to_string(),
        key: args.key.clone(),
        id: args.id.map(|id| id.to_string()),
        content_type: args.content_type.clone(),
        headers: args.headers.clone(),
        delay_ms: args.delay.map(millis),
        expires_ms: args.expires.map(millis),
        ..PublishRequest::default()
    };
    match args.lines {
        Some(mode) => {
            let reader = lines::Reader::new(input(&args)?, mode, template);
            lines::publish(reader, client, output)
        }
        None => one(&args, template, client, output),
    }
}

fn input(args: &PublishArgs) -> Result<Box<dyn Read>> {
    if let Some(path) = &args.file {
        let file = std::fs::File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
        return Ok(Box::new(file));
    }
    if io::IsTerminal::is_terminal(&io::stdin()) && is_attended() {
        note("reading from the terminal; Ctrl-D ends the input");
    }
    Ok(Box::new(io::stdin()))
}

fn one(args: &PublishArgs, mut request: PublishRequest, client: &Client, output: &mut Output) -> Result<()> {
    let bytes = if let Some(data) = &args.data {
        data.clone().into_bytes()
    } else {
        let mut bytes = Vec::new();
        // More than a node can be set to take, so that a cut event is always refused, never published.
        input(args)?.take(MOST_BYTES).read_to_end(&mut bytes).context("cannot read the data")?;
        bytes
    };
    put(&mut request, Payload::of(&bytes));
    let mut body = Vec::new();
    serde_json::to_writer(&mut body, &request)?;
    check_size(bytes.len(), body.len())?;
    let mut replies = send(client, &body)?;
    let Some(reply) = replies.pop() else { bail!("the node answered nothing; is it of another version?") };
    warn_of_silence(&mut BTreeSet::new(), &request.topic, &reply);
    if output.is_json() { output.json(&reply) } else { output.line(reply.id.to_string()) }
}

/// Refuses an event that no request can carry: the node would close the connection half-way instead of answering.
fn check_size(data: usize, body: usize) -> Result<()> {
    if body <= AdminConfig::BODY_BYTES {
        return Ok(());
    }
    bail!(
        "the event has {data} bytes of data ({body} as JSON), and a request carries at most {}; the node's \
         `limits.event-bytes` (1 MiB when the manifest does not say) is the limit of an event, so store the data elsewhere \
         and publish where it is",
        AdminConfig::BODY_BYTES
    )
}

fn put(request: &mut PublishRequest, payload: Payload) {
    let Payload { data, text, base64 } = payload;
    (request.data, request.text, request.base64) = (data, text, base64);
}

fn send(client: &Client, body: &[u8]) -> Result<Vec<PublishReply>> {
    let response: PublishResponse = client.post_bytes("/v1/events", body)?;
    Ok(response.published)
}

/// The same, but waits while the bus has no room: nothing of a refused batch was published, so that it can be repeated.
fn send_patiently(client: &Client, body: &[u8]) -> Result<Vec<PublishReply>> {
    let mut wait = Duration::from_millis(100);
    let mut waited = Duration::ZERO;
    loop {
        match send(client, body) {
            Err(error) if waited < PATIENCE && is_overloaded(&error) => {
                std::thread::sleep(wait);
                waited += wait;
                wait = (wait * 2).min(Duration::from_secs(2));
            }
            done => return done,
        }
    }
}

fn is_overloaded(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| refused.0.word() == "overloaded")
}

/// Says, once per topic, that no service handles the event now. A subscription that is detached may have it kept.
fn warn_of_silence(told: &mut BTreeSet<String>, topic: &str, reply: &PublishReply) {
    if reply.subscribers > 0 || told.len() >= 20 || !told.insert(topic.to_owned()) {
        return;
    }
    let nearest =
        reply.hint.as_ref().map_or_else(String::new, |hint| format!("; the nearest that one does is `{hint}`"));
    warn(format!("no service here subscribes to `{topic}` now{nearest}"));
}
