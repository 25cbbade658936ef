//! What addresses of brokers have in common.

use std::path::{Path, PathBuf};

/// What PEM calls what a file has to have.
pub(crate) const CERTIFICATE: &str = "CERTIFICATE";
pub(crate) const PRIVATE_KEY: &str = "PRIVATE KEY";
/// The name of a bus when its address has none.
pub(crate) const DEFAULT_NAME: &str = "busway";
/// A name is part of names of streams and of subjects.
const LONGEST_NAME: usize = 64;

/// Whether a bus may be called that.
pub(crate) fn is_bus_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=LONGEST_NAME).contains(&name.len()) && name.chars().all(fits)
}

/// A part of an address with its percent signs resolved; none when they are malformed.
pub(crate) fn decoded(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|byte| char::from(byte).to_digit(16));
        out.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(out).ok()
}

/// The certificate and the key that the environment names: `PREFIX_CERT` with `PREFIX_KEY`, or both in one file.
pub(crate) fn own_certificate(prefix: &str, look: impl Fn(&str) -> Option<String>) -> Option<(PathBuf, PathBuf)> {
    let cert = look(&format!("{prefix}_CERT"))?;
    let key = look(&format!("{prefix}_KEY")).unwrap_or_else(|| cert.clone());
    Some((cert.into(), key.into()))
}

/// What is in a file that TLS needs, or what is wrong with that. The client libraries do not say which file they mean, and take one
/// without certificates for one that trusts nobody.
pub(crate) fn pem(file: &Path, what: &str) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("{} cannot be read: {error}", file.display()))?;
    if text.contains(&format!("{what}-----")) {
        Ok(text)
    } else {
        Err(format!("{} has no {what} in PEM", file.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_resolved_or_refused() {
        assert_eq!(decoded("p%40s%2fs").as_deref(), Some("p@s/s"));
        for bad in ["%", "%4", "%zz", "%ff"] {
            assert_eq!(decoded(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_name_is_short_and_has_nothing_that_brokers_read_otherwise() {
        assert!(is_bus_name("shop-1_x") && !is_bus_name("") && !is_bus_name("a.b") && !is_bus_name(&"x".repeat(65)));
    }
}
