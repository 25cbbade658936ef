//! busway on a broker beside a plain client of the same broker, in one run.
//!
//! Method: interleaved pairs. Both sides publish the same number of events of the same size, at most [`WINDOW`] of which wait for
//! the broker's confirmation at any time, and handle them one after the other in one consumer that has at most [`WINDOW`] events
//! at a time and acknowledges each. The plain client is written as one would write it by hand: one message per event, published with
//! confirms, kept on disk (JetStream: a stream with file storage and a pull consumer; RabbitMQ: a quorum queue). The bus runs
//! the component that acknowledges everything. A round ends when the last event was handled. Latency is open loop, at half of the
//! slower side's rate on both sides, from when an event was due until its handler was through.

mod amqp;
mod nats;

use std::fmt;
use std::future::Future;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use busway_node::manifest::EngineUrl;
use busway_types::{Clock as _, Topic};
use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use self::amqp::Amqp;
use self::nats::Nats;
use super::case::Case;
use super::report::Figures;
use super::rig::{BATCH, Counts, Rig, RigService, drafts};
use super::throughput::{Bench, PATIENCE, median, publish};

/// Events that wait for their confirmation, and events that a consumer has, at most.
const WINDOW: usize = 1_024;
/// How long a round should last.
const RUN: Duration = Duration::from_secs(2);
/// Events of the first round, which tells how many fit into one.
const FIRST: usize = 4_096;
/// The most events of a round.
const MOST: usize = 1_000_000;
/// How long latency is measured.
const LATENCY: Duration = Duration::from_secs(5);

/// A client of a broker without busway.
trait Client: Clone + Send + Sync + 'static {
    /// What tells that a message is safe.
    type Confirm: Future<Output = Result<()>> + Send + 'static;

    /// Sends a message; it is safe when what comes back says so.
    fn send(&self, payload: Bytes) -> impl Future<Output = Result<Self::Confirm>> + Send;

    /// Removes what was made for the measurement.
    fn remove(self) -> impl Future<Output = Result<()>> + Send;
}

/// Measures events of so many bytes on an engine.
pub(super) async fn measure(bench: &Bench<'_>, url: &EngineUrl, bytes: usize, say: &dyn Fn(String)) -> Result<Figures> {
    let counts = Counts::new();
    let name = format!("busway-bench-{}-{bytes}", std::process::id());
    match url {
        EngineUrl::Nats(server) => {
            let client = Nats::connect(server, &name, &counts).await?;
            pairs(bench, url, bytes, client, &counts, say).await
        }
        EngineUrl::Amqp(server) => {
            let client = Amqp::connect(server, &name, &counts).await?;
            pairs(bench, url, bytes, client, &counts, say).await
        }
        EngineUrl::Memory | EngineUrl::File(_) => {
            bail!("{url} has no broker to compare with; give --engine nats://HOST or amqp://HOST")
        }
    }
}

