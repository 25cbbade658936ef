//! Where keys come from, and how they stay fresh.
//!
//! Shared secrets and single keys are read once, when the configuration is. A key set is read again by
//! [`Keys::maintain`], the only place that does, so that however many tokens name an unknown key there is one fetch at
//! a time, and at most one in [`JwtConfig::refresh_least`]. Invariants: a set that cannot be fetched, is too large or
//! holds no usable key changes nothing, and the one before it goes on for [`JwtConfig::stale`]; then no token is
//! accepted.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use busway_types::Clock;
use tokio::sync::{Notify, watch};

use super::config::{JwksUrl, JwtConfig, KeySource};
use super::keys::{InvalidKeys, KeySet};
use crate::edge::auth::Secret;

/// The largest file of a secret, a key or of certificates.
const MOST_FILE: u64 = 256 * 1024;

/// Why the keys are not there. None of them shows any.
#[derive(Debug, thiserror::Error)]
pub enum KeysError {
    /// The environment variable is not set.
    #[error("the environment variable {0} with the secret for tokens is not set, or is not text")]
    NoVariable(String),
    /// A file cannot be read.
    #[error("{} with keys for tokens cannot be read", path.display())]
    Read {
        /// Which.
        path: std::path::PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds something else.
    #[error("{place} is of no use for tokens: {problem}")]
    Invalid {
        /// Which variable, file or URL.
        place: String,
        /// Why.
        problem: String,
    },
    /// A URL gave nothing.
    #[error("the keys for tokens cannot be fetched from {url}: {problem}")]
    Fetch {
        /// Which.
        url: String,
        /// Why.
        problem: String,
    },
}

fn invalid(place: impl ToString) -> impl FnOnce(InvalidKeys) -> KeysError {
    let place = place.to_string();
    move |error| KeysError::Invalid { place, problem: error.to_string() }
}

/// Keys, and when they came.
#[derive(Debug)]
struct Held {
    set: Arc<KeySet>,
    at_ns: u64,
}

/// What the fetcher is doing.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    is_fetching: bool,
    /// When the last attempt ended, whether it succeeded or not.
    ended_ns: Option<u64>,
    attempts: u64,
}

/// The keys of one configuration.
#[derive(Debug)]
pub(crate) struct Keys {
    config: Arc<JwtConfig>,
    clock: Arc<dyn Clock>,
    held: ArcSwapOption<Held>,
    progress: watch::Sender<Progress>,
    wanted: Notify,
}

impl Keys {
    /// The keys that `config` names. What is on this machine is read at once; a URL is fetched by [`Self::maintain`].
    pub(crate) fn new(config: Arc<JwtConfig>, clock: Arc<dyn Clock>) -> Result<Self, KeysError> {
        let at_ns = clock.monotonic_ns();
        let held = match &config.source {
            KeySource::JwksUrl { url, ca } => {
                // A file that is missing is a mistake of the configuration, not of the network.
                if ca.is_some() {
                    agent(url, ca.as_deref(), config.fetch_time)?;
                }
                None
            }
            _ => Some(Arc::new(Held { set: Arc::new(read(&config)?), at_ns })),
        };
        let progress = watch::Sender::new(Progress { ended_ns: held.as_ref().map(|_| at_ns), ..Progress::default() });
        Ok(Self { config, clock, held: ArcSwapOption::new(held), progress, wanted: Notify::new() })
    }

    pub(crate) fn config(&self) -> &Arc<JwtConfig> {
        &self.config
    }

    /// Whether they come over the network.
    pub(crate) fn is_fetched(&self) -> bool {
        matches!(self.config.source, KeySource::JwksUrl { .. })
    }

    fn is_refreshed(&self) -> bool {
        matches!(self.config.source, KeySource::JwksFile(_) | KeySource::JwksUrl { .. })
    }

    /// The keys, unless there are none yet or they are too old to go on.
    pub(crate) fn current(&self) -> Option<Arc<KeySet>> {
        let held = self.held.load();
        let held = held.as_ref()?;
        let age = self.clock.monotonic_ns().saturating_sub(held.at_ns);
        let is_good = !self.is_refreshed() || Duration::from_nanos(age) <= self.config.refresh + self.config.stale;
        is_good.then(|| held.set.clone())
    }

    /// Has the keys fetched again, if that was not done too recently; whether an attempt ended meanwhile.
    pub(crate) async fn refreshed(&self) -> bool {
        if !self.is_refreshed() {
            return false;
        }
        let mut progress = self.progress.subscribe();
        let before = *progress.borrow_and_update();
        if !before.is_fetching && self.is_too_soon(before) {
            return false;
        }
        self.wanted.notify_one();
        let ended = progress.wait_for(|now| now.attempts > before.attempts);
        matches!(tokio::time::timeout(self.config.fetch_time + Duration::from_secs(1), ended).await, Ok(Ok(_)))
    }

