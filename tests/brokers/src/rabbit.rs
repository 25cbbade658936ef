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

/// With what a server speaks TLS, as files (PEM). Who connects has to show a certificate of `ca` as well.
#[derive(Clone, Debug)]
pub struct Tls {
    /// Whom the server trusts.
    pub ca: PathBuf,
    /// Its own certificate.
    pub cert: PathBuf,
    /// The key of that.
    pub key: PathBuf,
}

/// A RabbitMQ server that ends, and whose files go, when this is dropped.
#[derive(Debug)]
pub struct Rabbit {
    folder: PathBuf,
    ports: Ports,
    tls: Option<Tls>,
    names: Option<Names>,
    server: Option<Server>,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ports {
    pub(crate) amqp: u16,
    /// Used by a server that speaks TLS as well.
    amqps: u16,
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
        Self::start_with(None)
    }

    /// Starts one that listens on a second port, with TLS.
    pub fn start_with_tls(tls: Tls) -> Result<Self> {
        Self::start_with(Some(tls))
    }

    fn start_with(tls: Option<Tls>) -> Result<Self> {
        let home = install::rabbit()?;
        let folder = new_folder("rabbit")?;
        let mut tried = 0;
        loop {
            tried += 1;
            let ports = Ports::free()?;
            let mut rabbit = Self { folder: folder.clone(), ports, tls: tls.clone(), names: None, server: None };
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
        // It opens the port with TLS after the other one.
        let port = if self.tls.is_some() { self.ports.amqps } else { self.ports.amqp };
        let place = Place { folder: &self.folder, port, within: START_FOR };
        let command = node(&mut command, &self.folder, self.ports, self.tls.as_ref())?;
        self.server = Some(Server::start(command, place)?);
        Ok(())
    }

    /// Where it listens, with the user that may do everything: `amqp://guest:guest@127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        url(self.ports)
    }

    /// Where it listens with TLS, if it was started so, with the same user.
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}", self.ports.amqps)
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
        Ok(Self { amqp: free_port()?, amqps: free_port()?, nodes: free_port()?, names: free_port()? })
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

fn settings(ports: Ports, tls: Option<&Tls>) -> String {
    let plain = format!("listeners.tcp.1 = 127.0.0.1:{}\n", ports.amqp);
    let Some(Tls { ca, cert, key }) = tls else { return plain };
    let (port, ca, cert, key) = (ports.amqps, ca.display(), cert.display(), key.display());
    format!(
        "{plain}listeners.ssl.1 = 127.0.0.1:{port}\nssl_options.cacertfile = {ca}\nssl_options.certfile = {cert}\n\
         ssl_options.keyfile = {key}\nssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n"
    )
}

/// What a node is started with: everything in its folder, the loopback interface alone, and a log.
pub(crate) fn node<'a>(
    command: &'a mut Command,
    folder: &Path,
    ports: Ports,
    tls: Option<&Tls>,
) -> Result<&'a mut Command> {
    let settings = settings(ports, tls);
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
