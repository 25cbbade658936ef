//! What guests on a node that waits need of the one that owns the bus.
//!
//! Role: key-value as it is committed, and answers to requests, asked of the owner over the mesh. What a guest read there carries its
//! version, so conflicts are found when the owner commits, as for its own guests. Publications are in the reports.
//!
//! Invariant: the owner gives a request up before whoever asked does, unless the way between them takes longer than
//! [`Wanted::within`] leaves: what became of it is told, and nothing of an answer that nobody waits for becomes visible.
//!
//! Bound: [`KV_FOR`] for what a guest reads; a request has its own time. Guests wait on their own threads.

use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use busway_engine::{Engine, EngineError, KvSelect};
use busway_host::{Refusal, Request, RequestError};
use busway_types::{Clock, EventId, Key, KvVersion, Origin, ServiceName, Topic};
use bytes::{Buf as _, BufMut as _, Bytes};
use serde::{Deserialize, Serialize};
use tokio::runtime::Handle;

use super::Spread;
use crate::admin::Asked;
use crate::inner::Inner;

/// How long a guest waits for what it reads.
const KV_FOR: Duration = Duration::from_secs(5);
/// What the owner has less for a request than whoever asked, for the way there and back; of a short time a tenth.
const ON_THE_WAY: Duration = Duration::from_millis(200);
/// How old the size of a service's key-value may be that is used for its limit.
const SIZE_FOR_NS: u64 = 1_000_000_000;

/// What the owner is asked for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Errand {
    KvGet { service: ServiceName, key: String },
    KvKeys { service: ServiceName, prefix: String, after: Option<String>, limit: usize },
    KvBytes { service: ServiceName },
    Request(Box<Wanted>),
}

/// A request as it goes to another node.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Wanted {
    id: Option<EventId>,
    topic: Topic,
    key: Option<String>,
    data: String,
    source: Option<ServiceName>,
    cause: Option<EventId>,
    correlation: Option<Box<str>>,
    traceparent: Option<Box<str>>,
    hops: u8,
    chosen_id: bool,
    within_ms: u64,
    chain: Vec<ServiceName>,
}

/// Why a request was not answered, as it goes to another node.
#[derive(Debug, Serialize, Deserialize)]
enum Unanswered {
    NoHandler(Topic),
    Overloaded(String),
    Deadlock(String),
    TimedOut(String),
    Failed(String),
}

impl From<RequestError> for Unanswered {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::NoHandler(topic) => Self::NoHandler(topic),
            RequestError::Overloaded(why) => Self::Overloaded(why),
            RequestError::Deadlock(why) => Self::Deadlock(why),
            RequestError::TimedOut(why) => Self::TimedOut(why),
            RequestError::Failed(why) => Self::Failed(why),
        }
    }
}

impl From<Unanswered> for RequestError {
    fn from(error: Unanswered) -> Self {
        match error {
            Unanswered::NoHandler(topic) => Self::NoHandler(topic),
            Unanswered::Overloaded(why) => Self::Overloaded(why),
            Unanswered::Deadlock(why) => Self::Deadlock(why),
            Unanswered::TimedOut(why) => Self::TimedOut(why),
            Unanswered::Failed(why) => Self::Failed(why),
        }
    }
}

impl Wanted {
    /// The owner's part of the time that a request has.
    fn within(all: Duration) -> Duration {
        all.saturating_sub(ON_THE_WAY.min(all / 10))
    }

    fn new(request: &Request) -> Option<Self> {
        let Origin { source, cause, correlation, traceparent, hops, chosen_id } = (*request.causality).clone();
        Some(Self {
            id: request.id,
            topic: request.topic.clone(),
            key: request.key.as_ref().map(|key| key.as_str().to_owned()),
            data: std::str::from_utf8(&request.data).ok()?.to_owned(),
            source,
            cause,
            correlation,
            traceparent,
            hops,
            chosen_id,
            within_ms: u64::try_from(Self::within(request.within).as_millis()).unwrap_or(u64::MAX),
            chain: request.chain.to_vec(),
        })
    }

    fn into_request(self) -> Request {
        let Self { id, topic, key, data, source, cause, correlation, traceparent, hops, chosen_id, within_ms, chain } =
            self;
        Request {
            id,
            topic,
            key: key.map(|key| Key::stored(&key)),
            data: data.into(),
            causality: Origin { source, cause, correlation, traceparent, hops, chosen_id }.into(),
            within: Duration::from_millis(within_ms),
            chain: chain.into(),
        }
    }
}

