//! `busway dev`: what is changed is built and takes over; what cannot be is told, and what ran before goes on.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use busway_types::{Clock as _, SystemClock};

use crate::process::{NodeProcess, ask, command};
use crate::scaffold::scaffold;

/// How long a build and what follows may take on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// A `busway dev` in a folder, with what it said so far.
struct Dev {
    folder: tempfile::TempDir,
    runtime: tempfile::TempDir,
}

impl Dev {
    fn start(&self) -> NodeProcess {
        let target = busway_tests::root().canonicalize().expect("the repository").join("target/guests");
        let file = |name: &str| File::create(self.runtime.path().join(name)).expect("a file");
        let mut dev = command(self.runtime.path(), &["dev", ".", "--offline"]);
        for variable in ["RUSTC_WORKSPACE_WRAPPER", "RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "CLIPPY_ARGS"] {
            dev.env_remove(variable);
        }
        dev.current_dir(self.folder.path()).env("CARGO_TARGET_DIR", target).stdin(Stdio::null());
        NodeProcess(dev.stdout(file("stdout")).stderr(file("stderr")).spawn().expect("it starts"))
    }

    fn said(&self, stream: &str) -> String {
        std::fs::read_to_string(self.runtime.path().join(stream)).expect("its words")
    }

    fn until(&self, stream: &str, text: &str) {
        let clock = SystemClock::new();
        let began = clock.now();
        while !self.said(stream).contains(text) {
            assert!(clock.now().since(began) < PATIENCE, "no `{text}` in\n{}", self.said(stream));
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn publish(&self, key: &str) {
        let data = format!("{{\"key\":\"{key}\"}}");
        ask(self.runtime.path(), &["publish", "dev-notes.events.v1.notes.removed", "--data", &data], "");
    }

    fn status(&self) -> String {
        ask(self.runtime.path(), &["status"], "")
    }

    fn until_status(&self, service: &str, state: &str) {
        self.poll(|status| status.lines().any(|line| line.starts_with(service) && line.contains(state)));
    }

    fn until_not_running(&self, services: &[&str]) {
        self.poll(|status| !status.lines().any(|l| services.iter().any(|s| l.starts_with(s) && l.contains("running"))));
    }

    fn poll(&self, is_so: impl Fn(&str) -> bool) {
        let clock = SystemClock::new();
        let began = clock.now();
        while !is_so(&self.status()) {
            assert!(clock.now().since(began) < PATIENCE, "{}\n{}", self.status(), self.said("stderr"));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn change(path: &Path, from: &str, to: &str) {
    let text = std::fs::read_to_string(path).expect("a file");
    assert!(text.contains(from), "{text}");
    std::fs::write(path, text.replace(from, to)).expect("written");
}

#[test]
fn what_is_changed_takes_over_and_what_is_broken_does_not() {
    let dev = Dev { folder: tempfile::tempdir().expect("a folder"), runtime: tempfile::tempdir().expect("a folder") };
    scaffold(dev.folder.path(), &["dev-notes"]);
    scaffold(dev.folder.path(), &["dev-writer", "--role", "producer", "--contract", "dev-notes/wit"]);
    for project in ["dev-notes", "dev-writer"] {
        let lock = busway_tests::root().join("guests/Cargo.lock");
        std::fs::copy(lock, dev.file(project).join("Cargo.lock")).expect("copied");
    }
    let mut node = dev.start();
    dev.until("stderr", "watching");
    dev.until("stderr", "removed: \"example\"");
    dev.until("stdout", "event | dev-notes.events.v1.notes.removed example {\"key\":\"example\"}");
    dev.publish("first");
    dev.until("stderr", "removed: \"first\"");

    let code = dev.file("dev-notes/src/lib.rs");
    change(&code, "\"removed: ", "\"gone: ");
    let clock = SystemClock::new();
    let began = clock.now();
    // Until it took over the one that was there goes on.
    while !dev.said("stderr").contains("gone: \"second\"") {
        assert!(clock.now().since(began) < PATIENCE, "{}", dev.said("stderr"));
        dev.publish("second");
        std::thread::sleep(Duration::from_millis(200));
    }

    change(&code, "struct Service;", "struct Servant;");
    dev.until("stderr", "does not compile; what ran before goes on");
    assert!(dev.said("stderr").contains("rustc | error"), "{}", dev.said("stderr"));
    dev.publish("third");
    dev.until("stderr", "gone: \"third\"");

    change(&code, "struct Servant;", "struct Service;");
    change(&dev.file("dev-notes/wit/deps/dev-notes-events/events.wit"), "body: string", "body: u32");
    dev.until("stderr", "refused, ");
    assert!(dev.said("stderr").contains("incompatible"), "{}", dev.said("stderr"));
    dev.publish("fourth");
    dev.until("stderr", "gone: \"fourth\"");

    // The other side makes the same change: neither new version understands the other's old one.
    change(&dev.file("dev-writer/src/main.rs"), "body: \"example\".into()", "body: 5");
    change(&dev.file("dev-writer/wit/deps/dev-notes-events/events.wit"), "body: string", "body: u32");
    dev.until("stderr", "these take over together");
    dev.until("stderr", "body: 5");

    // What is beside the projects runs, changes and goes with its file; a project that is removed stops.
    std::fs::copy(busway_tests::programs::TYPED_ECHO, dev.file("beside.wasm")).expect("copied");
    dev.until_status("beside", "running");
    std::fs::remove_file(dev.file("beside.wasm")).expect("removed");
    std::fs::remove_dir_all(dev.file("dev-notes")).expect("removed");
    dev.until("stderr", "dev-notes is gone");
    dev.until_not_running(&["beside", "dev_notes"]);
    node.signal("-INT");
    assert_eq!(node.ended(), Some(0), "{}", dev.said("stderr"));
}
