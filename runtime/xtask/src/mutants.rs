//! `cargo xtask mutants`: every fault that is built on purpose is caught, and a table says by what.
//!
//! Role: build the simulation and the unit tests with the feature `mutants`, choose one fault after the other, and run the
//! proofs until one of them fails. A fault that no proof notices fails the command. Without a fault everything has to
//! pass, or the table would mean nothing.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::process::{self, say};

/// Seeds that the simulation may need to notice a fault.
const SEEDS: &str = "400";

/// Builds the faults in.
const FAULTY: [&str; 2] = ["--features", "busway-sim/mutants"];

/// What is to notice a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// The simulation of all stages.
    Sim,
    /// The tests whose names contain this: of libraries.
    Unit(&'static str),
    /// The same of an integration test.
    Integration(&'static str, &'static str),
}

/// A fault, what it breaks, and the proof that has to notice it.
struct Mutant {
    name: &'static str,
    breaks: &'static str,
    proof: Proof,
}

const fn mutant(name: &'static str, breaks: &'static str, proof: Proof) -> Mutant {
    Mutant { name, breaks, proof }
}

const ALL: [Mutant; 26] = [
    mutant("acknowledge-before-sync", "a publisher is told before its event is synced", Proof::Sim),
    mutant("failed-sync-ignored", "a failed sync counts as done", Proof::Sim),
    mutant("folder-not-synced", "a segment's name may be lost with the power", Proof::Sim),
    mutant("unproven-tail-not-rewritten", "what only the cache has is served after a start", Proof::Sim),
    mutant("stale-checkpoint-accepted", "transactions after a checkpoint are left out at a start", Proof::Sim),
    mutant("segment-released-early", "segments go that a subscription still needs", Proof::Sim),
    mutant("timer-fires-twice", "a delayed event is appended again after a start", Proof::Sim),
    mutant("conflict-ignored", "a delivery that read something old takes effect", Proof::Sim),
    mutant("derived-id-without-index", "two events published by one delivery share an id", Proof::Sim),
    mutant("key-order-dropped-on-failure", "a failed event does not hold back its key", Proof::Sim),
    mutant("cursor-passes-what-is-open", "a cursor passes events in flight", Proof::Sim),
    mutant("attempt-counted-twice", "one failed attempt counts as two", Proof::Sim),
    mutant("fetched-before-kept", "a memory bus is asked for a parked event before it keeps it", Proof::Sim),
    mutant("dedup-window-lost", "a checkpoint forgets which ids were published", Proof::Sim),
    mutant("generation-not-durable", "a checkpoint forgets that a subscription was moved", Proof::Sim),
    mutant("move-answered-before-sync", "an operator is told of a move before it is synced", Proof::Sim),
    mutant("moved-while-in-flight", "a move does not wait for what is in flight", Proof::Sim),
    mutant("parked-overtakes-replay", "a parked event overtakes what is delivered again before it", Proof::Sim),
    mutant("replay-doubles-parked", "what is parked is delivered a second time by a replay", Proof::Sim),
    mutant("expired-event-delivered", "an event that has expired goes to a handler", Proof::Sim),
    mutant("interval-not-kept", "a disk that is synced by the clock is synced too late", Proof::Sim),
    mutant("torn-record-accepted", "a record's checksum is not looked at", Proof::Unit("damage")),
    mutant("damage-cut-off", "damage of what was synced is cut off silently", Proof::Unit("damage")),
    mutant(
        "released-before-safe",
        "segments go before what made them needless is safe",
        Proof::Unit("released_before"),
    ),
    mutant("stale-epoch-accepted", "a former owner may settle", Proof::Unit("memory_keeps")),
    mutant(
        "outbox-released-on-error",
        "what a failed delivery published becomes visible",
        Proof::Integration("all", "published_events_leave"),
    ),
];

/// Runs all, or those whose names contain a word.
pub(crate) fn run(word: &str) -> Result<()> {
    say("building the proofs with faults");
    let simulation = process::build("busway-sim", &FAULTY)?;
    process::run(process::command(&simulation).args(["--seeds", "40"]).stdout(std::process::Stdio::null()))
        .context("the simulation has to pass without a fault")?;
    let mut table = String::from("| fault | what it breaks | caught by |\n|---|---|---|\n");
    let mut survived = Vec::new();
    for Mutant { name, breaks, proof } in ALL.iter().filter(|mutant| mutant.name.contains(word)) {
        let caught = caught(name, *proof, &simulation)?;
        say(&format!("{name}: {}", caught.as_deref().unwrap_or("SURVIVED")));
        if caught.is_none() {
            survived.push(*name);
        }
        // Writing to a String does not fail.
        let _ = writeln!(table, "| `{name}` | {breaks} | {} |", caught.as_deref().unwrap_or("nothing"));
    }
    process::print(&table);
    if !survived.is_empty() {
        bail!("nothing noticed {}", survived.join(", "));
    }
    Ok(())
}

/// What notices a fault, ready to run.
fn command(proof: Proof, simulation: &Path) -> Command {
    let mut tests = process::cargo();
    tests.args(["test", "--quiet", process::EVERYTHING]).args(FAULTY);
    match proof {
        Proof::Sim => {
            let mut command = process::command(simulation);
            command.args(["--seeds", SEEDS]);
            return command;
        }
        Proof::Unit(filter) => tests.args(["--lib", filter]),
        Proof::Integration(target, filter) => tests.args(["--test", target, filter]),
    };
    tests
}

/// What noticed a fault, if anything did.
fn caught(name: &str, proof: Proof, simulation: &Path) -> Result<Option<String>> {
    let mut command = command(proof, simulation);
    let shown = process::shown(&command);
    let output = command.env("BUSWAY_MUTANT", name).output().with_context(|| format!("cannot start `{shown}`"))?;
    if output.status.success() {
        return Ok(None);
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let (mut seed, mut tests) = (None, Vec::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("seed ") {
            seed = rest.split_once(' ').map(|(seed, _)| seed.to_owned());
        }
        if let Some(test) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            tests.push(test.rsplit("::").next().unwrap_or(test).to_owned());
        }
    }
    match (seed, tests.first()) {
        (Some(seed), _) => Ok(Some(format!("simulation, seed {seed}"))),
        (None, Some(test)) => {
            let others = if tests.len() > 1 { format!(" and {} more", tests.len() - 1) } else { String::new() };
            Ok(Some(format!("`{test}`{others}")))
        }
        (None, None) => {
            bail!("`{shown}` failed before it could notice anything:\n{}", String::from_utf8_lossy(&output.stderr))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn collect(folder: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                collect(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = std::fs::read_to_string(&path).expect("text");
                let mut parts = text.split("mutant(\"");
                parts.next();
                found.extend(parts.filter_map(|part| Some(part.split_once('"')?.0.to_owned())));
            }
        }
    }

    #[test]
    fn every_fault_in_the_sources_is_in_the_table() {
        let mut found = BTreeSet::new();
        for name in ["types", "log", "dispatch", "engine", "host", "node"] {
            collect(&process::root().join("runtime").join(name).join("src"), &mut found);
        }
        found.remove("name");
        assert_eq!(found, ALL.iter().map(|mutant| mutant.name.to_owned()).collect());
    }
}
