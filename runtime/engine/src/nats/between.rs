//! What nodes send one another through the server.
//!
//! Role: [`Mesh`](crate::Mesh) on subjects that no stream keeps: one for each node, and one on which the owner listens. A
//! message that is longer than the server takes goes in parts.
//!
//! Bounds: those of [`mesh`](crate::mesh); what the server does not deliver is lost.

use std::fmt::Write as _;
use std::sync::Arc;

use async_nats::Client;
use futures_util::StreamExt as _;

use crate::Sink;
use crate::mesh::{Joiner, Posted, To, split};

/// What the server's own head of a message may take of the longest payload.
const ROOM: usize = 1_024;

/// Where the owner of a bus listens.
fn to_owner(bus: &str) -> String {
    format!("busway.{bus}.owner")
}

/// Where a node listens. Names of nodes have signs that subjects must not have.
fn to_node(bus: &str, node: &str) -> String {
    node.bytes().fold(format!("busway.{bus}.node."), |mut subject, byte| {
        // Writing to a String does not fail.
        let _ = write!(subject, "{byte:02x}");
        subject
    })
}

/// Where somebody listens.
pub(super) fn subject(bus: &str, to: &To) -> String {
    match to {
        To::Owner => to_owner(bus),
        To::Node(node) => to_node(bus, node),
    }
}

/// Sends what a node wants to have sent, until it can want nothing any more.
pub(super) async fn send(client: Client, bus: String, node: String, mut posted: Posted) {
    let mut number = 0;
    while let Some((to, message)) = posted.next().await {
        let subject = subject(&bus, &to);
        number += 1;
        for part in split(&node, number, &message, client.max_payload().saturating_sub(ROOM)) {
            if let Err(error) = client.publish(subject.clone(), part).await {
                tracing::debug!("a message to another node was not sent: {error}");
                break;
            }
        }
    }
}

/// Tells what arrives on a subject.
pub(super) async fn hear(client: Client, subject: String, sink: Arc<dyn Sink>) {
    let mut arriving = match client.subscribe(subject).await {
        Ok(arriving) => arriving,
        Err(error) => {
            tracing::warn!("what other nodes send cannot be heard: {error}");
            return;
        }
    };
    let mut joiner = Joiner::default();
    while let Some(arrived) = arriving.next().await {
        if let Some((from, message)) = joiner.take(arrived.payload) {
            sink.heard(&from, message);
        }
    }
}
