//! The delivery in hand, and the chunk that it belongs to.
//!
//! Role: the transaction of one delivery. What it publishes and writes is noted here and leaves only with an
//! acknowledgement; otherwise it is dropped with this value.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use busway_types::{Causality, Chunk, DeliveryResult, Draft, Effects, Event, EventId, Limits, Origin, Report, mutant};

use super::kv::{KvTransaction, Left, Overlay};
use super::limiter::{MemoryLimiter, mib};
use super::{GuestState, Mode};
use crate::capability::Refusal;
use crate::lane::LaneSink;
use crate::typed::{Answering, Request};

/// A chunk that runs longer than this is reported in parts.
pub(crate) const REPORT_AFTER: Duration = Duration::from_millis(5);

/// The chunk in progress.
pub(crate) struct ChunkContext {
    /// The chunk itself, so that no delivery has to share its event, whose count other threads change too.
    pub(crate) chunk: Arc<Chunk>,
    /// The name of its subscription.
    subscription: Arc<str>,
    pub(crate) sink: Arc<dyn LaneSink>,
    /// Results that were not reported yet.
    pub(crate) results: Vec<DeliveryResult>,
    /// How many results were reported; survives a panic.
    reported: Arc<AtomicUsize>,
    pub(crate) last_report_ns: u64,
    /// What acknowledged deliveries of this chunk wrote, so that later ones read it.
    pub(super) overlay: Overlay,
    /// Bytes that acknowledged deliveries of this chunk publish and write.
    pub(crate) outbox_bytes: usize,
}

impl ChunkContext {
    pub(crate) fn new(
        chunk: Arc<Chunk>,
        subscription: Arc<str>,
        sink: Arc<dyn LaneSink>,
        now_ns: u64,
        reported: Arc<AtomicUsize>,
    ) -> Self {
        let results = Vec::with_capacity(chunk.deliveries.len());
        let overlay = Overlay::default();
        Self { chunk, subscription, sink, results, reported, last_report_ns: now_ns, overlay, outbox_bytes: 0 }
    }

    /// Reports what is there if the last report was a while ago.
    pub(crate) fn report_if_long(&mut self, now_ns: u64) {
        let long = u64::try_from(REPORT_AFTER.as_nanos()).unwrap_or(u64::MAX);
        if !self.results.is_empty() && now_ns.saturating_sub(self.last_report_ns) >= long {
            self.last_report_ns = now_ns;
            self.report(false);
        }
    }

    /// Reports what is there.
    pub(crate) fn report(&mut self, finished: bool) {
        let results = std::mem::take(&mut self.results);
        // A report is settled on its own: what it wrote is read from there from now on.
        self.overlay.clear();
        self.reported.fetch_add(results.len(), Ordering::Relaxed);
        self.sink.report(Report { chunk: self.chunk.id, sub: self.chunk.sub, results, finished });
    }
}

/// From here on the indexes of derived ids are those of requests, below those of events; a delivery publishes far fewer.
const REQUESTS_FROM: u32 = 1 << 31;

/// What a caller keeps of its time for itself when it asks, or a twentieth if that is more.
const LEAST_LEFT: Duration = Duration::from_millis(10);

/// The delivery in hand.
#[derive(Default)]
pub(crate) struct Delivering {
    /// Its place in the chunk; none outside of deliveries.
    place: Option<usize>,
    pub(super) attempt: u32,
    published: Vec<Arc<Event>>,
    published_bytes: usize,
    /// Requests that it asked.
    asked: u32,
    pub(super) kv: KvTransaction,
}

impl Delivering {
    /// Voids what a failed delivery left.
    fn void(&mut self) {
        self.place = None;
        if !mutant("outbox-released-on-error") {
            self.published.clear();
        }
        self.kv.void();
    }

    /// Notes events in the outbox, all or none.
    fn publish(
        &mut self,
        input: &Event,
        service: &super::Service,
        limiter: &mut MemoryLimiter,
        (subscription, generation): (&str, u32),
        is_answer: bool,
        drafts: Vec<Draft>,
    ) -> Result<Vec<EventId>, Refusal> {
        let Limits { outbox_events, outbox_bytes, .. } = service.limits;
        if self.published.len() + drafts.len() > outbox_events {
            return Err(Refusal::TooLarge(format!("one delivery may publish at most {outbox_events} events")));
        }
        let (mut events, mut bytes, mut cost) = (Vec::with_capacity(drafts.len()), self.published_bytes, 0);
        for mut draft in drafts {
            draft.causality = causality(input, is_answer, service);
            let index = u32::try_from(self.published.len() + events.len()).unwrap_or(u32::MAX);
            let id = draft.id.unwrap_or_else(|| EventId::derived(input.id, subscription, generation, index));
            let event = service.bus.admit(&service.settings.name, draft, Some(id))?;
            bytes += event.payload_bytes();
            cost += event.cost();
            if bytes > outbox_bytes {
                return Err(Refusal::TooLarge(format!("one delivery may publish at most {}", mib(outbox_bytes))));
            }
            events.push(Arc::new(event));
        }
        if !limiter.hold(cost) {
            return Err(Refusal::TooLarge(format!("the memory limit of {} is reached", mib(limiter.limit()))));
        }
        self.published_bytes = bytes;
        let ids = events.iter().map(|event| event.id).collect();
        self.published.append(&mut events);
        Ok(ids)
    }
}

fn in_hand<'s>(chunk: Option<&'s ChunkContext>, delivery: &Delivering) -> Option<&'s Event> {
    chunk?.chunk.deliveries.get(delivery.place?).map(|delivery| &*delivery.logged.event)
}

