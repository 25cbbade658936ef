//! What is asked of the server: connecting, streams, messages.
//!
//! Role: every call to the NATS client, with its errors sorted by what has to be done about them. A bus has two streams:
//! the journal, with records alone, and the state, with one message for each subject: the owner's lease, the newest
//! snapshot and its parts.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::context::{ContextBuilder, CreateStreamErrorKind, PublishAckFuture, PublishErrorKind};
use async_nats::jetstream::stream::{
    Config, DirectGetErrorKind, DiscardPolicy, Info, InfoError, LastRawMessageErrorKind, RetentionPolicy, StorageType,
    Stream,
};
use async_nats::jetstream::{Context, ErrorCode};
use async_nats::{Client, ConnectOptions, Event, HeaderMap, header};
use bytes::Bytes;

use super::url::{Login, NatsUrl};
use crate::EngineError;
use crate::address::{CERTIFICATE, PRIVATE_KEY, pem};
use crate::shared::{Extent, Trouble, later, pause};

/// How long one question to the server may take.
pub(super) const ASK_FOR: Duration = Duration::from_secs(5);
/// How long the first connection may take.
const CONNECT_FOR: Duration = Duration::from_secs(5);
/// What a message may be longer than its payload: headers and the protocol's own words.
const HEADER_ROOM: usize = 4 * 1024;

/// Connects to a server.
pub(super) async fn connect(url: &NatsUrl) -> Result<Client, EngineError> {
    let shown = url.to_string();
    let options = ConnectOptions::new()
        .name(format!("busway {}", url.name))
        .connection_timeout(CONNECT_FOR)
        .request_timeout(Some(ASK_FOR))
        .max_reconnects(None)
        .reconnect_delay_callback(pause)
        .event_callback(move |event| {
            let shown = shown.clone();
            async move {
                match event {
                    Event::Disconnected => tracing::warn!(server = shown, "the connection is lost; trying again"),
                    Event::Connected => tracing::info!(server = shown, "connected"),
                    other => tracing::debug!(server = shown, "{other}"),
                }
            }
        });
    let client = connect_with(options, url).await?;
    if !client.is_server_compatible(2, 11, 0) {
        return Err(too_old(url, &client));
    }
    Ok(client)
}

/// Connects with the login and the certificates of an address.
pub(super) async fn connect_with(options: ConnectOptions, url: &NatsUrl) -> Result<Client, EngineError> {
    let refused = |what: &str, error: &dyn std::fmt::Display| {
        EngineError::Refused(format!(
            "{what} {url}: {error}; check the address, the login, with TLS the certificates, and that the server runs"
        ))
    };
    let options = match &url.login {
        Login::Nobody => options,
        Login::Password(user, password) => options.user_and_password(user.clone(), password.clone()),
        Login::Token(token) => options.token(token.clone()),
        Login::Credentials(file) => options
            .credentials_file(file)
            .await
            .map_err(|error| refused(&format!("the credentials {} cannot be read for", file.display()), &error))?,
    };
    let usable = |file: &Path, what: &str| match pem(file, what) {
        Ok(_) => Ok(file.to_owned()),
        Err(why) => Err(refused("no TLS with", &why)),
    };
    let options = match &url.ca {
        Some(file) => options.add_root_certificates(usable(file, CERTIFICATE)?),
        None => options,
    };
    let options = match &url.cert {
        Some((cert, key)) => options.add_client_certificate(usable(cert, CERTIFICATE)?, usable(key, PRIVATE_KEY)?),
        None => options,
    };
    options.connect(&url.server).await.map_err(|error| refused("cannot connect to", &error))
}

fn too_old(url: &NatsUrl, client: &Client) -> EngineError {
    let version = client.server_info().version;
    EngineError::Refused(format!(
        "the server at {url} is NATS {version}; busway needs 2.11 or newer, with JetStream, because an older one silently \
         ignores the time to live of messages, on which ownership rests"
    ))
}

/// One stream and the subject that is written to.
#[derive(Clone, Debug)]
pub(super) struct Remote {
    context: Context,
    stream: Stream<()>,
    subject: String,
}

/// Both streams of a bus.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) journal: Remote,
    pub(super) state: Remote,
}

