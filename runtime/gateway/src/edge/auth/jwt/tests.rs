//! Tokens that have to be refused, and those that have to be accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use busway_types::{Clock, Timestamp};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData as _};
use serde_json::{Value, json};

use super::config::{JwtAlgorithm, JwtConfig, KeySource};
use super::keys::{InvalidKeys, KeySet};
use super::source::Keys;
use super::verify::{BadToken, verify};
use crate::edge::auth::{Caller, Secret};

const RSA: &[u8] = include_bytes!("../../../../tests/keys/rsa-for-tests-only.pem");
const NOW: Timestamp = Timestamp(1_800_000_000_000);
const NOW_S: u64 = NOW.0 / 1_000;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

/// Somebody who signs.
struct Signer {
    algorithm: Algorithm,
    key: EncodingKey,
    jwk: Value,
}

fn rsa() -> Signer {
    let key = EncodingKey::from_rsa_pem(RSA).expect("a key");
    let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).expect("a public key");
    Signer { algorithm: Algorithm::RS256, key, jwk: serde_json::to_value(jwk).expect("JSON") }
}

fn ec() -> Signer {
    let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).expect("a key");
    let point = pair.der_bytes();
    let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
    let key = EncodingKey::from_ec_der(&pair.serialize_der());
    Signer { algorithm: Algorithm::ES256, key, jwk: json!({"kty": "EC", "crv": "P-256", "x": x, "y": y}) }
}

fn ed() -> Signer {
    let pair = KeyPair::generate_for(&PKCS_ED25519).expect("a key");
    let x = URL_SAFE_NO_PAD.encode(pair.der_bytes());
    let key = EncodingKey::from_ed_der(&pair.serialize_der());
    Signer { algorithm: Algorithm::EdDSA, key, jwk: json!({"kty": "OKP", "crv": "Ed25519", "x": x}) }
}

fn hs() -> Signer {
    Signer { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(SECRET), jwk: Value::Null }
}

fn claims() -> Value {
    json!({
        "iss": "https://issuer.example", "aud": "busway", "sub": "user-1", "exp": NOW_S + 600, "nbf": NOW_S - 60,
        "scope": "openid publish:shop.> route:quote"
    })
}

impl Signer {
    fn sign(&self, kid: Option<&str>, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid = kid.map(ToOwned::to_owned);
        encode(&header, claims, &self.key).expect("signed")
    }

    /// A token with exactly this header.
    fn sign_raw(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).expect("signed");
        format!("{message}.{signature}")
    }

    fn named(&self, kid: &str) -> Value {
        let mut jwk = self.jwk.clone();
        jwk["kid"] = kid.into();
        jwk
    }
}

fn config(source: KeySource) -> JwtConfig {
    JwtConfig::new("https://issuer.example", "busway", source)
}

fn public() -> JwtConfig {
    config(KeySource::JwksFile("unused".into()))
}

fn set(jwks: &[Value]) -> KeySet {
    KeySet::jwks(json!({"keys": jwks}).to_string().as_bytes(), &public().algorithms).expect("a key set")
}

fn check(token: &str, keys: &KeySet) -> Result<Caller, BadToken> {
    verify(token, keys, &public(), NOW)
}

#[test]
fn tokens_of_every_algorithm_are_accepted_with_their_own_key() {
    for signer in [rsa(), ec(), ed()] {
        let caller = check(&signer.sign(Some("k"), &claims()), &set(&[signer.named("k")])).expect("accepted");
        assert_eq!(caller.name.as_deref(), Some("user-1"));
        assert!(caller.may_use("quote") && caller.may_publish(&"shop.a".parse().expect("a topic")));
        assert!(!caller.may_use("openid") && !caller.may_see(&"shop.a".parse().expect("a topic")));
        assert_eq!(caller.expires, Some(Timestamp((NOW_S + 630) * 1_000)), "with the leeway");
    }
    let shared = KeySet::secret(&Secret::new(SECRET)).expect("long enough");
    let config = config(KeySource::SecretEnv("S".into()));
    assert!(verify(&hs().sign(None, &claims()), &shared, &config, NOW).is_ok());
    assert!(verify(&hs().sign(Some("any"), &claims()), &shared, &config, NOW).is_ok(), "the only key has no name");
}

