//! What `[gateway.auth]` and `[gateway.rate]` may say, and what is told when they say something else.

use std::path::Path;
use std::time::Duration;

use busway_gateway::edge::auth::{AuthConfig, JwtAlgorithm, KeyHash, KeySource};
use busway_gateway::edge::rate::RateConfig;

use crate::manifest::Manifest;

fn read(text: &str) -> (AuthConfig, RateConfig) {
    let manifest = Manifest::parse(Path::new("app/busway.toml"), text);
    let edge = manifest.unwrap_or_else(|findings| panic!("{}", told(&findings))).gateway.edge;
    (edge.auth, edge.rate)
}

fn told(findings: &[crate::manifest::Finding]) -> String {
    findings.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn refused(text: &str, expected: &[&str]) -> String {
    let findings = Manifest::parse(Path::new("app/busway.toml"), text).expect_err("refused");
    let told = told(&findings);
    for expected in expected {
        assert!(told.contains(expected), "{expected:?} is missing in:\n{told}");
    }
    told
}

fn hash(of: &str) -> String {
    KeyHash::of(of.as_bytes()).to_string()
}

#[test]
fn everything_about_callers_is_read() {
    let text = format!(
        r#"
        [gateway.auth]
        documents = "open"
        [gateway.auth.keys.shop]
        sha256 = "{}"
        scopes = ["publish:shop.>", "route:quote"]
        expires = "2027-01-31"
        [gateway.auth.jwt]
        issuer = "https://issuer.example"
        audience = "busway"
        algorithms = ["ES256"]
        jwks = "keys/jwks.json"
        scopes-claim = "permissions"
        leeway = "5s"
        refresh = "1m"
        stale = "1h"
        token-bytes = "4KiB"
        [gateway.auth.certificates."till.shop"]
        scopes = ["subscribe:shop.>"]
        [gateway.rate]
        requests = "100/s"
        burst = 500
        failed = "5/m"
        clients = 5000
        trusted-proxies = ["10.0.0.0/8", "::1"]
        [[gateway.routes]]
        name = "quote"
        path = "/quote"
        service = "hello"
        rate = "10/s"
        burst = 20
        "#,
        hash("some key")
    );
    let (auth, rate) = read(&text);
    assert_eq!((auth.keys[0].name.as_str(), auth.keys[0].scopes.len()), ("shop", 2));
    assert_eq!(auth.keys[0].expires.map(|at| at.to_string()).as_deref(), Some("2027-01-31T00:00:00.000Z"));
    let jwt = auth.jwt.expect("tokens");
    assert_eq!(jwt.source, KeySource::JwksFile("app/keys/jwks.json".into()));
    assert_eq!((jwt.algorithms, jwt.scopes_claim.as_str()), (vec![JwtAlgorithm::Es256], "permissions"));
    assert_eq!((jwt.leeway, jwt.refresh), (Duration::from_secs(5), Duration::from_mins(1)));
    assert_eq!((jwt.stale, jwt.token_bytes), (Duration::from_hours(1), 4_096));
    assert_eq!(auth.certificates.len(), 1);
    assert!(auth.documents_open);
    assert_eq!((rate.requests.to_string().as_str(), rate.requests.burst(), rate.clients), ("100/s", 500, 5_000));
    assert_eq!((rate.failed.burst(), rate.trusted_proxies.0.len()), (5, 2));
    assert!(read("[gateway]\n").0 == AuthConfig::default());
}

#[test]
fn a_secret_in_the_manifest_is_refused_and_never_shown() {
    let key = "bw_0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef01234567";
    let secret = "correct-horse-battery-staple";
    for text in [
        format!("[gateway.auth.keys.shop]\nsha256 = \"{key}\"\nscopes = []\n"),
        format!("[gateway.auth.keys.shop]\nsha256 = \"{secret}\"\nscopes = []\n"),
        format!("[gateway.auth.keys.shop]\nkey = \"{secret}\"\nscopes = [\"nonsense\"]\n"),
        format!("[gateway.auth.keys]\nshop = \"{secret}\"\n"),
        format!("[gateway.auth]\nkeys = {{ shop = {{ secret = \"{secret}\", scope = 1 }} }}\n"),
        format!("[gateway.auth.jwt]\nissuer = \"i\"\naudience = \"a\"\nsecret = \"{secret}\"\n"),
        format!("[gateway.auth.jwt]\nissuer = \"i\"\naudience = \"a\"\nsecret-env = \"{secret}\"\n"),
        format!("[gateway.auth.jwt]\nissuer = \"i\"\naudience = \"a\"\njwks = \"https://u:{secret}@h/\"\n"),
        format!("[gateway.auth.keys.shop]\nsha256 = \"{key}\" nonsense\n"),
    ] {
        let told = refused(&text, &["busway.toml:"]);
        assert!(!told.contains(secret) && !told.contains(&key[10..]), "{told}");
    }
    refused(
        &format!("[gateway.auth.keys.shop]\nsecret = \"{secret}\"\nscopes = []\n"),
        &["a secret does not belong in a manifest", "busway gateway key shop", "make another"],
    );
    refused(
        &format!("[gateway.auth.jwt]\nissuer = \"i\"\naudience = \"a\"\nsecret = \"{secret}\"\n"),
        &["secret-env = \"ITS_NAME\"", "secret-file"],
    );
}

#[test]
fn weak_and_broken_hashes_are_refused() {
    let with = |hash: &str| format!("[gateway.auth.keys.a]\nsha256 = \"{hash}\"\nscopes = []\n");
    refused(&with(&hash("password")), &["that anybody would guess"]);
    refused(&with(&"0".repeat(64)), &["that anybody would guess"]);
    refused(&with("abc"), &["64 hexadecimal digits", "busway gateway key"]);
    refused("[gateway.auth.keys.a]\nscopes = []\n", &["has no `sha256`"]);
    refused(&format!("[gateway.auth.keys.a]\nsha256 = \"{}\"\n", hash("x")), &["does not say what it allows"]);
    let twice = format!("{}{}", with(&hash("x")), with(&hash("x")).replace("keys.a", "keys.b"));
    refused(&twice, &["this is the key of `a`"]);
}

#[test]
fn what_would_let_in_nobody_or_the_wrong_ones_is_refused_with_its_place() {
    refused("[gateway.auth]\n", &["no way in which somebody could show who they are"]);
    refused("[gateway.auth.jwt]\n", &["has no `issuer`", "has no `audience`", "where the keys come from"]);
    let jwt = |rest: &str| format!("[gateway.auth.jwt]\nissuer = \"i\"\naudience = \"a\"\n{rest}\n");
    refused(&jwt("jwks = \"a\"\npublic-key = \"b\""), &["more than one way"]);
    refused(&jwt("jwks = \"http://issuer.example/jwks\""), &["over https alone"]);
    refused(&jwt("jwks = \"a\"\nalgorithms = [\"HS256\"]"), &["HS256 is for a shared secret"]);
    refused(&jwt("secret-env = \"S\"\nalgorithms = [\"RS256\"]"), &["RS256 is for public keys"]);
    refused(&jwt("jwks = \"a\"\nalgorithms = [\"none\"]"), &["`none` is not an algorithm"]);
    refused(&jwt("jwks = \"a\"\nalgorithms = []"), &["no token would be accepted"]);
    refused(&jwt("jwks = \"a\"\nleeway = \"1h\""), &["`leeway`", "are allowed"]);
    refused(&jwt("jwks = \"a\"\njwks-ca = \"b\""), &["`jwks-ca`"]);
    refused("[gateway.auth.certificates.a]\nscopes = [\"all\"]\n", &["is not a scope"]);
    refused("[gateway.auth.certificates.\"sha256:00\"]\nscopes = []\n", &["names no certificate"]);
    refused("[gateway.auth.keyz.a]\n", &["did you mean `keys`?"]);
    refused("[gateway.rate]\nrequests = \"fast\"\n", &["is not a rate", "100/s"]);
    refused("[gateway.rate]\ntrusted-proxies = [\"proxy.example\"]\n", &["block of addresses"]);
}
