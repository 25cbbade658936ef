//! Where a bus on NATS is:
//! `nats://[USER:PASSWORD@ | TOKEN@]HOST[:PORT][/NAME][?replicas=N&credentials=FILE&ca=FILE&cert=FILE&key=FILE]`.
//!
//! Role: reads the address and never shows what is secret in it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use url::Url;

use crate::address::{self, DEFAULT_NAME, is_bus_name, own_certificate};

/// How to prove who one is.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Login {
    /// Not at all.
    Nobody,
    /// With a name and a password.
    Password(String, String),
    /// With a token.
    Token(String),
    /// With a credentials file.
    Credentials(PathBuf),
}

/// The address of a bus on NATS. Printing it shows no password and no token.
#[derive(Clone, PartialEq, Eq)]
pub struct NatsUrl {
    pub(super) server: String,
    pub(super) login: Login,
    /// The bus's name: several may be on one server.
    pub(super) name: String,
    /// How many servers of a cluster keep it.
    pub(super) replicas: usize,
    /// A file with certificates to trust.
    pub(super) ca: Option<PathBuf>,
    /// The files with the certificate and the key to prove with who one is.
    pub(super) cert: Option<(PathBuf, PathBuf)>,
}

/// Why an address cannot be used. Never contains the address itself, which may have a password in it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}; write nats://HOST:PORT/NAME, with tls:// for TLS, and ?replicas=N for a cluster")]
pub struct InvalidNatsUrl(String);

impl FromStr for NatsUrl {
    type Err = InvalidNatsUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = |why: &str| InvalidNatsUrl(why.to_owned());
        let url = Url::parse(text).map_err(|error| wrong(&format!("the address of NATS is malformed ({error})")))?;
        if !matches!(url.scheme(), "nats" | "tls") {
            return Err(wrong("the address of NATS begins with nats:// or tls://"));
        }
        let host =
            url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("the host of NATS is missing"))?;
        let server = format!("{}://{host}:{}", url.scheme(), url.port().unwrap_or(4222));
        let name = url.path().trim_matches('/');
        let name = if name.is_empty() { DEFAULT_NAME } else { name };
        if !is_bus_name(name) {
            return Err(wrong("the name of a bus on NATS has letters, digits, `-` and `_`, at most 64"));
        }
        let login = match (decoded(url.username())?, url.password().map(decoded).transpose()?) {
            (user, Some(password)) => Login::Password(user, password),
            (user, None) if user.is_empty() => Login::Nobody,
            (token, None) => Login::Token(token),
        };
        let mut found = Self { server, login, name: name.to_owned(), replicas: 1, ca: None, cert: None };
        let (mut cert, mut key_file) = (None, None);
        for (key, value) in url.query_pairs() {
            match &*key {
                "replicas" => {
                    let replicas = value.parse().ok().filter(|count| (1..=5).contains(count));
                    found.replicas = replicas.ok_or_else(|| wrong("replicas is a number from 1 to 5"))?;
                }
                "credentials" => found.login = Login::Credentials(PathBuf::from(&*value)),
                "ca" => found.ca = Some(PathBuf::from(&*value)),
                "cert" => cert = Some(PathBuf::from(&*value)),
                "key" => key_file = Some(PathBuf::from(&*value)),
                other => {
                    let other: String = other.chars().take(40).collect();
                    return Err(wrong(&format!(
                        "`{other}` is no option of NATS (replicas, credentials, ca, cert, key)"
                    )));
                }
            }
        }
        found.cert = match (cert, key_file) {
            (Some(cert), Some(key)) => Some((cert, key)),
            (None, None) => None,
            _ => return Err(wrong("a certificate of NATS needs both cert=FILE and key=FILE")),
        };
        Ok(found)
    }
}

impl NatsUrl {
    /// With the login of the environment, where the address has none: `BUSWAY_NATS_CREDENTIALS` (a file), else
    /// `BUSWAY_NATS_TOKEN`, else `BUSWAY_NATS_USER` with `BUSWAY_NATS_PASSWORD`; and the files `BUSWAY_NATS_CA`, and
    /// `BUSWAY_NATS_CERT` with `BUSWAY_NATS_KEY`.
    #[must_use]
    pub fn with_environment(mut self, look: impl Fn(&str) -> Option<String>) -> Self {
        if self.login == Login::Nobody {
            if let Some(file) = look("BUSWAY_NATS_CREDENTIALS") {
                self.login = Login::Credentials(file.into());
            } else if let Some(token) = look("BUSWAY_NATS_TOKEN") {
                self.login = Login::Token(token);
            } else if let Some(user) = look("BUSWAY_NATS_USER") {
                self.login = Login::Password(user, look("BUSWAY_NATS_PASSWORD").unwrap_or_default());
            }
        }
        self.ca = self.ca.or_else(|| look("BUSWAY_NATS_CA").map(PathBuf::from));
        self.cert = self.cert.or_else(|| own_certificate("BUSWAY_NATS", &look));
        self
    }

