//! Calling a guest: events in, outcomes out.
//!
//! Role: the call of a raw handler (typed ones are called in [`crate::typed`]), and the translation of everything that can go
//! wrong inside a call into words that help: what trapped, what it wrote to stderr, where it was.

use std::sync::Arc;
use std::time::Duration;

use busway_types::Outcome;
use wasmtime::component::{Func, TypedFunc};
use wasmtime::{AsContext, Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::bindings::{EventRef, Failure, HandleParams, HandleResult};
use crate::state::{Ended, GuestState, Meter, Mode, mib};
use crate::wait::block_on;

/// Bytes of a reason; the end is cut off.
const REASON_BYTES: usize = 4 * 1024;

/// What wasmtime says when a call passes too much; its error type is private.
const FUEL: &str = "fuel allocated for hostcalls has been exhausted";

/// Frames of a backtrace that are told.
const FRAMES: usize = 8;

/// Gives the event to `busway:bus/handler.handle`, with the data as bytes.
pub(crate) fn call_raw<'c>(
    handle: &TypedFunc<HandleParams<'c>, HandleResult>,
    store: &mut Store<GuestState>,
    waits: bool,
    event: EventRef<'c>,
) -> wasmtime::Result<Outcome> {
    let params = (event,);
    let (result,) = if waits {
        let meter = store.data().meter.clone();
        drive(&meter, handle.call_async(store, params))?
    } else {
        handle.call(store, params)?
    };
    Ok(answered(result))
}

/// Checks the type of `handle` once, for all calls that borrow from one chunk.
pub(crate) fn raw<'c>(
    handle: Func,
    store: impl AsContext,
) -> wasmtime::Result<TypedFunc<HandleParams<'c>, HandleResult>> {
    handle.typed(store)
}

/// Runs a call that may wait for something outside, at most as long as its time lasts.
pub(crate) fn drive<T>(meter: &Arc<Meter>, call: impl Future<Output = wasmtime::Result<T>>) -> wasmtime::Result<T> {
    let ended = block_on(call, || {
        meter.give_slot_back();
        meter.patience()
    });
    ended.unwrap_or_else(|| Err(Meter::interrupted()))
}

/// What went wrong inside a guest. The instance is not to be used again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It trapped or broke a limit.
    Trapped(String),
    /// It took too long.
    TimedOut(String),
    /// It asked to exit with this status.
    Exited(i32, Option<String>),
    /// The host stopped it.
    Stopped,
}

impl Fault {
    pub(crate) fn into_outcome(self) -> Outcome {
        match self {
            Self::Trapped(reason) => Outcome::Trapped { reason },
            Self::TimedOut(reason) => Outcome::TimedOut { reason },
            Self::Exited(status, stderr) => {
                Outcome::Trapped { reason: with_stderr(format!("the guest exited with status {status}"), stderr) }
            }
            Self::Stopped => Outcome::Skipped,
        }
    }

    /// For people.
    pub(crate) fn reason(self) -> String {
        match self {
            Self::Trapped(reason) | Self::TimedOut(reason) => reason,
            Self::Exited(status, stderr) => with_stderr(format!("the guest exited with status {status}"), stderr),
            Self::Stopped => "the service was stopped".into(),
        }
    }
}

/// The outcome of a handler's own answer.
fn answered(result: Result<(), Failure>) -> Outcome {
    match result {
        Ok(()) => Outcome::Acked,
        Err(Failure::Retry(reason)) => Outcome::Retry { reason: cut(reason), after: None },
        Err(Failure::Reject(reason)) => Outcome::Rejected { reason: cut(reason) },
    }
}

/// What an error of a call means. Takes the captured output of the delivery with it.
pub(crate) fn fault(error: &wasmtime::Error, state: &mut GuestState) -> Fault {
    let stderr = state.output.end();
    match state.meter.ended() {
        Some(Ended::Stopped) => return Fault::Stopped,
        Some(Ended::TimedOut) => {
            let what = match state.mode {
                Mode::Delivery => "handler ran",
                Mode::Task => "task ran",
                Mode::Http => "handler of HTTP computed",
                Mode::Idle => "start of the instance ran",
            };
            let reason = format!("{what} longer than {}", readable(state.meter.timeout()));
            return Fault::TimedOut(cut(with_stderr(reason, stderr) + &place(error)));
        }
        None => {}
    }
    if let Some(exit) = error.downcast_ref::<I32Exit>() {
        return Fault::Exited(exit.0, stderr);
    }
    let mut reason = cause(error);
    if state.limiter.refused {
        reason = format!("memory limit of {} reached; {reason}", mib(state.limiter.limit()));
    }
    Fault::Trapped(cut(with_stderr(reason, stderr) + &place(error)))
}

