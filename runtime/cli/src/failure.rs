//! How a failure is told: once, as a chain of causes, with the exit code decided here.

use std::process::ExitCode;

use anyhow::Error;

use crate::output::{self, Closed};

/// The command itself was wrong; exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// What went wrong has been told already, as the command's answer; exit code 1.
#[derive(Debug, thiserror::Error)]
#[error("the command failed")]
pub(crate) struct Told;

/// Tells what went wrong and gives the exit code.
pub(crate) fn report(error: &Error) -> ExitCode {
    if error.is::<Closed>() {
        return ExitCode::SUCCESS;
    }
    if error.is::<Told>() {
        return ExitCode::FAILURE;
    }
    output::error(chain(error));
    if error.is::<Usage>() { ExitCode::from(2) } else { ExitCode::FAILURE }
}

/// The message and its causes, each said once.
pub(crate) fn chain(error: &Error) -> String {
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        if text.is_empty() {
            text = cause;
        } else if !text.ends_with(&cause) {
            text = format!("{text}: {cause}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_told_once_and_in_order() {
        let error = anyhow::anyhow!("no such file").context("cannot read a.toml");
        assert_eq!(chain(&error), "cannot read a.toml: no such file");
        let repeated = anyhow::anyhow!("x").context("cannot do it: x");
        assert_eq!(chain(&repeated), "cannot do it: x");
    }
}
