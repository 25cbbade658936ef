//! Checking a token.
//!
//! Order: length, header, key, signature, then claims; what a token says of itself is told to its bearer only once the
//! signature held. Invariants: the algorithm is the key's; `exp`, `iss`, `aud` and `sub` are there; what a header asks
//! for beyond `alg`, `kid` and `typ` is not followed (no keys from `jku`, `jwk` or `x5u`), and what it insists on
//! (`crit`) is refused.

use std::sync::Arc;

use busway_types::Timestamp;
use jsonwebtoken::{Header, Validation, decode, decode_header};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::config::JwtConfig;
use super::keys::{Found, KeySet, library_algorithm};
use crate::edge::auth::{Caller, CallerKind, Scope};

/// Bytes of a subject.
const MOST_SUBJECT: usize = 255;
/// Scopes of one token that are looked at.
const MOST_SCOPES: usize = 256;
/// The kinds of token (`typ`) that stand for somebody's access; others are meant for something else.
const TYPES: [&str; 3] = ["jwt", "at+jwt", "application/at+jwt"];

/// Why a token is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadToken {
    /// Malformed, signed by nobody we know, or not signed at all: nobody is told more.
    #[error("the token is not accepted")]
    NotOurs,
    /// No such key now; there may be after a fetch.
    #[error("the token is not accepted")]
    UnknownKey,
    /// Signed as it should be, and yet not good.
    #[error("the token {0}")]
    Claims(&'static str),
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    aud: Audience,
    exp: Seconds,
    #[serde(default)]
    nbf: Option<Seconds>,
    #[serde(flatten)]
    others: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
}

/// A `NumericDate` (RFC 7519): seconds, perhaps with a fraction, which is cut.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "f64")]
struct Seconds(u64);

impl TryFrom<f64> for Seconds {
    type Error = &'static str;

    fn try_from(seconds: f64) -> Result<Self, Self::Error> {
        // The year 9999; beyond it somebody means milliseconds, or no end at all.
        let is_sound = seconds.is_finite() && (0.0..=253_402_300_799.0).contains(&seconds);
        is_sound.then_some(Self(seconds as u64)).ok_or("not a time")
    }
}

/// Whether a header asks for nothing that would have to be understood.
fn header(token: &str, config: &JwtConfig) -> Result<Header, BadToken> {
    if token.len() > config.token_bytes {
        return Err(BadToken::NotOurs);
    }
    let header = decode_header(token).map_err(|_| BadToken::NotOurs)?;
    let is_access = header.typ.as_ref().is_none_or(|typ| TYPES.iter().any(|known| typ.eq_ignore_ascii_case(known)));
    let asks_for_nothing = header.crit.is_none() && header.enc.is_none() && header.zip.is_none();
    if is_access && asks_for_nothing { Ok(header) } else { Err(BadToken::NotOurs) }
}

/// Whose the token is.
pub(crate) fn verify(token: &str, keys: &KeySet, config: &JwtConfig, now: Timestamp) -> Result<Caller, BadToken> {
    let header = header(token, config)?;
    if !config.algorithms.iter().any(|allowed| library_algorithm(*allowed) == header.alg) {
        return Err(BadToken::NotOurs);
    }
    let key = match keys.find(header.alg, header.kid.as_deref()) {
        Found::Key(key) => key,
        Found::Unknown => return Err(BadToken::UnknownKey),
        Found::Unclear => return Err(BadToken::NotOurs),
    };
    // The library checks the signature alone: the claims are read below, by our clock.
    let mut validation = Validation::new(library_algorithm(key.algorithm));
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_nbf = false;
    validation.validate_aud = false;
    let claims = decode::<Value>(token, &key.key, &validation).map_err(|_| BadToken::NotOurs)?.claims;
    let claims = serde_json::from_value(claims)
        .map_err(|_| BadToken::Claims("lacks one of `iss`, `sub`, `aud` and `exp`, or has it in another form"))?;
    Ok(Caller { proof: Some(key.proof(config)), ..accept(claims, config, now)? })
}

fn accept(claims: Claims, config: &JwtConfig, now: Timestamp) -> Result<Caller, BadToken> {
    let bad = |what| Err(BadToken::Claims(what));
    if claims.iss != config.issuer {
        return bad("is of another issuer");
    }
    let ours = |audience: &String| config.audience.contains(audience);
    let is_for_us = match &claims.aud {
        Audience::One(audience) => ours(audience),
        Audience::Many(audiences) => audiences.iter().any(ours),
    };
    if !is_for_us {
        return bad("is meant for somebody else");
    }
    let leeway = config.leeway.min(JwtConfig::LEEWAY_MOST);
    let expires = Timestamp(claims.exp.0.saturating_mul(1_000)).after(leeway);
    if now >= expires {
        return bad("has expired");
    }
    if claims.nbf.is_some_and(|nbf| Timestamp(nbf.0.saturating_mul(1_000)) > now.after(leeway)) {
        return bad("is not valid yet");
    }
    let subject = claims.sub;
    if subject.is_empty() || subject.len() > MOST_SUBJECT || subject.chars().any(char::is_control) {
        return bad("has a subject that is no name");
    }
    let scopes: Arc<[Scope]> = scopes(claims.others.get(&config.scopes_claim)).into();
    Ok(Caller { expires: Some(expires), ..Caller::new(CallerKind::Token, subject, scopes) })
}

/// The scopes that are ours; an issuer's token has others too.
fn scopes(claim: Option<&Value>) -> Vec<Scope> {
    let texts: Vec<&str> = match claim {
        Some(Value::String(text)) => text.split(' ').take(MOST_SCOPES).collect(),
        Some(Value::Array(list)) => list.iter().take(MOST_SCOPES).filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    texts.into_iter().filter_map(|text| text.parse().ok()).collect()
}
