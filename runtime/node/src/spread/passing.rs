//! The ways between the owner's table and the lanes of other nodes: one task for each direction.
//!
//! Role: writes chunks and reports as messages, several reports in one. What cannot be sent is given back or forgotten, so
//! that its events are given to somebody else.
//!
//! Invariant: a node says of a chunk that it has it for as long as its last report is not sent.

use std::sync::Arc;
use std::time::Duration;

use busway_engine::To;
use busway_types::Report;
use tokio::sync::mpsc;

use super::Spread;
use super::hands::Said;
use super::table::Going;
use super::wire::Message;
use crate::inner::{Inner, Stop};

/// A message with reports is sent when it is about as large.
const MESSAGE_BYTES: usize = 1024 * 1024;
/// What the lanes said that is looked at in one go.
const AT_ONCE: usize = 256;
/// How long to wait for room in the queue to the broker, and how often.
const WAIT: Duration = Duration::from_millis(20);
const WAITS: usize = 50;

/// Sends the chunks of the owner.
pub(super) async fn send_chunks(spread: Arc<Spread>, inner: Arc<Inner>, mut going: mpsc::Receiver<Going>) {
    let mut stop = inner.stop.subscribe();
    loop {
        let next = tokio::select! {
            next = going.recv() => next,
            _ = stop.wait_for(|stop| *stop == Stop::Now) => return,
        };
        let Some(Going { node, subscription, chunk }) = next else { return };
        let (Some(epoch), Some(number)) = (inner.owns(), spread.table.sending(chunk.id)) else { continue };
        let id = chunk.id;
        let message = Message::Chunk { epoch, number, subscription, chunk };
        if !spread.say(To::Node(node), &message) {
            spread.table.not_sent(id, inner.clock.monotonic_ns());
        }
    }
}

/// Reports of one message.
#[derive(Default)]
struct Batch {
    reports: Vec<Report>,
    bytes: usize,
    /// This node's numbers of the chunks that are told to the end.
    ended: Vec<u64>,
    /// The owner's numbers of those that were not run.
    back: Vec<u64>,
}

/// About what a report is long.
fn cost(report: &Report) -> usize {
    let of = |effects: &busway_types::Effects| {
        let events: usize = effects.publishes.iter().map(|event| event.cost()).sum();
        let writes: usize = effects
            .writes
            .iter()
            .map(|write| match write {
                busway_types::KvWrite::Set { key, value } => key.len() + value.len() + 16,
                other => other.key().len() + 16,
            })
            .sum();
        let reads: usize = effects.reads.iter().map(|read| read.key.len() + 16).sum();
        events + writes + reads
    };
    report.results.iter().map(|result| 64 + result.effects.as_deref().map_or(0, of)).sum()
}

/// Sends what the lanes of this node say to the owner for whom they ran.
pub(super) async fn send_reports(spread: Arc<Spread>, inner: Arc<Inner>, mut said: mpsc::Receiver<Said>) {
    let mut stop = inner.stop.subscribe();
    let mut heard = Vec::new();
    loop {
        let many = tokio::select! {
            many = said.recv_many(&mut heard, AT_ONCE) => many,
            _ = stop.wait_for(|stop| *stop == Stop::Now) => return,
        };
        if many == 0 {
            return;
        }
        // What is told of an owner that is none any more has no number of it, and an epoch that is over.
        let Some(owner) = spread.hands.owner() else {
            heard.clear();
            continue;
        };
        let mut batch = Batch::default();
        for said in heard.drain(..) {
            match said {
                Said::Report(mut report) => {
                    let Some(id) = spread.hands.of_owner(report.chunk) else { continue };
                    if report.finished {
                        batch.ended.push(report.chunk);
                    }
                    report.chunk = id;
                    batch.bytes += cost(&report);
                    batch.reports.push(report);
                }
                Said::Lost(chunk) => {
                    let Some(id) = spread.hands.of_owner(chunk) else { continue };
                    batch.ended.push(chunk);
                    batch.back.push(id);
                }
            }
            if batch.bytes >= MESSAGE_BYTES {
                send(&spread, owner.epoch, std::mem::take(&mut batch)).await;
            }
        }
        send(&spread, owner.epoch, batch).await;
    }
}

async fn send(spread: &Spread, epoch: u64, batch: Batch) {
    let Batch { reports, ended, back, .. } = batch;
    for message in [Message::Reports { epoch, reports }, Message::GaveBack { epoch, chunks: back }] {
        match &message {
            Message::Reports { reports, .. } if reports.is_empty() => continue,
            Message::GaveBack { chunks, .. } if chunks.is_empty() => continue,
            _ => {}
        }
        for _ in 0..WAITS {
            if spread.say(To::Owner, &message) {
                break;
            }
            tokio::time::sleep(WAIT).await;
        }
    }
    // If it could not be sent the owner learns with the next hello that this node does not have them any more.
    spread.hands.told(&ended);
}
