//! Whether what one side of a contract sends is what the other side can take.
//!
//! Role: compares a producer's version of a contract with a handler's, function by function and type by type, by content:
//! names of types and docs play no part. Parameters travel from the producer to the handler, the result of a request
//! travels back. Nothing is said of the `E` of an event's `result<_, E>`: it never travels.
//!
//! Values travel as JSON and each side reads by its own types, so these differences are bridged: what the sender has more
//! is ignored; what it lacks is none if the receiver's type is an `option`; `T` to `option<T>`; an integer into one that
//! holds all its values, `f32` into `f64`; `list<T, N>` into `list<T>`; order; cases and flags that are never sent.
//! Everything else keeps the pair apart. The rules hold for the JSON alone: a value that one of them lets through must be
//! readable by the receiver's type, which the tests hold against a reader of their own.

mod pairs;
#[cfg(test)]
mod tests;
mod text;
mod walk;

use std::sync::Arc;

use serde::{Serialize, Serializer};

use crate::id::ContractId;
use crate::model::{Contract, Function};

pub use pairs::{Alone, Pair, Pairings, Unversioned, pairings};
pub use text::Diff;

/// How well two sides fit, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// No difference that travels.
    Same,
    /// All differences are bridged.
    Compatible,
    /// At least one difference is not.
    Incompatible,
}

/// A producer's version of a contract beside a handler's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// How well they fit: the worst of the functions; at best compatible when the handler lacks some.
    pub verdict: Verdict,
    /// The contract as the producer names it.
    #[serde(serialize_with = "as_text")]
    pub producer: ContractId,
    /// The contract as the handler names it.
    #[serde(serialize_with = "as_text")]
    pub handler: ContractId,
    /// The functions that both have, in the producer's order.
    pub functions: Vec<Compared>,
    /// What the producer calls and the handler does not have. Such an event passes this handler by.
    pub only_producer: Vec<Arc<str>>,
    /// What the handler has and the producer does not call.
    pub only_handler: Vec<Arc<str>>,
}

/// A function that both sides have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Compared {
    /// Its name.
    pub name: Arc<str>,
    /// How well both sides fit.
    pub verdict: Verdict,
    /// What differs, in the order of the receiving side's type.
    pub differences: Vec<Difference>,
}

/// A difference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Where: `placed(event.lines[].sku)`, or `quote -> result.ok` in the result of a request.
    pub place: String,
    /// What is there at the producer, as WIT; none if nothing is.
    pub producer: Option<String>,
    /// What is there at the handler, as WIT; none if nothing is.
    pub handler: Option<String>,
    /// What kind of difference it is.
    pub change: Change,
    /// Whether the value travels from the handler to the producer: it is in the result of a request.
    pub answer: bool,
    /// Whether it does no harm.
    pub bridged: bool,
}

/// Kinds of differences, from the sender's type to the receiver's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// Bridged: the sender sends a field or parameter that the receiver does not have.
    Ignored,
    /// Bridged: the receiver has an `option` that the sender does not send.
    Absent,
    /// Bridged: `T` to `option<T>`.
    Wrapped,
    /// Bridged: a number into a type that holds all its values.
    Widened,
    /// Bridged: the same fields, cases or flags in another order.
    Reordered,
    /// Bridged: the receiver knows a case or a flag that the sender does not have.
    NeverSent,
    /// Bridged: `list<T, N>` to `list<T>`.
    AnyLength,
    /// One side has an event, the other a request.
    Kind,
    /// The receiver needs a field or parameter that the sender does not send.
    Missing,
    /// A number into a type that does not hold all its values.
    Narrowed,
    /// `option<T>` to `T`.
    Unwrapped,
    /// One side has an option in an option where the other has one option or none.
    NestedOption,
    /// The sender has a case or a flag that the receiver does not know.
    Unknown,
    /// A case, or a side of a `result`, carries a value on one side only.
    Payload,
    /// Tuples or lists of different fixed lengths, or any length into a fixed one.
    Length,
    /// `list<u8>` on one side, another list on the other.
    Bytes,
    /// Types that have nothing in common.
    Type,
}

impl Change {
    /// Whether it does no harm.
    pub fn is_bridged(self) -> bool {
        matches!(
            self,
            Self::Ignored
                | Self::Absent
                | Self::Wrapped
                | Self::Widened
                | Self::Reordered
                | Self::NeverSent
                | Self::AnyLength
        )
    }
}

/// Compares a producer's version of a contract with a handler's. Their names are not compared; see
/// [`ContractId::meets`].
pub fn compare(producer: &Contract, handler: &Contract) -> Comparison {
    let both = producer.functions.iter().filter_map(|sent| handler.function(&sent.name).map(|taken| (sent, taken)));
    let functions: Vec<_> = both.map(|(sent, taken)| compare_functions(sent, taken)).collect();
    let only = |these: &Contract, those: &Contract| {
        let names = these.functions.iter().map(|function| function.name.clone());
        names.filter(|name| those.function(name).is_none()).collect()
    };
    let only_producer: Vec<_> = only(producer, handler);
    // What passes the handler by does no harm, but is not the same.
    let least = if only_producer.is_empty() { Verdict::Same } else { Verdict::Compatible };
    Comparison {
        verdict: functions.iter().map(|function| function.verdict).fold(least, Verdict::max),
        producer: producer.id.clone(),
        handler: handler.id.clone(),
        functions,
        only_producer,
        only_handler: only(handler, producer),
    }
}

/// Compares a function as the producer calls it with the same function as the handler has it.
pub fn compare_functions(producer: &Function, handler: &Function) -> Compared {
    let differences = walk::functions(producer, handler);
    let verdict = if differences.is_empty() {
        Verdict::Same
    } else if differences.iter().all(|difference| difference.bridged) {
        Verdict::Compatible
    } else {
        Verdict::Incompatible
    };
    Compared { name: producer.name.clone(), verdict, differences }
}

fn as_text<S: Serializer>(id: &ContractId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(id)
}
