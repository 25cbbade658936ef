//! The API keys of a configuration.
//!
//! A key is looked up by the hash of what was presented, and the hash that was found is compared in constant time once
//! more: what the time of a look-up tells is about the hash of a guess, which leads to no key.

use std::collections::HashMap;
use std::sync::Arc;

use busway_types::Timestamp;

use super::caller::Proof;
use super::config::KeyConfig;
use super::key::{ApiKey, KeyHash};
use super::{Caller, CallerKind, Scope};

#[derive(Debug)]
struct Entry {
    name: Arc<str>,
    hash: KeyHash,
    scopes: Arc<[Scope]>,
    expires: Option<Timestamp>,
}

/// The keys, by hash.
#[derive(Debug, Default)]
pub(crate) struct ApiKeys(HashMap<KeyHash, Entry>);

impl ApiKeys {
    pub(crate) fn new(config: &[KeyConfig]) -> Self {
        let entry = |key: &KeyConfig| Entry {
            name: key.name.as_str().into(),
            hash: key.sha256,
            scopes: key.scopes.clone().into(),
            expires: key.expires,
        };
        Self(config.iter().map(|key| (key.sha256, entry(key))).collect())
    }

    /// Whose the key is.
    pub(crate) fn find(&self, key: &ApiKey, now: Timestamp) -> Option<Caller> {
        let hash = key.hash();
        let entry = self.0.get(&hash).filter(|entry| entry.hash == hash)?;
        if entry.expires.is_some_and(|expires| now >= expires) {
            return None;
        }
        let caller = Caller::new(CallerKind::Key, entry.name.clone(), entry.scopes.clone());
        Some(Caller { expires: entry.expires, proof: Some(Proof(hash)), ..caller })
    }

    /// Whether whoever came in with a key may still do the same; another key of the same name is another one.
    pub(crate) fn still_say(&self, caller: &Caller, now: Timestamp) -> bool {
        let entry = caller.proof.as_ref().and_then(|Proof(hash)| self.0.get(hash));
        entry.is_some_and(|entry| {
            caller.name.as_ref() == Some(&entry.name)
                && caller.scopes.as_ref() == Some(&entry.scopes)
                && entry.expires.is_none_or(|expires| now < expires)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_opens_what_it_was_made_for_until_it_ends() {
        let (mine, other) = (ApiKey::generate().expect("random"), ApiKey::generate().expect("random"));
        let config = |expires| KeyConfig {
            name: "shop".into(),
            sha256: mine.hash(),
            scopes: vec!["route:sell".parse().expect("a scope")],
            expires,
        };
        let keys = ApiKeys::new(&[config(None)]);
        let caller = keys.find(&mine, Timestamp(0)).expect("known");
        assert!(caller.may_use("sell") && caller.name.as_deref() == Some("shop"));
        assert!(keys.find(&other, Timestamp(0)).is_none());
        assert!(keys.still_say(&caller, Timestamp(0)));
        let ending = ApiKeys::new(&[config(Some(Timestamp(100)))]);
        assert_eq!(ending.find(&mine, Timestamp(99)).expect("known").expires, Some(Timestamp(100)));
        assert!(ending.find(&mine, Timestamp(100)).is_none() && !ending.still_say(&caller, Timestamp(100)));
        let replaced = ApiKeys::new(&[KeyConfig { sha256: other.hash(), ..config(None) }]);
        assert!(!replaced.still_say(&caller, Timestamp(0)), "another key of that name is another one");
        assert!(!ApiKeys::new(&[]).still_say(&caller, Timestamp(0)), "a key that was taken out ends its streams");
    }
}
