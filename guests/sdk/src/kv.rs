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

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned {
    /// The value.
    pub value: Vec<u8>,
    /// Tells this value of the key from all others. Only good inside the delivery or task that read it.
    pub version: u64,
}

/// The value of a key with its version, for [`set_if`].
///
/// ```no_run
/// # fn main() -> Result<(), busway_guest::kv::Error> {
/// let version = busway_guest::kv::get_versioned("leader")?.map(|found| found.version);
/// # Ok(()) }
/// ```
pub fn get_versioned(key: &str) -> Result<Option<Versioned>, Error> {
    let found = key_value::get_versioned(key)?;
    Ok(found.map(|key_value::Versioned { value, version }| Versioned { value, version }))
}

/// Sets a key if its version is the expected one; none expects that the key is absent. Otherwise nothing is changed, and
/// the error is [`Error::Conflict`].
///
/// Tasks need it to change what others change too. Handlers may use [`get`] and [`set`] instead: what they read is checked
/// when they are acknowledged.
///
/// ```no_run
/// use busway_guest::kv::{self, Error};
///
/// # fn main() -> Result<(), Error> {
/// match kv::set_if("leader", b"me", None) {
///     Ok(()) => println!("nobody was there"),
///     Err(Error::Conflict(_)) => println!("somebody else was faster"),
///     Err(error) => return Err(error),
/// }
/// # Ok(()) }
/// ```
pub fn set_if(key: &str, value: &[u8], expected: Option<u64>) -> Result<(), Error> {
    Ok(key_value::set_if(key, value, expected)?)
}

/// A part of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// Keys, ascending by their bytes.
    pub keys: Vec<String>,
    /// Pass this as `after` to go on; none when there are no more keys.
    pub next: Option<String>,
}

/// The keys that begin with a prefix, after a given key, at most `limit` of them (1 to 1,000; others are taken for the
/// nearest).
///
/// In a handler this counts as reading which keys there are in the listed part of the namespace: when another delivery adds
/// or removes one there, this one is run again. At most 10,000 keys in one delivery.
///
/// ```no_run
/// # fn main() -> Result<(), busway_guest::kv::Error> {
/// let first = busway_guest::kv::list_keys("basket.", None, 100)?;
/// let second = busway_guest::kv::list_keys("basket.", first.next.as_deref(), 100)?;
/// # Ok(()) }
/// ```
pub fn list_keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<Page, Error> {
    let key_value::Page { keys, next } = key_value::list_keys(prefix, after, limit)?;
    Ok(Page { keys, next })
}

/// All keys that begin with a prefix, ascending, read in pages as they are needed; see [`list_keys`].
///
/// ```no_run
/// # fn main() -> Result<(), busway_guest::kv::Error> {
/// for key in busway_guest::kv::keys("basket.") {
///     println!("{}", key?);
/// }
/// # Ok(()) }
/// ```
pub fn keys(prefix: &str) -> Keys<'_> {
    Keys { prefix, page: Vec::new().into_iter(), next: Next::First }
}

/// An iterator over keys; see [`keys`].
#[derive(Clone, Debug)]
pub struct Keys<'a> {
    prefix: &'a str,
    page: std::vec::IntoIter<String>,
    next: Next,
}

/// Which page comes next.
#[derive(Clone, Debug)]
enum Next {
    First,
    After(String),
    None,
}

impl Iterator for Keys<'_> {
    type Item = Result<String, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(key) = self.page.next() {
                return Some(Ok(key));
            }
            let after = match std::mem::replace(&mut self.next, Next::None) {
                Next::First => None,
                Next::After(key) => Some(key),
                Next::None => return None,
            };
            match list_keys(self.prefix, after.as_deref(), 256) {
                Ok(Page { keys, next }) => {
                    self.page = keys.into_iter();
                    self.next = next.map_or(Next::None, Next::After);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
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
/// In a handler `?` makes it a retry when there was no room or a conflict, and a rejection otherwise.
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
    /// [`set_if`]: the key has another version than the expected one. Read it again.
    Conflict(String),
}

impl Error {
    /// Whether the same operation may be accepted later.
    ///
    /// ```
    /// # use busway_guest::kv::Error;
    /// assert!(!Error::TooLarge("1 MiB at most".into()).is_retryable());
    /// ```
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Overloaded(_) | Self::Conflict(_))
    }
}

impl std::fmt::Display for Error {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (what, reason) = match self {
            Self::Denied(reason) => ("denied", reason),
            Self::TooLarge(reason) => ("too large", reason),
            Self::Invalid(reason) => ("invalid", reason),
            Self::Overloaded(reason) => ("overloaded", reason),
            Self::Conflict(reason) => ("conflict", reason),
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

impl From<key_value::SetIfError> for Error {
    fn from(raw: key_value::SetIfError) -> Self {
        match raw {
            key_value::SetIfError::Denied(reason) => Self::Denied(reason),
            key_value::SetIfError::TooLarge(reason) => Self::TooLarge(reason),
            key_value::SetIfError::Invalid(reason) => Self::Invalid(reason),
            key_value::SetIfError::Overloaded(reason) => Self::Overloaded(reason),
            key_value::SetIfError::Conflict(reason) => Self::Conflict(reason),
        }
    }
}
