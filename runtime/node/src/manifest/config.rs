//! What a service is set to and what it was granted.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use busway_contract::{ContractId, Keys};
use busway_types::{Ordering, Pattern, RetryPolicy, ServiceName, StartAt, Topic};

use super::http::HttpConfig;
use super::schedule::Schedule;

/// Whether an instance handles more than one event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Instances {
    /// One after the other, until it traps.
    #[default]
    Reused,
    /// A new one for each event.
    PerEvent,
}

/// When a task (a component that exports `wasi:cli/run`) runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RunPolicy {
    /// At start; not again when it ends well.
    #[default]
    Once,
    /// At start, and again whenever it ends.
    Always,
    /// Not at all.
    Never,
}

/// A folder that a service sees.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileGrant {
    /// The folder on this machine.
    pub host: PathBuf,
    /// Where the guest sees it; absolute.
    pub guest: String,
    /// Whether the guest may change it.
    pub write: bool,
}

/// A host that a service may connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NetworkGrant {
    /// Its name or address.
    pub host: String,
    /// The only port, if one is given.
    pub port: Option<u16>,
}

impl fmt::Display for NetworkGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.port, self.host.contains(':')) {
            (None, _) => f.write_str(&self.host),
            (Some(port), false) => write!(f, "{}:{port}", self.host),
            (Some(port), true) => write!(f, "[{}]:{port}", self.host),
        }
    }
}

impl FromStr for NetworkGrant {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Ok(address) = text.parse::<std::net::SocketAddr>() {
            return Ok(Self { host: address.ip().to_string(), port: Some(address.port()) });
        }
        if let Ok(ip) = text.parse::<std::net::IpAddr>() {
            return Ok(Self { host: ip.to_string(), port: None });
        }
        let (host, port) = match text.rsplit_once(':') {
            None => (text, None),
            Some((host, port)) => (host, Some(port.parse().map_err(|_| refused(text))?)),
        };
        let sound = !host.is_empty()
            && host.len() <= 253
            && host.split('.').all(|l| !l.is_empty() && l.chars().all(|c| c.is_ascii_alphanumeric() || c == '-'));
        if sound { Ok(Self { host: host.to_ascii_lowercase(), port }) } else { Err(refused(text)) }
    }
}

fn refused(text: &str) -> String {
    let shown: String = text.chars().take(80).collect();
    format!(
        "`{shown}` is not a host; write a name or address, with a port if only that one is meant: `example.org:443`"
    )
}

/// Where a service's settings come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file in a folder: nothing but defaults.
    Folder,
    /// A table of this manifest.
    Manifest(PathBuf),
}

/// A service that is to run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Its name.
    pub name: ServiceName,
    /// The file of its component.
    pub component: PathBuf,
    /// Where these settings come from.
    pub origin: Origin,
    /// Whether it runs at all.
    pub enabled: bool,
    /// What it receives; none to ask the component, which may then choose only under `public.`.
    pub subscribe: Option<Vec<Pattern>>,
    /// Where it may publish to.
    pub publish: Vec<Pattern>,
    /// Whether the manifest says where it may publish to: then that is all, also for the contracts that it produces.
    pub publish_is_given: bool,
    /// Deliveries at the same time, 1 to 64.
    pub concurrency: usize,
    /// Which events wait for each other.
    pub ordering: Ordering,
    /// Redelivery.
    pub retry: RetryPolicy,
    /// How long it may take for one event.
    pub timeout: Duration,
    /// How long it may run as a task; none for as long as it likes. What `timeout` says, when it is written.
    pub task_timeout: Option<Duration>,
    /// How many bytes one instance may hold.
    pub memory_bytes: usize,
    /// Whether instances are used again.
    pub instances: Instances,
    /// Whether it may use key-value.
    pub key_value: bool,
    /// The environment it sees.
    pub env: BTreeMap<String, String>,
    /// The folders it sees.
    pub files: Vec<FileGrant>,
    /// The hosts it may connect to.
    pub network: Vec<NetworkGrant>,
    /// How it answers HTTP, if it does.
    pub http: HttpConfig,
    /// What `context.config` gives.
    pub config: BTreeMap<String, String>,
    /// When it runs, if it is a task.
    pub run: RunPolicy,
    /// An event by the clock.
    pub schedule: Option<Schedule>,
    /// Where its subscription starts when it is new.
    pub start: StartAt,
    /// Whether it receives what it published itself.
    pub own_events: bool,
    /// Where the keys of contracts are, `[contracts]`; the same for all services of an app.
    pub keys: Keys,
}

