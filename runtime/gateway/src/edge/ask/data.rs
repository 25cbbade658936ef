//! The data of a request, put together from path, query and body.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use busway_contract::{Function, Param, Type};
use http::header::CONTENT_TYPE;
use serde_json::Value;
use serde_json::value::RawValue;

use super::Asked;
use super::value::json;
use crate::edge::EdgeError;
use crate::edge::events::media::is_json;
use crate::edge::problem::{Problem, Refusal};

/// The parameters as JSON, and the key if the function has one.
pub(super) struct Data {
    pub(super) json: String,
    pub(super) key: Option<String>,
}

/// The members that are known so far, as JSON.
struct Members<'f> {
    function: &'f Function,
    members: BTreeMap<Cow<'f, str>, String>,
}

pub(super) fn read(function: &Function, asked: &Asked<'_>) -> Result<Data, Problem> {
    let mut members = Members { function, members: BTreeMap::new() };
    for (name, text) in asked.path {
        // What the function does not have only tells requests apart; `check` warns of it.
        if let Some(param) = members.param(name) {
            members.text(param, &[text], "path")?;
        }
    }
    members.query(asked)?;
    if !asked.body.is_empty() {
        match asked.target.body.as_deref().map(|name| (name, members.param(name))) {
            Some((_, Some(param))) => members.whole(param, asked)?,
            Some((name, None)) => {
                let detail = format!("the route takes its body for `{name}`, which `{}` does not have", function.name);
                return Err(Problem::new(Refusal::Unavailable, detail));
            }
            None => members.object(asked)?,
        }
    }
    Ok(members.finish())
}

impl<'f> Members<'f> {
    fn param(&self, name: &str) -> Option<&'f Param> {
        self.function.params.iter().find(|param| *param.name == *name)
    }

    fn text(&mut self, param: &'f Param, texts: &[&str], place: &str) -> Result<(), Problem> {
        let value = json(&param.ty, texts).map_err(|wanted| {
            let detail = format!("the parameter `{}` in the {place} has to be {wanted}", param.name);
            Problem::new(Refusal::Contract, detail).with("parameter", &*param.name).with("path", &*param.name)
        })?;
        self.put(Cow::Borrowed(&param.name), value)
    }

    fn put(&mut self, name: Cow<'f, str>, value: String) -> Result<(), Problem> {
        if self.members.contains_key(&name) {
            let detail = format!("the parameter `{name}` is there twice; path, query and body may name it once");
            return Err(Problem::invalid(detail).with("parameter", &*name));
        }
        self.members.insert(name, value);
        Ok(())
    }

    fn query(&mut self, asked: &Asked<'_>) -> Result<(), Problem> {
        let mut given: Vec<(Cow<'_, str>, Vec<Cow<'_, str>>)> = Vec::new();
        for (name, text) in url::form_urlencoded::parse(asked.query.unwrap_or_default().as_bytes()) {
            if self.param(&name).is_none() || asked.target.body.as_deref() == Some(&*name) {
                return Err(self.unknown(&name, asked));
            }
            match given.iter_mut().find(|(known, _)| *known == name) {
                Some((_, texts)) => texts.push(text),
                None => given.push((name, vec![text])),
            }
        }
        for (name, texts) in given {
            let Some(param) = self.param(&name) else { return Err(self.unknown(&name, asked)) };
            let texts: Vec<&str> = texts.iter().map(|text| &**text).collect();
            self.text(param, &texts, "query")?;
        }
        Ok(())
    }

    fn unknown(&self, name: &str, asked: &Asked<'_>) -> Problem {
        let known = self.function.params.iter().map(|param| &*param.name);
        let known = known.filter(|name| {
            asked.target.body.as_deref() != Some(name) && !asked.path.iter().any(|(path, _)| **path == **name)
        });
        let known: Vec<_> = known.map(|name| format!("`{name}`")).collect();
        let shown: String = name.chars().take(60).collect();
        let detail = if known.is_empty() {
            format!("the query has `{shown}`, and no parameter is taken from there")
        } else {
            format!("the query has `{shown}`, and may have {}", known.join(", "))
        };
        Problem::invalid(detail).with("parameter", shown)
    }

    /// The body is one parameter alone: JSON, or what its type is made of as it is.
    fn whole(&mut self, param: &'f Param, asked: &Asked<'_>) -> Result<(), Problem> {
        let content_type = asked.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let is_raw = content_type.is_some_and(|kind| !says_nothing(kind) && !is_json(kind));
        let value = match &param.ty {
            Type::Bytes if is_raw => Value::from(STANDARD.encode(asked.body)).to_string(),
            Type::String if is_raw => {
                let text = std::str::from_utf8(asked.body);
                Value::from(text.map_err(|_| Problem::invalid("the body is not UTF-8"))?).to_string()
            }
            _ => {
                check_media(content_type)?;
                let value: &RawValue = serde_json::from_slice(asked.body).map_err(|error| not_json(&error))?;
                value.get().to_owned()
            }
        };
        self.put(Cow::Borrowed(&param.name), value)
    }

    /// The body is an object with a member for each parameter. What the function does not have is refused by the node,
    /// which names the nearest.
    fn object(&mut self, asked: &Asked<'_>) -> Result<(), Problem> {
        check_media(asked.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()))?;
        let members: BTreeMap<String, &RawValue> =
            serde_json::from_slice(asked.body).map_err(|error| not_json(&error))?;
        for (name, value) in members {
            self.put(Cow::Owned(name), value.get().to_owned())?;
        }
        Ok(())
    }

    fn finish(self) -> Data {
        let key = self.function.key().and_then(|place| self.members.get(&*self.function.params[place].name));
        let key = key.map(|value| match serde_json::from_str(value) {
            Ok(Value::String(text)) => text,
            _ => value.clone(),
        });
        let members = self.members.iter().map(|(name, value)| format!("{}:{value}", Value::from(&**name)));
        Data { json: format!("{{{}}}", members.collect::<Vec<_>>().join(",")), key }
    }
}

/// What curl says of any data.
fn says_nothing(content_type: &str) -> bool {
    content_type.starts_with("application/x-www-form-urlencoded")
}

fn check_media(content_type: Option<&str>) -> Result<(), Problem> {
    match content_type {
        Some(kind) if !says_nothing(kind) && !is_json(kind) => {
            let detail = "the body has to be JSON (`Content-Type: application/json`)";
            Err(Problem::new(Refusal::MediaType, detail))
        }
        _ => Ok(()),
    }
}

fn not_json(error: &serde_json::Error) -> Problem {
    Problem::invalid(format!("the body is not the JSON that is taken here: {error}"))
}

/// A refusal of the node, with the parameter in which the wrong place is.
pub(super) fn located(error: EdgeError, function: &Function) -> Problem {
    let path = match &error {
        EdgeError::Invalid { path, .. } => path.clone(),
        _ => None,
    };
    let problem = Problem::from(error);
    let Some(path) = path else { return problem };
    let name = path.split(['.', '[']).next().unwrap_or_default();
    if function.params.iter().any(|param| *param.name == *name) { problem.with("parameter", name) } else { problem }
}