impl Streams {
    /// Makes the streams of a bus, or finds them and checks that they are what they have to be.
    pub(super) async fn open(url: &NatsUrl, client: Client) -> Result<Self, EngineError> {
        let context = ContextBuilder::new().timeout(ASK_FOR).max_ack_inflight(4_096).build(client.clone());
        let name = &url.name;
        let common = |what: &str, subjects: String| Config {
            name: format!("BUSWAY-{name}-{what}"),
            subjects: vec![subjects],
            retention: RetentionPolicy::Limits,
            discard: DiscardPolicy::New,
            storage: StorageType::File,
            num_replicas: url.replicas,
            allow_direct: true,
            ..Config::default()
        };
        let journal = common("journal", format!("busway.{name}.journal"));
        let state = Config {
            max_messages_per_subject: 1,
            allow_message_ttl: true,
            discard: DiscardPolicy::Old,
            ..common("state", format!("busway.{name}.state.>"))
        };
        let journal = Remote::open(&context, url, &client, journal, format!("busway.{name}.journal")).await?;
        let state = Remote::open(&context, url, &client, state, format!("busway.{name}.state")).await?;
        Ok(Self { journal, state })
    }
}

/// The first setting in which a stream is not what was asked for.
fn difference(wanted: &Config, found: &Config) -> Option<&'static str> {
    let checks = [
        (wanted.subjects == found.subjects, "subjects"),
        (wanted.retention == found.retention, "retention"),
        (wanted.storage == found.storage, "storage"),
        (wanted.discard == found.discard, "discard"),
        (wanted.max_messages_per_subject.max(0) == found.max_messages_per_subject.max(0), "max_msgs_per_subject"),
        (found.max_age.is_zero(), "max_age"),
        (found.max_messages <= 0, "max_msgs"),
        (wanted.allow_message_ttl == found.allow_message_ttl, "allow_msg_ttl"),
        (found.allow_direct, "allow_direct"),
        (!found.deny_purge && !found.deny_delete, "deny_purge, deny_delete"),
    ];
    checks.into_iter().find(|(same, _)| !same).map(|(_, setting)| setting)
}

impl Remote {
    async fn open(
        context: &Context,
        url: &NatsUrl,
        client: &Client,
        config: Config,
        subject: String,
    ) -> Result<Self, EngineError> {
        let name = config.name.clone();
        let refused = |error: &dyn std::fmt::Display| {
            EngineError::Refused(format!(
                "the stream {name} at {url} cannot be made or read: {error}; JetStream has to be enabled there, and this \
                 login needs the right to its API"
            ))
        };
        let made = match context.create_stream(config.clone()).await {
            Ok(made) => Ok(made.cached_info().config.clone()),
            Err(error) => match error.kind() {
                CreateStreamErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NAME_EXIST => {
                    let found = context.get_stream(&name).await.map_err(|error| refused(&error))?;
                    Ok(found.cached_info().config.clone())
                }
                _ => Err(refused(&error)),
            },
        }?;
        if config.allow_message_ttl && !made.allow_message_ttl && made.max_messages_per_subject == 1 {
            return Err(too_old(url, client));
        }
        if let Some(setting) = difference(&config, &made) {
            return Err(EngineError::Refused(format!(
                "the stream {name} at {url} has another `{setting}` than busway needs; another program made or changed it. \
                 Choose another name for the bus (nats://HOST/NAME), or remove the stream if nothing in it is needed"
            )));
        }
        let stream = context.get_stream_no_info(&name).await.map_err(|error| refused(&error))?;
        Ok(Self { context: context.clone(), stream, subject })
    }

    /// What everything goes through.
    pub(super) fn client(&self) -> Client {
        self.context.client()
    }

    /// The longest payload that a message may have.
    pub(super) fn most(&self) -> usize {
        self.context.client().max_payload().saturating_sub(HEADER_ROOM).max(HEADER_ROOM)
    }

    /// How far it goes now, as its leader knows it.
    pub(super) async fn extent(&self) -> Result<Extent, Trouble> {
        let info: Result<Info, InfoError> = self.stream.get_info().await;
        match info {
            Ok(info) => {
                let state = info.state;
                Ok(Extent { first: state.first_sequence, last: state.last_sequence, bytes: state.bytes })
            }
            Err(error) if error.to_string().contains("stream not found") => Err(Trouble::Gone),
            Err(error) => Err(later(&error)),
        }
    }

