//! Foreign programs that the tests need: npm packages, Python packages, Debian packages.
//!
//! Invariants: versions are those of a lock file or of pinned requirements in git; what is installed lies in git-ignored
//! folders (`node_modules`, `target/tools`), except Debian's packages, which only root can install; nothing is installed
//! twice. What cannot be installed is said, with the command that mends it, and the tests that need it fail.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{command, root, run, say, target};

/// Installs the npm packages of a folder as its lock file says, unless that was done.
pub(crate) fn npm(folder: &str) -> Result<()> {
    let folder = root().join(folder);
    let changed = |path: &str| folder.join(path).metadata().and_then(|found| found.modified()).ok();
    // npm writes this file when it is done.
    if changed("node_modules/.package-lock.json").is_some_and(|done| Some(done) >= changed("package-lock.json")) {
        return Ok(());
    }
    let npm = Path::new("npm");
    if command(npm).arg("--version").output().is_err() {
        say(&format!("npm is not installed (Node 20 or newer has it): tests that need {} will fail", folder.display()));
        return Ok(());
    }
    // Nothing of what is installed may run while it is installed.
    let words = ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
    run(command(npm).args(words).current_dir(folder))
}

/// Where the Python packages of a requirements file are, once [`python`] has installed them: a virtual environment with
/// programs in `bin`.
pub(crate) fn environment(requirements: &str) -> PathBuf {
    let name: String = requirements.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    target().join("tools").join(name)
}

/// Installs the Python packages of a requirements file into an environment of their own, unless that was done.
pub(crate) fn python(requirements: &str) -> Result<()> {
    let (file, environment) = (root().join(requirements), environment(requirements));
    let wanted = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let done = environment.join("installed.txt");
    if fs::read(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let python = Path::new("python3");
    if command(python).arg("--version").output().is_err() {
        say(&format!("python3 is not installed: tests that need {requirements} will fail"));
        return Ok(());
    }
    run(command(python).args(["-m", "venv", "--clear"]).arg(&environment))?;
    let pip = environment.join("bin/python");
    let words = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
    run(command(&pip).args(words).arg(&file))?;
    // Written last: an installation that was interrupted is done again.
    fs::write(&done, wanted).with_context(|| format!("cannot write {}", done.display()))
}

/// Installs Debian's packages whose program is missing, where that is possible: as root, with apt.
pub(crate) fn debian(wanted: &[(&str, &str)]) -> Result<()> {
    let places = ["/usr/bin", "/usr/sbin", "/usr/local/bin"];
    let missing = |program: &str| !places.iter().any(|folder| Path::new(folder).join(program).exists());
    let packages: Vec<&str> = wanted.iter().filter(|(program, _)| missing(program)).map(|(_, p)| *p).collect();
    if packages.is_empty() {
        return Ok(());
    }
    let apt = Path::new("apt-get");
    let root = command(Path::new("id")).arg("-u").output().is_ok_and(|told| told.stdout.trim_ascii() == b"0");
    if !root || command(apt).arg("--version").output().is_err() {
        let packages = packages.join(" ");
        say(&format!("the tests need {packages}; install with `sudo apt-get install {packages}`"));
        return Ok(());
    }
    let install = |packages: &[&str]| {
        let words = ["install", "--yes", "--quiet", "--no-install-recommends"];
        run(command(apt).env("DEBIAN_FRONTEND", "noninteractive").args(words).args(packages))
    };
    // The lists of packages may be missing or old: fetch them only when it does not work without.
    install(&packages).or_else(|_| run(command(apt).args(["update", "--quiet"])).and_then(|()| install(&packages)))
}
