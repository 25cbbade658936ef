//! Comparisons as people read them.

use std::fmt;

use super::{Change, Comparison, Difference, Verdict};
use crate::types::Type;

/// Differences of one function that are printed; the rest is counted.
const SHOWN: usize = 30;

/// How long a type may be in a line.
const WIDTH: usize = 100;

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Same => "same",
            Self::Compatible => "compatible",
            Self::Incompatible => "incompatible",
        })
    }
}

/// A type in a line: a named one with what it is.
pub(super) fn brief(ty: &Type) -> String {
    let what = match ty {
        Type::Record(record) if record.name.is_some() => "record ",
        Type::Variant(variant) if variant.name.is_some() => "variant ",
        Type::Enum(cases) if cases.name.is_some() => "enum ",
        Type::Flags(flags) if flags.name.is_some() => "flags ",
        _ => "",
    };
    shortened(&format!("{what}{ty}"))
}

/// A text that fits in a line.
pub(super) fn shortened(text: &str) -> String {
    if text.chars().count() <= WIDTH {
        return text.to_owned();
    }
    text.chars().take(WIDTH - 3).chain("...".chars()).collect()
}

impl Difference {
    /// What it means, with the names of both services.
    pub fn meaning(&self, producer: &str, handler: &str) -> String {
        let (sender, receiver) = if self.answer { (handler, producer) } else { (producer, handler) };
        match self.change {
            Change::Ignored => format!("{receiver} does not take it and never sees it"),
            Change::Absent => format!("{sender} does not send it, {receiver} gets none"),
            Change::Wrapped => format!("{receiver} always gets some"),
            Change::Widened => "every value fits".into(),
            Change::Reordered => "the order does not matter: values travel by name".into(),
            Change::NeverSent => format!("{sender} does not know it and never sends it"),
            Change::AnyLength => "a list of any length is taken".into(),
            Change::Kind => "an event goes to everybody who handles it, a request waits for one answer".into(),
            Change::Missing => format!("{receiver} needs it, and {sender} does not send it"),
            Change::Narrowed => format!("{receiver} cannot hold all values that {sender} may send"),
            Change::Unwrapped => format!("{receiver} needs a value, and {sender} may send none"),
            Change::NestedOption => "an option in an option is written differently from a single one".into(),
            Change::Unknown => format!("{receiver} does not know it, and {sender} may send it"),
            Change::Payload => "a value on one side only".into(),
            Change::Length => "the lengths have to agree".into(),
            Change::Bytes => "bytes travel as one text, other lists element by element".into(),
            Change::Type => "these types have nothing in common".into(),
        }
    }

    /// How to mend it, with the names of both services; none if there is nothing to mend.
    pub fn mend(&self, producer: &str, handler: &str) -> Option<String> {
        let (sender, receiver) = if self.answer { (handler, producer) } else { (producer, handler) };
        let sent = if self.answer { &self.handler } else { &self.producer };
        let sent = sent.as_deref().unwrap_or_default();
        Some(match self.change {
            Change::Kind => {
                "declare it alike on both sides: no result, `result` or `result<_, E>` for an event, a result with a value \
                 for a request"
                    .into()
            }
            Change::Missing => format!("make it an `option` in {receiver}, or send it from {sender}"),
            Change::Narrowed => format!("take a `{sent}` in {receiver}"),
            Change::Unwrapped => format!("take an `option` in {receiver}"),
            Change::NestedOption => "use as many options on both sides".into(),
            Change::Unknown => format!("add it to {receiver} before {sender} starts to send it"),
            Change::Payload => "let it carry the same on both sides; a case that changes what it carries needs a new name".into(),
            Change::Length => {
                format!("take a `{sent}` in {receiver}; a list without a length, or a record, leaves room to grow")
            }
            Change::Bytes | Change::Type => format!(
                "take a `{sent}` in {receiver}; a field that changes its type needs a new name, or the package a new major \
                 version"
            ),
            _ => return None,
        })
    }
}

/// A comparison with the names of the services, to be printed: a line with the verdict, then a paragraph for each function
/// that differs, then what only one side has.
#[derive(Clone, Copy, Debug)]
pub struct Diff<'c> {
    comparison: &'c Comparison,
    producer: &'c str,
    handler: &'c str,
}

impl Comparison {
    /// The comparison as text, with the names of the services (or files).
    pub fn diff<'c>(&'c self, producer: &'c str, handler: &'c str) -> Diff<'c> {
        Diff { comparison: self, producer, handler }
    }
}

impl fmt::Display for Diff<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { comparison, producer, handler } = *self;
        let Comparison { functions, only_producer, only_handler, .. } = comparison;
        f.write_str(&self.heading())?;
        for function in functions {
            write!(f, "\n  {}: {}", function.name, function.verdict)?;
            // What keeps the sides apart comes first.
            let (bridged, broken): (Vec<_>, Vec<_>) = function.differences.iter().partition(|found| found.bridged);
            broken.iter().chain(&bridged).take(SHOWN).try_for_each(|found| self.difference(found, f))?;
            if let Some(more) = function.differences.len().checked_sub(SHOWN).filter(|more| *more > 0) {
                write!(f, "\n    and {more} more")?;
            }
        }
        if !only_producer.is_empty() {
            write!(f, "\n  not in {handler}: {}", only_producer.join(", "))?;
        }
        if !only_handler.is_empty() {
            write!(f, "\n  not called by {producer}: {}", only_handler.join(", "))?;
        }
        Ok(())
    }
}

impl Diff<'_> {
    /// The first line: the verdict, and who is compared.
    pub(super) fn heading(&self) -> String {
        let Self { comparison: Comparison { verdict, producer: of, handler: to, .. }, producer, handler } = *self;
        if of == to {
            format!("{verdict}: {of} from {producer} to {handler}")
        } else {
            format!("{verdict}: {of} from {producer} to {to} in {handler}")
        }
    }

    fn difference(&self, found: &Difference, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { producer, handler, .. } = *self;
        let mark = if found.bridged { "bridged" } else { "broken" };
        write!(f, "\n    {mark}  {}: {}", found.place, found.meaning(producer, handler))?;
        let nothing = "(nothing)";
        let width = producer.chars().count().max(handler.chars().count());
        write!(f, "\n      {producer:<width$}  {}", found.producer.as_deref().unwrap_or(nothing))?;
        write!(f, "\n      {handler:<width$}  {}", found.handler.as_deref().unwrap_or(nothing))?;
        found.mend(producer, handler).iter().try_for_each(|mend| write!(f, "\n      to mend: {mend}"))
    }
}
