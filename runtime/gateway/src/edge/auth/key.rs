//! API keys: how they look, and what the manifest keeps of them.
//!
//! A key is `bw_`, 256 random bits and a checksum of 32 bits, both in hexadecimal. The checksum tells a mistyped or cut
//! key from a wrong one before anything is looked up, and lets scanners find a key that leaked. The manifest keeps the
//! SHA-256 of the whole text: the bits are random, so that a slow hash would add nothing but time to each request.
//! Invariant: what is not of this form is no key, whatever hash a manifest has, so that nobody can choose a weak one.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What every key begins with.
pub(crate) const PREFIX: &str = "bw_";
/// Random bytes of a key.
const RANDOM: usize = 32;
/// Bytes of the checksum.
const CHECK: usize = 4;

/// Why there is no key. Trying again does not help before the system's random source works.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes for a key: {0}")]
pub struct NoRandom(getrandom::Error);

/// An API key. Its debug form hides it; whoever shows it uses [`ApiKey::as_str`] and does so once.
#[derive(Clone)]
pub struct ApiKey(String);

impl ApiKey {
    /// A new key from the operating system's random source.
    pub fn generate() -> Result<Self, NoRandom> {
        let mut bytes = [0_u8; RANDOM];
        getrandom::fill(&mut bytes).map_err(NoRandom)?;
        Ok(Self(text(PREFIX, &bytes)))
    }

    /// The key that `text` is, when it has the form of one.
    pub fn parse(text: &str) -> Option<Self> {
        is_well_formed(PREFIX, text).then(|| Self(text.to_owned()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What the manifest keeps.
    pub fn hash(&self) -> KeyHash {
        KeyHash::of(self.0.as_bytes())
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(hidden)")
    }
}

/// A prefix, random bytes and their checksum as text.
pub(super) fn text(prefix: &str, random: &[u8; RANDOM]) -> String {
    format!("{prefix}{}{}", hex(random), hex(&check(prefix, random)))
}

/// Whether a text is of the form that [`text`] makes.
pub(super) fn is_well_formed(prefix: &str, given: &str) -> bool {
    let Some(bytes) = given.strip_prefix(prefix).filter(|rest| rest.len() == 2 * (RANDOM + CHECK)).and_then(unhex)
    else {
        return false;
    };
    let (random, checksum) = bytes.split_at(RANDOM);
    let Ok(random) = <[u8; RANDOM]>::try_from(random) else { return false };
    check(prefix, &random).as_slice() == checksum && !given.bytes().any(|b| b.is_ascii_uppercase())
}

fn check(prefix: &str, random: &[u8; RANDOM]) -> [u8; CHECK] {
    let digest = Sha256::new().chain_update(prefix).chain_update(random).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// Bytes in hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |nibble: u8| char::from(DIGITS[usize::from(nibble & 15)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// Bytes out of hexadecimal.
pub(crate) fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks(2);
    pairs.map(|pair| Some((digit(*pair.first()?)? << 4 | digit(*pair.get(1)?)?) as u8)).collect()
}

/// The SHA-256 of a key.
#[derive(Clone, Copy)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The hash of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl PartialEq for KeyHash {
    /// In constant time, though a hash of random bits would tell nothing of them.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for KeyHash {}

impl Hash for KeyHash {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyHash({self})")
    }
}

/// Why a text cannot be the hash of a key. None of them shows the text: it may be the key itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidHash {
    /// It is a key, not its hash.
    #[error(
        "this is a key itself, which does not belong in a file: write its SHA-256, and make a new key if others saw it"
    )]
    Clear,
    /// Not 64 hexadecimal digits.
    #[error("a SHA-256 has 64 hexadecimal digits; `busway gateway key NAME` makes a key and prints these lines")]
    Form,
    /// Made up, or of something that anybody would guess.
    #[error("this is the hash of something that anybody would guess; `busway gateway key NAME` makes a random key")]
    Weak,
}

