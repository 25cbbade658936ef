//! Whether services understand each other on the contracts that they share.
//!
//! Role: compares what is about to start with what runs, decides who is kept out, and says how the pairs fit: one line for
//! each, since `busway check` shows the differences.
//!
//! Invariant: at a start it is the handler of two that is kept out, whatever their names are; later it is the newcomer.

use std::collections::BTreeMap;
use std::sync::Arc;

use busway_contract::compare::{Pair, Verdict, pairings};
use busway_contract::{Keys, Use};
use busway_types::ServiceName;

use super::catalog::Service;
use super::prepare::Prepared;
use crate::error::StartError;

/// What a running service does with contracts, with its name.
fn used_by(service: &Arc<Service>) -> (String, Vec<Use>) {
    let used = service.with(|now| now.version.as_ref().map(|version| version.contracts.clone()));
    (service.config.name.to_string(), used.unwrap_or_default())
}

fn differences(pairs: &[&Pair]) -> String {
    pairs.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

/// Who of those that could start together is kept out, with the differences.
pub(super) fn kept_out(ready: &[(ServiceName, Prepared)]) -> BTreeMap<ServiceName, String> {
    let uses = ready.iter().flat_map(|(name, prepared)| prepared.contracts().iter().map(|used| (name.as_str(), used)));
    let found = pairings(uses);
    let out: BTreeMap<Arc<str>, String> =
        found.kept_out().into_iter().map(|(name, pairs)| (name, differences(&pairs))).collect();
    let of = |name: &ServiceName| Some((name.clone(), out.get(name.as_str())?.clone()));
    ready.iter().filter_map(|(name, _)| of(name)).collect()
}

/// Whether a newcomer, or a new version, understands those that run. Says how they fit when it does.
pub(super) fn fits(prepared: &Prepared, running: &[Arc<Service>]) -> Result<(), StartError> {
    let name = prepared.config.name.as_str();
    if prepared.contracts().is_empty() {
        return Ok(());
    }
    let others: Vec<(String, Vec<Use>)> =
        running.iter().filter(|service| service.config.name != prepared.config.name).map(used_by).collect();
    let all = others.iter().flat_map(|(name, uses)| uses.iter().map(|used| (name.as_str(), used)));
    let found = pairings(all.chain(prepared.contracts().iter().map(|used| (name, used))));
    let mine = |pair: &Pair| *pair.producer == *name || *pair.handler == *name;
    let broken: Vec<&Pair> = found.incompatible().filter(|pair| mine(pair)).collect();
    if !broken.is_empty() {
        return Err(StartError::Incompatible(differences(&broken)));
    }
    found.pairs.iter().filter(|pair| mine(pair)).for_each(tell_pair);
    Ok(())
}

/// Whether newcomers understand each other and those that run beside them: their own old versions do not count.
pub(super) fn fit_together(newcomers: &[&Prepared], running: &[Arc<Service>]) -> bool {
    let is_new = |name: &ServiceName| newcomers.iter().any(|prepared| prepared.config.name == *name);
    let others: Vec<(String, Vec<Use>)> =
        running.iter().filter(|service| !is_new(&service.config.name)).map(used_by).collect();
    let old = others.iter().flat_map(|(name, uses)| uses.iter().map(|used| (name.as_str(), used)));
    let new = newcomers.iter().flat_map(|p| p.contracts().iter().map(|used| (p.config.name.as_str(), used)));
    let found = pairings(old.chain(new));
    let new = |name: &str| newcomers.iter().any(|prepared| prepared.config.name.as_str() == name);
    !found.incompatible().any(|pair| new(&pair.producer) || new(&pair.handler))
}

/// Says how those that run fit, and which contracts have one side only. Once, at the start: whoever adds or swaps a service
/// looks at what it does.
pub(super) fn tell(running: &[Arc<Service>], keys: &Keys) {
    let uses: Vec<(String, Vec<Use>)> = running.iter().map(used_by).collect();
    for unused in keys.unused(uses.iter().flat_map(|(_, uses)| uses)) {
        tracing::warn!("{unused}");
    }
    let found = pairings(uses.iter().flat_map(|(name, uses)| uses.iter().map(|used| (name.as_str(), used))));
    found.pairs.iter().for_each(tell_pair);
    for alone in found.alone {
        tracing::warn!("{alone}");
    }
    for unversioned in found.unversioned {
        tracing::warn!("{unversioned}");
    }
}

fn tell_pair(pair: &Pair) {
    if pair.comparison.verdict == Verdict::Same {
        tracing::debug!("{}", pair.in_a_line());
    } else {
        tracing::info!("{}; `busway check` shows more", pair.in_a_line());
        tracing::debug!("{pair}");
    }
}
