//! WebSocket: subscriptions, publications and acknowledgements over one connection.
//!
//! Invariants: events are read from the log one piece at a time, the next piece when the last one is sent, so a slow
//! client holds one piece; one that takes nothing for too long is disconnected and resumes from the `id` of its last
//! event. What a client says is handled in its order.

mod message;
mod subscriptions;

use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket};
use busway_types::Pattern;
use futures_util::future::BoxFuture;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::Instant;

use self::message::{Said, ToPublish};
use self::subscriptions::{Subscription, Subscriptions};
use super::config::LiveConfig;
use super::feed::{Cursor, Feed, Piece, Start};
use super::pace::Pace;
use super::permit::Over;
use super::places::Place;
use super::render::{self, Form};
use crate::admin::api::TailFrom;
use crate::edge::auth::Caller;
use crate::edge::problem::{Problem, Refusal};
use crate::edge::{Edge, EdgeBackend, EdgeError};

/// Why a connection is ended by this side, as close codes.
pub(crate) mod close {
    /// The node stops; come back, to another node perhaps.
    pub(crate) const STOPPING: u16 = 1012;
    /// More messages than a client may send.
    pub(crate) const TOO_MANY: u16 = 1008;
    /// A message is larger than allowed.
    pub(crate) const TOO_LARGE: u16 = 1009;
    /// The time of a connection is over; come back behind the last event.
    pub(crate) const RENEW: u16 = 4000;
    /// Nothing was taken for too long.
    pub(crate) const TOO_SLOW: u16 = 4001;
    /// Two signs of life were not answered.
    pub(crate) const SILENT: u16 = 4002;
    /// The credential does not hold any more; come back with another one.
    pub(crate) const CREDENTIAL: u16 = 4003;
}

/// What one connection needs.
pub(crate) struct Session {
    pub(crate) backend: Arc<dyn EdgeBackend>,
    pub(crate) config: Arc<LiveConfig>,
    pub(crate) edge: Weak<Edge>,
    pub(crate) caller: Caller,
    /// With these the route shows just these topics, to whoever may use it, and takes no events.
    pub(crate) route: Option<Arc<[Pattern]>>,
    pub(crate) traceparent: Option<Box<str>>,
    pub(crate) until: Instant,
    pub(crate) stop: watch::Receiver<bool>,
    /// Ends when whoever listens may not any more.
    pub(crate) over: BoxFuture<'static, Over>,
    pub(crate) place: Place,
}

struct Connection {
    session: Session,
    socket: WebSocket,
    subscriptions: Subscriptions,
    pace: Pace,
    ping_at: Instant,
    unanswered: u32,
}

/// Why a connection ends.
enum End {
    /// The client left, or cannot be reached.
    Gone,
    /// This side ends it.
    Close(u16, &'static str),
}

enum Step {
    Message(Option<Result<Message, axum::Error>>),
    Piece(usize, Result<Piece, EdgeError>),
    Ping,
    End(End),
}

/// Serves one connection until it ends.
pub(crate) async fn serve(socket: WebSocket, session: Session) {
    let now = Instant::now();
    let mut connection = Connection {
        pace: Pace::new(session.config.messages_per_second, now),
        ping_at: now + session.config.heartbeat,
        session,
        socket,
        subscriptions: Subscriptions::default(),
        unanswered: 0,
    };
    if let Err(End::Close(code, reason)) = connection.run().await {
        let frame = CloseFrame { code, reason: reason.into() };
        // Best effort: who takes nothing does not take this either.
        let closing = connection.socket.send(Message::Close(Some(frame)));
        if !matches!(tokio::time::timeout(Duration::from_secs(1), closing).await, Ok(Ok(()))) {
            tracing::debug!(code, reason, "a WebSocket was dropped, for its client took nothing");
        }
    }
    drop(connection.session.place);
}

impl Connection {
    async fn run(&mut self) -> Result<(), End> {
        loop {
            match self.step().await {
                Step::Message(message) => self.message(message).await?,
                Step::Piece(at, piece) => self.piece(at, piece).await?,
                Step::Ping => self.ping().await?,
                Step::End(end) => return Err(end),
            }
        }
    }

