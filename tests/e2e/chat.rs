//! `examples/chat` with real clients: the official one of Socket.IO, that of Python, and browsers.

use std::path::Path;
use std::process::{Command, Stdio};

use busway_tests::{root, services};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::browser::{Browser, Driver};
use crate::process::{NodeProcess, ask, command};

/// The example as its user runs it, but on a port that is free.
struct Chat {
    url: String,
    _node: NodeProcess,
    _folders: (TempDir, TempDir),
}

impl Chat {
    fn start() -> Self {
        let (app, runtime) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let example = root().join("examples/chat");
        for file in ["busway.toml", "page.html"] {
            std::fs::copy(example.join(file), app.path().join(file)).expect("copied");
        }
        std::fs::create_dir(app.path().join("services")).expect("a folder");
        std::fs::copy(services::CHAT, app.path().join("services/chat.wasm")).expect("copied");
        let folder = app.path().join("busway.toml").display().to_string();
        let mut node = command(runtime.path(), &["run", &folder, "--listen", "127.0.0.1:0"]);
        let node = NodeProcess(node.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("the node starts"));
        let url = loop {
            let status: Value = serde_json::from_str(&ask(runtime.path(), &["status", "--json"], "")).expect("JSON");
            if let Some(url) = status["node"]["gateway"]["url"].as_str() {
                break url.to_owned();
            }
        };
        Self { url, _node: node, _folders: (app, runtime) }
    }

    /// Runs a client, which checks what it sees.
    fn client(&self, program: &Path, script: &str, transport: &str) {
        let mut client = Command::new(program);
        let ran = client.current_dir(root().join("tests/socketio")).args([script, &self.url, transport]).output();
        let ran = ran.unwrap_or_else(|error| panic!("{}: {error}; `cargo xtask test` installs it", program.display()));
        let (told, problem) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success() && told.trim_end().ends_with("ok"), "{script} {transport}: {told}\n{problem}");
    }
}

#[test]
fn the_official_client_talks_in_rooms() {
    let chat = Chat::start();
    chat.client(Path::new("node"), "rooms.mjs", "websocket");
    let chat = Chat::start();
    chat.client(Path::new("node"), "rooms.mjs", "polling");
}

#[test]
fn the_client_of_python_talks_in_rooms() {
    let chat = Chat::start();
    // Where `cargo xtask test` puts the packages of tests/socketio/requirements.txt.
    let python = root().join("target/tools/tests-socketio-requirements-txt/bin/python");
    chat.client(&python, "rooms.py", "websocket");
    chat.client(&python, "rooms.py", "polling");
}

#[test]
fn two_browsers_talk_in_a_room_and_a_third_is_not_disturbed() {
    let chat = Chat::start();
    let driver = Driver::start();
    let join = |room: &str| {
        let browser = Browser::open(&driver, &chat.url);
        browser.wait("return document.getElementById('state').textContent", &"connected".into());
        browser.write("#room", room);
        browser.click("#join button");
        browser.wait("return document.getElementById('state').textContent", &format!("in {room}").into());
        browser
    };
    let say = |browser: &Browser, text: &str| {
        browser.write("#text", text);
        browser.click("#say button");
        browser.wait("return document.getElementById('text').value", &"".into());
    };
    let messages =
        "return [...document.querySelectorAll('#messages li')].map((line) => [line.value, line.textContent])";
    let (ada, bob, eve) = (join("tea"), join("tea"), join("coffee"));
    say(&ada, "hello <b>Bob</b>");
    for browser in [&ada, &bob] {
        browser.wait(messages, &json!([[1, "hello <b>Bob</b>"]]));
    }
    say(&bob, "hello Ada");
    say(&eve, "anybody here?");
    for browser in [&ada, &bob] {
        browser.wait(messages, &json!([[1, "hello <b>Bob</b>"], [2, "hello Ada"]]));
    }
    eve.wait(messages, &json!([[1, "anybody here?"]]));
}
