//! The secret that a client of the admin API has to know.

use std::fmt;

/// Why there is no token. Trying again does not help before the system's random source works.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random bytes for the admin token: {0}")]
pub struct NoEntropy(getrandom::Error);

/// The admin token. Its debug form hides it.
#[derive(Clone, PartialEq, Eq)]
pub struct AdminToken(String);

impl AdminToken {
    /// A new token: 256 random bits from the operating system, in hexadecimal.
    pub fn generate() -> Result<Self, NoEntropy> {
        let mut halves = [[0_u8; 16]; 2];
        for half in &mut halves {
            getrandom::fill(half).map_err(NoEntropy)?;
        }
        let [high, low] = halves.map(u128::from_be_bytes);
        Ok(Self(format!("{high:032x}{low:032x}")))
    }

    /// A token that was chosen elsewhere.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The token as text, to be written where only its owner can read.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `given` is the token. The time it takes tells nothing but the lengths.
    pub fn matches(&self, given: &str) -> bool {
        let (mine, theirs) = (self.0.as_bytes(), given.as_bytes());
        let mut differs = u8::from(mine.len() != theirs.len() || mine.is_empty());
        for (i, byte) in theirs.iter().enumerate() {
            differs |= std::hint::black_box(byte ^ mine.get(i).copied().unwrap_or(0));
        }
        std::hint::black_box(differs) == 0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_token_itself_matches() {
        let token = AdminToken::new("abc");
        assert!(token.matches("abc"));
        for wrong in ["", "ab", "abd", "abcd", "ABC"] {
            assert!(!token.matches(wrong), "{wrong}");
        }
        assert!(!AdminToken::new("").matches(""), "an empty token opens nothing");
    }

    #[test]
    fn tokens_are_long_different_and_hidden() {
        let (a, b) = (AdminToken::generate().expect("random"), AdminToken::generate().expect("random"));
        assert_ne!(a, b);
        assert_eq!(a.as_str().len(), 64);
        assert!(!format!("{a:?}").contains(a.as_str()));
    }
}
