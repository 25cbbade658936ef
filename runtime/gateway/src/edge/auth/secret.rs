//! What must never be shown.

use std::fmt;

use subtle::ConstantTimeEq as _;

/// Bytes that open something. They have no text form: neither `Display` nor `Debug` shows them, nothing serialises them.
#[derive(Clone)]
pub struct Secret(Box<[u8]>);

impl Secret {
    /// A secret of these bytes.
    pub fn new(bytes: impl Into<Box<[u8]>>) -> Self {
        Self(bytes.into())
    }

    /// The bytes, for whoever computes with them.
    pub(crate) fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl PartialEq for Secret {
    /// The time it takes tells nothing but the lengths.
    fn eq(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl Eq for Secret {}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(hidden)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_compared_and_never_shown() {
        let secret = Secret::new(*b"correct horse");
        assert_eq!(secret, Secret::new(*b"correct horse"));
        assert_ne!(secret, Secret::new(*b"correct horsE"));
        assert_ne!(secret, Secret::new(*b"correct"));
        let shown = format!("{secret:?} {:#?}", Some(&secret));
        assert!(!shown.contains("horse") && !shown.contains("99"), "{shown}");
    }
}