    /// The message at a sequence.
    pub(super) async fn get(&self, sequence: u64) -> Result<Bytes, Trouble> {
        match self.stream.direct_get_builder().sequence(sequence).send().await {
            Ok(message) => return Ok(message.payload),
            Err(error) if error.kind() == DirectGetErrorKind::NotFound => {}
            Err(error) => return Err(later(&error)),
        }
        // A replica may not have it yet: its leader knows.
        match self.stream.get_raw_message(sequence).await {
            Ok(message) => Ok(message.payload),
            Err(error) => Err(of_message(&error)),
        }
    }

    /// The newest message of a subject, with its sequence.
    pub(super) async fn newest(&self, under: &str) -> Result<Option<(u64, Bytes)>, Trouble> {
        let subject = format!("{}.{under}", self.subject);
        match self.stream.get_last_raw_message_by_subject(&subject).await {
            Ok(message) => Ok(Some((message.sequence, message.payload))),
            Err(error) => match of_message(&error) {
                Trouble::Gone => Ok(None),
                trouble => Err(trouble),
            },
        }
    }

    /// Appends a message if `expected` is the sequence of the last one; gives the answer that is to come.
    pub(super) async fn append(&self, expected: u64, payload: Bytes) -> Result<PublishAckFuture, Trouble> {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, expected.to_string());
        let sent = self.context.publish_with_headers(self.subject.clone(), headers, payload).await;
        sent.map_err(|error| of_publish(&error))
    }

    /// The same where no answer is needed, because one to a later message tells.
    pub(super) async fn append_silently(&self, expected: u64, payload: Bytes) -> Result<(), Trouble> {
        let mut headers = HeaderMap::new();
        headers.insert(header::NATS_EXPECTED_LAST_SEQUENCE, expected.to_string());
        let sent = self.context.client().publish_with_headers(self.subject.clone(), headers, payload).await;
        sent.map_err(|error| later(&error))
    }

    /// Puts a message under a subject, over the one with the sequence `expected` if given (0: over none), for `ttl` if given.
    pub(super) async fn put(
        &self,
        under: &str,
        payload: Bytes,
        expected: Option<u64>,
        ttl: Option<Duration>,
    ) -> Result<u64, Trouble> {
        let mut headers = HeaderMap::new();
        if let Some(expected) = expected {
            headers.insert(header::NATS_EXPECTED_LAST_SUBJECT_SEQUENCE, expected.to_string());
        }
        if let Some(ttl) = ttl {
            headers.insert(header::NATS_MESSAGE_TTL, ttl.as_secs().max(1).to_string());
        }
        let subject = format!("{}.{under}", self.subject);
        let sent = self.context.publish_with_headers(subject, headers, payload).await;
        confirmed(sent.map_err(|error| of_publish(&error))?).await
    }

    /// Removes the message at a sequence.
    pub(super) async fn remove(&self, sequence: u64) -> Result<(), Trouble> {
        self.stream.delete_message(sequence).await.map(drop).map_err(|error| later(&error))
    }

    /// Removes everything under a subject.
    pub(super) async fn clear(&self, under: &str) -> Result<(), Trouble> {
        let subject = format!("{}.{under}", self.subject);
        self.stream.purge().filter(subject).await.map(drop).map_err(|error| later(&error))
    }

    /// Removes every message in front of a sequence.
    pub(super) async fn trim(&self, sequence: u64) -> Result<(), Trouble> {
        self.stream.purge().sequence(sequence).await.map(drop).map_err(|error| later(&error))
    }
}

/// The sequence of a message that was sent.
pub(super) async fn confirmed(sent: PublishAckFuture) -> Result<u64, Trouble> {
    sent.await.map(|ack| ack.sequence).map_err(|error| of_publish(&error))
}

fn of_publish(error: &async_nats::jetstream::context::PublishError) -> Trouble {
    match error.kind() {
        PublishErrorKind::WrongLastSequence => Trouble::Conflict,
        // The same of a newer server, which the client does not know by name.
        _ if format!("{error:?}").contains("10164") => Trouble::Conflict,
        _ => later(error),
    }
}

fn of_message(error: &async_nats::jetstream::stream::LastRawMessageError) -> Trouble {
    match error.kind() {
        LastRawMessageErrorKind::NoMessageFound => Trouble::Gone,
        LastRawMessageErrorKind::JetStream(why) if why.error_code() == ErrorCode::STREAM_NOT_FOUND => Trouble::Gone,
        _ => later(error),
    }
}
