//! A bus in a `Mutex`, a sink that collects reports, and the guests.

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::time::Duration;

use busway_host::{
    Answering, Bus, Compiled, Host, HostConfig, Lane, LaneSettings, LaneSink, Linked, Refusal, Request, RequestError,
    ServiceSettings, TaskEnd, TaskSettings,
};
use busway_types::{
    Chunk, Delivery, DeliveryResult, Draft, Event, EventId, Key, KvRead, KvVersion, KvWrite, Limits, Logged, Ordering,
    Outcome, Report, ServiceName, SubId, Timestamp,
};
use bytes::Bytes;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

const BUS_WIT: &str = include_str!("../../../../wit/bus.wit");
const GUEST_WIT: &str = include_str!("guest.wit");
const GUEST: &str = include_str!("guest.wat");

/// Makes a component of a core module as text and a world.
pub(crate) fn component(core: &str, wit: &str, world: &str) -> Vec<u8> {
    let mut resolve = Resolve::default();
    resolve.push_str("bus.wit", BUS_WIT).expect("our WIT is valid");
    let package = resolve.push_str("guest.wit", wit).expect("the guest's WIT is valid");
    let world = resolve.select_world(&[package], Some(world)).expect("the world exists");
    let mut module = wat::parse_str(core).expect("the module is valid");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).expect("metadata fits");
    ComponentEncoder::default().validate(true).module(&module).expect("the module fits").encode().expect("it encodes")
}

/// The guest that does what the first byte says.
pub(crate) fn guest() -> &'static [u8] {
    static GUEST_BYTES: OnceLock<Vec<u8>> = OnceLock::new();
    GUEST_BYTES.get_or_init(|| component(GUEST, GUEST_WIT, "guest"))
}

/// The guest with a task that also does `code`.
pub(crate) fn task_guest(code: &str) -> Vec<u8> {
    component(&GUEST.replace(";;TASK;;", code), GUEST_WIT, "guest")
}

/// The one host of this test process.
pub(crate) fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| Host::new(HostConfig::default()).expect("a host"))
}

pub(crate) fn compiled() -> Compiled {
    host().compile("guest", guest()).expect("the guest compiles")
}

pub(crate) fn settings() -> ServiceSettings {
    ServiceSettings {
        timeout: Duration::from_millis(500),
        memory_bytes: 4 * 1024 * 1024,
        ..ServiceSettings::new("svc".parse().expect("a name"))
    }
}

/// A bus that keeps everything in memory.
#[derive(Default)]
pub(crate) struct TestBus {
    pub(crate) kv: Mutex<HashMap<String, (Bytes, KvVersion)>>,
    pub(crate) published: Mutex<Vec<Draft>>,
    pub(crate) lines: Mutex<Vec<String>>,
    pub(crate) denied: Option<String>,
}

impl Bus for TestBus {
    fn request(&self, _: &ServiceName, request: Request) -> Answering {
        Box::pin(std::future::ready(Err(RequestError::NoHandler(request.topic))))
    }

    fn admit(&self, _: &ServiceName, draft: Draft, id: Option<EventId>) -> Result<Event, Refusal> {
        if let Some(why) = &self.denied {
            return Err(Refusal::Denied(why.clone()));
        }
        let id = id.expect("a delivery gives an id");
        draft.admit(id, Timestamp(7), &Limits::default()).map_err(|error| Refusal::TooLarge(error.to_string()))
    }

    fn publish_blocking(&self, _: &ServiceName, drafts: Vec<Draft>) -> Result<Vec<EventId>, Refusal> {
        let ids = drafts.iter().map(|_| EventId::from_u128(1)).collect();
        self.published.lock().unwrap().extend(drafts);
        Ok(ids)
    }

    fn kv_get(&self, _: &ServiceName, key: &str) -> Result<(Option<Bytes>, KvVersion), Refusal> {
        Ok(self.kv.lock().unwrap().get(key).map_or((None, 0), |(value, version)| (Some(value.clone()), *version)))
    }

    fn kv_keys(&self, _: &ServiceName, _: &str, _: Option<&str>, _: usize) -> Result<Vec<Box<str>>, Refusal> {
        Ok(Vec::new())
    }

    fn kv_bytes(&self, _: &ServiceName) -> usize {
        0
    }

    fn kv_write_blocking(&self, _: &ServiceName, _: Vec<KvRead>, _: Vec<KvWrite>) -> Result<(), Refusal> {
        Ok(())
    }

    fn log(&self, _: &ServiceName, _: tracing::Level, message: &str, _: &[(String, String)]) {
        self.lines.lock().unwrap().push(message.to_owned());
    }
}

