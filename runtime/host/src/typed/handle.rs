//! Events in, calls out: the contracts that a component exports.

use std::collections::HashMap;
use std::sync::Arc;

use busway_contract::{Contract, Function, InvalidTopic, Kind};
use busway_types::{Event, Outcome, Topic};
use wasmtime::Store;
use wasmtime::component::{Component, ComponentExportIndex, Func, Instance, Val};

use super::failure::outcome;
use super::read::read_into;
use super::write::write;
use crate::invoke::{cut, drive};
use crate::state::GuestState;

/// Trees of arguments that take more than this are not kept for the next event. What is kept counts as memory of the instance.
const KEPT_BYTES: usize = 256 * 1024;

/// One exported contract, ready to be called.
pub(crate) struct Handled {
    functions: Vec<HandledFunction>,
    by_topic: HashMap<Topic, usize>,
}

struct HandledFunction {
    function: Function,
    export: ComponentExportIndex,
}

/// What one instance keeps for one function: the function itself, and the arguments of the last call, to be written over.
#[derive(Default)]
pub(crate) struct Warm {
    function: Option<Func>,
    arguments: Vec<Val>,
    /// What they may take; they are counted as if nothing of them had been given back.
    bytes: usize,
}

impl Warm {
    /// Lets go of the arguments, and of their place in the instance's memory.
    fn forget(&mut self, state: &mut GuestState) {
        self.arguments = Vec::new();
        state.limiter.keep(std::mem::take(&mut self.bytes), 0);
    }
}

impl Handled {
    /// Looks the functions of a contract up. The topics are valid: the inspection refuses a contract with others.
    pub(crate) fn new(component: &Component, contract: &Contract) -> Result<Self, InvalidTopic> {
        let mut handled = Self { functions: Vec::new(), by_topic: HashMap::new() };
        let interface = component.get_export_index(None, contract.id.to_string());
        for function in &contract.functions {
            let export = interface.and_then(|interface| component.get_export_index(Some(&interface), &*function.name));
            if let Some(export) = export {
                handled.by_topic.insert(contract.id.topic(&function.name)?, handled.functions.len());
                handled.functions.push(HandledFunction { function: function.clone(), export });
            }
        }
        Ok(handled)
    }

    /// Topics of the events among its functions.
    pub(crate) fn event_topics(&self) -> impl Iterator<Item = &Topic> {
        self.by_topic
            .iter()
            .filter(|(_, place)| self.functions[**place].function.kind() == Kind::Event)
            .map(|(topic, _)| topic)
    }

    /// Topics of the requests among its functions.
    pub(crate) fn request_topics(&self) -> impl Iterator<Item = &Topic> {
        let is_request = |place: usize| self.functions[place].function.kind() == Kind::Request;
        self.by_topic.iter().filter(move |(_, place)| is_request(**place)).map(|(topic, _)| topic)
    }

    /// Gives an event to the guest, as the function of its topic.
    pub(crate) fn call(
        &self,
        exports: Instance,
        store: &mut Store<GuestState>,
        warm: &mut Vec<Warm>,
        waits: bool,
        event: &Event,
    ) -> wasmtime::Result<Outcome> {
        Ok(match self.invoke(exports, store, warm, waits, event)? {
            Ok((function, result)) => outcome(function, result.as_ref()),
            Err(reason) => Outcome::Rejected { reason },
        })
    }

    /// Gives a request to the guest; the answer is its result as JSON, and whether that is no error.
    pub(crate) fn answer(
        &self,
        exports: Instance,
        store: &mut Store<GuestState>,
        warm: &mut Vec<Warm>,
        waits: bool,
        event: &Event,
    ) -> wasmtime::Result<Result<(Vec<u8>, bool), String>> {
        let (function, result) = match self.invoke(exports, store, warm, waits, event)? {
            Ok(answered) => answered,
            Err(reason) => return Ok(Err(reason)),
        };
        let (Some(ty), Some(result)) = (&function.result, result) else {
            return Ok(Err(format!("`{}` answers nothing", function.name)));
        };
        let mut json = Vec::with_capacity(256);
        let written = write(ty, &result, &mut json).map_err(|unfit| unfit.to_string());
        Ok(written.map(|()| (json, !matches!(result, Val::Result(Err(_))))))
    }

    /// Calls the function of the event's topic; the error says why the event does not fit it.
    fn invoke(
        &self,
        exports: Instance,
        store: &mut Store<GuestState>,
        warm: &mut Vec<Warm>,
        waits: bool,
        event: &Event,
    ) -> wasmtime::Result<Result<(&Function, Option<Val>), String>> {
        let Some(place) = self.by_topic.get(&event.topic) else {
            return Ok(Err(format!("no function of the contract handles the topic `{}`", event.topic)));
        };
        let HandledFunction { function, export } = &self.functions[*place];
        if warm.len() < self.functions.len() {
            warm.resize_with(self.functions.len(), Warm::default);
        }
        let warm = &mut warm[*place];
        let callee = if let Some(callee) = warm.function {
            callee
        } else {
            let found = exports.get_func(&mut *store, export);
            let found = found.ok_or_else(|| wasmtime::Error::msg(format!("`{}` is not exported", function.name)))?;
            *warm.function.insert(found)
        };
        let room = store.data().limiter.room();
        match read_into(&function.params, &event.data, &mut warm.arguments, room) {
            Ok(made) => {
                let before = warm.bytes;
                warm.bytes += made;
                store.data_mut().limiter.keep(before, warm.bytes);
            }
            Err(mismatch) => {
                warm.forget(store.data_mut());
                let reason = cut(format!("the event does not fit `{}`: {mismatch}", function.name));
                return Ok(Err(reason));
            }
        }
        let (arguments, mut results) = (&warm.arguments, [Val::Bool(false)]);
        let results = &mut results[..function.result.iter().len()];
        if waits {
            let meter = Arc::clone(&store.data().meter);
            drive(&meter, callee.call_async(&mut *store, arguments, results))?;
        } else {
            callee.call(&mut *store, arguments, results)?;
        }
        let result = results.first_mut().map(|result| std::mem::replace(result, Val::Bool(false)));
        if warm.bytes > KEPT_BYTES {
            warm.forget(store.data_mut());
        }
        Ok(Ok((function, result)))
    }
}
