//! What `busway run` was pointed at: a folder of components, a manifest, or a folder with both.
//!
//! Invariant: one name, one service. A file of a folder is a service named by its stem, unless the manifest names it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use busway_contract::Keys;
use busway_types::{Limits, ServiceName};

use super::bridges::BridgeConfig;
use super::bus::BusConfig;
use super::config::ServiceConfig;
use super::error::LoadError;
use super::gateway::GatewayConfig;
use super::parse::Manifest;

/// The name of a manifest in a folder.
pub const MANIFEST: &str = "busway.toml";

/// A component that cannot become a service, with the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedComponent {
    /// The file.
    pub path: PathBuf,
    /// Why, and what to do.
    pub reason: String,
}

/// What is to run.
#[derive(Clone, Debug)]
pub struct App {
    /// The folder whose .wasm files are services; none when only a manifest was given.
    pub folder: Option<PathBuf>,
    /// The manifest, if there is one.
    pub manifest: Option<Manifest>,
    /// The services, by name.
    pub services: BTreeMap<ServiceName, ServiceConfig>,
    /// Files of the folder that cannot be services.
    pub refused: Vec<RefusedComponent>,
}

impl App {
    /// Finds out what is to run: `path` is a folder of .wasm files, a folder with a `busway.toml`, or a manifest.
    ///
    /// With a manifest in it, the other .wasm files of the folder run as well, with defaults. A folder may be empty:
    /// components can still appear in it. [`App::nothing_to_run`] tells.
    pub fn load(path: &Path) -> Result<Self, LoadError> {
        let kind = match fs::metadata(path) {
            Ok(kind) => kind,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                return Err(LoadError::NotFound { path: path.to_owned() });
            }
            Err(source) => return Err(LoadError::Read { path: path.to_owned(), source }),
        };
        if !kind.is_dir() {
            if path.extension().is_none_or(|e| e != "toml") {
                return Err(LoadError::NotAnApp { path: path.to_owned() });
            }
            return Ok(Self::of_manifest(Manifest::read(path)?, None));
        }
        let beside = path.join(MANIFEST);
        let mut app = if beside.exists() {
            Self::of_manifest(Manifest::read(&beside)?, Some(path.to_owned()))
        } else {
            Self { folder: Some(path.to_owned()), manifest: None, services: BTreeMap::new(), refused: Vec::new() }
        };
        let files = components(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        for file in files {
            match app.service_for(&file) {
                Ok(service) => {
                    app.services.entry(service.name.clone()).or_insert(service);
                }
                Err(refused) => app.refused.push(refused),
            }
        }
        Ok(app)
    }

    /// What is to be said when there is neither a component nor a manifest, yet.
    pub fn nothing_to_run(&self) -> Option<LoadError> {
        let folder = self.folder.as_deref().filter(|_| self.manifest.is_none())?;
        let empty = self.services.is_empty() && self.refused.is_empty();
        empty.then(|| LoadError::NoComponents { folder: folder.to_owned(), found: built_by_cargo(folder) })
    }

    fn of_manifest(manifest: Manifest, folder: Option<PathBuf>) -> Self {
        let services = manifest.services.clone();
        Self { folder, manifest: Some(manifest), services, refused: Vec::new() }
    }

    /// The settings of a component that lies in, or appeared in, the folder: those of the manifest when it names the
    /// file, else the defaults under the file's stem.
    pub fn service_for(&self, file: &Path) -> Result<ServiceConfig, RefusedComponent> {
        let named = self.manifest.iter().flat_map(|m| m.services.values()).find(|s| same_file(&s.component, file));
        if let Some(service) = named {
            return Ok(service.clone());
        }
        let refused = |reason: String| RefusedComponent { path: file.to_owned(), reason };
        let Some(stem) = file.file_stem().and_then(|s| s.to_str()) else {
            return Err(refused("the file's name is not UTF-8; rename it".to_owned()));
        };
        let name: ServiceName = stem.parse().map_err(|e| refused(format!("{e}; rename the file")))?;
        if let Some(bridge) = self.bridges().find(|bridge| bridge.service == name) {
            let name = &bridge.name;
            return Err(refused(format!("this name is that of the bridge `{name}`; rename this file or the bridge")));
        }
        match self.manifest.as_ref().and_then(|m| m.services.get(&name).map(|s| (m, s))) {
            Some((manifest, service)) => Err(refused(format!(
                "two services of one name: {} says that `{name}` is {}; rename this file or that service",
                manifest.path.display(),
                service.component.display()
            ))),
            None => Ok(ServiceConfig { keys: self.keys(), ..ServiceConfig::default_for(name, file.to_owned()) }),
        }
    }

    /// Where the keys of contracts are.
    pub fn keys(&self) -> Keys {
        self.manifest.as_ref().map(|m| m.keys.clone()).unwrap_or_default()
    }

    /// The limits of the node.
    pub fn limits(&self) -> Limits {
        self.manifest.as_ref().map(|m| m.limits.clone()).unwrap_or_default()
    }

    /// What the manifest says about the bus.
    pub fn bus(&self) -> BusConfig {
        self.manifest.as_ref().map(|m| m.bus.clone()).unwrap_or_default()
    }

    /// The bridges that are to run.
    pub fn bridges(&self) -> impl Iterator<Item = &BridgeConfig> {
        self.manifest.iter().flat_map(|manifest| &manifest.bridges).filter(|bridge| bridge.enabled)
    }

    /// Whether something is scheduled, or comes in from a broker, so that the node is never idle.
    pub(crate) fn comes_to_no_end(&self) -> bool {
        let is_scheduled = self.services.values().any(|service| service.schedule.is_some());
        is_scheduled || self.bridges().any(BridgeConfig::comes_in)
    }

    /// What the manifest says about the gateway.
    pub fn gateway(&self) -> GatewayConfig {
        self.manifest.as_ref().map(|m| m.gateway.clone()).unwrap_or_default()
    }
}

fn same_file(a: &Path, b: &Path) -> bool {
    // A relative and an absolute path of one file are the same; a file that is not there is compared by name only.
    a == b || matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}

/// The .wasm files (in whatever case) of a folder, by name; hidden ones are left out, as half-copied files are often hidden.
pub(crate) fn components(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let hidden = path.file_name().is_none_or(|name| name.as_encoded_bytes().starts_with(b"."));
        if !hidden && path.extension().is_some_and(|e| e.eq_ignore_ascii_case("wasm")) && !path.is_dir() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Components where cargo puts them, looking from `folder` and the folders above it.
fn built_by_cargo(folder: &Path) -> Vec<PathBuf> {
    let from = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    for above in from.ancestors().take(6) {
        for profile in ["release", "debug"] {
            let found = components(&above.join("target/wasm32-wasip2").join(profile)).unwrap_or_default();
            if !found.is_empty() {
                return found;
            }
        }
    }
    Vec::new()
}
