//! Tokens over the wire, and the keys of their issuer.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use busway_gateway::edge::auth::{AuthConfig, JwtConfig, KeySource};
use busway_gateway::edge::rate::RateConfig;
use busway_gateway::edge::{EdgeConfig, Gateway, Setup};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Mutex;

use crate::client::get;
use crate::fake::Fake;
use crate::security::bearer;
use crate::served::{Served, route};

/// An issuer with one key.
struct Issuer {
    pair: KeyPair,
    kid: &'static str,
}

impl Issuer {
    fn new(kid: &'static str) -> Self {
        Self { pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key"), kid }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.der_bytes();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.kid, "use": "sig", "alg": "ES256"})
    }

    fn sign(&self, change: impl FnOnce(&mut Value)) -> String {
        // The fake node's day is at one second past 1970.
        let mut claims = json!({
            "iss": "https://issuer.example", "aud": "busway", "sub": "user-1", "exp": 600, "scope": "route:/echo/{*rest}"
        });
        change(&mut claims);
        let header = Header { kid: Some(self.kid.to_owned()), ..Header::new(Algorithm::ES256) };
        encode(&header, &claims, &EncodingKey::from_ec_der(&self.pair.serialize_der())).expect("signed")
    }

    fn good(&self) -> String {
        self.sign(|_| {})
    }
}

fn key_set(issuers: &[&Issuer]) -> String {
    json!({"keys": issuers.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>()}).to_string()
}

fn jwt(source: KeySource) -> JwtConfig {
    JwtConfig::new("https://issuer.example", "busway", source)
}

fn config(jwt: JwtConfig) -> EdgeConfig {
    EdgeConfig {
        auth: AuthConfig { jwt: Some(jwt), ..AuthConfig::default() },
        rate: RateConfig { failed: "1000/s".parse().expect("a rate"), ..RateConfig::default() },
        routes: vec![route("/echo/{*rest}", "echo")],
        ..EdgeConfig::default()
    }
}

fn write(folder: &Path, text: &str) -> KeySource {
    let path = folder.join("jwks.json");
    std::fs::write(&path, text).expect("written");
    KeySource::JwksFile(path)
}

async fn status(served: &Served, token: &str) -> u16 {
    served.send(bearer(get("/echo/x"), token)).await.status
}

#[tokio::test]
async fn a_token_opens_what_its_scopes_say_and_others_are_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let (ours, theirs) = (Issuer::new("a"), Issuer::new("a"));
    let served = Served::start(config(jwt(write(folder.path(), &key_set(&[&ours]))))).await;
    let asked = served.send(bearer(get("/echo/x"), &ours.good())).await;
    assert_eq!((asked.status, asked.header("x-seen-x-busway-caller")), (200, Some("token:user-1")));
    assert_eq!(asked.header("x-seen-authorization"), None);
    assert_eq!(status(&served, &theirs.good()).await, 401, "signed by somebody else");
    assert_eq!(status(&served, &Issuer { kid: "b", ..ours_again(&ours) }.good()).await, 401, "an unknown key");
    assert_eq!(status(&served, &ours.sign(|claims| claims["scope"] = "openid".into())).await, 403);
    for (name, value, said) in [
        ("exp", json!(0), "has expired"),
        ("exp", json!(-1), "lacks"),
        ("nbf", json!(100), "not valid yet"),
        ("aud", json!("other"), "somebody else"),
        ("iss", json!("https://evil.example"), "another issuer"),
    ] {
        // The day has to be later than the leeway after 1970 for something to have expired.
        served.fake.now.store(40_000, Ordering::Relaxed);
        let refused = served.send(bearer(get("/echo/x"), &ours.sign(|claims| claims[name] = value.clone()))).await;
        assert_eq!((refused.status, refused.problem().as_str()), (401, "unauthorized"), "{name} = {value}");
        assert!(refused.text().contains(said), "{}", refused.text());
    }
    let forged = served.send(bearer(get("/echo/x"), &theirs.sign(|claims| claims["exp"] = 0.into()))).await;
    assert!(!forged.text().contains("expired"), "only whoever signs for us is told why: {}", forged.text());
}

fn ours_again(issuer: &Issuer) -> Issuer {
    let der = issuer.pair.serialize_der();
    Issuer { pair: KeyPair::try_from(der.as_slice()).expect("the same key"), kid: issuer.kid }
}

