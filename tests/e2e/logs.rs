//! What goes to `tracing`: the lines of guests, with the name of their service.
//!
//! One subscriber for the whole process, so tests find their lines by names that no other test uses.

use std::io;
use std::sync::{Mutex, Once, PoisonError};

use tracing_subscriber::filter::LevelFilter;

use crate::harness::{App, event};
use busway_tests::programs;

static LINES: Mutex<Vec<u8>> = Mutex::new(Vec::new());

struct Captured;

impl io::Write for Captured {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LINES.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Begins to keep log lines of this process.
pub(crate) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let builder = tracing_subscriber::fmt().with_writer(|| Captured).with_ansi(false);
        builder.with_max_level(LevelFilter::INFO).init();
    });
}

/// The captured lines with this text in them.
pub(crate) fn with(text: &str) -> Vec<String> {
    let lines = LINES.lock().unwrap_or_else(PoisonError::into_inner);
    String::from_utf8_lossy(&lines).lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn lines_of_a_guest_carry_the_name_of_its_service() {
    capture();
    let app = App::new().with(programs::CHATTY, "chatty-to-the-log");
    let bus = app.run().await;
    bus.send("public.chatty", "1").await;
    bus.idle().await;
    let lines = with("service=\"chatty-to-the-log\"");
    let has = |level: &str, text: &str| lines.iter().any(|line| line.contains(level) && line.contains(text));
    assert!(has("INFO", "busway::guest:         0 xxx"), "stdout: {lines:?}");
    assert!(has("WARN", "        0 xxx"), "stderr: {lines:?}");
    assert!(has("INFO", "fields=n=0"), "the log, with its fields: {lines:?}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_of_a_guest_is_one_line() {
    capture();
    let app =
        App::new().service("panics-in-the-log", programs::TRAP, "publish = [\"public.>\"]\nretry = { attempts = 1 }\n");
    let bus = app.run().await;
    bus.publish(vec![event("public.trap", "trap")]).await;
    bus.idle().await;
    let lines = with("service=\"panics-in-the-log\"");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].contains("panicked at") && lines[0].contains("told to trap by event"), "{lines:?}");
    bus.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_told_with_their_number_and_a_removed_service_with_what_is_kept() {
    capture();
    let app = App::new().with(programs::FAILING, "gives-up-loudly").with(programs::TICKER, "ticks-and-goes");
    let bus = app.run().await;
    bus.publish((0..500).map(|_| event("public.failing", "reject")).collect()).await;
    bus.idle().await;
    std::fs::remove_file(app.path().join("gives-up-loudly.wasm")).expect("removed");
    std::fs::remove_file(app.path().join("ticks-and-goes.wasm")).expect("removed");
    bus.until("both are gone", |status| status.services.is_empty()).await;
    bus.stop().await;
    let removed = |name: &str| with("the service was removed").into_iter().find(|l| l.contains(name)).expect("told");
    assert!(removed("gives-up-loudly").contains("its position is kept"));
    assert!(!removed("ticks-and-goes").contains("position"), "a task has none");
    let lines = with("of `gives-up-loudly` became");
    let counted = |line: &String| {
        let told = line.split_once("busway_node").and_then(|(_, rest)| rest.split_once(": "))?.1;
        told.split(' ').next()?.parse::<u64>().ok()
    };
    assert_eq!(lines.iter().filter_map(counted).sum::<u64>(), 500, "{lines:?}");
    assert!(lines.len() < 20, "a line a second: {lines:?}");
}