    fn is_too_soon(&self, progress: Progress) -> bool {
        progress.ended_ns.is_some_and(|ended| {
            Duration::from_nanos(self.clock.monotonic_ns().saturating_sub(ended)) < self.config.refresh_least
        })
    }

    /// Fetches the keys when they are due or asked for; never ends, and may be dropped at any time.
    pub(crate) async fn maintain(&self) {
        if !self.is_refreshed() {
            std::future::pending::<()>().await;
        }
        let mut failures = 0_u32;
        let mut wait = if self.held.load().is_some() { self.config.refresh } else { Duration::ZERO };
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wanted.notified() => {
                    if self.is_too_soon(*self.progress.borrow()) {
                        continue;
                    }
                }
            }
            match self.attempt().await {
                Ok(()) => {
                    failures = 0;
                    wait = self.config.refresh;
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(error = %error, failures, "the keys for tokens could not be renewed");
                    wait = self.config.refresh_least.saturating_mul(failures.min(8)).min(self.config.refresh);
                }
            }
        }
    }

    async fn attempt(&self) -> Result<(), KeysError> {
        self.progress.send_modify(|progress| progress.is_fetching = true);
        let config = self.config.clone();
        let read = tokio::task::spawn_blocking(move || read(&config));
        let outcome = match read.await {
            Ok(outcome) => outcome,
            Err(error) => Err(KeysError::Fetch { url: "its thread".to_owned(), problem: error.to_string() }),
        };
        let at_ns = self.clock.monotonic_ns();
        let outcome = outcome.map(|set| self.held.store(Some(Arc::new(Held { set: Arc::new(set), at_ns }))));
        self.progress.send_modify(|progress| {
            *progress = Progress { is_fetching: false, ended_ns: Some(at_ns), attempts: progress.attempts + 1 };
        });
        outcome
    }
}

fn read(config: &JwtConfig) -> Result<KeySet, KeysError> {
    match &config.source {
        KeySource::SecretEnv(name) => {
            let text = std::env::var(name).map_err(|_| KeysError::NoVariable(name.clone()))?;
            KeySet::secret(&Secret::new(text.into_bytes())).map_err(invalid(format!("the variable {name}")))
        }
        KeySource::SecretFile(path) => {
            let mut bytes = file(path)?;
            while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                bytes.pop();
            }
            KeySet::secret(&Secret::new(bytes)).map_err(invalid(path.display()))
        }
        KeySource::PublicKey(path) => KeySet::pem(&file(path)?, &config.algorithms).map_err(invalid(path.display())),
        KeySource::JwksFile(path) => KeySet::jwks(&file(path)?, &config.algorithms).map_err(invalid(path.display())),
        KeySource::JwksUrl { url, ca } => {
            let bytes = fetch(url, ca.as_deref(), config)?;
            KeySet::jwks(&bytes, &config.algorithms).map_err(invalid(url))
        }
    }
}

fn file(path: &Path) -> Result<Vec<u8>, KeysError> {
    let unreadable = |source| KeysError::Read { path: path.to_owned(), source };
    if std::fs::metadata(path).map_err(unreadable)?.len() > MOST_FILE {
        let problem = format!("it is larger than {MOST_FILE} bytes");
        return Err(KeysError::Invalid { place: path.display().to_string(), problem });
    }
    std::fs::read(path).map_err(unreadable)
}

fn agent(url: &JwksUrl, ca: Option<&Path>, time: Duration) -> Result<ureq::Agent, KeysError> {
    let mut config = ureq::Agent::config_builder()
        .timeout_global(Some(time))
        // Elsewhere somebody else could decide which keys are ours.
        .max_redirects(0)
        .max_redirects_will_error(true)
        .https_only(!url.is_local())
        .max_idle_connections(0);
    if url.is_local() {
        config = config.proxy(None);
    }
    if let Some(path) = ca {
        let pem = file(path)?;
        let mut roots = Vec::new();
        for item in ureq::tls::parse_pem(&pem) {
            if let Ok(ureq::tls::PemItem::Certificate(certificate)) = item {
                roots.push(certificate);
            }
        }
        if roots.is_empty() {
            let problem = "it holds no certificate (PEM)".to_owned();
            return Err(KeysError::Invalid { place: path.display().to_string(), problem });
        }
        let roots = ureq::tls::RootCerts::Specific(Arc::new(roots));
        config = config.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
    }
    Ok(config.build().new_agent())
}

fn fetch(url: &JwksUrl, ca: Option<&Path>, config: &JwtConfig) -> Result<Vec<u8>, KeysError> {
    let failed = |error: ureq::Error| KeysError::Fetch { url: url.to_string(), problem: error.to_string() };
    let agent = agent(url, ca, config.fetch_time)?;
    let mut response = agent.get(url.as_str()).header("accept", "application/json").call().map_err(failed)?;
    response.body_mut().with_config().limit(config.key_set_bytes as u64).read_to_vec().map_err(failed)
}
