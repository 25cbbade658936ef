//! A node in this process, for tests: an app of guest programs, a publisher, and eyes.
//!
//! Waiting is by condition with a generous bound, never by a fixed sleep.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use busway_gateway::TailRead;
use busway_gateway::api::{
    DeadEntry, DeadFilter, Envelope, KvQuery, PublishReply, PublishRequest, ServiceStatus, StatusReport, TailFrom,
};
use busway_node::manifest::EngineUrl;
use busway_node::{Node, NodeOptions};
use busway_types::Offset;

/// How long a condition may take to come true on a loaded machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// The folder of an app under test, with what it is to contain.
pub(crate) struct App {
    folder: tempfile::TempDir,
    manifest: String,
}

impl App {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a folder"), manifest: String::new() }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A component in the folder, without any settings.
    pub(crate) fn with(self, component: &str, name: &str) -> Self {
        self.put(component, name);
        self
    }

    /// Copies a component into the folder as a careful deployer does: written aside, then renamed.
    pub(crate) fn put(&self, component: &str, name: &str) {
        let target = self.path().join(name).with_extension("wasm");
        let aside = target.with_extension("part");
        std::fs::copy(component, &aside).expect("the component can be copied");
        std::fs::rename(aside, target).expect("the component can be renamed");
    }

    pub(crate) fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.path().join(name);
        std::fs::write(&path, bytes).expect("the file can be written");
        path
    }

    /// A service of the manifest.
    pub(crate) fn service(mut self, name: &str, component: &str, settings: &str) -> Self {
        let component = format!("{component:?}");
        let _ = writeln!(self.manifest, "[services.{name}]\ncomponent = {component}\n{settings}");
        self
    }

    /// Further lines of the manifest, before the services.
    pub(crate) fn manifest(mut self, lines: &str) -> Self {
        self.manifest.insert_str(0, &format!("{lines}\n"));
        self
    }

    /// Writes the manifest, for a node in another process.
    pub(crate) fn written(&self) {
        self.write("busway.toml", self.manifest.as_bytes());
    }

    pub(crate) async fn run(&self) -> Bus {
        self.start(|_| {}).await
    }

    /// On disk, in a folder that outlives the node.
    pub(crate) async fn run_on_disk(&self) -> Bus {
        let data = self.path().join("data");
        self.start(move |options| options.engine = Some(EngineUrl::File(data))).await
    }

    pub(crate) async fn start(&self, change: impl FnOnce(&mut NodeOptions)) -> Bus {
        if !self.manifest.is_empty() {
            self.written();
        }
        let mut options = NodeOptions::new(self.path(), "token");
        change(&mut options);
        Bus { node: Node::start(options).await.expect("the node starts") }
    }
}

/// A running node.
pub(crate) struct Bus {
    pub(crate) node: Node,
}

pub(crate) fn event(topic: &str, data: &str) -> PublishRequest {
    PublishRequest { topic: topic.to_owned(), text: Some(data.to_owned()), ..PublishRequest::default() }
}

pub(crate) fn keyed(topic: &str, key: &str, data: &str) -> PublishRequest {
    PublishRequest { key: Some(key.to_owned()), ..event(topic, data) }
}

pub(crate) fn text(envelope: &Envelope) -> String {
    let json = envelope.data.as_ref().map(|raw| raw.get().to_owned());
    envelope.text.clone().or(json).unwrap_or_default()
}

impl Bus {
    pub(crate) async fn publish(&self, events: Vec<PublishRequest>) -> Vec<PublishReply> {
        self.node.admin().publish(events).await.expect("published")
    }

    pub(crate) async fn send(&self, topic: &str, data: &str) -> PublishReply {
        self.publish(vec![event(topic, data)]).await.remove(0)
    }

    /// Waits until nothing is left to do.
    pub(crate) async fn idle(&self) {
        let idle = tokio::time::timeout(PATIENCE, self.node.idle()).await;
        assert!(idle.is_ok(), "not idle after {PATIENCE:?}: {:#?}", self.node.status().await);
    }

    /// Everything on topics that `pattern` selects, from the start.
    pub(crate) async fn tail(&self, pattern: &str) -> Vec<Envelope> {
        let admin = self.node.admin();
        let mut from: Offset = admin.tail_position(TailFrom::Start).await.expect("a position");
        let mut seen = Vec::new();
        loop {
            let read = TailRead {
                from,
                patterns: vec![pattern.parse().expect("a pattern")].into(),
                max_events: 1_000,
                max_bytes: 64 * 1024 * 1024,
                wait: false,
            };
            let batch = admin.tail_read(read).await.expect("read");
            seen.extend(batch.events.iter().map(Envelope::from));
            if batch.next >= batch.head {
                return seen;
            }
            from = batch.next;
        }
    }

    /// The data of everything on a topic.
    pub(crate) async fn texts(&self, pattern: &str) -> Vec<String> {
        self.tail(pattern).await.iter().map(text).collect()
    }

    pub(crate) async fn dead(&self) -> Vec<DeadEntry> {
        self.node.admin().dead_list(DeadFilter::default()).await.expect("listed").letters
    }

    pub(crate) async fn kv(&self, service: &str, key: &str) -> Option<String> {
        let query = KvQuery { prefix: Some(key.to_owned()), ..KvQuery::default() };
        let page = self.node.admin().kv_list(service.parse().expect("a name"), query).await.expect("listed");
        let entry = page.entries.into_iter().find(|entry| entry.key == key)?;
        entry.text.or_else(|| entry.data.map(|raw| raw.get().to_owned()))
    }

    pub(crate) async fn status(&self) -> StatusReport {
        self.node.status().await
    }

    pub(crate) async fn service(&self, name: &str) -> ServiceStatus {
        let status = self.status().await;
        let found = status.services.into_iter().find(|service| service.name.as_str() == name);
        found.unwrap_or_else(|| panic!("no service `{name}`; refused: {:#?}", status.refused))
    }

    /// Waits until `true` of the status.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&StatusReport) -> bool) {
        let wait = async {
            while !condition(&self.status().await) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let came = tokio::time::timeout(PATIENCE, wait).await;
        assert!(came.is_ok(), "{what}: not after {PATIENCE:?}: {:#?}", self.status().await);
    }

    pub(crate) async fn stop(self) {
        self.node.stop().await.expect("the node stops");
    }
}
