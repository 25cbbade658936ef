//! Connecting to RabbitMQ.
//!
//! Role: a connection of the client library from an address, for the engine and for bridges alike; nothing in it belongs to a
//! bus. The connection is not mended by itself: whoever has it connects again.

use std::io;
use std::path::Path;
use std::time::Duration;

use lapin::tcp::{AMQPUriTcpExt as _, OwnedIdentity, OwnedTLSConfig};
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};
use lapin::{Connection, ConnectionProperties, ErrorKind};

use super::url::AmqpServer;
use crate::EngineError;
use crate::address::{CERTIFICATE, PRIVATE_KEY, pem};

/// How long a connection may take.
const CONNECT_FOR: Duration = Duration::from_secs(5);
/// Seconds between two signs of life. Both ends take the other one for gone after twice that.
const HEARTBEAT: u16 = 5;
/// Who one is to a server on the same machine that was not told otherwise.
const NOBODY: &str = "guest";

/// Connects; `name` is what the server shows of the connection. What cannot be mended by waiting (login, virtual host,
/// certificates) is [`EngineError::Refused`], the rest [`EngineError::Overloaded`].
pub async fn amqp_connect(server: &AmqpServer, name: &str) -> Result<Connection, EngineError> {
    match tokio::time::timeout(CONNECT_FOR, connecting(server.clone(), name.to_owned())).await {
        Ok(connected) => connected,
        Err(_) => Err(away(server, &format!("no answer within {CONNECT_FOR:?}"))),
    }
}

/// The same for as long as a server that took the connection says nothing.
pub(super) async fn connecting(server: AmqpServer, name: String) -> Result<Connection, EngineError> {
    let tls = tls(&server)?;
    let runtime = lapin::runtime::default_runtime().map_err(|error| refused(&server, &error))?;
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connecting = Connection::connector(
        uri(&server),
        runtime,
        async move |uri, runtime| {
            // The client's own thread waits for this: without an end it would stay as long as nothing answers.
            let connecting = uri.connect_with_config_async(tls.as_ref(), &runtime);
            let late = |_| io::Error::from(io::ErrorKind::TimedOut);
            Ok(tokio::time::timeout(CONNECT_FOR, connecting).await.map_err(late)??)
        },
        properties,
    );
    connecting.await.map_err(|error| match error.kind() {
        ErrorKind::ProtocolError(_) => refused(&server, &error),
        // What TLS has to say comes as this kind, also when the server says it.
        ErrorKind::IOError(why) if server.tls && why.kind() == io::ErrorKind::InvalidData => untrusted(&server, why),
        _ => away(&server, &error),
    })
}

fn refused(server: &AmqpServer, why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Refused(format!("{server} refuses: {why}; check the login, the virtual host and its permissions"))
}

fn untrusted(server: &AmqpServer, why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Refused(format!(
        "no TLS with {server}: {why}; check that this port speaks TLS, that the address has the server's authority (ca=FILE) and, \
         if the server asks for one, a certificate that it trusts (cert=FILE&key=FILE)"
    ))
}

fn away(server: &AmqpServer, why: &dyn std::fmt::Display) -> EngineError {
    // A server that refuses a certificate may have hung up before it could be heard why.
    let certificates = if server.tls { ", and the certificates (ca, cert, key)" } else { "" };
    let advice = "check the address and that the server runs";
    EngineError::Overloaded(format!("cannot connect to {server}: {why}; {advice}{certificates}"))
}

fn uri(server: &AmqpServer) -> AMQPUri {
    let (username, password) = server.login.clone().unwrap_or_else(|| (NOBODY.to_owned(), NOBODY.to_owned()));
    AMQPUri {
        scheme: if server.tls { AMQPScheme::AMQPS } else { AMQPScheme::AMQP },
        authority: AMQPAuthority {
            userinfo: AMQPUserInfo { username, password },
            host: server.host.clone(),
            port: server.port,
        },
        vhost: server.vhost.clone(),
        query: AMQPQueryString { heartbeat: Some(HEARTBEAT), ..AMQPQueryString::default() },
    }
}

fn tls(server: &AmqpServer) -> Result<OwnedTLSConfig, EngineError> {
    let read = |file: &Path, what: &str| {
        pem(file, what).map_err(|why| EngineError::Refused(format!("{why}, which {server} needs")))
    };
    let identity = match &server.cert {
        Some((cert, key)) => Some(OwnedIdentity::PKCS8 {
            pem: read(cert, CERTIFICATE)?.into_bytes(),
            key: read(key, PRIVATE_KEY)?.into_bytes(),
        }),
        None => None,
    };
    let cert_chain = server.ca.as_deref().map(|file| read(file, CERTIFICATE)).transpose()?;
    Ok(OwnedTLSConfig { identity, cert_chain })
}