/// Something that was not granted, with the lines that would grant it. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the service `{service}` may not {what}; to allow it, {place}:\n{lines}\nand restart the node")]
pub struct Denied {
    /// Which service.
    pub service: ServiceName,
    /// What it wanted.
    pub what: String,
    /// Where the lines go.
    pub place: String,
    /// The lines of the manifest.
    pub lines: String,
}

impl ServiceConfig {
    /// Under which topics everybody may publish and subscribe.
    pub const PUBLIC: &str = "public.>";
    /// Deliveries at the same time when nothing is said.
    pub const CONCURRENCY: usize = 4;
    /// How long an event may take when nothing is said.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// How many bytes an instance may hold when nothing is said.
    pub const MEMORY_BYTES: usize = 64 * 1024 * 1024;

    /// A service with nothing but defaults: its own contracts, raw topics under `public.`, its own key-value.
    pub fn default_for(name: ServiceName, component: PathBuf) -> Self {
        Self {
            name,
            component,
            origin: Origin::Folder,
            enabled: true,
            subscribe: None,
            publish: public(),
            publish_is_given: false,
            concurrency: Self::CONCURRENCY,
            ordering: Ordering::default(),
            retry: RetryPolicy::default(),
            timeout: Self::TIMEOUT,
            task_timeout: None,
            memory_bytes: Self::MEMORY_BYTES,
            instances: Instances::default(),
            key_value: true,
            env: BTreeMap::new(),
            files: Vec::new(),
            network: Vec::new(),
            http: HttpConfig::default(),
            config: BTreeMap::new(),
            run: RunPolicy::default(),
            schedule: None,
            start: StartAt::default(),
            own_events: false,
            keys: Keys::default(),
        }
    }

    /// Whether it may publish to `topic`.
    pub fn may_publish(&self, topic: &Topic) -> bool {
        self.publish.iter().any(|grant| grant.matches(topic))
    }

    /// What is to be said when it published to `topic` without a grant.
    pub fn publish_denied(&self, topic: &str) -> Denied {
        self.denied(format!("publish to `{topic}`"), "publish", &self.publish, &[topic.to_owned()])
    }

    /// Grants what a component needs that produces a contract with these topics: importing it is asking for it, and nobody
    /// has to write that down as well. Where the manifest says where it may publish to, it says so of contracts too.
    pub fn grant_contract(&mut self, contract: &ContractId, topics: &[Topic]) -> Result<(), Denied> {
        if !self.publish_is_given {
            self.publish.extend(topics.iter().map(Pattern::from));
            return Ok(());
        }
        if topics.iter().all(|topic| self.may_publish(topic)) {
            return Ok(());
        }
        let wanted = format!("{}.*", contract.topic_prefix());
        Err(self.denied(format!("produce the contract `{contract}`"), "publish", &self.publish, &[wanted]))
    }

    /// What it receives when its component asks for `wanted`: what the manifest says, else that, as far as it lies under
    /// `public.`.
    pub fn subscriptions(&self, wanted: &[Pattern]) -> Result<Vec<Pattern>, Denied> {
        if let Some(given) = &self.subscribe {
            return Ok(given.clone());
        }
        let public = public();
        let beyond: Vec<String> = wanted
            .iter()
            .filter(|pattern| !public.iter().any(|grant| grant.covers(pattern)))
            .map(ToString::to_string)
            .collect();
        if beyond.is_empty() {
            return Ok(wanted.to_vec());
        }
        let allowed: Vec<Pattern> =
            wanted.iter().filter(|p| public.iter().any(|grant| grant.covers(p))).cloned().collect();
        let what = format!("subscribe to `{}`", beyond.join("`, `"));
        Err(self.denied(what, "subscribe", &allowed, &beyond))
    }

    fn denied(&self, what: String, key: &str, have: &[Pattern], more: &[String]) -> Denied {
        let list = have.iter().map(ToString::to_string).chain(more.iter().cloned());
        let list = list.map(|p| format!("\"{p}\"")).collect::<Vec<_>>().join(", ");
        let table = if self.name.as_str().contains('.') {
            format!("[services.\"{}\"]", self.name)
        } else {
            format!("[services.{}]", self.name)
        };
        let (place, lines) = match &self.origin {
            Origin::Folder => {
                let file = self.component.file_name().map(|f| f.to_string_lossy().into_owned()).unwrap_or_default();
                let place = "put a busway.toml beside it with".to_owned();
                (place, format!("  {table}\n  component = \"{file}\"\n  {key} = [{list}]"))
            }
            Origin::Manifest(path) => {
                (format!("write in {}", path.display()), format!("  {table}\n  {key} = [{list}]"))
            }
        };
        Denied { service: self.name.clone(), what, place, lines }
    }
}

/// The grants that nobody has to write down.
pub(super) fn public() -> Vec<Pattern> {
    ServiceConfig::PUBLIC.parse().into_iter().collect()
}
