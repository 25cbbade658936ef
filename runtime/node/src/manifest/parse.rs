//! `busway.toml` as a whole.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use busway_contract::Keys;
use busway_types::{Limits, Retention, ServiceName};
use toml::de::DeTable;

use super::bridges::BridgeConfig;
use super::bus::{BusConfig, EngineUrl};
use super::config::ServiceConfig;
use super::error::{Finding, LoadError};
use super::gateway::GatewayConfig;
use super::reader::{Document, Table};
use super::{bridges, contracts, gateway, limits, service, topics};

/// The largest manifest, in bytes.
const MAX_BYTES: usize = 4 * 1024 * 1024;

/// A checked manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// Its file.
    pub path: PathBuf,
    /// `[bus]`.
    pub bus: BusConfig,
    /// `[limits]`, with defaults filled in, `retention` of `[bus]`, and `[topics.PATTERN]`.
    pub limits: Limits,
    /// `[contracts.NAME]`: where the keys of contracts are.
    pub keys: Keys,
    /// `[services.NAME]`, by name; paths are taken from the manifest's folder.
    pub services: BTreeMap<ServiceName, ServiceConfig>,
    /// `[gateway]`.
    pub gateway: GatewayConfig,
    /// `[bridges.NAME]`, by name.
    pub bridges: Vec<BridgeConfig>,
}

impl Manifest {
    /// Reads and checks a manifest.
    pub fn read(path: &Path) -> Result<Self, LoadError> {
        let bytes = std::fs::read(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
        let not_text = |problem: String| LoadError::NotText { path: path.to_owned(), problem };
        if bytes.len() > MAX_BYTES {
            return Err(not_text(format!("it is larger than {MAX_BYTES} bytes")));
        }
        let text = String::from_utf8(bytes)
            .map_err(|e| not_text(format!("byte {} is not UTF-8", e.utf8_error().valid_up_to())))?;
        Self::parse(path, &text).map_err(|findings| LoadError::Manifest { findings })
    }

    /// Checks the text of a manifest; `path` is where it is, for messages and relative paths.
    pub fn parse(path: &Path, text: &str) -> Result<Self, Vec<Finding>> {
        let document = Document::new(path, text);
        let (root, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let span = error.span().unwrap_or(0..0);
            let help = duplicate_service(text, span.start);
            document.note(span, error.message().to_owned(), help);
        }
        // What a broken text seems to say would only produce findings that go away with the first one.
        if !errors.is_empty() {
            return Err(document.into_findings());
        }
        let manifest = read_root(&document, path, root.get_ref());
        let findings = document.into_findings();
        if findings.is_empty() { Ok(manifest) } else { Err(findings) }
    }
}

/// A second table of one service is the one duplicate that deserves its own words.
fn duplicate_service(text: &str, at: usize) -> Option<String> {
    let start = text.get(..at)?.rfind('\n').map_or(0, |i| i + 1);
    let line = text.get(start..)?.lines().next()?.trim();
    let header = line.strip_prefix("[services.")?.trim_end_matches(']');
    let before = text.get(..start)?.lines().position(|l| l.trim() == line)?;
    Some(format!("the service {header} is already described in line {}; give this one another name", before + 1))
}

fn read_root<'a>(document: &'a Document<'a>, path: &Path, root: &'a DeTable<'a>) -> Manifest {
    let base = path.parent().unwrap_or(Path::new(""));
    let known = ["bus", "limits", "topics", "contracts", "services", "gateway", "bridges"];
    let root = Table::new(document, "the manifest".to_owned(), 0..0, root, &known);
    let bus = root.table("bus", "[bus]".to_owned(), &["engine", "durability", "generation", "retention"]);
    let limits = root.table("limits", "[limits]".to_owned(), limits::KEYS);
    let mut limits = limits.map(|table| limits::read(&table)).unwrap_or_default();
    limits.topic_expiry = topics::read(&root);
    if let Some(bus) = &bus {
        limits.retention = read_retention(bus, &limits);
    }
    let keys = contracts::read(&root);
    let mut services = read_services(&root, path, base);
    for service in services.values_mut() {
        service.keys = keys.clone();
    }
    let bridges = bridges::read(&root, &services, base);
    Manifest {
        path: path.to_owned(),
        bus: bus.map(|table| read_bus(&table, base)).unwrap_or_default(),
        limits,
        keys,
        services,
        gateway: gateway::read(&root, base),
        bridges,
    }
}

fn read_bus(table: &Table<'_>, base: &Path) -> BusConfig {
    if table.string("engine").is_some_and(|engine| engine.contains('@')) {
        // There is a login in it.
        table.document.hide(&table.place("engine"));
    }
    let engine: Option<EngineUrl> = table.parsed("engine");
    let generation = table.integer("generation", 0..=u64::from(u32::MAX)).and_then(|number| u32::try_from(number).ok());
    BusConfig {
        engine: engine.map(|e| e.relative_to(base)),
        durability: table.parsed("durability"),
        generation: generation.unwrap_or_default(),
    }
}

fn read_retention(bus: &Table<'_>, limits: &Limits) -> Retention {
    let Some(table) = bus.table("retention", "`retention` in [bus]".to_owned(), &["bytes", "time"]) else {
        return Retention::default();
    };
    let most = limits.disk_bytes / 4 * 3;
    let bytes = table.bytes("bytes", 0..=most);
    let time = table.duration("time", Duration::from_secs(1)..=Duration::from_hours(24 * 3_650));
    Retention { bytes, time }
}

fn read_services(root: &Table<'_>, path: &Path, base: &Path) -> BTreeMap<ServiceName, ServiceConfig> {
    let mut services = BTreeMap::new();
    // The names are the operator's, so that no key of this table is unknown.
    let Some(names) = root.names("services") else { return services };
    for (name, span, value) in names.entries() {
        let Some(table) = value.get_ref().as_table() else {
            let help = format!("write [services.{name}] and its settings below");
            root.document.note(value.span(), format!("`{name}` in [services] is not a table"), Some(help));
            continue;
        };
        let table = Table::new(root.document, format!("[services.{name}]"), value.span(), table, service::KEYS);
        match name.parse::<ServiceName>() {
            Ok(parsed) => {
                let config = service::read(&table, parsed.clone(), path, base);
                services.insert(parsed, config);
            }
            Err(error) => root.document.note(span, error.to_string(), None),
        }
    }
    services
}
