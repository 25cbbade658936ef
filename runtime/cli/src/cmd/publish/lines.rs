//! NDJSON in, batches out.
//!
//! Invariant: events are published in the order of their lines, each batch whole or not at all, and whoever stops half
//! way says which line it was and how many before it are published.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};

use anyhow::{Context, Error, Result, bail};
use busway_gateway::api::PublishRequest;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::value::RawValue;

use super::{LineMode, check_size, send_patiently, warn_of_silence};
use crate::client::{Client, Refused};
use crate::format::counted;
use crate::output::{Output, is_attended, note};

/// Events of one request.
const BATCH_EVENTS: usize = 256;
/// Bytes of one request, unless a single event is larger. Below what a node takes.
const BATCH_BYTES: usize = 8 * 1024 * 1024;
/// Bytes of one line.
const LINE_BYTES: u64 = 64 * 1024 * 1024;

/// Reads events from lines.
pub(super) struct Reader<R> {
    input: BufReader<R>,
    mode: LineMode,
    template: PublishRequest,
    line: u64,
}

/// Events for one request.
#[derive(Default)]
struct Batch {
    body: Vec<u8>,
    /// Line and topic of each event.
    events: Vec<(u64, String)>,
}

impl<R: Read> Reader<R> {
    pub(super) fn new(input: R, mode: LineMode, template: PublishRequest) -> Self {
        Self { input: BufReader::with_capacity(256 * 1024, input), mode, template, line: 0 }
    }

    /// The event of the next line that is not empty; none at the end.
    fn next(&mut self) -> Result<Option<PublishRequest>> {
        loop {
            let mut bytes = Vec::new();
            self.line += 1;
            let line = self.line;
            let read = (&mut self.input).take(LINE_BYTES).read_until(b'\n', &mut bytes);
            let read = read.with_context(|| format!("cannot read line {line}"))?;
            if read == 0 {
                return Ok(None);
            }
            if read as u64 == LINE_BYTES {
                bail!("line {line} is longer than {LINE_BYTES} bytes");
            }
            let Ok(text) = std::str::from_utf8(&bytes) else { bail!("line {line} is not valid UTF-8") };
            let text = text.trim();
            if !text.is_empty() {
                return self.event(text, line).map(Some);
            }
        }
    }

    fn event(&self, text: &str, line: u64) -> Result<PublishRequest> {
        let raw: Box<RawValue> = serde_json::from_str(text).map_err(|error| not_json(line, &error))?;
        let data = |raw| PublishRequest { data: Some(raw), ..self.template.clone() };
        let event = |fields| self.merged(fields).with_context(|| format!("line {line} is not an event"));
        match self.mode {
            LineMode::Data => Ok(data(raw)),
            LineMode::Events => {
                event(serde_json::from_str(text).with_context(|| format!("line {line} is not an event"))?)
            }
            LineMode::Auto => match serde_json::from_str::<Line>(text) {
                Ok(fields) if fields.data.is_some() || fields.text.is_some() || fields.base64.is_some() => {
                    event(fields)
                }
                _ => Ok(data(raw)),
            },
        }
    }

    /// What the line says, and what the command line says where it does not.
    fn merged(&self, line: Line) -> Result<PublishRequest> {
        let template = &self.template;
        let Line { topic, key, id, content_type, mut headers, correlation, traceparent, delay_ms, .. } = line;
        headers.extend(template.headers.iter().cloned());
        if [line.data.is_some(), line.text.is_some(), line.base64.is_some()].iter().filter(|given| **given).count() > 1
        {
            bail!("more than one of `data`, `text` and `base64`");
        }
        Ok(PublishRequest {
            topic: topic.unwrap_or_else(|| template.topic.clone()),
            key: key.or_else(|| template.key.clone()),
            id,
            content_type: content_type.or_else(|| template.content_type.clone()),
            headers,
            correlation,
            traceparent,
            delay_ms: delay_ms.or(template.delay_ms),
            expires_ms: line.expires_ms.or(template.expires_ms),
            data: line.data,
            text: line.text,
            base64: line.base64,
        })
    }

