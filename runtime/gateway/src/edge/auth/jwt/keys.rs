//! Keys that tokens are checked with.
//!
//! Invariants: each key has exactly one algorithm, which follows from its kind; keys that are too weak, of another use
//! or malformed are left out of a set and refused when given alone; a shared secret never comes out of a key set, since
//! whoever reads the set could sign with it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::value::RawValue;

use super::config::{JwtAlgorithm, JwtConfig};
use crate::edge::auth::caller::Proof;
use crate::edge::auth::{KeyHash, Secret};

/// Keys of a set that are looked at.
const MOST_KEYS: usize = 100;
/// Bytes of a key's name.
const MOST_KID: usize = 256;
/// Bits of an RSA modulus: fewer are weak, more cost too much time for each token.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2_048..=4_096;
/// Bytes of a shared secret, as many as the hash has (RFC 7518, section 3.2).
pub(crate) const SECRET_LEAST: usize = 32;

/// Why there are no keys. None of them shows any.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKeys {
    #[error("a shared secret needs at least {SECRET_LEAST} bytes, and has {0}; `openssl rand -hex 32` makes one")]
    ShortSecret(usize),
    #[error("it holds a private key, which the gateway must not have: write the public one")]
    Private,
    #[error("it holds no public key (PEM, `BEGIN PUBLIC KEY`) of RSA, P-256 or Ed25519")]
    NotAKey,
    #[error("the key cannot be used: {0}")]
    Unusable(&'static str),
    #[error("it is no key set (JWKS, a JSON object with a list `keys`)")]
    NotASet,
    #[error("it holds no key that can be used with the algorithms that are allowed{0}")]
    NoneUsable(String),
}

/// A key with its only algorithm.
#[derive(Debug)]
pub(crate) struct TokenKey {
    pub(crate) kid: Option<Box<str>>,
    pub(crate) algorithm: JwtAlgorithm,
    pub(crate) key: DecodingKey,
    /// What tells it from others, whatever it is called.
    print: KeyHash,
}

impl TokenKey {
    /// What a token proves that was checked with this key, under these settings.
    pub(crate) fn proof(&self, config: &JwtConfig) -> Proof {
        let mut whole = self.print.to_string().into_bytes();
        for text in [&config.issuer, &config.scopes_claim].into_iter().chain(&config.audience) {
            whole.extend((text.len() as u64).to_be_bytes());
            whole.extend(text.as_bytes());
        }
        Proof(KeyHash::of(&whole))
    }
}

/// The algorithm as the library calls it.
pub(crate) fn library_algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::Hs256 => Algorithm::HS256,
        JwtAlgorithm::Rs256 => Algorithm::RS256,
        JwtAlgorithm::Es256 => Algorithm::ES256,
        JwtAlgorithm::EdDsa => Algorithm::EdDSA,
    }
}

/// All keys of an issuer.
#[derive(Debug, Default)]
pub(crate) struct KeySet(Vec<TokenKey>);

/// The key that a token has to be signed with.
#[derive(Debug)]
pub(crate) enum Found<'a> {
    Key(&'a TokenKey),
    /// No such key; there may be one after the next fetch.
    Unknown,
    /// The token names no key, and more than one could be meant.
    Unclear,
}

impl KeySet {
    /// The shared secret alone.
    pub(crate) fn secret(secret: &Secret) -> Result<Self, InvalidKeys> {
        let bytes = secret.expose();
        if bytes.len() < SECRET_LEAST {
            return Err(InvalidKeys::ShortSecret(bytes.len()));
        }
        let key = DecodingKey::from_secret(bytes);
        Ok(Self(vec![TokenKey { kid: None, algorithm: JwtAlgorithm::Hs256, key, print: KeyHash::of(bytes) }]))
    }

    /// One public key in PEM.
    pub(crate) fn pem(pem: &[u8], allowed: &[JwtAlgorithm]) -> Result<Self, InvalidKeys> {
        if contains(pem, b"PRIVATE KEY") {
            return Err(InvalidKeys::Private);
        }
        if !contains(pem, b"PUBLIC KEY") {
            return Err(InvalidKeys::NotAKey);
        }
        let found = DecodingKey::from_ec_pem(pem)
            .or_else(|_| DecodingKey::from_ed_pem(pem))
            .or_else(|_| DecodingKey::from_rsa_pem(pem))
            .map_err(|_| InvalidKeys::NotAKey)?;
        let jwk = Jwk::from_decoding_key(&found, None).map_err(|_| InvalidKeys::NotAKey)?;
        let key = usable(&jwk).map_err(InvalidKeys::Unusable)?;
        if !allowed.contains(&key.algorithm) {
            return Err(InvalidKeys::NoneUsable(format!(": it is for {}", key.algorithm)));
        }
        Ok(Self(vec![key]))
    }

