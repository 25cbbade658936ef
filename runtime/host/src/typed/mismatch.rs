//! What is told when JSON does not fit a type: where, what was expected, what was given.

use std::borrow::Cow;
use std::fmt::{self, Write as _};

use busway_contract::Type;

/// Characters of a given value that are told.
const GIVEN_CHARS: usize = 60;

/// Names that are listed when one of several was expected.
const LISTED: usize = 12;

/// Why the data of an event does not fit its function.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Mismatch {
    /// It is JSON, but not of the right type.
    #[error("{}expected {expected}, got {given}", place(path))]
    Type {
        /// Where, for example `event.lines[3].quantity`; empty for the data as a whole.
        path: String,
        /// What would fit.
        expected: String,
        /// What was there; cut off when it is long.
        given: String,
    },
    /// It is no JSON.
    #[error("it is not valid JSON: {0}")]
    Json(String),
}

fn place(path: &str) -> String {
    if path.is_empty() { String::new() } else { format!("`{path}`: ") }
}

/// What is known of a mismatch on the way out of the value.
#[derive(Debug, Default)]
pub(super) struct Trail {
    found: Option<(String, String)>,
    /// From the innermost step to the outermost.
    steps: Vec<String>,
}

impl Trail {
    pub(super) fn begin(&mut self, expected: String, given: String) {
        self.found = Some((expected, given));
        self.steps.clear();
    }

    pub(super) fn step(&mut self, step: String) {
        self.steps.push(step);
    }

    /// What to tell; without a mismatch it was the JSON itself.
    pub(super) fn into_mismatch(self, error: &serde_json::Error) -> Mismatch {
        match self.found {
            Some((expected, given)) => {
                let path: String = self.steps.into_iter().rev().collect();
                Mismatch::Type { path: path.trim_start_matches('.').to_owned(), expected, given }
            }
            None => Mismatch::Json(error.to_string()),
        }
    }
}

/// What was there instead.
pub(super) enum Given<'a> {
    Bool(bool),
    Number(&'a dyn fmt::Display),
    Text(&'a str),
    /// As it stands in the JSON.
    Json(&'a str),
    Member(&'a str),
    Count(usize),
    Words(&'a str),
}

impl fmt::Display for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Number(value) => write!(f, "{value}"),
            Self::Text(text) => write!(f, "\"{}\"", cut(text).escape_debug()),
            // What steers a terminal is escaped, quotes are not.
            Self::Json(text) => cut(text).chars().try_for_each(|c| match c {
                '"' | '\'' | '\\' => f.write_char(c),
                c => write!(f, "{}", c.escape_debug()),
            }),
            Self::Member(name) => write!(f, "a member `{}`", cut(name).escape_debug()),
            Self::Count(count) => write!(f, "{count}"),
            Self::Words(words) => f.write_str(words),
        }
    }
}

fn cut(text: &str) -> Cow<'_, str> {
    match text.char_indices().nth(GIVEN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// What a type wants, in words.
pub(super) fn expected(ty: &Type) -> String {
    match ty {
        Type::Bool => "true or false".into(),
        Type::S8 => range("s8", i8::MIN, i8::MAX),
        Type::U8 => range("u8", u8::MIN, u8::MAX),
        Type::S16 => range("s16", i16::MIN, i16::MAX),
        Type::U16 => range("u16", u16::MIN, u16::MAX),
        Type::S32 => range("s32", i32::MIN, i32::MAX),
        Type::U32 => range("u32", u32::MIN, u32::MAX),
        Type::S64 => range("s64", i64::MIN, i64::MAX),
        Type::U64 => range("u64", u64::MIN, u64::MAX),
        Type::F32 => "a number (f32), \"NaN\", \"Infinity\" or \"-Infinity\"".into(),
        Type::F64 => "a number (f64), \"NaN\", \"Infinity\" or \"-Infinity\"".into(),
        Type::Char => "a string of one character (char)".into(),
        Type::String => "a string".into(),
        Type::Bytes => "a string of base64 (list<u8>)".into(),
        Type::List(of) => format!("an array (list<{of}>)"),
        Type::FixedList(of, length) => format!("an array of {length} elements (list<{of}, {length}>)"),
        Type::Map(key, value) => format!("an array of [key, value] pairs (map<{key}, {value}>)"),
        Type::Option(of) if matches!(**of, Type::Option(_)) => format!("null or {{\"some\": {of}}}"),
        Type::Option(of) => format!("{} or null", expected(of)),
        Type::Result(ok, err) => {
            let side =
                |ty: &Option<_>| ty.as_ref().map_or("null".to_owned(), |ty: &std::sync::Arc<Type>| ty.to_string());
            format!("{{\"ok\": {}}} or {{\"err\": {}}}", side(ok), side(err))
        }
        Type::Tuple(of) => format!("an array of {} elements ({ty})", of.len()),
        Type::Record(record) => {
            let name = record.name.as_ref().map_or(String::new(), |name| format!("{name}: "));
            let fields = record.fields.iter().map(|field| &*field.name);
            format!("an object ({name}{})", list(fields))
        }
        Type::Variant(variant) => among(variant.cases.iter().map(|case| &*case.name)),
        Type::Enum(cases) => among(cases.cases.iter().map(|case| &*case.name)),
        Type::Flags(flags) => format!("an array of flags ({})", list(flags.flags.iter().map(|flag| &*flag.name))),
    }
}

fn range<T: fmt::Display>(name: &str, least: T, most: T) -> String {
    format!("an integer from {least} to {most} ({name})")
}

/// One of several names.
pub(super) fn among<'a>(names: impl Iterator<Item = &'a str>) -> String {
    format!("one of {}", list(names))
}

fn list<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    let mut text = names.iter().take(LISTED).map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    if names.len() > LISTED {
        let _ = write!(text, " and {} more", names.len() - LISTED);
    }
    text
}