#[tokio::test]
async fn tokens_in_every_broken_form_are_refused_and_nothing_breaks() {
    let folder = tempfile::tempdir().expect("a folder");
    let ours = Issuer::new("a");
    let served = Served::start(config(jwt(write(folder.path(), &key_set(&[&ours]))))).await;
    let good = ours.good();
    let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
    let part = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let none = part(r#"{"alg":"none","typ":"JWT","kid":"a"}"#);
    let hs = part(r#"{"alg":"HS256","typ":"JWT","kid":"a"}"#);
    let admin = part(r#"{"iss":"https://issuer.example","aud":"busway","sub":"admin","exp":600,"scope":"route:*"}"#);
    for broken in [
        format!("{none}.{payload}."),
        format!("{none}.{payload}.{signature}"),
        format!("{none}.{admin}."),
        format!("{hs}.{payload}.{signature}"),
        format!("{header}.{admin}.{signature}"),
        format!("{header}.{payload}."),
        format!("{header}.{payload}.{}", &signature[..20]),
        format!("{header}.{payload}.{signature}="),
        format!("{payload}.{header}.{signature}"),
        format!("..{signature}"),
        "..".to_owned(),
        format!("{header}.."),
        format!("{}.{payload}.{signature}", part("{}")),
        format!("{}.{payload}.{signature}", part("[")),
        format!("{header}.{}.{signature}", "A".repeat(10_000)),
        format!("{header}.{}.{signature}", part(&"[".repeat(3_000))),
        format!("{header}.{payload}.{}", URL_SAFE_NO_PAD.encode([0_u8; 64])),
    ] {
        let answer = served.send(bearer(get("/echo/x"), &broken)).await;
        assert_eq!((answer.status, answer.problem().as_str()), (401, "unauthorized"), "{broken}");
    }
    assert_eq!(status(&served, &good).await, 200);
}

/// A server of key sets that can be changed, broken and counted.
struct KeyServer {
    addr: SocketAddr,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
}

impl KeyServer {
    #[expect(clippy::disallowed_methods, reason = "a test has no node to spawn for it")]
    async fn start(body: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let answer = Arc::new(Mutex::new(Self::ok(body)));
        let asked = Arc::new(AtomicUsize::new(0));
        let (answers, count) = (answer.clone(), asked.clone());
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                let mut head = [0_u8; 4_096];
                let _ = stream.read(&mut head).await;
                let text = answers.lock().await.clone();
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        Self { addr, answer, asked }
    }

    fn ok(body: &str) -> String {
        format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
    }

    async fn gives(&self, answer: String) {
        *self.answer.lock().await = answer;
    }

    fn config(&self) -> JwtConfig {
        let url = format!("http://{}/jwks", self.addr).parse().expect("a URL");
        let mut jwt = jwt(KeySource::JwksUrl { url, ca: None });
        jwt.refresh_least = Duration::from_millis(50);
        jwt
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn keys_are_fetched_once_for_many_and_again_when_the_issuer_changes_them() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let keys = KeyServer::start(&key_set(&[&old])).await;
    let served = Served::start(config(keys.config())).await;
    let token = old.good();
    let many = futures_util::future::join_all((0..20).map(|_| status(&served, &token))).await;
    assert!(many.iter().all(|status| *status == 200), "{many:?}");
    assert_eq!(keys.asked(), 1, "one fetch for all");
    keys.gives(KeyServer::ok(&key_set(&[&new, &old]))).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(status(&served, &new.good()).await, 200, "an unknown key is asked for");
    assert_eq!(status(&served, &old.good()).await, 200);
    keys.gives(KeyServer::ok(&key_set(&[&new]))).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(status(&served, &Issuer::new("other").good()).await, 401);
    assert_eq!(status(&served, &old.good()).await, 401, "what the issuer took back is not accepted");
}

#[tokio::test]
async fn unknown_keys_do_not_make_the_issuer_be_asked_more_often() {
    let ours = Issuer::new("a");
    let keys = KeyServer::start(&key_set(&[&ours])).await;
    let mut jwt = keys.config();
    jwt.refresh_least = Duration::from_hours(1);
    let served = Served::start(config(jwt)).await;
    assert_eq!(status(&served, &ours.good()).await, 200);
    for i in 0..30 {
        let kid: &'static str = ["x", "y", "z"][i % 3];
        assert_eq!(status(&served, &Issuer::new(kid).good()).await, 401);
    }
    assert_eq!(keys.asked(), 1);
}

#[tokio::test]
async fn an_issuer_that_is_down_or_broken_locks_out_nobody_who_was_known() {
    let ours = Issuer::new("a");
    let keys = KeyServer::start(&key_set(&[&ours])).await;
    let served = Served::start(config(keys.config())).await;
    assert_eq!(status(&served, &ours.good()).await, 200);
    let huge = format!("{{\"keys\": [], \"padding\": \"{}\"}}", "x".repeat(300_000));
    for broken in [
        "HTTP/1.1 500 Broken\r\ncontent-length: 0\r\nconnection: close\r\n\r\n".to_owned(),
        "HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
            .to_owned(),
        KeyServer::ok("{\"keys\": []}"),
        KeyServer::ok("<html>"),
        KeyServer::ok(&huge),
        String::new(),
    ] {
        let before = keys.asked();
        keys.gives(broken.clone()).await;
        tokio::time::sleep(Duration::from_millis(60)).await;
        let _ = status(&served, &Issuer::new("other").good()).await;
        assert!(keys.asked() > before, "it was asked");
        assert_eq!(status(&served, &ours.good()).await, 200, "{}", broken.chars().take(40).collect::<String>());
    }
}

#[tokio::test]
async fn without_the_keys_of_the_issuer_nobody_is_accepted_and_nobody_is_blamed() {
    let ours = Issuer::new("a");
    let keys = KeyServer::start("<html>").await;
    let served = Served::start(config(keys.config())).await;
    let refused = served.send(bearer(get("/echo/x"), &ours.good())).await;
    assert_eq!((refused.status, refused.problem().as_str()), (503, "unavailable"));
    assert_eq!(refused.header("retry-after"), Some("5"));
    assert!(!refused.text().contains("127.0.0.1"), "{}", refused.text());
    keys.gives(KeyServer::ok(&key_set(&[&ours]))).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(status(&served, &ours.good()).await, 200);
}

#[tokio::test]
async fn another_issuer_is_used_at_once_after_a_reload() {
    let folder = tempfile::tempdir().expect("a folder");
    let (first, second) = (Issuer::new("a"), Issuer::new("b"));
    let served = Served::start(config(jwt(write(folder.path(), &key_set(&[&first]))))).await;
    assert_eq!(status(&served, &second.good()).await, 401);
    let same = config(jwt(write(folder.path(), &key_set(&[&second]))));
    served.gateway.reload(same).expect("sound");
    assert_eq!(status(&served, &second.good()).await, 200);
    assert_eq!(status(&served, &first.good()).await, 401);
    let bad = config(jwt(write(folder.path(), "{}")));
    let error = served.gateway.reload(bad).expect_err("no key set").to_string();
    assert!(error.contains("jwks.json") && error.contains("JWKS"), "{error}");
    assert_eq!(status(&served, &second.good()).await, 200, "the one before stays");
}

#[tokio::test]
async fn what_cannot_check_tokens_is_refused_at_the_start_with_its_place_and_without_its_content() {
    let folder = tempfile::tempdir().expect("a folder");
    let short = folder.path().join("short");
    std::fs::write(&short, "only-a-few-bytes\n").expect("written");
    let private = folder.path().join("private.pem");
    let pem = Issuer::new("a").pair.serialize_pem();
    std::fs::write(&private, &pem).expect("written");
    let refused = |source: KeySource| {
        let gateway = Gateway::new(Arc::new(Fake::default()), config(jwt(source)), Setup::default());
        gateway.err().expect("refused").to_string()
    };
    let told = refused(KeySource::SecretFile(short.clone()));
    assert!(told.contains("short") && told.contains("32 bytes") && !told.contains("only-a-few"), "{told}");
    let told = refused(KeySource::PublicKey(private));
    assert!(told.contains("private.pem") && told.contains("private key"), "{told}");
    assert!(!told.contains(&pem[40..60]), "{told}");
    let told = refused(KeySource::SecretEnv("BUSWAY_TEST_NO_SUCH_VARIABLE".to_owned()));
    assert!(told.contains("BUSWAY_TEST_NO_SUCH_VARIABLE"), "{told}");
    assert!(refused(KeySource::JwksFile(folder.path().join("none"))).contains("none"));
}
