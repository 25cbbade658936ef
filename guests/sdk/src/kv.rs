//! State that survives the instance; each service has its own namespace.
//!
//! In a handler reads see the committed state and this delivery's own writes, and writes become visible with the
//! acknowledgement. When another delivery changed what this one read, it is run again, which costs no attempt.
//! [`increment`] commutes: it never makes a delivery run again, and none is lost.
//!
//! ```no_run
//! use busway_guest::kv;
//!
//! busway_guest::service!(subscribe = ["public.visits"], |event| {
//!     let visits = kv::increment("visits", 1)?;
//!     kv::set("last", event.data())?;
//!     println!("{visits} so far");
//!     Ok(())
//! });
//! # fn main() {}
//! ```

use crate::bindings::busway::bus::key_value;

/// The value of a key.
///
/// ```no_run
/// # fn main() -> Result<(), busway_guest::kv::Error> {
/// let last = busway_guest::kv::get("last")?.unwrap_or_default();
/// # Ok(()) }
/// ```
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    Ok(key_value::get(key)?)
}

/// Sets a key.
///
/// ```no_run
/// # fn main() -> Result<(), busway_guest::kv::Error> {
/// busway_guest::kv::set("last", b"customer-7")?;
/// # Ok(()) }
/// ```
pub fn set(key: &str, value: &[u8]) -> Result<(), Error> {
    Ok(key_value::set(key, value)?)
}

/// Removes a key. Removing what is not there is no error.
///
/// ```no_run
/// # fn main() -> Result<(), busway_guest::kv::Error> {
/// busway_guest::kv::delete("last")?;
/// # Ok(()) }
/// ```
pub fn delete(key: &str) -> Result<(), Error> {
    Ok(key_value::delete(key)?)
}

/// Adds to a decimal integer and gives the sum as this delivery sees it; absent counts as 0, the sum saturates.
///
/// ```no_run
/// # fn main() -> Result<(), busway_guest::kv::Error> {
/// let visits = busway_guest::kv::increment("visits", 1)?;
/// # Ok(()) }
/// ```
pub fn increment(key: &str, by: i64) -> Result<i64, Error> {
    Ok(key_value::increment(key, by)?)
}

/// The value of a key, read as JSON.
///
/// ```no_run
/// #[derive(serde::Deserialize, Default)]
/// struct Basket { items: Vec<String> }
///
/// # fn main() -> Result<(), busway_guest::kv::Error> {
/// let basket: Basket = busway_guest::kv::get_json("basket.customer-7")?.unwrap_or_default();
/// # Ok(()) }
/// ```
#[cfg(feature = "json")]
pub fn get_json<T: serde::de::DeserializeOwned>(key: &str) -> Result<Option<T>, Error> {
    let Some(value) = get(key)? else { return Ok(None) };
    serde_json::from_slice(&value)
        .map(Some)
        .map_err(|error| Error::Invalid(format!("the value of `{key}` is not as expected: {error}")))
}

/// Sets a key to a value written as JSON.
///
/// ```no_run
/// # fn main() -> Result<(), busway_guest::kv::Error> {
/// busway_guest::kv::set_json("basket.customer-7", &["bread", "milk"])?;
/// # Ok(()) }
/// ```
#[cfg(feature = "json")]
pub fn set_json<T: serde::Serialize + ?Sized>(key: &str, value: &T) -> Result<(), Error> {
    let value = serde_json::to_vec(value)
        .map_err(|error| Error::Invalid(format!("the value for `{key}` cannot be written as JSON: {error}")))?;
    set(key, &value)
}

/// Why an operation was refused; the text says what to change.
///
/// In a handler `?` makes it a retry when there was no room and a rejection otherwise.
///
/// ```
/// use busway_guest::kv::Error;
///
/// assert!(Error::Overloaded("the disk is full".into()).is_retryable());
/// assert!(!Error::Denied("no grant".into()).is_retryable());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// The service has no grant for key-value (`key-value = true` in the manifest).
    Denied(String),
    /// The key, the value or the whole namespace is larger than allowed.
    TooLarge(String),
    /// `increment` on a value that is not a decimal integer, an empty key, or a value that is not the JSON asked for.
    Invalid(String),
    /// The bus cannot take writes now. Trying again later may help.
    Overloaded(String),
}

impl Error {
    /// Whether the same operation may be accepted later.
    ///
    /// ```
    /// # use busway_guest::kv::Error;
    /// assert!(!Error::TooLarge("1 MiB at most".into()).is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded(_))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, reason) = match self {
            Self::Denied(reason) => ("denied", reason),
            Self::TooLarge(reason) => ("too large", reason),
            Self::Invalid(reason) => ("invalid", reason),
            Self::Overloaded(reason) => ("overloaded", reason),
        };
        write!(f, "key-value, {what}: {reason}")
    }
}

impl std::error::Error for Error {}

impl From<key_value::Error> for Error {
    fn from(raw: key_value::Error) -> Self {
        match raw {
            key_value::Error::Denied(reason) => Self::Denied(reason),
            key_value::Error::TooLarge(reason) => Self::TooLarge(reason),
            key_value::Error::Invalid(reason) => Self::Invalid(reason),
            key_value::Error::Overloaded(reason) => Self::Overloaded(reason),
        }
    }
}
