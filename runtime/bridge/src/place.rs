//! Where messages are that are not on the bus: `amqp://HOST[/VHOST]/queue/NAME`,
//! `amqp://HOST[/VHOST]/exchange/NAME?routing-key=KEY`, `nats://HOST/subject/SUBJECT`, `nats://HOST/stream/NAME`.
//!
//! Role: reads such an address, for one of the two directions, and never shows what is secret in it. The server's part of it
//! is that of an engine's address.

use std::fmt;
use std::path::Path;

use busway_engine::{AmqpServer, NatsUrl};
use percent_encoding::percent_decode_str;
use url::Url;

/// Whether a bridge takes messages from a place or gives them to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Messages are taken from it.
    From,
    /// Messages are given to it.
    To,
}

/// A queue, exchange, subject or stream of a broker. Printing it shows no password and no token.
#[derive(Clone, PartialEq, Eq)]
pub struct Place(pub(crate) At);

#[derive(Clone, PartialEq, Eq)]
pub(crate) enum At {
    Amqp { server: AmqpServer, at: Amqp },
    Nats { server: NatsUrl, at: Nats },
}

/// What is meant of a RabbitMQ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Amqp {
    Queue(String),
    /// Without a routing key it is the event's topic.
    Exchange {
        name: String,
        routing_key: Option<String>,
    },
}

/// What is meant of a NATS server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Nats {
    /// A subject of core NATS, and the queue group of those who share its messages.
    Subject { subject: String, group: Option<String> },
    /// A stream that is read by a durable consumer, from its start or only what is new.
    Source { stream: String, consumer: Option<String>, filter: Option<String>, only_new: bool },
    /// A stream that is written to.
    Target { stream: String, subject: String },
}

/// Why an address cannot be used. Never contains the address itself, which may have a password in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0}; write amqp://HOST/queue/NAME, amqp://HOST/exchange/NAME?routing-key=KEY, nats://HOST/subject/SUBJECT or \
     nats://HOST/stream/NAME"
)]
pub struct InvalidPlace(String);

fn wrong(why: impl Into<String>) -> InvalidPlace {
    InvalidPlace(why.into())
}

/// What an address has behind its host, before anything is known of it.
struct Parts {
    /// The address without the place.
    server: Url,
    /// Decoded.
    segments: Vec<String>,
    options: Vec<(String, String)>,
}

impl Parts {
    fn take(&mut self, option: &str) -> Option<String> {
        let at = self.options.iter().position(|(name, _)| name == option)?;
        Some(self.options.remove(at).1)
    }

    /// Gives what is left to the server's address.
    fn server(mut self, known: &[&str]) -> Result<String, InvalidPlace> {
        if let Some((name, _)) = self.options.iter().find(|(name, _)| !known.contains(&name.as_str())) {
            let name: String = name.chars().take(40).collect();
            return Err(wrong(format!("`{name}` is no option of this place (of its server: {})", known.join(", "))));
        }
        let mut query = self.server.query_pairs_mut();
        query.clear().extend_pairs(&self.options);
        drop(query);
        if self.options.is_empty() {
            self.server.set_query(None);
        }
        Ok(self.server.into())
    }
}

fn parts(text: &str) -> Result<Parts, InvalidPlace> {
    let mut url = Url::parse(text).map_err(|error| wrong(format!("the address of a place is malformed ({error})")))?;
    let decode = |part: &str| percent_decode_str(part).decode_utf8().map(std::borrow::Cow::into_owned);
    let segments = url.path().split('/').skip(1).map(decode).collect::<Result<_, _>>();
    let segments = segments.map_err(|_| wrong("a percent sign in the path is malformed"))?;
    let options = url.query_pairs().map(|(name, value)| (name.into_owned(), value.into_owned())).collect();
    url.set_path("");
    Ok(Parts { server: url, segments, options })
}

/// What an error says before its advice, which is for the address of an engine.
fn cause(error: impl fmt::Display) -> InvalidPlace {
    let text = error.to_string();
    wrong(text.split(';').next().unwrap_or_default())
}

impl Place {
    /// Whether a text looks like an address of a place, right or wrong.
    pub fn is_meant(text: &str) -> bool {
        text.contains("://")
    }

