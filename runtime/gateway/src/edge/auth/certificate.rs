//! Who a client certificate stands for.
//!
//! The listener has checked the certificate against `client-ca` before; here a name or a fingerprint becomes a caller.
//! Invariant: a certificate that nothing is said of is nobody.

use std::sync::Arc;

use super::config::{CertificateConfig, CertificateMatch};
use super::key::hex;
use super::{Caller, CallerKind, Scope};
use crate::edge::PeerCertificate;

/// What a fingerprint begins with in a manifest.
pub(crate) const FINGERPRINT: &str = "sha256:";

/// What is said of certificates.
#[derive(Debug, Default)]
pub(crate) struct Certificates(Vec<(CertificateMatch, Arc<[Scope]>)>);

impl Certificates {
    pub(crate) fn new(config: &[CertificateConfig]) -> Self {
        Self(config.iter().map(|c| (c.certificate.clone(), c.scopes.clone().into())).collect())
    }

    /// Who it is. A fingerprint is more exact than a name and goes first.
    pub(crate) fn find(&self, peer: &PeerCertificate) -> Option<Caller> {
        let exact = |m: &CertificateMatch| match m {
            CertificateMatch::Fingerprint(bytes) => hex(bytes) == *peer.fingerprint,
            CertificateMatch::Name(_) => false,
        };
        let named = |m: &CertificateMatch| match m {
            CertificateMatch::Name(name) => peer.subject.as_deref() == Some(name.as_str()),
            CertificateMatch::Fingerprint(_) => false,
        };
        let found = self.0.iter().find(|(m, _)| exact(m)).or_else(|| self.0.iter().find(|(m, _)| named(m)));
        found.map(|(by, scopes)| Caller::new(CallerKind::Certificate, by.to_string(), scopes.clone()))
    }

    /// Whether the same is still said of whoever came in under that name.
    pub(crate) fn still_say(&self, caller: &Caller) -> bool {
        let is_same = |by: &CertificateMatch| caller.name.as_deref() == Some(&*by.to_string());
        self.0.iter().any(|(by, scopes)| is_same(by) && caller.scopes.as_ref() == Some(scopes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_certificate_is_who_the_configuration_says_or_nobody() {
        let config = |certificate: CertificateMatch, scope: &str| CertificateConfig {
            certificate,
            scopes: vec![scope.parse().expect("a scope")],
        };
        let known = Certificates::new(&[
            config(CertificateMatch::Name("till".into()), "route:sell"),
            config(CertificateMatch::Fingerprint([7; 32]), "route:refund"),
        ]);
        let peer =
            |byte: u8, name: &str| PeerCertificate { fingerprint: hex(&[byte; 32]).into(), subject: Some(name.into()) };
        let till = known.find(&peer(1, "till")).expect("known");
        assert!(till.may_use("sell") && !till.may_use("refund") && till.name.as_deref() == Some("till"));
        assert!(known.find(&peer(7, "till")).expect("known").may_use("refund"), "the fingerprint goes first");
        assert!(known.find(&peer(1, "tills")).is_none() && known.find(&peer(1, "TILL")).is_none());
    }
}
