//! Figures, as a table and as JSON.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::case::Case;
use super::throughput::median;
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
    /// The most that `p99_us` may be: twice `alone_p99_us` or 10 ms more, whichever is larger.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_us: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lost: Option<u64>,
    /// Whether nothing was lost and `limit_us` was kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    ok: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_ms_per_service: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    loaded_bytes_per_service: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    active_bytes_per_service: Option<f64>,
    /// What only this case has, by name.
    #[serde(flatten)]
    more: BTreeMap<&'static str, f64>,
}

fn us(latency: &Histogram<u64>, quantile: f64) -> f64 {
    latency.value_at_quantile(quantile) as f64 / 1_000.0
}

impl Figures {
    /// Figures without a number.
    pub(super) fn named(case: Case) -> Self {
        Self { case: case.to_string(), ..Self::default() }
    }

    /// One more number.
    pub(super) fn with(mut self, name: &'static str, value: f64) -> Self {
        self.more.insert(name, value);
        self
    }

    /// With a verdict.
    pub(super) fn judged(self, ok: bool) -> Self {
        Self { ok: Some(ok), ..self }
    }

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

    /// Figures that have no floor beside them.
    pub(super) fn unpaired(case: Case, rate: f64, latency: &Histogram<u64>) -> Self {
        Self {
            case: case.to_string(),
            events_per_s: Some(rate.round()),
            p50_us: Some(us(latency, 0.5)),
            p99_us: Some(us(latency, 0.99)),
            p999_us: Some(us(latency, 0.999)),
            ..Self::default()
        }
    }

    /// Medians over the pairs.
    pub(super) fn noisy(alone: &[Histogram<u64>], beside: &[Histogram<u64>], lost: u64) -> Self {
        let of = |sides: &[Histogram<u64>], quantile| {
            median(&mut sides.iter().map(|latency| us(latency, quantile)).collect::<Vec<_>>())
        };
        let (own, p99) = (of(alone, 0.99), of(beside, 0.99));
        let limit = (own * 2.0).max(own + 10_000.0);
        Self {
            case: Case::NoisyNeighbour.to_string(),
            p50_us: Some(of(beside, 0.5)),
            p99_us: Some(p99),
            p999_us: Some(of(beside, 0.999)),
            alone_p99_us: Some(own),
            limit_us: Some(limit),
            lost: Some(lost),
            ok: Some(lost == 0 && p99 <= limit),
            ..Self::default()
        }
    }

    /// Whether this breaks a promise.
    pub(super) fn is_broken(&self) -> bool {
        self.ok == Some(false)
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
        if !figures.more.is_empty() {
            let verdict = figures.ok.map_or("", |ok| if ok { "ok" } else { "NOT OK" });
            output.line(format!("{:<32} {verdict}", figures.case))?;
            for (name, value) in &figures.more {
                output.line(format!("    {:<28} {value:>12}", name.replace('_', " ")))?;
            }
            continue;
        }
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
        if let (Some(alone), Some(limit), Some(lost)) = (figures.alone_p99_us, figures.limit_us, figures.lost) {
            let verdict = if figures.is_broken() { "NOT OK" } else { "ok" };
            output.line(format!(
                "{:<32} {verdict}: p99 alone {alone:.0} us, allowed beside bad neighbours {limit:.0} us, {lost} lost",
                ""
            ))?;
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

#[cfg(test)]
mod tests {
    use super::*;

    fn all_at(ms: u64) -> Histogram<u64> {
        let mut latency = Histogram::new_with_bounds(1, 600_000_000_000, 3).expect("a histogram");
        latency.saturating_record(ms * 1_000_000);
        latency
    }

    #[test]
    fn neighbours_may_cost_twice_the_own_time_or_ten_milliseconds_and_no_event() {
        let verdict = |alone: &[u64], beside: &[u64], lost| {
            let all = |times: &[u64]| times.iter().map(|ms| all_at(*ms)).collect::<Vec<_>>();
            !Figures::noisy(&all(alone), &all(beside), lost).is_broken()
        };
        assert!(verdict(&[2], &[11], 0) && !verdict(&[2], &[13], 0));
        assert!(verdict(&[20], &[39], 0) && !verdict(&[20], &[41], 0));
        assert!(!verdict(&[2], &[2], 1));
        assert!(verdict(&[2, 2, 90], &[5, 300, 5], 0), "medians decide");
    }
}
