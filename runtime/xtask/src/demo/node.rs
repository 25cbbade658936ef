//! A `busway` node as a child process, used through its command line as a person would.
//!
//! Invariants: it has a runtime folder of its own, so that it neither finds nor disturbs another node of this user; it
//! does not outlive this process's use of it; what it logs is kept in a file and shown only when something failed.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

use super::report::{Entries, Report};
use crate::process;

/// How long a node may take to start, compiling its components included.
const START: Duration = Duration::from_mins(2);
/// How long it may take to finish what is in flight.
const STOP: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(100);

/// A running node. Stopped when dropped.
#[derive(Debug)]
pub(super) struct Node {
    child: Child,
    binary: PathBuf,
    folder: PathBuf,
}

impl Node {
    /// Starts a node on an application and waits until it answers. `folder` is emptied and then holds its runtime
    /// folder and its log.
    pub(super) fn start(binary: &Path, app: &Path, folder: &Path) -> Result<Self> {
        drop(std::fs::remove_dir_all(folder));
        std::fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        let log = File::create(folder.join("node.log")).context("cannot create the node's log")?;
        let mut command = busway(binary, folder);
        command.arg("run").arg(app).args(["--admin", "127.0.0.1:0"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let shown = process::shown(&command);
        let child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
        let mut node = Self { child, binary: binary.to_owned(), folder: folder.to_owned() };
        for _ in 0..polls(START) {
            if let Some(status) = node.child.try_wait()? {
                bail!("`{shown}` ended at once ({status}):\n{}", node.log_tail());
            }
            if node.status().is_ok() {
                return Ok(node);
            }
            std::thread::sleep(POLL);
        }
        bail!("`{shown}` does not answer after {} s:\n{}", START.as_secs(), node.log_tail())
    }

    /// What `busway status` says.
    pub(super) fn status(&self) -> Result<Report> {
        self.ask(&["status", "--json"])
    }

    /// The key-value of a service.
    pub(super) fn key_value(&self, service: &str) -> Result<Entries> {
        self.ask(&["kv", "list", service, "--json"])
    }

    /// Publishes lines of NDJSON.
    pub(super) fn publish(&self, topic: &str, lines: &str) -> Result<()> {
        let mut command = busway(&self.binary, &self.folder);
        command.args(["publish", topic, "--lines"]).stdin(Stdio::piped()).stdout(Stdio::null());
        let shown = process::shown(&command);
        let mut child = command.spawn().with_context(|| format!("cannot start `{shown}`"))?;
        let fed = match child.stdin.take() {
            Some(mut stdin) => stdin.write_all(lines.as_bytes()),
            None => Ok(()),
        };
        let status = child.wait()?;
        if !status.success() {
            bail!("`{shown}` failed ({status})");
        }
        fed.with_context(|| format!("`{shown}` did not read all its input"))
    }

    /// Asks it to stop as Ctrl-C would, and gives how it ended.
    pub(super) fn stop(mut self) -> Result<ExitStatus> {
        if cfg!(unix) {
            process::run(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
            for _ in 0..polls(STOP) {
                if let Some(status) = self.child.try_wait()? {
                    return Ok(status);
                }
                std::thread::sleep(POLL);
            }
            bail!("the node did not stop within {} s:\n{}", STOP.as_secs(), self.log_tail());
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }

    /// The end of its log.
    pub(super) fn log_tail(&self) -> String {
        let log = std::fs::read(self.folder.join("node.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn ask<T: DeserializeOwned>(&self, arguments: &[&str]) -> Result<T> {
        let mut command = busway(&self.binary, &self.folder);
        command.args(arguments);
        let shown = process::shown(&command);
        let output = command.output().with_context(|| format!("cannot start `{shown}`"))?;
        if !output.status.success() {
            bail!("`{shown}` failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        serde_json::from_slice(&output.stdout).with_context(|| format!("`{shown}` printed something unexpected"))
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Already ended: nothing to do.
        if let Ok(None) = self.child.try_wait() {
            drop(self.child.kill());
            drop(self.child.wait());
        }
    }
}

fn busway(binary: &Path, folder: &Path) -> Command {
    let mut command = process::command(binary);
    command.env("BUSWAY_RUNTIME_DIR", folder.join("runtime"));
    command
}

fn polls(within: Duration) -> u128 {
    within.as_millis() / POLL.as_millis()
}
