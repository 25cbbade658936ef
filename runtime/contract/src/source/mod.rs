//! Contracts out of files: WIT as text or in binary form, and components with what can be had of names and docs.
//!
//! Role: one way to read whatever a person may name. Of a component, functions and types are those of its own type
//! ([`crate::component`]); names of types come from its decoded WIT, doc comments from the section that it may carry
//! ([`SECTION`]), both only where shapes agree.

mod overlay;
mod section;
#[cfg(test)]
mod tests;
mod wit;

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use wit_component::DecodedWasm;
use wit_parser::{PackageId, Resolve};

use crate::compare::{Verdict, compare};
use crate::component;
use crate::model::{Contract, Direction};

pub use section::SECTION;

/// What a file says about contracts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// The contracts.
    pub found: Vec<Found>,
    /// Interfaces that look like contracts but cannot be carried, and docs that cannot be read: sentences for people.
    pub problems: Vec<String>,
}

/// A contract in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// What is done with it; none where it is only declared.
    pub direction: Option<Direction>,
    /// The contract.
    pub contract: Contract,
}

/// Why contracts cannot be read or embedded.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The file cannot be read.
    #[error("{path} cannot be read: {error}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is neither WIT nor a component.
    #[error("{path} is neither WIT (a .wit file, or a folder of them) nor a component; {hint}")]
    Other {
        /// The file.
        path: PathBuf,
        /// What to do.
        hint: &'static str,
    },
    /// The WIT is wrong.
    #[error("{message}{hint}")]
    Wit {
        /// What is wrong, with file, line and column.
        message: String,
        /// What to do, where that is known.
        hint: &'static str,
    },
    /// The component is not valid.
    #[error("{path}: {reason}")]
    Component {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The WIT does not describe the component.
    #[error("{0}")]
    Mismatch(String),
}

/// Reads a `.wit` file, a folder of them (with `deps/`), a WIT package in binary form, or a component.
pub fn read(path: &Path) -> Result<Source, SourceError> {
    if !path.is_dir() {
        let bytes = load(path)?;
        if bytes.starts_with(b"\0asm") {
            return from_wasm(path, &bytes);
        }
    }
    let (resolve, main) = parse(path)?;
    Ok(wit::package(&resolve, main))
}

/// Reads a component whose bytes are at hand.
pub fn from_component(bytes: &[u8]) -> Result<Source, component::Invalid> {
    let uses = component::read(bytes)?;
    let mut source = Source {
        found: uses
            .uses
            .into_iter()
            .map(|one| Found { direction: Some(one.direction), contract: one.contract })
            .collect(),
        problems: uses.refused.iter().map(ToString::to_string).collect(),
    };
    for bytes in section::find(bytes) {
        match embedded(bytes) {
            Ok(contracts) => source.describe(&contracts),
            Err(problem) => source.problems.push(format!("the docs that it carries cannot be read: {problem}")),
        }
    }
    // Without an answer types stay without names.
    if let Ok(DecodedWasm::Component(resolve, _)) = decode(bytes) {
        source.describe(&all(&resolve));
    }
    Ok(source)
}

/// Reads WIT whose text is at hand: all contracts of all its packages. Several files are told apart as in [`SECTION`].
pub fn from_text(text: &str) -> Result<Source, SourceError> {
    let contracts = texts(text).map_err(|message| SourceError::Wit { message, hint: "" })?;
    let found = contracts.into_iter().map(|contract| Found { direction: None, contract });
    Ok(Source { found: found.collect(), problems: Vec::new() })
}