#[test]
fn what_a_token_proves_ends_with_its_key_and_with_what_is_asked_of_tokens() {
    let (signer, other) = (rsa(), ec());
    let (keys, config) = (set(&[signer.named("k"), other.named("l")]), public());
    let caller = check(&signer.sign(Some("k"), &claims()), &keys).expect("accepted");
    let proof = caller.proof.clone().expect("a proof");
    assert!(keys.proves(&proof, &config));
    assert!(set(&[signer.named("renamed")]).proves(&proof, &config), "it is the same key, whatever it is called");
    assert!(!set(&[other.named("k")]).proves(&proof, &config), "the key is gone");
    let elsewhere = JwtConfig { audience: vec!["another".into()], ..public() };
    assert!(!keys.proves(&proof, &elsewhere));
    let fewer = JwtConfig { algorithms: vec![JwtAlgorithm::Es256], ..public() };
    assert!(!keys.proves(&proof, &fewer));
    let shared = KeySet::secret(&Secret::new(SECRET)).expect("long enough");
    assert!(!shared.proves(&proof, &config));
    assert_eq!(format!("{proof:?}"), "Proof");
}

#[test]
fn a_token_without_a_signature_is_refused_however_it_is_written() {
    let (signer, keys) = (rsa(), set(&[rsa().named("k")]));
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    for none in ["none", "None", "NONE", "nOnE", ""] {
        let message = format!("{}.{}", part(&json!({"alg": none, "kid": "k"})), part(&claims()));
        for signature in ["", "AA"] {
            assert_eq!(check(&format!("{message}.{signature}"), &keys).err(), Some(BadToken::NotOurs), "{none}");
        }
        let signed = signer.sign_raw(&json!({"alg": none, "kid": "k"}), &claims());
        assert_eq!(check(&signed, &keys).err(), Some(BadToken::NotOurs), "{none}");
    }
    let good = signer.sign(Some("k"), &claims());
    let (message, _) = good.rsplit_once('.').expect("three parts");
    assert!(check(&format!("{message}."), &keys).is_err() && check(message, &keys).is_err());
}

#[test]
fn a_public_key_cannot_be_used_as_a_shared_secret() {
    let keys = set(&[rsa().named("k")]);
    let pem = jsonwebtoken::DecodingKey::from_rsa_pem(RSA).expect("a key");
    let n = rsa().jwk["n"].as_str().expect("a modulus").to_owned();
    for secret in [RSA.to_vec(), n.clone().into_bytes(), rsa().jwk.to_string().into_bytes(), pem_bytes(&pem)] {
        let forged = Signer { algorithm: Algorithm::HS256, key: EncodingKey::from_secret(&secret), jwk: Value::Null };
        for algorithm in ["HS256", "RS256", "HS384"] {
            let token = forged.sign_raw(&json!({"alg": algorithm, "kid": "k"}), &claims());
            assert_eq!(check(&token, &keys).err(), Some(BadToken::NotOurs), "{algorithm}");
        }
    }
}

fn pem_bytes(key: &jsonwebtoken::DecodingKey) -> Vec<u8> {
    key.try_get_as_bytes().map(<[u8]>::to_vec).unwrap_or_default()
}

#[test]
fn a_token_for_one_key_is_not_taken_with_another() {
    let (ours, other) = (ec(), ec());
    let keys = set(&[ours.named("a"), rsa().named("b")]);
    assert_eq!(check(&other.sign(Some("a"), &claims()), &keys).err(), Some(BadToken::NotOurs));
    assert_eq!(check(&ours.sign(Some("b"), &claims()), &keys).err(), Some(BadToken::UnknownKey), "of another kind");
    assert_eq!(check(&ours.sign(Some("c"), &claims()), &keys).err(), Some(BadToken::UnknownKey));
    assert!(check(&ours.sign(None, &claims()), &keys).is_ok(), "the only one of its kind");
    let two = set(&[ours.named("a"), other.named("b")]);
    assert_eq!(check(&ours.sign(None, &claims()), &two).err(), Some(BadToken::NotOurs), "not guessed among two");
}

