//! The admin API of a node, from the outside.
//!
//! Invariants: requests go to the node directly, never through a proxy; what the node refuses comes back as its problem.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use busway_gateway::api::Problem;
use serde::Serialize;
use serde::de::DeserializeOwned;
use ureq::http::Response;
use ureq::{Agent, Body};

use crate::args::NodeArgs;
use crate::discovery;
use crate::failure::Usage;
use crate::format;

/// The largest answer that is read.
const ANSWER_BYTES: u64 = 256 * 1024 * 1024;

/// What a node answered instead of doing what was asked.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.detail)]
pub(crate) struct Refused(pub(crate) Problem);

/// A connection to one node.
#[derive(Debug)]
pub(crate) struct Client {
    agent: Agent,
    address: SocketAddr,
    token: String,
}

impl Client {
    /// The node that the arguments name, else the only one that runs.
    pub(crate) fn find(args: &NodeArgs) -> Result<Self> {
        if let (Some(address), Some(token)) = (args.admin, &args.token) {
            return Ok(Self::new(address, token.clone()));
        }
        let folder = discovery::folder()?;
        let mut nodes = discovery::running(&folder)?;
        if let Some(address) = args.admin {
            let Some(found) = nodes.into_iter().find(|node| node.address == address) else {
                bail!(Usage(format!(
                    "no node of yours announces {address} in {}; give its token with --token or BUSWAY_TOKEN",
                    folder.display()
                )));
            };
            return Ok(Self::new(address, found.token));
        }
        let Some(node) = nodes.pop() else {
            bail!("no node is running (none is announced in {}); start one with `busway run`", folder.display());
        };
        if !nodes.is_empty() {
            let listed = nodes.iter().chain([&node]).map(|node| {
                let data = node.data.as_ref().map_or_else(|| "in memory".to_owned(), |dir| dir.display().to_string());
                format!("\n  --admin {}   process {}, {data}, since {}", node.address, node.pid, node.started_ms)
            });
            bail!(Usage(format!("several nodes are running; say which one:{}", listed.collect::<String>())));
        }
        Ok(Self::new(node.address, args.token.clone().unwrap_or(node.token)))
    }

    fn new(address: SocketAddr, token: String) -> Self {
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(Duration::from_secs(5)))
            .timeout_recv_response(Some(Duration::from_mins(1)))
            .build();
        Self { agent: config.into(), address, token }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.token)
    }

    fn lost(&self) -> String {
        format!("the node at {} does not answer; look whether it still runs", self.address)
    }

    /// Asks for something; `query` is left out where it is none.
    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str, query: &impl Serialize) -> Result<T> {
        let request = self.agent.get(self.url(path)).query_pairs(pairs(query)?).header("Authorization", self.bearer());
        answer(request.call().with_context(|| self.lost())?)
    }

    /// Tells the node to do something.
    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T> {
        let body = serde_json::to_vec(body)?;
        self.post_bytes(path, &body)
    }

    /// The same, with a body that is JSON or NDJSON already.
    pub(crate) fn post_bytes<T: DeserializeOwned>(&self, path: &str, body: &[u8]) -> Result<T> {
        let request = self.agent.post(self.url(path)).header("Authorization", self.bearer());
        answer(request.content_type("application/json").send(body).with_context(|| self.lost())?)
    }

    /// The lines of an answer that may never end.
    pub(crate) fn lines(&self, path: &str, query: &impl Serialize) -> Result<Lines> {
        let request = self.agent.get(self.url(path)).query_pairs(pairs(query)?).header("Authorization", self.bearer());
        let response = refused(request.call().with_context(|| self.lost())?)?;
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(Lines(BufReader::new(Box::new(reader))))
    }
}

/// The lines of an answer.
pub(crate) struct Lines(BufReader<Box<dyn Read + Send>>);

impl Lines {
    /// The next line that is not empty; none at the end.
    pub(crate) fn next_line(&mut self) -> Result<Option<String>> {
        loop {
            let mut line = String::new();
            if self.0.read_line(&mut line).context("the connection to the node broke")? == 0 {
                return Ok(None);
            }
            if !line.trim().is_empty() {
                return Ok(Some(line));
            }
        }
    }

    /// Whether the next line is here already.
    pub(crate) fn has_more(&self) -> bool {
        !self.0.buffer().is_empty()
    }
}

/// A flat struct as the pairs of a query; what is none is left out.
fn pairs(query: &impl Serialize) -> Result<Vec<(String, String)>> {
    let serde_json::Value::Object(fields) = serde_json::to_value(query)? else { return Ok(Vec::new()) };
    let pair = |(name, value): (String, serde_json::Value)| match value {
        serde_json::Value::Null => None,
        serde_json::Value::String(text) => Some((name, text)),
        other => Some((name, other.to_string())),
    };
    Ok(fields.into_iter().filter_map(pair).collect())
}

fn refused(response: Response<Body>) -> Result<Response<Body>> {
    if response.status().is_success() {
        return Ok(response);
    }
    let status = response.status();
    let text = response.into_body().into_with_config().limit(ANSWER_BYTES).lossy_utf8(true).read_to_string()?;
    match serde_json::from_str::<Problem>(&text) {
        Ok(problem) => Err(Refused(problem).into()),
        Err(_) => bail!("this is not a busway node: it answered with {status}"),
    }
}

fn answer<T: DeserializeOwned>(response: Response<Body>) -> Result<T> {
    let body = refused(response)?.into_body();
    let text = body.into_with_config().limit(ANSWER_BYTES).read_to_string().context("the answer broke off")?;
    serde_json::from_str(&text).context("the node answered something unexpected; is it of another version?")
}

/// A path segment, safe in a URL. Names and ids need no escapes; anything else is refused before it is sent.
pub(crate) fn segment(text: &str) -> Result<&str> {
    let plain = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if plain && !text.is_empty() {
        Ok(text)
    } else {
        bail!(Usage(format!("`{}` is not a name", crate::output::preview(text, 80))))
    }
}

/// How many there are, for people.
pub(crate) fn some(number: usize, what: &str) -> String {
    format::counted(number as u64, what)
}
