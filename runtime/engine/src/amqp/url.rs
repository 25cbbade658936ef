//! Where RabbitMQ is, and which bus there:
//! `amqp[s]://[USER:PASSWORD@]HOST[:PORT][/VHOST][?bus=NAME&replicas=N&ca=FILE&cert=FILE&key=FILE]`.
//!
//! Role: reads the address and never shows what is secret in it. [`AmqpServer`] is for everybody who connects, [`AmqpUrl`]
//! for a bus.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::{Host, Url};

use crate::address::{DEFAULT_NAME, decoded, is_bus_name, own_certificate};

/// The virtual host of an address that has none.
const DEFAULT_VHOST: &str = "/";
/// The protocol has no room for a longer one.
const LONGEST_VHOST: usize = 255;

/// Why an address cannot be used. Never contains the address itself, which may have a password in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write amqp://HOST:PORT/VHOST, with amqps:// for TLS, and for a bus ?bus=NAME and ?replicas=N")]
pub struct InvalidAmqpUrl(String);

/// A server of RabbitMQ, a virtual host there, and how to prove who one is. Printing it shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpServer {
    pub(super) tls: bool,
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) vhost: String,
    /// User and password.
    pub(super) login: Option<(String, String)>,
    /// A file with certificates to trust.
    pub(super) ca: Option<PathBuf>,
    /// The files with the certificate and the key to prove with who one is.
    pub(super) cert: Option<(PathBuf, PathBuf)>,
}

/// The address of a bus on RabbitMQ. Printing it shows no password.
#[derive(Clone, PartialEq, Eq)]
pub struct AmqpUrl {
    pub(super) server: AmqpServer,
    /// The bus's name: several may be in one virtual host.
    pub(super) name: String,
    /// How many servers of a cluster keep it; none: as many as the server chooses.
    pub(super) replicas: Option<u32>,
}

fn wrong(why: &str) -> InvalidAmqpUrl {
    InvalidAmqpUrl(why.to_owned())
}

impl AmqpServer {
    /// Reads an address; gives also the options that are not the server's.
    pub fn parse(text: &str) -> Result<(Self, Vec<(String, String)>), InvalidAmqpUrl> {
        let url =
            Url::parse(text).map_err(|error| wrong(&format!("the address of RabbitMQ is malformed ({error})")))?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            _ => return Err(wrong("the address of RabbitMQ begins with amqp:// or amqps://")),
        };
        let host = match url.host() {
            Some(Host::Domain(name)) if !name.is_empty() => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
            _ => return Err(wrong("the host of RabbitMQ is missing")),
        };
        let part = |text: &str| {
            decoded(text)
                .ok_or_else(|| wrong("user, password or virtual host of RabbitMQ have a malformed percent sign"))
        };
        let login = match (part(url.username())?, url.password().map(part).transpose()?) {
            (user, None) if user.is_empty() => None,
            (user, password) => Some((user, password.unwrap_or_default())),
        };
        let vhost = match url.path().strip_prefix('/').unwrap_or_default() {
            "" => DEFAULT_VHOST.to_owned(),
            path if path.contains('/') => return Err(wrong("a `/` in a virtual host of RabbitMQ is written %2f")),
            path => part(path)?,
        };
        if vhost.len() > LONGEST_VHOST {
            return Err(wrong("a virtual host of RabbitMQ has at most 255 bytes"));
        }
        let port = url.port().unwrap_or(if tls { 5671 } else { 5672 });
        let mut server = Self { tls, host, port, vhost, login, ca: None, cert: None };
        let (mut cert, mut key_file, mut others) = (None, None, Vec::new());
        for (key, value) in url.query_pairs() {
            match &*key {
                "ca" => server.ca = Some(PathBuf::from(&*value)),
                "cert" => cert = Some(PathBuf::from(&*value)),
                "key" => key_file = Some(PathBuf::from(&*value)),
                _ => others.push((key.into_owned(), value.into_owned())),
            }
        }
        server.cert = match (cert, key_file) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(wrong("a certificate of RabbitMQ needs both cert=FILE and key=FILE")),
        };
        Ok((server, others))
    }

    /// With what the environment has where the address has none: `BUSWAY_AMQP_USER` with `BUSWAY_AMQP_PASSWORD`, and the files
    /// `BUSWAY_AMQP_CA`, and `BUSWAY_AMQP_CERT` with `BUSWAY_AMQP_KEY`.
    #[must_use]
    pub fn with_environment(mut self, look: impl Fn(&str) -> Option<String>) -> Self {
        if self.login.is_none() {
            let password = || look("BUSWAY_AMQP_PASSWORD").unwrap_or_default();
            self.login = look("BUSWAY_AMQP_USER").map(|user| (user, password()));
        }
        self.ca = self.ca.or_else(|| look("BUSWAY_AMQP_CA").map(PathBuf::from));
        self.cert = self.cert.or_else(|| own_certificate("BUSWAY_AMQP", &look));
        self
    }

    /// The same server, with relative files taken from `base`.
    #[must_use]
    pub fn relative_to(mut self, base: &Path) -> Self {
        self.ca = self.ca.map(|file| base.join(file));
        self.cert = self.cert.map(|(cert, key)| (base.join(cert), base.join(key)));
        self
    }

    /// Whether two addresses name one server and one virtual host, as far as they show it.
    pub fn is_same_server(&self, other: &Self) -> bool {
        let place = |server: &Self| (server.host.to_ascii_lowercase(), server.port, server.vhost.clone());
        place(self) == place(other)
    }
}

