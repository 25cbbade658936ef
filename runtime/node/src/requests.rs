//! Requests: from whoever asks to whoever answers, and back.
//!
//! Role: picks the service that answers (of several the one with the least to do), makes the request an event of its topic,
//! and commits what the answerer published and wrote before the answer leaves.
//!
//! Invariants: a request is answered at most once and never stored; what its handler did becomes visible only if somebody
//! still waits for the answer; nobody waits longer than the caller's own time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use busway_engine::{Engine, EngineError, Room};
use busway_host::{Answer, Answered, Ask, Lane, NotAsked, Request, RequestError};
use busway_types::{Clock, Draft, Effects, Entropy, Event, EventId, Limits, ServiceName, SplitMix, Topic};
use bytes::Bytes;
use rustc_hash::FxHashMap;
use tokio::sync::oneshot;

use crate::metrics::Metrics;

/// How often a request is answered anew because what its handler had read was changed by somebody else meanwhile.
const CONFLICTS: u32 = 16;

/// One service that answers a request.
#[derive(Clone, Debug)]
pub(crate) struct Answerer {
    pub(crate) service: ServiceName,
    pub(crate) lane: Arc<Lane>,
    /// Which of the contracts that it handles.
    pub(crate) contract: usize,
    /// Where it is counted.
    pub(crate) metrics: Arc<Metrics>,
}

/// Who answers what.
pub(crate) struct Requests {
    answerers: RwLock<FxHashMap<Topic, Vec<Answerer>>>,
    engine: Arc<dyn Engine>,
    clock: Arc<dyn Clock>,
    limits: Limits,
    entropy: Mutex<SplitMix>,
}

/// Tells the lane when nobody waits any more.
struct Waiting(Arc<AtomicBool>);

/// A request that was given to a service; counted as not answered unless something else became of it.
struct Asked {
    metrics: Arc<Metrics>,
    /// Whether it was answered; none when it is asked once more.
    is_answered: Option<bool>,
}

impl Drop for Asked {
    fn drop(&mut self) {
        if let Some(is_answered) = self.is_answered {
            self.metrics.asked(is_answered);
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Requests {
    pub(crate) fn new(engine: Arc<dyn Engine>, clock: Arc<dyn Clock>, limits: Limits, seed: u64) -> Self {
        let entropy = Mutex::new(SplitMix(seed));
        Self { answerers: RwLock::default(), engine, clock, limits, entropy }
    }

    /// Who answers from now on.
    pub(crate) fn set(&self, answerers: FxHashMap<Topic, Vec<Answerer>>) {
        *self.answerers.write().unwrap_or_else(PoisonError::into_inner) = answerers;
    }

    /// Asks; ends within the request's time.
    pub(crate) async fn ask(&self, request: Request) -> Result<Bytes, RequestError> {
        let within = request.within;
        let topic = request.topic.clone();
        let answer = self.answer(request, self.clock.monotonic_ns());
        match tokio::time::timeout(within, answer).await {
            Ok(answer) => answer,
            Err(_) => Err(RequestError::TimedOut(format!("no answer to `{topic}` within {within:?}"))),
        }
    }

    async fn answer(&self, request: Request, began_ns: u64) -> Result<Bytes, RequestError> {
        if self.engine.room() >= Room::NoTransactions {
            return Err(RequestError::Overloaded("the space for events is used up".into()));
        }
        let event = Arc::new(self.event(&request)?);
        for _ in 0..CONFLICTS {
            let gone = Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(began_ns));
            let within = request.within.saturating_sub(gone);
            let cancelled = Arc::new(AtomicBool::new(false));
            let waiting = Waiting(Arc::clone(&cancelled));
            let (tell, told) = oneshot::channel();
            let ask = || Ask {
                event: Arc::clone(&event),
                contract: 0,
                within,
                chain: Arc::clone(&request.chain),
                cancelled: Arc::clone(&cancelled),
            };
            let answer: Answer = Box::new(move |answer| drop(tell.send(answer)));
            let Answerer { service, metrics, .. } = self.submit(&request, ask, answer)?;
            let mut asked = Asked { metrics, is_answered: Some(false) };
            let Ok(answer) = told.await else {
                return Err(RequestError::Overloaded(format!("`{service}` stopped before it answered")));
            };
            drop(waiting);
            let Answered { data, effects } = answer?;
            if let Some(effects) = effects {
                match self.commit(&service, *effects).await {
                    Ok(()) => {}
                    Err(EngineError::Conflict(_)) => {
                        asked.is_answered = None;
                        continue;
                    }
                    Err(error) => return Err(RequestError::Overloaded(error.to_string())),
                }
            }
            asked.is_answered = Some(true);
            return Ok(data);
        }
        Err(RequestError::Overloaded("others kept changing what the handler reads from key-value".into()))
    }

    async fn commit(&self, service: &ServiceName, effects: Effects) -> Result<(), EngineError> {
        self.engine.commit(service, effects).await
    }

    /// Gives the request to the service with the least to do that takes it.
    fn submit(&self, request: &Request, ask: impl Fn() -> Ask, answer: Answer) -> Result<Answerer, RequestError> {
        let topic = &request.topic;
        let mut candidates = {
            let answerers = self.answerers.read().unwrap_or_else(PoisonError::into_inner);
            answerers.get(topic).cloned().unwrap_or_default()
        };
        // Loads change meanwhile: each is looked at once.
        let mut candidates: Vec<_> = candidates.drain(..).map(|answerer| (answerer.lane.load(), answerer)).collect();
        candidates.sort_by(|(a, _), (b, _)| a.total_cmp(b));
        let (mut why, mut answer) = (None, Some(answer));
        for (_, candidate) in candidates {
            match candidate.lane.ask(Ask { contract: candidate.contract, ..ask() }, &mut answer) {
                Ok(()) => return Ok(candidate),
                Err(refused) => why = Some((candidate.service, refused)),
            }
        }
        Err(match why {
            None => RequestError::NoHandler(topic.clone()),
            Some((service, NotAsked::Deadlock)) => {
                let chain = request.chain.iter().map(ServiceName::as_str).collect::<Vec<_>>().join(" -> ");
                RequestError::Deadlock(format!(
                    "{chain} -> {service}: every instance of `{service}` is waiting, one of them for this answer; raise its \
                     `concurrency`, or do not ask back"
                ))
            }
            Some((service, refused)) => {
                RequestError::Overloaded(format!("`{service}` does not answer `{topic}`: {refused}"))
            }
        })
    }

    fn event(&self, request: &Request) -> Result<Event, RequestError> {
        let Request { id, topic, key, data, causality, .. } = request.clone();
        let now = self.clock.now();
        let id = id.unwrap_or_else(|| {
            let mut entropy = self.entropy.lock().unwrap_or_else(PoisonError::into_inner);
            EventId::new(now, &mut *entropy as &mut dyn Entropy)
        });
        let mut draft = Draft::new(topic, data);
        draft.key = key;
        draft.content_type = Some("application/json".into());
        draft.causality = causality;
        draft.admit(id, now, &self.limits).map_err(|error| RequestError::Failed(error.to_string()))
    }
}
