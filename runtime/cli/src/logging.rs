//! Where the node's log lines go: stderr, as text or JSON.

use anyhow::{Context, Result};
use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people
    #[default]
    Text,
    /// One JSON object per line
    Json,
}

/// What dependencies may say. The client of RabbitMQ calls it an error when a connection is lost and says so several times, which
/// busway says once.
const WARN_ELSEWHERE: &str = "warn,lapin=off";

/// The filter that `level` means: a bare level is about busway, dependencies stay at `warn`.
fn directives(level: &str) -> String {
    let mut parts = Vec::new();
    for part in level.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.to_ascii_lowercase().as_str() {
            "info" | "debug" | "trace" => {
                parts.insert(0, WARN_ELSEWHERE.to_owned());
                // Targets match by their beginning: all crates of busway, and `busway::guest`.
                parts.push(format!("busway={part}"));
            }
            _ => parts.push(part.to_owned()),
        }
    }
    parts.join(",")
}

/// Begins to write log lines of at least `level`, or as a filter such as `info,busway_node=debug` selects.
pub(crate) fn start(level: &str, format: LogFormat) -> Result<()> {
    let filter = EnvFilter::try_new(directives(level))
        .with_context(|| format!("`{level}` is no log level; try error, warn, info, debug or trace"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Json => builder.json().flatten_event(true).init(),
        LogFormat::Text => builder.with_ansi(crate::output::is_attended()).with_target(false).init(),
    }
    Ok(())
}

/// Begins to write log lines of at least `level` to a writer, as text without times.
pub(crate) fn start_with<W: std::io::Write>(level: &str, writer: impl Fn() -> W + Send + Sync + 'static) -> Result<()> {
    let filter = EnvFilter::try_new(directives(level)).with_context(|| format!("`{level}` is no log level"))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    builder.with_ansi(crate::output::is_attended()).with_target(false).without_time().init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_level_is_about_busway_and_not_about_its_dependencies() {
        assert_eq!(directives("debug"), "warn,lapin=off,busway=debug");
        assert_eq!(directives("info,busway_node=debug"), "warn,lapin=off,busway=info,busway_node=debug");
        assert_eq!(directives("error"), "error");
        assert_eq!(directives("wasmtime=debug"), "wasmtime=debug");
        assert_eq!(directives("info, wasmtime=debug"), "warn,lapin=off,busway=info,wasmtime=debug");
        assert!(EnvFilter::try_new(directives("busway_node=loud")).is_err());
    }
}
