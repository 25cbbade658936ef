//! The gate: who asks, may they, and not too often.
//!
//! Every request passes [`Gate::admit`] once, after its route is known and before anything serves it, so that nothing has
//! to guess from a path what is allowed. Invariants: as soon as any authentication is configured, what is not open and
//! not allowed is denied; a stranger gets the same answer whether something is there or not; a wrong credential is
//! never told apart from another one; a gate is made as a whole, from one configuration, or not at all.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::response::{IntoResponse, Response};
use busway_types::Clock;
use http::header::{RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::certificate::Certificates;
use super::credentials::{Ambiguous, Presented};
use super::jwt::{BadToken, Keys, KeysError, verify};
use super::keys::ApiKeys;
use super::tickets::{NoTicket, Tickets};
use super::{Caller, CallerKind};
use crate::edge::config::{EdgeConfig, EdgeConfigError};
use crate::edge::context::{Peer, RequestContext};
use crate::edge::problem::{Problem, Refusal};
use crate::edge::rate::{self, Applied, Buckets, Rate, RateConfig, client_address, client_block};

/// Where services behind the gateway read who asks, such as `key:shop`.
const CALLER: HeaderName = HeaderName::from_static("x-busway-caller");
/// Where they read the address that the request comes from.
const CLIENT: HeaderName = HeaderName::from_static("x-busway-client");
/// Headers that only the gateway may set begin like this, with `_` as good as `-`: some languages see no difference.
const OURS: &str = "x-busway-";

/// What a request wants, as far as its route tells.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted<'a> {
    /// Whether it is open to everybody.
    pub(crate) is_open: bool,
    /// The route of the manifest, if it is one.
    pub(crate) route: Option<&'a str>,
    /// How often a client may use that route.
    pub(crate) rate: Option<Rate>,
    /// Whether who shows nothing now is asked by the route itself, later.
    pub(crate) asks_later: bool,
}

/// Who counts as one client, in the extensions of a request: a caller with a name, or an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Client {
    Caller(CallerKind, Arc<str>),
    Address(IpAddr),
}

impl Client {
    /// The client that a caller at an address is.
    pub(crate) fn of(caller: &Caller, address: IpAddr) -> Self {
        match &caller.name {
            Some(name) => Self::Caller(caller.kind, Arc::clone(name)),
            None => Self::Address(client_block(address)),
        }
    }
}

/// What stays when the configuration changes.
#[derive(Debug)]
struct Lasting {
    clock: Arc<dyn Clock>,
    tickets: Tickets,
    /// Whether others than this machine reach the gateway.
    is_public: bool,
}

/// Buckets of one configuration; those whose rate did not change are taken over from the one before.
#[derive(Debug)]
struct Limits {
    config: RateConfig,
    clients: Arc<Buckets>,
    failed: Arc<Buckets>,
    routes: Vec<(Box<str>, Arc<Buckets>)>,
}

/// The gate of one configuration.
#[derive(Debug)]
pub(crate) struct Gate {
    lasting: Arc<Lasting>,
    is_locked: bool,
    /// Who shows nothing of who they are.
    everybody: Caller,
    keys: ApiKeys,
    tokens: Option<Arc<Keys>>,
    certificates: Certificates,
    documents_open: bool,
    limits: Limits,
}

/// Somebody who may pass.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(crate) caller: Caller,
    applied: Vec<Applied>,
}

impl Admitted {
    /// Writes how much they may still ask into their answer.
    pub(crate) fn tell(&self, headers: &mut HeaderMap) {
        rate::write(&self.applied, headers);
    }
}

/// Somebody who may not, with what they are told.
#[derive(Debug)]
pub(crate) struct TurnedAway {
    problem: Problem,
    applied: Vec<Applied>,
}

impl IntoResponse for TurnedAway {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response();
        rate::write(&self.applied, response.headers_mut());
        response
    }
}

/// Why a credential is not accepted.
enum Refused {
    Wrong(&'static str),
    Token(BadToken),
    TooMany(Applied),
    NoKeys,
}

impl Gate {
    /// The gate of a configuration; `before` is the one that it follows.
    pub(crate) fn of(
        config: &EdgeConfig,
        clock: &Arc<dyn Clock>,
        before: Option<&Self>,
        is_public: bool,
    ) -> Result<Self, EdgeConfigError> {
        if before.is_some_and(|before| before.is_locked) && !config.auth.is_configured() {
            return Err(EdgeConfigError::Auth(
                "[gateway.auth] is gone, which would open everything to everybody; restart the node if that is meant, or \
                 leave the table with nothing in it to let nobody in"
                    .to_owned(),
            ));
        }
        Self::new(config, clock, before, is_public).map_err(|error| {
            let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
            EdgeConfigError::Auth(format!("{error}{cause}"))
        })
    }

