//! Reading TOML tables so that every mistake is noted with its place.
//!
//! Role: typed access to a parsed table. A reader never stops at a mistake: it notes it, gives none, and goes on, so
//! that all are told at once. Invariant: every value given back is within the bounds the caller asked for.

use std::cell::RefCell;
use std::fmt::Display;
use std::ops::{Range, RangeInclusive};
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

use super::error::Finding;
use super::units::{format_bytes, format_duration, parse_bytes, parse_duration};

/// The text being read and what is wrong with it so far.
pub(super) struct Document<'a> {
    path: &'a Path,
    text: &'a str,
    findings: RefCell<Vec<Finding>>,
    /// Lines, from 1, that no message may show.
    hidden: RefCell<Vec<RangeInclusive<usize>>>,
}

impl<'a> Document<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        Self { path, text, findings: RefCell::new(Vec::new()), hidden: RefCell::new(Vec::new()) }
    }

    pub(super) fn note(&self, span: Range<usize>, problem: String, help: Option<String>) {
        self.findings.borrow_mut().push(Finding::new(self.path, self.text, span, problem, help));
    }

    /// Keeps the lines of a place out of all messages: there is a secret in them.
    pub(super) fn hide(&self, span: &Range<usize>) {
        let line = |at: usize| self.text.bytes().take(at).filter(|byte| *byte == b'\n').count() + 1;
        self.hidden.borrow_mut().push(line(span.start)..=line(span.end));
    }

    /// What is wrong, in the order of the text.
    pub(super) fn into_findings(self) -> Vec<Finding> {
        let mut findings = self.findings.into_inner();
        let hidden = self.hidden.into_inner();
        for finding in findings.iter_mut().filter(|f| hidden.iter().any(|lines| lines.contains(&f.line))) {
            finding.hide();
        }
        findings.sort_by_key(|finding| (finding.line, finding.column));
        findings
    }
}

/// The nearest of `known` to `given`, if one is near enough to be meant.
pub(super) fn nearest<'k>(given: &str, known: impl IntoIterator<Item = &'k str>) -> Option<&'k str> {
    let given = given.to_ascii_lowercase().replace('_', "-");
    let near = known.into_iter().map(|word| (strsim::damerau_levenshtein(&given, word), word));
    near.min().filter(|(distance, word)| *distance <= (word.len() / 3).max(1)).map(|(_, word)| word)
}

/// How a kind of value is called in messages.
fn kind(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "an integer",
        DeValue::Float(_) => "a float",
        DeValue::Boolean(_) => "a boolean",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}

/// One table of the document.
pub(super) struct Table<'a> {
    pub(super) document: &'a Document<'a>,
    /// How it is called in messages, such as `[services.stock]`.
    pub(super) name: String,
    pub(super) span: Range<usize>,
    entries: &'a DeTable<'a>,
}

impl<'a> Table<'a> {
    /// The table; keys that are not `known` are noted.
    pub(super) fn new(
        document: &'a Document<'a>,
        name: String,
        span: Range<usize>,
        table: &'a DeTable<'a>,
        known: &[&str],
    ) -> Self {
        for key in table.keys() {
            let word = key.get_ref().as_ref();
            if !known.contains(&word) {
                let help = match nearest(word, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", known.join(", ")),
                };
                document.note(key.span(), format!("unknown key `{word}` in {name}"), Some(help));
            }
        }
        Self { document, name, span, entries: table }
    }

    fn value(&self, key: &str) -> Option<&'a Spanned<DeValue<'a>>> {
        self.entries.get(key)
    }

    /// The place of a key's value, or of the table.
    pub(super) fn place(&self, key: &str) -> Range<usize> {
        self.value(key).map_or_else(|| self.span.clone(), Spanned::span)
    }

    /// The place of a key itself, or of the table.
    pub(super) fn key_place(&self, key: &str) -> Range<usize> {
        let found = self.entries.keys().find(|k| k.get_ref().as_ref() == key);
        found.map_or_else(|| self.span.clone(), Spanned::span)
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.value(key).is_some()
    }

    /// Whether a key's value is a table.
    pub(super) fn is_table(&self, key: &str) -> bool {
        self.value(key).is_some_and(|value| value.get_ref().as_table().is_some())
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (&'a str, Range<usize>, &'a Spanned<DeValue<'a>>)> {
        self.entries.iter().map(|(key, value)| (key.get_ref().as_ref(), key.span(), value))
    }

    pub(super) fn note(&self, key: &str, problem: impl Display) {
        self.document.note(self.place(key), format!("{problem}"), None);
    }

    fn mistyped(&self, key: &str, value: &Spanned<DeValue<'_>>, wanted: &str, help: Option<String>) {
        let problem = format!("`{key}` in {} is {}; expected {wanted}", self.name, kind(value.get_ref()));
        self.document.note(value.span(), problem, help);
    }

    pub(super) fn string(&self, key: &str) -> Option<&'a str> {
        let value = self.value(key)?;
        let text = value.get_ref().as_str();
        if text.is_none() {
            self.mistyped(key, value, "a string", quoted(value.get_ref()));
        }
        text
    }

    pub(super) fn boolean(&self, key: &str) -> Option<bool> {
        let value = self.value(key)?;
        let boolean = value.get_ref().as_bool();
        if boolean.is_none() {
            self.mistyped(key, value, "true or false", None);
        }
        boolean
    }

    /// A string that `T` can be read from.
    pub(super) fn parsed<T: FromStr>(&self, key: &str) -> Option<T>
    where
        T::Err: Display,
    {
        self.string(key)?.parse().map_err(|e| self.note(key, e)).ok()
    }

