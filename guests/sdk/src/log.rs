//! Log lines, which end in the node's log under the service's name.
//!
//! One macro per level, with named values before a `;` where there are any:
//!
//! ```no_run
//! use busway_guest::log;
//!
//! let (order, total) = ("A-7", 1250);
//! log::info!("order {order} arrived");
//! log::warn!(order = order, total = total; "the price of order {order} changed");
//! ```
//!
//! What a service writes to stdout and stderr becomes log lines too.

use std::fmt;

use crate::bindings::busway::bus::log;

pub use crate::bindings::busway::bus::log::Level;
#[doc(inline)]
pub use crate::{__debug as debug, __error as error, __info as info, __trace as trace, __warn as warn};

/// Whether a line of this level would be written.
///
/// ```no_run
/// use busway_guest::log::{self, Level};
///
/// if log::enabled(Level::Debug) {
///     log::debug!("{}", "what is costly to describe");
/// }
/// ```
pub fn enabled(level: Level) -> bool {
    log::enabled(level)
}

/// Writes a line; the macros are more comfortable. Never fails; lines beyond what one delivery may write (64 KiB) are
/// counted, not kept.
///
/// ```no_run
/// use busway_guest::log::{self, Level};
///
/// log::write(Level::Info, format_args!("started"), &[("version", &1)]);
/// ```
pub fn write(level: Level, message: fmt::Arguments<'_>, fields: &[(&str, &dyn fmt::Display)]) {
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| log::Field { name: (*name).to_owned(), value: value.to_string() }).collect();
    log::write(level, &message.to_string(), &fields);
}

/// Writes a line of a level, if it is wanted. What the macros expand to.
#[doc(hidden)]
#[macro_export]
macro_rules! __log {
    ($level:ident; $($name:ident = $value:expr),+ ; $($message:tt)+) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::log::write(
                $crate::log::Level::$level,
                ::core::format_args!($($message)+),
                &[$((::core::stringify!($name), &$value)),+],
            );
        }
    };
    ($level:ident; $($message:tt)+) => {
        if $crate::log::enabled($crate::log::Level::$level) {
            $crate::log::write($crate::log::Level::$level, ::core::format_args!($($message)+), &[]);
        }
    };
}

/// Writes a line of level `trace`: named values and a `;`, if any, then a message as for `println!`.
///
/// ```no_run
/// busway_guest::log::trace!(step = 3; "deep inside");
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __trace {
    ($($arguments:tt)+) => { $crate::__log!(Trace; $($arguments)+) };
}

/// Writes a line of level `debug`: named values and a `;`, if any, then a message as for `println!`.
///
/// ```no_run
/// busway_guest::log::debug!(bytes = 17; "parsed");
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __debug {
    ($($arguments:tt)+) => { $crate::__log!(Debug; $($arguments)+) };
}

/// Writes a line of level `info`: named values and a `;`, if any, then a message as for `println!`.
///
/// ```no_run
/// busway_guest::log::info!(order = 7; "accepted");
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __info {
    ($($arguments:tt)+) => { $crate::__log!(Info; $($arguments)+) };
}

/// Writes a line of level `warn`: named values and a `;`, if any, then a message as for `println!`.
///
/// ```no_run
/// busway_guest::log::warn!(attempt = 2; "slow");
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __warn {
    ($($arguments:tt)+) => { $crate::__log!(Warn; $($arguments)+) };
}

/// Writes a line of level `error`: named values and a `;`, if any, then a message as for `println!`.
///
/// ```no_run
/// busway_guest::log::error!("the till is closed");
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! __error {
    ($($arguments:tt)+) => { $crate::__log!(Error; $($arguments)+) };
}
