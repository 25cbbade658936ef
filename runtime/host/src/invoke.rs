//! Calling a guest: events in, outcomes out.
//!
//! Role: the seam between an event and a call ([`Codec`]), and the translation of everything that can go wrong inside a
//! call into words that help: what trapped, what it wrote to stderr, where it was.

use std::sync::Arc;
use std::time::Duration;

use busway_types::{Event, Outcome};
use wasmtime::component::{Func, TypedFunc};
use wasmtime::{AsContext, Store, Trap, WasmBacktrace};
use wasmtime_wasi::I32Exit;

use crate::bindings::{EventRef, Failure, HandleParams, HandleResult, HeaderRef};
use crate::state::{Ended, GuestState, Meter, mib};
use crate::wait::block_on;

/// Bytes of a reason; the end is cut off.
const REASON_BYTES: usize = 4 * 1024;

/// What wasmtime says when a call passes too much; its error type is private.
const FUEL: &str = "fuel allocated for hostcalls has been exhausted";

/// Frames of a backtrace that are told.
const FRAMES: usize = 8;

/// How an event becomes the arguments of a call, and the result an outcome. Bytes as they are is one way; a contract's
/// types will be another.
#[derive(Clone, Copy)]
pub(crate) enum Codec<'c> {
    /// `busway:bus/handler.handle`, with the data as bytes.
    Raw(&'c TypedFunc<HandleParams<'c>, HandleResult>),
}

/// Checks the type of `handle` once, for all calls that borrow from one chunk.
pub(crate) fn raw<'c>(
    handle: Func,
    store: impl AsContext,
) -> wasmtime::Result<TypedFunc<HandleParams<'c>, HandleResult>> {
    handle.typed(store)
}

/// What a call borrows of an event besides the event.
#[derive(Clone, Copy)]
pub(crate) struct Borrowed<'c> {
    pub(crate) id: &'c str,
    pub(crate) headers: &'c [HeaderRef<'c>],
}

impl<'c> Codec<'c> {
    /// Gives an event to the guest.
    pub(crate) fn call(
        self,
        store: &mut Store<GuestState>,
        waits: bool,
        event: &'c Event,
        borrowed: Borrowed<'c>,
    ) -> wasmtime::Result<Result<(), Failure>> {
        let Self::Raw(handle) = self;
        let params = (EventRef::new(event, borrowed.id, borrowed.headers),);
        if !waits {
            return handle.call(store, params).map(|(result,)| result);
        }
        let meter = store.data().meter.clone();
        drive(&meter, handle.call_async(store, params)).map(|(result,)| result)
    }
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
pub(crate) fn answered(result: Result<(), Failure>) -> Outcome {
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
            let timeout = readable(state.service.settings.timeout);
            let reason = format!("handler ran longer than {timeout}{}", place(error));
            return Fault::TimedOut(cut(with_stderr(reason, stderr)));
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
    reason.push_str(&place(error));
    Fault::Trapped(cut(with_stderr(reason, stderr)))
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
        "one call passed more strings and lists to the host than it may hold".into()
    } else {
        causes.join(": ")
    }
}

/// Where the guest was, innermost first.
fn place(error: &wasmtime::Error) -> String {
    let Some(backtrace) = error.downcast_ref::<WasmBacktrace>() else { return String::new() };
    let text = backtrace.to_string();
    let frames: Vec<_> = text
        .lines()
        .filter_map(|line| {
            let (number, rest) = line.trim_start().split_once(": ")?;
            number.parse::<usize>().ok()?;
            let name = rest.split_once(" - ").map_or(rest, |(_, name)| name);
            Some(name.rsplit_once('!').map_or(name, |(_, function)| function).trim())
        })
        .take(FRAMES)
        .collect();
    if frames.is_empty() { String::new() } else { format!(" (in {})", frames.join(" < ")) }
}

fn with_stderr(mut reason: String, stderr: Option<String>) -> String {
    if let Some(stderr) = stderr {
        reason.push_str("; stderr: ");
        reason.push_str(&stderr);
    }
    reason
}

fn cut(mut text: String) -> String {
    if text.len() > REASON_BYTES {
        let end = (0..=REASON_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// A duration for people.
fn readable(duration: Duration) -> String {
    if duration.subsec_millis() == 0 && duration.subsec_nanos() == 0 {
        format!("{} s", duration.as_secs())
    } else {
        format!("{} ms", duration.as_millis())
    }
}
