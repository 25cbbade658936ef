//! A `busway` process, and its admin API.
//!
//! Invariants: the process is this test's own child and is gone when it is dropped; it announces itself in a runtime
//! folder of its own, and nothing else of this user is found or disturbed.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use busway_types::{Clock as _, SystemClock};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use ureq::Agent;

/// How long a node may take to answer or to end, on a loaded machine.
pub const PATIENCE: Duration = Duration::from_mins(2);
const POLL: Duration = Duration::from_millis(2);

/// What a node announces.
#[derive(Clone, Debug, Deserialize)]
struct Announced {
    address: SocketAddr,
    token: String,
}

/// How to reach a node.
#[derive(Clone, Debug)]
pub struct Address(Arc<Announced>);

impl Address {
    /// The URL of a path of its admin API.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.0.address)
    }

    /// The header `Authorization` that it asks for.
    pub fn bearer(&self) -> String {
        format!("Bearer {}", self.0.token)
    }

    /// What it answers to `GET`, if that is a success.
    ///
    /// # Errors
    /// No answer, a refusal, or something else than was expected, in words.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, String> {
        let asked = agent().get(self.url(path)).header("Authorization", self.bearer()).call();
        let mut answer = asked.map_err(|error| format!("GET {path}: {error}"))?;
        // Large events come back in large answers.
        let text = answer.body_mut().with_config().limit(1 << 30).read_to_string();
        let text = text.map_err(|error| format!("GET {path}: {error}"))?;
        serde_json::from_str(&text).map_err(|error| format!("GET {path}: {error}: {text}"))
    }

    /// What it answers to `POST`: the status and the text.
    ///
    /// # Errors
    /// No answer, in words.
    pub fn post(&self, path: &str, body: &str) -> Result<(u16, String), String> {
        let request = agent().post(self.url(path)).header("Authorization", self.bearer());
        let answer = request.content_type("application/json").send(body.as_bytes());
        let mut answer = answer.map_err(|error| format!("POST {path}: {error}"))?;
        let text = answer.body_mut().read_to_string();
        Ok((answer.status().as_u16(), text.map_err(|error| format!("POST {path}: {error}"))?))
    }
}

/// A client that keeps no answer waiting for ever.
pub fn agent() -> Agent {
    let config = Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_connect(Some(Duration::from_secs(5)))
        .timeout_recv_response(Some(Duration::from_mins(1)))
        .build();
    config.into()
}

/// A running process. Killed when dropped.
#[derive(Debug)]
pub struct Node {
    child: Child,
    announced: PathBuf,
}

impl Node {
    /// Starts the app in a folder, where the node also announces itself, keeps its cache and appends to `node.log`.
    ///
    /// # Panics
    /// The binary is not built, or the folder cannot be written to.
    pub fn start(folder: &Path, engine: &str, more: &[&str]) -> Self {
        let binary = crate::busway();
        let log = File::options().create(true).append(true).open(folder.join("node.log"));
        let log = log.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        let mut command = Command::new(&binary);
        command.arg("run").arg(folder).args(["--engine", engine]).args(more);
        command.env("BUSWAY_RUNTIME_DIR", folder.join("runtime")).env_remove("BUSWAY_TOKEN");
        command.env("XDG_CACHE_HOME", folder.join("cache")).env("NO_COLOR", "1");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let announced = folder.join("runtime").join(format!("node-{}.json", child.id()));
        Self { child, announced }
    }

    /// Waits until it answers.
    ///
    /// # Errors
    /// It ended, or does not answer.
    pub fn ready(&mut self) -> Result<Address, String> {
        let clock = SystemClock::new();
        let began = clock.now();
        while clock.now().since(began) < PATIENCE {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("the node ended by itself while it started: {status}"));
            }
            // The file appears whole, and only when the node can be asked.
            if let Ok(text) = std::fs::read(&self.announced) {
                let announced = serde_json::from_slice(&text).map_err(|e| format!("its announcement: {e}"))?;
                return Ok(Address(Arc::new(announced)));
            }
            std::thread::sleep(POLL);
        }
        Err(format!("the node does not answer after {PATIENCE:?}"))
    }

    /// Ends it at once, as a power cut ends a process.
    ///
    /// # Errors
    /// It had ended before.
    pub fn kill(mut self) -> Result<(), String> {
        if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
            return Err(format!("the node ended by itself: {status}"));
        }
        // `kill` is SIGKILL.
        self.child.kill().map_err(|e| e.to_string())?;
        self.child.wait().map(drop).map_err(|e| e.to_string())
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal, such as `-STOP`.
    ///
    /// # Errors
    /// There is no such process.
    pub fn signal(&self, signal: &str) -> Result<(), String> {
        let sent = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        let sent = sent.map_err(|error| format!("kill: {error}"))?;
        if sent.success() { Ok(()) } else { Err(format!("kill {signal}: {sent}")) }
    }

    /// Lets it finish what is in flight.
    ///
    /// # Errors
    /// It does not end.
    pub fn stop(mut self) -> Result<ExitStatus, String> {
        self.signal("-TERM")?;
        let clock = SystemClock::new();
        let began = clock.now();
        while clock.now().since(began) < PATIENCE {
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Ok(status);
            }
            std::thread::sleep(POLL);
        }
        Err(format!("the node did not end within {PATIENCE:?}"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}