impl FromStr for AmqpServer {
    type Err = InvalidAmqpUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match Self::parse(text)? {
            (server, others) if others.is_empty() => Ok(server),
            (_, others) => Err(unknown(&others[0].0)),
        }
    }
}

fn unknown(option: &str) -> InvalidAmqpUrl {
    let option: String = option.chars().take(40).collect();
    wrong(&format!("`{option}` is no option of RabbitMQ (bus, replicas, ca, cert, key)"))
}

impl FromStr for AmqpUrl {
    type Err = InvalidAmqpUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (server, others) = AmqpServer::parse(text)?;
        let mut found = Self { server, name: DEFAULT_NAME.to_owned(), replicas: None };
        for (key, value) in others {
            match &*key {
                "bus" if is_bus_name(&value) => found.name = value,
                "bus" => return Err(wrong("the name of a bus has letters, digits, `-` and `_`, at most 64")),
                "replicas" => {
                    let replicas = value.parse().ok().filter(|count| (1..=9).contains(count));
                    found.replicas = Some(replicas.ok_or_else(|| wrong("replicas is a number from 1 to 9"))?);
                }
                other => return Err(unknown(other)),
            }
        }
        Ok(found)
    }
}

impl AmqpUrl {
    /// As [`AmqpServer::with_environment`].
    #[must_use]
    pub fn with_environment(mut self, look: impl Fn(&str) -> Option<String>) -> Self {
        self.server = self.server.with_environment(look);
        self
    }

    /// As [`AmqpServer::relative_to`].
    #[must_use]
    pub fn relative_to(mut self, base: &Path) -> Self {
        self.server = self.server.relative_to(base);
        self
    }

    /// The server on which the bus is.
    pub fn server(&self) -> &AmqpServer {
        &self.server
    }
}

impl fmt::Display for AmqpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let login = if self.login.is_some() { "***@" } else { "" };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        let vhost = self.vhost.replace('%', "%25").replace('/', "%2f");
        write!(f, "{scheme}://{login}{open}{}{close}:{}/{vhost}", self.host, self.port)
    }
}

impl fmt::Debug for AmqpServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}?bus={}", self.server, self.name)
    }
}

