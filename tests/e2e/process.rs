//! The binary as its user meets it: a node process, found by the other commands, ended.

use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use crate::harness::App;
use busway_tests::programs;
use busway_types::{Clock as _, SystemClock};

/// How long a process may take for what it is asked.
pub(crate) const PATIENCE: Duration = Duration::from_secs(50);

pub(crate) fn command(runtime: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(busway_tests::busway());
    command.env("BUSWAY_RUNTIME_DIR", runtime).env_remove("BUSWAY_TOKEN").env("NO_COLOR", "1").args(arguments);
    command
}

/// A node process; killed when the test ends.
pub(crate) struct NodeProcess(pub(crate) Child);

impl NodeProcess {
    fn start(runtime: &Path, arguments: &[&str]) -> Self {
        let child = command(runtime, arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Self(child.expect("the node starts"))
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([signal, &self.0.id().to_string()]).status().expect("kill runs");
        assert!(sent.success());
    }

    pub(crate) fn ended(&mut self) -> Option<i32> {
        let clock = SystemClock::new();
        let began = clock.now();
        while clock.now().since(began) < PATIENCE {
            if let Some(status) = self.0.try_wait().expect("a child") {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        panic!("the node did not end within {PATIENCE:?}");
    }
}

impl Drop for NodeProcess {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Runs a command until it succeeds: a node needs a moment to be there.
pub(crate) fn ask(runtime: &Path, arguments: &[&str], input: &str) -> String {
    let clock = SystemClock::new();
    let began = clock.now();
    loop {
        let output = once(runtime, arguments, input);
        if output.status.success() {
            return String::from_utf8(output.stdout).expect("text");
        }
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(told.contains("no node"), "{arguments:?}: {told}");
        assert!(clock.now().since(began) < PATIENCE, "{arguments:?}: {told}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub(crate) fn once(runtime: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = command(runtime, arguments);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("started");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that refuses does not read its input.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    child.wait_with_output().expect("ended")
}

#[test]
fn a_node_is_found_while_it_runs_and_ends_by_itself_when_idle() {
    let app = App::new().with(programs::TICKER, "ticker").with(programs::FAILING, "failing");
    let runtime = tempfile::tempdir().expect("a folder");
    let folder = app.path().to_str().expect("UTF-8");
    let mut idle = NodeProcess::start(runtime.path(), &["run", folder, "--exit-when-idle"]);
    assert_eq!(idle.ended(), Some(0));

    let mut node = NodeProcess::start(runtime.path(), &["run", folder]);
    ask(runtime.path(), &["publish", "public.failing", "--data", "reject"], "");
    let clock = SystemClock::new();
    let began = clock.now();
    let mut dead = String::new();
    while !dead.contains("told to reject") && clock.now().since(began) < PATIENCE {
        dead = ask(runtime.path(), &["dead", "list", "--json"], "");
    }
    assert!(dead.contains("\"rejected\"") && dead.contains("told to reject"), "{dead}");
    assert!(
        ask(runtime.path(), &["tail", "public.>", "--from", "start", "--json", "--no-follow"], "").contains("reject")
    );
    assert!(ask(runtime.path(), &["status"], "").contains("failing"));
    let files = || std::fs::read_dir(runtime.path()).expect("listed").count();
    assert_eq!(files(), 1, "one node announces itself");
    node.signal("-TERM");
    assert_eq!(node.ended(), Some(0));
    assert_eq!(files(), 0, "and no longer does when it ended");
    let gone = once(runtime.path(), &["status"], "");
    assert!(!gone.status.success() && String::from_utf8_lossy(&gone.stderr).contains("busway run"), "{gone:?}");
}

/// An empty folder is as good at the start as later; a folder that is not there is a mistake.
#[test]
fn a_node_on_an_empty_folder_waits_for_components() {
    let (app, runtime) = (App::new(), tempfile::tempdir().expect("a folder"));
    let folder = app.path().display().to_string();
    let told = runtime.path().join("stderr");
    let started = command(runtime.path(), &["run", &folder])
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(&told).expect("a file"))
        .spawn();
    let _node = NodeProcess(started.expect("the node starts"));
    ask(runtime.path(), &["status"], "");
    app.put(programs::COUNT, "count");
    let clock = SystemClock::new();
    let began = clock.now();
    while !ask(runtime.path(), &["status"], "").contains("count") {
        assert!(clock.now().since(began) < PATIENCE, "it is not started");
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = std::fs::read_to_string(told).expect("its words");
    assert!(told.contains("waiting for components: there are no .wasm files"), "{told}");
    let missing = once(runtime.path(), &["run", &format!("{folder}/nothing")], "");
    assert_eq!(missing.status.code(), Some(1));
}
