//! Certificates, and a TLS client that keeps one connection open.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, StreamOwned};

use crate::process::PATIENCE;

/// A root, and what it signs.
pub(crate) struct Root(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Pair {
    pub(super) certificate: String,
    pub(super) key: String,
}

impl Root {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root"))
    }

    /// For `localhost` and `127.0.0.1`, or for a client of this name.
    pub(crate) fn signs(&self, name: &str) -> Pair {
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let mut params = CertificateParams::new(names).expect("names");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.0).expect("signed").pem();
        Pair { certificate, key: key.serialize_pem() }
    }

    /// Its own certificate in a file.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> String {
        write(folder, name, &self.0.pem()).display().to_string()
    }

    fn store(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        roots
    }
}

impl Pair {
    /// Certificate and key in files.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (String, String) {
        let file = |kind: &str, text| write(folder, &format!("{name}-{kind}.pem"), text).display().to_string();
        (file("certificate", &self.certificate), file("key", &self.key))
    }

    /// The bytes of the key as its file has them.
    pub(super) fn secret(&self) -> String {
        self.key.lines().filter(|line| !line.starts_with('-')).collect()
    }

    /// The settings of a server with it.
    pub(super) fn server(&self) -> ServerConfig {
        let chain = vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).expect("a certificate")];
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        builder.expect("versions").with_no_client_auth().with_single_cert(chain, key).expect("a pair")
    }
}

/// A file, written aside and renamed, as careful tools do.
fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let (path, aside) = (folder.join(name), folder.join(format!("{name}.part")));
    std::fs::write(&aside, text).expect("written");
    std::fs::rename(&aside, &path).expect("renamed");
    path
}

/// One connection that is kept.
pub(super) struct Kept(BufReader<StreamOwned<ClientConnection, TcpStream>>);

impl Kept {
    /// Connects to `https://127.0.0.1:PORT` as somebody who trusts this root alone.
    pub(super) fn open(url: &str, root: &Root) -> std::io::Result<Self> {
        let address = url.strip_prefix("https://").expect("encrypted");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let config = builder.expect("versions").with_root_certificates(root.store()).with_no_client_auth();
        let name = ServerName::try_from("localhost").expect("a name");
        let client = ClientConnection::new(Arc::new(config), name).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let mut kept = Self(BufReader::new(StreamOwned::new(client, stream)));
        // The handshake.
        kept.0.get_mut().flush()?;
        Ok(kept)
    }

    /// The status of a GET on this connection.
    pub(super) fn get(&mut self, path: &str, header: &str) -> u16 {
        write!(self.0.get_mut(), "GET {path} HTTP/1.1\r\nhost: localhost\r\n{header}\r\n\r\n").expect("asked");
        let (mut status, mut length) = (None, 0);
        loop {
            let mut line = String::new();
            let read = self.0.read_line(&mut line).expect("an answer on the connection that was kept");
            assert!(read > 0, "the connection was dropped");
            let line = line.trim_end();
            if line.is_empty() {
                break;
            }
            match (status, line.split_once(": ")) {
                (None, _) => status = line.split(' ').nth(1).and_then(|status| status.parse().ok()),
                (_, Some(("content-length", value))) => length = value.parse().expect("a length"),
                (_, Some(("transfer-encoding", _))) => panic!("a body of a known length is wanted"),
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.0.read_exact(&mut body).expect("a whole body");
        status.expect("a status")
    }
}