/// The component with the WIT at a path inside (see [`SECTION`]); what it carried of this kind before is replaced.
///
/// # Errors
/// Also if the WIT has none of the component's contracts, or has one of them with other types.
pub fn embed(component: &Path, wit: &Path) -> Result<Vec<u8>, SourceError> {
    let bytes = load(component)?;
    let invalid = |reason: String| SourceError::Component { path: component.to_owned(), reason };
    let uses = component::read(&bytes).map_err(|error| invalid(error.to_string()))?.uses;
    let (resolve, _) = parse(wit)?;
    let mut packages = Vec::new();
    for (interface, of) in &resolve.interfaces {
        let Ok(Some(description)) = wit::contract(&resolve, interface) else { continue };
        let used: Vec<_> = uses.iter().filter(|used| used.contract.id.meets(&description.id)).collect();
        for used in &used {
            let comparison = compare(&used.contract, &description);
            if comparison.verdict != Verdict::Same || !comparison.only_producer.is_empty() {
                let (a, b) = (component.display().to_string(), wit.display().to_string());
                let diff = comparison.diff(&a, &b).to_string();
                return Err(SourceError::Mismatch(format!("{b} is not the WIT that {a} was built from\n{diff}")));
            }
        }
        packages.extend(of.package.filter(|package| !used.is_empty() && !packages.contains(package)));
    }
    if packages.is_empty() {
        let names: Vec<_> = uses.iter().map(|used| used.contract.id.to_string()).collect();
        let has = if names.is_empty() { "no contract at all".to_owned() } else { names.join(", ") };
        let (a, b) = (component.display(), wit.display());
        return Err(SourceError::Mismatch(format!("{b} describes no contract of {a}, which has {has}")));
    }
    // A package in binary form has the docs of this one package only, though the types of all that it uses.
    let encode = |package: &PackageId| wit_component::encode(&resolve, *package, false);
    let contents: Result<Vec<_>, _> = packages.iter().map(encode).collect();
    let contents =
        contents.map_err(|error| SourceError::Wit { message: format!("{}: {error:#}", wit.display()), hint: "" })?;
    section::put(&bytes, &contents).ok_or_else(|| invalid("it is not made of sections".into()))
}

impl Source {
    /// Takes over what contracts of the same names say about names of types and docs.
    fn describe(&mut self, contracts: &[Contract]) {
        for found in &mut self.found {
            let same = contracts.iter().find(|contract| contract.id == found.contract.id);
            let near = || contracts.iter().find(|contract| contract.id.meets(&found.contract.id));
            if let Some(from) = same.or_else(near) {
                overlay::contract(&mut found.contract, from);
            }
        }
    }

    /// Each contract once, however it is used: of those that meet the newest version, with the functions that only others
    /// know, and with what others know of names and docs.
    pub fn contracts(&self) -> Vec<Contract> {
        merge(self.found.iter().map(|found| &found.contract))
    }
}

/// Contracts that meet as one: the newest version, with the functions that only others know, and with what others know of
/// names and docs.
pub fn merge<'c>(contracts: impl IntoIterator<Item = &'c Contract>) -> Vec<Contract> {
    let mut merged: Vec<Contract> = Vec::new();
    for contract in contracts {
        let Some(known) = merged.iter_mut().find(|known| known.id.meets(&contract.id)) else {
            merged.push(contract.clone());
            continue;
        };
        let older = if known.id < contract.id { std::mem::replace(known, contract.clone()) } else { contract.clone() };
        overlay::contract(known, &older);
        let more: Vec<_> = older.functions.into_iter().filter(|older| known.function(&older.name).is_none()).collect();
        known.functions.extend(more);
    }
    merged
}

fn load(path: &Path) -> Result<Vec<u8>, SourceError> {
    fs::read(path).map_err(|error| SourceError::Read { path: path.to_owned(), error })
}

fn from_wasm(path: &Path, bytes: &[u8]) -> Result<Source, SourceError> {
    let invalid = |reason: String| SourceError::Component { path: path.to_owned(), reason };
    if wasmparser::Parser::is_core_wasm(bytes) {
        let hint = "a core module becomes a component with `wasm-tools component new`";
        return Err(SourceError::Other { path: path.to_owned(), hint });
    }
    // A package in binary form is a component too, one that only has types.
    match decode(bytes) {
        Ok(DecodedWasm::WitPackage(resolve, package)) => Ok(wit::package(&resolve, package)),
        _ => from_component(bytes).map_err(|error| invalid(error.to_string())),
    }
}