    async fn step(&mut self) -> Step {
        let Self { session, socket, subscriptions, ping_at, .. } = self;
        tokio::select! {
            biased;
            _ = session.stop.wait_for(|stopped| *stopped) => Step::End(End::Close(close::STOPPING, "stopping")),
            over = &mut session.over => Step::End(End::Close(code(over), over.reason())),
            () = tokio::time::sleep_until(session.until) => Step::End(End::Close(close::RENEW, "renew")),
            () = tokio::time::sleep_until(*ping_at) => Step::Ping,
            message = socket.recv() => Step::Message(message),
            (at, piece) = subscriptions.next() => Step::Piece(at, piece),
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.unanswered >= 2 {
            return Err(End::Close(close::SILENT, "no sign of life"));
        }
        self.unanswered += 1;
        self.ping_at = Instant::now() + self.session.config.heartbeat;
        self.send(Message::Ping(bytes::Bytes::new())).await
    }

    async fn send(&mut self, message: Message) -> Result<(), End> {
        match tokio::time::timeout(self.session.config.stall, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(End::Gone),
            Err(_) => Err(End::Close(close::TOO_SLOW, "too slow")),
        }
    }

    async fn say(&mut self, value: &Value) -> Result<(), End> {
        self.send(Message::text(value.to_string())).await
    }

    async fn message(&mut self, message: Option<Result<Message, axum::Error>>) -> Result<(), End> {
        let Some(Ok(message)) = message else { return Err(End::Gone) };
        self.unanswered = 0;
        if !self.pace.take(Instant::now()) {
            return Err(End::Close(close::TOO_MANY, "too many messages"));
        }
        let text = match message {
            Message::Text(text) => text,
            Message::Binary(_) => {
                return self.refuse(None, &Problem::invalid("messages are JSON in text frames, not binary ones")).await;
            }
            Message::Close(_) => return Err(End::Gone),
            Message::Ping(_) | Message::Pong(_) => return Ok(()),
        };
        if text.len() > self.session.config.message_bytes {
            return Err(End::Close(close::TOO_LARGE, "the message is too large"));
        }
        match serde_json::from_str::<Said>(&text) {
            Ok(said) => self.said(said).await,
            Err(error) => self.refuse(None, &Problem::invalid(format!("no message of this protocol: {error}"))).await,
        }
    }

    async fn said(&mut self, said: Said) -> Result<(), End> {
        let reference = said.reference.clone();
        let name = said.name.clone().unwrap_or_default();
        let done = match said {
            Said { subscribe: Some(patterns), unsubscribe: None, ack: None, publish: None, from, window, .. } => {
                self.subscribe(&patterns, name, from.as_deref(), window).await
            }
            Said { subscribe: None, unsubscribe: Some(name), ack: None, publish: None, .. } => {
                self.subscriptions.remove(&name).map(|()| json!({}))
            }
            Said { subscribe: None, unsubscribe: None, ack: Some(id), publish: None, .. } => {
                // Acknowledgements are many and cheap; only a mistake is answered.
                return match self.subscriptions.ack(&name, &id) {
                    Ok(()) => Ok(()),
                    Err(problem) => self.refuse(reference.as_deref(), &problem).await,
                };
            }
            Said { subscribe: None, unsubscribe: None, ack: None, publish: Some(event), .. } => {
                self.publish(event).await
            }
            _ => Err(Problem::invalid("give exactly one of `subscribe`, `unsubscribe`, `ack` and `publish`")),
        };
        match done {
            Ok(mut answer) => {
                answer["ok"] = raw(reference.as_deref());
                self.say(&answer).await
            }
            Err(problem) => self.refuse(reference.as_deref(), &problem).await,
        }
    }

    async fn refuse(&mut self, reference: Option<&RawValue>, problem: &Problem) -> Result<(), End> {
        self.say(&json!({ "error": problem.document(), "ref": raw(reference) })).await
    }

    async fn subscribe(
        &mut self,
        patterns: &[String],
        name: String,
        from: Option<&str>,
        window: Option<usize>,
    ) -> Result<Value, Problem> {
        let config = &self.session.config;
        let patterns = super::patterns(patterns, self.session.route.as_ref(), config.patterns)?;
        self.subscriptions.check(&name, window, config.subscriptions)?;
        let from = from.map_or(Ok(Start::From(TailFrom::Now)), Start::parse).map_err(Problem::invalid)?;
        let caller = self.session.route.is_none().then(|| self.session.caller.clone());
        caller.as_ref().map_or(Ok(()), |caller| super::may_see_any(caller, &patterns))?;
        let feed = Feed::open(self.session.backend.clone(), patterns, caller, from).await;
        let feed = feed.map_err(Problem::from)?;
        let cursor = feed.cursor().to_string();
        self.subscriptions.add(Subscription::new(name, feed, window));
        Ok(json!({ "id": cursor }))
    }

    async fn publish(&mut self, event: ToPublish) -> Result<Value, Problem> {
        if self.session.route.is_some() {
            return Err(Problem::new(Refusal::Forbidden, "this route shows events and takes none"));
        }
        let Session { backend, caller, edge, .. } = &self.session;
        let mut draft = event.into_draft(caller, backend.limits()).map_err(Problem::invalid)?;
        if draft.causality.traceparent.is_none() {
            draft.causality.traceparent.clone_from(&self.session.traceparent);
        }
        if !caller.may_publish(&draft.topic) {
            return Err(Problem::new(
                Refusal::Forbidden,
                format!("publishing to {} needs a scope for it", draft.topic),
            ));
        }
        let edge = edge.upgrade().ok_or(EdgeError::Stopping)?;
        super::may_say(&edge.config().routes, &draft)?;
        let receipts = backend.publish(vec![draft]).await.map_err(Problem::from)?;
        let receipt = receipts.first().ok_or_else(|| Problem::from(EdgeError::Failed("no receipt".to_owned())))?;
        Ok(json!({ "event": receipt.id }))
    }

    async fn piece(&mut self, at: usize, piece: Result<Piece, EdgeError>) -> Result<(), End> {
        let name = self.subscriptions.name(at);
        let piece = match piece {
            Ok(piece) => piece,
            Err(EdgeError::Stopping) => return Err(End::Close(close::STOPPING, "stopping")),
            Err(error) => {
                self.subscriptions.drop_at(at);
                return self.say(&json!({ "error": Problem::from(error).document(), "name": name })).await;
            }
        };
        if let Some(missed) = piece.missed {
            self.say(&json!({ "missed": render::missed(missed), "name": name })).await?;
        }
        for logged in &piece.events {
            let id = Cursor::behind(logged);
            self.subscriptions.sent(at, id);
            let event = render::event(logged, Form::CloudEvents).text;
            let text = format!(r#"{{"event":{event},"id":"{id}","name":{}}}"#, Value::from(&*name));
            self.send(Message::text(text)).await?;
        }
        self.subscriptions.turn();
        Ok(())
    }
}

fn code(over: Over) -> u16 {
    match over {
        Over::Credential => close::CREDENTIAL,
        Over::Route => close::RENEW,
    }
}

/// What the client gave, as it gave it; null when it gave nothing.
fn raw(reference: Option<&RawValue>) -> Value {
    reference.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or(Value::Null)
}