    fn new(
        config: &EdgeConfig,
        clock: &Arc<dyn Clock>,
        before: Option<&Self>,
        is_public: bool,
    ) -> Result<Self, KeysError> {
        let EdgeConfig { auth, events, .. } = config;
        let lasting = Lasting { clock: clock.clone(), tickets: Tickets::default(), is_public };
        let lasting = before.map_or_else(|| Arc::new(lasting), |gate| gate.lasting.clone());
        let everybody = match &events.topics {
            _ if auth.is_configured() => Caller::anonymous(),
            Some(topics) => Caller::everybody(topics),
            None if lasting.is_public => Caller::everybody(&[]),
            None => Caller::UNRESTRICTED,
        };
        let routes = config.routes.iter().filter_map(|route| Some((route.name.clone(), route.rate?)));
        let kept = before.and_then(|gate| gate.tokens.clone());
        let tokens = match (&auth.jwt, kept) {
            // What was fetched and is still good is not fetched again; what is read from this machine is.
            (Some(jwt), Some(kept)) if **kept.config() == *jwt && kept.is_fetched() => Some(kept),
            (Some(jwt), _) => Some(Arc::new(Keys::new(Arc::new(jwt.clone()), clock.clone())?)),
            (None, _) => None,
        };
        Ok(Self {
            lasting,
            is_locked: auth.is_configured(),
            everybody,
            keys: ApiKeys::new(&auth.keys),
            tokens,
            certificates: Certificates::new(&auth.certificates),
            documents_open: auth.documents_open,
            limits: Limits::new(&config.rate, routes, before.map(|gate| &gate.limits)),
        })
    }

    /// Whether it is open because nobody but this machine reaches it, as far as it knows.
    pub(crate) fn is_open_to_this_machine(&self) -> bool {
        !self.is_locked && !self.lasting.is_public && self.limits.config.trusted_proxies.0.is_empty()
    }

    /// Whether anybody may read what describes the gateway.
    pub(crate) fn are_documents_open(&self) -> bool {
        self.documents_open
    }

    /// Keeps the keys of the issuer fresh; never ends, and may be dropped at any time.
    pub(crate) async fn maintain(&self) {
        match &self.tokens {
            Some(tokens) => tokens.maintain().await,
            None => std::future::pending().await,
        }
    }

    /// Lets a request pass, or not. What it showed of itself is taken out of it, unless that is for somebody behind.
    pub(crate) async fn admit(&self, parts: &mut Parts, wanted: Wanted<'_>) -> Result<Admitted, TurnedAway> {
        remove(&mut parts.headers, is_ours);
        let Some(peer) = parts.extensions.get::<RequestContext>().map(|context| Arc::clone(&context.peer)) else {
            let problem = Problem::new(Refusal::Failed, "the gateway has lost the connection of this request");
            return Err(problem.into());
        };
        let address = self.address(&peer, &parts.headers);
        if !self.limits.config.trusted_proxies.contain(peer.addr.ip().to_canonical()) {
            remove(&mut parts.headers, is_provenance);
        }
        let is_closed = self.is_locked && !wanted.is_open;
        let caller = if is_closed {
            self.identify(parts, &peer, address).await.map_err(TurnedAway::from)?
        } else {
            self.everybody.clone()
        };
        let client = Client::of(&caller, address);
        let applied = self.limits.take(&client, wanted, self.lasting.clock.monotonic_ns());
        if let Some(over) = applied.iter().find(|applied| !applied.verdict.is_allowed) {
            return Err(TurnedAway { problem: too_many(over), applied });
        }
        let is_asked_later = wanted.asks_later && caller.kind == CallerKind::Anonymous;
        if is_closed && !is_asked_later && caller.kind == CallerKind::Anonymous {
            return Err(TurnedAway { problem: missing(), applied });
        }
        if is_closed && !is_asked_later && wanted.route.is_some_and(|route| !caller.may_use(route)) {
            return Err(TurnedAway { problem: forbidden(), applied });
        }
        if let Some(value) = caller_header(&caller) {
            parts.headers.insert(CALLER, value);
        }
        if let Ok(value) = HeaderValue::try_from(address.to_string()) {
            parts.headers.insert(CLIENT, value);
        }
        parts.extensions.insert(client);
        Ok(Admitted { caller, applied })
    }

    /// Who a credential stands for that did not come in a header, such as that of a Socket.IO client.
    pub(crate) async fn identify_text(&self, text: &str, peer: &Peer, headers: &HeaderMap) -> Result<Caller, Problem> {
        if !self.is_locked {
            return Ok(self.everybody.clone());
        }
        let address = self.address(peer, headers);
        self.check(Presented::read(text), address).await.map_err(|refused| refused.problem())
    }

