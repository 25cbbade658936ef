//! `[gateway.auth]`: who is let in.
//!
//! Invariant: a secret in the text is a mistake, and no message about the manifest shows the lines it is in.

use std::path::Path;
use std::time::Duration;

use busway_gateway::api::parse_rfc3339;
use busway_gateway::edge::auth::{
    AuthConfig, CertificateConfig, CertificateMatch, InvalidHash, JwksUrl, JwtAlgorithm, JwtConfig, KeyConfig, KeyHash,
    KeySource, Scope,
};

use super::super::reader::Table;

/// Keys of `[gateway.auth]`.
const KEYS: &[&str] = &["keys", "jwt", "certificates", "documents"];
/// Keys of `[gateway.auth.keys.NAME]`.
const KEY_KEYS: &[&str] = &["sha256", "scopes", "expires"];
/// Keys of `[gateway.auth.certificates.NAME]`.
const CERTIFICATE_KEYS: &[&str] = &["scopes"];
/// Keys of `[gateway.auth.jwt]`.
const JWT_KEYS: &[&str] = &[
    "issuer",
    "audience",
    "algorithms",
    "jwks",
    "jwks-ca",
    "public-key",
    "secret-env",
    "secret-file",
    "scopes-claim",
    "leeway",
    "refresh",
    "stale",
    "token-bytes",
];
/// Where somebody might write a secret down.
const SECRETS: &[&str] = &["secret", "key", "password", "token", "value", "private-key", "api-key"];

/// Names of keys; they go into logs and headers.
const NAME_MOST: usize = 64;

/// The table `auth` of `[gateway]`; paths are taken from `base`.
pub(in crate::manifest) fn read(gateway: &Table<'_>, base: &Path) -> AuthConfig {
    let Some(table) = gateway.table("auth", "[gateway.auth]".to_owned(), KEYS) else { return AuthConfig::default() };
    let documents = table.word("documents", &[("open", true), ("closed", false)]);
    let jwt = table.has("jwt").then(|| read_jwt(&table, base));
    let config = AuthConfig {
        is_given: true,
        keys: read_keys(&table),
        jwt: jwt.flatten(),
        certificates: read_certificates(&table),
        documents_open: documents.unwrap_or(false),
    };
    if !["keys", "jwt", "certificates"].iter().any(|way| table.has(way)) {
        let help = "add [gateway.auth.keys.NAME], which `busway gateway key NAME` prints, [gateway.auth.jwt] or \
                    [gateway.auth.certificates.\"NAME\"]";
        let problem = "[gateway.auth] has no way in which somebody could show who they are";
        table.document.note(table.span.clone(), problem.to_owned(), Some(help.to_owned()));
    }
    config
}

/// What is wrong with a secret in a manifest, without showing it.
fn refuse_secrets(table: &Table<'_>, advice: &str) {
    for word in SECRETS.iter().filter(|word| table.has(word)) {
        table.document.hide(&table.place(word));
        let problem = format!("`{word}` in {}: a secret does not belong in a manifest", table.name);
        let help = format!("{advice}; if others have seen this one, make another");
        table.document.note(table.key_place(word), problem, Some(help));
    }
}