impl fmt::Debug for AmqpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> AmqpUrl {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_says_where_and_who_and_never_shows_what_is_secret() {
        let plain = parse("amqp://localhost");
        assert_eq!((&*plain.server.host, plain.server.port, &*plain.server.vhost), ("localhost", 5672, "/"));
        assert_eq!((&*plain.name, plain.replicas, plain.server.login.is_none()), ("busway", None, true));
        let secret = parse("amqps://me:p%40ss@broker.example:9/a%2fb?bus=shop-1&replicas=3&ca=/tmp/ca.pem");
        assert_eq!(secret.server.login, Some(("me".to_owned(), "p@ss".to_owned())));
        assert_eq!((&*secret.server.vhost, secret.replicas, secret.server.tls), ("a/b", Some(3), true));
        assert_eq!(secret.to_string(), "amqps://***@broker.example:9/a%2fb?bus=shop-1");
        for shown in [format!("{secret:?}"), format!("{:?} {}", secret.server(), secret.server())] {
            assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
        }
        assert_eq!(parse("amqps://h").server.port, 5671);
        let v6 = parse("amqp://[::1]:7/");
        assert_eq!((&*v6.server.host, &*v6.to_string()), ("::1", "amqp://[::1]:7/%2f?bus=busway"));
        assert_eq!(parse(&v6.to_string()), v6);
    }

    #[test]
    fn the_environment_has_the_login_that_the_address_lacks() {
        let with = |address: &str, set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            parse(address).with_environment(found).server
        };
        let set = [("BUSWAY_AMQP_USER", "me"), ("BUSWAY_AMQP_PASSWORD", "hush"), ("BUSWAY_AMQP_CA", "/ca.pem")];
        let found = with("amqp://h", &set);
        assert_eq!(found.login, Some(("me".to_owned(), "hush".to_owned())));
        assert!(found.ca.is_some() && !format!("{found:?} {found}").contains("hush"));
        assert_eq!(with("amqp://you:x@h", &set).login, Some(("you".to_owned(), "x".to_owned())));
        assert_eq!(with("amqp://h", &[]).login, None);
        let pair = [("BUSWAY_AMQP_CERT", "/c"), ("BUSWAY_AMQP_KEY", "/k")];
        assert_eq!(with("amqps://h", &pair).cert, Some(("/c".into(), "/k".into())));
        assert_eq!(with("amqps://h", &pair[..1]).cert, Some(("/c".into(), "/c".into())), "both in one file");
        assert_eq!(with("amqps://h?cert=/x&key=/y", &pair).cert, Some(("/x".into(), "/y".into())));
        assert_eq!(parse("amqps://h?cert=/c&key=/k").server.cert, Some(("/c".into(), "/k".into())));
        let beside = parse("amqps://h?ca=ca.pem&cert=/c&key=k").relative_to(Path::new("/app")).server;
        assert_eq!((beside.ca, beside.cert), (Some("/app/ca.pem".into()), Some(("/c".into(), "/app/k".into()))));
    }

    #[test]
    fn what_is_wrong_with_an_address_is_told_without_it() {
        let long = format!("amqp://h?bus={}", "x".repeat(65));
        let long_vhost = format!("amqp://h/{}", "x".repeat(256));
        for bad in [
            "amqp://",
            "http://h",
            "amqp://u:secret@h/a/b",
            "amqp://u:secret@h?x=1",
            "amqp://u:secret@h?bus=a.b",
            "amqp://u:se%zzcret@h",
            "amqp://u:secret@h?cert=/c",
            "amqp://u:secret@h?replicas=0",
            &long,
            &long_vhost,
        ] {
            let error = bad.parse::<AmqpUrl>().expect_err("it is wrong").to_string();
            assert!(!error.contains("secret") && error.contains("amqp://HOST"), "{error}");
        }
        assert!("amqp://h?bus=x".parse::<AmqpServer>().is_err(), "a server has no bus");
    }
}
