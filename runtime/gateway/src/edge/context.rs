//! What goes with a request through the gateway, beside its [`Caller`](super::auth::Caller).
//!
//! Role: the id under which a request is found in logs, the trace that it belongs to, and where it comes from. All in the
//! extensions of the request as one [`RequestContext`].

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use busway_types::{Draft, Entropy as _, SplitMix};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The header with the id of a request.
pub(crate) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The header with the W3C trace context.
pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// What goes with a request.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// Its id: the client's `x-request-id` when it is sane, else made here. Goes back in the answer.
    pub id: HeaderValue,
    /// The W3C trace context of the client, when it sent a valid one.
    pub traceparent: Option<Box<str>>,
    /// The connection.
    pub peer: Arc<Peer>,
}

impl RequestContext {
    /// Writes its trace into the draft of an event, and its id as what the journey is about, unless the draft says so itself.
    pub fn trace(&self, draft: &mut Draft) {
        let Self { traceparent, .. } = self;
        let causality = &mut *draft.causality;
        if causality.traceparent.is_none() {
            causality.traceparent.clone_from(traceparent);
        }
        if causality.correlation.is_none() {
            causality.correlation = Some(self.id().into());
        }
    }

    /// Its id as text.
    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }
}

/// The other end of a connection.
#[derive(Clone, Debug)]
pub struct Peer {
    /// Its address: the client's, or that of a proxy in front.
    pub addr: SocketAddr,
    /// Whether the connection is encrypted.
    pub is_tls: bool,
    /// The certificate that it proved to have; checked against `client-ca`.
    pub certificate: Option<PeerCertificate>,
}

/// A client's certificate that was checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerCertificate {
    /// Its common name; else its first DNS name or mail address.
    pub subject: Option<Box<str>>,
    /// The SHA-256 of its DER form, in lower-case hexadecimal.
    pub fingerprint: Box<str>,
}

/// Makes ids of requests: unpredictable enough not to collide, no secrets.
#[derive(Debug)]
pub(crate) struct RequestIds {
    seed: u64,
    next: AtomicU64,
}

impl RequestIds {
    pub(crate) fn new(seed: u64) -> Self {
        Self { seed, next: AtomicU64::new(0) }
    }

    /// The id of a request: its own when it is sane, else a new one.
    pub(crate) fn of(&self, headers: &HeaderMap) -> HeaderValue {
        match headers.get(REQUEST_ID) {
            Some(given) if is_sane(given.as_bytes()) => given.clone(),
            _ => self.make(),
        }
    }

    fn make(&self) -> HeaderValue {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        // Two generators of one seed each: the first half alone never repeats within a process.
        let first = SplitMix(self.seed.wrapping_add(count)).next_u64();
        let second = SplitMix(self.seed.rotate_left(32) ^ first).next_u64();
        HeaderValue::from_str(&format!("{first:016x}{second:016x}")).unwrap_or(HeaderValue::from_static("none"))
    }
}

/// Ids that may go into logs and headers as they are.
fn is_sane(id: &[u8]) -> bool {
    (1..=128).contains(&id.len()) && id.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~:/+=".contains(byte))
}

/// The trace context of a request, when it is one (W3C Trace Context, level 1).
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<Box<str>> {
    let mut given = headers.get_all(TRACEPARENT).iter();
    let (Some(one), None) = (given.next(), given.next()) else { return None };
    let text = one.to_str().ok()?;
    is_traceparent(text).then(|| text.into())
}

/// Whether a text is a trace context.
pub(crate) fn is_traceparent(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let [version, trace, parent, flags, ..] = parts[..] else { return false };
    let is_hex = |part: &str, len: usize| {
        part.len() == len && part.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte))
    };
    let is_set = |part: &str| part.bytes().any(|byte| byte != b'0');
    let well_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    // A later version may have more parts; what this one needs comes first.
    let known = version != "ff" && (parts.len() == 4 || version != "00") && text.len() <= 128;
    well_formed && known && is_set(trace) && is_set(parent)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    fn headers(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_str(value).expect("a header"))])
    }

    #[test]
    fn sane_ids_are_kept_and_others_replaced() {
        let ids = RequestIds::new(7);
        assert_eq!(ids.of(&headers(REQUEST_ID, "abc-1.2")), "abc-1.2");
        for bad in ["", "a b", "a\"b", "{}", &"x".repeat(129)] {
            let made = ids.of(&headers(REQUEST_ID, bad));
            assert_eq!(made.len(), 32, "{bad:?} became {made:?}");
        }
        let made: HashSet<_> = (0..1_000).map(|_| ids.of(&HeaderMap::new())).collect();
        assert_eq!(made.len(), 1_000);
    }

    #[test]
    fn only_a_valid_trace_context_is_carried() {
        let good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(traceparent(&headers(TRACEPARENT, good)).as_deref(), Some(good));
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more";
        assert_eq!(traceparent(&headers(TRACEPARENT, later)).as_deref(), Some(later));
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
        ] {
            assert_eq!(traceparent(&headers(TRACEPARENT, bad)), None, "{bad}");
        }
    }
}
