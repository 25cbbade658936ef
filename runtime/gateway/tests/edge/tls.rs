//! Encrypted connections: certificates from files and self-made, of clients, exchanged while connections are open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use busway_gateway::edge::{CertificateSource, ClientCa, EdgeConfig, TlsConfig};
use rcgen::{CertificateParams, CertifiedIssuer, DnType, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::client::{PATIENCE, get};
use crate::fake::Fake;
use crate::served::{Served, echoing};

/// A root, and what it signs.
struct Root(CertifiedIssuer<'static, KeyPair>);

impl Root {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a root"))
    }

    /// Certificate and key as PEM.
    fn signs(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        (params.signed_by(&key, &self.0).expect("signed").pem(), key.serialize_pem())
    }

    fn roots(&self) -> RootCertStore {
        let mut roots = RootCertStore::empty();
        roots.add(self.0.der().clone()).expect("a root");
        roots
    }
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// TLS with a certificate that `root` signed, in files of `folder`.
fn from_files(folder: &Path, root: &Root, client_ca: Option<ClientCa>) -> EdgeConfig {
    let (certificate, key) = root.signs("the gateway");
    let (certificate, key) = (write(folder, "crt.pem", &certificate), write(folder, "key.pem", &key));
    let tls = TlsConfig { source: CertificateSource::Files { certificate, key }, client_ca };
    EdgeConfig { tls: Some(tls), ..echoing() }
}

/// A client that trusts these roots, perhaps with a certificate of its own.
fn client(roots: RootCertStore, own: Option<(String, String)>, alpn: &[&[u8]]) -> TlsConnector {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
    let builder = builder.with_root_certificates(roots);
    let mut config = match own {
        None => builder.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).expect("a certificate")];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).expect("a key");
            builder.with_client_auth_cert(chain, key).expect("a pair")
        }
    };
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    TlsConnector::from(Arc::new(config))
}

async fn open(served: &Served, client: &TlsConnector) -> std::io::Result<TlsStream<TcpStream>> {
    let stream = TcpStream::connect(served.addr).await?;
    client.connect(ServerName::try_from("localhost").expect("a name"), stream).await
}

/// What a GET of `/echo/x` gets; empty when the connection ends.
async fn ask(stream: &mut TlsStream<TcpStream>) -> String {
    let _ = stream.write_all(&get("/echo/x").bytes()).await;
    let mut answer = vec![0; 4096];
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut answer)).await.expect("in time").unwrap_or(0);
    String::from_utf8_lossy(&answer[..read]).into_owned()
}

#[tokio::test]
async fn a_certificate_from_files_is_exchanged_without_dropping_a_connection() {
    let folder = tempfile::tempdir().expect("a folder");
    let (old, new) = (Root::new(), Root::new());
    let served = Served::start(from_files(folder.path(), &old, None)).await;
    let (with_old, with_new) = (client(old.roots(), None, &[b"http/1.1"]), client(new.roots(), None, &[]));
    let mut kept = open(&served, &with_old).await.expect("trusted");
    assert!(ask(&mut kept).await.starts_with("HTTP/1.1 200"));
    open(&served, &with_new).await.expect_err("not trusted yet");

    // The key comes after the certificate, as with many tools: what does not fit together changes nothing.
    let (certificate, key) = new.signs("the gateway");
    write(folder.path(), "crt.pem", &certificate);
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    open(&served, &with_old).await.expect("the pair before goes on");
    write(folder.path(), "key.pem", &key);
    let exchanged = async { while open(&served, &with_new).await.is_err() {} };
    tokio::time::timeout(PATIENCE, exchanged).await.expect("the new one is used");
    assert!(ask(&mut kept).await.starts_with("HTTP/1.1 200"), "the connection is still there");
}

