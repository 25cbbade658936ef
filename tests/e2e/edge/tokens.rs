//! Tokens at the binary: shared secrets and key sets, from a variable, a file and a server; what is wrong with them, and how
//! keys change.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use busway_types::{Clock as _, SystemClock};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};
use rustls::{ServerConnection, Stream};
use serde_json::{Value, json};

use crate::gateway::Told;
use crate::harness::App;
use crate::process::PATIENCE;

use super::curl::Reply;
use super::doors::{everything, ready};
use super::leaks::Leaks;
use super::tls::Root;
use super::until;

const SECRET: &str = "0f9b1c7e5a3d48f2b6e4d1c09a87f3e25c6b";

/// Whoever signs tokens, with one key.
enum Issuer {
    Shared,
    Public { pair: Box<KeyPair>, algorithm: Algorithm, kid: &'static str },
}

impl Issuer {
    fn new(algorithm: Algorithm, kid: &'static str) -> Self {
        let kind = if algorithm == Algorithm::ES256 { &PKCS_ECDSA_P256_SHA256 } else { &PKCS_ED25519 };
        Self::Public { pair: Box::new(KeyPair::generate_for(kind).expect("a key")), algorithm, kid }
    }

    fn jwk(&self) -> Value {
        let Self::Public { pair, algorithm, kid } = self else { panic!("a shared secret is no public key") };
        let bytes = pair.der_bytes();
        let text = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        if *algorithm == Algorithm::ES256 {
            let (x, y) = (text(&bytes[1..33]), text(&bytes[33..65]));
            json!({"kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": kid, "alg": "ES256", "use": "sig"})
        } else {
            json!({"kty": "OKP", "crv": "Ed25519", "x": text(bytes), "kid": kid, "alg": "EdDSA", "use": "sig"})
        }
    }

    fn sign(&self, change: impl FnOnce(&mut Value)) -> String {
        let now = SystemClock::new().now().0 / 1_000;
        let mut claims = json!({
            "iss": "https://login.example", "aud": ["busway", "other"], "sub": "ada", "exp": now + 600, "iat": now,
            "scope": "openid route:web publish:public.>",
        });
        change(&mut claims);
        let (header, key) = match self {
            Self::Shared => (Header::new(Algorithm::HS256), EncodingKey::from_secret(SECRET.as_bytes())),
            Self::Public { pair, algorithm, kid } => {
                let header = Header { kid: Some((*kid).to_owned()), ..Header::new(*algorithm) };
                let der = pair.serialize_der();
                let is_ec = *algorithm == Algorithm::ES256;
                (header, if is_ec { EncodingKey::from_ec_der(&der) } else { EncodingKey::from_ed_der(&der) })
            }
        };
        encode(&header, &claims, &key).expect("signed")
    }
}

fn key_set(issuers: &[&Issuer]) -> String {
    json!({"keys": issuers.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>()}).to_string()
}

fn app(keys: &str) -> App {
    everything(&format!(
        "[gateway.rate]\nfailed = \"1000/s\"\n[gateway.auth.jwt]\nissuer = \"https://login.example\"\n\
         audience = \"busway\"\n{keys}"
    ))
}

/// A node, who asks it, and what must not be told.
struct Doors {
    told: Told,
    url: String,
    leaks: Leaks,
}

impl Doors {
    fn start(app: &App) -> Self {
        let environment = [("BUSWAY_TEST_SECRET", SECRET)];
        let told = Told::start_with(&app.path().display().to_string(), &["--log", "trace"], &environment);
        let url = ready(&told);
        Self { told, url, leaks: Leaks::default() }
    }

    fn asked(&mut self, arguments: &[&str], token: &str) -> Reply {
        let header = format!("authorization: Bearer {token}");
        self.leaks.curl(&[&["--header", &header], arguments].concat())
    }

    fn seen(&mut self, token: &str) -> Reply {
        let url = format!("{}/web/seen", self.url);
        self.asked(&[&url], token)
    }

