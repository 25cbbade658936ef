//! What `[gateway.auth]` says.

use std::fmt;
use std::str::FromStr;

use busway_types::Timestamp;

use super::jwt::JwtConfig;
use super::key::{KeyHash, hex, unhex};
use super::{Scope, certificate};

/// `[gateway.auth.keys.NAME]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyConfig {
    /// Its name, which its bearer goes by.
    pub name: String,
    /// Its hash.
    pub sha256: KeyHash,
    /// What its bearer may do.
    pub scopes: Vec<Scope>,
    /// When it ends.
    pub expires: Option<Timestamp>,
}

/// Which client certificate is meant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateMatch {
    /// Any that the authority signed for this name: its common name, or its first alternative name if it has none.
    Name(String),
    /// The one with this SHA-256 of its DER form.
    Fingerprint([u8; 32]),
}

/// A text that names no certificate. Trying again does not help.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("this names no certificate; write its common name, or `sha256:` and its fingerprint of 64 hexadecimal digits")]
pub struct InvalidCertificateMatch;

impl FromStr for CertificateMatch {
    type Err = InvalidCertificateMatch;

    fn from_str(text: &str) -> Result<Self, InvalidCertificateMatch> {
        if let Some(digits) = text.strip_prefix(certificate::FINGERPRINT) {
            // As `openssl x509 -fingerprint -sha256` prints it, or without colons.
            let bytes = unhex(&digits.replace(':', "")).and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            return bytes.map(Self::Fingerprint).ok_or(InvalidCertificateMatch);
        }
        let is_name = (1..=255).contains(&text.len()) && !text.chars().any(char::is_control);
        if is_name { Ok(Self::Name(text.to_owned())) } else { Err(InvalidCertificateMatch) }
    }
}

impl fmt::Display for CertificateMatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Fingerprint(bytes) => write!(f, "{}{}", certificate::FINGERPRINT, hex(bytes)),
        }
    }
}

/// `[gateway.auth.certificates."..."]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateConfig {
    /// Which.
    pub certificate: CertificateMatch,
    /// What its bearer may do.
    pub scopes: Vec<Scope>,
}

/// `[gateway.auth]`. As soon as any part of it is there, everything is denied that is not allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthConfig {
    /// Whether it is there, even with nothing in it: then nobody is let in.
    pub is_given: bool,
    /// API keys.
    pub keys: Vec<KeyConfig>,
    /// Tokens of an issuer.
    pub jwt: Option<JwtConfig>,
    /// Client certificates; `[gateway.tls] client-ca` says who signs them.
    pub certificates: Vec<CertificateConfig>,
    /// Whether anybody may read `/openapi.json` and `/docs`, though authentication is configured.
    pub documents_open: bool,
}

impl AuthConfig {
    /// Whether there is any authentication at all.
    pub fn is_configured(&self) -> bool {
        self.is_given || !self.keys.is_empty() || self.jwt.is_some() || !self.certificates.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_named_by_name_or_fingerprint() {
        let digits = "ab".repeat(32);
        let fingerprint = CertificateMatch::Fingerprint([0xab; 32]);
        assert_eq!(format!("sha256:{digits}").parse(), Ok(fingerprint.clone()));
        assert_eq!(fingerprint.to_string().parse(), Ok(fingerprint.clone()));
        let colons = ["AB"; 32].join(":");
        assert_eq!(format!("sha256:{colons}").parse(), Ok(fingerprint));
        assert_eq!("till.shop".parse(), Ok(CertificateMatch::Name("till.shop".to_owned())));
        for bad in ["", "sha256:", "sha256:abc", "a\nb", &"x".repeat(256)] {
            assert!(bad.parse::<CertificateMatch>().is_err(), "{bad}");
        }
    }

    #[test]
    fn any_part_of_it_is_authentication() {
        assert!(!AuthConfig::default().is_configured());
        assert!(!AuthConfig { documents_open: true, ..AuthConfig::default() }.is_configured());
        assert!(AuthConfig { is_given: true, ..AuthConfig::default() }.is_configured(), "the last key was taken away");
        let certificate = CertificateConfig { certificate: CertificateMatch::Name("x".into()), scopes: Vec::new() };
        assert!(AuthConfig { certificates: vec![certificate], ..AuthConfig::default() }.is_configured());
    }
}
