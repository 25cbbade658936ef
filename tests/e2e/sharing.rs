//! Nodes that share a bus, as processes, and the app that they have.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use busway_tests::{programs, services};
use busway_types::{Clock as _, SystemClock};

use crate::harness::App;
use crate::process::{NodeProcess, PATIENCE, command, once};

/// A node process with a runtime folder of its own, and what it says.
pub(crate) struct Running {
    pub(crate) process: NodeProcess,
    runtime: tempfile::TempDir,
}

impl Running {
    pub(crate) fn start(app: &Path, engine: &str, more: &[&str], login: &[(&str, &str)]) -> Self {
        let runtime = tempfile::tempdir().expect("a folder");
        let app = app.display().to_string();
        let mut arguments = vec!["run", &app, "--engine", engine];
        arguments.extend(more);
        let told = std::fs::File::create(runtime.path().join("told")).expect("a file");
        let child =
            command(runtime.path(), &arguments).envs(login.iter().copied()).stdout(Stdio::null()).stderr(told).spawn();
        Self { process: NodeProcess(child.expect("the node starts")), runtime }
    }

    /// What it has said so far.
    pub(crate) fn told(&self) -> String {
        std::fs::read_to_string(self.runtime.path().join("told")).expect("its words")
    }

    pub(crate) fn says(&self, what: &str) -> String {
        self.says_times(what, 1)
    }

    /// Waits until it has said something so many times.
    pub(crate) fn says_times(&self, what: &str, times: usize) -> String {
        let clock = SystemClock::new();
        let began = clock.now();
        loop {
            let told = self.told();
            if told.matches(what).count() >= times {
                return told;
            }
            assert!(clock.now().since(began) < PATIENCE, "it does not say {what:?}, but: {told}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// A command that is to succeed.
    pub(crate) fn ask(&self, arguments: &[&str]) -> String {
        let output = once(self.runtime.path(), arguments, "");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{arguments:?}: {told}; the node: {}", self.told());
        String::from_utf8(output.stdout).expect("text")
    }

    /// A command that is to fail, with what it says.
    pub(crate) fn refuses(&self, arguments: &[&str]) -> String {
        let output = once(self.runtime.path(), arguments, "");
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {output:?}");
        String::from_utf8(output.stderr).expect("text")
    }

    pub(crate) fn publish(&self, data: &str) {
        self.ask(&["publish", "public.in", "--data", data]);
    }

    /// Publishes lines of JSON to the topic of the service, in order.
    pub(crate) fn publish_lines(&self, lines: &str) {
        self.publish_lines_to("public.in", lines);
    }

    pub(crate) fn publish_lines_to(&self, topic: &str, lines: &str) {
        let output = once(self.runtime.path(), &["publish", topic, "--lines=events"], lines);
        assert!(output.status.success(), "{output:?}");
    }

    /// Waits until this is all that `forward` has published, in this order.
    pub(crate) fn has_forwarded(&self, wanted: &[&str]) {
        let clock = SystemClock::new();
        let began = clock.now();
        loop {
            let told = self.ask(&["tail", "public.out", "--from", "start", "--json", "--no-follow"]);
            let data = |line| {
                let line: serde_json::Value = serde_json::from_str(line).expect("JSON");
                line["event"]["text"].as_str().or(line["event"]["data"].as_str()).unwrap_or_default().to_owned()
            };
            let found: Vec<String> = told.lines().map(data).collect();
            if found == wanted {
                return;
            }
            assert!(
                found.len() <= wanted.len() && clock.now().since(began) < PATIENCE,
                "{found:?} instead of {wanted:?}; the node: {}",
                self.told()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Publishes `one`, `two` while the broker is away, and `three`; `broker` ends it on false and starts it again on true.
    pub(crate) fn loses_its_broker(&self, mut broker: impl FnMut(bool)) {
        self.says("service forward");
        self.publish("one");
        self.has_forwarded(&["one"]);
        broker(false);
        std::thread::scope(|scope| {
            // What is on its way when the broker goes is neither lost nor refused: it is answered later.
            let waiting = scope.spawn(|| self.publish("two"));
            self.says("does not confirm records");
            // Its answer comes after the driver has seen that there is no room; what is published before that is on its way too.
            let status = self.ask(&["status"]);
            assert!(status.contains("does not confirm records"), "{status}");
            let refused = self.refuses(&["publish", "public.in", "--data", "never"]);
            assert!(refused.contains("publishers wait until it does"), "{refused}");
            broker(true);
            waiting.join().expect("published");
        });
        self.says("confirms records again");
        self.publish("three");
    }

    pub(crate) fn ends(mut self) -> String {
        self.process.signal("-TERM");
        assert_eq!(self.process.ended(), Some(0), "{}", self.told());
        self.told()
    }

    /// What its gateway answers.
    pub(crate) fn gateway(&self, path: &str) -> u16 {
        let told = self.says("gateway ");
        let (_, rest) = told.split_once("gateway ").expect("the address of the gateway");
        let url = rest.lines().next().expect("a line").trim();
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        agent.get(format!("{url}{path}")).call().expect("an answer").status().as_u16()
    }
}

/// An app that forwards, answers HTTP, and counts.
pub(crate) fn app() -> App {
    let app = App::new()
        .manifest("[[gateway.routes]]\nname = \"hello\"\npath = \"/\"\nservice = \"hello\"\n")
        .service(
            "forward",
            programs::FORWARD,
            "subscribe = [\"public.in\"]\npublish = [\"public.>\"]\nconfig = { to = \"public.out\" }\n",
        )
        .service("hello", services::HELLO, "");
    app.written();
    app
}