#[test]
fn keys_that_a_token_brings_along_are_not_used() {
    let (ours, theirs) = (ec(), ec());
    let keys = set(&[ours.named("a")]);
    let headers = [
        json!({"alg": "ES256", "kid": "a", "jwk": theirs.jwk}),
        json!({"alg": "ES256", "jwk": theirs.jwk}),
        json!({"alg": "ES256", "kid": "a", "jku": "https://evil.example/jwks"}),
        json!({"alg": "ES256", "kid": "a", "x5u": "https://evil.example/cert"}),
    ];
    for header in headers {
        assert!(check(&theirs.sign_raw(&header, &claims()), &keys).is_err(), "{header}");
    }
}

#[test]
fn what_a_header_insists_on_is_refused() {
    let signer = ec();
    let keys = set(&[signer.named("a")]);
    for header in [
        json!({"alg": "ES256", "kid": "a", "crit": ["b64"], "b64": false}),
        json!({"alg": "ES256", "kid": "a", "crit": []}),
        json!({"alg": "ES256", "kid": "a", "enc": "A128GCM"}),
        json!({"alg": "ES256", "kid": "a", "zip": "DEF"}),
        json!({"alg": "ES256", "kid": "a", "typ": "logout+jwt"}),
        json!({"alg": ["ES256"], "kid": "a"}),
        json!({"alg": "ES256", "kid": 7}),
        json!({"kid": "a"}),
    ] {
        assert_eq!(check(&signer.sign_raw(&header, &claims()), &keys).err(), Some(BadToken::NotOurs), "{header}");
    }
    for typ in ["JWT", "at+jwt", "AT+JWT"] {
        assert!(check(&signer.sign_raw(&json!({"alg": "ES256", "kid": "a", "typ": typ}), &claims()), &keys).is_ok());
    }
}

#[test]
fn every_changed_character_is_noticed() {
    let signer = ed();
    let keys = set(&[signer.named("a")]);
    let good = signer.sign(Some("a"), &claims());
    assert!(check(&good, &keys).is_ok());
    for at in 0..good.len() {
        for change in [b'A', b'.', b'=', b'!'] {
            let mut bad = good.clone().into_bytes();
            if bad[at] != change {
                bad[at] = change;
                let bad = String::from_utf8(bad).expect("ASCII");
                assert!(check(&bad, &keys).is_err(), "character {at} as {}", char::from(change));
            }
        }
        assert!(check(&good[..at], &keys).is_err(), "cut to {at}");
    }
    assert!(check(&format!("{good}A"), &keys).is_err() && check(&format!("{good}.{good}"), &keys).is_err());
}

#[test]
fn claims_are_required_and_mean_what_they_say() {
    let signer = ed();
    let keys = set(&[signer.named("a")]);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = claims();
        change(&mut claims);
        check(&signer.sign(Some("a"), &claims), &keys).map(|caller| caller.name)
    };
    for missing in ["iss", "aud", "sub", "exp"] {
        let refused = with(&|claims| drop(claims.as_object_mut().expect("an object").remove(missing)));
        assert!(matches!(refused, Err(BadToken::Claims(_))), "{missing}");
    }
    let said = |name: &str, value: Value| with(&|claims| claims[name] = value.clone());
    assert_eq!(said("iss", json!("https://issuer.example/")), Err(BadToken::Claims("is of another issuer")));
    assert!(said("iss", json!(["https://issuer.example"])).is_err(), "an issuer is one");
    assert_eq!(said("aud", json!("other")), Err(BadToken::Claims("is meant for somebody else")));
    assert_eq!(said("aud", json!([])), Err(BadToken::Claims("is meant for somebody else")));
    assert!(said("aud", json!(["other", "busway"])).is_ok());
    assert!(said("aud", json!({"busway": 1})).is_err() && said("aud", json!("BUSWAY")).is_err());
    assert_eq!(said("exp", json!(NOW_S - 30)), Err(BadToken::Claims("has expired")));
    assert!(said("exp", json!(NOW_S - 29)).is_ok(), "within the leeway");
    assert!(said("exp", json!(NOW_S as f64 + 0.5)).is_ok());
    assert_eq!(said("nbf", json!(NOW_S + 31)), Err(BadToken::Claims("is not valid yet")));
    assert!(said("nbf", json!(NOW_S + 30)).is_ok());
    for strange in [json!("1"), json!(-1), json!(1e300), json!(null), json!(NOW.0)] {
        assert!(said("exp", strange.clone()).is_err(), "exp = {strange}");
    }
    assert!(said("nbf", json!("soon")).is_err());
    for subject in [json!(""), json!("a\nb"), json!("x".repeat(256)), json!(7)] {
        assert!(said("sub", subject.clone()).is_err(), "{subject}");
    }
}