/// A value of key-value, or why there is none, as bytes.
#[derive(Debug, PartialEq, Eq)]
struct KvAnswer(Result<(Option<Bytes>, KvVersion), String>);

impl KvAnswer {
    fn write(&self) -> Vec<u8> {
        let mut out = Vec::new();
        match &self.0 {
            Ok((value, version)) => {
                out.push(u8::from(value.is_some()));
                out.put_u64_le(*version);
                out.extend_from_slice(value.as_deref().unwrap_or_default());
            }
            Err(why) => {
                out.push(2);
                out.extend_from_slice(why.as_bytes());
            }
        }
        out
    }

    fn read(mut bytes: Bytes) -> Option<Self> {
        let what = bytes.try_get_u8().ok()?;
        if what == 2 {
            return Some(Self(Err(String::from_utf8_lossy(&bytes).into_owned())));
        }
        let version = bytes.try_get_u64_le().ok()?;
        match what {
            0 if bytes.is_empty() => Some(Self(Ok((None, version)))),
            1 => Some(Self(Ok((Some(bytes), version)))),
            _ => None,
        }
    }
}

impl Errand {
    /// Does it, on the node that owns the bus; gives the answer as bytes.
    pub(crate) async fn run(self, inner: &Inner) -> Result<Vec<u8>, serde_json::Error> {
        match self {
            Self::KvGet { service, key } => {
                let found = inner.patiently(|| inner.engine.kv_get(&service, &key));
                Ok(KvAnswer(found.map_err(|error| error.to_string())).write())
            }
            Self::KvKeys { service, prefix, after, limit } => {
                let select = KvSelect { prefix: &prefix, after: after.as_deref(), limit };
                let found = inner.patiently(|| inner.engine.kv_keys(&service, &select));
                serde_json::to_vec(&found.map_err(|error| error.to_string()))
            }
            Self::KvBytes { service } => serde_json::to_vec(&inner.engine.kv_bytes(&service)),
            Self::Request(wanted) => {
                let answer = inner.requests.ask(wanted.into_request()).await;
                let answer = answer.map(|data| String::from_utf8_lossy(&data).into_owned()).map_err(Unanswered::from);
                serde_json::to_vec(&answer)
            }
        }
    }
}

/// Runs errands for the guests of one service.
pub(crate) struct Errands {
    spread: Arc<Spread>,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    /// The size of the service's key-value, and when it was asked for.
    size: Mutex<(usize, u64)>,
}

/// What another node answered makes no sense.
fn strange() -> Refusal {
    Refusal::Overloaded("the owner of the bus answers something that this version of busway does not know".into())
}

impl Errands {
    /// None where no other node shares the bus.
    pub(crate) fn new(inner: &Inner, runtime: &Handle) -> Option<Self> {
        let spread = Arc::clone(inner.spread.as_ref()?);
        let (engine, clock) = (Arc::clone(&inner.engine), Arc::clone(&inner.clock));
        Some(Self { spread, engine, clock, runtime: runtime.clone(), size: Mutex::new((0, 0)) })
    }