/// What people hash when they try something out.
const GUESSED: [&str; 16] = [
    "",
    "\n",
    "a",
    "test",
    "key",
    "secret",
    "password",
    "changeme",
    "change-me",
    "admin",
    "token",
    "api-key",
    "apikey",
    "busway",
    "123456",
    "hello",
];

impl FromStr for KeyHash {
    type Err = InvalidHash;

    fn from_str(text: &str) -> Result<Self, InvalidHash> {
        if text.starts_with(PREFIX) {
            return Err(InvalidHash::Clear);
        }
        let bytes = Some(text).filter(|text| text.len() == 64).and_then(unhex).ok_or(InvalidHash::Form)?;
        let hash = Self(<[u8; 32]>::try_from(bytes).map_err(|_| InvalidHash::Form)?);
        let first = hash.0[0];
        let is_made_up = hash.0.iter().all(|byte| *byte == first);
        if is_made_up || GUESSED.iter().any(|word| Self::of(word.as_bytes()) == hash) {
            return Err(InvalidHash::Weak);
        }
        Ok(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_random_recognisable_and_hidden() {
        let (a, b) = (ApiKey::generate().expect("random"), ApiKey::generate().expect("random"));
        assert_ne!(a.as_str(), b.as_str());
        assert!(a.as_str().starts_with("bw_") && a.as_str().len() == 3 + 72);
        assert!(ApiKey::parse(a.as_str()).is_some());
        assert!(!format!("{a:?}").contains(&a.as_str()[3..]));
    }

    #[test]
    fn a_key_with_any_digit_changed_or_cut_is_no_key() {
        let key = text(PREFIX, &[7; 32]);
        for at in PREFIX.len()..key.len() {
            let mut wrong = key.clone().into_bytes();
            wrong[at] = if wrong[at] == b'0' { b'1' } else { b'0' };
            let wrong = String::from_utf8(wrong).expect("ASCII");
            assert!(ApiKey::parse(&wrong).is_none(), "digit {at}");
            assert!(ApiKey::parse(&key[..at]).is_none(), "{at} characters");
        }
        assert!(ApiKey::parse(&key.to_uppercase()).is_none() && ApiKey::parse(&format!("{key}0")).is_none());
        assert!(ApiKey::parse(&text("bwt_", &[7; 32])).is_none() && ApiKey::parse("bw_ä").is_none());
    }

    #[test]
    fn a_hash_is_that_of_the_whole_text_and_survives_its_own() {
        let key = ApiKey::parse(&text(PREFIX, &[7; 32])).expect("a key");
        assert_eq!(key.hash(), KeyHash::of(key.as_str().as_bytes()));
        assert_eq!(key.hash().to_string().parse(), Ok(key.hash()));
        assert_eq!(key.hash().to_string().to_uppercase().parse(), Ok(key.hash()));
        // The vector of FIPS 180-2 for "abc".
        let known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(KeyHash::of(b"abc").to_string(), known);
    }

    #[test]
    fn hashes_that_differ_in_any_byte_are_different() {
        let hash = KeyHash::of(b"x");
        for at in 0..32 {
            let mut other = hash;
            other.0[at] ^= 1;
            assert_ne!(hash, other, "byte {at}");
        }
    }

    #[test]
    fn keys_themselves_and_weak_or_broken_hashes_are_refused_without_being_shown() {
        let key = text(PREFIX, &[7; 32]);
        assert_eq!(key.parse::<KeyHash>(), Err(InvalidHash::Clear));
        assert!(!InvalidHash::Clear.to_string().contains(&key[3..]));
        for form in ["", "abc", &"g".repeat(64), &"a".repeat(63), &"ä".repeat(32)] {
            assert_eq!(form.parse::<KeyHash>(), Err(InvalidHash::Form), "{form}");
        }
        for weak in [KeyHash::of(b"").to_string(), KeyHash::of(b"password").to_string(), "0".repeat(64)] {
            assert_eq!(weak.parse::<KeyHash>(), Err(InvalidHash::Weak), "{weak}");
        }
    }
}
