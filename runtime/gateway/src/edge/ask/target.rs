//! What a route to a function is set to (`request = "shop:orders/quotes.quote"` and what belongs to it).

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use busway_contract::{Contract, ContractId, Function, Kind};
use http::StatusCode;

/// `request = "shop:orders/quotes.quote"`, with what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestTarget {
    /// Which function.
    pub function: FunctionName,
    /// The parameter that the whole body is. None: the body is an object with a member for each parameter.
    pub body: Option<Box<str>>,
    /// The statuses of errors by the name of their case; `*` is every other one.
    pub errors: BTreeMap<Box<str>, StatusCode>,
}

/// The name of a function of a contract: `shop:orders/quotes.quote`, with or without the version of the package
/// (`shop:orders/quotes@1.0.0.quote`). Without one it is the newest that runs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionName {
    /// The contract.
    pub contract: ContractId,
    /// The function.
    pub function: Arc<str>,
}

/// A text that names no function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a function of a contract; one looks like `shop:orders/quotes.quote`")]
pub struct InvalidFunctionName(String);

impl FromStr for FunctionName {
    type Err = InvalidFunctionName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = || InvalidFunctionName(text.chars().take(120).collect());
        // Versions have dots, functions have none.
        let (contract, function) = text.rsplit_once('.').ok_or_else(invalid)?;
        let contract: ContractId = contract.parse().map_err(|_| invalid())?;
        let word = |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric());
        if contract.is_reserved() || !function.split('-').all(word) {
            return Err(invalid());
        }
        Ok(Self { contract, function: function.into() })
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.contract, self.function)
    }
}

impl FunctionName {
    /// The function in these contracts: of the version that is named, else of the newest.
    pub fn find<'c>(&self, contracts: &'c [Arc<Contract>]) -> Option<(&'c Contract, &'c Function)> {
        let wanted = &self.contract;
        let meets = |id: &ContractId| match wanted.version {
            Some(_) => wanted.meets(id),
            None => wanted.is_named_like(id),
        };
        let found = contracts.iter().filter(|contract| meets(&contract.id));
        let found = found.filter_map(|contract| Some((&**contract, contract.function(&self.function)?)));
        found
            .filter(|(_, function)| function.kind() == Kind::Request)
            .max_by(|a, b| a.0.id.version.cmp(&b.0.id.version))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_are_named_with_or_without_a_version() {
        for (text, contract, function) in [
            ("shop:orders/quotes.quote", "shop:orders/quotes", "quote"),
            ("shop:orders/quotes@1.0.0.get-quote", "shop:orders/quotes@1.0.0", "get-quote"),
            ("a:b/c@1.0.0-rc.1.d", "a:b/c@1.0.0-rc.1", "d"),
        ] {
            let name: FunctionName = text.parse().expect(text);
            assert_eq!((name.contract.to_string().as_str(), &*name.function), (contract, function));
            assert_eq!(name.to_string(), text);
        }
        for bad in ["", "quote", "shop:orders/quotes", "shop:orders/quotes.", "a:b/c.d e", "wasi:cli/run.run", ".a"] {
            assert!(bad.parse::<FunctionName>().is_err(), "{bad}");
        }
    }
}
