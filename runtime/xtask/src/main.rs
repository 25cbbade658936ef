//! `cargo xtask`: the commands of a developer.
//!
//! Role: drive cargo and the `busway` binary as a person would, from a fresh clone. No part of busway itself; knows only
//! the command line and the files. Exit codes: 0 ok, 1 the thing asked failed, 2 wrong usage.

mod brokers;
mod conformance;
mod demo;
mod guests;
mod http_bench;
mod mutants;
mod process;
mod proofs;
mod tools;

use std::ffi::OsString;
use std::process::ExitCode;

use anyhow::Result;

const HELP: &str = "\
What one does with this repository.

Usage: cargo xtask <COMMAND> [ARGUMENTS]

Commands:
  demo      A week of earthquakes through four services, every number checked
  test      All tests: builds the guests, installs the validators of documents (npm), then runs
            `cargo test --workspace ARGUMENTS`
  conformance
            Asks the same of every engine, on real brokers: a table with a column per engine and a row per behaviour
  crash     Kills a node under load again and again: --kills N (200), --seed N (1)
  sim       All stages on one thread from a seed, with faults: --seeds N (1000), --first N (0), --steps N
  fuzz      Mutated inputs for everything that reads what others wrote: --seconds N (60), --seed N
  mutants   Faults built on purpose, each of which a proof has to catch; a word chooses those whose names contain it
  brokers   up: installs and starts real brokers on free loopback ports, prints their URLs; down: stops them
  bench     Builds everything optimised, then runs `busway bench ARGUMENTS`
  bench-http  `GET /` of examples/hello under wrk, beside `wasmtime serve` with the same component:
            --pairs N (5), --seconds N (8), --connections N (64)
  guests    Builds everything that is compiled to Wasm and copies the services of the examples to examples/*/services/
  help      This text

Each command adds the Rust target wasm32-wasip2 through rustup if it is missing.

Examples:
  cargo xtask demo
  cargo xtask test --test e2e envelope
  cargo xtask crash --kills 200
  cargo xtask bench --case memory-raw-reused-100B --json
";

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().map(|word| word.to_string_lossy().into_owned());
    let rest: Vec<OsString> = arguments.collect();
    let done = match command.as_deref() {
        Some("demo") if rest.is_empty() => demo::run(),
        Some("guests") if rest.is_empty() => guests::build(),
        Some("conformance") if rest.is_empty() => conformance::run(),
        Some("test") => test(&rest),
        Some("bench") => bench(&rest),
        Some("bench-http") => match proofs::Numbers::parse(&rest, &["--pairs", "--seconds", "--connections"]) {
            Ok(numbers) => http_bench::run_bench(&numbers),
            Err(usage) => return wrong(&usage),
        },
        Some("sim") => match proofs::Numbers::parse(&rest, &["--seeds", "--first", "--steps"]) {
            Ok(numbers) => proofs::sim(&numbers),
            Err(usage) => return wrong(&usage),
        },
        Some("fuzz") => match proofs::Numbers::parse(&rest, &["--seconds", "--seed"]) {
            Ok(numbers) => proofs::fuzz(&numbers),
            Err(usage) => return wrong(&usage),
        },
        Some("mutants") if rest.len() < 2 => {
            mutants::run(&rest.first().map(|word| word.to_string_lossy().into_owned()).unwrap_or_default())
        }
        Some("brokers") => match brokers::run(&rest) {
            Some(done) => done,
            None => return wrong("`cargo xtask brokers` takes `up` or `down`"),
        },
        Some("crash") => match proofs::Numbers::parse(&rest, &["--kills", "--seed"]) {
            Ok(numbers) => proofs::crash(&numbers),
            Err(usage) => return wrong(&usage),
        },
        Some("help" | "--help" | "-h") => return help(true),
        None => return help(false),
        Some(word @ ("demo" | "guests" | "conformance")) => {
            return wrong(&format!("`cargo xtask {word}` takes no arguments"));
        }
        Some(unknown) => return wrong(&format!("there is no command `{unknown}`")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            process::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn help(asked: bool) -> ExitCode {
    if asked {
        process::print(HELP);
        ExitCode::SUCCESS
    } else {
        process::say(HELP);
        ExitCode::from(2)
    }
}

fn wrong(usage: &str) -> ExitCode {
    process::say(&format!("error: {usage}\n\n{HELP}"));
    ExitCode::from(2)
}

fn test(arguments: &[OsString]) -> Result<()> {
    guests::build()?;
    tools::npm("tests/documents")?;
    tools::npm("tests/socketio")?;
    tools::python("tests/socketio/requirements.txt")?;
    tools::debian(&[("curl", "curl"), ("chromium", "chromium"), ("chromedriver", "chromium-driver")])?;
    tools::python("tests/clients/requirements.txt")?;
    tools::python("examples/bridge/requirements.txt")?;
    let chosen = arguments.iter().any(|word| word == "-p" || word.to_string_lossy().starts_with("--package"));
    let all = if chosen { None } else { Some(process::EVERYTHING) };
    conformance::forget()?;
    process::run(process::cargo().arg("test").args(all).args(arguments))?;
    conformance::print()
}

fn bench(arguments: &[OsString]) -> Result<()> {
    guests::build()?;
    // The one package, as the README installs it: the others would switch on what only tests need.
    process::run(process::cargo().args(["build", "--release", "--package", "busway-cli"]))?;
    process::run(process::command(&process::program("busway", "release")).arg("bench").args(arguments))
}
