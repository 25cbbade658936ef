//! The only place that writes to the terminal.
//!
//! Role: data to stdout, everything else to stderr, colours only where a person looks (and `NO_COLOR` is not set).
//! Invariants: text that came from a guest, an event or a file is shown without its control characters; a reader that
//! went away (`busway tail | head`) ends the command quietly, as [`Closed`].

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anstream::AutoStream;
use anyhow::Result;
use clap::error::{ContextKind, ContextValue};
use owo_colors::OwoColorize;
use serde::Serialize;

/// Characters of a value of the command line that are told when it is wrong; the rest is cut.
const MOST_SHOWN: usize = 80;

/// Whoever read our stdout has gone; nobody is to be told.
#[derive(Debug, thiserror::Error)]
#[error("stdout is closed")]
pub(crate) struct Closed;

/// Where a command writes.
pub(crate) struct Output {
    json: bool,
    stdout: BufWriter<AutoStream<io::Stdout>>,
}

fn written(result: io::Result<()>) -> Result<()> {
    result.map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Closed.into(),
        _ => anyhow::Error::new(error).context("cannot write to stdout"),
    })
}

impl Output {
    pub(crate) fn new(json: bool) -> Self {
        Self { json, stdout: BufWriter::new(AutoStream::auto(io::stdout())) }
    }

    /// Whether programs read the answer.
    pub(crate) fn is_json(&self) -> bool {
        self.json
    }

    /// A line of data.
    pub(crate) fn line(&mut self, text: impl AsRef<str>) -> Result<()> {
        written(writeln!(self.stdout, "{}", text.as_ref()))
    }

    /// A value as pretty JSON.
    pub(crate) fn json(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string_pretty(value)?;
        self.line(text)
    }

    /// A value as one line of JSON.
    pub(crate) fn json_line(&mut self, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_string(value)?;
        self.line(text)
    }

    /// Bytes of data as they are.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        written(self.stdout.write_all(bytes))
    }

    /// Sends what was written on its way.
    pub(crate) fn flush(&mut self) -> Result<()> {
        written(self.stdout.flush())
    }
}

/// Whether a person reads stdout in a terminal that shows more than ASCII.
pub(crate) fn draws_boxes() -> bool {
    let utf8 = |name: &str| {
        let value = std::env::var(name).ok().filter(|value| !value.is_empty())?.to_ascii_lowercase();
        Some(value.contains("utf-8") || value.contains("utf8"))
    };
    let locale = utf8("LC_ALL").or_else(|| utf8("LC_CTYPE")).or_else(|| utf8("LANG")).unwrap_or_default();
    io::stdout().is_terminal() && locale
}

/// A remark to whoever sits in front of it. Nobody can be told when even stderr is closed.
pub(crate) fn note(text: impl AsRef<str>) {
    drop(writeln!(anstream::stderr(), "{}", text.as_ref()));
}

/// Something that is probably not as it was meant.
pub(crate) fn warn(text: impl AsRef<str>) {
    drop(writeln!(anstream::stderr(), "{} {}", "warning:".yellow().bold(), text.as_ref()));
}

/// Why the command failed.
pub(crate) fn error(text: impl AsRef<str>) {
    drop(writeln!(anstream::stderr(), "{} {}", "error:".red().bold(), text.as_ref()));
}

/// What is wrong with the command line, or the help that was asked for.
pub(crate) fn usage(mut error: clap::Error) -> ExitCode {
    if let Some(ContextValue::String(value)) = error.get(ContextKind::InvalidValue)
        && value.chars().count() > MOST_SHOWN
    {
        let short = format!("{} ({} bytes)", preview(value, MOST_SHOWN), value.len());
        error.insert(ContextKind::InvalidValue, ContextValue::String(short));
    }
    drop(error.print());
    ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
}

/// Whether a person sees stderr, so that progress may be drawn there.
pub(crate) fn is_attended() -> bool {
    io::stderr().is_terminal()
}

/// Shows a person at stderr that something takes long, and for how long already. Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Waiting(Option<(mpsc::SyncSender<()>, JoinHandle<()>)>);

impl Waiting {
    /// Says `what` after a second, if somebody sees it.
    pub(crate) fn begin(what: &'static str) -> Self {
        if !is_attended() {
            return Self(None);
        }
        let (end, ended) = mpsc::sync_channel(0);
        let shown = thread::spawn(move || tell_time(what, Duration::from_secs(1), &ended, &mut io::stderr()));
        Self(Some((end, shown)))
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some((end, shown)) = self.0.take() {
            drop(end);
            drop(shown.join());
        }
    }
}

/// Counts seconds, each as long as `second`, on one line until the other end is dropped, and wipes the line then.
fn tell_time(what: &str, second: Duration, ended: &mpsc::Receiver<()>, out: &mut impl Write) {
    let mut seconds = 0_u32;
    while ended.recv_timeout(second) == Err(mpsc::RecvTimeoutError::Timeout) {
        seconds += 1;
        drop(write!(out, "\r{seconds} s: {what}").and_then(|()| out.flush()));
    }
    if seconds > 0 {
        drop(write!(out, "\r\x1b[K").and_then(|()| out.flush()));
    }
}

/// Text from elsewhere, safe to show: on one line and without control characters.
pub(crate) fn shown(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => safe.push_str("\\n"),
            '\r' => safe.push_str("\\r"),
            '\t' => safe.push_str("\\t"),
            // Direction overrides and isolates rearrange what is around them.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => safe.push('\u{fffd}'),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// The first `most` characters of a text that is safe to show.
pub(crate) fn preview(text: &str, most: usize) -> String {
    let start: String = text.chars().take(most + 1).collect();
    let mut safe = shown(&start);
    if safe.chars().count() > most {
        safe = safe.chars().take(most.saturating_sub(1)).collect();
        safe.push('…');
    }
    safe
}

/// Text of several lines from elsewhere, safe to show.
pub(crate) fn shown_lines(text: &str) -> String {
    text.lines().map(shown).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ends the waiting once it was told the time.
    struct Ends(Option<mpsc::SyncSender<()>>, Vec<u8>);

    impl Write for Ends {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = None;
            self.1.extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn who_waits_sees_the_time_and_no_trace_of_it_afterwards() {
        let (end, ended) = mpsc::sync_channel(0);
        let mut out = Ends(Some(end), Vec::new());
        tell_time("looking", Duration::from_millis(1), &ended, &mut out);
        assert_eq!(String::from_utf8_lossy(&out.1), "\r1 s: looking\r\u{1b}[K");
        out.1.clear();
        tell_time("looking", Duration::from_millis(1), &ended, &mut out);
        assert!(out.1.is_empty(), "what is quick says nothing");
    }

    #[test]
    fn what_comes_from_elsewhere_cannot_steer_the_terminal() {
        assert_eq!(shown("a\u{1b}[2Jb\nc\u{202e}"), "a\u{fffd}[2Jb\\nc\u{fffd}");
        assert_eq!(preview("abcdef", 4), "abc…");
        assert_eq!(preview("abcd", 4), "abcd");
        assert_eq!(shown_lines("a\nb\u{7}"), "a\nb\u{fffd}");
    }
}