/// Collects what a lane says.
#[derive(Default)]
pub(crate) struct Sink {
    pub(crate) reports: Mutex<Vec<Report>>,
    pub(crate) lost: Mutex<Vec<u64>>,
    pub(crate) failed: Mutex<Vec<String>>,
    changed: Condvar,
}

impl LaneSink for Sink {
    fn report(&self, report: Report) {
        self.reports.lock().unwrap().push(report);
        self.changed.notify_all();
    }

    fn lost(&self, _: SubId, chunk: u64) {
        self.lost.lock().unwrap().push(chunk);
        let _reports = self.reports.lock().unwrap();
        self.changed.notify_all();
    }

    fn instance_failed(&self, _: &ServiceName, reason: &str) {
        self.failed.lock().unwrap().push(reason.to_owned());
    }
}

const PATIENCE: Duration = Duration::from_secs(20);

impl Sink {
    /// The results of a chunk, once it is finished.
    pub(crate) fn finished(&self, chunk: u64) -> Vec<DeliveryResult> {
        let finished = |reports: &Vec<Report>| reports.iter().any(|report| report.chunk == chunk && report.finished);
        self.wait(finished);
        let reports = self.reports.lock().unwrap();
        reports.iter().filter(|report| report.chunk == chunk).flat_map(|report| report.results.clone()).collect()
    }

    /// Waits until the reports are as wanted.
    pub(crate) fn wait(&self, wanted: impl Fn(&Vec<Report>) -> bool) {
        let reports = self.reports.lock().unwrap();
        let waited = self.changed.wait_timeout_while(reports, PATIENCE, |reports| !wanted(reports)).unwrap();
        assert!(!waited.1.timed_out(), "nothing came; lost: {:?}, failed: {:?}", self.lost, self.failed);
    }
}

/// A lane with its bus and sink.
pub(crate) struct Bench {
    pub(crate) bus: Arc<TestBus>,
    pub(crate) sink: Arc<Sink>,
    pub(crate) lane: Lane,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(settings(), TestBus::default(), 1)
    }

    pub(crate) fn with(settings: ServiceSettings, bus: TestBus, concurrency: usize) -> Self {
        let (bus, sink) = (Arc::new(bus), Arc::new(Sink::default()));
        let linked = compiled().link(host(), settings, bus.clone()).expect("the guest links");
        let lane = linked.lane(LaneSettings::new(concurrency), sink.clone());
        Self { bus, sink, lane }
    }

    /// Runs one chunk to its end.
    pub(crate) fn run(&self, id: u64, ordering: Ordering, events: &[(&str, Option<&str>)]) -> Vec<DeliveryResult> {
        self.lane.submit(chunk(id, ordering, events)).expect("there is room");
        self.sink.finished(id)
    }

    /// Runs events without keys.
    pub(crate) fn outcomes(&self, id: u64, events: &[&str]) -> Vec<Outcome> {
        let events: Vec<_> = events.iter().map(|data| (*data, None)).collect();
        self.run(id, Ordering::Key, &events).into_iter().map(|result| result.outcome).collect()
    }

    /// Runs one event and gives the text of its outcome.
    pub(crate) fn reason(&self, id: u64, event: &str) -> String {
        match self.outcomes(id, &[event]).pop().expect("one outcome") {
            Outcome::Retry { reason, .. }
            | Outcome::Rejected { reason }
            | Outcome::Trapped { reason }
            | Outcome::TimedOut { reason } => reason,
            other => panic!("{other:?} has no reason"),
        }
    }
}

pub(crate) fn event(index: u64, data: &str, key: Option<&str>) -> Event {
    let mut draft = Draft::new("in.some".parse().expect("a topic"), Bytes::from(data.to_owned()));
    draft.key = key.map(|key| Key::new(key, &Limits::default()).expect("a key"));
    draft.headers = vec![("name".into(), "value".into())];
    let id = EventId::from_u128(u128::from(index) + 1);
    draft.admit(id, Timestamp(5), &Limits::default()).expect("an event")
}

pub(crate) fn chunk(id: u64, ordering: Ordering, events: &[(&str, Option<&str>)]) -> Chunk {
    let deliveries = events.iter().enumerate().map(|(index, (data, key))| {
        let offset = id * 1_000 + index as u64;
        Delivery { logged: Logged { offset, event: Arc::new(event(offset, data, *key)) }, attempt: 1 }
    });
    Chunk { id, sub: SubId(3), ordering, generation: 0, deliveries: deliveries.collect() }
}

/// Runs a task to its end.
pub(crate) fn run_task(linked: &Linked, settings: TaskSettings) -> TaskEnd {
    let (sender, receiver) = std::sync::mpsc::sync_channel(1);
    linked.start_task(settings, move |end| sender.send(end).unwrap()).expect("the task starts");
    receiver.recv_timeout(PATIENCE).expect("the task ends")
}
