//! Brokers that go on after the command that started them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::process::{free_port, is_running, new_folder, read_pid, signal, wait_for_end, wait_for_port};
use crate::server::pid_file;
use crate::{folder, install, nats, rabbit};

const START_FOR: Duration = Duration::from_secs(20);

/// A broker that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// Its kind, as in URLs: `nats` or `amqp`.
    pub kind: String,
    /// Where it listens.
    pub url: String,
    /// Its process.
    pub pid: u32,
    /// Its files.
    pub folder: PathBuf,
    /// Processes that it needs and that end after it.
    #[serde(default)]
    pub beside: Vec<u32>,
}

impl Running {
    /// Whether the process is still the one that was started: another one may have got its number since.
    fn is_alive(&self) -> bool {
        let noted = std::fs::read_to_string(pid_file(&self.folder)).ok();
        noted.is_some_and(|pid| pid.trim() == self.pid.to_string()) && is_running(self.pid)
    }
}

fn list() -> PathBuf {
    folder().join("running.json")
}

fn noted() -> Result<Vec<Running>> {
    match std::fs::read(list()) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .with_context(|| format!("{} is damaged; end the brokers by hand and remove it", list().display())),
        Err(_) => Ok(Vec::new()),
    }
}

fn note(running: &[Running]) -> Result<()> {
    std::fs::create_dir_all(folder())?;
    std::fs::write(list(), serde_json::to_vec_pretty(running)?)
        .with_context(|| format!("cannot write {}", list().display()))
}

/// Starts every broker that does not run yet; gives all that run.
pub fn up() -> Result<Vec<Running>> {
    let mut running = noted()?;
    running.retain(Running::is_alive);
    if running.iter().all(|broker| broker.kind != "nats") {
        running.push(start_nats()?);
        note(&running)?;
    }
    if running.iter().all(|broker| broker.kind != "amqp") {
        running.push(start_rabbit()?);
    }
    note(&running)?;
    Ok(running)
}

/// Stops every broker that [`up`] started and removes its files; gives those that ran.
pub fn down() -> Result<Vec<Running>> {
    let mut running = noted()?;
    running.retain(Running::is_alive);
    for broker in &running {
        signal(broker.pid, "-TERM");
        if wait_for_end(broker.pid, START_FOR).is_err() {
            signal(broker.pid, "-KILL");
            wait_for_end(broker.pid, START_FOR)?;
        }
        for beside in &broker.beside {
            signal(*beside, "-TERM");
        }
        std::fs::remove_dir_all(&broker.folder)
            .with_context(|| format!("cannot remove {}", broker.folder.display()))?;
    }
    note(&[])?;
    Ok(running)
}

fn start_nats() -> Result<Running> {
    let (program, folder, port) = (install::nats()?, new_folder("nats")?, free_port()?);
    let mut command = detached(&program);
    let mut child = nats::arguments(&mut command, &folder, port)?
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start nats-server")?;
    wait_for_port(port, &mut child, START_FOR).context("nats-server did not start")?;
    let pid = read_pid(&pid_file(&folder), START_FOR)?;
    Ok(Running { kind: "nats".to_owned(), url: nats::url(port), pid, folder, beside: Vec::new() })
}

fn start_rabbit() -> Result<Running> {
    let (home, folder, ports) = (install::rabbit()?, new_folder("rabbit")?, rabbit::Ports::free()?);
    let mut names = rabbit::names(&mut detached(Path::new("epmd")), ports)
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start epmd, which belongs to Erlang")?;
    wait_for_port(ports.names, &mut names, rabbit::START_FOR).context("epmd did not start")?;
    let mut command = detached(&rabbit::program(&home));
    let mut child = rabbit::node(&mut command, &folder, ports, None)?
        .stdin(Stdio::null())
        .spawn()
        .context("cannot start RabbitMQ")?;
    wait_for_port(ports.amqp, &mut child, rabbit::START_FOR).context("RabbitMQ did not start")?;
    let pid = read_pid(&pid_file(&folder), rabbit::START_FOR)?;
    Ok(Running { kind: "amqp".to_owned(), url: rabbit::url(ports), pid, folder, beside: vec![names.id()] })
}

/// A command for a program that does not end when the terminal of its starter is closed or interrupted.
fn detached(program: &Path) -> Command {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new(program);
    command.process_group(0);
    command
}