    /// The next events; none at the end. With an error, the events before it.
    fn batch(&mut self, held: &mut Option<(PublishRequest, u64)>) -> (Batch, Result<()>) {
        let mut batch = Batch::default();
        loop {
            let (request, line) = match held.take() {
                Some(held) => held,
                None => match self.next() {
                    Ok(Some(request)) => (request, self.line),
                    Ok(None) => return (batch, Ok(())),
                    Err(error) => return (batch, Err(error)),
                },
            };
            let text = match serde_json::to_vec(&request) {
                Ok(text) => text,
                Err(error) => return (batch, Err(error.into())),
            };
            if let Err(error) = check_size(size_of(&request), text.len()) {
                return (batch, Err(error.context(format!("line {line} is too large"))));
            }
            if !batch.events.is_empty() && batch.body.len() + text.len() > BATCH_BYTES {
                *held = Some((request, line));
                return (batch, Ok(()));
            }
            batch.body.extend_from_slice(&text);
            batch.body.push(b'\n');
            batch.events.push((line, request.topic));
            if batch.events.len() == BATCH_EVENTS {
                return (batch, Ok(()));
            }
        }
    }
}

/// Bytes of an event's data as its line writes it.
fn size_of(request: &PublishRequest) -> usize {
    let json = request.data.as_ref().map(|data| data.get());
    json.or(request.text.as_deref()).or(request.base64.as_deref()).map_or(0, str::len)
}

/// The parser counts lines of the text it was given, which is always the first.
fn not_json(line: u64, error: &serde_json::Error) -> Error {
    let (why, column) = (error.to_string(), error.column());
    let why = why.split(" at line ").next().unwrap_or_default();
    anyhow::anyhow!(
        "line {line} is not JSON: {why} at column {column}; write text in quotes (\"text\"), or publish without --lines: \
         then the whole input is one event, byte for byte"
    )
}

/// One line that says more than data. Like a [`PublishRequest`], but what it leaves out comes from elsewhere.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    topic: Option<String>,
    key: Option<String>,
    id: Option<String>,
    content_type: Option<String>,
    #[serde(default)]
    headers: Vec<busway_gateway::api::HeaderField>,
    correlation: Option<String>,
    traceparent: Option<String>,
    delay_ms: Option<u64>,
    expires_ms: Option<u64>,
    #[serde(default, deserialize_with = "raw")]
    data: Option<Box<RawValue>>,
    text: Option<String>,
    base64: Option<String>,
}

/// `"data": null` is data that is null, not data that is missing.
fn raw<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Box<RawValue>>, D::Error> {
    serde::Deserialize::deserialize(deserializer).map(Some)
}

/// Publishes every line.
pub(super) fn publish<R: Read>(mut reader: Reader<R>, client: &Client, output: &mut Output) -> Result<()> {
    let progress = progress();
    let (mut held, mut told) = (None, BTreeSet::new());
    let mut published: u64 = 0;
    loop {
        let (batch, outcome) = reader.batch(&mut held);
        if !batch.events.is_empty() {
            let sent = send_patiently(client, &batch.body);
            let replies = sent.map_err(|error| stopped(name_line(error, &batch), published))?;
            for ((_, topic), reply) in batch.events.iter().zip(&replies) {
                progress.suspend(|| warn_of_silence(&mut told, topic, reply));
                if output.is_json() {
                    output.json_line(reply)?;
                }
            }
            published += replies.len() as u64;
            progress.set_position(published);
        }
        outcome.map_err(|error| stopped(error, published))?;
        if batch.events.is_empty() {
            break;
        }
    }
    progress.finish_and_clear();
    if !output.is_json() {
        note(format!("published {}", counted(published, "event")));
    }
    Ok(())
}

fn stopped(error: Error, published: u64) -> Error {
    let reason = crate::failure::chain(&error);
    match published {
        0 => anyhow::anyhow!("{reason}; nothing was published"),
        n => anyhow::anyhow!("{reason}; {} before were published, the rest was not", counted(n, "event")),
    }
}

/// The node knows elements of a batch, people know lines.
fn name_line(error: Error, batch: &Batch) -> Error {
    let index = error.downcast_ref::<Refused>().and_then(|refused| refused.0.index);
    match index.and_then(|index| batch.events.get(index)) {
        Some((line, _)) => error.context(format!("line {line} was refused, and with it its batch")),
        None => error,
    }
}