/// The cause of a trap without wasmtime's backtrace, which is told shorter.
fn cause(error: &wasmtime::Error) -> String {
    if let Some(trap) = error.downcast_ref::<Trap>() {
        let text = trap.to_string();
        return text.strip_prefix("wasm trap: ").unwrap_or(&text).to_owned();
    }
    let causes: Vec<_> = error
        .chain()
        .map(ToString::to_string)
        .filter(|cause| !cause.starts_with("error while executing at wasm backtrace"))
        .collect();
    if causes.iter().any(|cause| cause.contains(FUEL)) {
        "one call passed more strings and lists to the host than it may hold; each element of a list in a contract counts 40 \
         bytes, so large payloads belong on the raw lane, or `memory` and `event-bytes` have to be raised".into()
    } else {
        causes.join(": ")
    }
}

/// Where the guest was, innermost first, without the frames of Rust's panic machinery.
fn place(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let text = backtrace.to_string();
    let names = text.lines().filter_map(|line| {
        let (number, rest) = line.trim_start().split_once(": ")?;
        number.parse::<usize>().ok()?;
        let name = rest.split_once(" - ").map_or(rest, |(_, name)| name);
        Some(plain(name.split_once('!').map_or(name, |(_module, function)| function)))
    });
    let mut frames: Vec<String> = Vec::new();
    for name in names.filter(|name| !is_machinery(name)) {
        if frames.last() != Some(&name) && frames.len() < FRAMES {
            frames.push(name);
        }
    }
    if frames.is_empty() { String::new() } else { format!("; in {}", frames.join(" < ")) }
}

/// A function's name without the hashes that Rust puts into it.
fn plain(name: &str) -> String {
    let name = name.trim();
    let name = match name.rsplit_once("::h") {
        Some((path, hash)) if is_hash(hash) => path,
        _ => name,
    };
    let mut plain = String::with_capacity(name.len());
    let mut rest = name;
    while let Some((before, after)) = rest.split_once('[') {
        plain.push_str(before);
        match after.split_once(']') {
            Some((hash, after)) if is_hash(hash) => rest = after,
            _ => {
                plain.push('[');
                rest = after;
            }
        }
    }
    plain.push_str(rest);
    plain
}

fn is_hash(text: &str) -> bool {
    text.len() >= 12 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether a frame says nothing about the guest's own code.
fn is_machinery(name: &str) -> bool {
    const MACHINERY: [&str; 5] = ["std::", "core::", "alloc::", "__rustc::", "rust_"];
    name == "abort" || MACHINERY.iter().any(|start| name.starts_with(start))
}

fn with_stderr(mut reason: String, stderr: Option<String>) -> String {
    if let Some(stderr) = stderr {
        let lines = stderr.lines().filter(|line| !line.starts_with("note: run with `RUST_BACKTRACE"));
        reason.push_str("; stderr: ");
        reason.push_str(&lines.collect::<Vec<_>>().join("\n"));
    }
    reason
}

pub(crate) fn cut(mut text: String) -> String {
    if text.len() > REASON_BYTES {
        let end = (0..=REASON_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// A duration for people.
pub(crate) fn readable(duration: Duration) -> String {
    if duration.subsec_millis() == 0 && duration.subsec_nanos() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hashes_are_left_out_of_names() {
        assert_eq!(plain("recurse::deeper::hc48337f388dc3893"), "recurse::deeper");
        assert_eq!(
            plain("<std[d123b7a1a2ed1472]::io::StderrLock as x[d123b7a1a2ed1472]::Write>::write"),
            "<std::io::StderrLock as x::Write>::write"
        );
        assert_eq!(plain("app::list::<[u8]>"), "app::list::<[u8]>");
    }

    #[test]
    fn long_reasons_are_cut_between_characters() {
        let text = format!("a{}", "ä".repeat(REASON_BYTES));
        assert_eq!(cut(text).len(), REASON_BYTES - 1);
    }
}
