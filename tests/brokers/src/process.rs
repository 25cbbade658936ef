//! Processes of brokers: ports, pids, their ends.

use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Runs a program, and ends it as soon as the standard input ends: the starter's end of that pipe goes with the starter.
const WATCHED: &str = r#"exec 3<&0; "$0" "$@" </dev/null 3<&- & pid=$!
{ cat <&3 >/dev/null; kill -9 $pid 2>/dev/null; } & watch=$!
wait $pid; status=$?; kill $watch 2>/dev/null; exit $status"#;

/// A port of the loopback interface on which nobody listens.
pub(crate) fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port of the loopback interface")?;
    Ok(listener.local_addr()?.port())
}

/// A new folder under the system's temporary one.
pub(crate) fn new_folder(broker: &str) -> Result<PathBuf> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let folder = std::env::temp_dir().join(format!("busway-{broker}-{}-{number}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    Ok(folder)
}

/// A command for a program that ends with this process.
pub(crate) fn watched(program: &Path) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", WATCHED]).arg(program).stdin(Stdio::piped());
    command
}

/// Waits until a port answers; fails early when the process that should ends.
pub(crate) fn wait_for_port(port: u16, child: &mut Child, within: Duration) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let mut waited = Duration::ZERO;
    while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("it ended ({status})");
        }
        if waited >= within {
            bail!("it does not answer on port {port} within {within:?}");
        }
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
    Ok(())
}

/// The number in a pid file, once it is there.
pub(crate) fn read_pid(file: &Path, within: Duration) -> Result<u32> {
    let mut waited = Duration::ZERO;
    loop {
        if let Ok(text) = std::fs::read_to_string(file)
            && let Ok(pid) = text.trim().parse()
        {
            return Ok(pid);
        }
        if waited >= within {
            bail!("no process id in {}", file.display());
        }
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
}

/// Sends a signal to a process; false when there is no such process.
pub(crate) fn signal(pid: u32, signal: &str) -> bool {
    let sent = Command::new("kill").args([signal, &pid.to_string()]).stderr(Stdio::null()).status();
    sent.is_ok_and(|status| status.success())
}

/// Whether a process still runs; one that only waits to be noticed by its parent does not.
pub(crate) fn is_running(pid: u32) -> bool {
    let state = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    match state.as_deref().and_then(|stat| stat.rsplit_once(')')) {
        Some((_, rest)) => !rest.trim_start().starts_with('Z'),
        None => !Path::new("/proc/self/stat").exists() && signal(pid, "-0"),
    }
}

/// Waits until a process has ended.
pub(crate) fn wait_for_end(pid: u32, within: Duration) -> Result<()> {
    let mut waited = Duration::ZERO;
    while is_running(pid) {
        if waited >= within {
            bail!("process {pid} does not end within {within:?}");
        }
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
    Ok(())
}
