//! A server that ends with whoever started it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::process::{read_pid, signal, wait_for_end, wait_for_port};

/// Where a server's files are and how it is known to be ready.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) folder: &'a Path,
    pub(crate) port: u16,
    /// How long it may take to answer, and to end.
    pub(crate) within: Duration,
}

/// A server that runs.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    pid: u32,
    within: Duration,
}

impl Server {
    /// Starts a command that was made by [`watched`](crate::process::watched), which notes its process id in the folder, and
    /// waits until it answers.
    pub(crate) fn start(command: &mut Command, place: Place<'_>) -> Result<Self> {
        let Place { folder, port, within } = place;
        let mut child = command.spawn().context("cannot start a shell")?;
        let ready = wait_for_port(port, &mut child, within).and_then(|()| read_pid(&pid_file(folder), within));
        match ready {
            Ok(pid) => Ok(Self { child, pid, within }),
            Err(error) => {
                // Without its other end the shell ends the program.
                drop(child.stdin.take());
                drop(child.wait());
                let log = std::fs::read_to_string(log_file(folder)).unwrap_or_default();
                Err(error.context(format!("the server did not start; its log: {log}")))
            }
        }
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Ends it with a signal.
    pub(crate) fn end(mut self, how: &str) -> Result<()> {
        signal(self.pid, how);
        wait_for_end(self.pid, self.within)?;
        // The shell beside it ends when nobody holds the other end of its input.
        drop(self.child.stdin.take());
        self.child.wait().context("the shell beside the server")?;
        Ok(())
    }
}

/// Where a server's process id is noted.
pub(crate) fn pid_file(folder: &Path) -> PathBuf {
    folder.join("pid")
}

/// Where what it prints goes.
pub(crate) fn log_file(folder: &Path) -> PathBuf {
    folder.join("log")
}

/// Has a command write what it prints to the log of its folder, where no process id of an earlier one is left.
pub(crate) fn logged<'a>(command: &'a mut Command, folder: &Path) -> Result<&'a mut Command> {
    // A pid from before would be taken for the new one.
    drop(std::fs::remove_file(pid_file(folder)));
    let log = std::fs::File::create(log_file(folder)).context("cannot write the broker's log")?;
    Ok(command.stdout(log.try_clone()?).stderr(log))
}
