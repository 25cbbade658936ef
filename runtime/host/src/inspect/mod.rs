//! Looking at a component's bytes before anything is compiled.
//!
//! Role: what a file is, what the component in it produces, handles and needs, and why busway cannot run it, in words
//! that a newcomer understands. Nothing here runs guest code; whatever the bytes are, the answer is a value.

mod compare;
mod known;

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::panic::catch_unwind;
use std::path::Path;

use busway_contract::component::Uses;
use busway_contract::{Contract, Direction, Function, InvalidTopic, Refused, Use};
use wasmparser::{Parser, Payload};
use wit_component::{DecodedWasm, OutputToString, WitPrinter};
use wit_parser::{Resolve, TypeDefKind, WorldId, WorldItem, WorldKey};

pub use known::Capability;

/// Bytes of a component file at most.
pub const MAX_BYTES: u64 = 100 * 1024 * 1024;

/// Why bytes are no component. Only `Unreadable` may go away by itself.
#[derive(Debug, thiserror::Error)]
pub enum InspectError {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Unreadable(#[from] std::io::Error),
    /// Nothing in it.
    #[error("the file is empty; is it still being written?")]
    Empty,
    /// Larger than [`MAX_BYTES`].
    #[error("the file has {bytes} bytes; at most {max} are allowed (strip debug information, or build with --release)", max = MAX_BYTES)]
    TooLarge {
        /// Its size.
        bytes: u64,
    },
    /// Not WebAssembly.
    #[error("this is not WebAssembly: it starts with {start}, not with `\\0asm`")]
    NotWasm {
        /// The first bytes, readable.
        start: String,
    },
    /// A core module instead of a component.
    #[error(
        "this is a core module, not a component; for Rust build with `cargo build --target wasm32-wasip2`, for other \
         languages run `{command}`"
    )]
    CoreModule {
        /// The command that makes it a component.
        command: &'static str,
    },
    /// WIT in binary form, without code.
    #[error("this is a WIT package in binary form: it describes interfaces and has no code to run")]
    WitPackage,
    /// It begins like a component but is cut off.
    #[error("the component is cut off after {bytes} bytes; copy it again")]
    Truncated {
        /// How much is there.
        bytes: usize,
    },
    /// It begins like a component but is none.
    #[error("the component is damaged: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
}

impl InspectError {
    /// Whether the same file may be fine later.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unreadable(_) | Self::Empty | Self::Truncated { .. })
    }
}

/// Why busway cannot run a component.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// An import that the host does not have.
    #[error("it imports `{import}`, which this host does not have{}", closest_text(.closest.as_ref()))]
    UnknownImport {
        /// The import.
        import: String,
        /// The most similar one that the host has.
        closest: Option<String>,
    },
    /// An import or export of an interface of ours in another version.
    #[error("it uses `{interface}`, but this host has {host}; build it against that version")]
    OtherVersion {
        /// The interface with its version.
        interface: String,
        /// What the host has.
        host: String,
    },
    /// A function whose type is not ours.
    #[error(
        "`{interface}` has another `{function}`: {difference}; it was built against another busway:bus; rebuild it with \
         this version's wit"
    )]
    WrongType {
        /// The interface.
        interface: String,
        /// The function.
        function: String,
        /// Where and how it differs.
        difference: String,
    },
    /// An interface that looks like a contract but cannot be one.
    #[error(transparent)]
    Contract(#[from] Refused),
    /// A function of a contract whose names make too long a topic.
    #[error("`{interface}` cannot be a contract: the topic of `{function}` is refused: {reason}; use shorter names")]
    Topic {
        /// The interface.
        interface: String,
        /// The function.
        function: String,
        /// What is wrong with the topic.
        reason: InvalidTopic,
    },
    /// Nothing that busway runs.
    #[error(
        "it exports nothing that busway runs: no contract (an interface whose functions are events), no \
         `busway:bus/handler` (handles events as bytes), no `wasi:cli/run` (a task), no \
         `wasi:http/incoming-handler` of WASI 0.2 (answers HTTP); it exports {}", exports_text(.exports)
    )]
    RunsNothing {
        /// What it exports instead.
        exports: Vec<String>,
    },
}

fn closest_text(closest: Option<&String>) -> String {
    closest.map_or_else(String::new, |closest| format!("; the closest that it has is `{closest}`"))
}

fn exports_text(exports: &[String]) -> String {
    match exports {
        [] => "nothing at all".into(),
        some => some.iter().map(|export| format!("`{export}`")).collect::<Vec<_>>().join(", "),
    }
}

/// An interface that a component imports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Its name with the version.
    pub interface: String,
    /// What it is for; none when the host does not know it.
    pub capability: Option<Capability>,
}

