//! The imported interface `key-value`.

use busway_types::{KvRead, KvVersion, KvWrite};
use bytes::Bytes;

use super::kv::{self, Listed, Overlay, Select};
use super::limiter::mib;
use super::{GuestState, Mode};
use crate::bindings::key_value::{Error, Host, Page, SetIfError, Version, Versioned};
use crate::capability::Refusal;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            // Only compare-and-set expects anything that may not hold; for anything else it is worth another try.
            Refusal::Overloaded(text) | Refusal::Conflict(text) => Self::Overloaded(text),
            Refusal::Denied(text) => Self::Denied(text),
            Refusal::TooLarge(text) => Self::TooLarge(text),
            Refusal::Invalid(text) => Self::Invalid(text),
        }
    }
}

impl From<Error> for SetIfError {
    fn from(error: Error) -> Self {
        match error {
            Error::Overloaded(text) => Self::Overloaded(text),
            Error::Denied(text) => Self::Denied(text),
            Error::TooLarge(text) => Self::TooLarge(text),
            Error::Invalid(text) => Self::Invalid(text),
        }
    }
}

impl From<Refusal> for SetIfError {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Conflict(text) => Self::Conflict(text),
            other => Error::from(other).into(),
        }
    }
}

impl GuestState {
    fn check_grant(&self) -> Result<(), Error> {
        if !self.service.settings.grants.key_value {
            return Err(Error::Denied("the service has no grant for key-value; set `key-value = true`".into()));
        }
        if self.mode == Mode::Idle {
            return Err(Error::Denied("key-value is there while handling something and in tasks".into()));
        }
        Ok(())
    }

    fn check_key(&self, key: &str) -> Result<(), Error> {
        self.check_grant()?;
        if key.is_empty() {
            return Err(Error::Invalid("the key is empty".into()));
        }
        let most = self.service.limits.kv_key_bytes;
        if key.len() > most {
            return Err(Error::TooLarge(format!("the key has {} bytes; at most {most} are allowed", key.len())));
        }
        Ok(())
    }

    /// Checks what a write of `bytes` would make of the delivery and the namespace.
    fn check_room(&mut self, bytes: usize) -> Result<(), Error> {
        let limits = &self.service.limits;
        let pending = self.delivery.kv.bytes;
        if pending.saturating_add(bytes) > limits.outbox_bytes {
            let most = mib(limits.outbox_bytes);
            return Err(Error::TooLarge(format!("one delivery may write at most {most} to key-value")));
        }
        let stored = self.service.bus.kv_bytes(&self.service.settings.name);
        if stored.saturating_add(pending).saturating_add(bytes) > limits.kv_bytes {
            let most = mib(limits.kv_bytes);
            return Err(Error::TooLarge(format!(
                "the service's key-value would be larger than {most}; delete some keys"
            )));
        }
        self.hold(bytes)
    }

    fn hold(&mut self, bytes: usize) -> Result<(), Error> {
        if matches!(self.mode, Mode::Task | Mode::Http) || self.limiter.hold(bytes) {
            return Ok(());
        }
        Err(Error::TooLarge(format!("the memory limit of {} is reached", mib(self.limiter.limit()))))
    }

    /// A value and its version.
    fn kv_get(&mut self, key: &str, versioned: bool) -> Result<(Option<Bytes>, Option<KvVersion>), Error> {
        self.check_key(key)?;
        self.hold(self.delivery.kv.cost_of_reading(key))?;
        let Self { service, mode, delivery, chunk, .. } = self;
        let committed = || service.bus.kv_get(&service.settings.name, key);
        if *mode == Mode::Delivery {
            let none = Overlay::default();
            let value = delivery.kv.get(key, chunk.as_ref().map_or(&none, |chunk| &chunk.overlay), committed)?;
            let version = versioned.then(|| delivery.kv.version(key)).flatten();
            return Ok((value, version));
        }
        let (value, version) = committed()?;
        let version = value.is_some().then_some(version);
        Ok((value, version))
    }

    fn kv_set_if(&mut self, key: &str, value: Bytes, expected: Option<KvVersion>) -> Result<(), SetIfError> {
        if self.mode == Mode::Delivery {
            let (_, version) = self.kv_get(key, true)?;
            if version != expected {
                return Err(SetIfError::Conflict(format!("`{key}` has another version than the expected one")));
            }
            return Ok(self.kv_put(key, Some(value))?);
        }
        self.check_put(key, Some(&value))?;
        let read = KvRead { key: key.into(), version: Some(expected.unwrap_or_default()), own: false };
        Ok(self.kv_write(vec![read], KvWrite::Set { key: key.into(), value })?)
    }