    /// Reads an address.
    pub fn parse(text: &str, direction: Direction) -> Result<Self, InvalidPlace> {
        let parts = parts(text)?;
        match parts.server.scheme() {
            "amqp" | "amqps" => amqp(parts, direction),
            "nats" | "tls" => nats(parts, direction),
            _ => Err(wrong("the address of a place begins with amqp://, amqps://, nats:// or tls://")),
        }
    }

    /// With the login of the environment, where the address has none, as the addresses of engines.
    #[must_use]
    pub fn with_environment(self, look: impl Fn(&str) -> Option<String>) -> Self {
        Self(match self.0 {
            At::Amqp { server, at } => At::Amqp { server: server.with_environment(look), at },
            At::Nats { server, at } => At::Nats { server: server.with_environment(look), at },
        })
    }

    /// The same place, with relative files taken from `base`.
    #[must_use]
    pub fn relative_to(self, base: &Path) -> Self {
        Self(match self.0 {
            At::Amqp { server, at } => At::Amqp { server: server.relative_to(base), at },
            At::Nats { server, at } => At::Nats { server: server.relative_to(base), at },
        })
    }

    /// Whether messages given to this place come out of `source`, as far as the two addresses show it.
    pub fn feeds(&self, source: &Self) -> bool {
        match (&self.0, &source.0) {
            (At::Amqp { server, at: Amqp::Queue(to) }, At::Amqp { server: other, at: Amqp::Queue(from) }) => {
                server.is_same_server(other) && to == from
            }
            (At::Nats { server, at: to }, At::Nats { server: other, at: from }) => {
                server.is_same_server(other) && nats_feeds(to, from)
            }
            _ => false,
        }
    }
}

fn nats_feeds(to: &Nats, from: &Nats) -> bool {
    let (Nats::Subject { subject: to_subject, .. } | Nats::Target { subject: to_subject, .. }) = to else {
        return false;
    };
    match (to, from) {
        (_, Nats::Subject { subject, .. }) => selects(subject, to_subject),
        (Nats::Target { stream, .. }, Nats::Source { stream: other, filter, .. }) => {
            stream == other && filter.as_ref().is_none_or(|filter| selects(filter, to_subject))
        }
        // Which subjects a stream takes is not seen here, only what is read of it.
        (Nats::Subject { .. }, Nats::Source { filter: Some(filter), .. }) => selects(filter, to_subject),
        _ => false,
    }
}

fn amqp(mut parts: Parts, direction: Direction) -> Result<Place, InvalidPlace> {
    let (kind, name) = match &mut parts.segments[..] {
        [kind, name] => (std::mem::take(kind), std::mem::take(name)),
        [vhost, kind, name] => {
            let path = format!("/{}", vhost.replace('%', "%25").replace('/', "%2f"));
            parts.server.set_path(&path);
            (std::mem::take(kind), std::mem::take(name))
        }
        _ => return Err(wrong("the address says no queue and no exchange")),
    };
    if name.is_empty() || name.len() > 255 {
        return Err(wrong("a queue or exchange of RabbitMQ has a name of 1 to 255 bytes"));
    }
    let at = match (&*kind, direction) {
        ("queue", _) => Amqp::Queue(name),
        ("exchange", Direction::To) => {
            let routing_key = parts.take("routing-key");
            if routing_key.as_ref().is_some_and(|key| key.len() > 255) {
                return Err(wrong("a routing key has at most 255 bytes"));
            }
            Amqp::Exchange { name, routing_key }
        }
        ("exchange", Direction::From) => {
            return Err(wrong("messages come out of a queue: bind one to the exchange and name it here"));
        }
        _ => return Err(wrong(format!("`{}` is neither `queue` nor `exchange`", short(&kind)))),
    };
    let server = parts.server(&["ca", "cert", "key"])?;
    Ok(Place(At::Amqp { server: server.parse().map_err(cause)?, at }))
}

