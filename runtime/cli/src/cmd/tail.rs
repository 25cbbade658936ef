//! `busway tail`.

use std::borrow::Cow;

use anyhow::{Result, bail};
use busway_gateway::api::{ApiError, Envelope, TailFrom, TailLine};
use busway_types::Pattern;
use clap::Args;
use owo_colors::OwoColorize;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::client::{Client, Refused};
use crate::format::{self, counted};
use crate::output::{Output, note, preview, shown, warn};

/// Print events as they are published
#[derive(Debug, Args)]
#[command(
    long_about = "Prints events as they are published, or those of the past. Reading disturbs nobody: a slow reader is \
        served at its own pace, and told how many events it missed when it is so slow that they are gone.\n\n\
        Each line has the time, topic, key, id and the data, JSON without white space; without --full the first 400 \
        characters of it. Colours are for terminals. With --json each line is {\"event\": {..}} \
        with everything that is known of it, {\"missed\": N} or {\"problem\": {..}}.",
    after_help = "Example: busway tail 'shop.orders.>' --from start --no-follow"
)]
pub(crate) struct TailArgs {
    /// Only topics that one of these patterns selects (`*` one token, a final `>` the rest) [default: all]
    #[arg(value_name = "PATTERN")]
    patterns: Vec<Pattern>,
    /// Where to begin: start, now, an offset, a time (2026-01-31T09:05:00Z) or a while ago (10m)
    #[arg(long, default_value = "now", value_parser = place)]
    from: TailFrom,
    /// End when everything published so far is printed
    #[arg(long)]
    no_follow: bool,
    /// End after this many events
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Print all of the data, not the beginning
    #[arg(long)]
    full: bool,
}

/// Characters of the data that are printed without `--full`.
const SHOWN: usize = 400;

/// A place in the log; a while ago counts from now.
pub(crate) fn place(text: &str) -> Result<TailFrom, ApiError> {
    text.parse().or_else(|error| format::moment(text).map(TailFrom::Time).map_err(|_| error))
}

#[derive(Serialize)]
struct Query {
    pattern: Option<String>,
    from: String,
    follow: bool,
    limit: Option<u64>,
}

pub(crate) fn run(args: &TailArgs, client: &Client, output: &mut Output) -> Result<()> {
    let patterns: Vec<&str> = args.patterns.iter().map(Pattern::as_str).collect();
    let query = Query {
        pattern: (!patterns.is_empty()).then(|| patterns.join(",")),
        from: args.from.to_string(),
        follow: !args.no_follow,
        limit: args.limit,
    };
    let mut lines = client.lines("/v1/events", &query)?;
    while let Some(text) = lines.next_line()? {
        let line: TailLine = serde_json::from_str(&text)?;
        if output.is_json() {
            output.json_line(&line)?;
        }
        match line {
            TailLine::Event(event) if !output.is_json() => {
                output.line(human(&event, if args.full { usize::MAX - 1 } else { SHOWN }))?;
            }
            TailLine::Event(_) => {}
            TailLine::Missed(missed) => {
                warn(format!("{} are gone before this reader got there", counted(missed, "event")));
            }
            TailLine::Problem(problem) if problem.word() == "stopping" => note("the node stops"),
            TailLine::Problem(problem) => bail!(Refused(problem)),
        }
        // Whoever looks at it should see an event at once, but not at the cost of one write per event.
        if !lines.has_more() {
            output.flush()?;
        }
    }
    Ok(())
}

/// An event on one line; of its data at most so many characters.
fn human(event: &Envelope, most: usize) -> String {
    let json = event.data.as_ref().map(|data| data.get()).or(event.text.as_deref());
    let (data, shape) = match (json, &event.base64) {
        (Some(text), _) => (preview(&compact(text), most), ""),
        (None, Some(code)) => (preview(code, most.min(60)), "base64 "),
        (None, None) => (String::new(), ""),
    };
    format!(
        "{} {} {} {} {}{}",
        event.time_ms.dimmed(),
        event.topic.cyan(),
        event.key.as_deref().map_or_else(|| "-".to_owned(), shown).bold(),
        event.id.dimmed(),
        shape.dimmed(),
        data
    )
}

/// JSON without the white space between its parts; any other text as it is.
pub(super) fn compact(text: &str) -> Cow<'_, str> {
    let is_json = text.contains(char::is_whitespace) && serde_json::from_str::<&RawValue>(text).is_ok();
    if !is_json {
        return text.into();
    }
    let (mut out, mut quoted, mut escaped) = (String::with_capacity(text.len()), false, false);
    for c in text.chars() {
        if !quoted && c.is_ascii_whitespace() {
            continue;
        }
        if c == '"' && !escaped {
            quoted = !quoted;
        }
        escaped = quoted && c == '\\' && !escaped;
        out.push(c);
    }
    out.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_put_on_one_line_and_what_is_quoted_stays() {
        assert_eq!(compact("{\n  \"a b\": [1, \"c\\\" d\\\\\"],\t\"e\": null }"), r#"{"a b":[1,"c\" d\\"],"e":null}"#);
        assert_eq!(compact("not json at all"), "not json at all");
        assert_eq!(compact("[1,2]"), "[1,2]");
    }
}
