//! What types cost: typed events beside raw ones.
//!
//! Method: two nodes in this process, one with a raw handler and one with a handler of a contract, neither of which does
//! anything. Both get the same events (data, keys, batches of 256) from one host-side publisher, in turns; only the typed one
//! checks the data against the contract when it is published, and makes values of it when it is handled. The ratio is
//! that of each pair's events per second; medians are printed. Beside it, the same from guest to guest: a handler that
//! publishes one small event for each that it gets, by a contract and raw.

use anyhow::{Context as _, Result};
use busway_types::{Clock as _, Draft, Key, Limits, Topic};
use bytes::Bytes;

use super::case::{Case, Place, Typed};
use super::report::Figures;
use super::rig::{BATCH, Rig, RigService};
use super::throughput::{Bench, PATIENCE, median, publish};

/// Bytes that one run publishes, about.
const RUN_BYTES: usize = 96 * 1024 * 1024;

/// Bytes of one batch, about.
const BATCH_BYTES: usize = 16 * 1024 * 1024;

/// Different keys of the events.
const KEYS: usize = 64;

/// One side of the measure.
struct Side {
    rig: Rig,
    topic: Topic,
}

impl Side {
    async fn start(bench: &Bench<'_>, program: &str, topic: &str, settings: &str) -> Result<Self> {
        let component = bench.component.with_file_name(program);
        let service = RigService {
            name: "bench".to_owned(),
            component: component.clone(),
            topic: "bench.>".to_owned(),
            settings: format!("concurrency = 1\n{settings}"),
        };
        let rig = Rig::start(bench.scratch, Place::Memory, &[service]).await;
        let rig = rig.with_context(|| format!("{}; build it with `cargo xtask guests`", component.display()))?;
        Ok(Self { rig, topic: topic.parse()? })
    }

    /// Events per second over one run.
    async fn run(&self, events: &[(Key, Bytes)], count: usize) -> Result<f64> {
        let counts = &self.rig.counts;
        let before = counts.acked.load(std::sync::atomic::Ordering::Acquire);
        let began = counts.clock.monotonic_ns();
        // A batch is bounded in bytes as well.
        let bytes = events.first().map_or(1, |(_, data)| data.len().max(1));
        let size = BATCH.min(count).min(BATCH_BYTES / bytes).max(1);
        let batches = count.div_ceil(size);
        for _ in 0..batches {
            let draft = |(key, data): &(Key, Bytes)| Draft {
                key: Some(key.clone()),
                ..Draft::new(self.topic.clone(), data.clone())
            };
            publish(&self.rig, || events.iter().cycle().take(size).map(draft).collect()).await?;
        }
        counts.wait_for(before + (batches * size) as u64, PATIENCE).await?;
        Ok((batches * size) as f64 * 1e9 / (counts.clock.monotonic_ns() - began) as f64)
    }
}

/// Measures one case.
pub(super) async fn measure(bench: &Bench<'_>, typed: Typed, say: &dyn Fn(String)) -> Result<Figures> {
    let function = match typed {
        Typed::Small => "small",
        Typed::Middle => "middle",
        Typed::Large => "large",
    };
    let events: Vec<(Key, Bytes)> = (0..KEYS).map(|n| event(typed, n)).collect::<Result<_>>()?;
    let bytes = events.iter().map(|(_, data)| data.len()).sum::<usize>() / events.len();
    let count = (RUN_BYTES / (bytes + 200)).clamp(64, 300_000);
    let topic = format!("test.values.v1.bench.{function}");
    let (typed_ratio, typed_rate) = {
        let raw = Side::start(bench, "echo.wasm", "bench.0", "").await?;
        let typed = Side::start(bench, "typed_echo.wasm", &topic, "").await?;
        pairs(bench.pairs, raw, typed, &events, count, say).await?
    };
    let figures = Figures::named(Case::Typed(typed))
        .with("events_per_s", typed_rate)
        .with("ratio_to_raw", typed_ratio)
        .with("event_bytes", bytes as f64);
    if typed != Typed::Small {
        return Ok(figures);
    }
    say("from guest to guest".to_owned());
    let raw =
        Side::start(bench, "forward.wasm", "bench.0", "publish = [\"out.>\"]\nconfig = { to = \"out.0\" }").await?;
    let typed = Side::start(bench, "typed_forward.wasm", &topic, "").await?;
    let (ratio, rate) = pairs(bench.pairs, raw, typed, &events, count, say).await?;
    Ok(figures.with("forwarded_per_s", rate).with("forwarded_ratio_to_raw", ratio))
}

/// The medians of interleaved pairs: the ratio, and the typed side's events per second. Stops both nodes.
async fn pairs(
    pairs: usize,
    raw: Side,
    typed: Side,
    events: &[(Key, Bytes)],
    count: usize,
    say: &dyn Fn(String),
) -> Result<(f64, f64)> {
    // A short round warms both.
    raw.run(events, count / 10 + 1).await?;
    typed.run(events, count / 10 + 1).await?;
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for pair in 1..=pairs {
        let floor = raw.run(events, count).await?;
        let rate = typed.run(events, count).await?;
        say(format!("pair {pair} of {pairs}: {rate:.0} typed events/s, {:.2} of {floor:.0} raw ones", rate / floor));
        ratios.push(rate / floor);
        rates.push(rate);
    }
    raw.rig.stop().await?;
    typed.rig.stop().await?;
    Ok((median(&mut ratios), median(&mut rates)))
}

/// The key and the data of an event.
fn event(typed: Typed, n: usize) -> Result<(Key, Bytes)> {
    let data = match typed {
        Typed::Small => {
            format!(
                r#"{{"key":"k{n}","event":{{"id":"order-{n:08}","sku":"sku-{n}","quantity":{n},"cents":129900,"paid":true}}}}"#
            )
        }
        Typed::Middle => {
            let part = |p: usize| format!(r#""p{p}":{{"a":"part {p} of {n}","b":"b","c":{p},"d":{n},"e":false}}"#);
            let parts: Vec<_> = (0..10).map(part).collect();
            format!(r#"{{"key":"k{n}","event":{{{}}}}}"#, parts.join(","))
        }
        Typed::Large => {
            let line = |l: usize| format!(r#"{{"sku":"sku-{l}","quantity":{n},"cents":{l}}}"#);
            let lines: Vec<_> = (0..10_000).map(line).collect();
            format!(r#"{{"key":"k{n}","lines":[{}]}}"#, lines.join(","))
        }
    };
    Ok((Key::new(&format!("k{n}"), &Limits::default())?, Bytes::from(data)))
}
