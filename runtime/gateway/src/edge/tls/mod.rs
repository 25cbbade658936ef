//! TLS of the gateway's listener: certificates from files or self-made, client certificates, exchange while it serves.
//!
//! Invariants: what cannot be served changes nothing; keys are never in a message; a connection keeps the certificate with
//! which it began. Versions 1.2 and 1.3 by rustls; HTTP/2 and HTTP/1.1 by ALPN.

mod self_made;
mod watch;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use sha2::{Digest as _, Sha256};
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

use super::context::PeerCertificate;

pub(super) use watch::Watched;

/// `[gateway.tls]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsConfig {
    /// Where certificate and key come from.
    pub source: CertificateSource,
    /// Whose certificates clients may show.
    pub client_ca: Option<ClientCa>,
}

impl TlsConfig {
    /// Whether its files can be used; nothing is made.
    pub fn check(&self) -> Result<(), TlsError> {
        match self.source {
            CertificateSource::Files { .. } => load(self, None).map(drop),
            CertificateSource::SelfMade => self.client_ca.iter().try_for_each(|ca| certificates(&ca.file).map(drop)),
        }
    }
}

/// Where certificate and key come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CertificateSource {
    /// PEM files, read again when they change.
    Files {
        /// The certificate, with those between it and its root after it.
        certificate: PathBuf,
        /// Its private key.
        key: PathBuf,
    },
    /// Made once and kept in the folder that the gateway has; for development.
    SelfMade,
}

/// Certificates of clients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientCa {
    /// A PEM file with the roots that sign them, read again when it changes.
    pub file: PathBuf,
    /// Whether a client without a certificate is turned away.
    pub is_required: bool,
}

/// Why there is no TLS. Someone has to change a file or the manifest first.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("{} cannot be used as {what}: {problem}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What it should be.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Certificate and key do not go together, or cannot be used.
    #[error("the certificate and the key cannot be used together: {0}")]
    Pair(String),
    /// No certificate could be made.
    #[error("no certificate could be made: {0}")]
    Make(String),
}

/// What TLS connections are begun with.
pub(super) struct Loaded {
    pub(super) server: Arc<ServerConfig>,
    /// The files that it was made from.
    pub(super) files: Vec<PathBuf>,
    /// The certificate that clients may be told to trust, when it was made here and is kept.
    pub(super) self_made: Option<PathBuf>,
}

/// Reads or makes everything.
pub(super) fn load(config: &TlsConfig, folder: Option<&Path>) -> Result<Loaded, TlsError> {
    let mut files = Vec::new();
    let mut self_made = None;
    let (chain, key) = match &config.source {
        CertificateSource::Files { certificate, key } => {
            files.extend([certificate.clone(), key.clone()]);
            (certificates(certificate)?, private_key(key)?)
        }
        CertificateSource::SelfMade => {
            let made = self_made::take(folder)?;
            self_made = made.file;
            (made.chain, made.key)
        }
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| TlsError::Pair(error.to_string()))?;
    let builder = match &config.client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            files.push(ca.file.clone());
            let wrong = |problem: String| TlsError::File {
                path: ca.file.clone(),
                what: "the roots of client certificates",
                problem,
            };
            let mut roots = RootCertStore::empty();
            for root in certificates(&ca.file)? {
                roots.add(root).map_err(|error| wrong(error.to_string()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if ca.is_required { verifier } else { verifier.allow_unauthenticated() };
            builder.with_client_cert_verifier(verifier.build().map_err(|error| wrong(error.to_string()))?)
        }
    };
    let mut server = builder.with_single_cert(chain, key).map_err(|error| TlsError::Pair(error.to_string()))?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Loaded { server: Arc::new(server), files, self_made })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let wrong = |problem: String| TlsError::File { path: path.to_owned(), what: "certificates", problem };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    let found = found.map_err(|error| wrong(error.to_string()))?;
    if found.is_empty() { Err(wrong("there is no PEM certificate in it".to_owned())) } else { Ok(found) }
}

fn private_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let wrong = |problem: String| TlsError::File { path: path.to_owned(), what: "a private key", problem };
    let pem = std::fs::read(path).map_err(|error| wrong(error.to_string()))?;
    // What is wrong inside of a key is not told: it could be a part of it.
    PrivateKeyDer::from_pem_slice(&pem).map_err(|_| wrong("there is no PEM private key in it".to_owned()))
}

/// What a client's certificate says; it was verified before.
pub(super) fn peer_certificate(der: &[u8]) -> PeerCertificate {
    let fingerprint = Sha256::digest(der).iter().fold(String::with_capacity(64), |mut text, byte| {
        text.extend([byte >> 4, byte & 15].map(|digit| char::from_digit(digit.into(), 16).unwrap_or('0')));
        text
    });
    PeerCertificate { subject: subject(der), fingerprint: fingerprint.into() }
}

fn subject(der: &[u8]) -> Option<Box<str>> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let common = certificate.subject().iter_common_name().find_map(|name| Some(name.as_str().ok()?.to_owned()));
    let alternative = || {
        let names = certificate.subject_alternative_name().ok()??;
        names.value.general_names.iter().find_map(|name| match name {
            GeneralName::DNSName(name) | GeneralName::RFC822Name(name) => Some((*name).to_owned()),
            _ => None,
        })
    };
    let name = common.or_else(alternative)?;
    // It goes into logs and becomes a caller's name.
    let is_plain = !name.is_empty() && name.len() <= 255 && !name.chars().any(char::is_control);
    is_plain.then(|| name.into())
}
