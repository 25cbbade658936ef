//! Figures, as a table and as JSON.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::case::Case;
use crate::output::Output;

/// What was measured. Fields that a case does not have are left out.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Figures {
    case: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    events_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    floor_calls_per_s: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ratio_to_floor: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p999_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    alone_p99_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ms_per_service: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded_bytes_per_service: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_bytes_per_service: Option<f64>,
}

fn us(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1_000.0
}

impl Figures {
    pub(super) fn throughput(case: Case, rate: f64, floor: f64, ratio: f64, latency: &Histogram<u64>) -> Self {
        Self {
            case: case.to_string(),
            events_per_s: Some(rate.round()),
            floor_calls_per_s: Some(floor.round()),
            ratio_to_floor: Some((ratio * 1_000.0).round() / 1_000.0),
            p50_us: Some(us(latency, 0.5)),
            p99_us: Some(us(latency, 0.99)),
            p999_us: Some(us(latency, 0.999)),
            ..Self::default()
        }
    }

    pub(super) fn noisy(alone: &Histogram<u64>, beside: &Histogram<u64>) -> Self {
        Self {
            case: Case::NoisyNeighbour.to_string(),
            p50_us: Some(us(beside, 0.5)),
            p99_us: Some(us(beside, 0.99)),
            p999_us: Some(us(beside, 0.999)),
            alone_p99_us: Some(us(alone, 0.99)),
            ..Self::default()
        }
    }

    pub(super) fn thousand(start_ms: f64, loaded: f64, active: f64) -> Self {
        Self {
            case: Case::ThousandServices.to_string(),
            start_ms_per_service: Some(start_ms),
            loaded_bytes_per_service: Some(loaded.round()),
            active_bytes_per_service: Some(active.round()),
            ..Self::default()
        }
    }
}

#[derive(Serialize)]
struct Machine {
    cores: usize,
    arch: &'static str,
    os: &'static str,
    build: &'static str,
    version: &'static str,
}

#[derive(Serialize)]
struct Document<'a> {
    machine: Machine,
    pairs: usize,
    results: &'a [Figures],
}

/// Prints everything.
pub(super) fn print(output: &mut Output, pairs: usize, results: &[Figures]) -> anyhow::Result<()> {
    let machine = Machine {
        cores: std::thread::available_parallelism().map_or(1, usize::from),
        arch: std::env::consts::ARCH,
        os: std::env::consts::OS,
        build: if cfg!(debug_assertions) { "debug" } else { "release" },
        version: env!("CARGO_PKG_VERSION"),
    };
    if output.is_json() {
        return output.json(&Document { machine, pairs, results });
    }
    output.line(format!(
        "{:<32} {:>12} {:>12} {:>7} {:>10} {:>10} {:>10}",
        "case", "events/s", "floor/s", "ratio", "p50 us", "p99 us", "p99.9 us"
    ))?;
    let number = |value: Option<f64>, digits: usize| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.digits$}"));
    for figures in results {
        output.line(format!(
            "{:<32} {:>12} {:>12} {:>7} {:>10} {:>10} {:>10}",
            figures.case,
            number(figures.events_per_s, 0),
            number(figures.floor_calls_per_s, 0),
            number(figures.ratio_to_floor, 2),
            number(figures.p50_us, 0),
            number(figures.p99_us, 0),
            number(figures.p999_us, 0),
        ))?;
        if let Some(alone) = figures.alone_p99_us {
            output.line(format!("{:<32} p99 alone {alone:.0} us", ""))?;
        }
        if let (Some(start), Some(loaded), Some(active)) =
            (figures.start_ms_per_service, figures.loaded_bytes_per_service, figures.active_bytes_per_service)
        {
            let kib = |bytes: f64| bytes / 1024.0;
            output.line(format!(
                "{:<32} each: {start:.2} ms to start, {:.0} KiB loaded, {:.0} KiB with its instance",
                "",
                kib(loaded),
                kib(active)
            ))?;
        }
    }
    Ok(())
}
