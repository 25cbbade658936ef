//! The contracts of the services that run, by topic.
//!
//! Role: whoever publishes to the topic of a contract by hand (from outside, or a service through `busway:bus/producer`) is
//! held to the contract: data that fits no version of it is refused here, before it is accepted. The key of the event is
//! taken from its data.
//!
//! Invariant: an event that a service publishes by calling a function of a contract is not looked at; without contracts
//! nothing is looked up.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use busway_contract::{Contract, ContractId, Function, KeyPath, Keys, Kind, Type, Use};
use busway_host::{Mismatch, Unknown, check_with_key};
use busway_types::{Draft, Key, Limits, Topic};
use rustc_hash::FxHashMap;

/// How an event breaks the contract of its topic.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    /// The data does not fit the function.
    #[error("it does not fit `{function}` of the contract `{contract}`: {mismatch}")]
    Data {
        /// The function.
        function: String,
        /// The newest version of the contract that is known.
        contract: String,
        /// Where and how.
        mismatch: Mismatch,
    },
    /// The topic is that of a request.
    #[error(
        "`{topic}` is a request of the contract `{contract}`: it is answered, not published; a service calls it as a function, \
         and you ask with `busway request {topic} --data JSON`"
    )]
    Request {
        /// The topic.
        topic: Topic,
        /// The contract.
        contract: String,
    },
    /// The key that was given is not the one in the data.
    #[error("the key `{given}` is not the one in the data, `{found}`; leave the key out, it is taken from there")]
    OtherKey {
        /// What was given.
        given: String,
        /// What the data has.
        found: String,
    },
    /// The key in the data cannot be one.
    #[error("the key in the data cannot order events: {0}")]
    Key(String),
}

/// One version of one function.
#[derive(Clone, Debug)]
struct Known {
    id: ContractId,
    function: Function,
    /// Where its key is.
    key: Option<KeyPath>,
}

/// The contracts of all running services.
#[derive(Debug, Default)]
pub(crate) struct Contracts {
    keys: Keys,
    any: AtomicBool,
    /// Every different version that is known, newest first.
    topics: RwLock<FxHashMap<Topic, Vec<Known>>>,
    /// Every different contract that is used.
    all: RwLock<Vec<Arc<Contract>>>,
}

impl Contracts {
    /// No contracts yet, with what the app says about keys.
    pub(crate) fn new(keys: Keys) -> Self {
        Self { keys, ..Self::default() }
    }

    /// What is used from now on.
    pub(crate) fn set(&self, uses: Vec<Use>) {
        let mut topics: FxHashMap<Topic, Vec<Known>> = FxHashMap::default();
        let mut all: Vec<Arc<Contract>> = Vec::new();
        for used in &uses {
            if !all.iter().any(|known| **known == used.contract) {
                all.push(Arc::new(used.contract.clone()));
            }
        }
        for contract in uses.into_iter().map(|used| used.contract) {
            for function in contract.functions {
                let Ok(topic) = contract.id.topic(&function.name) else { continue };
                let known = topics.entry(topic).or_default();
                if !known.iter().any(|other| other.function.params == function.params) {
                    // A handler that does not look at the key has none to check: a version that has it fits as well.
                    let key = self.keys.of(&contract.id, &function).unwrap_or_default();
                    known.push(Known { id: contract.id.clone(), function, key });
                }
            }
        }
        for known in topics.values_mut() {
            known.sort_by(|a, b| b.id.version.cmp(&a.id.version));
        }
        self.any.store(!topics.is_empty(), Ordering::Release);
        *self.topics.write().unwrap_or_else(PoisonError::into_inner) = topics;
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = all;
    }

    /// Every different contract that is used.
    pub(crate) fn all(&self) -> Vec<Arc<Contract>> {
        self.all.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Checks a draft against the contract of its topic, if it has one, and gives it the key that is in its data.
    pub(crate) fn check(&self, draft: &mut Draft, limits: &Limits) -> Result<(), Unfit> {
        if draft.is_typed || !self.any.load(Ordering::Acquire) {
            return Ok(());
        }
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let Some(versions) = topics.get(&draft.topic) else { return Ok(()) };
        let mut refused = None;
        for Known { id, function, key } in versions {
            if function.kind() == Kind::Request {
                return Err(Unfit::Request { topic: draft.topic.clone(), contract: id.to_string() });
            }
            match check_with_key(&function.params, key.as_ref(), &draft.data, Unknown::Refuse) {
                Ok(key) => return take_key(key, draft, limits),
                Err(mismatch) => refused = refused.or(Some((id, function, mismatch))),
            }
        }
        match refused {
            None => Ok(()),
            Some((id, function, mismatch)) => {
                Err(Unfit::Data { function: function.name.to_string(), contract: id.to_string(), mismatch })
            }
        }
    }
}

/// A request whose parameters fit.
#[derive(Debug)]
pub(crate) struct CheckedRequest {
    /// The key that is in them.
    pub(crate) key: Option<String>,
    /// What is answered.
    pub(crate) result: Option<Type>,
}

impl Contracts {
    /// Checks the parameters of a request that comes from outside. None when no contract has such a request.
    pub(crate) fn check_request(&self, topic: &Topic, data: &[u8]) -> Option<Result<CheckedRequest, Unfit>> {
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let mut refused = None;
        for Known { id, function, key } in topics.get(topic)?.iter().filter(|k| k.function.kind() == Kind::Request) {
            match check_with_key(&function.params, key.as_ref(), data, Unknown::Refuse) {
                Ok(key) => return Some(Ok(CheckedRequest { key, result: function.result.clone() })),
                Err(mismatch) => refused = refused.or(Some((id, function, mismatch))),
            }
        }
        let (contract, function, mismatch) = refused?;
        Some(Err(Unfit::Data { function: function.name.to_string(), contract: contract.to_string(), mismatch }))
    }

    /// The topic of a request that is named as in WIT, `shop:orders/quotes.quote`: of the version that is named, else of the
    /// newest.
    pub(crate) fn request_topic(&self, name: &str) -> Option<Topic> {
        let (contract, function) = name.rsplit_once('.')?;
        let wanted: ContractId = contract.parse().ok()?;
        let topics = self.topics.read().unwrap_or_else(PoisonError::into_inner);
        let is_meant = |known: &Known| {
            let id = &known.id;
            let version = if wanted.version.is_some() { wanted.meets(id) } else { wanted.is_named_like(id) };
            version && *known.function.name == *function && known.function.kind() == Kind::Request
        };
        let found = topics.iter().flat_map(|(topic, known)| known.iter().map(move |known| (known, topic)));
        let newest =
            found.filter(|(known, _)| is_meant(known)).max_by(|(a, _), (b, _)| a.id.version.cmp(&b.id.version));
        newest.map(|(_, topic)| topic.clone())
    }
}

fn take_key(found: Option<String>, draft: &mut Draft, limits: &Limits) -> Result<(), Unfit> {
    draft.content_type.get_or_insert_with(|| "application/json".into());
    let Some(found) = found else { return Ok(()) };
    match &draft.key {
        Some(given) if given.as_str() != found => Err(Unfit::OtherKey { given: given.as_str().to_owned(), found }),
        Some(_) => Ok(()),
        None => {
            draft.key = Some(Key::new(&found, limits).map_err(|error| Unfit::Key(error.to_string()))?);
            Ok(())
        }
    }
}
