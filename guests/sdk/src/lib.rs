//! Write [busway](https://github.com/busway/busway) services in Rust.
//!
//! A service is a library compiled to a Wasm component (`crate-type = ["cdylib"]`, target `wasm32-wasip2`) that handles
//! events:
//!
//! ```no_run
//! use busway_guest::{log, publish};
//!
//! #[derive(serde::Deserialize)]
//! struct Order { id: String, total_cents: u64 }
//!
//! busway_guest::service!(subscribe = ["public.orders.>"], |event| {
//!     let order: Order = event.json()?;
//!     log::info!(total = order.total_cents; "order {}", order.id);
//!     publish("public.invoices").key(&order.id).text("to be written").send()?;
//!     Ok(())
//! });
//! # fn main() {}
//! ```
//!
//! Handling an event is a transaction: what the handler publishes and writes to [`kv`] becomes visible only when it
//! returns `Ok`, in the same commit as the acknowledgement. An error, a trap or a timeout leaves nothing behind.
//!
//! A *task* produces without handling: an ordinary program that uses the same functions.
//!
//! ```no_run
//! fn main() -> Result<(), busway_guest::Refusal> {
//!     busway_guest::publish("public.greetings").text("good morning").send()?;
//!     Ok(())
//! }
//! ```
//!
//! This crate adds comfort only. Every component that follows `wit/bus.wit` is a service, whatever it was built with.
//!
//! # Features
//!
//! `json` (default): [`Event::json`], [`Message::json`], [`kv::get_json`] and [`kv::set_json`].

#[doc(hidden)]
pub mod bindings;
pub mod context;
mod event;
mod failure;
pub mod kv;
pub mod log;
mod publish;

pub use context::config;
pub use event::Event;
pub use failure::{Failure, OrReject, Result};
pub use publish::{Message, Refusal, publish, publish_many};

/// What `service!` expands to. No part of the interface.
#[doc(hidden)]
pub mod __private {
    pub use crate::bindings::exports::busway::bus::handler::Guest;
    pub use crate::bindings::exports::busway::bus::handler::{Event as RawEvent, Failure as RawFailure};

    /// Runs a handler on an event as it comes from the host.
    pub fn run(handler: fn(crate::Event) -> crate::Result, event: RawEvent) -> Result<(), RawFailure> {
        handler(crate::Event::new(event)).map_err(RawFailure::from)
    }
}

/// Makes this crate a service: names what it subscribes to and the function that handles an event.
///
/// The topics may be patterns, where `*` stands for one token and a final `>` for the rest. They hold unless the
/// manifest says `subscribe = [...]`. The handler is a function or a closure without captures, from [`Event`] to
/// [`Result`]. State lives in [`kv`]; statics are lost whenever the runtime replaces the instance.
///
/// ```no_run
/// use busway_guest::{Event, Failure, Result, kv};
///
/// fn handle(event: Event) -> Result {
///     let name = event.key().ok_or_else(|| Failure::reject("a visit needs a key"))?;
///     kv::increment(name, 1)?;
///     Ok(())
/// }
///
/// busway_guest::service!(subscribe = ["public.visits"], handle);
/// # fn main() {}
/// ```
///
/// Without `subscribe` the manifest has to say it:
///
/// ```no_run
/// busway_guest::service!(|event| {
///     println!("{} bytes on {}", event.data().len(), event.topic());
///     Ok(())
/// });
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! service {
    (subscribe = [$($pattern:expr),* $(,)?], $handler:expr $(,)?) => {
        const _: () = {
            struct Service;

            impl $crate::__private::Guest for Service {
                fn subscriptions() -> ::std::vec::Vec<::std::string::String> {
                    ::std::vec![$(::std::string::String::from($pattern)),*]
                }

                fn handle(
                    event: $crate::__private::RawEvent,
                ) -> ::core::result::Result<(), $crate::__private::RawFailure> {
                    $crate::__private::run($handler, event)
                }
            }

            $crate::bindings::export_service!(Service with_types_in $crate::bindings);
        };
    };
    ($handler:expr $(,)?) => {
        $crate::service!(subscribe = [], $handler);
    };
}

/// Keeps the doc comments of a contract in the component.
///
/// Tools drop them when they make a component. This puts the text of a WIT file, by its path from the folder of
/// `Cargo.toml`, into a custom section, where `busway contract show` finds it. No code reads it, and a service does
/// without it as well. Once for each file that is wanted:
///
/// ```no_run
/// busway_guest::embed_contract!("../../wit/bus.wit");
/// # fn main() {}
/// ```
#[macro_export]
macro_rules! embed_contract {
    ($path:literal) => {
        const _: () = {
            // The line before the file is how files in one section are told apart.
            const WIT: &str = ::core::concat!(
                "//// ",
                $path,
                "\n",
                ::core::include_str!(::core::concat!(::core::env!("CARGO_MANIFEST_DIR"), "/", $path)),
                "\n"
            );
            #[cfg(target_family = "wasm")]
            #[used]
            #[unsafe(link_section = "busway-contract")]
            static SECTION: [u8; WIT.len()] = match WIT.as_bytes().first_chunk() {
                ::core::option::Option::Some(wit) => *wit,
                ::core::option::Option::None => ::core::unreachable!(),
            };
        };
    };
}
