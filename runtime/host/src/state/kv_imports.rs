//! The imported interface `key-value`.

use busway_types::KvWrite;
use bytes::Bytes;

use super::kv::{self, Overlay};
use super::limiter::mib;
use super::{GuestState, Mode};
use crate::bindings::key_value::{Error, Host};
use crate::capability::Refusal;

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        match refusal {
            Refusal::Overloaded(text) => Self::Overloaded(text),
            Refusal::Denied(text) => Self::Denied(text),
            Refusal::TooLarge(text) => Self::TooLarge(text),
            Refusal::Invalid(text) => Self::Invalid(text),
        }
    }
}

impl GuestState {
    fn check_key(&self, key: &str) -> Result<(), Error> {
        if !self.service.settings.grants.key_value {
            return Err(Error::Denied("the service has no grant for key-value; set `key-value = true`".into()));
        }
        if self.mode == Mode::Idle {
            return Err(Error::Denied("key-value is there while handling an event and in tasks".into()));
        }
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
        if self.mode == Mode::Task || self.limiter.hold(bytes) {
            return Ok(());
        }
        Err(Error::TooLarge(format!("the memory limit of {} is reached", mib(self.limiter.limit()))))
    }

    fn kv_get(&mut self, key: &str) -> Result<Option<Bytes>, Error> {
        self.check_key(key)?;
        self.hold(self.delivery.kv.cost_of_reading(key))?;
        let Self { service, mode, delivery, chunk, .. } = self;
        let committed = || service.bus.kv_get(&service.settings.name, key);
        Ok(match mode {
            Mode::Delivery => {
                let none = Overlay::default();
                delivery.kv.get(key, chunk.as_ref().map_or(&none, |chunk| &chunk.overlay), committed)
            }
            Mode::Idle | Mode::Task => committed().0,
        })
    }

    fn kv_put(&mut self, key: &str, value: Option<Bytes>) -> Result<(), Error> {
        self.check_key(key)?;
        let bytes = value.as_ref().map_or(0, Bytes::len);
        let most = self.service.limits.kv_value_bytes;
        if bytes > most {
            return Err(Error::TooLarge(format!("the value has {bytes} bytes; at most {most} are allowed")));
        }
        if value.is_some() {
            self.check_room(key.len() + bytes)?;
        } else {
            self.hold(key.len())?;
        }
        if self.mode == Mode::Delivery {
            self.delivery.kv.put(key, value);
            return Ok(());
        }
        let write = match value {
            Some(value) => KvWrite::Set { key: key.into(), value },
            None => KvWrite::Delete { key: key.into() },
        };
        self.kv_write(write)
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
            return delivery.kv.increment(key, by, overlay, committed).map_err(|_| invalid());
        }
        let sum = kv::number(committed().0.as_deref()).map_err(|_| invalid())?.saturating_add(by);
        self.kv_write(KvWrite::Increment { key: key.into(), by })?;
        Ok(sum)
    }

    fn kv_write(&mut self, write: KvWrite) -> Result<(), Error> {
        self.meter.give_slot_back();
        Ok(self.service.bus.kv_write_blocking(&self.service.settings.name, vec![write])?)
    }
}

impl Host for GuestState {
    fn get(&mut self, key: String) -> Answer<Option<Vec<u8>>> {
        Ok(self.kv_get(&key).map(|value| value.map(Vec::from)))
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