    /// A key set (RFC 7517). Keys that cannot be used are left out, as it asks; without any that can, it is refused.
    pub(crate) fn jwks(text: &[u8], allowed: &[JwtAlgorithm]) -> Result<Self, InvalidKeys> {
        #[derive(serde::Deserialize)]
        struct Set<'a> {
            // Each key is read by itself, so that one of an unknown form does not spoil the others.
            #[serde(borrow)]
            keys: Vec<&'a RawValue>,
        }
        let set: Set<'_> = serde_json::from_slice(text).map_err(|_| InvalidKeys::NotASet)?;
        let mut keys: Vec<TokenKey> = Vec::new();
        let mut last_reason = String::new();
        for raw in set.keys.iter().take(MOST_KEYS) {
            let read = serde_json::from_str::<Jwk>(raw.get()).map_err(|_| "it is malformed");
            match read.and_then(|jwk| usable(&jwk)) {
                Ok(key) if !allowed.contains(&key.algorithm) => {
                    last_reason = format!(": one is for {}", key.algorithm);
                }
                // The first of a name stays: a later one may not push it out.
                Ok(key) if keys.iter().any(|k| k.kid == key.kid && k.algorithm == key.algorithm) => {}
                Ok(key) => keys.push(key),
                Err(reason) => last_reason = format!(": of one, {reason}"),
            }
        }
        if keys.is_empty() { Err(InvalidKeys::NoneUsable(last_reason)) } else { Ok(Self(keys)) }
    }

    /// The key for a token of this algorithm that names this key.
    pub(crate) fn find(&self, algorithm: Algorithm, kid: Option<&str>) -> Found<'_> {
        let mut fitting = self.0.iter().filter(|key| library_algorithm(key.algorithm) == algorithm);
        let Some(kid) = kid else {
            return match (fitting.next(), fitting.next()) {
                (Some(key), None) => Found::Key(key),
                (Some(_), Some(_)) => Found::Unclear,
                (None, _) => Found::Unknown,
            };
        };
        // A key without a name was given alone, or in a set by somebody who does not use names.
        let named = fitting.clone().find(|key| key.kid.as_deref() == Some(kid));
        match (named, fitting.next(), fitting.next()) {
            (Some(key), _, _) => Found::Key(key),
            (None, Some(only), None) if only.kid.is_none() => Found::Key(only),
            _ => Found::Unknown,
        }
    }

    /// Whether a key that proves this, under these settings, is still among them.
    pub(crate) fn proves(&self, proof: &Proof, config: &JwtConfig) -> bool {
        self.0.iter().any(|key| config.algorithms.contains(&key.algorithm) && key.proof(config) == *proof)
    }

    #[cfg(test)]
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

fn contains(text: &[u8], part: &[u8]) -> bool {
    text.windows(part.len()).any(|window| window == part)
}

/// The key with its algorithm, or why it cannot be used.
fn usable(jwk: &Jwk) -> Result<TokenKey, &'static str> {
    let common = &jwk.common;
    if common.public_key_use.as_ref().is_some_and(|used| *used != PublicKeyUse::Signature) {
        return Err("it is not for signatures");
    }
    let length = |text: &str| URL_SAFE_NO_PAD.decode(text).map_or(0, |bytes| bytes.len());
    let (algorithm, named) = match &jwk.algorithm {
        AlgorithmParameters::RSA(rsa) => {
            let modulus = URL_SAFE_NO_PAD.decode(&rsa.n).map_err(|_| "its modulus is malformed")?;
            let significant = modulus.iter().skip_while(|byte| **byte == 0).count();
            if !RSA_BITS.contains(&(significant * 8)) {
                return Err("an RSA key needs 2048 to 4096 bits");
            }
            let exponent = URL_SAFE_NO_PAD.decode(&rsa.e).map_err(|_| "its exponent is malformed")?;
            let is_odd = exponent.last().is_some_and(|byte| byte % 2 == 1);
            if exponent.len() > 4 || !is_odd || exponent == [1] {
                return Err("its exponent is weak");
            }
            (JwtAlgorithm::Rs256, KeyAlgorithm::RS256)
        }
        AlgorithmParameters::EllipticCurve(ec) => {
            if ec.curve != EllipticCurve::P256 || length(&ec.x) != 32 || length(&ec.y) != 32 {
                return Err("of elliptic curves, P-256 alone can be used");
            }
            (JwtAlgorithm::Es256, KeyAlgorithm::ES256)
        }
        // The library reads 32 bytes of such a key without looking whether they are there.
        AlgorithmParameters::OctetKeyPair(pair) => {
            if pair.curve != EllipticCurve::Ed25519 || length(&pair.x) != 32 {
                return Err("of Edwards curves, Ed25519 alone can be used");
            }
            (JwtAlgorithm::EdDsa, KeyAlgorithm::EdDSA)
        }
        AlgorithmParameters::OctetKey(_) => return Err("a shared secret does not belong in a key set"),
        _ => return Err("its kind is not known"),
    };
    if common.key_algorithm.is_some_and(|given| given != named) {
        return Err("it is for another algorithm");
    }
    if common.key_id.as_ref().is_some_and(|kid| kid.len() > MOST_KID) {
        return Err("its name is too long");
    }
    let key = DecodingKey::from_jwk(jwk).map_err(|_| "it is malformed")?;
    // Asks the cryptography whether it takes the key: a point that is not on the curve is found here, not at a token.
    crypto::verify("AA", b"", &key, library_algorithm(algorithm)).map_err(|_| "it is malformed")?;
    let print = jwk.thumbprint(ThumbprintHash::SHA256).map_err(|_| "it is malformed")?;
    let kid = common.key_id.as_deref().map(Into::into);
    Ok(TokenKey { kid, algorithm, key, print: KeyHash::of(print.as_bytes()) })
}
