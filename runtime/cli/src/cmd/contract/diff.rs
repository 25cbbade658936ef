//! `busway contract diff`.

use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use busway_contract::compare::{Pair, Verdict, compare};
use busway_contract::source::{Found, Source};
use busway_contract::{Direction, Function, Kind};
use clap::Args;
use serde_json::json;

use crate::failure::Told;
use crate::output::{Output, note, shown_lines, warn};

/// Compare the contracts of two files
#[derive(Debug, Args)]
#[command(
    long_about = "Compares the contracts that two files have in common: .wit files, folders of them (with deps/), \
        components. Says for each contract whether they are the same, compatible (every difference is bridged on \
        delivery) or incompatible, with every difference: where, what each side has, how to mend it.\n\n\
        What A produces is compared with what B handles, and the other way round. WIT without a component can do both, so \
        two versions of a .wit file are compared both ways: old producers with new handlers, and new with old. With \
        --one-way only A produces.\n\n\
        Ends with 1 when something is incompatible, cannot be carried, or nothing is in common: for use in CI. Versions \
        with another major number are contracts of their own and are not compared.\n\n\
        With --json: {\"verdict\", \"pairs\": [{\"producer\", \"handler\", \"comparison\"}], \"missing\", \"only\": [{\"file\", \"contract\"}]}.",
    after_help = "Example: busway contract diff main/orders.wit wit/orders.wit"
)]
pub(super) struct DiffArgs {
    /// A .wit file, a folder of them, or a component
    a: PathBuf,
    /// What it is compared with
    b: PathBuf,
    /// Only what A produces and B handles
    #[arg(long)]
    one_way: bool,
}

pub(super) fn run(args: &DiffArgs, output: &mut Output) -> Result<()> {
    let (a, b) = (super::read(&args.a)?, super::read(&args.b)?);
    let carried = a.problems.is_empty() && b.problems.is_empty();
    let (name_a, name_b) = (args.a.display().to_string(), args.b.display().to_string());
    let mut pairs = pairs((&name_a, &a), (&name_b, &b));
    if !args.one_way {
        let back = self::pairs((&name_b, &b), (&name_a, &a));
        // What is the same one way is the same the other way.
        let known = |pair: &Pair| pairs.iter().any(|known| same_both_ways(known, pair));
        let back: Vec<_> = back.into_iter().filter(|pair| !known(pair)).collect();
        pairs.extend(back);
    }
    if pairs.is_empty() {
        return nothing(args, &a, &b, output);
    }
    let mut missing = missing((&name_a, &a), (&name_b, &b));
    if !args.one_way {
        missing.extend(self::missing((&name_b, &b), (&name_a, &a)));
    }
    let verdict = pairs.iter().map(|pair| pair.comparison.verdict).max().unwrap_or(Verdict::Same);
    let verdict = if missing.is_empty() { verdict } else { Verdict::Incompatible };
    let only: Vec<_> = only(&name_a, &a, &b).into_iter().chain(only(&name_b, &b, &a)).collect();
    if output.is_json() {
        let only: Vec<_> = only.iter().map(|(file, contract)| json!({ "file": file, "contract": contract })).collect();
        output.json(&json!({ "verdict": verdict, "pairs": pairs, "missing": missing, "only": only }))?;
    } else {
        pairs.iter().try_for_each(|pair| output.line(shown_lines(&pair.to_string())))?;
        missing.iter().try_for_each(|missing| output.line(shown_lines(&format!("incompatible: {missing}"))))?;
        only.iter().try_for_each(|(file, contract)| output.line(format!("only in {file}: {contract}")))?;
    }
    if verdict == Verdict::Incompatible || !carried {
        output.flush()?;
        bail!(Told);
    }
    Ok(())
}

/// What the first may produce with what the second may handle.
fn pairs((producer, sent): (&str, &Source), (handler, taken): (&str, &Source)) -> Vec<Pair> {
    let mut pairs = Vec::new();
    for one in sent.found.iter().filter(|found| found.direction != Some(Direction::Handles)) {
        for other in taken.found.iter().filter(|found| found.direction != Some(Direction::Produces)) {
            if one.contract.id.meets(&other.contract.id) {
                let comparison = compare(&one.contract, &other.contract);
                pairs.push(Pair { producer: producer.into(), handler: handler.into(), comparison });
            }
        }
    }
    pairs
}

/// Requests that the first may ask and the second, though it handles the contract, does not answer.
fn missing((producer, sent): (&str, &Source), (handler, taken): (&str, &Source)) -> Vec<String> {
    let mut found = Vec::new();
    for one in sent.found.iter().filter(|found| found.direction != Some(Direction::Handles)) {
        let others = taken.found.iter().filter(|found| found.direction != Some(Direction::Produces));
        let others: Vec<_> = others.filter(|other| one.contract.id.meets(&other.contract.id)).collect();
        let lacks = |function: &&Function| {
            function.kind() == Kind::Request && others.iter().all(|o| o.contract.function(&function.name).is_none())
        };
        let functions = one.contract.functions.iter().filter(lacks).filter(|_| !others.is_empty());
        found.extend(functions.map(|function| {
            let id = &one.contract.id;
            format!("{handler} does not answer the request `{}` of {id} that {producer} may ask", function.name)
        }));
    }
    found
}

fn same_both_ways(one: &Pair, other: &Pair) -> bool {
    let (one, other) = (&one.comparison, &other.comparison);
    one.verdict == Verdict::Same
        && other.verdict == Verdict::Same
        && one.producer == other.handler
        && one.handler == other.producer
        && one.functions.len() == other.functions.len()
}

/// Contracts of one file that the other does not have.
fn only(file: &str, these: &Source, those: &Source) -> Vec<(String, String)> {
    let missing = |found: &&Found| !those.found.iter().any(|other| other.contract.id.meets(&found.contract.id));
    let mut names: Vec<_> = these.found.iter().filter(missing).map(|found| found.contract.id.to_string()).collect();
    names.dedup();
    names.into_iter().map(|name| (file.to_owned(), name)).collect()
}

/// Nothing was compared: fine if the contracts have another major version, else probably the wrong files.
fn nothing(args: &DiffArgs, a: &Source, b: &Source, output: &mut Output) -> Result<()> {
    let like = |one: &Found, other: &Found| one.contract.id.is_named_like(&other.contract.id);
    let meet = |one: &Found, other: &Found| one.contract.id.meets(&other.contract.id);
    let any =
        |test: &dyn Fn(&Found, &Found) -> bool| a.found.iter().any(|one| b.found.iter().any(|other| test(one, other)));
    let (name_a, name_b) = (args.a.display(), args.b.display());
    if any(&meet) {
        bail!("neither file handles what the other produces: both are on the same side of the contract");
    }
    if !any(&like) {
        bail!("{} and {} have no contract in common", describe(&args.a, a), describe(&args.b, b));
    }
    warn(format!("{name_a} and {name_b} have versions of one contract that live side by side; they are not compared"));
    if output.is_json() {
        let only: Vec<_> = only(&name_a.to_string(), a, b).into_iter().chain(only(&name_b.to_string(), b, a)).collect();
        let only: Vec<_> = only.iter().map(|(file, contract)| json!({ "file": file, "contract": contract })).collect();
        return output.json(&json!({ "verdict": Verdict::Same, "pairs": [], "only": only }));
    }
    note("nothing breaks: producers and handlers of both versions keep their own topics");
    Ok(())
}

fn describe(path: &Path, source: &Source) -> String {
    let names: Vec<_> = source.found.iter().map(|found| found.contract.id.to_string()).collect();
    let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
    format!("{} ({names})", path.display())
}