#[tokio::test]
async fn http_2_is_chosen_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Root::new();
    let served = Served::start(from_files(folder.path(), &root, None)).await;
    let both = open(&served, &client(root.roots(), None, &[b"h2", b"http/1.1"])).await.expect("trusted");
    assert_eq!(both.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let old = open(&served, &client(root.roots(), None, &[b"http/1.1"])).await.expect("trusted");
    assert_eq!(old.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
}

#[tokio::test]
async fn a_self_made_certificate_is_made_for_this_machine() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = TlsConfig { source: CertificateSource::SelfMade, client_ca: None };
    let config = EdgeConfig { tls: Some(tls), ..echoing() };
    let served = Served::start_in(Fake::default(), config, Some(folder.path().to_owned())).await;
    let file = served.gateway.self_made().expect("kept in a file");
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(file).expect("a certificate")).expect("a root");
    let mut stream = open(&served, &client(roots, None, &[])).await.expect("trusted");
    assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_is_known_by_its_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let (root, theirs, others) = (Root::new(), Root::new(), Root::new());
    let file = write(folder.path(), "ca.pem", &theirs.0.pem());
    let ca = |is_required| Some(ClientCa { file: file.clone(), is_required });
    let served = Served::start(from_files(folder.path(), &root, ca(false))).await;
    let known = client(root.roots(), Some(theirs.signs("worker-7")), &[]);
    let answer = ask(&mut open(&served, &known).await.expect("trusted")).await;
    assert!(answer.contains("x-client-certificate: worker-7\r\n"), "{answer}");
    let nameless = client(root.roots(), None, &[]);
    let answer = ask(&mut open(&served, &nameless).await.expect("trusted")).await;
    assert!(answer.starts_with("HTTP/1.1 200") && !answer.contains("x-client-certificate"), "{answer}");
    let forged = client(root.roots(), Some(others.signs("worker-7")), &[]);
    assert_eq!(asked_at_all(&served, &forged).await, "", "signed by somebody else");

    let served = Served::start(from_files(folder.path(), &root, ca(true))).await;
    assert_eq!(asked_at_all(&served, &nameless).await, "", "one is required");
    assert!(asked_at_all(&served, &known).await.starts_with("HTTP/1.1 200"));
}

/// With TLS 1.3 a client learns that it was turned away only when it reads.
async fn asked_at_all(served: &Served, client: &TlsConnector) -> String {
    match open(served, client).await {
        Ok(mut stream) => ask(&mut stream).await,
        Err(_) => String::new(),
    }
}

#[tokio::test]
async fn a_handshake_has_its_time() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = from_files(folder.path(), &Root::new(), None);
    config.limits.handshake_time = Duration::from_millis(200);
    let served = Served::start(config).await;
    let mut silent = served.connect().await;
    assert_eq!(silent.rest().await, "");
    let mut plain = served.connect().await;
    plain.write(get("/health/live").bytes()).await;
    assert!(!plain.rest().await.contains("200"), "nothing is served unencrypted");
}

#[test]
fn what_cannot_be_used_is_told_with_its_file_and_without_the_key() {
    let folder = tempfile::tempdir().expect("a folder");
    let root = Root::new();
    let mut config = from_files(folder.path(), &root, None);
    let problem = |config: &EdgeConfig| {
        let made = busway_gateway::edge::Gateway::new(Arc::new(Fake::default()), config.clone(), <_>::default());
        made.err().map(|error| error.to_string()).unwrap_or_default()
    };
    assert_eq!(problem(&config), "");
    let (_, other) = root.signs("another");
    write(folder.path(), "key.pem", &other);
    let told = problem(&config);
    assert!(told.contains("cannot be used together") && !told.contains("PRIVATE"), "{told}");
    write(folder.path(), "key.pem", "-----BEGIN PRIVATE KEY-----\nc2VjcmV0\n-----END");
    let told = problem(&config);
    assert!(told.contains("key.pem cannot be used as a private key") && !told.contains("c2Vj"), "{told}");
    let missing = CertificateSource::Files { certificate: "none.pem".into(), key: "none.pem".into() };
    config.tls = Some(TlsConfig { source: missing, client_ca: None });
    assert!(problem(&config).contains("none.pem"), "{}", problem(&config));
}