/// The known keys of a table, and those that get words of their own.
fn with_secrets(known: &[&'static str]) -> Vec<&'static str> {
    [known, SECRETS].concat()
}

fn scopes(table: &Table<'_>) -> Vec<Scope> {
    if !table.has("scopes") {
        let help = "write `scopes = [\"publish:shop.>\", \"subscribe:shop.>\", \"route:NAME\"]`, as few as will do";
        let problem = format!("{} does not say what it allows", table.name);
        table.document.note(table.span.clone(), problem, Some(help.to_owned()));
    }
    table.list("scopes").unwrap_or_default()
}

fn read_keys(auth: &Table<'_>) -> Vec<KeyConfig> {
    let mut keys: Vec<KeyConfig> = Vec::new();
    let Some(names) = auth.names("keys") else { return keys };
    for (name, span, value) in names.entries() {
        let of = format!("[gateway.auth.keys.{name}]");
        let Some(entries) = value.get_ref().as_table() else {
            // Perhaps the key itself.
            auth.document.hide(&value.span());
            let help =
                format!("write {of} with `sha256` and `scopes` below it; `busway gateway key {name}` prints both");
            auth.document.note(span, format!("`{name}` in [gateway.auth.keys] is not a table"), Some(help));
            continue;
        };
        let is_name =
            name.len() <= NAME_MOST && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.@".contains(&b));
        if !is_name || name.is_empty() {
            let problem = format!("a key's name has 1 to {NAME_MOST} letters, digits, `-`, `_`, `.` and `@`");
            auth.document.note(span, problem, None);
        }
        let table = Table::new(auth.document, of, value.span(), entries, &with_secrets(KEY_KEYS));
        refuse_secrets(&table, &format!("`busway gateway key {name}` makes a key and prints what belongs here"));
        let sha256 = read_hash(&table, name);
        let expires = table.string("expires").and_then(|text| {
            let moment = parse_rfc3339(text);
            if moment.is_none() {
                table
                    .note("expires", "this is no moment; write one such as \"2027-01-31\" or \"2027-01-31T09:00:00Z\"");
            }
            moment
        });
        let scopes = scopes(&table);
        let Some(sha256) = sha256 else { continue };
        if let Some(same) = keys.iter().find(|key| key.sha256 == sha256) {
            table.note("sha256", format!("this is the key of `{}`; every name has a key of its own", same.name));
        }
        keys.push(KeyConfig { name: name.to_owned(), sha256, scopes, expires });
    }
    keys
}

fn read_hash(table: &Table<'_>, name: &str) -> Option<KeyHash> {
    if !table.has("sha256") {
        let help = format!("`busway gateway key {name}` makes a key and prints it");
        let problem = format!("{} has no `sha256`", table.name);
        table.document.note(table.span.clone(), problem, Some(help));
    }
    let text = table.string("sha256")?;
    text.parse()
        .map_err(|error: InvalidHash| {
            // It may be the secret, whatever it looks like.
            table.document.hide(&table.place("sha256"));
            table.note("sha256", error);
        })
        .ok()
}

fn read_certificates(auth: &Table<'_>) -> Vec<CertificateConfig> {
    let mut certificates = Vec::new();
    let Some(names) = auth.names("certificates") else { return certificates };
    for (name, span, value) in names.entries() {
        let Some(entries) = value.get_ref().as_table() else {
            let help = format!("write [gateway.auth.certificates.\"{name}\"] and its `scopes` below");
            let problem = format!("`{name}` in [gateway.auth.certificates] is not a table");
            auth.document.note(span, problem, Some(help));
            continue;
        };
        let of = format!("[gateway.auth.certificates.\"{name}\"]");
        let table = Table::new(auth.document, of, value.span(), entries, CERTIFICATE_KEYS);
        let scopes = scopes(&table);
        match name.parse::<CertificateMatch>() {
            Ok(certificate) => certificates.push(CertificateConfig { certificate, scopes }),
            Err(error) => auth.document.note(span, error.to_string(), None),
        }
    }
    certificates
}

fn read_jwt(auth: &Table<'_>, base: &Path) -> Option<JwtConfig> {
    let table = auth.table("jwt", "[gateway.auth.jwt]".to_owned(), &with_secrets(JWT_KEYS))?;
    refuse_secrets(
        &table,
        "put it into an environment variable and write `secret-env = \"ITS_NAME\"`, or into a file \
                            that only the node can read and write `secret-file`",
    );
    let issuer = required(&table, "issuer", "who signs the tokens: exactly what they have as `iss`");
    let audience = required(&table, "audience", "for whom the tokens are: what they have as `aud`");
    let source = read_source(&table, base)?;
    let mut jwt = JwtConfig::new(issuer?, audience?, source);
    if let Some(algorithms) = read_algorithms(&table, &jwt) {
        jwt.algorithms = algorithms;
    }
    if let Some(claim) = table.string("scopes-claim") {
        claim.clone_into(&mut jwt.scopes_claim);
    }
    let durations = [
        ("leeway", Duration::ZERO, JwtConfig::LEEWAY_MOST, &mut jwt.leeway),
        ("refresh", Duration::from_secs(30), Duration::from_hours(24), &mut jwt.refresh),
        ("stale", Duration::ZERO, Duration::from_hours(24 * 30), &mut jwt.stale),
    ];
    for (key, least, most, field) in durations {
        if let Some(duration) = table.duration(key, least..=most) {
            *field = duration;
        }
    }
    if let Some(bytes) = table.bytes("token-bytes", 256..=64 * 1024) {
        jwt.token_bytes = bytes as usize;
    }
    Some(jwt)
}

fn required<'a>(table: &Table<'a>, key: &str, what: &str) -> Option<&'a str> {
    if !table.has(key) {
        let problem = format!("{} has no `{key}`", table.name);
        table.document.note(table.span.clone(), problem, Some(format!("write {what}")));
    }
    let text = table.string(key)?;
    if text.is_empty() {
        table.note(key, format!("`{key}` is empty; write {what}"));
        return None;
    }
    Some(text)
}