    fn address(&self, peer: &Peer, headers: &HeaderMap) -> IpAddr {
        client_address(peer.addr.ip(), headers, &self.limits.config.trusted_proxies)
    }

    /// Whether a caller may still do what they might when they came in: for what stays open long.
    pub(crate) fn is_current(&self, caller: &Caller) -> bool {
        let now = self.lasting.clock.now();
        if caller.expires.is_some_and(|expires| now >= expires) {
            return false;
        }
        match caller.kind {
            CallerKind::Anonymous => caller.scopes == self.everybody.scopes,
            CallerKind::Key => self.keys.still_say(caller, now),
            CallerKind::Token => self.tokens.as_ref().is_some_and(|tokens| {
                let keys = tokens.current();
                keys.zip(caller.proof.as_ref()).is_some_and(|(keys, proof)| keys.proves(proof, tokens.config()))
            }),
            CallerKind::Certificate => self.certificates.still_say(caller),
        }
    }

    /// How long a caller may do what they may, by the clock of the node; none for ever.
    pub(crate) fn left(&self, caller: &Caller) -> Option<Duration> {
        Some(caller.expires?.since(self.lasting.clock.now()))
    }

    /// A ticket for somebody.
    pub(crate) fn ticket(&self, caller: &Caller) -> Result<String, NoTicket> {
        self.lasting.tickets.issue(caller, self.lasting.clock.now())
    }

    async fn identify(&self, parts: &mut Parts, peer: &Peer, address: IpAddr) -> Result<Caller, Problem> {
        let presented = Presented::take(parts).map_err(|Ambiguous| {
            Problem::invalid("show one credential, once: `Authorization: Bearer ..` or `X-API-Key: ..`")
        })?;
        if !matches!(presented, Presented::Nothing) {
            return self.check(presented, address).await.map_err(|refused| refused.problem());
        }
        let certified = peer.certificate.as_ref().and_then(|certificate| self.certificates.find(certificate));
        Ok(certified.unwrap_or_else(Caller::anonymous))
    }

    /// Who a credential stands for. An address that showed too many wrong ones is not looked at for a while; a good key
    /// passes all the same, so that nobody can lock out a neighbour: a key cannot be guessed, and costs little to check.
    async fn check(&self, presented: Presented, address: IpAddr) -> Result<Caller, Refused> {
        let Lasting { clock, tickets, .. } = &*self.lasting;
        let block = client_block(address);
        let failed = |verdict| Applied { policy: "failed", rate: self.limits.failed.rate(), verdict };
        let outcome = match presented {
            Presented::Key(key) => self.keys.find(&key, clock.now()).ok_or(Refused::Wrong("key")),
            Presented::Ticket(ticket) => {
                // What was taken away meanwhile is not given by a ticket.
                let caller = tickets.redeem(&ticket, clock.now()).filter(|caller| self.is_current(caller));
                caller.ok_or(Refused::Wrong("ticket"))
            }
            Presented::Token(token) => {
                let before = self.limits.failed.look(&block, clock.monotonic_ns());
                if before.is_allowed { self.token(&token).await } else { Err(Refused::TooMany(failed(before))) }
            }
            Presented::Nothing | Presented::Unusable => Err(Refused::Wrong("unusable")),
        };
        outcome.map_err(|refused| {
            // That the keys of the issuer are not there is not the client's fault; and a token that was good once is no
            // guess: a page that was left open must not lock its neighbours out.
            if matches!(refused, Refused::NoKeys | Refused::Token(BadToken::Claims(_))) {
                return refused;
            }
            let after = self.limits.failed.take(&block, clock.monotonic_ns());
            tracing::debug!(%address, reason = refused.reason(), "a credential was not accepted");
            if after.is_allowed { refused } else { Refused::TooMany(failed(after)) }
        })
    }

    async fn token(&self, token: &str) -> Result<Caller, Refused> {
        let Some(tokens) = &self.tokens else { return Err(Refused::Wrong("token")) };
        let check = |keys: &Keys| {
            let set = keys.current()?;
            Some(verify(token, &set, keys.config(), self.lasting.clock.now()))
        };
        let first = check(tokens);
        if let Some(Ok(caller)) = first {
            return Ok(caller);
        }
        // Keys that are not there yet, and keys that an issuer has begun to use: one fetch may help.
        if matches!(first, None | Some(Err(BadToken::UnknownKey))) && tokens.refreshed().await {
            return match check(tokens) {
                Some(outcome) => outcome.map_err(Refused::Token),
                None => Err(Refused::NoKeys),
            };
        }
        match first {
            Some(outcome) => outcome.map_err(Refused::Token),
            None => Err(Refused::NoKeys),
        }
    }
}

impl Limits {
    fn new(config: &RateConfig, routes: impl IntoIterator<Item = (Box<str>, Rate)>, before: Option<&Self>) -> Self {
        let before = before.filter(|before| before.config.clients == config.clients);
        let buckets = |rate: Rate, kept: Option<&Arc<Buckets>>| match kept {
            Some(kept) if kept.rate() == rate => kept.clone(),
            _ => Arc::new(Buckets::new(rate, config.clients)),
        };
        let kept_route = |name: &str, rate: Rate| {
            before?.routes.iter().find(|(known, b)| **known == *name && b.rate() == rate).map(|(_, b)| b)
        };
        let routes = routes.into_iter().map(|(name, rate)| {
            let kept = kept_route(&name, rate);
            (name, buckets(rate, kept))
        });
        Self {
            routes: routes.collect(),
            clients: buckets(config.requests, before.map(|before| &before.clients)),
            failed: buckets(config.failed, before.map(|before| &before.failed)),
            config: config.clone(),
        }
    }

