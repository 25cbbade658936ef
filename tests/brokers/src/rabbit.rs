//! RabbitMQ.
//!
//! Role: a node of its own with everything it writes in its folder, and beside it the small server by which nodes of Erlang
//! find each other, on a port of its own too, so that neither meets one that somebody else runs.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::install;
use crate::process::{free_port, new_folder, signal, wait_for_port, watched};
use crate::server::{Place, Server, logged, pid_file};

/// How long a server may take to start or to end: half a minute on a busy machine.
pub(crate) const START_FOR: Duration = Duration::from_secs(90);
/// Somebody else may take a port between looking for one and using it.
const TRIES: usize = 3;

/// A RabbitMQ server that ends, and whose files go, when this is dropped.
#[derive(Debug)]
pub struct Rabbit {
    folder: PathBuf,
    ports: Ports,
    names: Option<Names>,
    server: Option<Server>,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) amqp: u16,
    nodes: u16,
    pub(crate) names: u16,
}

/// The server by which nodes find each other; ends with this.
#[derive(Debug)]
struct Names(Child);

impl Drop for Names {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        drop(self.0.wait());
    }
}

impl Rabbit {
    /// Starts one; installs it first when it is not there.
    pub fn start() -> Result<Self> {
        let home = install::rabbit()?;
        let folder = new_folder("rabbit")?;
        let mut tried = 0;
        loop {
            tried += 1;
            let ports = Ports::free()?;
            let mut rabbit = Self { folder: folder.clone(), ports, names: None, server: None };
            match rabbit.run(&home) {
                Ok(()) => return Ok(rabbit),
                Err(error) if tried == TRIES => return Err(error),
                Err(_) => drop(std::fs::create_dir_all(&folder)),
            }
        }
    }

    fn run(&mut self, home: &Path) -> Result<()> {
        let mut command = watched(Path::new("epmd"));
        let mut child = names(&mut command, self.ports).spawn().context("cannot start a shell")?;
        wait_for_port(self.ports.names, &mut child, START_FOR).context("epmd did not start")?;
        self.names = Some(Names(child));
        let mut command = watched(&program(home));
        let place = Place { folder: &self.folder, port: self.ports.amqp, within: START_FOR };
        self.server = Some(Server::start(node(&mut command, &self.folder, self.ports)?, place)?);
        Ok(())
    }

    /// Where it listens, with the user that may do everything: `amqp://guest:guest@127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url(self.ports)
    }

    /// Ends it at once (SIGKILL). What it has on disk stays.
    pub fn kill(&mut self) -> Result<()> {
        let ended = self.server.take().map_or(Ok(()), |server| server.end("-KILL"));
        self.names = None;
        ended
    }

    /// Starts it again, on the same port and with what it has on disk, if it does not run.
    pub fn start_again(&mut self) -> Result<()> {
        if self.server.is_some() { Ok(()) } else { self.run(&install::rabbit()?) }
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

impl Drop for Rabbit {
    fn drop(&mut self) {
        // Nothing more can be done about either.
        drop(self.kill());
        drop(std::fs::remove_dir_all(&self.folder));
    }
}

impl Ports {
    pub(crate) fn free() -> Result<Self> {
        Ok(Self { amqp: free_port()?, nodes: free_port()?, names: free_port()? })
    }
}

pub(crate) fn url(ports: Ports) -> String {
    format!("amqp://guest:guest@127.0.0.1:{}", ports.amqp)
}

/// The program that starts a node.
pub(crate) fn program(home: &Path) -> PathBuf {
    home.join("sbin/rabbitmq-server")
}

/// What the server of names is started with.
pub(crate) fn names(command: &mut Command, ports: Ports) -> &mut Command {
    command
        .args(["-address", "127.0.0.1", "-port", &ports.names.to_string()])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
}

/// What a node is started with: everything in its folder, the loopback interface alone, and a log.
pub(crate) fn node<'a>(command: &'a mut Command, folder: &Path, ports: Ports) -> Result<&'a mut Command> {
    let settings = format!("listeners.tcp.1 = 127.0.0.1:{}\n", ports.amqp);
    std::fs::write(folder.join("rabbitmq.conf"), settings).context("cannot write the settings of RabbitMQ")?;
    std::fs::write(folder.join("enabled_plugins"), "[].\n").context("cannot write the settings of RabbitMQ")?;
    std::fs::create_dir_all(folder.join("home"))?;
    let command = logged(command, folder)?;
    // Nothing of another RabbitMQ on this machine may reach this one.
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
    for (name, place) in [
        ("HOME", "home"),
        ("RABBITMQ_MNESIA_BASE", "data"),
        ("RABBITMQ_LOG_BASE", "logs"),
        ("RABBITMQ_CONFIG_FILE", "rabbitmq.conf"),
        ("RABBITMQ_ENABLED_PLUGINS_FILE", "enabled_plugins"),
    ] {
        command.env(name, folder.join(place));
    }
    command
        .env("RABBITMQ_PID_FILE", pid_file(folder))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_NODENAME", format!("busway-{}@localhost", ports.amqp))
        .env("RABBITMQ_DIST_PORT", ports.nodes.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("ERL_EPMD_PORT", ports.names.to_string())
        .env("ERL_AFLAGS", "-kernel inet_dist_use_interface {127,0,0,1}")
        // The script becomes the node instead of waiting for it, so that a signal to the one reaches the other.
        .env("RABBITMQ_ALLOW_INPUT", "true")
        .env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "-noinput");
    Ok(command)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;

    fn answers(port: u16) -> bool {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    }

    #[test]
    fn a_rabbit_ends_and_starts_again_at_its_place_and_leaves_nothing() {
        let mut rabbit = Rabbit::start().expect("RabbitMQ starts");
        let (folder, ports) = (rabbit.folder.clone(), rabbit.ports);
        let pid = rabbit.server.as_ref().map(Server::pid).expect("a process");
        assert!(answers(ports.amqp) && rabbit.freeze() && rabbit.thaw());
        rabbit.kill().expect("it ends");
        assert!(!answers(ports.amqp) && !answers(ports.names) && !crate::process::is_running(pid));
        rabbit.start_again().expect("it starts again");
        assert!(answers(ports.amqp));
        drop(rabbit);
        assert!(!folder.exists() && !answers(ports.names));
    }
}
