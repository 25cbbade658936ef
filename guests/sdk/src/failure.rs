//! How a handler says that it did not handle an event.
//!
//! Role: make `?` do the right thing. What cannot get better by waiting is rejected, everything else is tried again.

use std::any::Any;
use std::fmt::Display;

use crate::__private::RawFailure;
use crate::{Refusal, kv};

/// What a handler returns.
///
/// ```
/// fn handle(_event: busway_guest::Event) -> busway_guest::Result {
///     Ok(())
/// }
/// ```
pub type Result<T = (), E = Failure> = std::result::Result<T, E>;

/// Why an event was not handled, and whether to try again.
///
/// `?` turns every error into a `Failure`: into [`Failure::Retry`], except that a [`Refusal`] or a [`kv::Error`] which no
/// waiting mends becomes [`Failure::Reject`]. [`OrReject::or_reject`] chooses the other way.
///
/// ```
/// use busway_guest::{Failure, OrReject, Result};
///
/// fn celsius(text: &str) -> Result<f64> {
///     let value: f64 = text.parse().or_reject()?; // never becomes a number: a dead letter
///     if value < -273.15 {
///         return Err(Failure::reject(format_args!("{value} is below absolute zero")));
///     }
///     Ok(value)
/// }
/// assert_eq!(celsius("12.5"), Ok(12.5));
/// assert_eq!(celsius("warm"), Err(Failure::reject("invalid float literal")));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Try again later, with the service's back-off; the text is the reason.
    Retry(String),
    /// Never try again: the event becomes a dead letter; the text is the reason.
    Reject(String),
}

impl Failure {
    /// Try again later, because of `reason`.
    ///
    /// ```
    /// # use busway_guest::Failure;
    /// assert_eq!(Failure::retry("the warehouse is closed"), Failure::Retry("the warehouse is closed".into()));
    /// ```
    pub fn retry(reason: impl Display) -> Self {
        Self::Retry(reason.to_string())
    }

    /// Never try again, because of `reason`.
    ///
    /// ```
    /// # use busway_guest::Failure;
    /// assert_eq!(Failure::reject("no such product"), Failure::Reject("no such product".into()));
    /// ```
    pub fn reject(reason: impl Display) -> Self {
        Self::Reject(reason.to_string())
    }

    /// The reason.
    ///
    /// ```
    /// # use busway_guest::Failure;
    /// assert_eq!(Failure::retry("busy").reason(), "busy");
    /// ```
    pub fn reason(&self) -> &str {
        match self {
            Self::Retry(reason) | Self::Reject(reason) => reason,
        }
    }
}

// `Failure` itself must not be `Display`, or this would overlap with `From<T> for T`. `{:#}` writes the whole chain of
// errors that know one.
impl<E: Display + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        let reason = format!("{error:#}");
        let any: &dyn Any = &error;
        let hopeless = any.downcast_ref::<Refusal>().is_some_and(|refusal| !refusal.is_retryable())
            || any.downcast_ref::<kv::Error>().is_some_and(|error| !error.is_retryable());
        if hopeless { Self::Reject(reason) } else { Self::Retry(reason) }
    }
}

impl From<Failure> for RawFailure {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Retry(reason) => Self::Retry(reason),
            Failure::Reject(reason) => Self::Reject(reason),
        }
    }
}

/// Turns errors that no further attempt mends into [`Failure::Reject`].
///
/// ```
/// use busway_guest::{Failure, OrReject};
///
/// let port: Result<u16, Failure> = "http".parse::<u16>().or_reject();
/// assert!(matches!(port, Err(Failure::Reject(_))));
/// ```
pub trait OrReject<T> {
    /// The value, or a rejection with the error as its reason.
    ///
    /// ```
    /// # use busway_guest::{Failure, OrReject};
    /// assert_eq!("8080".parse::<u16>().or_reject(), Ok(8080));
    /// ```
    fn or_reject(self) -> Result<T>;
}

impl<T, E: Display> OrReject<T> for std::result::Result<T, E> {
    fn or_reject(self) -> Result<T> {
        self.map_err(|error| Failure::Reject(format!("{error:#}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through<E: Display + 'static>(error: E) -> Failure {
        fn fails<E: Display + 'static>(error: E) -> Result {
            Err(error)?;
            Ok(())
        }
        fails(error).expect_err("it was an error")
    }

    #[test]
    fn unknown_errors_are_tried_again() {
        assert_eq!(through("busy"), Failure::retry("busy"));
        assert!(matches!(through(std::io::Error::other("reset")), Failure::Retry(_)));
    }

    #[test]
    fn a_refusal_is_tried_again_only_when_there_was_no_room() {
        assert!(matches!(through(Refusal::Overloaded("full".into())), Failure::Retry(_)));
        assert!(matches!(through(Refusal::Denied("no grant".into())), Failure::Reject(_)));
        assert!(matches!(through(kv::Error::TooLarge("2 MiB".into())), Failure::Reject(_)));
        assert!(matches!(through(kv::Error::Overloaded("full".into())), Failure::Retry(_)));
    }

    #[test]
    fn a_failure_passes_through_unchanged() {
        fn inner() -> Result {
            Err(Failure::reject("no"))
        }
        fn outer() -> Result {
            inner()?;
            Ok(())
        }
        assert_eq!(outer(), Err(Failure::reject("no")));
    }
}