#[test]
fn scopes_come_from_the_claim_that_is_configured_as_text_or_list() {
    let signer = ed();
    let keys = set(&[signer.named("a")]);
    let config = JwtConfig { scopes_claim: "permissions".into(), ..public() };
    let mut claims = claims();
    claims["permissions"] = json!(["route:list", 7, "publish:..", "nonsense"]);
    let caller = verify(&signer.sign(Some("a"), &claims), &keys, &config, NOW).expect("accepted");
    assert!(caller.may_use("list") && !caller.may_use("quote"));
    assert_eq!(caller.scopes.expect("restricted").len(), 1);
    claims["permissions"] = json!({"route:quote": true});
    let caller = verify(&signer.sign(Some("a"), &claims), &keys, &config, NOW).expect("accepted");
    assert_eq!(caller.scopes.expect("restricted").len(), 0);
}

#[test]
fn a_token_that_is_too_long_is_refused_unread() {
    let signer = ed();
    let keys = set(&[signer.named("a")]);
    let mut claims = claims();
    claims["more"] = "x".repeat(8_192).into();
    assert_eq!(check(&signer.sign(Some("a"), &claims), &keys).err(), Some(BadToken::NotOurs));
    for strange in ["", ".", "..", "a.b.c", "....", &"a".repeat(9_000), &".".repeat(100_000), "ä.ö.ü"] {
        assert!(check(strange, &keys).is_err(), "{}", strange.chars().take(10).collect::<String>());
    }
    let deep = URL_SAFE_NO_PAD.encode("[".repeat(4_000));
    assert!(check(&format!("{deep}.{deep}.AA"), &keys).is_err());
}

