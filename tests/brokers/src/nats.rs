//! NATS with JetStream.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::install;
use crate::process::{free_port, new_folder, signal, watched};
use crate::server::{Place, Server, logged, pid_file};

/// How long a server may take to start or to end.
const START_FOR: Duration = Duration::from_secs(20);
/// Somebody else may take the port between looking for one and using it.
const TRIES: usize = 3;

/// A nats-server with JetStream that ends, and whose files go, when this is dropped.
#[derive(Debug)]
pub struct Nats {
    folder: PathBuf,
    port: u16,
    /// Further arguments.
    more: Vec<String>,
    server: Option<Server>,
}

impl Nats {
    /// Starts one; installs it first when it is not there.
    pub fn start() -> Result<Self> {
        Self::start_with(&[])
    }

    /// Starts one with further arguments, such as `--user` and `--pass`.
    pub fn start_with(more: &[&str]) -> Result<Self> {
        let more: Vec<String> = more.iter().map(ToString::to_string).collect();
        let program = install::nats()?;
        let folder = new_folder("nats")?;
        let mut tried = 0;
        loop {
            tried += 1;
            let port = free_port()?;
            match serve(&program, &folder, port, &more) {
                Ok(server) => return Ok(Self { folder, port, more, server: Some(server) }),
                Err(error) if tried == TRIES => return Err(error),
                Err(_) => {}
            }
        }
    }

    /// Where it listens: `nats://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url(self.port)
    }

    /// Ends it at once (SIGKILL). What it has on disk stays.
    pub fn kill(&mut self) -> Result<()> {
        self.server.take().map_or(Ok(()), |server| server.end("-KILL"))
    }

    /// Starts it again, on the same port and with what it has on disk, if it does not run.
    pub fn start_again(&mut self) -> Result<()> {
        if self.server.is_none() {
            self.server = Some(serve(&install::nats()?, &self.folder, self.port, &self.more)?);
        }
        Ok(())
    }

    /// Stops it for a while: nothing answers, connections stay.
    pub fn freeze(&self) -> bool {
        self.server.as_ref().is_some_and(|server| signal(server.pid(), "-STOP"))
    }

    /// Lets it go on.
    pub fn thaw(&self) -> bool {
        self.server.as_ref().is_some_and(|server| signal(server.pid(), "-CONT"))
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        // Nothing more can be done about either.
        drop(self.kill());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

fn serve(program: &Path, folder: &Path, port: u16, more: &[String]) -> Result<Server> {
    let mut command = watched(program);
    Server::start(arguments(&mut command, folder, port)?.args(more), Place { folder, port, within: START_FOR })
}

pub(crate) fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

/// What a server is started with: everything in its folder, the loopback interface alone, and a log.
pub(crate) fn arguments<'a>(command: &'a mut Command, folder: &Path, port: u16) -> Result<&'a mut Command> {
    let command = logged(command, folder)?;
    command.args(["--addr", "127.0.0.1", "--jetstream", "--port", &port.to_string()]);
    command.arg("--store_dir").arg(folder.join("store")).arg("--pid").arg(pid_file(folder));
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn answers(nats: &Nats) -> bool {
        TcpStream::connect(("127.0.0.1", nats.port)).is_ok()
    }

    #[test]
    fn a_server_ends_and_starts_again_at_its_place_and_leaves_nothing() {
        let mut nats = Nats::start().expect("nats-server starts");
        let (folder, pid) = (nats.folder.clone(), nats.server.as_ref().map(Server::pid).expect("a process"));
        assert!(answers(&nats) && nats.freeze() && nats.thaw());
        nats.kill().expect("it ends");
        assert!(!answers(&nats) && !crate::process::is_running(pid));
        nats.start_again().expect("it starts again");
        assert!(answers(&nats));
        drop(nats);
        assert!(!folder.exists());
    }
}
