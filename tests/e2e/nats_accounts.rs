//! A NATS server whose users are vouched for by keys: operator, account, user.
//!
//! Role: makes the keys, the signed claims (JSON Web Tokens as NATS has them) and the credentials files of users, and the
//! settings of a server that knows the operator alone.

use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use nkeys::KeyPair;
use serde_json::{Value, json};

/// No limit.
const ANY: i64 = -1;

/// Who vouches for an account, in which users may do everything, JetStream included.
pub(crate) struct Operator {
    own: KeyPair,
    account: KeyPair,
    /// That of the server itself, without which it has no JetStream.
    system: KeyPair,
}

/// A user of the account.
pub(crate) struct User {
    key: KeyPair,
    claims: String,
}

/// Claims about the owner of a key, signed by another one.
fn signed(issuer: &KeyPair, about: &KeyPair, claims: &Value) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    let head = json!({"typ": "JWT", "alg": "ed25519-nkey"});
    let subject = about.public_key();
    let body =
        json!({"jti": subject, "iat": 1, "iss": issuer.public_key(), "sub": subject, "name": "test", "nats": claims});
    let text = format!("{}.{}", part(&head), part(&body));
    let signature = issuer.sign(text.as_bytes()).expect("a key with its seed");
    format!("{text}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
}

impl Operator {
    pub(crate) fn new() -> Self {
        Self { own: KeyPair::new_operator(), account: KeyPair::new_account(), system: KeyPair::new_account() }
    }

    /// A new user.
    pub(crate) fn user(&self) -> User {
        let key = KeyPair::new_user();
        let claims =
            json!({"type": "user", "version": 2, "pub": {}, "sub": {}, "subs": ANY, "data": ANY, "payload": ANY});
        User { claims: signed(&self.account, &key, &claims), key }
    }

    /// The settings of a server that takes this operator's word, in a file.
    pub(crate) fn settings(&self, folder: &Path) -> String {
        let limits = json!({
            "subs": ANY, "data": ANY, "payload": ANY, "imports": ANY, "exports": ANY, "wildcards": true, "conn": ANY,
            "leaf": ANY,
        });
        let mut with_streams = limits.clone();
        for limit in ["mem_storage", "disk_storage", "streams", "consumer"] {
            with_streams[limit] = json!(ANY);
        }
        let account = |key: &KeyPair, limits: Value| {
            let permissions = json!({"pub": {}, "sub": {}});
            let claims = json!({"type": "account", "version": 2, "limits": limits, "default_permissions": permissions});
            signed(&self.own, key, &claims)
        };
        let system = self.system.public_key();
        let operator = json!({"type": "operator", "version": 2, "system_account": system});
        let settings = json!({
            "operator": signed(&self.own, &self.own, &operator),
            "system_account": system,
            "resolver": "MEMORY",
            "resolver_preload": {
                system: account(&self.system, limits),
                self.account.public_key(): account(&self.account, with_streams),
            },
        });
        // What is JSON the server reads as its settings.
        write(folder, "server.conf", &settings.to_string())
    }
}

impl User {
    /// What nobody else may see.
    pub(crate) fn seed(&self) -> String {
        self.key.seed().expect("a seed")
    }

    /// The credentials file.
    pub(crate) fn credentials(&self, folder: &Path, name: &str) -> String {
        self.credentials_with(&self.seed(), folder, name)
    }

    /// The file of somebody who has the claims, but another seed.
    pub(crate) fn credentials_with(&self, seed: &str, folder: &Path, name: &str) -> String {
        let claims = &self.claims;
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{claims}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        );
        write(folder, name, &text)
    }
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    std::fs::write(&file, text).expect("written");
    file.display().to_string()
}