    /// The same bus, with relative files taken from `base`.
    #[must_use]
    pub fn relative_to(mut self, base: &Path) -> Self {
        if let Login::Credentials(file) = &mut self.login {
            *file = base.join(&file);
        }
        self.ca = self.ca.map(|file| base.join(file));
        self.cert = self.cert.map(|(cert, key)| (base.join(cert), base.join(key)));
        self
    }

    /// Whether two addresses name one server, as far as they show it.
    pub fn is_same_server(&self, other: &Self) -> bool {
        let host = |url: &Self| url.server.split_once("://").map(|(_, host)| host.to_ascii_lowercase());
        host(self) == host(other)
    }

    /// The server without the name of the bus, and without what is secret.
    pub fn shown_server(&self) -> String {
        let (scheme, host) = self.server.split_once("://").unwrap_or(("nats", &self.server));
        let login = match &self.login {
            Login::Nobody | Login::Credentials(_) => "",
            Login::Password(..) | Login::Token(_) => "***@",
        };
        format!("{scheme}://{login}{host}")
    }
}

/// A part of an address with its percent signs resolved.
fn decoded(text: &str) -> Result<String, InvalidNatsUrl> {
    address::decoded(text)
        .ok_or_else(|| InvalidNatsUrl("user or password of NATS have a malformed percent sign".to_owned()))
}

impl fmt::Display for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.shown_server(), self.name)
    }
}

impl fmt::Debug for NatsUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> NatsUrl {
        text.parse().expect("an address")
    }

    #[test]
    fn an_address_says_where_and_who_and_never_shows_what_is_secret() {
        let plain = parse("nats://localhost");
        assert_eq!((&*plain.server, &*plain.name, plain.replicas), ("nats://localhost:4222", "busway", 1));
        let secret = parse("tls://me:p%40ss@broker.example:9/shop-1?replicas=3&ca=/tmp/ca.pem");
        assert!(secret.login == Login::Password("me".to_owned(), "p@ss".to_owned()) && secret.replicas == 3);
        for shown in [secret.to_string(), format!("{secret:?}"), parse("nats://t0ken@h:4222/x").to_string()] {
            assert!(!shown.contains("p@ss") && !shown.contains("p%40ss") && !shown.contains("t0ken"), "{shown}");
        }
        assert_eq!(secret.to_string(), "tls://***@broker.example:9/shop-1");
        assert!(parse("nats://h?credentials=/x.creds").login == Login::Credentials("/x.creds".into()));
    }

    #[test]
    fn the_environment_has_the_login_that_the_address_lacks() {
        let with = |address: &str, set: &[(&str, &str)]| {
            let found = |name: &str| set.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
            parse(address).with_environment(found)
        };
        let user = [("BUSWAY_NATS_USER", "me"), ("BUSWAY_NATS_PASSWORD", "hush"), ("BUSWAY_NATS_CA", "/ca.pem")];
        let found = with("nats://h", &user);
        assert!(found.login == Login::Password("me".to_owned(), "hush".to_owned()) && found.ca.is_some());
        assert!(!format!("{found:?} {found}").contains("hush"));
        assert!(with("nats://other@h", &user).login == Login::Token("other".to_owned()));
        assert!(with("nats://h", &[("BUSWAY_NATS_TOKEN", "t")]).login == Login::Token("t".to_owned()));
        let both = [("BUSWAY_NATS_TOKEN", "t"), ("BUSWAY_NATS_CREDENTIALS", "/c")];
        assert!(with("nats://h", &both).login == Login::Credentials("/c".into()));
        assert!("nats://h?cert=/c".parse::<NatsUrl>().is_err());
        let pair = [("BUSWAY_NATS_CERT", "/c"), ("BUSWAY_NATS_KEY", "/k")];
        assert!(with("tls://h", &pair).cert == Some(("/c".into(), "/k".into())));
        assert!(parse("tls://h?cert=/c&key=/k").cert == Some(("/c".into(), "/k".into())));
        let beside = parse("tls://h?credentials=x.creds&ca=ca.pem&cert=/c&key=k").relative_to(Path::new("/app"));
        assert!(beside.login == Login::Credentials("/app/x.creds".into()) && beside.ca == Some("/app/ca.pem".into()));
        assert!(beside.cert == Some(("/c".into(), "/app/k".into())));
    }

    #[test]
    fn what_is_wrong_with_an_address_is_told_without_it() {
        let long = format!("nats://h/{}", "x".repeat(65));
        for bad in
            ["nats://", "http://h", "nats://u:secret@h/a.b", "nats://u:secret@h?x=1", "nats://u:se%zzcret@h", &long]
        {
            let error = bad.parse::<NatsUrl>().expect_err("it is wrong").to_string();
            assert!(!error.contains("secret") && error.contains("nats://HOST"), "{error}");
        }
    }
}