    fn asking(
        &self,
        errand: Errand,
        within: Duration,
    ) -> impl Future<Output = Result<Bytes, EngineError>> + Send + 'static {
        let (spread, engine) = (Arc::clone(&self.spread), Arc::clone(&self.engine));
        async move {
            let moved = || "the bus comes to this node just now".to_owned();
            let asked = serde_json::to_vec(&Asked::Errand(errand));
            let asked = asked.map_err(|error| EngineError::Refused(error.to_string()))?;
            let whose = engine.standby().unwrap_or_else(moved);
            match tokio::time::timeout(within, spread.ask_within(within, asked.into(), &whose)).await {
                Ok(answer) => answer,
                Err(_) => Err(EngineError::Unanswered(format!("{whose}, and it did not answer within {within:?}"))),
            }
        }
    }

    /// Asks, and waits on this thread, which is a guest's.
    fn ask(&self, errand: Errand) -> Result<Bytes, Refusal> {
        let (tell, told) = sync_channel(1);
        let asking = self.asking(errand, KV_FOR);
        let task = self.runtime.spawn(async move {
            // Whoever asked waits for this.
            let _ = tell.send(asking.await);
        });
        let answer = told.recv_timeout(KV_FOR.saturating_mul(2));
        task.abort();
        match answer {
            Ok(answer) => answer.map_err(|error| match error {
                // Nothing takes effect by being read.
                EngineError::Unanswered(why) => Refusal::Overloaded(why),
                error => Refusal::Overloaded(error.to_string()),
            }),
            Err(_) => Err(Refusal::Overloaded("the node stops".into())),
        }
    }

    pub(crate) fn kv_get(&self, service: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), Refusal> {
        let answer = self.ask(Errand::KvGet { service: service.clone(), key: key.to_owned() })?;
        KvAnswer::read(answer).ok_or_else(strange)?.0.map_err(Refusal::Overloaded)
    }

    pub(crate) fn kv_keys(&self, service: &ServiceName, select: &KvSelect<'_>) -> Result<Vec<Box<str>>, Refusal> {
        let KvSelect { prefix, after, limit } = *select;
        let (service, prefix, after) = (service.clone(), prefix.to_owned(), after.map(str::to_owned));
        let answer = self.ask(Errand::KvKeys { service, prefix, after, limit })?;
        let keys: Result<Vec<Box<str>>, String> = serde_json::from_slice(&answer).map_err(|_| strange())?;
        keys.map_err(Refusal::Overloaded)
    }

    /// Asked anew once a second at most; nothing may be added when nobody knows.
    pub(crate) fn kv_bytes(&self, service: &ServiceName) -> usize {
        let now_ns = self.clock.monotonic_ns();
        let (known, at_ns) = *self.size.lock().unwrap_or_else(PoisonError::into_inner);
        if at_ns != 0 && now_ns.saturating_sub(at_ns) < SIZE_FOR_NS {
            return known;
        }
        let answer = self.ask(Errand::KvBytes { service: service.clone() }).ok();
        let Some(bytes) = answer.and_then(|answer| serde_json::from_slice(&answer).ok()) else { return usize::MAX };
        *self.size.lock().unwrap_or_else(PoisonError::into_inner) = (bytes, now_ns.max(1));
        bytes
    }

    /// Has the owner ask whoever answers a request there.
    pub(crate) fn request(
        &self,
        request: &Request,
    ) -> impl Future<Output = Result<Bytes, RequestError>> + Send + 'static {
        let within = request.within;
        let asking = Wanted::new(request).map(|wanted| self.asking(Errand::Request(Box::new(wanted)), within));
        async move {
            let Some(asking) = asking else {
                return Err(RequestError::Failed("the parameters are no text".into()));
            };
            let answer = asking.await.map_err(|error| match error {
                EngineError::Overloaded(why) => RequestError::Overloaded(why),
                error => RequestError::TimedOut(error.to_string()),
            })?;
            match serde_json::from_slice::<Result<String, Unanswered>>(&answer) {
                Ok(answer) => answer.map(Bytes::from).map_err(RequestError::from),
                Err(_) => Err(RequestError::Failed(strange().to_string())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_survive_their_bytes_and_garbage_is_refused() {
        let answers = [
            Ok((None, 0)),
            Ok((Some(Bytes::new()), u64::MAX)),
            Ok((Some(Bytes::from_static(b"value")), 7)),
            Err("away".to_owned()),
        ];
        for answer in answers {
            let answer = KvAnswer(answer);
            assert_eq!(KvAnswer::read(answer.write().into()), Some(answer));
        }
        for garbage in [&[][..], &[0], &[1, 0], &[3, 0, 0, 0, 0, 0, 0, 0, 0], &[0, 0, 0, 0, 0, 0, 0, 0, 0, 1]] {
            assert_eq!(KvAnswer::read(Bytes::copy_from_slice(garbage)), None);
        }
    }

    #[test]
    fn a_request_is_the_same_on_the_other_side_but_for_the_time_on_the_way() {
        let origin =
            Origin { source: Some("a".parse().expect("a name")), hops: 3, chosen_id: true, ..Origin::default() };
        let request = Request {
            id: Some(EventId::from_u128(7)),
            topic: "shop.ask".parse().expect("a topic"),
            key: Some(Key::stored("k")),
            data: Bytes::from_static(b"{\"a\":1}"),
            causality: origin.into(),
            within: Duration::from_secs(20),
            chain: vec!["a".parse().expect("a name")].into(),
        };
        let sent = serde_json::to_vec(&Wanted::new(&request).expect("text")).expect("JSON");
        let read: Wanted = serde_json::from_slice(&sent).expect("JSON");
        let there = Request { within: Duration::from_millis(19_800), ..request };
        assert_eq!(format!("{:?}", read.into_request()), format!("{there:?}"));
        assert_eq!(Wanted::within(Duration::from_millis(250)), Duration::from_millis(225));
    }
}