/// What a component is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inspection {
    /// Bytes of the file.
    pub bytes: usize,
    /// Core modules in it.
    pub core_modules: usize,
    /// The exported `busway:bus/handler`, with its version: it handles events.
    pub handler: Option<String>,
    /// The exported `wasi:cli/run`, with its version: it can run as a task.
    pub task: Option<String>,
    /// The exported `wasi:http/incoming-handler`, with its version: it can answer HTTP requests.
    pub http: Option<String>,
    /// The contracts that it produces and handles.
    pub contracts: Vec<Use>,
    /// What it imports, without contracts.
    pub imports: Vec<Need>,
    /// What it exports.
    pub exports: Vec<String>,
    /// Its world as WIT.
    pub wit: String,
    /// Why busway cannot run it; empty when it can.
    pub problems: Vec<Problem>,
}

impl Inspection {
    /// Whether it can publish.
    pub fn produces(&self) -> bool {
        self.needs(Capability::Publish) || self.produced().next().is_some()
    }

    /// The contracts that it produces.
    pub fn produced(&self) -> impl Iterator<Item = &Contract> {
        self.contracts_of(Direction::Produces)
    }

    /// The contracts that it handles, in an order that stays.
    pub fn handled(&self) -> impl Iterator<Item = &Contract> {
        self.contracts_of(Direction::Handles)
    }

    fn contracts_of(&self, direction: Direction) -> impl Iterator<Item = &Contract> {
        self.contracts.iter().filter(move |used| used.direction == direction).map(|used| &used.contract)
    }

    /// Whether it imports something of this kind.
    pub fn needs(&self, capability: Capability) -> bool {
        self.imports.iter().any(|need| need.capability == Some(capability))
    }

    /// Every kind of thing that it needs, once each.
    pub fn capabilities(&self) -> Vec<Capability> {
        let mut all: Vec<_> = self.imports.iter().filter_map(|need| need.capability).collect();
        all.sort_unstable();
        all.dedup();
        all
    }
}

impl fmt::Display for Inspection {
    /// What it is, in one line: `handler, task`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let handler = self.handler.is_some() || self.handled().next().is_some();
        let kinds = [("handler", handler), ("task", self.task.is_some()), ("answers HTTP", self.http.is_some())];
        let kinds: Vec<_> = kinds.into_iter().filter(|(_, found)| *found).map(|(kind, _)| kind).collect();
        f.write_str(&if kinds.is_empty() { "nothing that busway runs".into() } else { kinds.join(", ") })
    }
}

/// Reads a component file, but not one that is too large.
pub fn read(path: &Path) -> Result<Vec<u8>, InspectError> {
    let file = File::open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(std::io::Error::other("it is not a regular file").into());
    }
    let bytes = found.len();
    if bytes > MAX_BYTES {
        return Err(InspectError::TooLarge { bytes });
    }
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    // It may grow while it is read.
    file.take(MAX_BYTES + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_BYTES {
        return Err(InspectError::TooLarge { bytes: content.len() as u64 });
    }
    Ok(content)
}

/// Looks at a component.
pub fn inspect(bytes: &[u8]) -> Result<Inspection, InspectError> {
    if bytes.is_empty() {
        return Err(InspectError::Empty);
    }
    if bytes.len() as u64 > MAX_BYTES {
        return Err(InspectError::TooLarge { bytes: bytes.len() as u64 });
    }
    if !bytes.starts_with(b"\0asm") {
        return Err(if b"\0asm".starts_with(bytes) {
            InspectError::Truncated { bytes: bytes.len() }
        } else {
            InspectError::NotWasm { start: start_of(bytes) }
        });
    }
    if bytes.len() < 8 {
        return Err(InspectError::Truncated { bytes: bytes.len() });
    }
    if Parser::is_core_wasm(bytes) {
        return Err(InspectError::CoreModule { command: componentize(bytes) });
    }
    let core_modules = count_modules(bytes)?;
    let malformed = |reason: String| InspectError::Malformed { reason };
    let uses = catch_unwind(|| busway_contract::component::read(bytes))
        .map_err(|_| malformed("its types cannot be read".into()))?
        .map_err(|error| malformed(error.to_string()))?;
    // The decoder is made for the output of tools, not for what strangers send.
    let decoded = catch_unwind(|| wit_component::decode(bytes))
        .map_err(|_| malformed("its types cannot be decoded".into()))?
        .map_err(|error| malformed(format!("{error:#}")))?;
    match decoded {
        DecodedWasm::WitPackage(..) => Err(InspectError::WitPackage),
        DecodedWasm::Component(resolve, world) => Ok(look(&resolve, world, uses, bytes.len(), core_modules)),
    }
}

