//! The Rust side of `wit/bus.wit`.
//!
//! Role: the traits that the host implements for guests (generated), and the types of the hot call, written by hand so
//! that an event is lowered straight from where it lies, without a copy of its strings.

use busway_types::Event;
use wasmtime::component::{ComponentType, Lift, Lower};

mod generated {
    wasmtime::component::bindgen!({
        path: "../../wit",
        world: "busway:bus/task",
        imports: { default: trappable },
        require_store_data_send: true,
    });
}

pub(crate) use generated::busway::bus::{context, key_value, log, producer, types};

/// One header of the event in hand.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct HeaderRef<'a> {
    name: &'a str,
    value: &'a str,
}

/// The event in hand, borrowed.
#[derive(Clone, Copy, ComponentType, Lower)]
#[component(record)]
pub(crate) struct EventRef<'a> {
    id: &'a str,
    topic: &'a str,
    key: Option<&'a str>,
    #[component(name = "content-type")]
    content_type: Option<&'a str>,
    headers: &'a [HeaderRef<'a>],
    data: &'a [u8],
}

/// What a handler answers when it did not handle an event.
#[derive(Clone, Debug, ComponentType, Lift)]
#[component(variant)]
pub(crate) enum Failure {
    #[component(name = "retry")]
    Retry(String),
    #[component(name = "reject")]
    Reject(String),
}

/// The parameters of `handle`.
pub(crate) type HandleParams<'a> = (EventRef<'a>,);

/// The result of `handle`.
pub(crate) type HandleResult = (Result<(), Failure>,);

/// The headers of an event, borrowed. Allocates nothing when there are none.
pub(crate) fn header_refs(event: &Event) -> Vec<HeaderRef<'_>> {
    event.headers.iter().map(|(name, value)| HeaderRef { name, value }).collect()
}

impl<'a> EventRef<'a> {
    pub(crate) fn new(event: &'a Event, id: &'a str, topic: &'a str, headers: &'a [HeaderRef<'a>]) -> Self {
        Self {
            id,
            topic,
            key: event.key.as_ref().map(busway_types::Key::as_str),
            content_type: event.content_type.as_deref(),
            headers,
            data: &event.data,
        }
    }
}
