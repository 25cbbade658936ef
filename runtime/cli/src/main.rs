//! The `busway` command.
//!
//! Role: reads the command line, does one command, says how it went. Data goes to stdout, everything else to stderr, both
//! through [`output`] alone. Exit codes are decided here and nowhere else: 0 done, 1 the thing asked failed, 2 wrong
//! usage. Never here: anything about events; a node does that, over its admin API or in this process (`run`).

mod args;
mod bench;
mod client;
mod cmd;
mod discovery;
mod failure;
mod format;
mod logging;
mod output;
mod table;
mod tree;

use std::process::ExitCode;

use clap::Parser;

use args::Cli;
use output::Output;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Wrong usage ends here with 2, `--help` and `--version` with 0.
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return output::usage(error),
    };
    let mut output = Output::new(cli.node.json);
    match cmd::run(cli, &mut output).and_then(|done| output.flush().map(|()| done)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => failure::report(&error),
    }
}
