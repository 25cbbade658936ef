//! Where the load comes from: one thread with kept-alive connections, beside the node and not among its tasks.
//!
//! Invariants: a run ends after its time and has a bound in requests; whatever is not `202 Accepted` fails it; a paced run
//! sends at fixed times whatever the gateway does, and counts from when a request was due, so that requests which wait behind a
//! slow one count as slow themselves.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use busway_gateway::edge::auth::ApiKey;
use busway_types::{Clock as _, SystemClock};
use bytes::Bytes;
use hdrhistogram::Histogram;
use http::header::{AUTHORIZATION, CONTENT_TYPE, HOST};
use http::{HeaderValue, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

/// Connections, and so requests at a time.
const CONNECTIONS: usize = 64;
/// The most requests that one connection sends in a run, and that a paced run sends.
const MOST: usize = 1_000_000;
/// The data of an event: 100 bytes of JSON.
const DATA: usize = 100;

/// One end of a connection.
type Sender = SendRequest<Full<Bytes>>;

/// Whom to send what.
pub(super) struct Load {
    addr: SocketAddr,
    host: HeaderValue,
    authorization: HeaderValue,
    topic: &'static str,
    /// Events of a request.
    events: usize,
    /// The next id of an event.
    next: AtomicU64,
    clock: SystemClock,
}

impl Load {
    pub(super) fn new(addr: SocketAddr, key: &ApiKey, topic: &'static str, events: usize) -> Result<Arc<Self>> {
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", key.as_str()))?;
        authorization.set_sensitive(true);
        let host = HeaderValue::from_str(&addr.to_string())?;
        let (next, clock) = (AtomicU64::new(0), SystemClock::new());
        Ok(Arc::new(Self { addr, host, authorization, topic, events, next, clock }))
    }

    /// Sends on every connection, one request after the other, for `time`; gives the events that were taken.
    pub(super) async fn flood(self: &Arc<Self>, time: Duration) -> Result<u64> {
        let load = Arc::clone(self);
        apart(async move {
            let until = load.clock.monotonic_ns() + time.as_nanos() as u64;
            let mut connections = JoinSet::new();
            for _ in 0..CONNECTIONS {
                let load = Arc::clone(&load);
                connections.spawn(async move {
                    let all = async |mut sender: Sender| {
                        let mut sent = 0;
                        while sent < MOST && load.clock.monotonic_ns() < until {
                            load.send(&mut sender).await?;
                            sent += 1;
                        }
                        Ok(sent * load.events)
                    };
                    load.connected(all).await
                });
            }
            let mut events = 0;
            while let Some(sent) = connections.join_next().await {
                events += sent?? as u64;
            }
            Ok(events)
        })
        .await
    }

    /// Sends `per_second` requests a second for `time`; gives the time from when each was due to its answer.
    pub(super) async fn paced(self: &Arc<Self>, per_second: f64, time: Duration) -> Result<Histogram<u64>> {
        let load = Arc::clone(self);
        let total = ((per_second * time.as_secs_f64()) as usize).clamp(1, MOST);
        apart(async move {
            let (send, queue) = mpsc::channel(total);
            let queue = Arc::new(Mutex::new(queue));
            let mut connections = JoinSet::new();
            for _ in 0..CONNECTIONS {
                let (load, queue) = (Arc::clone(&load), Arc::clone(&queue));
                connections.spawn(async move {
                    let all = async |mut sender: Sender| {
                        let mut took = Vec::new();
                        loop {
                            let due = queue.lock().await.recv().await;
                            let Some(due) = due else { return Ok(took) };
                            load.send(&mut sender).await?;
                            took.push(load.clock.monotonic_ns().saturating_sub(due));
                        }
                    };
                    load.connected(all).await
                });
            }
            drop(queue);
            let clock = load.clock;
            // The timer of the runtime would be late by up to a millisecond.
            tokio::task::spawn_blocking(move || {
                let start = clock.monotonic_ns();
                for due in (0..total).map(|n| start + (n as f64 * 1e9 / per_second) as u64) {
                    std::thread::sleep(Duration::from_nanos(due.saturating_sub(clock.monotonic_ns())));
                    // It holds all of them; when nobody takes any more, somebody has failed and says so.
                    if send.try_send(due).is_err() {
                        return;
                    }
                }
            });
            let mut latency = Histogram::new_with_bounds(1, 600_000_000_000, 3)?;
            while let Some(took) = connections.join_next().await {
                took??.into_iter().for_each(|ns| latency.saturating_record(ns));
            }
            Ok(latency)
        })
        .await
    }

    /// Does something on a connection of its own.
    async fn connected<T>(&self, work: impl AsyncFnOnce(Sender) -> Result<T>) -> Result<T> {
        let stream = TcpStream::connect(self.addr).await.context("the gateway cannot be reached")?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the sender; what goes wrong before that is told to whoever sends.
        let (done, _) = tokio::join!(work(sender), connection);
        done
    }

    async fn send(&self, sender: &mut Sender) -> Result<()> {
        let kind = if self.events == 1 { "application/cloudevents+json" } else { "application/cloudevents-batch+json" };
        let request = Request::post("/events")
            .header(HOST, &self.host)
            .header(AUTHORIZATION, &self.authorization)
            .header(CONTENT_TYPE, HeaderValue::from_static(kind))
            .body(Full::new(self.body()))?;
        sender.ready().await?;
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        if status != StatusCode::ACCEPTED {
            bail!("the gateway answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(())
    }

    /// The next events.
    fn body(&self) -> Bytes {
        let first = self.next.fetch_add(self.events as u64, Relaxed);
        let mut body = String::with_capacity(self.events * 300);
        for id in first..first + self.events as u64 {
            body.push(if id == first { '[' } else { ',' });
            let (topic, filler) = (self.topic, "x".repeat(DATA - 11));
            let _ = write!(
                body,
                r#"{{"specversion":"1.0","id":"{id}","source":"/bench","type":"{topic}","datacontenttype":"application/json","data":{{"text":"{filler}"}}}}"#
            );
        }
        body.push(']');
        if self.events == 1 { body[1..body.len() - 1].to_owned().into() } else { body.into() }
    }
}

/// Runs something on a thread of its own.
async fn apart<T: Send + 'static>(work: impl Future<Output = Result<T>> + Send + 'static) -> Result<T> {
    let run = move || tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work);
    tokio::task::spawn_blocking(run).await?
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bodies(events: usize) -> Vec<serde_json::Value> {
        let key = ApiKey::generate().expect("random");
        let load = Load::new(([127, 0, 0, 1], 1).into(), &key, "bench.0", events).expect("a load");
        (0..2).map(|_| serde_json::from_slice(&load.body()).expect("JSON")).collect()
    }

    #[test]
    fn every_event_is_a_cloud_event_of_its_own_with_100_bytes_of_data() {
        let one = bodies(1);
        let ten: Vec<_> = bodies(10).into_iter().flat_map(|body| body.as_array().expect("a batch").clone()).collect();
        assert_eq!((one.len(), ten.len()), (2, 20));
        for events in [one, ten] {
            for (n, event) in events.iter().enumerate() {
                assert_eq!(event["id"], n.to_string());
                assert_eq!(event["type"], "bench.0");
                assert_eq!(event["data"].to_string().len(), DATA);
            }
        }
    }
}
