//! Where the contract of a new service comes from, and the files that it brings.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use busway_contract::ContractId;
use busway_contract::document::{Api, Format};
use busway_contract::source::{self, Source};
use busway_node::manifest::App;

use super::{File, text};
use crate::failure::Usage;
use crate::output::{preview, shown_lines, warn};

/// Files of WIT that are copied at most.
const MOST_FILES: usize = 1_000;

/// How deep the folders of a WIT package may be.
const MOST_DEPTH: usize = 4;

/// A contract package, ready to be written below `wit`.
#[derive(Debug)]
pub(super) struct Copied {
    /// Paths below `wit`, with their content.
    pub(super) files: Vec<File>,
    /// The contracts that the service is about.
    pub(super) interfaces: Vec<ContractId>,
}

/// What the name of a package selects: `shop:orders`, with an interface or a version where that matters.
struct Wanted<'t> {
    namespace: &'t str,
    package: &'t str,
    interface: Option<&'t str>,
    version: Option<&'t str>,
}

impl<'t> Wanted<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let (path, version) = text.split_once('@').map_or((text, None), |(path, version)| (path, Some(version)));
        let (namespace, rest) = path.split_once(':')?;
        let (package, interface) = rest.split_once('/').map_or((rest, None), |(package, name)| (package, Some(name)));
        let is_name = |name: &str| !name.is_empty() && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        let good = is_name(namespace) && is_name(package) && interface.is_none_or(is_name);
        good.then_some(Self { namespace, package, interface, version })
    }

    fn selects(&self, id: &ContractId) -> bool {
        *id.namespace == *self.namespace
            && *id.package == *self.package
            && self.interface.is_none_or(|interface| *id.interface == *interface)
            && self.version.is_none_or(|wanted| id.version.as_ref().is_some_and(|found| found.to_string() == wanted))
    }
}

/// A contract of its own for a service that was given none.
pub(super) fn example(name: &str) -> Result<Copied> {
    let id = format!("{name}:events/notes@1.0.0").parse()?;
    let file = PathBuf::from(format!("deps/{name}-events/events.wit"));
    Ok(Copied { files: vec![(file, text::example_contract(name).into())], interfaces: vec![id] })
}

/// The contract at a path, or the one of a package that is found near by.
pub(super) fn find(wanted: &str) -> Result<Copied> {
    let path = Path::new(wanted);
    if path.exists() {
        return take(path, |_| true);
    }
    let Some(name) = Wanted::parse(wanted) else {
        bail!(Usage(format!(
            "`{}` is neither a file or folder that exists nor the name of a package such as `shop:orders`",
            preview(wanted, 80)
        )));
    };
    let mut looked = Vec::new();
    let places = places();
    for place in &places {
        // What cannot be read is not what is looked for, but whoever looks in vain should know.
        let state = match source::read(place) {
            Ok(source) if source.found.iter().any(|found| name.selects(&found.contract.id)) => {
                return take(place, |id| name.selects(id));
            }
            Ok(source) => has(&source),
            Err(error) => error.to_string(),
        };
        looked.push(format!("\n  {}: {}", place.display(), shown_lines(&state)));
    }
    if looked.is_empty() {
        looked.push("\n  there is neither a folder `wit` nor a component here".to_owned());
    }
    bail!(
        "no contract of `{}` was found; give --contract a .wit file, a folder of them or a component. Looked in ./wit and \
         the components of this folder:{}",
        preview(wanted, 80),
        looked.concat()
    )
}

fn has(source: &Source) -> String {
    let mut names: Vec<_> = source.found.iter().map(|found| found.contract.id.to_string()).collect();
    names.dedup();
    if names.is_empty() { "no contracts".to_owned() } else { names.join(", ") }
}

/// Where a package may be: `wit`, everything in it, and the components of the app in this folder.
fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    for folder in ["wit", "wit/deps"] {
        let mut inside: Vec<PathBuf> = fs::read_dir(folder).map_or_else(
            |_| Vec::new(),
            |entries| entries.flatten().map(|entry| entry.path()).take(MOST_FILES).collect(),
        );
        inside.retain(|path| path.extension().is_some_and(|found| found == "wit") || path.is_dir());
        inside.retain(|path| !path.ends_with("deps"));
        inside.sort();
        if folder == "wit" && !inside.is_empty() {
            places.push(folder.into());
        }
        places.extend(inside);
    }
    let app = App::load(Path::new("."));
    places.extend(app.iter().flat_map(|app| app.services.values()).map(|service| service.component.clone()));
    places
}

