//! Calls in, events out: the contracts that a component imports.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use busway_contract::{Contract, Function, KeyPath, Keys, Kind};
use busway_types::{Draft, EventId, Header, Key, Topic};
use bytes::Bytes;
use wasmtime::component::{Linker, Val};

use super::failure::refused;
use super::key::{inside, text};
use super::read::read_value;
use super::request::RequestError;
use super::write::write_params;
use crate::capability::Refusal;
use crate::invoke::drive;
use crate::state::{GuestState, Mode, Service};

/// The media type of typed events.
const JSON: &str = "application/json";

/// What a guest said about the next typed event that it publishes, beside its arguments.
#[derive(Debug, Default)]
pub(crate) struct Next {
    pub(crate) key: Option<Key>,
    pub(crate) id: Option<EventId>,
    pub(crate) headers: Vec<Header>,
    pub(crate) delay: Option<Duration>,
    pub(crate) expires: Option<Duration>,
}

/// An imported function.
struct Produced {
    function: Function,
    topic: Topic,
    key: Option<KeyPath>,
}

/// Gives a linker the functions of a contract.
pub(crate) fn link(linker: &mut Linker<GuestState>, contract: &Contract, keys: &Keys) -> wasmtime::Result<()> {
    let mut instance = linker.instance(&contract.id.to_string())?;
    for function in &contract.functions {
        let topic = contract.id.topic(&function.name)?;
        let key = keys.of(&contract.id, function)?;
        let produced = Arc::new(Produced { key, topic, function: function.clone() });
        let kind = function.kind();
        instance.func_new(&function.name, move |mut store, _, arguments, results| match kind {
            Kind::Event => produced.publish(store.data_mut(), arguments, results),
            Kind::Request => produced.request(store.data_mut(), arguments, results),
        })?;
    }
    Ok(())
}

/// An instance that waits for an answer.
struct Asks(Arc<Service>);

impl Asks {
    fn begin(state: &GuestState) -> Self {
        state.service.asking.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(&state.service))
    }
}

impl Drop for Asks {
    fn drop(&mut self) {
        self.0.asking.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Produced {
    fn publish(&self, state: &mut GuestState, arguments: &[Val], results: &mut [Val]) -> wasmtime::Result<()> {
        let published = self.draft(state, arguments).and_then(|draft| state.publish(vec![draft]));
        let answer = match published {
            Ok(_) => Val::Result(Ok(None)),
            Err(refusal) => refused(&self.function, &refusal).ok_or_else(|| {
                let (name, topic) = (&self.function.name, &self.topic);
                wasmtime::Error::msg(format!("`{name}` was not published to `{topic}`: {refusal}"))
            })?,
        };
        if let Some(result) = results.first_mut() {
            *result = answer;
        }
        Ok(())
    }

    /// Waits for the answer, for as long as the call in progress may take.
    fn request(&self, state: &mut GuestState, arguments: &[Val], results: &mut [Val]) -> wasmtime::Result<()> {
        let (Some(result), Some(ty)) = (results.first_mut(), &self.function.result) else { return Ok(()) };
        let draft = self.draft(state, arguments);
        // What waits for HTTP keeps no lane waiting.
        let _asking = (state.mode != Mode::Http).then(|| Asks::begin(state));
        let room = state.limiter.room();
        let answer = match draft.and_then(|draft| state.request(draft)) {
            Ok(answering) => {
                let meter = Arc::clone(&state.meter);
                let answer = state.wait(|_| drive(&meter, async { Ok(answering.await) }))?;
                answer.and_then(|json| {
                    let doubt = |mismatch| format!("the answer to `{}` does not fit: {mismatch}", self.function.name);
                    read_value(ty, &json, room).map_err(|mismatch| RequestError::Failed(doubt(mismatch)))
                })
            }
            Err(Refusal::Overloaded(reason)) => Err(RequestError::Overloaded(reason)),
            Err(refusal) => Err(RequestError::Failed(refusal.to_string())),
        };
        *result = match answer {
            Ok(answer) => answer,
            Err(error) => refused(&self.function, &error.as_refusal())
                .ok_or_else(|| wasmtime::Error::msg(format!("`{}` was not answered: {error}", self.function.name)))?,
        };
        Ok(())
    }

    fn draft(&self, state: &mut GuestState, arguments: &[Val]) -> Result<Draft, Refusal> {
        let mut data = Vec::with_capacity(256);
        write_params(&self.function.params, arguments, &mut data)
            .map_err(|unfit| Refusal::Invalid(unfit.to_string()))?;
        let mut draft = Draft::new(self.topic.clone(), Bytes::from(data));
        draft.content_type = Some(JSON.into());
        draft.is_typed = true;
        let key = self.key.as_ref().and_then(|path| inside(arguments.get(path.param)?, &path.fields));
        draft.key = match key {
            Some(key) => key_of(key, state)?,
            None => None,
        };
        if let Some(next) = state.next.take() {
            let now = state.service.clock.now();
            draft.key = next.key.or(draft.key);
            draft.id = next.id;
            draft.headers = next.headers;
            draft.not_before = next.delay.filter(|delay| !delay.is_zero()).map(|delay| now.after(delay));
            draft.expires = next.expires.map(|after| now.after(after));
        }
        Ok(draft)
    }
}

/// The key that a value stands for; none when it is an empty text.
fn key_of(val: &Val, state: &GuestState) -> Result<Option<Key>, Refusal> {
    let Some(text) = text(val) else { return Ok(None) };
    if text.is_empty() {
        return Ok(None);
    }
    Key::new(&text, &state.service.limits).map(Some).map_err(|error| Refusal::Invalid(error.to_string()))
}
