//! Builds projects when their sources change, and puts the components where the node looks.
//!
//! Invariants: a component appears in one step, and only if it differs from the one that is there; files are looked at
//! again and again, at most [`MOST_FILES`] of a project; one build runs at a time.

use std::collections::hash_map::DefaultHasher;
use std::ffi::OsString;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

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

/// How deep below the folder of the app a project may lie.
const MOST_LEVELS: usize = 3;

/// A folder with a Cargo.toml, and what its sources looked like when it was built.
struct Project {
    folder: PathBuf,
    built: Option<u64>,
    /// The components that it makes, by the names of their files.
    components: Vec<OsString>,
}

/// A component that nobody builds here, and what it looked like when it was copied.
type Neighbour = (OsString, Option<(u64, SystemTime)>);

/// Builds until it is stopped.
pub(super) struct Builder {
    /// The folder of the app.
    folder: PathBuf,
    projects: Mutex<Vec<Project>>,
    neighbours: Mutex<Vec<Neighbour>>,
    /// Where components are copied to; none when the node looks where cargo puts them.
    into: Option<PathBuf>,
    offline: bool,
    stopping: AtomicBool,
    cargo: Mutex<Option<Child>>,
}

impl Builder {
    /// For the project in a folder, or those in the folders below it.
    pub(super) fn new(folder: &Path, into: Option<PathBuf>, offline: bool) -> Result<Self> {
        fs::read_dir(folder).with_context(|| format!("{} cannot be read", folder.display()))?;
        let folders = projects(folder);
        if folders.is_empty() || folders.len() > MOST_PROJECTS {
            bail!(
                "{} has {} folders with a Cargo.toml, itself included, {MOST_LEVELS} deep; 1 to {MOST_PROJECTS} are built. `busway new` writes \
                 one",
                folder.display(),
                folders.len()
            );
        }
        let (folder, projects, neighbours) = (folder.to_owned(), Mutex::default(), Mutex::default());
        let (stopping, cargo) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Self { folder, projects, neighbours, into, offline, stopping, cargo })
    }

    /// Builds what changed, until it is stopped.
    pub(super) fn run(&self) {
        while !self.stopping.load(Ordering::Acquire) {
            self.turn();
            thread::sleep(PAUSE);
        }
    }

    /// Builds what changed, and takes away what was made of projects that are gone.
    pub(super) fn turn(&self) {
        let mut known = self.projects.lock().unwrap_or_else(PoisonError::into_inner);
        let mut found = projects(&self.folder);
        found.truncate(MOST_PROJECTS);
        known.retain(|project| {
            let is_there = found.contains(&project.folder);
            if !is_there {
                say(Prefix::Build, &format!("{} is gone", project.folder.display()));
                project.components.iter().for_each(|name| self.take_away(name));
            }
            is_there
        });
        for folder in found {
            if !known.iter().any(|project| project.folder == folder) {
                known.push(Project { folder, built: None, components: Vec::new() });
            }
        }
        for project in known.iter_mut() {
            let now = fingerprint(&project.folder);
            if project.built == Some(now) || self.stopping.load(Ordering::Acquire) {
                continue;
            }
            project.built = Some(now);
            let name = project.folder.display();
            match self.build(&project.folder) {
                Ok(Some(made)) => {
                    say(Prefix::Build, &format!("{name} is built"));
                    let old = std::mem::replace(&mut project.components, made);
                    old.iter().filter(|name| !project.components.contains(name)).for_each(|name| self.take_away(name));
                }
                Ok(None) if self.stopping.load(Ordering::Acquire) => {}
                Ok(None) => say(Prefix::Failed, &format!("{name} does not compile; what ran before goes on")),
                Err(error) => say(Prefix::Failed, &format!("{name}: {error:#}")),
            }
        }
        let built: Vec<OsString> = known.iter().flat_map(|project| project.components.clone()).collect();
        drop(known);
        if let Some(into) = &self.into
            && let Err(error) = self.copy_neighbours(into, &built)
        {
            say(Prefix::Failed, &format!("{error:#}"));
        }
    }

    /// Components that nobody builds here run beside those that are built: as they change, come and go.
    fn copy_neighbours(&self, into: &Path, built: &[OsString]) -> Result<()> {
        let mut known = self.neighbours.lock().unwrap_or_else(PoisonError::into_inner);
        let entries =
            fs::read_dir(&self.folder).with_context(|| format!("{} cannot be read", self.folder.display()))?;
        let mut found: Vec<Neighbour> = Vec::new();
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            if path.extension().is_none_or(|found| found != "wasm") || built.contains(&name) {
                continue;
            }
            let state = fs::metadata(&path).ok().and_then(|data| Some((data.len(), data.modified().ok()?)));
            let neighbour = (name, state);
            if !known.contains(&neighbour) {
                copy(&path, &into.join(&neighbour.0))
                    .with_context(|| format!("{} cannot be copied", path.display()))?;
            }
            found.push(neighbour);
        }
        let gone = known.iter().filter(|(name, _)| !found.iter().any(|(other, _)| other == name));
        gone.filter(|(name, _)| !built.contains(name)).for_each(|(name, _)| self.take_away(name));
        *known = found;
        Ok(())
    }

    /// Removes a component from where the node looks: its service finishes what is in flight and stops.
    fn take_away(&self, component: &OsString) {
        if let Some(into) = &self.into {
            drop(fs::remove_file(into.join(component)));
        }
    }

    /// Ends a build that runs, and begins no other.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        if let Some(cargo) = self.cargo.lock().unwrap_or_else(PoisonError::into_inner).as_mut() {
            drop(cargo.kill());
        }
    }

    /// The names of the components that were made; none when it does not compile.
    fn build(&self, folder: &Path) -> Result<Option<Vec<OsString>>> {
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
            return Ok(None);
        }
        if components.is_empty() {
            bail!("it makes no component; a service has `crate-type = [\"cdylib\"]` in [lib], a program a src/main.rs");
        }
        let mut names = Vec::new();
        for component in components {
            let Some(name) = component.file_name() else { continue };
            if let Some(into) = &self.into {
                copy(&component, &into.join(name))
                    .with_context(|| format!("{} cannot be copied", component.display()))?;
            }
            names.push(name.to_owned());
        }
        Ok(Some(names))
    }
}

