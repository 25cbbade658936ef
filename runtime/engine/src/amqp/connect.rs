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
        _ => away(&server, &error),
    })
}

fn refused(server: &AmqpServer, why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Refused(format!("{server} refuses: {why}; check the login, the virtual host and its permissions"))
}

fn away(server: &AmqpServer, why: &dyn std::fmt::Display) -> EngineError {
    EngineError::Overloaded(format!("cannot connect to {server}: {why}; check the address and that the server runs"))
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
    let read = |file: &Path| {
        std::fs::read(file).map_err(|error| {
            EngineError::Refused(format!("{} cannot be read, which {server} needs: {error}", file.display()))
        })
    };
    let identity = match &server.cert {
        Some((cert, key)) => Some(OwnedIdentity::PKCS8 { pem: read(cert)?, key: read(key)? }),
        None => None,
    };
    let cert_chain = match &server.ca {
        Some(file) => Some(String::from_utf8(read(file)?).map_err(|_| {
            EngineError::Refused(format!("{} has no certificates (PEM), which {server} needs", file.display()))
        })?),
        None => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}
