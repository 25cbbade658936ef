//! A bus that keeps what it is given, and bridges that run until they are stopped.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering as Atomic};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use busway_bridge::{
    Answer, Bus, Direction, Figures, Inward, KEY_HEADER, Link, NotPublished, Outward, Phase, Place, State, Work,
};
use busway_types::{
    Chunk, Delivery, Draft, Event, EventId, Key, Limits, Logged, Ordering, Outcome, SubId, SystemClock, Timestamp,
};
use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

/// How long anything may take; RabbitMQ needs half a minute to start on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// Keeps what is published; refuses for good what begins with `bad`, and everything for now while it is full.
#[derive(Default)]
pub(crate) struct Kept {
    drafts: Mutex<Vec<Draft>>,
    pub(crate) full: AtomicBool,
    /// How often it was asked.
    pub(crate) asked: AtomicUsize,
}

impl Bus for Kept {
    fn publish(&self, drafts: Vec<Draft>) -> Answer<'_, Result<(), NotPublished>> {
        self.asked.fetch_add(1, Atomic::Relaxed);
        let answer = if self.full.load(Atomic::Relaxed) {
            Err(NotPublished::Later("it is full".to_owned()))
        } else if let Some(index) = drafts.iter().position(|draft| draft.data.starts_with(b"bad")) {
            Err(NotPublished::Never { index, reason: "it is bad".to_owned() })
        } else {
            self.drafts.lock().expect("no panic").extend(drafts);
            Ok(())
        };
        Box::pin(std::future::ready(answer))
    }
}

impl Kept {
    pub(crate) fn drafts(&self) -> Vec<Draft> {
        self.drafts.lock().expect("no panic").clone()
    }

    /// What came, each once however often it did, in the order in which it came first.
    pub(crate) fn texts(&self) -> Vec<String> {
        let mut texts: Vec<String> = Vec::new();
        for draft in self.drafts() {
            let text = String::from_utf8(draft.data.to_vec()).expect("text");
            if !texts.contains(&text) {
                texts.push(text);
            }
        }
        texts
    }
}

/// Waits until something is so.
pub(crate) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let began = Instant::now();
    while !is_so().await {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// A bridge that takes messages in.
pub(crate) struct In {
    pub(crate) bus: Arc<Kept>,
    link: Arc<Link>,
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

impl In {
    pub(crate) fn start(from: &str, prefetch: usize) -> Self {
        Self::start_with(from, prefetch, true)
    }

    /// With or without taking ids of messages for those of events.
    #[expect(clippy::disallowed_methods, reason = "a test has no task set")]
    pub(crate) fn start_with(from: &str, prefetch: usize, deduplicate: bool) -> Self {
        let (bus, link) = (Arc::new(Kept::default()), Arc::new(Link::new("a")));
        let (phase, seen) = watch::channel(Phase::Run);
        let inward = Inward {
            name: "a".to_owned(),
            service: "bridge.a".parse().expect("a name"),
            from: Place::parse(from, Direction::From).expect("a place"),
            topic: "in".parse().expect("a topic"),
            key_header: KEY_HEADER.to_owned(),
            prefetch,
            deduplicate,
            limits: Limits::default(),
        };
        let task = tokio::spawn(inward.run(Arc::clone(&bus) as Arc<dyn Bus>, Arc::clone(&link), seen));
        Self { bus, link, phase, task }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.link.figures()
    }

    pub(crate) async fn is(&self, state: State) {
        until(&format!("{state:?}, but {:?}", self.figures()), async || self.figures().state == state).await;
    }

    /// Waits until so many different messages came.
    pub(crate) async fn has(&self, count: usize) {
        until(&format!("{count} messages"), async || self.bus.texts().len() >= count).await;
    }

    pub(crate) async fn ends(self) {
        self.phase.send_replace(Phase::Drain);
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("it ends soon").expect("no panic");
    }
}

/// A bridge that gives events out.
pub(crate) struct Out {
    chunks: mpsc::Sender<Chunk>,
    works: Arc<Mutex<Vec<Work>>>,
    link: Arc<Link>,
    phase: watch::Sender<Phase>,
    task: JoinHandle<()>,
}

impl Out {
    #[expect(clippy::disallowed_methods, reason = "a test has no task set")]
    pub(crate) fn start(to: &str) -> Self {
        let (works, link) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Link::new("a")));
        let (phase, seen) = watch::channel(Phase::Run);
        let (chunks, taken) = mpsc::channel(6);
        let outward = Outward {
            name: "a".to_owned(),
            to: Place::parse(to, Direction::To).expect("a place"),
            key_header: KEY_HEADER.to_owned(),
            clock: Arc::new(SystemClock::new()),
        };
        let heard = Arc::clone(&works);
        let tell = move |work| heard.lock().expect("no panic").push(work);
        let task = tokio::spawn(outward.run(taken, tell, Arc::clone(&link), seen));
        Self { chunks, works, link, phase, task }
    }

    pub(crate) fn figures(&self) -> Figures {
        self.link.figures()
    }

    pub(crate) async fn is(&self, state: State) {
        until(&format!("{state:?}, but {:?}", self.figures()), async || self.figures().state == state).await;
    }

    pub(crate) async fn give(&self, chunk: Chunk) {
        self.chunks.send(chunk).await.expect("it runs");
    }

    pub(crate) fn has_reported(&self) -> bool {
        !self.works.lock().expect("no panic").is_empty()
    }

    /// What became of the next chunk; none when it was given back.
    pub(crate) async fn outcomes(&self) -> Option<Vec<Outcome>> {
        until("a report", async || self.has_reported()).await;
        match self.works.lock().expect("no panic").remove(0) {
            Work::Done(report) => Some(report.results.into_iter().map(|result| result.outcome).collect()),
            Work::Lost(_) => None,
        }
    }

    pub(crate) fn drains(&self) {
        self.phase.send_replace(Phase::Drain);
    }

    pub(crate) async fn ends(self) {
        self.phase.send_replace(Phase::End);
        tokio::time::timeout(Duration::from_secs(5), self.task).await.expect("it ends soon").expect("no panic");
    }
}

/// An event with a text, and a key unless that is empty.
pub(crate) fn event(number: u128, key: &str, text: &str) -> Arc<Event> {
    let mut draft = Draft::new("orders.new".parse().expect("a topic"), Bytes::copy_from_slice(text.as_bytes()));
    draft.key = Key::new(key, &Limits::default()).ok();
    draft.content_type = Some("text/plain".into());
    draft.headers = vec![("x".into(), "1".into())];
    draft.causality.correlation = Some("c".into());
    Arc::new(draft.admit(EventId::from_u128(number), Timestamp(1_000), &Limits::default()).expect("an event"))
}

/// A chunk of events, in order.
pub(crate) fn chunk(events: impl IntoIterator<Item = Arc<Event>>) -> Chunk {
    let deliver = |(offset, event): (usize, Arc<Event>)| {
        let logged = Logged { offset: offset as u64, event };
        Delivery { logged, attempt: 1 }
    };
    let deliveries = events.into_iter().enumerate().map(deliver).collect();
    Chunk { id: 1, sub: SubId(1), ordering: Ordering::Key, generation: 0, deliveries }
}
