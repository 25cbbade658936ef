//! Builds projects when their sources change, and puts the components where the node looks.
//!
//! Invariants: a component appears in one step, and only if it differs from the one that is there; files are looked at
//! again and again, at most [`MOST_FILES`] of a project; one build runs at a time.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::{Prefix, say};

/// Files of a project that are watched.
const MOST_FILES: usize = 5_000;

/// Projects of an app.
const MOST_PROJECTS: usize = 64;

/// How deep folders are looked into.
const MOST_DEPTH: usize = 8;

/// How often files are looked at.
const PAUSE: Duration = Duration::from_millis(300);

/// A folder with a Cargo.toml, and what its sources looked like when it was built.
struct Project {
    folder: PathBuf,
    built: Option<u64>,
}

/// Builds until it is stopped.
pub(super) struct Builder {
    projects: Mutex<Vec<Project>>,
    /// Where components are copied to; none when the node looks where cargo puts them.
    into: Option<PathBuf>,
    offline: bool,
    stopping: AtomicBool,
    cargo: Mutex<Option<Child>>,
}

impl Builder {
    /// For the project in a folder, or those in the folders in it.
    pub(super) fn new(folder: &Path, into: Option<PathBuf>, offline: bool) -> Result<Self> {
        let mut folders = Vec::new();
        if folder.join("Cargo.toml").is_file() {
            folders.push(folder.to_owned());
        } else {
            let entries = fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
            folders
                .extend(entries.flatten().map(|entry| entry.path()).filter(|path| path.join("Cargo.toml").is_file()));
            folders.sort();
        }
        if folders.is_empty() || folders.len() > MOST_PROJECTS {
            bail!(
                "{} has {} folders with a Cargo.toml, itself included; 1 to {MOST_PROJECTS} are built. `busway new` writes \
                 one",
                folder.display(),
                folders.len()
            );
        }
        let projects = folders.into_iter().map(|folder| Project { folder, built: None }).collect();
        let projects = Mutex::new(projects);
        Ok(Self { projects, into, offline, stopping: AtomicBool::new(false), cargo: Mutex::new(None) })
    }

    /// Builds what changed, until it is stopped.
    pub(super) fn run(&self) {
        while !self.stopping.load(Ordering::Acquire) {
            self.turn();
            thread::sleep(PAUSE);
        }
    }

    /// Builds what changed.
    pub(super) fn turn(&self) {
        for project in self.projects.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let now = fingerprint(&project.folder);
            if project.built == Some(now) || self.stopping.load(Ordering::Acquire) {
                continue;
            }
            project.built = Some(now);
            let name = project.folder.display();
            match self.build(&project.folder) {
                Ok(true) => say(Prefix::Build, &format!("{name} is built")),
                Ok(false) if self.stopping.load(Ordering::Acquire) => {}
                Ok(false) => say(Prefix::Failed, &format!("{name} does not compile; what ran before goes on")),
                Err(error) => say(Prefix::Failed, &format!("{name}: {error:#}")),
            }
        }
    }

    /// Ends a build that runs, and begins no other.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(cargo) = self.cargo.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            drop(cargo.kill());
        }
    }

    fn build(&self, folder: &Path) -> Result<bool> {
        say(Prefix::Build, &format!("building {}", folder.display()));
        let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(folder).args(["build", "--release", "--target", "wasm32-wasip2", "--quiet"]);
        command.args(["--message-format", "json-render-diagnostics", "--color"]);
        command.arg(if crate::output::is_attended() { "always" } else { "never" });
        if self.offline {
            command.arg("--offline");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut cargo = command.spawn().context("cargo cannot be started; install Rust with rustup")?;
        let (stdout, stderr) = (cargo.stdout.take(), cargo.stderr.take());
        *self.cargo.lock().unwrap_or_else(PoisonError::into_inner) = Some(cargo);
        let told = thread::spawn(move || {
            for line in stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()).map_while(Result::ok) {
                say(Prefix::Compiler, &line);
            }
        });
        let mut components = Vec::new();
        for line in stdout.into_iter().flat_map(|stdout| BufReader::new(stdout).lines()).map_while(Result::ok) {
            components.extend(artifacts(&line));
        }
        drop(told.join());
        let cargo = self.cargo.lock().unwrap_or_else(PoisonError::into_inner).take();
        let succeeded = cargo.map(|mut cargo| cargo.wait()).transpose()?.is_some_and(|status| status.success());
        if !succeeded {
            return Ok(false);
        }
        if components.is_empty() {
            bail!("it makes no component; a service has `crate-type = [\"cdylib\"]` in [lib], a program a src/main.rs");
        }
        for component in components {
            self.put(&component).with_context(|| format!("{} cannot be copied", component.display()))?;
        }
        Ok(true)
    }

    /// Copies a component to where the node looks, in one step.
    fn put(&self, component: &Path) -> Result<()> {
        let (Some(into), Some(name)) = (&self.into, component.file_name()) else { return Ok(()) };
        let target = into.join(name);
        let bytes = fs::read(component)?;
        if fs::read(&target).is_ok_and(|there| there == bytes) {
            return Ok(());
        }
        let aside = target.with_extension("part");
        fs::write(&aside, bytes)?;
        Ok(fs::rename(&aside, &target)?)
    }
}

/// The components that a line of cargo's answer names.
fn artifacts(line: &str) -> Vec<PathBuf> {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(line) else { return Vec::new() };
    if value["reason"] != "compiler-artifact" {
        return Vec::new();
    }
    let names = value["filenames"].as_array().into_iter().flatten().filter_map(|name| name.as_str());
    names.map(PathBuf::from).filter(|path| path.extension().is_some_and(|found| found == "wasm")).collect()
}

/// What the sources of a project look like.
fn fingerprint(folder: &Path) -> u64 {
    let mut files = Vec::new();
    collect(folder, MOST_DEPTH, &mut files);
    files.sort();
    let mut hasher = DefaultHasher::new();
    for path in files {
        let state = fs::metadata(&path).ok().map(|data| (data.len(), data.modified().ok()));
        (path, state).hash(&mut hasher);
    }
    hasher.finish()
}

/// The sources below a folder: what cargo makes and what is hidden is passed over.
fn collect(folder: &Path, depth: usize, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        if files.len() >= MOST_FILES || hidden {
            continue;
        }
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if depth > 0 && entry.file_name() != "target" {
                collect(&path, depth - 1, files);
            }
        } else if path.extension().is_some_and(|found| found == "rs" || found == "toml" || found == "wit") {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_taken_from_what_cargo_says() {
        let line = r#"{"reason":"compiler-artifact","filenames":["/a/b.wasm","/a/b.d"]}"#;
        assert_eq!(artifacts(line), [PathBuf::from("/a/b.wasm")]);
        assert!(artifacts(r#"{"reason":"build-finished","success":true}"#).is_empty());
        assert!(artifacts("warning").is_empty());
    }

    #[test]
    fn a_change_of_a_source_is_seen_and_one_of_what_is_built_is_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("src")).unwrap();
        fs::create_dir_all(folder.path().join("target")).unwrap();
        fs::write(folder.path().join("src/lib.rs"), "a").unwrap();
        let before = fingerprint(folder.path());
        fs::write(folder.path().join("target/x.rs"), "x").unwrap();
        fs::write(folder.path().join("Cargo.lock"), "x").unwrap();
        assert_eq!(fingerprint(folder.path()), before);
        fs::write(folder.path().join("src/lib.rs"), "ab").unwrap();
        assert_ne!(fingerprint(folder.path()), before);
    }
}
