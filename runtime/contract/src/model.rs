//! Contracts and their functions.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use crate::id::ContractId;
use crate::types::{Docs, Type};

/// A WIT interface whose functions are events or requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contract {
    /// Its name.
    pub id: ContractId,
    /// Its doc comment.
    pub docs: Docs,
    /// Its functions, in order. In a contract that was read from a component's imports only those that it calls.
    pub functions: Vec<Function>,
}

impl Contract {
    /// The function of this name.
    pub fn function(&self, name: &str) -> Option<&Function> {
        self.functions.iter().find(|function| &*function.name == name)
    }
}

/// A function of a contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: Arc<str>,
    /// Its doc comment.
    pub docs: Docs,
    /// Its parameters, in order. Together they are the data of the event, a JSON object with one member for each.
    pub params: Vec<Param>,
    /// What it returns.
    pub result: Option<Type>,
}

/// A parameter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Param {
    /// Its name.
    pub name: Arc<str>,
    /// Its type.
    pub ty: Type,
}

/// What a function is, told by its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Returns nothing, `result` or `result<_, E>`: it goes through queues, to every subscriber.
    Event,
    /// Returns a value: one handler answers, and the caller waits for it.
    Request,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Event => "event",
            Self::Request => "request",
        })
    }
}

impl Function {
    /// Whether it is an event or a request.
    pub fn kind(&self) -> Kind {
        match &self.result {
            None | Some(Type::Result(None, _)) => Kind::Event,
            Some(_) => Kind::Request,
        }
    }

    /// The `E` of an event that returns `result<_, E>`.
    pub fn error(&self) -> Option<&Type> {
        match &self.result {
            Some(Type::Result(None, Some(error))) => Some(error),
            _ => None,
        }
    }

    /// The place of the parameter that orders the events: the first one, if it is called `key` and is a string, an
    /// integer, a char or an enum.
    pub fn key(&self) -> Option<usize> {
        self.params.iter().position(|param| &*param.name == "key").filter(|place| can_be_key(&self.params[*place].ty))
    }
}

/// Whether values of a type can order events.
pub(crate) fn can_be_key(ty: &Type) -> bool {
    matches!(
        ty,
        Type::String
            | Type::Char
            | Type::Enum(_)
            | Type::S8
            | Type::U8
            | Type::S16
            | Type::U16
            | Type::S32
            | Type::U32
            | Type::S64
            | Type::U64
    )
}

/// The function as WIT would write it.
impl fmt::Display for Function {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: func(", self.name)?;
        for (place, param) in self.params.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{}: {}", param.name, param.ty)?;
        }
        f.write_str(")")?;
        self.result.iter().try_for_each(|result| write!(f, " -> {result}"))
    }
}

/// What a component does with a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Direction {
    /// Imports it: calling a function publishes.
    Produces,
    /// Exports it: its functions are called with events.
    Handles,
}

impl fmt::Display for Direction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Produces => "produces",
            Self::Handles => "handles",
        })
    }
}

/// A contract as one component uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Use {
    /// Produces or handles.
    pub direction: Direction,
    /// The contract, with the functions and types that this component knows.
    pub contract: Contract,
}

/// Why an interface that looks like a contract is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{interface}` cannot be carried by the bus: {place}: {reason}")]
pub struct Refused {
    /// The interface.
    pub interface: String,
    /// Produces or handles.
    pub direction: Direction,
    /// The function and the path inside it, for example `placed(event.lines[])`.
    pub place: String,
    /// What cannot be carried, and what to do instead.
    pub reason: String,
}