    fn kv_list(&mut self, prefix: &str, after: Option<&str>, limit: u32) -> Result<Listed, Error> {
        /// Keys of one page at most.
        const PAGE_KEYS: usize = 1_000;
        self.check_grant()?;
        let most = self.service.limits.kv_key_bytes;
        if prefix.len() > most || after.is_some_and(|after| after.len() > most) {
            return Err(Error::TooLarge(format!("the prefix and the key to go on after have at most {most} bytes")));
        }
        self.hold(prefix.len() + after.map_or(0, str::len) + most + kv::ENTRY_BYTES)?;
        let limit = usize::try_from(limit).unwrap_or(PAGE_KEYS).clamp(1, PAGE_KEYS);
        let Self { service, mode, delivery, chunk, .. } = self;
        let committed = |limit| service.bus.kv_keys(&service.settings.name, prefix, after, limit);
        if *mode == Mode::Delivery {
            let none = Overlay::default();
            let overlay = chunk.as_ref().map_or(&none, |chunk| &chunk.overlay);
            return Ok(delivery.kv.list(Select { prefix, after, limit }, overlay, committed)?);
        }
        let mut keys = committed(limit + 1)?;
        let more = keys.len() > limit;
        keys.truncate(limit);
        Ok((keys, more))
    }

    /// Checks what setting or removing a key would make of the delivery and the namespace.
    fn check_put(&mut self, key: &str, value: Option<&Bytes>) -> Result<(), Error> {
        self.check_key(key)?;
        let Some(value) = value else { return self.hold(key.len()) };
        let (bytes, most) = (value.len(), self.service.limits.kv_value_bytes);
        if bytes > most {
            return Err(Error::TooLarge(format!("the value has {bytes} bytes; at most {most} are allowed")));
        }
        self.check_room(key.len() + bytes)
    }

    fn kv_put(&mut self, key: &str, value: Option<Bytes>) -> Result<(), Error> {
        self.check_put(key, value.as_ref())?;
        if self.mode == Mode::Delivery {
            self.delivery.kv.put(key, value);
            return Ok(());
        }
        let write = match value {
            Some(value) => KvWrite::Set { key: key.into(), value },
            None => KvWrite::Delete { key: key.into() },
        };
        Ok(self.kv_write(Vec::new(), write)?)
    }

    fn kv_increment(&mut self, key: &str, by: i64) -> Result<i64, Error> {
        let invalid = || Error::Invalid(format!("the value of `{key}` is not a decimal integer"));
        self.check_key(key)?;
        self.check_room(key.len() + 20)?;
        let Self { service, mode, delivery, chunk, .. } = self;
        let committed = || service.bus.kv_get(&service.settings.name, key);
        if *mode == Mode::Delivery {
            let none = Overlay::default();
            let overlay = chunk.as_ref().map_or(&none, |chunk| &chunk.overlay);
            return delivery.kv.increment(key, by, overlay, committed)?.map_err(|_| invalid());
        }
        let sum = kv::number(committed()?.0.as_deref()).map_err(|_| invalid())?.saturating_add(by);
        self.kv_write(Vec::new(), KvWrite::Increment { key: key.into(), by })?;
        Ok(sum)
    }

    fn kv_write(&mut self, reads: Vec<KvRead>, write: KvWrite) -> Result<(), Refusal> {
        self.wait(|service| service.bus.kv_write_blocking(&service.settings.name, reads, vec![write]))
    }
}

impl Host for GuestState {
    fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        Ok(self.kv_get(&key, false).map(|(value, _)| value.map(Vec::from)))
    }

    fn get_versioned(&mut self, key: String) -> Answer<Option<Versioned>> {
        let found = self.kv_get(&key, true);
        Ok(found.map(|(value, version)| {
            value.zip(version).map(|(value, version)| Versioned { value: value.into(), version })
        }))
    }

    fn set_if(
        &mut self,
        key: String,
        value: Vec<u8>,
        expected: Option<Version>,
    ) -> wasmtime::Result<Result<(), SetIfError>> {
        Ok(self.kv_set_if(&key, value.into(), expected))
    }

    fn list_keys(&mut self, prefix: String, after: Option<String>, limit: u32) -> Answer<Page> {
        Ok(self.kv_list(&prefix, after.as_deref(), limit).map(|(keys, more)| {
            let keys: Vec<String> = keys.into_iter().map(String::from).collect();
            let next = keys.last().filter(|_| more).cloned();
            Page { keys, next }
        }))
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> Answer<()> {
        Ok(self.kv_put(&key, Some(value.into())))
    }

    fn delete(&mut self, key: String) -> Answer<()> {
        Ok(self.kv_put(&key, None))
    }

    fn increment(&mut self, key: String, by: i64) -> Answer<i64> {
        Ok(self.kv_increment(&key, by))
    }
}