fn look(resolve: &Resolve, world: WorldId, uses: Uses, bytes: usize, core_modules: usize) -> Inspection {
    let world = &resolve.worlds[world];
    let name = |key: &WorldKey| resolve.name_world_key(key);
    let exports: Vec<_> = world.exports.keys().map(name).collect();
    let mut problems = Vec::new();
    let mut imports = Vec::new();
    for (key, item) in &world.imports {
        if matches!(item, WorldItem::Type { .. }) || is_types_only(resolve, item) {
            continue;
        }
        let interface = name(key);
        if uses.names(Direction::Produces, &interface) {
            continue;
        }
        match known::capability(&interface) {
            Ok(capability) => {
                if let WorldItem::Interface { id, .. } = item {
                    problems.extend(compare::import(resolve, *id, &interface));
                }
                imports.push(Need { interface, capability: Some(capability) });
            }
            Err(problem) => {
                problems.push(problem);
                imports.push(Need { interface, capability: None });
            }
        }
    }
    let export = |wanted: &str| exports.iter().find(|export| known::is(export, wanted)).cloned();
    let (handler, task, http) =
        (export("busway:bus/handler@0.1"), export("wasi:cli/run@0.2"), export("wasi:http/incoming-handler@0.2"));
    for (key, item) in &world.exports {
        let interface = name(key);
        if handler.as_ref() == Some(&interface) {
            if let WorldItem::Interface { id, .. } = item {
                problems.extend(compare::handler(resolve, *id, &interface));
            }
        } else if interface.starts_with("busway:bus/handler") {
            problems.push(Problem::OtherVersion { interface, host: "busway:bus/handler@0.1".into() });
        }
    }
    let handles = uses.uses.iter().any(|used| used.direction == Direction::Handles);
    let refused = !uses.refused.is_empty();
    problems.extend(uses.uses.iter().flat_map(|used| topics(&used.contract)));
    problems.extend(uses.refused.into_iter().map(Problem::Contract));
    let has_other_version = problems.iter().any(|problem| matches!(problem, Problem::OtherVersion { .. }));
    let runs = handles || handler.is_some() || task.is_some() || http.is_some();
    if !runs && !has_other_version && !refused {
        problems.push(Problem::RunsNothing { exports: exports.clone() });
    }
    let wit = print(resolve, world.package);
    let contracts = uses.uses;
    Inspection { bytes, core_modules, handler, task, http, contracts, imports, exports, wit, problems }
}

/// The functions of a contract whose topics cannot be.
fn topics(contract: &Contract) -> Vec<Problem> {
    let refused = |function: &Function| {
        let (interface, function) = (contract.id.to_string(), function.name.to_string());
        contract.id.topic(&function).err().map(|reason| Problem::Topic { interface, function, reason })
    };
    contract.functions.iter().filter_map(refused).collect()
}

/// Whether an interface offers nothing that a host would have to provide.
fn is_types_only(resolve: &Resolve, item: &WorldItem) -> bool {
    let WorldItem::Interface { id, .. } = item else { return false };
    let interface = &resolve.interfaces[*id];
    let has_resource = interface.types.values().any(|id| matches!(resolve.types[*id].kind, TypeDefKind::Resource));
    interface.functions.is_empty() && !has_resource
}

fn print(resolve: &Resolve, package: Option<wit_parser::PackageId>) -> String {
    let Some(package) = package else { return String::new() };
    let mut printer = WitPrinter::<OutputToString>::default();
    match printer.print(resolve, package, &[]) {
        Ok(()) => printer.output.to_string(),
        Err(error) => format!("// its WIT cannot be printed: {error:#}"),
    }
}

/// Counts core modules, and finds out whether the bytes end early.
fn count_modules(bytes: &[u8]) -> Result<usize, InspectError> {
    let mut modules = 0;
    for payload in Parser::new(0).parse_all(bytes) {
        match payload {
            Ok(Payload::ModuleSection { .. }) => modules += 1,
            Ok(_) => {}
            Err(error) if error.offset() >= bytes.len() || error.message().contains("unexpected end") => {
                return Err(InspectError::Truncated { bytes: bytes.len() });
            }
            Err(error) => return Err(InspectError::Malformed { reason: error.to_string() }),
        }
    }
    Ok(modules)
}

/// The command that makes a core module a component; one that uses WASI 0.1 needs the adapter.
fn componentize(bytes: &[u8]) -> &'static str {
    const OLD: &[u8] = b"wasi_snapshot_preview1";
    if bytes.windows(OLD.len()).any(|window| window == OLD) {
        "wasm-tools component new IN.wasm --adapt wasi_snapshot_preview1.reactor.wasm -o OUT.wasm"
    } else {
        "wasm-tools component new IN.wasm -o OUT.wasm"
    }
}

fn start_of(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(12)];
    match std::str::from_utf8(start) {
        Ok(text) if text.chars().all(|c| !c.is_control() || c.is_whitespace()) => format!("{text:?}"),
        _ => start.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    }
}
