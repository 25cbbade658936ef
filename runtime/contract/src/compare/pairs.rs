//! Every producer beside every handler of a contract, in a whole app.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::{Comparison, Verdict, compare};
use crate::id::ContractId;
use crate::model::{Direction, Use};

/// What the services of an app mean to each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pairings {
    /// Each producer of a contract with each handler of it, producers in the order given.
    pub pairs: Vec<Pair>,
    /// Events that no service handles, and handlers that no service calls. Others may: a publisher from outside, a service
    /// that is added later.
    pub alone: Vec<Alone>,
    /// Contracts without a version, whose topics cannot tell what breaks from what does not.
    pub unversioned: Vec<Unversioned>,
}

/// A contract whose package has no version.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Unversioned {
    /// The service that uses it.
    pub service: Arc<str>,
    /// The contract.
    #[serde(serialize_with = "super::as_text")]
    pub contract: ContractId,
}

/// A producer and a handler of one contract.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    /// The service that produces.
    pub producer: Arc<str>,
    /// The service that handles; it may be the same.
    pub handler: Arc<str>,
    /// Their versions of the contract, compared.
    pub comparison: Comparison,
}

/// A use of a contract, or of some of its functions, without a counterpart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Alone {
    /// The service.
    pub service: Arc<str>,
    /// What it does with the contract.
    pub direction: Direction,
    /// The contract.
    #[serde(serialize_with = "super::as_text")]
    pub contract: ContractId,
    /// The functions without a counterpart; none if that is all of them.
    pub functions: Option<Vec<Arc<str>>>,
    /// Services on the other side that have the contract in another version, with what they name it.
    pub elsewhere: Vec<(Arc<str>, String)>,
}

/// Compares each producer of a contract with each handler of it, and finds what has no counterpart. Each use comes with the
/// name of its service.
pub fn pairings<'u>(uses: impl IntoIterator<Item = (&'u str, &'u Use)>) -> Pairings {
    let uses: Vec<(Arc<str>, &Use)> = uses.into_iter().map(|(service, used)| (service.into(), used)).collect();
    let mut found = Pairings::default();
    for (service, used) in &uses {
        let others = uses.iter().filter(|(_, other)| other.direction != used.direction);
        let (counterparts, strangers): (Vec<_>, Vec<_>) =
            others.partition(|(_, other)| used.contract.id.meets(&other.contract.id));
        let unversioned = Unversioned { service: service.clone(), contract: used.contract.id.clone() };
        if used.contract.id.version.is_none() && !found.unversioned.contains(&unversioned) {
            found.unversioned.push(unversioned);
        }
        if used.direction == Direction::Produces {
            found.pairs.extend(counterparts.iter().map(|(handler, other)| Pair {
                producer: service.clone(),
                handler: handler.clone(),
                comparison: compare(&used.contract, &other.contract),
            }));
        }
        let has = |name: &str| counterparts.iter().any(|(_, other)| other.contract.function(name).is_some());
        let names = used.contract.functions.iter().map(|function| function.name.clone());
        let without: Vec<_> = names.filter(|name| !has(name)).collect();
        if without.is_empty() {
            continue;
        }
        let all = without.len() == used.contract.functions.len();
        let elsewhere = strangers.iter().filter(|(_, other)| used.contract.id.is_named_like(&other.contract.id));
        found.alone.push(Alone {
            service: service.clone(),
            direction: used.direction,
            contract: used.contract.id.clone(),
            functions: (!all).then_some(without),
            elsewhere: elsewhere.map(|(service, other)| (service.clone(), other.contract.id.to_string())).collect(),
        });
    }
    found
}

impl Pairings {
    /// How well everything fits: the worst of the pairs.
    pub fn verdict(&self) -> Verdict {
        self.pairs.iter().map(|pair| pair.comparison.verdict).max().unwrap_or(Verdict::Same)
    }

    /// The pairs that do not understand each other.
    pub fn incompatible(&self) -> impl Iterator<Item = &Pair> {
        self.pairs.iter().filter(|pair| pair.comparison.verdict == Verdict::Incompatible)
    }

    /// The services that are not started, each with the pairs that keep it out: of two that do not understand each other it
    /// is the handler. A handler whose producer is kept out itself may run; in a circle the last one by name is kept out.
    pub fn kept_out(&self) -> Vec<(Arc<str>, Vec<&Pair>)> {
        let mut open: Vec<&Pair> = self.incompatible().collect();
        let mut out = Vec::new();
        loop {
            let handlers: BTreeSet<Arc<str>> = open.iter().map(|pair| pair.handler.clone()).collect();
            let is_sure = |handler: &&Arc<str>| {
                let mut mine = open.iter().filter(|pair| pair.handler == **handler);
                mine.any(|pair| pair.producer == **handler || !handlers.contains(&pair.producer))
            };
            let Some(chosen) = handlers.iter().find(is_sure).or(handlers.last()).cloned() else { return out };
            let (mine, rest): (Vec<_>, Vec<_>) = open.into_iter().partition(|pair| pair.handler == chosen);
            open = rest.into_iter().filter(|pair| pair.producer != chosen).collect();
            out.push((chosen, mine));
        }
    }
}

impl Pair {
    /// Who they are and how well they fit, in one line; the diff is what this displays as.
    pub fn in_a_line(&self) -> String {
        let Self { producer, handler, comparison } = self;
        let differences: usize = comparison.functions.iter().map(|function| function.differences.len()).sum();
        let differ = match (comparison.verdict, differences) {
            (Verdict::Same, _) => String::new(),
            (_, 0) => format!(", not in {handler}: {}", comparison.only_producer.join(", ")),
            (_, 1) => ", 1 difference".to_owned(),
            (_, many) => format!(", {many} differences"),
        };
        format!("{}{differ}", comparison.diff(producer, handler).heading())
    }
}

/// The diff, with the names of the services.
impl fmt::Display for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.comparison.diff(&self.producer, &self.handler).fmt(f)
    }
}

/// A warning in one line.
impl fmt::Display for Alone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, direction, contract, functions, elsewhere } = self;
        let (verb, nobody) = match direction {
            Direction::Produces => ("produces", "no service handles that"),
            Direction::Handles => ("handles", "no service produces that"),
        };
        match functions {
            None => write!(f, "{service} {verb} {contract}, and {nobody}")?,
            Some(functions) => write!(f, "{service} {verb} {} of {contract}, and {nobody}", functions.join(", "))?,
        }
        if elsewhere.is_empty() {
            return Ok(());
        }
        let others = elsewhere.iter().map(|(service, name)| format!("{service} ({name})"));
        let verb = if *direction == Direction::Produces { "handled" } else { "produced" };
        write!(f, "; another version is {verb} by {}", others.collect::<Vec<_>>().join(", "))
    }
}

/// A warning in one line.
impl fmt::Display for Unversioned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { service, contract } = self;
        let ContractId { namespace, package, .. } = contract;
        write!(
            f,
            "the contract {contract} of {service} has no version, so that nothing tells old events from new ones once it \
             changes; write `package {namespace}:{package}@1.0.0;`"
        )
    }
}

/// Each pair's diff, then a warning for each use without a counterpart.
impl fmt::Display for Pairings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = self.pairs.iter().map(ToString::to_string);
        let alone = self.alone.iter().map(|alone| format!("warning: {alone}"));
        let unversioned = self.unversioned.iter().map(|unversioned| format!("warning: {unversioned}"));
        f.write_str(&pairs.chain(alone).chain(unversioned).collect::<Vec<_>>().join("\n"))
    }
}