fn nats(mut parts: Parts, direction: Direction) -> Result<Place, InvalidPlace> {
    let [kind, name] = &mut parts.segments[..] else {
        return Err(wrong("the address says no subject and no stream"));
    };
    let (kind, name) = (std::mem::take(kind), std::mem::take(name));
    let at = match (&*kind, direction) {
        ("subject", Direction::From) => {
            let group = parts.take("group");
            if group.as_ref().is_some_and(|group| !is_token(group)) {
                return Err(wrong("a queue group of NATS has 1 to 64 characters, without spaces, `*`, `>` or `.`"));
            }
            Nats::Subject { subject: pattern(name)?, group }
        }
        ("subject", Direction::To) => Nats::Subject { subject: subject(name)?, group: None },
        ("stream", _) if !is_token(&name) => {
            return Err(wrong("a stream of NATS has a name of 1 to 64 characters, without spaces, `*`, `>` or `.`"));
        }
        ("stream", Direction::From) => {
            let (consumer, filter) = (parts.take("consumer"), parts.take("filter").map(pattern).transpose()?);
            if consumer.as_ref().is_some_and(|consumer| !is_token(consumer)) {
                return Err(wrong("a consumer of NATS has 1 to 64 characters, without spaces, `*`, `>` or `.`"));
            }
            let only_new = match parts.take("deliver").as_deref() {
                None | Some("all") => false,
                Some("new") => true,
                Some(_) => return Err(wrong("`deliver` is `all` (from the start of the stream) or `new`")),
            };
            Nats::Source { stream: name, consumer, filter, only_new }
        }
        ("stream", Direction::To) => {
            let to = parts.take("subject").ok_or_else(|| wrong("a stream needs ?subject=SUBJECT: where to in it"))?;
            Nats::Target { stream: name, subject: subject(to)? }
        }
        _ => return Err(wrong(format!("`{}` is neither `subject` nor `stream`", short(&kind)))),
    };
    let server = parts.server(&["credentials", "ca", "cert", "key"])?;
    Ok(Place(At::Nats { server: server.parse().map_err(cause)?, at }))
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Whether a text can be the name of something of NATS.
fn is_token(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic() && !"*>./\\".contains(c))
}

/// A subject, possibly with wildcards.
fn pattern(text: String) -> Result<String, InvalidPlace> {
    let tokens = text.split('.').count();
    let fits = |(place, token): (usize, &str)| match token {
        "" => false,
        ">" => place + 1 == tokens,
        "*" => true,
        token => token.chars().all(|c| c.is_ascii_graphic() && !"*>".contains(c)),
    };
    if text.len() <= 255 && text.split('.').enumerate().all(fits) {
        return Ok(text);
    }
    Err(wrong(format!("`{}` is no subject of NATS", short(&text))))
}

/// A subject that can be published to.
fn subject(text: String) -> Result<String, InvalidPlace> {
    let text = pattern(text)?;
    if text.split('.').any(|token| matches!(token, "*" | ">")) {
        return Err(wrong(format!("nothing can be published to the wildcards of `{}`", short(&text))));
    }
    Ok(text)
}

/// Whether a subject with wildcards selects one without.
fn selects(pattern: &str, subject: &str) -> bool {
    let mut tokens = subject.split('.');
    for wanted in pattern.split('.') {
        match (wanted, tokens.next()) {
            (">", Some(_)) => return true,
            ("*", Some(_)) => {}
            (wanted, Some(token)) if wanted == token => {}
            _ => return false,
        }
    }
    tokens.next().is_none()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            At::Amqp { server, at: Amqp::Queue(name) } => write!(f, "{server}/queue/{name}"),
            At::Amqp { server, at: Amqp::Exchange { name, routing_key } } => {
                write!(f, "{server}/exchange/{name}")?;
                routing_key.as_ref().map_or(Ok(()), |key| write!(f, "?routing-key={key}"))
            }
            At::Nats { server, at } => {
                let server = server.shown_server();
                match at {
                    Nats::Subject { subject, .. } => write!(f, "{server}/subject/{subject}"),
                    Nats::Source { stream, .. } => write!(f, "{server}/stream/{stream}"),
                    Nats::Target { stream, subject } => write!(f, "{server}/stream/{stream}?subject={subject}"),
                }
            }
        }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[path = "place_tests.rs"]
mod tests;
