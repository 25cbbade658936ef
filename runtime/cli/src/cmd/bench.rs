//! `busway bench`.

use std::path::PathBuf;

use anyhow::Result;
use clap::Args;

use crate::bench::{self, Case};
use crate::output::Output;

/// Measure the bus on this machine, beside the floor
#[derive(Debug, Args)]
#[command(
    long_about = "Measures events per second and latency of the bus on this machine. Each figure stands beside the floor of \
        the same run: a bare loop of typed wasmtime calls of the same component with the same event. Medians of \
        interleaved pairs; a release build tells the most. `noisy-neighbour` ends with 1 when an event was lost, or when bad \
        neighbours raise the p99 above twice its own and above its own + 10 ms.\n\n\
        The component and the noisy neighbours are test programs that `cargo xtask guests` builds; `cargo xtask bench` \
        does everything.",
    after_help = "Examples: busway bench --case memory-raw-reused-100B --json; busway bench backlog"
)]
pub(crate) struct BenchArgs {
    /// The suite: `speed`, or `backlog` (much on disk: events, subscriptions, topics, delayed events; minutes, gigabytes)
    #[arg(value_enum, default_value_t = Suite::Speed)]
    suite: Suite,
    /// Measure only this case; may be given several times [default: every case of the suite]
    #[arg(long = "case", value_name = "NAME")]
    cases: Vec<Case>,
    /// The component to measure: a handler that acknowledges everything
    #[arg(long, value_name = "FILE")]
    component: Option<PathBuf>,
    /// Interleaved pairs of floor and bus for each case
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..=100))]
    pairs: u16,
    /// Events of the case `backlog`; the others of its suite take a tenth or less
    #[arg(long, value_name = "N", default_value_t = 10_000_000, value_parser = clap::value_parser!(u32).range(1_000..))]
    events: u32,
    /// Where disk cases write; a folder on the disk that is to be measured
    #[arg(long, value_name = "DIR", default_value_os_t = std::env::temp_dir())]
    scratch: PathBuf,
}

/// What is measured when no case is named.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Suite {
    /// Events per second and latency.
    Speed,
    /// Much of something on disk.
    Backlog,
}

pub(crate) fn run(args: BenchArgs, output: &mut Output) -> Result<()> {
    let BenchArgs { suite, cases, component, pairs, events, scratch } = args;
    let cases = match suite {
        _ if !cases.is_empty() => cases,
        Suite::Speed => Case::all(),
        Suite::Backlog => Case::backlog(),
    };
    let events = usize::try_from(events)?;
    bench::run(&bench::Options { cases, component, pairs: pairs.into(), events, scratch }, output)
}