#[test]
fn weak_wrong_and_malformed_keys_are_left_out_and_never_panic() {
    let short = |bytes: usize| URL_SAFE_NO_PAD.encode(vec![0xc5_u8; bytes]);
    let bad = [
        json!({"kty": "RSA", "n": short(128), "e": "AQAB"}),
        json!({"kty": "RSA", "n": short(1_024), "e": "AQAB"}),
        json!({"kty": "RSA", "n": short(256), "e": "AQ"}),
        json!({"kty": "RSA", "n": short(256), "e": "Ag"}),
        json!({"kty": "RSA", "n": short(256), "e": ""}),
        json!({"kty": "RSA", "n": "!", "e": "AQAB"}),
        json!({"kty": "RSA", "n": rsa().jwk["n"], "e": "AQAB", "alg": "RS512"}),
        json!({"kty": "RSA", "n": rsa().jwk["n"], "e": "AQAB", "use": "enc"}),
        json!({"kty": "RSA", "n": rsa().jwk["n"], "e": "AQAB", "kid": "x".repeat(300)}),
        json!({"kty": "EC", "crv": "P-256", "x": short(32), "y": short(32)}),
        json!({"kty": "EC", "crv": "P-256", "x": short(3), "y": short(3)}),
        json!({"kty": "EC", "crv": "P-384", "x": short(48), "y": short(48)}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": short(5)}),
        json!({"kty": "OKP", "crv": "Ed25519", "x": ""}),
        json!({"kty": "OKP", "crv": "Ed448", "x": short(57)}),
        json!({"kty": "oct", "k": short(64), "alg": "HS256"}),
        json!({"kty": "quantum"}),
        json!({}),
        json!(7),
    ];
    let read = |keys: &[Value]| KeySet::jwks(json!({"keys": keys}).to_string().as_bytes(), &public().algorithms);
    for key in &bad {
        assert!(matches!(read(std::slice::from_ref(key)), Err(InvalidKeys::NoneUsable(_))), "{key}");
    }
    let mut mixed = bad.to_vec();
    mixed.push(ed().named("good"));
    assert_eq!(read(&mixed).expect("one is good").len(), 1);
    for text in ["", "[]", "{}", "{\"keys\":{}}", "null", "{\"keys\":"] {
        assert!(matches!(KeySet::jwks(text.as_bytes(), &public().algorithms), Err(InvalidKeys::NotASet)), "{text}");
    }
}

#[test]
fn a_key_set_is_bounded_and_only_holds_what_is_allowed() {
    let signer = ec();
    let many: Vec<Value> = (0..150).map(|i| signer.named(&i.to_string())).collect();
    assert_eq!(set(&many).len(), 100);
    let only_rsa = [JwtAlgorithm::Rs256];
    let text = json!({"keys": [signer.named("a")]}).to_string();
    assert!(KeySet::jwks(text.as_bytes(), &only_rsa).is_err());
}

#[test]
fn a_later_key_does_not_push_out_one_of_the_same_name() {
    let (first, second) = (ec(), ec());
    let keys = set(&[first.named("a"), second.named("a")]);
    assert!(check(&first.sign(Some("a"), &claims()), &keys).is_ok());
    assert!(check(&second.sign(Some("a"), &claims()), &keys).is_err());
}

#[test]
fn files_with_private_keys_and_short_secrets_are_refused() {
    let all = public().algorithms;
    assert_eq!(KeySet::pem(RSA, &all).err(), Some(InvalidKeys::Private));
    assert_eq!(KeySet::pem(b"nonsense", &all).err(), Some(InvalidKeys::NotAKey));
    assert_eq!(
        KeySet::pem(b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", &all).err(),
        Some(InvalidKeys::NotAKey)
    );
    assert_eq!(KeySet::secret(&Secret::new(*b"short")).err(), Some(InvalidKeys::ShortSecret(5)));
    for pair in [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519] {
        let pair = KeyPair::generate_for(pair).expect("a key");
        let keys = KeySet::pem(pair.public_key_pem().as_bytes(), &all).expect("a public key");
        assert_eq!(keys.len(), 1);
        assert!(KeySet::pem(pair.serialize_pem().as_bytes(), &all).is_err());
    }
    let p384 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).expect("a key");
    assert!(matches!(KeySet::pem(p384.public_key_pem().as_bytes(), &all), Err(InvalidKeys::Unusable(_))));
}

/// A clock that is moved by hand.
#[derive(Debug, Default)]
struct Hand(AtomicU64);

impl Clock for Hand {
    fn now(&self) -> Timestamp {
        NOW
    }

    fn monotonic_ns(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Hand {
    fn forward(&self, by: Duration) {
        self.0.fetch_add(by.as_nanos() as u64, Ordering::Relaxed);
    }
}

#[tokio::test]
async fn a_key_set_is_read_again_when_a_token_names_an_unknown_key_but_not_too_often() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("jwks.json");
    let (first, second) = (ec(), ec());
    let write = |keys: &[Value]| std::fs::write(&path, json!({"keys": keys}).to_string()).expect("written");
    write(&[first.named("a")]);
    let clock = Arc::new(Hand::default());
    let config = Arc::new(config(KeySource::JwksFile(path.clone())));
    let keys = Keys::new(config.clone(), clock.clone()).expect("read");
    let check = |signer: &Signer, kid: &str| {
        verify(&signer.sign(Some(kid), &claims()), &keys.current().expect("keys"), &config, NOW).is_ok()
    };
    let script = async {
        assert!(check(&first, "a") && !check(&second, "b"));
        write(&[first.named("a"), second.named("b")]);
        assert!(!keys.refreshed().await, "it was read a moment ago");
        clock.forward(config.refresh_least);
        // However many ask, one fetch answers them all.
        let (one, two, three) = tokio::join!(keys.refreshed(), keys.refreshed(), keys.refreshed());
        assert!(one && two && three);
        assert!(check(&second, "b"));
        assert!(!keys.refreshed().await, "not again so soon");
        std::fs::write(&path, "broken").expect("written");
        clock.forward(config.refresh_least);
        assert!(keys.refreshed().await);
        assert!(check(&first, "a") && check(&second, "b"), "a broken set changes nothing");
        clock.forward(config.refresh + config.stale);
        assert!(keys.current().is_none(), "and does not go on for ever");
    };
    tokio::select! {
        () = script => {}
        () = keys.maintain() => {}
    }
}
