//! One command, one file.

pub(crate) mod bench;
pub(crate) mod check;
pub(crate) mod completions;
pub(crate) mod contract;
pub(crate) mod dead;
pub(crate) mod dev;
pub(crate) mod engine;
pub(crate) mod forget;
pub(crate) mod gateway;
pub(crate) mod inspect;
pub(crate) mod kv;
pub(crate) mod log;
pub(crate) mod new;
pub(crate) mod publish;
pub(crate) mod replay;
pub(crate) mod request;
pub(crate) mod run;
pub(crate) mod status;
pub(crate) mod tail;
pub(crate) mod trace;

use anyhow::Result;

use crate::args::{Cli, Command};
use crate::client::Client;
use crate::output::Output;

/// Does the command.
pub(crate) fn run(cli: Cli, output: &mut Output) -> Result<()> {
    let Cli { node, command } = cli;
    match command {
        Command::New(args) => new::run(&args, output),
        Command::Dev(args) => dev::run(args, node, output),
        Command::Run(args) => run::run(args, node, output),
        Command::Bench(args) => bench::run(args, output),
        Command::Check(args) => check::run(&args, output),
        Command::Inspect(args) => inspect::run(&args, output),
        Command::Contract(args) => contract::run(&args, output),
        Command::Publish(args) => publish::run(args, &Client::find(&node)?, output),
        Command::Request(args) => request::run(&args, &Client::find(&node)?, output),
        Command::Tail(args) => tail::run(&args, &Client::find(&node)?, output),
        Command::Trace(args) => trace::run(&args, &Client::find(&node)?, output),
        Command::Status(args) => status::run(&args, &Client::find(&node)?, output),
        Command::Dead(args) => dead::run(args, &Client::find(&node)?, output),
        Command::Forget(args) => forget::run(args, &Client::find(&node)?, output),
        Command::Replay(args) => replay::run(args, &Client::find(&node)?, output),
        Command::Engine(args) => engine::run(&args, output),
        Command::Gateway(args) => gateway::run(&args, output),
        Command::Kv(args) => kv::run(args, &Client::find(&node)?, output),
        Command::Log(args) => log::run(&args, output),
        Command::Completions(args) => completions::run(&args, output),
    }
}