    /// A good token opens what its scopes say; of all that is wrong with others the caller learns little, and nobody sees any.
    fn good_and_bad(mut self, issuer: &Issuer, other: &Issuer) {
        let good = issuer.sign(|_| {});
        self.leaks.keep(&good);
        let seen = self.seen(&good);
        assert_eq!(seen.status, 200, "{seen:?}");
        let headers = seen.json()["headers"].to_string();
        assert!(headers.contains(r#"["x-busway-caller","token:ada"]"#), "{headers}");
        assert!(!headers.contains("authorization"), "{headers}");
        for (topic, wanted) in [("public.count", 202), ("secret.count", 403)] {
            let url = format!("{}/events/{topic}", self.url);
            assert_eq!(self.asked(&["--data", "{}", &url], &good).status, wanted, "{topic}");
        }
        let unscoped = issuer.sign(|claims| claims["scope"] = "openid".into());
        assert_eq!(self.seen(&unscoped).status, 403);
        let now = SystemClock::new().now().0 / 1_000;
        let [header, payload, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!("three parts") };
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let admin = URL_SAFE_NO_PAD.encode(
            json!({
                "iss": "https://login.example", "aud": "busway", "sub": "admin", "exp": now + 600, "scope": "route:*"
            })
            .to_string(),
        );
        for bad in [
            issuer.sign(|claims| claims["exp"] = (now - 120).into()),
            issuer.sign(|claims| claims["nbf"] = (now + 120).into()),
            issuer.sign(|claims| claims["aud"] = "somebody".into()),
            issuer.sign(|claims| claims["iss"] = "https://evil.example".into()),
            issuer.sign(|claims| drop(claims.as_object_mut().map(|claims| claims.remove("exp")))),
            other.sign(|_| {}),
            format!("{none}.{payload}."),
            format!("{none}.{admin}.{signature}"),
            format!("{header}.{admin}.{signature}"),
            format!("{header}.{payload}.{}", &signature[..20]),
        ] {
            let refused = self.seen(&bad);
            assert_eq!((refused.status, refused.problem()), (401, "unauthorized".to_owned()), "{bad}");
            self.leaks.keep(&bad);
        }
        self.leaks.none(&self.told);
    }
}

#[test]
fn tokens_with_a_shared_secret_are_checked_and_the_secret_stays_in_its_variable() {
    let mut doors = Doors::start(&app("secret-env = \"BUSWAY_TEST_SECRET\"\n"));
    doors.leaks.keep(SECRET);
    doors.leaks.keep(&URL_SAFE_NO_PAD.encode(SECRET));
    doors.good_and_bad(&Issuer::Shared, &Issuer::new(Algorithm::ES256, "a"));
}

#[test]
fn tokens_are_checked_with_a_file_of_keys_which_is_read_again_when_it_changes() {
    let (old, new) = (Issuer::new(Algorithm::ES256, "old"), Issuer::new(Algorithm::EdDSA, "new"));
    let app = app("jwks = \"keys.json\"\n");
    app.write("keys.json", key_set(&[&old]).as_bytes());
    let mut doors = Doors::start(&app);
    assert_eq!(doors.seen(&old.sign(|_| {})).status, 200);
    app.write("keys.json", key_set(&[&new]).as_bytes());
    // A token with a key that is not known has the file read, at most every 30 s.
    until("the new keys", || doors.seen(&new.sign(|_| {})).status == 200);
    assert_eq!(doors.seen(&old.sign(|_| {})).status, 401, "what the issuer took back");
    doors.good_and_bad(&new, &Issuer::new(Algorithm::EdDSA, "new"));
}

/// A server of keys, encrypted with what a root of its own signed.
fn serve_keys(root: &Root, keys: &Arc<Mutex<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("https://127.0.0.1:{}/jwks.json", listener.local_addr().expect("an address").port());
    let (config, keys) = (Arc::new(root.signs("the issuer").server()), Arc::clone(keys));
    std::thread::spawn(move || {
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut tls = ServerConnection::new(Arc::clone(&config)).expect("settings");
            stream.set_read_timeout(Some(PATIENCE)).expect("a time");
            let mut stream = Stream::new(&mut tls, &mut stream);
            // Whoever does not trust the server has gone already.
            if !stream.read(&mut [0; 4_096]).is_ok_and(|read| read > 0) {
                continue;
            }
            let keys = keys.lock().expect("a lock").clone();
            let _ =
                write!(stream, "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{keys}", keys.len());
            stream.conn.send_close_notify();
            let _ = stream.flush();
        }
    });
    url
}

#[test]
fn tokens_are_checked_with_keys_of_a_server_that_is_trusted_and_changes_them() {
    let (root, other) = (Root::new(), Root::new());
    let (old, new) = (Issuer::new(Algorithm::EdDSA, "old"), Issuer::new(Algorithm::ES256, "new"));
    let keys = Arc::new(Mutex::new(key_set(&[&old])));
    let url = serve_keys(&root, &keys);
    let app = app(&format!("jwks = \"{url}\"\njwks-ca = \"issuer.pem\"\n"));
    // Another one's server is not believed, and nobody is let in by it.
    other.write(app.path(), "issuer.pem");
    let mut doors = Doors::start(&app);
    let waits = doors.seen(&old.sign(|_| {}));
    assert_eq!((waits.status, waits.header("retry-after")), (503, Some("5")));
    assert!(!waits.body.contains("127.0.0.1"), "where the keys come from is for the log: {}", waits.body);
    assert!(doors.told.after("the keys for tokens could not be renewed").contains("jwks.json"));
    drop(doors);

    root.write(app.path(), "issuer.pem");
    let mut doors = Doors::start(&app);
    assert_eq!(doors.seen(&old.sign(|_| {})).status, 200);
    *keys.lock().expect("a lock") = key_set(&[&new]);
    until("the new keys", || doors.seen(&new.sign(|_| {})).status == 200);
    assert_eq!(doors.seen(&old.sign(|_| {})).status, 401, "what the issuer took back");
    doors.good_and_bad(&new, &Issuer::new(Algorithm::ES256, "new"));
}