/// The causality of what a delivery of `input` publishes. A request is not stored: what is published while it is answered was
/// caused by the event that the caller had in hand.
fn causality(input: &Event, is_answer: bool, service: &super::Service) -> Causality {
    let Origin { correlation, traceparent, hops, cause, .. } = &*input.causality;
    Origin {
        source: Some(service.settings.name.clone()),
        cause: if is_answer { *cause } else { Some(input.id) },
        correlation: Some(correlation.clone().unwrap_or_else(|| input.id.to_string().into_boxed_str())),
        traceparent: traceparent.clone(),
        hops: hops.saturating_add(1),
        chosen_id: false,
    }
    .into()
}

impl GuestState {
    /// The event in hand; none outside of deliveries.
    pub(super) fn event(&self) -> Option<&Event> {
        in_hand(self.chunk.as_ref(), &self.delivery)
    }

    /// The delivery at this place of the chunk begins.
    pub(crate) fn begin_delivery(&mut self, place: usize, attempt: u32, now_ns: u64) {
        self.limiter.begin();
        self.meter.begin(now_ns, Some(self.service.settings.timeout));
        self.mode = Mode::Delivery;
        self.next = None;
        if !self.chain.is_empty() {
            self.chain = Arc::default();
        }
        self.delivery.place = Some(place);
        self.delivery.attempt = attempt;
        self.delivery.published_bytes = 0;
        self.delivery.asked = 0;
    }

    /// The delivery was acknowledged: gives what becomes visible, which later deliveries of the chunk can read.
    pub(crate) fn acknowledge(&mut self) -> Option<Box<Effects>> {
        self.mode = Mode::Idle;
        self.delivery.place = None;
        let Delivering { published, published_bytes, kv, .. } = &mut self.delivery;
        if published.is_empty() && kv.is_untouched() {
            return None;
        }
        let mut none = Overlay::default();
        let overlay = self.chunk.as_mut().map_or(&mut none, |chunk| &mut chunk.overlay);
        let Left { reads, scans, writes, bytes } = std::mem::take(kv).commit(overlay);
        if let Some(chunk) = &mut self.chunk {
            chunk.outbox_bytes = chunk.outbox_bytes.saturating_add(*published_bytes).saturating_add(bytes);
        }
        let effects = Effects { reads, scans, writes, publishes: std::mem::take(published) };
        (!effects.is_empty()).then(|| Box::new(effects))
    }

    /// The delivery failed: nothing of it becomes visible.
    pub(crate) fn void_delivery(&mut self) {
        self.mode = Mode::Idle;
        self.delivery.void();
    }

    /// Asks for the guest; the answer is to be waited for.
    pub(crate) fn request(&mut self, draft: Draft) -> Result<Answering, Refusal> {
        let service = &self.service;
        let source = Origin { source: Some(service.settings.name.clone()), ..Origin::default() };
        let causality = match (self.mode, in_hand(self.chunk.as_ref(), &self.delivery)) {
            (Mode::Idle, _) => {
                return Err(Refusal::Denied("asking is possible while handling something and in tasks".into()));
            }
            (Mode::Delivery, Some(input)) => causality(input, !self.chain.is_empty(), service),
            (Mode::Delivery | Mode::Task, _) => source.into(),
            (Mode::Http, _) => self.http.trace.origin(source).into(),
        };
        let mut chain = self.chain.to_vec();
        chain.push(service.settings.name.clone());
        let left = match self.mode {
            // What is metered there is computing, not waiting.
            Mode::Http => service.settings.timeout,
            _ => self.meter.remaining().unwrap_or(service.settings.timeout),
        };
        // The caller keeps some of its time, to do something about a request that is not answered.
        let within = left.saturating_sub((left / 20).max(LEAST_LEFT)).max(left / 2);
        let Draft { topic, key, data, .. } = draft;
        // Another attempt asks under the same ids, so that whoever answers can tell a repetition.
        let id = in_hand(self.chunk.as_ref(), &self.delivery).map(|input| {
            let (subscription, generation) =
                self.chunk.as_ref().map_or(("", 0), |chunk| (&*chunk.subscription, chunk.chunk.generation));
            EventId::derived(input.id, subscription, generation, REQUESTS_FROM.saturating_add(self.delivery.asked))
        });
        self.delivery.asked = self.delivery.asked.saturating_add(1);
        let request = Request { id, topic, key, data, causality, within, chain: chain.into() };
        Ok(service.bus.request(&service.settings.name, request))
    }

    /// Publishes for the guest, as the mode asks for.
    pub(crate) fn publish(&mut self, mut drafts: Vec<Draft>) -> Result<Vec<EventId>, Refusal> {
        let service = &self.service;
        match self.mode {
            Mode::Idle => Err(Refusal::Denied("publishing is possible while handling something and in tasks".into())),
            Mode::Task | Mode::Http => {
                for draft in &mut drafts {
                    let source =
                        Origin { source: Some(service.settings.name.clone()), ..Origin::clone(&draft.causality) };
                    draft.causality = self.http.trace.origin(source).into();
                }
                self.wait(|service| service.bus.publish_blocking(&service.settings.name, drafts))
            }
            Mode::Delivery => match in_hand(self.chunk.as_ref(), &self.delivery) {
                Some(input) => {
                    let chunk = self.chunk.as_ref();
                    let name = chunk.map_or(("", 0), |chunk| (&*chunk.subscription, chunk.chunk.generation));
                    let is_answer = !self.chain.is_empty();
                    self.delivery.publish(input, service, &mut self.limiter, name, is_answer, drafts)
                }
                None => Err(Refusal::Denied("no event is being handled".into())),
            },
        }
    }
}