/// The contracts at a path that are selected, and the files that they need.
fn take(path: &Path, selects: impl Fn(&ContractId) -> bool) -> Result<Copied> {
    let mut source = source::read(path)?;
    source.found.retain(|found| selects(&found.contract.id));
    let mut interfaces: Vec<_> = source.found.iter().map(|found| found.contract.id.clone()).collect();
    interfaces.sort();
    interfaces.dedup();
    for problem in &source.problems {
        warn(shown_lines(problem));
    }
    if interfaces.is_empty() {
        bail!("{} has no contract: an interface in a package, with functions", path.display());
    }
    let is_text = path.is_dir() || path.extension().is_some_and(|found| found == "wit");
    let files = if !is_text {
        written(&source)?
    } else if path.is_dir() {
        // Contracts without a direction are declared by the package itself, not used by one of its worlds.
        let own = source.found.iter().find(|found| found.direction.is_none()).map(|found| &found.contract.id);
        copied(path, own)?
    } else {
        let file = path.file_name().map(PathBuf::from).unwrap_or_default();
        let content = fs::read(path).with_context(|| format!("{} cannot be read", path.display()))?;
        vec![(folder(&interfaces[0]).join(file), content)]
    };
    Ok(Copied { files, interfaces })
}

/// Where a package lies below `wit`.
fn folder(id: &ContractId) -> PathBuf {
    let version = id.version.as_ref().map_or_else(String::new, |version| format!("-{version}"));
    Path::new("deps").join(format!("{}-{}{version}", id.namespace, id.package))
}

/// WIT for what a component says of its contracts, a file for each package.
fn written(source: &Source) -> Result<Vec<File>> {
    let mut packages: Vec<(PathBuf, Api)> = Vec::new();
    for found in &source.found {
        let path = folder(&found.contract.id).join("contract.wit");
        let one = Source { found: vec![found.clone()], problems: Vec::new() };
        if let Some((_, api)) = packages.iter_mut().find(|(known, _)| *known == path) {
            api.add(None, one);
        } else {
            let mut api = Api::new("");
            api.add(None, one);
            packages.push((path, api));
        }
    }
    packages.into_iter().map(|(path, api)| Ok((path, api.document(Format::Wit)?.into_bytes()))).collect()
}

/// The files of a package folder and its dependencies. Without contracts of its own the package is somebody's service, of
/// which only the dependencies are of interest.
fn copied(from: &Path, own: Option<&ContractId>) -> Result<Vec<File>> {
    let mut files = Vec::new();
    if let Some(own) = own {
        collect(from, &folder(own), 0, &mut files)?;
    }
    let dependencies = from.join("deps");
    if dependencies.is_dir() {
        collect(&dependencies, Path::new("deps"), MOST_DEPTH, &mut files)?;
    }
    Ok(files)
}

/// The files of a folder and of so many levels of folders below it.
fn collect(from: &Path, to: &Path, depth: usize, files: &mut Vec<File>) -> Result<()> {
    let unreadable = || format!("{} cannot be read", from.display());
    let mut entries: Vec<_> =
        fs::read_dir(from).with_context(unreadable)?.flatten().map(|entry| entry.path()).collect();
    entries.sort();
    for path in entries {
        let Some(name) = path.file_name() else { continue };
        if path.is_dir() {
            if depth > 0 {
                collect(&path, &to.join(name), depth - 1, files)?;
            }
        } else if path.extension().is_some_and(|found| found == "wit" || found == "wasm") {
            if files.len() >= MOST_FILES {
                bail!("{} has more than {MOST_FILES} files of WIT", from.display());
            }
            files.push((to.join(name), fs::read(&path).with_context(|| format!("{} cannot be read", path.display()))?));
        }
    }
    Ok(())
}
