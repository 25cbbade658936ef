//! Programs outside of the bus that publish and ask over the gateway of a real `busway run`: curl, an SDK of `CloudEvents` in
//! another language, a fuzzer that reads the document.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use busway_tests::{SHOP, root};
use busway_types::{Clock as _, SystemClock};

use crate::edge::doors::{everything, make_key, ready};
use crate::gateway::Told;
use crate::process::{NodeProcess, PATIENCE, ask, command};

/// The folder `examples/shop` as `cargo xtask guests` leaves it, run with a gateway on a port of its own.
struct Shop {
    folder: tempfile::TempDir,
    url: String,
    _node: NodeProcess,
}

impl Shop {
    fn run() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let shop = folder.path().join("shop");
        std::fs::create_dir_all(shop.join("services")).expect("made");
        for (name, component) in SHOP {
            let target = shop.join("services").join(name).with_extension("wasm");
            std::fs::copy(component, target).expect("copied");
        }
        std::fs::copy(root().join("examples/shop/busway.toml"), shop.join("busway.toml")).expect("copied");
        let told = folder.path().join("stderr");
        let app = shop.display().to_string();
        let data = folder.path().join("data").display().to_string();
        let started = command(folder.path(), &["run", &app, "--listen", "127.0.0.1:0", "--data", &data])
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&told).expect("a file"))
            .spawn();
        let node = NodeProcess(started.expect("the node starts"));
        let clock = SystemClock::new();
        let began = clock.now();
        loop {
            let said = std::fs::read_to_string(&told).expect("its words");
            if let Some((_, rest)) = said.split_once("gateway ") {
                let url = rest.lines().next().expect("an address").trim().to_owned();
                let shop = Self { folder, url, _node: node };
                // Answers once every service is there.
                ask(shop.runtime(), &["publish", "public.ready", "--data", "x"], "");
                return shop;
            }
            assert!(clock.now().since(began) < PATIENCE, "{said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn runtime(&self) -> &Path {
        self.folder.path()
    }

    /// Every event on a topic, once there is that much of it.
    fn tail(&self, pattern: &str, count: usize) -> Vec<serde_json::Value> {
        let clock = SystemClock::new();
        let began = clock.now();
        loop {
            let told = ask(self.runtime(), &["tail", pattern, "--from", "start", "--json", "--no-follow"], "");
            let event = |line| serde_json::from_str::<serde_json::Value>(line).expect("JSON")["event"].take();
            let lines: Vec<_> = told.lines().map(event).collect();
            if lines.len() >= count {
                return lines;
            }
            assert!(clock.now().since(began) < PATIENCE, "only {lines:?}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

/// What `cargo xtask test` installs of `tests/clients/requirements.txt`.
fn python_program(name: &str) -> PathBuf {
    let target = busway_tests::busway().ancestors().nth(2).expect("a target folder").to_owned();
    let program = target.join("tools/tests-clients-requirements-txt/bin").join(name);
    assert!(program.is_file(), "{} is missing; `cargo xtask test` installs it", program.display());
    program
}

/// The commands of the README with what they print, run as they stand but for the port.
#[test]
fn what_the_readme_shows_of_curl_is_what_curl_shows() {
    let shop = Shop::run();
    let readme = std::fs::read_to_string(root().join("examples/shop/README.md")).expect("the README");
    let lines: Vec<&str> = readme.lines().collect();
    let mut shown = 0;
    for pair in lines.windows(2) {
        let Some(line) = pair[0].strip_prefix("$ curl ") else { continue };
        let line = format!("curl {}", line.replace("http://127.0.0.1:8080", &shop.url));
        let output = Command::new("sh").args(["-c", &line]).output().expect("sh runs");
        let printed = String::from_utf8(output.stdout).expect("text");
        assert_eq!(printed.trim_end(), pair[1], "{line}");
        shown += 1;
    }
    assert_eq!(shown, 4, "the README shows curl");
    let placed = shop.tail("shop.orders.v1.orders.placed", 1);
    assert_eq!(placed[0]["data"]["order"]["id"], "o2");
    assert_eq!(placed.len(), 1);
}

#[test]
fn the_sdk_of_another_language_sends_cloudevents_in_every_mode() {
    let shop = Shop::run();
    let mut client = Command::new(python_program("python"));
    client.arg(root().join("tests/clients/publish.py")).arg(&shop.url);
    let output = client.output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let ids: Vec<String> = serde_json::from_slice(&output.stdout).expect("ids");
    assert_eq!(ids[0], ids[1], "source and id are one event");
    let events = shop.tail("public.python", 5);
    let stored: Vec<&str> = events.iter().map(|event| event["id"].as_str().expect("an id")).collect();
    assert_eq!(stored, ids.iter().skip(1).map(String::as_str).collect::<Vec<_>>());
    let data: Vec<_> = events.iter().map(|event| event["data"]["n"].clone()).collect();
    assert_eq!(data, [1.into(), 2.into(), serde_json::Value::Null, 4.into(), 5.into()]);
    assert_eq!(events[2]["text"], "zwei\nZeilen");
    for event in &events {
        assert_eq!(event["key"], "ada");
        let headers = event["headers"].as_array().expect("headers");
        let subject = headers.iter().find(|header| header["name"] == "ce-subject").expect("a subject");
        assert_eq!(subject["value"], "Grüße, \"100 %\"");
    }
}

/// Requests made from the document, valid and not, for a bounded time: none is answered with a status of 500 or above but
/// those that the document has, and nothing but what the document says.
#[test]
fn a_fuzzer_that_reads_the_document_finds_no_answer_that_is_not_in_it() {
    let shop = Shop::run();
    fuzz(&shop.url, shop.runtime(), &["--exclude-operation-id", "listen"], 45);
}

/// The same of a gateway with routes of every kind, for somebody who has a key, and for somebody who has none.
#[test]
fn a_fuzzer_finds_no_other_answer_at_locked_doors() {
    let (key, lines) = make_key("fuzzer", &["publish:public.>", "subscribe:public.>", "route:*"]);
    let app = everything(&lines);
    // Nobody is told anything before the document.
    let manifest = std::fs::read_to_string(app.path().join("busway.toml")).expect("a manifest");
    let manifest =
        manifest.replacen("[gateway.auth.keys", "[gateway.auth]\ndocuments = \"open\"\n[gateway.auth.keys", 1);
    app.write("busway.toml", manifest.as_bytes());
    let told = Told::start(&app, &[]);
    let url = ready(&told);
    let with_key = format!("authorization: Bearer {key}");
    // Live push does not end by itself.
    let left_out = ["--exclude-operation-id", "listen", "--exclude-operation-id", "live-GET"];
    for header in [&with_key, "x-nothing: x"] {
        fuzz(&url, told.runtime.path(), &[&left_out[..], &["--header", header]].concat(), 20);
    }
    assert!(!told.said().contains("panicked"), "{}", told.said());
}

/// Has a gateway asked for some seconds what its document says, and what it does not.
fn fuzz(url: &str, folder: &Path, arguments: &[&str], seconds: u32) {
    let mut fuzzer = Command::new(python_program("schemathesis"));
    fuzzer.current_dir(folder).env("NO_COLOR", "1").env("HYPOTHESIS_STORAGE_DIRECTORY", folder);
    fuzzer
        .arg("--config-file")
        .arg(root().canonicalize().expect("the repository").join("tests/clients/schemathesis.toml"));
    fuzzer.args(["run", &format!("{url}/openapi.json"), "--url", url]).args(arguments);
    fuzzer.args(["--phases", "examples,coverage,fuzzing", "--seed", "1", "--max-time", &seconds.to_string()]);
    fuzzer.args(["--max-examples", "25", "--request-timeout", "20", "--warnings", "off"]);
    fuzzer.args(["--checks", "not_a_server_error,status_code_conformance,content_type_conformance"]);
    let output = fuzzer.output().expect("schemathesis runs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    assert!(told.contains("passed"), "{told}");
}
