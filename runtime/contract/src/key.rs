//! Where the key of an event is: in its parameter `key`, or where the app says.
//!
//! Role: finds, in the types of a function, the place whose value orders its events; the place is worked out once, when a
//! service is loaded.
//!
//! Invariant: a [`KeyPath`] leads through records alone to a string, an integer, a char or an enum, so that every value of
//! the function has a key.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::id::ContractId;
use crate::model::{Direction, Function, Use, can_be_key};
use crate::types::Type;

/// The place of a key: a parameter, then fields of records, each by its position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPath {
    /// The position of the parameter.
    pub param: usize,
    /// The positions of the fields inside it.
    pub fields: Vec<usize>,
}

/// A path as people write it: `event.customer.id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyName(Arc<str>);

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{}` is no path to a key; one looks like `event.id`: a parameter, then fields, with dots between", .0.escape_debug())]
pub struct InvalidKeyName(String);

impl FromStr for KeyName {
    type Err = InvalidKeyName;

    fn from_str(text: &str) -> Result<Self, InvalidKeyName> {
        let is_name =
            |name: &str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if text.len() <= 1_000 && text.split('.').all(is_name) {
            return Ok(Self(text.into()));
        }
        Err(InvalidKeyName(text.chars().take(80).collect()))
    }
}

impl fmt::Display for KeyName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why there is no key where the app says it is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key `{path}` of `{function}` in the contract `{contract}` {what}")]
pub struct KeyError {
    /// The contract as the service has it.
    pub contract: String,
    /// The function.
    pub function: Arc<str>,
    /// The path.
    pub path: String,
    /// What is there instead, and what may be.
    pub what: String,
    /// Whether the function just does not have that place: who only handles it need not know it.
    pub is_missing: bool,
}

/// The keys of one contract.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContractKeys {
    /// One path for every function that has no parameter `key`.
    Every(KeyName),
    /// A path for each of some functions.
    Each(BTreeMap<String, KeyName>),
}

/// What an app says about keys. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Keys(Arc<[(ContractId, ContractKeys)]>);

impl FromIterator<(ContractId, ContractKeys)> for Keys {
    fn from_iter<I: IntoIterator<Item = (ContractId, ContractKeys)>>(rules: I) -> Self {
        Self(rules.into_iter().collect())
    }
}

impl Keys {
    /// What is said of a contract: of all its versions when the rule names none, else of those that meet that one.
    fn rule(&self, id: &ContractId) -> Option<&ContractKeys> {
        let of = |rule: &ContractId| if rule.version.is_some() { rule.meets(id) } else { rule.is_named_like(id) };
        // The one with a version says more.
        let mut found: Vec<_> = self.0.iter().filter(|(rule, _)| of(rule)).collect();
        found.sort_by_key(|(rule, _)| rule.version.is_none());
        found.first().map(|(_, keys)| keys)
    }

    /// Where the key of a function's events is; none when they have none.
    ///
    /// # Errors
    /// What the app says leads nowhere, or to a value that cannot be a key.
    pub fn of(&self, id: &ContractId, function: &Function) -> Result<Option<KeyPath>, KeyError> {
        let own = function.key().map(|param| KeyPath { param, fields: Vec::new() });
        let (path, named) = match (self.rule(id), &own) {
            (Some(ContractKeys::Every(path)), None) => (path, false),
            (Some(ContractKeys::Each(paths)), _) => match paths.get(&*function.name) {
                Some(path) => (path, true),
                None => return Ok(own),
            },
            _ => return Ok(own),
        };
        let wrong = |what: String, is_missing| {
            let (contract, function) = (id.to_string(), function.name.clone());
            Err(KeyError { contract, function, path: path.to_string(), what, is_missing })
        };
        if named && own.is_some() {
            return wrong("is not used: the function has a parameter `key`; take the line out".into(), false);
        }
        match resolve(function, path) {
            Ok(found) => Ok(Some(found)),
            Err(Wrong::Missing(what)) if !named => wrong(
                format!("{what}; write `key = {{ FUNCTION = \"PATH\" }}` when functions have it in different places"),
                true,
            ),
            Err(Wrong::Missing(what)) => wrong(what, true),
            Err(Wrong::Unfit(what)) => wrong(what, false),
        }
    }

    /// Whether everything that a service does with contracts has its key where the app says. A handler may do without what
    /// it does not look at.
    ///
    /// # Errors
    /// The first place that is not right.
    pub fn check(&self, uses: &[Use]) -> Result<(), KeyError> {
        for Use { direction, contract } in uses {
            for function in &contract.functions {
                match self.of(&contract.id, function) {
                    Err(error) if !(error.is_missing && *direction == Direction::Handles) => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// What is said of contracts and functions that nobody among these has, in words.
    pub fn unused<'u>(&self, uses: impl IntoIterator<Item = &'u Use>) -> Vec<String> {
        let uses: Vec<&Use> = uses.into_iter().collect();
        let mut unused = Vec::new();
        for (id, rule) in self.0.iter() {
            let of = |used: &&&Use| {
                let other = &used.contract.id;
                if id.version.is_some() { id.meets(other) } else { id.is_named_like(other) }
            };
            let has = |name: Option<&str>| {
                let mut functions = uses
                    .iter()
                    .filter(of)
                    .flat_map(|used| used.contract.functions.iter().map(|function| (&used.contract.id, function)));
                functions.any(|(id, function)| {
                    name.is_none_or(|name| *function.name == *name) && matches!(self.of(id, function), Ok(Some(_)))
                })
            };
            match rule {
                ContractKeys::Every(path) if !has(None) => {
                    unused.push(format!("no service here has the key `{path}` of the contract `{id}`"));
                }
                ContractKeys::Every(_) => {}
                ContractKeys::Each(paths) => {
                    let without = paths.iter().filter(|(name, _)| !has(Some(name)));
                    unused.extend(without.map(|(name, path)| {
                        format!("no service here has the key `{path}` of `{name}` in the contract `{id}`")
                    }));
                }
            }
        }
        unused
    }
}

/// Why a path does not lead to a key.
enum Wrong {
    Missing(String),
    Unfit(String),
}

fn resolve(function: &Function, path: &KeyName) -> Result<KeyPath, Wrong> {
    let mut names = path.0.split('.');
    let first = names.next().unwrap_or_default();
    let Some(param) = function.params.iter().position(|param| *param.name == *first) else {
        let known = function.params.iter().map(|param| &*param.name);
        return Err(Wrong::Missing(format!("is not there: {}", listed("parameters", first, known))));
    };
    let (mut ty, mut fields, mut at) = (&function.params[param].ty, Vec::new(), first.to_owned());
    for name in names {
        let Type::Record(record) = ty else {
            return Err(Wrong::Unfit(format!(
                "leads into `{at}`, a `{ty}`; only records have fields that are always there"
            )));
        };
        let Some(place) = record.fields.iter().position(|field| *field.name == *name) else {
            let known = record.fields.iter().map(|field| &*field.name);
            return Err(Wrong::Missing(format!("is not there: {}", listed(&format!("fields of `{at}`"), name, known))));
        };
        fields.push(place);
        ty = &record.fields[place].ty;
        at = format!("{at}.{name}");
    }
    if !can_be_key(ty) {
        let maybe = if ty.is_optional() { ", and it may be none" } else { "" };
        let wanted = "a key is a string, an integer, a char or an enum";
        return Err(Wrong::Unfit(format!("leads to a `{ty}`{maybe}; {wanted}")));
    }
    Ok(KeyPath { param, fields })
}

fn listed<'n>(what: &str, name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let known: Vec<_> = known.take(20).map(|name| format!("`{name}`")).collect();
    if known.is_empty() {
        return format!("there are no {what}");
    }
    format!("the {what} are {}, not `{name}`", known.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Contract, Param};
    use crate::types::{Field, Record};

    fn function(name: &str, params: &[(&str, Type)]) -> Function {
        let param = |(name, ty): &(&str, Type)| Param { name: (*name).into(), ty: ty.clone() };
        Function { name: name.into(), docs: None, params: params.iter().map(param).collect(), result: None }
    }

    fn record(fields: &[(&str, Type)]) -> Type {
        let field = |(name, ty): &(&str, Type)| Field { name: (*name).into(), docs: None, ty: ty.clone() };
        Type::Record(Arc::new(Record { name: None, docs: None, fields: fields.iter().map(field).collect() }))
    }

    fn id(version: &str) -> ContractId {
        format!("shop:orders/events{version}").parse().unwrap()
    }

    fn every(path: &str) -> Keys {
        [(id(""), ContractKeys::Every(path.parse().unwrap()))].into_iter().collect()
    }

    fn placed() -> Function {
        let customer = record(&[("name", Type::String), ("id", Type::U64)]);
        let note = Type::Option(Arc::new(Type::String));
        function("placed", &[("at", Type::Bool), ("event", record(&[("note", note), ("customer", customer)]))])
    }

    #[test]
    fn a_path_leads_through_records_to_something_that_orders() {
        let found = every("event.customer.id").of(&id("@1.2.0"), &placed()).unwrap();
        assert_eq!(found, Some(KeyPath { param: 1, fields: vec![1, 1] }));
        for (path, says, is_missing) in [
            ("event.note", "leads to a `option<string>`, and it may be none; a key is", false),
            ("event.customer", "leads to a `record { name: string, id: u64 }`; a key is", false),
            ("at.x", "leads into `at`, a `bool`; only records", false),
            (
                "event.customer.number",
                "is not there: the fields of `event.customer` are `name`, `id`, not `number`",
                true,
            ),
            ("order.id", "is not there: the parameters are `at`, `event`, not `order`", true),
        ] {
            let error = every(path).of(&id("@1.0.0"), &placed()).unwrap_err();
            assert!(error.to_string().contains(says), "{error}");
            assert_eq!(error.is_missing, is_missing, "{path}");
        }
        for bad in ["", ".", "a.", "a b", "a..b", "a[0]"] {
            assert!(bad.parse::<KeyName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_parameter_key_goes_first_and_functions_may_differ() {
        let own = function("paid", &[("x", Type::Bool), ("key", Type::String)]);
        let place = Some(KeyPath { param: 1, fields: Vec::new() });
        assert_eq!(every("event.customer.id").of(&id(""), &own).unwrap(), place);
        let each = |function: &str| -> Keys {
            let paths = [(function.to_owned(), "event.customer.name".parse().unwrap())];
            [(id(""), ContractKeys::Each(paths.into_iter().collect()))].into_iter().collect()
        };
        assert_eq!(each("placed").of(&id(""), &own).unwrap(), place);
        assert!(each("paid").of(&id(""), &own).unwrap_err().to_string().contains("has a parameter `key`"));
        assert_eq!(each("placed").of(&id(""), &placed()).unwrap(), Some(KeyPath { param: 1, fields: vec![1, 0] }));
        assert_eq!(each("other").of(&id(""), &placed()).unwrap(), None);
    }

    #[test]
    fn a_version_that_is_named_says_more_than_none() {
        let rules = [("", "event.customer.id"), ("@2.0.0", "event.customer.name")];
        let rule = |(version, path): (&str, &str)| (id(version), ContractKeys::Every(path.parse().unwrap()));
        let keys: Keys = rules.into_iter().map(rule).collect();
        let last = |version: &str| keys.of(&id(version), &placed()).unwrap().unwrap().fields[1];
        assert_eq!((last("@1.0.0"), last("@2.1.0"), last("")), (1, 0, 1));
    }

    #[test]
    fn a_handler_may_do_without_the_key_a_producer_not_and_what_nobody_has_is_told() {
        let used = |direction, function: Function| Use {
            direction,
            contract: Contract { id: id("@1.0.0"), docs: None, functions: vec![function] },
        };
        let narrow = function("placed", &[("at", Type::Bool)]);
        let keys = every("event.customer.id");
        assert!(keys.check(&[used(Direction::Handles, narrow.clone())]).is_ok());
        assert!(keys.check(&[used(Direction::Produces, narrow.clone())]).is_err());
        let says = keys.unused([&used(Direction::Handles, narrow)]);
        assert_eq!(says, ["no service here has the key `event.customer.id` of the contract `shop:orders/events`"]);
        assert!(keys.unused([&used(Direction::Produces, placed())]).is_empty());
        let bad = function("placed", &[("event", record(&[("customer", Type::Bool)]))]);
        assert!(keys.check(&[used(Direction::Handles, bad)]).is_err());
    }
}
