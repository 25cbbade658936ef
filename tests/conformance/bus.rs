//! A node of a bus, and what the checks ask of it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use busway_gateway::api::{
    DeadEntry, DeadPage, Envelope, KvPage, Payload, PublishReply, PublishRequest, PublishResponse, ServiceStatus,
    StatusReport, TailLine,
};
use busway_tests::node::{Address, Node, PATIENCE, agent};
use busway_types::{Clock as _, SystemClock};

/// How long to wait before looking again.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A service of an app: its name, its component, and the rest of its table in the manifest.
pub(crate) type Service<'a> = (&'a str, &'a str, &'a str);

/// Writes an app into a folder.
pub(crate) fn write_app(folder: &Path, head: &str, services: &[Service<'_>]) {
    let table = |(name, component, more): &Service<'_>| {
        format!(
            "\n[services.{name}]\ncomponent = {component:?}\npublish = [\"conf.>\", \"public.>\"]\nfrom = \"start\"\n{more}"
        )
    };
    let text: String = std::iter::once(head.to_owned()).chain(services.iter().map(table)).collect();
    std::fs::write(folder.join("busway.toml"), text).expect("the manifest is written");
}

/// Waits until something is so; an error names what was seen last.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Result<Result<T, String>, String>) -> Result<T, String> {
    let clock = SystemClock::new();
    let began = clock.now();
    loop {
        let seen = match look()? {
            Ok(value) => return Ok(value),
            Err(seen) => seen,
        };
        if clock.now().since(began) > PATIENCE {
            return Err(format!("after {PATIENCE:?} still not {what}: {seen}"));
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// An event without anything but its data.
pub(crate) fn event(topic: &str, text: impl Into<String>) -> PublishRequest {
    PublishRequest { topic: topic.to_owned(), text: Some(text.into()), ..PublishRequest::default() }
}

/// The data of an event.
pub(crate) fn bytes(event: &Envelope) -> Vec<u8> {
    let payload = Payload { data: event.data.clone(), text: event.text.clone(), base64: event.base64.clone() };
    payload.into_bytes().map(Into::into).unwrap_or_default()
}

pub(crate) fn text(event: &Envelope) -> String {
    String::from_utf8_lossy(&bytes(event)).into_owned()
}

/// How a publication was answered.
#[derive(Debug)]
pub(crate) enum Published {
    Taken(Vec<PublishReply>),
    /// The status and what was said.
    Refused(u16, String),
}

/// A running node.
pub(crate) struct Bus {
    node: Node,
    address: Address,
    folder: PathBuf,
}

impl Bus {
    /// Starts a node and waits until it can be asked.
    pub(crate) fn start(folder: &Path, engine: &str) -> Result<Self, String> {
        let mut node = Node::start(folder, engine, &["--no-watch"]);
        let address = node.ready().map_err(|error| format!("{error}; {}", log_tail(folder)))?;
        Ok(Self { node, address, folder: folder.to_owned() })
    }

    /// Starts a node and waits until all of its services run.
    pub(crate) fn at_work(folder: &Path, engine: &str, services: usize) -> Result<Self, String> {
        let bus = Self::start(folder, engine)?;
        bus.works(services)?;
        Ok(bus)
    }

    /// Waits until this node owns the bus and so many services run.
    pub(crate) fn works(&self, services: usize) -> Result<(), String> {
        until("at work", || {
            let status = self.status()?;
            let running = status.services.len() >= services && status.node.standby.is_none();
            Ok(if running { Ok(()) } else { Err(format!("{:?} {:?}", status.node, status.refused)) })
        })
    }

    pub(crate) fn status(&self) -> Result<StatusReport, String> {
        self.address.get("/v1/status")
    }

    pub(crate) fn service(&self, name: &str) -> Result<ServiceStatus, String> {
        let status = self.status()?;
        let found = status.services.into_iter().find(|service| service.name.as_str() == name);
        found.ok_or_else(|| format!("there is no service {name}"))
    }

    /// Publishes, and gives back what was said.
    pub(crate) fn try_publish(&self, events: &[PublishRequest]) -> Result<Published, String> {
        let body = serde_json::to_string(events).map_err(|error| error.to_string())?;
        let (status, text) = self.address.post("/v1/events", &body)?;
        if status != 200 {
            return Ok(Published::Refused(status, text));
        }
        let answer: PublishResponse = serde_json::from_str(&text).map_err(|error| format!("{error}: {text}"))?;
        Ok(Published::Taken(answer.published))
    }

    /// Publishes what has to be taken.
    pub(crate) fn publish(&self, events: &[PublishRequest]) -> Result<Vec<PublishReply>, String> {
        match self.try_publish(events)? {
            Published::Taken(replies) => Ok(replies),
            Published::Refused(status, text) => Err(format!("publishing was refused with {status}: {text}")),
        }
    }

    /// Publishes a range of numbers to a topic.
    pub(crate) fn publish_numbers(&self, topic: &str, numbers: std::ops::Range<u32>) -> Result<(), String> {
        let numbers: Vec<u32> = numbers.collect();
        for some in numbers.chunks(100) {
            let events: Vec<PublishRequest> = some.iter().map(|number| event(topic, number.to_string())).collect();
            self.publish(&events)?;
        }
        Ok(())
    }

    pub(crate) fn post(&self, path: &str, body: &str) -> Result<String, String> {
        match self.address.post(path, body)? {
            (200, text) => Ok(text),
            (status, text) => Err(format!("{path} was refused with {status}: {text}")),
        }
    }

    /// All events of a topic, oldest first.
    pub(crate) fn events(&self, pattern: &str) -> Result<Vec<Envelope>, String> {
        let path = format!("/v1/events?pattern={pattern}&from=start&follow=false");
        let asked = agent().get(self.address.url(&path)).header("Authorization", self.address.bearer()).call();
        let mut answer = asked.map_err(|error| format!("{path}: {error}"))?;
        let text = answer.body_mut().with_config().limit(1 << 28).read_to_string();
        let text = text.map_err(|error| format!("{path}: {error}"))?;
        let mut events = Vec::new();
        for line in text.lines() {
            match serde_json::from_str(line).map_err(|error| format!("{path}: {error}: {line}"))? {
                TailLine::Event(event) => events.push(*event),
                other => return Err(format!("{path}: {other:?}")),
            }
        }
        Ok(events)
    }

    /// Waits until a topic has at least so many events, and gives them all.
    pub(crate) fn has(&self, pattern: &str, count: usize) -> Result<Vec<Envelope>, String> {
        until("there", || {
            let events = self.events(pattern)?;
            Ok(if events.len() >= count {
                Ok(events)
            } else {
                Err(format!("{} of {count} events of {pattern}", events.len()))
            })
        })
    }

    /// Waits until a service has so many dead letters, and gives them.
    pub(crate) fn dead(&self, service: &str, count: usize) -> Result<Vec<DeadEntry>, String> {
        until("dead", || {
            let page: DeadPage = self.address.get(&format!("/v1/dead?service={service}"))?;
            Ok(if page.total == count { Ok(page.letters) } else { Err(format!("{} dead letters", page.total)) })
        })
    }

    /// A value of a service's key-value.
    pub(crate) fn value(&self, service: &str, key: &str) -> Result<Option<String>, String> {
        let page: KvPage = self.address.get(&format!("/v1/kv/{service}?prefix={key}"))?;
        let found = page.entries.into_iter().find(|entry| entry.key == key);
        Ok(found.map(|entry| entry.data.map(|raw| raw.get().to_owned()).or(entry.text).unwrap_or_default()))
    }

    /// Waits until nothing waits for a subscription, and gives what a counter says then.
    pub(crate) fn counted(&self, service: &str, key: &str) -> Result<Option<String>, String> {
        self.settled(service)?;
        self.value(service, key)
    }

    /// Waits until nothing waits for a service.
    pub(crate) fn settled(&self, service: &str) -> Result<(), String> {
        until("settled", || {
            let status = self.service(service)?;
            let open = |sub: &busway_gateway::api::SubscriptionStatus| {
                sub.lag + (sub.parked + sub.in_flight + sub.backlog_events) as u64
            };
            let open: u64 = status.subscriptions.iter().map(open).sum();
            Ok(if open == 0 { Ok(()) } else { Err(format!("{open} of {service} are open")) })
        })
    }

    pub(crate) fn signal(&self, signal: &str) -> Result<(), String> {
        self.node.signal(signal)
    }

    /// Ends it with SIGKILL.
    pub(crate) fn kill(self) -> Result<(), String> {
        self.node.kill()
    }

    /// Ends it well.
    pub(crate) fn stop(self) -> Result<(), String> {
        let folder = self.folder;
        let status = self.node.stop()?;
        if status.success() { Ok(()) } else { Err(format!("it ended with {status}; {}", log_tail(&folder))) }
    }

    /// All that the nodes of this folder have said.
    pub(crate) fn said(&self) -> String {
        log(&self.folder)
    }
}

pub(crate) fn log(folder: &Path) -> String {
    let log = std::fs::read(folder.join("node.log")).unwrap_or_default();
    String::from_utf8_lossy(&log).into_owned()
}

fn log_tail(folder: &Path) -> String {
    let log = log(folder);
    let lines: Vec<_> = log.lines().collect();
    format!("the end of its log:\n{}", lines[lines.len().saturating_sub(20)..].join("\n"))
}