fn progress() -> ProgressBar {
    if !is_attended() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} published {human_pos} events ({per_sec})") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reader(text: &[u8], mode: LineMode) -> Reader<&[u8]> {
        let template = PublishRequest { topic: "t".into(), key: Some("k".into()), ..PublishRequest::default() };
        Reader::new(text, mode, template)
    }

    fn only(text: &str, mode: LineMode) -> PublishRequest {
        reader(text.as_bytes(), mode).next().expect("sound").expect("a line")
    }

    fn told(text: &[u8], mode: LineMode) -> String {
        let mut reader = reader(text, mode);
        loop {
            match reader.next() {
                Ok(Some(_)) => {}
                Ok(None) => panic!("no error"),
                Err(error) => return crate::failure::chain(&error),
            }
        }
    }

    #[test]
    fn a_line_that_looks_like_an_event_is_one_and_any_other_is_data() {
        let event = only(r#"{"key":"ci","data":{"n":1.50},"topic":"u"}"#, LineMode::Auto);
        assert_eq!((event.topic.as_str(), event.key.as_deref()), ("u", Some("ci")));
        assert_eq!(event.data.as_ref().map(|d| d.get()), Some(r#"{"n":1.50}"#));
        for line in [r#"{"key":"ci"}"#, r#"{"data":1,"more":2}"#, "7", "[1]", "\"text\""] {
            let data = only(line, LineMode::Auto);
            assert_eq!(data.data.as_ref().map(|d| d.get()), Some(line));
            assert_eq!((data.topic.as_str(), data.key.as_deref()), ("t", Some("k")));
        }
        let null = only(r#"{"data":null}"#, LineMode::Auto);
        assert_eq!(null.data.as_ref().map(|d| d.get()), Some("null"));
        assert_eq!(only(r#"{"text":"hi"}"#, LineMode::Auto).text.as_deref(), Some("hi"));
    }

    #[test]
    fn the_reading_can_be_fixed() {
        let data = only(r#"{"data":1}"#, LineMode::Data);
        assert_eq!(data.data.as_ref().map(|d| d.get()), Some(r#"{"data":1}"#));
        assert!(told(br#"{"data":1,"more":2}"#, LineMode::Events).contains("unknown field `more`"));
    }

    #[test]
    fn bad_lines_are_named() {
        assert_eq!(told(b"1\n\n\xff\n", LineMode::Auto), "line 3 is not valid UTF-8");
        assert!(told(b"1\n{\"a\":\n", LineMode::Auto).starts_with("line 2 is not JSON: EOF while parsing"));
        assert!(told(b"{\"data\":1,\"text\":\"a\"}", LineMode::Auto).contains("more than one of"));
        for mode in [LineMode::Auto, LineMode::Data, LineMode::Events] {
            let plain = told(b"1\nplain text", mode);
            if mode == LineMode::Events {
                assert!(plain.starts_with("line 1 is not an event: "), "{plain}");
            } else {
                assert!(
                    plain.starts_with("line 2 is not JSON: expected value at column 1; write text in quotes"),
                    "{plain}"
                );
            }
        }
    }

    #[test]
    fn batches_are_bounded_and_what_comes_before_a_bad_line_is_kept() {
        let mut text = "1\n".repeat(BATCH_EVENTS + 2);
        text.push_str("nonsense\n");
        let mut reader = reader(text.as_bytes(), LineMode::Auto);
        let mut held = None;
        let (first, outcome) = reader.batch(&mut held);
        assert!(outcome.is_ok());
        assert_eq!(first.events.len(), BATCH_EVENTS);
        let (second, outcome) = reader.batch(&mut held);
        assert_eq!(second.events.iter().map(|(line, _)| *line).collect::<Vec<_>>(), [257, 258]);
        assert!(outcome.is_err());
    }

    #[test]
    fn a_line_that_no_request_can_carry_is_named_and_what_comes_before_it_is_kept() {
        let text = format!("1\n\"{}\"\n2\n", "a".repeat(busway_gateway::AdminConfig::BODY_BYTES));
        let (batch, outcome) = reader(text.as_bytes(), LineMode::Auto).batch(&mut None);
        assert_eq!(batch.events.len(), 1);
        let told = crate::failure::chain(&outcome.expect_err("too large"));
        assert!(told.starts_with("line 2 is too large: the event has 16777218 bytes of data"), "{told}");
    }

    #[test]
    fn how_far_it_got_is_told() {
        assert_eq!(stopped(anyhow::anyhow!("x"), 0).to_string(), "x; nothing was published");
        assert_eq!(
            stopped(anyhow::anyhow!("x"), 256).to_string(),
            "x; 256 events before were published, the rest was not"
        );
    }
}
