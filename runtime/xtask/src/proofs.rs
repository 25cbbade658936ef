//! `cargo xtask crash`, `sim` and `fuzz`: the long forms of the proofs that `cargo xtask test` runs briefly.
//!
//! Role: build what the proof needs, hand it its numbers, run it. The proofs themselves are in `tests/`.

use std::collections::BTreeMap;
use std::ffi::OsString;

use anyhow::Result;

use crate::process;

/// The options of a proof, all of which are numbers.
#[derive(Debug)]
pub(crate) struct Numbers(BTreeMap<String, u64>);

impl Numbers {
    /// Reads `--name N` and `--name=N` for the given names.
    pub(crate) fn parse(arguments: &[OsString], names: &[&str]) -> Result<Self, String> {
        let mut found = BTreeMap::new();
        let mut words = arguments.iter().map(|word| word.to_string_lossy().into_owned());
        while let Some(word) = words.next() {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name.to_owned(), Some(value.to_owned())),
                None => (word, words.next()),
            };
            if !names.contains(&name.as_str()) {
                return Err(format!("`{name}` is none of {}", names.join(", ")));
            }
            let number = value.as_deref().and_then(|value| value.parse().ok());
            let Some(number) = number else { return Err(format!("`{name}` wants a number")) };
            found.insert(name, number);
        }
        Ok(Self(found))
    }

    /// The number of an option, or its default.
    pub(crate) fn number(&self, name: &str, default: u64) -> u64 {
        self.0.get(name).copied().unwrap_or(default)
    }

    fn get(&self, name: &str, default: u64) -> String {
        self.number(name, default).to_string()
    }
}

/// Kills a node under load again and again.
pub(crate) fn crash(numbers: &Numbers) -> Result<()> {
    process::build("busway", &[])?;
    let mut test = process::cargo();
    test.env("BUSWAY_KILLS", numbers.get("--kills", 200)).env("BUSWAY_SEED", numbers.get("--seed", 1));
    process::run(test.args(["test", process::EVERYTHING, "--test", "crash", "killed", "--", "--nocapture"]))
}

/// Runs the simulation.
pub(crate) fn sim(numbers: &Numbers) -> Result<()> {
    let mut run = process::command(&process::build("busway-sim", &[])?);
    run.args(["--seeds", &numbers.get("--seeds", 1_000)]).args(["--first", &numbers.get("--first", 0)]);
    process::run(run.args(["--steps", &numbers.get("--steps", 500)]))
}

/// Fuzzes everything that reads what others wrote.
pub(crate) fn fuzz(numbers: &Numbers) -> Result<()> {
    let mut run = process::command(&process::build("busway-fuzz", &[])?);
    process::run(run.args(["--seconds", &numbers.get("--seconds", 60)]).args(["--seed", &numbers.get("--seed", 1)]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Numbers, String> {
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        Numbers::parse(&words, &["--kills", "--seed"])
    }

    #[test]
    fn numbers_are_read_and_anything_else_is_refused() {
        let numbers = parse(&["--kills", "7", "--seed=9"]).expect("numbers");
        assert_eq!((numbers.get("--kills", 200), numbers.get("--seed", 1)), ("7".to_owned(), "9".to_owned()));
        assert_eq!(parse(&[]).expect("none").get("--kills", 200), "200");
        assert_eq!(parse(&["--kill", "7"]).expect_err("unknown"), "`--kill` is none of --kills, --seed");
        assert_eq!(parse(&["--kills"]).expect_err("no value"), "`--kills` wants a number");
    }
}
