//! What publishing over HTTP takes: a gateway with keys before a bus on disk, and a service that handles what comes.
//!
//! Method: a node in this process with the default durability, so that a request is answered when its events are synced;
//! each request shows an API key and carries `CloudEvents`, one (structured) or ten (batched), each with an id of its own to be
//! told apart by. The load comes over kept-alive connections of the loopback from one thread beside the node. Throughput: every
//! connection sends its next request when the last one was answered; counted are events that were acknowledged to the
//! publisher *and* handled, until the last one was. The median of the rounds is printed, and the latency at half of it.

mod load;

use std::fmt::Write as _;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context as _, Result};
use busway_gateway::edge::auth::ApiKey;
use busway_types::Clock as _;

use self::load::Load;
use super::case::{Case, Place};
use super::report::Figures;
use super::rig::{Rig, RigService};
use super::throughput::{Bench, PATIENCE, median};

/// How long one round of requests lasts.
const RUN: Duration = Duration::from_secs(2);
/// How long the first one lasts, which is not counted.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long latency is measured.
const LATENCY: Duration = Duration::from_secs(5);

/// What the events are published to.
const TOPIC: &str = "bench.0";

/// Measures requests with `events` events each.
pub(super) async fn measure(bench: &Bench<'_>, events: usize, say: &dyn Fn(String)) -> Result<Figures> {
    let key = ApiKey::generate()?;
    let service = RigService {
        name: "bench".to_owned(),
        component: bench.component.to_owned(),
        topic: "bench.>".to_owned(),
        settings: "concurrency = 1".to_owned(),
    };
    let rig = Rig::start_with(bench.scratch, Place::Disk, &[service], &gateway(&key)).await?;
    let addr = rig.node.gateway_addr().context("the gateway of the node does not listen")?;
    let load = Load::new(addr, &key, TOPIC, events)?;
    run(&rig, &load, WARM_UP).await?;
    let mut rates = Vec::new();
    for round in 1..=bench.pairs {
        let rate = run(&rig, &load, RUN).await?;
        say(format!("round {round} of {}: {rate:.0} events/s, {:.0} requests/s", bench.pairs, rate / events as f64));
        rates.push(rate);
    }
    let rate = median(&mut rates);
    let requests = rate / 2.0 / events as f64;
    say(format!("latency at {requests:.0} requests/s"));
    let latency = load.paced(requests, LATENCY).await?;
    rig.stop().await?;
    Ok(Figures::unpaired(Case::HttpPublish(events), rate, &latency))
}

/// The manifest's part about the gateway: one key, and no other limit for it than what the machine can do.
fn gateway(key: &ApiKey) -> String {
    let mut manifest = "[gateway]\nlisten = \"127.0.0.1:0\"\n\n[gateway.rate]\nrequests = \"1000000/s\"\n\n".to_owned();
    let _ =
        writeln!(manifest, "[gateway.auth.keys.bench]\nsha256 = \"{}\"\nscopes = [\"publish:bench.>\"]", key.hash());
    manifest
}

/// Sends as much as is taken for a while; gives events per second, until the last one was handled.
async fn run(rig: &Rig, load: &Arc<Load>, time: Duration) -> Result<f64> {
    let before = rig.counts.acked.load(Ordering::Acquire);
    let began = rig.counts.clock.monotonic_ns();
    let sent = load.flood(time).await?;
    rig.counts.wait_for(before + sent, PATIENCE).await?;
    Ok(sent as f64 * 1e9 / (rig.counts.clock.monotonic_ns() - began) as f64)
}