/// The decoder is made for the output of tools, not for what strangers send: it may panic.
fn decode(bytes: &[u8]) -> Result<DecodedWasm, String> {
    match catch_unwind(|| wit_component::decode(bytes)) {
        Ok(Ok(decoded)) => Ok(decoded),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("its types cannot be decoded".into()),
    }
}

/// WIT from files.
fn parse(path: &Path) -> Result<(Resolve, PackageId), SourceError> {
    if path.is_dir() {
        let entries = fs::read_dir(path).map_err(|error| SourceError::Read { path: path.to_owned(), error })?;
        let has_wit = entries.flatten().any(|entry| entry.path().extension().is_some_and(|found| found == "wit"));
        if !has_wit {
            let hint = "no .wit file is in this folder";
            return Err(SourceError::Other { path: path.to_owned(), hint });
        }
    } else if !load(path)?.starts_with(b"\0asm") && path.extension().is_none_or(|found| found != "wit") {
        let hint = "WIT is in files that end in .wit";
        return Err(SourceError::Other { path: path.to_owned(), hint });
    }
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    match resolve.push_path(path) {
        Ok((package, _)) => Ok((resolve, package)),
        Err(error) => Err(wrong(resolve.render_error(&error))),
    }
}

/// A message of the parser, with what to do.
fn wrong(message: String) -> SourceError {
    let hint = if message.contains("not found") || message.contains("does not exist") || message.contains("not defined")
    {
        "\nname the folder instead of one of its files, and put packages that it uses into its folder `deps`"
    } else {
        ""
    };
    SourceError::Wit { message, hint }
}

/// What a section describes.
fn embedded(bytes: &[u8]) -> Result<Vec<Contract>, String> {
    if bytes.starts_with(b"\0asm") {
        return decode(bytes).map(|decoded| all(decoded.resolve()));
    }
    texts(std::str::from_utf8(bytes).map_err(|_| "it is neither a WIT package nor text".to_owned())?)
}

/// The contracts of files in a text.
fn texts(text: &str) -> Result<Vec<Contract>, String> {
    let files = section::files(text);
    if text.len() > MOST_TEXT || files.len() > MOST_FILES {
        return Err(format!("it has more than {MOST_FILES} files or {MOST_TEXT} bytes"));
    }
    let mut resolve = Resolve { all_features: true, ..Resolve::default() };
    // The parser is made for the files of whoever runs it.
    let parsed = catch_unwind(AssertUnwindSafe(|| push_texts(&mut resolve, &files)));
    parsed.map_err(|_| "it cannot be parsed".to_owned())??;
    Ok(all(&resolve))
}

/// Bytes of WIT that a component may carry as text.
const MOST_TEXT: usize = 1 << 20;

/// Files of WIT that a component may carry as text.
const MOST_FILES: usize = 100;

/// Packages may use each other in any order: those that cannot be resolved yet wait for the others.
fn push_texts(resolve: &mut Resolve, files: &[(String, &str)]) -> Result<(), String> {
    let mut waiting: Vec<&(String, &str)> = files.iter().collect();
    loop {
        let mut failed = Vec::new();
        let mut problem = None;
        for file in &waiting {
            let before = resolve.clone();
            if let Err(error) = resolve.push_source(&file.0, file.1) {
                problem = Some(resolve.render_error(&error));
                *resolve = before;
                failed.push(*file);
            }
        }
        match problem {
            None => return Ok(()),
            Some(problem) if failed.len() == waiting.len() => return Err(problem),
            Some(_) => waiting = failed,
        }
    }
}

/// Every contract of every package.
fn all(resolve: &Resolve) -> Vec<Contract> {
    resolve.interfaces.iter().filter_map(|(id, _)| wit::contract(resolve, id).ok().flatten()).collect()
}
