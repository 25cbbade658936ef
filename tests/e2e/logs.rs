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
