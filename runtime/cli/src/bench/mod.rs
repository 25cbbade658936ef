//! Measuring the bus against the floor, on this machine, in one run.
//!
//! Role: starts nodes in this process, drives them, prints medians. A benchmark informs; only the one case that has a
//! promise, `noisy-neighbour`, fails when it is broken.

mod backlog;
mod case;
mod http_publish;
mod many;
mod neighbours;
mod report;
mod rig;
mod throughput;
mod typed;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use busway_host::{Host, HostConfig};

pub(crate) use case::Case;
use report::Figures;
use throughput::Bench;

use crate::failure::Told;
use crate::output::Output;

/// The component that is measured when none is named, from the folder of the executable.
const ECHO: &str = "../guests/wasm32-wasip2/release/examples/echo.wasm";

/// What to measure.
pub(crate) struct Options {
    pub(crate) cases: Vec<Case>,
    pub(crate) component: Option<PathBuf>,
    pub(crate) pairs: usize,
    /// Events of the case `backlog`; the others of its suite take a fitting share.
    pub(crate) events: usize,
    /// Where disk cases write.
    pub(crate) scratch: PathBuf,
}

/// Measures and prints.
pub(crate) fn run(options: &Options, output: &mut Output) -> Result<()> {
    let component = component(options.component.as_deref())?;
    let host = Host::new(HostConfig::default())?;
    let bytes = busway_host::inspect::read(&component).with_context(|| component.display().to_string())?;
    let compiled = host.compile("bench", &bytes)?;
    let bench = Bench {
        host: &host,
        compiled: &compiled,
        component: &component,
        scratch: &options.scratch,
        pairs: options.pairs,
        events: options.events,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let mut results = Vec::new();
    for case in &options.cases {
        let say = |text: String| crate::output::note(format!("{case}: {text}"));
        say("starts".to_owned());
        let figures = runtime.block_on(async {
            match case {
                Case::Throughput(throughput) => throughput::measure(&bench, *throughput, &say).await,
                Case::Typed(typed) => typed::measure(&bench, *typed, &say).await,
                Case::HttpPublish(events) => http_publish::measure(&bench, *events, &say).await,
                Case::NoisyNeighbour => neighbours::noisy(&bench, &say).await,
                Case::ThousandServices => many::thousand(&bench, &say).await,
                Case::Scale(scale) => backlog::measure(&bench, *scale, &say).await,
            }
        });
        match figures.with_context(|| format!("case {case}")) {
            Ok(figures) => results.push(figures),
            Err(error) => {
                // What was measured took minutes; it is told all the same.
                report::print(output, options.pairs, &results)?;
                output.flush()?;
                return Err(error);
            }
        }
    }
    report::print(output, options.pairs, &results)?;
    if results.iter().any(Figures::is_broken) {
        output.flush()?;
        bail!(Told);
    }
    Ok(())
}

fn component(named: Option<&Path>) -> Result<PathBuf> {
    let path = if let Some(path) = named {
        path.to_owned()
    } else {
        let executable = std::env::current_exe().context("cannot tell where this program lies")?;
        executable.parent().context("this program lies in no folder")?.join(ECHO)
    };
    match path.canonicalize() {
        Ok(path) => Ok(path),
        Err(_) => bail!(
            "{} is not there; build it with `cargo xtask guests`, or name a component that handles `bench.>` with --component",
            path.display()
        ),
    }
}
