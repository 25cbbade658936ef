//! What `[gateway.auth.jwt]` says.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use url::{Host, Url};

/// A signature algorithm. Which one a token may have is decided by the key, never by the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum JwtAlgorithm {
    /// HMAC with SHA-256: whoever checks a token could have made it.
    Hs256,
    /// RSA (PKCS #1 v1.5) with SHA-256.
    Rs256,
    /// ECDSA on P-256 with SHA-256.
    Es256,
    /// Ed25519.
    EdDsa,
}

impl JwtAlgorithm {
    /// All of them, as they are written.
    pub const ALL: [(&'static str, Self); 4] =
        [("HS256", Self::Hs256), ("RS256", Self::Rs256), ("ES256", Self::Es256), ("EdDSA", Self::EdDsa)];
}

impl fmt::Display for JwtAlgorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(_, algorithm)| algorithm == self).map(|(name, _)| *name);
        f.write_str(name.unwrap_or_default())
    }
}

/// Where the keys of an issuer are fetched: `https`, or `http` on this machine alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwksUrl(Url);

/// A text that keys cannot be fetched from. Trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidJwksUrl {
    /// Not a URL.
    #[error("this is not a URL of a key set; write one such as https://issuer.example/.well-known/jwks.json")]
    NotAUrl,
    /// Anybody on the way could put keys of their own there.
    #[error("keys are fetched over https alone, or over http from this machine (127.0.0.1, localhost)")]
    NotSafe,
    /// It carries a password.
    #[error("a URL in a manifest must not carry a user or password")]
    Secret,
}

impl FromStr for JwksUrl {
    type Err = InvalidJwksUrl;

    fn from_str(text: &str) -> Result<Self, InvalidJwksUrl> {
        let url: Url = text.parse().map_err(|_| InvalidJwksUrl::NotAUrl)?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(InvalidJwksUrl::Secret);
        }
        match (url.scheme(), url.host()) {
            ("https", Some(_)) => Ok(Self(url)),
            ("http", Some(_)) if is_loopback(&url) => Ok(Self(url)),
            ("http", _) => Err(InvalidJwksUrl::NotSafe),
            _ => Err(InvalidJwksUrl::NotAUrl),
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        None => false,
    }
}

impl JwksUrl {
    /// The URL as text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Whether it is on this machine.
    pub(crate) fn is_local(&self) -> bool {
        is_loopback(&self.0)
    }
}

impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Where the keys come from that tokens are checked with. Secrets are named, never written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A shared secret in this environment variable.
    SecretEnv(String),
    /// A shared secret in this file, without the line ends at its end.
    SecretFile(PathBuf),
    /// A public key in this PEM file.
    PublicKey(PathBuf),
    /// A key set (JWKS) in this file, read again now and then.
    JwksFile(PathBuf),
    /// A key set (JWKS) at this URL, fetched again now and then.
    JwksUrl {
        /// Where.
        url: JwksUrl,
        /// Certificates (PEM) that sign the server's, instead of the public authorities.
        ca: Option<PathBuf>,
    },
}

impl KeySource {
    /// Whether it can give keys of that kind.
    pub fn can_have(&self, algorithm: JwtAlgorithm) -> bool {
        matches!(self, Self::SecretEnv(_) | Self::SecretFile(_)) == (algorithm == JwtAlgorithm::Hs256)
    }
}

/// `[gateway.auth.jwt]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JwtConfig {
    /// Who must have signed (`iss`).
    pub issuer: String,
    /// For whom it must be meant: one of these (`aud`).
    pub audience: Vec<String>,
    /// Which algorithms keys may have; none of them is taken from a token alone.
    pub algorithms: Vec<JwtAlgorithm>,
    /// Where the keys come from.
    pub source: KeySource,
    /// The claim that holds scopes: a text with spaces between them, or a list.
    pub scopes_claim: String,
    /// How far the clocks of the issuer and of this machine may differ.
    pub leeway: Duration,
    /// Bytes of a token. A longer one is refused unread.
    pub token_bytes: usize,
    /// Bytes of a key set. A larger one is refused, and the one before it goes on.
    pub key_set_bytes: usize,
    /// How long keys are used before they are fetched again.
    pub refresh: Duration,
    /// The least time between two fetches, whatever tokens ask for.
    pub refresh_least: Duration,
    /// How long keys go on when they cannot be fetched again.
    pub stale: Duration,
    /// How long a fetch may take.
    pub fetch_time: Duration,
}

impl JwtConfig {
    /// The claim for scopes when nothing else is said (RFC 8693).
    pub const SCOPES_CLAIM: &str = "scope";
    /// The largest leeway.
    pub const LEEWAY_MOST: Duration = Duration::from_mins(5);

    /// The defaults, with what has none.
    pub fn new(issuer: impl Into<String>, audience: impl Into<String>, source: KeySource) -> Self {
        let all = JwtAlgorithm::ALL.iter().map(|(_, algorithm)| *algorithm);
        Self {
            issuer: issuer.into(),
            audience: vec![audience.into()],
            algorithms: all.filter(|algorithm| source.can_have(*algorithm)).collect(),
            source,
            scopes_claim: Self::SCOPES_CLAIM.to_owned(),
            leeway: Duration::from_secs(30),
            token_bytes: 8 * 1024,
            key_set_bytes: 256 * 1024,
            refresh: Duration::from_mins(10),
            refresh_least: Duration::from_secs(30),
            stale: Duration::from_hours(24),
            fetch_time: Duration::from_secs(5),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_come_over_https_or_from_this_machine() {
        for good in
            ["https://issuer.example/jwks", "http://127.0.0.1:8/jwks", "http://[::1]/jwks", "http://localhost/x"]
        {
            assert!(good.parse::<JwksUrl>().is_ok(), "{good}");
        }
        let refused = |text: &str| text.parse::<JwksUrl>().expect_err(text);
        for unsafe_url in ["http://issuer.example/jwks", "http://127.0.0.1.example/", "http://localhost.example/"] {
            assert_eq!(refused(unsafe_url), InvalidJwksUrl::NotSafe, "{unsafe_url}");
        }
        for strange in ["", "issuer.example/jwks", "ftp://issuer.example/", "file:///etc/passwd", "https://"] {
            assert_eq!(refused(strange), InvalidJwksUrl::NotAUrl, "{strange}");
        }
        assert_eq!(refused("https://user:word@issuer.example/"), InvalidJwksUrl::Secret);
    }

    #[test]
    fn a_shared_secret_and_public_keys_never_share_an_algorithm() {
        let secret = KeySource::SecretEnv("S".into());
        let public = KeySource::PublicKey("p".into());
        for (_, algorithm) in JwtAlgorithm::ALL {
            assert_ne!(secret.can_have(algorithm), public.can_have(algorithm), "{algorithm}");
        }
        assert_eq!(JwtConfig::new("i", "a", secret).algorithms, [JwtAlgorithm::Hs256]);
    }
}
