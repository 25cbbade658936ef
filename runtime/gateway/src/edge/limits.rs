//! The limits of the gateway.
//!
//! Invariant: every default is safe on the open internet; what happens at each is said with it and shown by a test in
//! `tests/edge/limits.rs`.

use std::time::Duration;

/// What clients of the gateway may use. `[gateway.limits]` of the manifest; README.md describes each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EdgeLimits {
    /// Connections at a time. Further ones wait in the system's queue until one ends.
    pub connections: usize,
    /// Connections at a time from one address (IPv4) or one /64 network (IPv6). Further ones are closed at once.
    pub connections_per_client: usize,
    /// Requests that are being answered at a time. Further ones get 503 with `Retry-After`.
    pub requests_at_once: usize,
    /// Bytes of the head of a request, and of its path. A larger one gets 431.
    pub header_bytes: usize,
    /// Headers of a request. More get 431.
    pub headers: usize,
    /// Bytes of the body of a request. A larger one gets 413.
    pub body_bytes: usize,
    /// Bytes of bodies that are held in memory at a time, of all requests together. Further ones get 503.
    pub buffered_bytes: usize,
    /// How long a TLS handshake may take. Then the connection is closed.
    pub handshake_time: Duration,
    /// How long the head of a request may take, from its first byte, and the first one from the start of the connection.
    /// Then the connection is closed.
    pub header_time: Duration,
    /// How long a kept-alive connection may be without a request. Then it is closed.
    pub idle_time: Duration,
    /// How long the gateway waits for [`Self::BODY_PROGRESS`] more bytes of a body. Then the request gets 408.
    pub body_time: Duration,
    /// How long a client may refuse to take bytes of an answer. Then the connection is closed.
    pub write_time: Duration,
    /// How long a request may take until its answer begins; streams and upgrades go on after that. Then it gets 504.
    pub request_time: Duration,
    /// Requests at a time on one HTTP/2 connection. Further ones wait at the client.
    pub streams: u32,
    /// How long the gateway still serves with its readiness gone when the node stops, so that load balancers turn away.
    pub drain_delay: Duration,
    /// How long requests in flight and streams have to end after that.
    pub drain_time: Duration,
}

impl EdgeLimits {
    /// The bytes of a body that have to arrive within `body_time`, or its end.
    pub const BODY_PROGRESS: usize = 1024;
}

impl Default for EdgeLimits {
    fn default() -> Self {
        const MIB: usize = 1024 * 1024;
        Self {
            connections: 10_000,
            connections_per_client: 256,
            requests_at_once: 1_024,
            header_bytes: 16 * 1024,
            headers: 100,
            body_bytes: 4 * MIB,
            buffered_bytes: 64 * MIB,
            handshake_time: Duration::from_secs(10),
            header_time: Duration::from_secs(10),
            idle_time: Duration::from_mins(1),
            body_time: Duration::from_secs(10),
            write_time: Duration::from_secs(30),
            request_time: Duration::from_secs(30),
            streams: 100,
            drain_delay: Duration::ZERO,
            drain_time: Duration::from_secs(10),
        }
    }
}
