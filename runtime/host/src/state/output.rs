//! What a guest writes to stdout, stderr and its log.
//!
//! Role: turns bytes into log lines of the service, keeps the end of stderr for the reason of a trap, and bounds both:
//! beyond [`BUDGET`] bytes a delivery's output is counted and dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use busway_types::{Clock, ServiceName};
use bytes::Bytes;
use tokio::io::AsyncWrite;
use tracing::Level;
use wasmtime_wasi::async_trait;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::capability::Bus;

/// Bytes of output that one delivery may write.
pub(crate) const BUDGET: usize = 64 * 1024;

/// Bytes of a line; a longer one is cut into several.
const LINE: usize = 4 * 1024;

/// Bytes of stderr that are kept for the reason of a trap.
const TAIL: usize = 2 * 1024;

/// The output of one instance, shared with the streams that WASI hands out.
pub(crate) struct Output {
    bus: Arc<dyn Bus>,
    service: ServiceName,
    seconds: Option<Arc<dyn Clock>>,
    /// Whether anything was written since the last `end`; spares quiet deliveries the lock.
    dirty: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    tail: Vec<u8>,
    spent: usize,
    dropped: usize,
    /// The lines of a Rust panic so far; they become one line of the log.
    panic: Vec<String>,
    /// Tasks: when the current second began.
    since_ns: u64,
}

impl Output {
    /// The output of an instance that handles events (the budget is for one delivery) or, with a clock, of a task (the
    /// budget is for one second).
    pub(crate) fn new(bus: Arc<dyn Bus>, service: ServiceName, seconds: Option<Arc<dyn Clock>>) -> Self {
        Self { bus, service, seconds, dirty: AtomicBool::new(false), inner: Mutex::new(Inner::default()) }
    }

    /// Takes a log line with its fields if the budget allows.
    pub(crate) fn log(&self, level: Level, message: &str, fields: &[(String, String)]) {
        let bytes = message.len() + fields.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        self.dirty.store(true, Ordering::Relaxed);
        {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            self.renew(&mut inner);
            if inner.spent.saturating_add(bytes) > BUDGET {
                inner.dropped = inner.dropped.saturating_add(bytes);
                return;
            }
            inner.spent += bytes;
        }
        self.bus.log(&self.service, level, message, fields);
    }

    /// A delivery ended: writes what is left of unfinished lines, tells how much was dropped, and gives the end of stderr.
    pub(crate) fn end(&self) -> Option<String> {
        // Looked at first: writing is much dearer, and most deliveries are quiet.
        if !self.dirty.load(Ordering::Relaxed) {
            return None;
        }
        self.dirty.store(false, Ordering::Relaxed);
        let mut left = std::mem::take(&mut *self.inner.lock().unwrap_or_else(PoisonError::into_inner));
        let last = plain(&left.stderr).and_then(|line| left.panicking(line));
        let panic = (!left.panic.is_empty()).then(|| left.panicked());
        let Inner { stdout, tail, dropped, .. } = left;
        for (level, line) in [(Level::INFO, plain(&stdout)), (Level::WARN, last), (Level::WARN, panic)] {
            if let Some(line) = line {
                self.bus.log(&self.service, level, &line, &[]);
            }
        }
        if dropped > 0 {
            let message = format!("{dropped} bytes of output dropped; at most {BUDGET} are kept");
            self.bus.log(&self.service, Level::WARN, &message, &[]);
        }
        let text = String::from_utf8_lossy(&tail).trim().to_owned();
        (!text.is_empty()).then_some(text)
    }

    /// Begins a new second of a task.
    fn renew(&self, inner: &mut Inner) {
        if let Some(clock) = &self.seconds {
            let now = clock.monotonic_ns();
            if now.saturating_sub(inner.since_ns) >= 1_000_000_000 {
                (inner.since_ns, inner.spent) = (now, 0);
            }
        }
    }

    /// Takes bytes of stdout or stderr and logs the lines that they complete.
    fn write(&self, stderr: bool, bytes: &[u8]) {
        self.dirty.store(true, Ordering::Relaxed);
        let mut lines = Vec::new();
        {
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            self.renew(&mut inner);
            if stderr {
                inner.keep_tail(bytes);
            }
            let room = BUDGET.saturating_sub(inner.spent).min(bytes.len());
            inner.spent += room;
            inner.dropped = inner.dropped.saturating_add(bytes.len() - room);
            let line = if stderr { &mut inner.stderr } else { &mut inner.stdout };
            for byte in &bytes[..room] {
                if *byte == b'\n' || line.len() == LINE {
                    lines.extend(plain(&std::mem::take(line)));
                }
                if *byte != b'\n' {
                    line.push(*byte);
                }
            }
            if stderr {
                lines = lines.into_iter().filter_map(|line| inner.panicking(line)).collect();
            }
        }
        let level = if stderr { Level::WARN } else { Level::INFO };
        for line in lines {
            self.bus.log(&self.service, level, &line, &[]);
        }
    }
}

/// A line as text; none when there is nothing on it.
fn plain(line: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(line);
    let text = text.trim_end();
    (!text.is_empty()).then(|| text.to_owned())
}

impl Inner {
    /// Takes a line of stderr; gives what is to be logged now. Rust tells a panic in several lines (where, what, a hint
    /// about backtraces), which are held until the last of them and become one.
    fn panicking(&mut self, line: String) -> Option<String> {
        if self.panic.is_empty() {
            if !(line.starts_with("thread '") && line.contains("panicked at ")) {
                return Some(line);
            }
        } else if line.starts_with("note: run with `RUST_BACKTRACE") {
            return Some(self.panicked());
        }
        self.panic.push(line);
        let bytes: usize = self.panic.iter().map(String::len).sum();
        (bytes > LINE).then(|| self.panicked())
    }

    /// The panic on one line.
    fn panicked(&mut self) -> String {
        std::mem::take(&mut self.panic).join(" ")
    }

    fn keep_tail(&mut self, bytes: &[u8]) {
        self.tail.extend_from_slice(&bytes[bytes.len().saturating_sub(TAIL)..]);
        let excess = self.tail.len().saturating_sub(TAIL);
        self.tail.drain(..excess);
    }
}

/// One of the two streams of an instance. Never blocks.
#[derive(Clone)]
pub(crate) struct Stream {
    pub(crate) output: Arc<Output>,
    pub(crate) stderr: bool,
}

impl IsTerminal for Stream {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Stream {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        // Only WASI 0.1 and 0.3 come this way, and neither is linked.
        Box::new(tokio::io::sink())
    }

    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Stream {
    async fn ready(&mut self) {}
}

impl OutputStream for Stream {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        self.output.write(self.stderr, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(64 * 1024)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_one_line_and_other_lines_stay_as_they_are() {
        let mut inner = Inner::default();
        let mut told = Vec::new();
        for line in [
            "before",
            "thread 'main' (1) panicked at src/lib.rs:7:5:",
            "told to",
            "note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace",
            "after",
        ] {
            told.extend(inner.panicking(line.to_owned()));
        }
        assert_eq!(told, ["before", "thread 'main' (1) panicked at src/lib.rs:7:5: told to", "after"]);
        assert_eq!(inner.panicking("thread 'main' panicked at a:1:".to_owned()), None);
        let long = inner.panicking("x".repeat(LINE)).expect("what is held is bounded");
        assert!(long.len() > LINE && inner.panic.is_empty());
    }
}