    fn take(&self, client: &Client, wanted: Wanted<'_>, now_ns: u64) -> Vec<Applied> {
        let take =
            |buckets: &Buckets, policy| Applied { policy, rate: buckets.rate(), verdict: buckets.take(client, now_ns) };
        let mut applied = vec![take(&self.clients, "client")];
        if let (Some(route), Some(rate)) = (wanted.route, wanted.rate)
            && applied.iter().all(|applied| applied.verdict.is_allowed)
            // Routes may share a name; those with one rate share it then.
            && let Some((_, buckets)) = self.routes.iter().find(|(n, b)| **n == *route && b.rate() == rate)
        {
            applied.push(take(buckets, "route"));
        }
        applied
    }
}

impl Refused {
    fn reason(&self) -> &'static str {
        match self {
            Self::Wrong(what) | Self::Token(BadToken::Claims(what)) => what,
            Self::Token(BadToken::NotOurs) => "token: form, algorithm or signature",
            Self::Token(BadToken::UnknownKey) => "token: unknown key",
            Self::TooMany(_) => "too many before it",
            Self::NoKeys => "no keys of the issuer",
        }
    }

    fn problem(&self) -> Problem {
        let detail = match self {
            Self::Token(claims @ BadToken::Claims(_)) => claims.to_string(),
            Self::TooMany(over) => return too_many(over),
            Self::NoKeys => {
                let detail = "tokens cannot be checked now, since the keys of their issuer are not to be had";
                return Problem::new(Refusal::Unavailable, detail).header(RETRY_AFTER, HeaderValue::from_static("5"));
            }
            Self::Wrong(_) | Self::Token(_) => "the credential is not accepted".to_owned(),
        };
        let challenge = HeaderValue::from_static("Bearer realm=\"busway\", error=\"invalid_token\"");
        Problem::new(Refusal::Unauthorized, detail).header(WWW_AUTHENTICATE, challenge)
    }
}

impl From<Problem> for TurnedAway {
    fn from(problem: Problem) -> Self {
        Self { problem, applied: Vec::new() }
    }
}

fn missing() -> Problem {
    let detail = "show who you are: `Authorization: Bearer KEY-OR-TOKEN`, or `X-API-Key: KEY`";
    Problem::new(Refusal::Unauthorized, detail)
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"busway\""))
}

/// What somebody known is told who may not do something; the same whatever it was.
pub(crate) fn forbidden() -> Problem {
    Problem::new(Refusal::Forbidden, "this credential does not allow that")
        .header(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"busway\", error=\"insufficient_scope\""))
}

fn too_many(over: &Applied) -> Problem {
    let wait = rate::seconds(over.verdict.wait).max(1);
    let what = if over.policy == "failed" { "wrong credentials" } else { "requests" };
    Problem::new(Refusal::TooMany, format!("too many {what}; try again in {wait} s"))
        .with("violated-policies", vec![over.policy])
        .header(RETRY_AFTER, HeaderValue::from(wait))
}

/// Whether only the gateway may say this.
pub(crate) fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str().as_bytes();
    name.len() >= OURS.len() && name.iter().zip(OURS.bytes()).all(|(a, b)| *a == b || (*a == b'_' && b == b'-'))
}

/// Whether this says where a request comes from, which only a proxy that is trusted may.
fn is_provenance(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("x-forwarded-") || matches!(name, "forwarded" | "x-real-ip")
}

fn remove(headers: &mut HeaderMap, is_out: impl Fn(&HeaderName) -> bool) {
    let names: Vec<HeaderName> = headers.keys().filter(|name| is_out(name)).cloned().collect();
    for name in names {
        headers.remove(name);
    }
}

fn caller_header(caller: &Caller) -> Option<HeaderValue> {
    HeaderValue::from_bytes(caller.identity()?.as_bytes()).ok()
}