/// Copies a component to where the node looks, in one step, unless it is there already.
fn copy(component: &Path, target: &Path) -> Result<()> {
    let bytes = fs::read(component)?;
    if fs::read(target).is_ok_and(|there| there == bytes) {
        return Ok(());
    }
    let aside = target.with_extension("part");
    fs::write(&aside, bytes)?;
    Ok(fs::rename(&aside, target)?)
}

/// The folder itself if it has a Cargo.toml, else the nearest ones below it that have one.
fn projects(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    find(folder, MOST_LEVELS, &mut found);
    found.sort();
    found
}

fn find(folder: &Path, levels: usize, found: &mut Vec<PathBuf>) {
    if folder.join("Cargo.toml").is_file() {
        found.push(folder.to_owned());
        return;
    }
    if levels == 0 || found.len() > MOST_PROJECTS {
        return;
    }
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let hidden = entry.file_name().to_string_lossy().starts_with('.');
        let is_folder = entry.file_type().is_ok_and(|kind| kind.is_dir());
        if is_folder && !hidden && entry.file_name() != "target" {
            find(&entry.path(), levels - 1, found);
        }
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
    fn projects_are_found_below_the_folder_but_not_in_each_other() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["a", "b/c/d", "a/inner", "target/x", ".git/y", "b/c/e/f"] {
            fs::create_dir_all(folder.path().join(path)).unwrap();
            fs::write(folder.path().join(path).join("Cargo.toml"), "").unwrap();
        }
        let found = projects(folder.path());
        let names: Vec<_> =
            found.iter().map(|path| path.strip_prefix(folder.path()).unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a", "b/c/d"]);
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