async fn pairs(
    bench: &Bench<'_>,
    url: &EngineUrl,
    bytes: usize,
    client: impl Client,
    counts: &Arc<Counts>,
    say: &dyn Fn(String),
) -> Result<Figures> {
    let payload = Bytes::from(vec![b'x'; bytes]);
    let topic: Topic = "bench.0".parse()?;
    let service = RigService {
        name: "bench".to_owned(),
        component: bench.component.to_owned(),
        topic: topic.to_string(),
        settings: "concurrency = 1".to_owned(),
    };
    let rig = Arc::new(Rig::start_on(bench.scratch, url, &[service]).await?);

    // A first, short round warms both sides and tells how much fits into one.
    let native = flood(&client, counts, &payload, FIRST).await?;
    let bus = run(&rig, &topic, &payload, FIRST).await?;
    let fitting = |rate: f64| ((rate * RUN.as_secs_f64()) as usize).clamp(FIRST, MOST).next_multiple_of(WINDOW);
    let (of_native, of_bus) = (fitting(native), fitting(bus));
    let (mut natives, mut rates, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for pair in 1..=bench.pairs {
        let native = flood(&client, counts, &payload, of_native).await?;
        let rate = run(&rig, &topic, &payload, of_bus).await?;
        let ratio = rate / native;
        say(format!("pair {pair} of {}: {rate:.0} events/s, plain client {native:.0}, ratio {ratio:.2}", bench.pairs));
        natives.push(native);
        rates.push(rate);
        ratios.push(ratio);
    }
    let (native, rate) = (median(&mut natives), median(&mut rates));
    let pace = native.min(rate) / 2.0;
    say(format!("latency at {pace:.0} events/s"));
    let native_latency = paced(&client, counts, &payload, pace).await?;
    let latency = super::throughput::latency(&rig, &[topic], &payload, pace, LATENCY).await?;
    client.remove().await?;
    if let Some(rig) = Arc::into_inner(rig) {
        rig.stop().await?;
    }
    let at = |latency: &Histogram<u64>, quantile| latency.value_at_quantile(quantile) as f64 / 1_000.0;
    let figures = Figures::named(Case::Engine(bytes))
        .with("events_per_s", rate.round())
        .with("native_events_per_s", native.round())
        .with("ratio_to_native", (median(&mut ratios) * 1_000.0).round() / 1_000.0)
        .with("latency_at_events_per_s", pace.round())
        .with("p50_us", at(&latency, 0.5))
        .with("p99_us", at(&latency, 0.99))
        .with("native_p50_us", at(&native_latency, 0.5))
        .with("native_p99_us", at(&native_latency, 0.99));
    Ok(figures)
}

/// Publishes through the bus: batches whose events fill the window.
async fn run(rig: &Arc<Rig>, topic: &Topic, payload: &Bytes, events: usize) -> Result<f64> {
    let before = rig.counts.acked.load(Ordering::Acquire);
    let began = rig.counts.clock.monotonic_ns();
    let mut publishers = JoinSet::new();
    let (each, of) = (events / WINDOW, WINDOW / BATCH);
    for _ in 0..of {
        let (rig, topic, payload) = (Arc::clone(rig), topic.clone(), payload.clone());
        publishers.spawn(async move {
            for _ in 0..each {
                publish(&rig, || drafts(std::slice::from_ref(&topic), &payload, BATCH)).await?;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = publishers.join_next().await {
        ended??;
    }
    let sent = (each * of * BATCH) as u64;
    rig.counts.wait_for(before + sent, PATIENCE).await?;
    Ok(sent as f64 * 1e9 / (rig.counts.clock.monotonic_ns() - began) as f64)
}

/// Starts what waits for confirmations, at most [`WINDOW`] of them.
fn confirmer<C: Client>() -> (mpsc::Sender<C::Confirm>, tokio::task::JoinHandle<Result<()>>) {
    let (sender, mut confirms) = mpsc::channel::<C::Confirm>(WINDOW);
    let waiting = tokio::spawn(async move {
        while let Some(confirm) = confirms.recv().await {
            confirm.await?;
        }
        Ok(())
    });
    (sender, waiting)
}

/// Publishes through the plain client as fast as the window lets it.
async fn flood<C: Client>(client: &C, counts: &Counts, payload: &Bytes, events: usize) -> Result<f64> {
    let before = counts.acked.load(Ordering::Acquire);
    let began = counts.clock.monotonic_ns();
    let (confirms, waiting) = confirmer::<C>();
    for _ in 0..events {
        let confirm = client.send(payload.clone()).await?;
        confirms.send(confirm).await.context("the broker confirms nothing any more")?;
    }
    drop(confirms);
    waiting.await??;
    counts.wait_for(before + events as u64, PATIENCE).await?;
    Ok(events as f64 * 1e9 / (counts.clock.monotonic_ns() - began) as f64)
}

/// Publishes through the plain client at a fixed rate, whatever the broker does.
async fn paced<C: Client>(client: &C, counts: &Counts, payload: &Bytes, per_second: f64) -> Result<Histogram<u64>> {
    let total = ((per_second * LATENCY.as_secs_f64()) as usize).max(100);
    let start = counts.clock.monotonic_ns() + 20_000_000;
    let due: Vec<u64> = (0..total).map(|i| start + (i as f64 * 1e9 / per_second) as u64).collect();
    counts.time(None, due.clone())?;
    let before = counts.acked.load(Ordering::Acquire);
    let (confirms, waiting) = confirmer::<C>();
    for due in due {
        let now = counts.clock.monotonic_ns();
        if due > now {
            tokio::time::sleep(Duration::from_nanos(due - now).min(Duration::from_millis(1))).await;
        }
        let confirm = client.send(payload.clone()).await?;
        confirms.send(confirm).await.context("the broker confirms nothing any more")?;
    }
    drop(confirms);
    waiting.await??;
    counts.wait_for(before + total as u64, PATIENCE).await?;
    counts.timed()
}
