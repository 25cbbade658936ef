//! Documents about contracts, for people and for tools.
//!
//! Role: WIT, Markdown, JSON Schema (2020-12), `AsyncAPI` (3.0) and `OpenAPI` (3.1) from the same [`Contract`]s, with the doc
//! comments that are known. All of them tell the JSON that events are made of, on the topics that they have. Documents are
//! deterministic: the same contracts give the same text.

mod asyncapi;
mod example;
mod json_schema;
mod markdown;
mod names;
pub mod openapi;
mod schema;
#[cfg(test)]
mod tests;
mod wit;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use busway_types::{InvalidTopic, Topic};

use crate::model::{Contract, Direction, Function};
use crate::source::{Found, Source, merge};

pub use example::example;
pub use wit::name as wit_name;

/// Kinds of documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// WIT, as it would be written.
    Wit,
    /// Markdown with tables and examples.
    Markdown,
    /// JSON Schema 2020-12: a definition for the data of each topic.
    JsonSchema,
    /// `AsyncAPI` 3.0: a channel for each topic.
    AsyncApi,
    /// `OpenAPI` 3.1: a path for each event, as a gateway takes it.
    OpenApi,
}

impl Format {
    /// All of them, by the names that the command line has for them.
    pub const ALL: [(&'static str, Self); 5] = [
        ("wit", Self::Wit),
        ("markdown", Self::Markdown),
        ("json-schema", Self::JsonSchema),
        ("asyncapi", Self::AsyncApi),
        ("openapi", Self::OpenApi),
    ];
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, format)| format == self).map_or("", |(name, _)| name);
        f.pad(name)
    }
}

/// A word that is no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no format `{0}`; the formats are wit, markdown, json-schema, asyncapi and openapi")]
pub struct UnknownFormat(pub String);

impl FromStr for Format {
    type Err = UnknownFormat;

    fn from_str(text: &str) -> Result<Self, UnknownFormat> {
        let found = Self::ALL.iter().find(|(name, _)| *name == text);
        found.map(|(_, format)| *format).ok_or_else(|| UnknownFormat(text.to_owned()))
    }
}

/// Contracts, and who does what with them: what a document is made from.
#[derive(Clone, Debug)]
pub struct Api {
    title: String,
    uses: Vec<(Option<Arc<str>>, Found)>,
}

impl Api {
    /// Nothing yet.
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), uses: Vec::new() }
    }

    /// Adds what a file says; with the name of the service, if it is one.
    pub fn add(&mut self, service: Option<&str>, source: Source) {
        let service: Option<Arc<str>> = service.map(Arc::from);
        self.uses.extend(source.found.into_iter().map(|found| (service.clone(), found)));
    }

    /// What the document is called.
    pub fn title(&self) -> &str {
        &self.title
    }

    /// The contracts, each once.
    pub fn contracts(&self) -> Vec<Contract> {
        merge(self.uses.iter().map(|(_, found)| &found.contract))
    }

    /// The document.
    ///
    /// # Errors
    /// If the names of a contract are too long for a topic.
    pub fn document(&self, format: Format) -> Result<String, InvalidTopic> {
        let contracts = self.contracts();
        let mut entries = Vec::new();
        for contract in &contracts {
            for function in &contract.functions {
                entries.push(Entry {
                    topic: contract.id.topic(&function.name)?,
                    contract,
                    function,
                    producers: self.services(contract, function, Direction::Produces),
                    handlers: self.services(contract, function, Direction::Handles),
                });
            }
        }
        let document = Document { title: &self.title, contracts: &contracts, entries };
        Ok(match format {
            Format::Wit => wit::text(&contracts),
            Format::Markdown => markdown::text(&document),
            Format::JsonSchema => pretty(&json_schema::value(&document)),
            Format::AsyncApi => pretty(&asyncapi::value(&document)),
            Format::OpenApi => pretty(&openapi::value(&document)),
        })
    }

    /// Who does this with a function. One without a name counts as a nameless service.
    fn services(&self, contract: &Contract, function: &Function, direction: Direction) -> Vec<Arc<str>> {
        let uses = self.uses.iter().filter(|(_, found)| {
            found.direction == Some(direction)
                && found.contract.id.meets(&contract.id)
                && found.contract.function(&function.name).is_some()
        });
        uses.map(|(service, _)| service.clone().unwrap_or_else(|| "".into())).collect()
    }
}

/// What documents are written from.
struct Document<'d> {
    title: &'d str,
    contracts: &'d [Contract],
    entries: Vec<Entry<'d>>,
}

/// A function with its topic.
struct Entry<'d> {
    topic: Topic,
    contract: &'d Contract,
    function: &'d Function,
    producers: Vec<Arc<str>>,
    handlers: Vec<Arc<str>>,
}

impl Document<'_> {
    /// The version that all contracts have, or none.
    fn version(&self) -> String {
        let mut versions: Vec<_> = self.contracts.iter().map(|contract| contract.id.version.as_ref()).collect();
        versions.dedup();
        match versions[..] {
            [Some(version)] => version.to_string(),
            _ => "unversioned".into(),
        }
    }
}

impl Entry<'_> {
    /// `order-events.placed`.
    fn title(&self) -> String {
        format!("{}.{}", self.contract.id.interface, self.function.name)
    }

    /// The first line of what is said about it, if anything is.
    fn summary(&self) -> Option<&str> {
        self.function.docs.as_deref().and_then(|docs| docs.lines().next())
    }

    /// The name of the parameter that is the key.
    fn key(&self) -> Option<&str> {
        self.function.key().map(|place| &*self.function.params[place].name)
    }
}

fn pretty(value: &serde_json::Value) -> String {
    // `{:#}` is the same text as `to_string_pretty`, and cannot fail.
    format!("{value:#}\n")
}