    /// One of some words.
    pub(super) fn word<T: Copy>(&self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let text = self.string(key)?;
        let found = words.iter().find(|(word, _)| *word == text);
        if found.is_none() {
            let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let help = nearest(text, known.iter().copied()).map(|near| format!("did you mean `{near}`?"));
            let shown: String = text.chars().take(40).collect();
            let problem = format!("`{shown}` is not a value of `{key}`; expected `{}`", known.join("`, `"));
            self.document.note(self.place(key), problem, help);
        }
        found.map(|(_, value)| *value)
    }

    pub(super) fn integer(&self, key: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?;
        let Some(integer) = value.get_ref().as_integer() else {
            self.mistyped(key, value, "a whole number", None);
            return None;
        };
        let number = i128::from_str_radix(&integer.as_str().replace('_', ""), integer.radix()).ok();
        let found = number.and_then(|n| u64::try_from(n).ok()).filter(|n| bounds.contains(n));
        if found.is_none() {
            let shown = number.map_or_else(|| integer.as_str().to_owned(), |n| n.to_string());
            self.out_of_bounds(key, &shown, &bounds.start().to_string(), &bounds.end().to_string());
        }
        found
    }

    pub(super) fn bytes(&self, key: &str, bounds: RangeInclusive<u64>) -> Option<u64> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            let help = Some("write it with its unit, such as \"64MiB\"".to_owned());
            self.mistyped(key, value, "a size", help);
            return None;
        };
        let bytes = parse_bytes(text).map_err(|e| self.note(key, e)).ok()?;
        if !bounds.contains(&bytes) {
            self.out_of_bounds(key, text, &format_bytes(*bounds.start()), &format_bytes(*bounds.end()));
            return None;
        }
        Some(bytes)
    }

    pub(super) fn duration(&self, key: &str, bounds: RangeInclusive<Duration>) -> Option<Duration> {
        let value = self.value(key)?;
        let Some(text) = value.get_ref().as_str() else {
            let help = Some("write it with its unit, such as \"200ms\"".to_owned());
            self.mistyped(key, value, "a duration", help);
            return None;
        };
        let duration = parse_duration(text).map_err(|e| self.note(key, e)).ok()?;
        if !bounds.contains(&duration) {
            self.out_of_bounds(key, text, &format_duration(*bounds.start()), &format_duration(*bounds.end()));
            return None;
        }
        Some(duration)
    }

    fn out_of_bounds(&self, key: &str, found: &str, least: &str, most: &str) {
        let problem = format!("`{key}` in {} is {found}; {least} to {most} are allowed", self.name);
        self.document.note(self.place(key), problem, None);
    }

    fn array(&self, key: &str, wanted: &str, help: Option<String>) -> Option<&'a DeArray<'a>> {
        let value = self.value(key)?;
        let array = value.get_ref().as_array();
        if array.is_none() {
            self.mistyped(key, value, wanted, help);
        }
        array
    }

    /// A list of strings that `T` can be read from; what cannot is noted and left out.
    pub(super) fn list<T: FromStr>(&self, key: &str) -> Option<Vec<T>>
    where
        T::Err: Display,
    {
        let help = self.value(key).and_then(|v| v.get_ref().as_str()).map(|text| format!("write [\"{text}\"]"));
        let array = self.array(key, "a list of strings", help)?;
        let mut list = Vec::new();
        for item in array {
            match item.get_ref().as_str() {
                Some(text) => match text.parse() {
                    Ok(parsed) => list.push(parsed),
                    Err(error) => self.document.note(item.span(), format!("{error}"), None),
                },
                None => self.mistyped(key, item, "a list of strings", quoted(item.get_ref())),
            }
        }
        Some(list)
    }

    /// A list of tables.
    pub(super) fn tables(&self, key: &str, known: &[&str]) -> Vec<Table<'a>> {
        let Some(array) = self.array(key, "a list of tables", None) else { return Vec::new() };
        let mut tables = Vec::new();
        for item in array {
            match item.get_ref().as_table() {
                Some(table) => {
                    let name = format!("`{key}` of {}", self.name);
                    tables.push(Table::new(self.document, name, item.span(), table, known));
                }
                None => self.mistyped(key, item, "a list of tables", None),
            }
        }
        tables
    }

    /// A table whose keys the operator chooses.
    pub(super) fn names(&self, key: &str) -> Option<Table<'a>> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.mistyped(key, value, "a table", None);
            return None;
        };
        Some(Self { document: self.document, name: format!("[{key}]"), span: value.span(), entries: table })
    }

    /// A table within this one.
    pub(super) fn table(&self, key: &str, name: String, known: &[&str]) -> Option<Table<'a>> {
        let value = self.value(key)?;
        let Some(table) = value.get_ref().as_table() else {
            self.mistyped(key, value, "a table", None);
            return None;
        };
        Some(Table::new(self.document, name, value.span(), table, known))
    }

    /// A table whose keys the operator chooses; its values are strings.
    pub(super) fn strings(&self, key: &str) -> std::collections::BTreeMap<String, String> {
        let mut strings = std::collections::BTreeMap::new();
        let Some(value) = self.value(key) else { return strings };
        let Some(table) = value.get_ref().as_table() else {
            self.mistyped(key, value, "a table of strings", None);
            return strings;
        };
        for (name, item) in table {
            match item.get_ref().as_str() {
                Some(text) => {
                    strings.insert(name.get_ref().to_string(), text.to_owned());
                }
                None => self.mistyped(name.get_ref(), item, "a string", quoted(item.get_ref())),
            }
        }
        strings
    }
}

/// How a plain value would look as a string.
fn quoted(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::Integer(n) => Some(format!("write \"{}\"", n.as_str())),
        DeValue::Float(n) => Some(format!("write \"{}\"", n.as_str())),
        DeValue::Boolean(b) => Some(format!("write \"{b}\"")),
        _ => None,
    }
}
