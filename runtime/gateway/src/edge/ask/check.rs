//! What is wrong with a route, told when it is read and not when somebody asks.

use std::sync::Arc;

use busway_contract::{Contract, Function, Kind, Type};
use http::Method;

use super::reply::ANY;
use super::target::RequestTarget;
use super::value::is_textual;
use crate::edge::RouteConfig;

/// What does not fit between a route and the contracts that run; nothing about a function that is not among them.
pub(crate) fn problems(route: &RouteConfig, target: &RequestTarget, contracts: &[Arc<Contract>]) -> Vec<String> {
    let name = &target.function;
    let Some((_, function)) = name.find(contracts) else { return not_found(target, contracts) };
    let mut told = Vec::new();
    let params = &function.params;
    for path in path_params(&route.path) {
        match params.iter().find(|param| *param.name == *path) {
            None => told.push(format!("`{name}` has no parameter `{path}`, which the path `{}` names", route.path)),
            Some(param) if !is_textual(&param.ty, false) => {
                told.push(format!("`{path}` is a {} and cannot be in the path", param.ty));
            }
            Some(_) => {}
        }
    }
    if let Some(body) = &target.body
        && !params.iter().any(|param| *param.name == **body)
    {
        told.push(format!("`{name}` has no parameter `{body}`, which is to be the body"));
    }
    for param in params {
        let in_path = path_params(&route.path).any(|path| *path == *param.name);
        let is_body = target.body.as_deref() == Some(&*param.name);
        let has_object = target.body.is_none() && takes_body(route);
        if !in_path && !is_body && !has_object && !param.ty.is_optional() && !is_textual(&param.ty, true) {
            told.push(format!(
                "`{}` is a {}, which cannot be in a query; write `body = \"{}\"` and a method such as POST",
                param.name, param.ty, param.name
            ));
        }
    }
    told.extend(cases(target, function));
    told
}

fn takes_body(route: &RouteConfig) -> bool {
    !matches!(route.method, Some(Method::GET | Method::HEAD))
}

/// The names of the parameters in the path of a route.
pub(crate) fn path_params(path: &str) -> impl Iterator<Item = &str> {
    let inner = path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    inner.map(|name| name.strip_prefix('*').unwrap_or(name))
}

fn not_found(target: &RequestTarget, contracts: &[Arc<Contract>]) -> Vec<String> {
    let name = &target.function;
    let is_event = |contract: &&Arc<Contract>| {
        let function = contract.function(&name.function);
        contract.id.is_named_like(&name.contract) && function.is_some_and(|function| function.kind() == Kind::Event)
    };
    match contracts.iter().find(is_event) {
        None => Vec::new(),
        Some(contract) => {
            let topic = contract.id.topic(&name.function).map_or_else(|_| "TOPIC".to_owned(), |t| t.to_string());
            vec![format!("`{name}` is an event, which has no answer; it is published with POST /events/{topic}")]
        }
    }
}

/// Cases in `errors` that the function does not have.
fn cases(target: &RequestTarget, function: &Function) -> Vec<String> {
    let known: Vec<&str> = match &function.result {
        Some(Type::Result(_, Some(error))) => match &**error {
            Type::Variant(variant) => variant.cases.iter().map(|case| &*case.name).collect(),
            Type::Enum(cases) => cases.cases.iter().map(|case| &*case.name).collect(),
            _ => Vec::new(),
        },
        _ => Vec::new(),
    };
    let strange = target.errors.keys().filter(|case| ***case != *ANY && !known.contains(&&***case));
    let list = if known.is_empty() { "it has no named ones; `*` is all of them".to_owned() } else { known.join(", ") };
    strange.map(|case| format!("`{}` has no error `{case}`: {list}", target.function)).collect()
}