fn read_source(table: &Table<'_>, base: &Path) -> Option<KeySource> {
    const WAYS: [&str; 4] = ["jwks", "public-key", "secret-env", "secret-file"];
    let given: Vec<&str> = WAYS.into_iter().filter(|way| table.has(way)).collect();
    let [way] = given[..] else {
        let problem = match given[..] {
            [] => format!("{} does not say where the keys come from", table.name),
            _ => format!("{} says in more than one way where the keys come from", table.name),
        };
        let help = format!("write exactly one of `{}`", WAYS.join("`, `"));
        table.document.note(table.span.clone(), problem, Some(help));
        return None;
    };
    let ca = table.string("jwks-ca").map(|path| base.join(path));
    let text = table.string(way)?;
    let is_url = way == "jwks" && text.contains("://");
    if ca.is_some() && !is_url {
        table.note("jwks-ca", "`jwks-ca` is about the server of a `jwks` URL; take it out");
    }
    match way {
        "jwks" if is_url => {
            let parsed = text.parse::<JwksUrl>();
            if parsed.is_err() {
                // It may carry a password.
                table.document.hide(&table.place("jwks"));
            }
            let url = parsed.map_err(|error| table.note("jwks", error)).ok()?;
            Some(KeySource::JwksUrl { url, ca })
        }
        "jwks" => Some(KeySource::JwksFile(base.join(text))),
        "public-key" => Some(KeySource::PublicKey(base.join(text))),
        "secret-file" => Some(KeySource::SecretFile(base.join(text))),
        _ => {
            let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
            if text.is_empty() || text.len() > 128 || !text.chars().all(is_name) {
                // It may be the secret itself.
                table.document.hide(&table.place(way));
                table.note(way, "`secret-env` is the name of an environment variable: letters, digits and `_`");
                return None;
            }
            Some(KeySource::SecretEnv(text.to_owned()))
        }
    }
}

fn read_algorithms(table: &Table<'_>, jwt: &JwtConfig) -> Option<Vec<JwtAlgorithm>> {
    let names: Vec<String> = table.list("algorithms")?;
    let mut algorithms = Vec::new();
    for name in names {
        match JwtAlgorithm::ALL.iter().find(|(known, _)| *known == name) {
            Some((_, algorithm)) if !jwt.source.can_have(*algorithm) => {
                let kind = if *algorithm == JwtAlgorithm::Hs256 { "a shared secret" } else { "public keys" };
                table.note("algorithms", format!("{name} is for {kind}, which are not what is configured here"));
            }
            Some((_, algorithm)) => algorithms.push(*algorithm),
            None => {
                let known: Vec<&str> = JwtAlgorithm::ALL.iter().map(|(known, _)| *known).collect();
                let shown: String = name.chars().take(40).collect();
                table.note(
                    "algorithms",
                    format!("`{shown}` is not an algorithm for tokens; there are {}", known.join(", ")),
                );
            }
        }
    }
    if algorithms.is_empty() {
        table.note("algorithms", "without an algorithm no token would be accepted");
        return None;
    }
    Some(algorithms)
}
