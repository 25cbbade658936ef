//! The command line as a whole.

use std::net::SocketAddr;

use clap::builder::styling::{AnsiColor, Styles};
use clap::{Args, Parser, Subcommand};

use crate::cmd;

const STYLES: Styles = Styles::styled()
    .header(AnsiColor::Green.on_default().bold())
    .usage(AnsiColor::Green.on_default().bold())
    .literal(AnsiColor::Cyan.on_default().bold())
    .placeholder(AnsiColor::Cyan.on_default());

/// A WebAssembly-hosted event bus: drop components in, events flow.
#[derive(Debug, Parser)]
#[command(
    name = "busway",
    version,
    styles = STYLES,
    long_about = "A WebAssembly-hosted event bus: drop components in, events flow.\n\n\
        `busway run` turns a folder of components into a running bus. The other commands find the running node by \
        themselves (or take --admin and --token) and ask it over its admin API.",
    after_help = "Example: busway run ./services"
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) node: NodeArgs,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Which node is meant, and how to answer.
#[derive(Clone, Debug, Default, Args)]
pub(crate) struct NodeArgs {
    /// Print JSON, for programs
    #[arg(long, global = true, help_heading = "Global options")]
    pub(crate) json: bool,
    /// The address of the node's admin API; for `run`, where it is to listen [default there: a free port of 127.0.0.1]
    #[arg(long, global = true, value_name = "ADDR", help_heading = "Global options")]
    pub(crate) admin: Option<SocketAddr>,
    /// The token of the node's admin API
    #[arg(long, global = true, env = "BUSWAY_TOKEN", hide_env_values = true, help_heading = "Global options")]
    pub(crate) token: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    New(cmd::new::NewArgs),
    Dev(cmd::dev::DevArgs),
    Run(cmd::run::RunArgs),
    Check(cmd::check::CheckArgs),
    Inspect(cmd::inspect::InspectArgs),
    Contract(cmd::contract::ContractArgs),
    Publish(cmd::publish::PublishArgs),
    Request(cmd::request::RequestArgs),
    Tail(cmd::tail::TailArgs),
    Trace(cmd::trace::TraceArgs),
    Status(cmd::status::StatusArgs),
    Dead(cmd::dead::DeadArgs),
    Replay(cmd::replay::ReplayArgs),
    Forget(cmd::forget::ForgetArgs),
    Kv(cmd::kv::KvArgs),
    Engine(cmd::engine::EngineArgs),
    Gateway(cmd::gateway::GatewayArgs),
    Log(cmd::log::LogArgs),
    Bench(cmd::bench::BenchArgs),
    Completions(cmd::completions::CompletionsArgs),
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example_and_a_description() {
        fn look(command: &clap::Command) {
            let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("busway"), "{} has no example", command.get_name());
            assert!(command.get_about().is_some(), "{} says nothing", command.get_name());
            command.get_subcommands().for_each(look);
        }
        look(&Cli::command());
    }
}
