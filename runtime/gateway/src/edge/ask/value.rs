//! Texts of paths and queries as values of WIT types, in the JSON that they travel in.

use busway_contract::Type;
use serde_json::{Number, Value};

/// Whether values of a type can be written in a path or, with several texts, in a query.
pub(super) fn is_textual(ty: &Type, several: bool) -> bool {
    match ty {
        Type::Option(of) => !of.is_optional() && is_textual(of, several),
        Type::List(of) | Type::FixedList(of, _) => several && is_single(of),
        Type::Flags(_) => several,
        single => is_single(single),
    }
}

fn is_single(ty: &Type) -> bool {
    match ty {
        Type::Variant(variant) => variant.cases.iter().any(|case| case.ty.is_none()),
        Type::List(_)
        | Type::FixedList(..)
        | Type::Map(..)
        | Type::Option(_)
        | Type::Result(..)
        | Type::Tuple(_)
        | Type::Record(_)
        | Type::Flags(_) => false,
        _ => true,
    }
}

/// The JSON of the value that these texts are.
///
/// # Errors
/// What would have been right.
pub(super) fn json(ty: &Type, texts: &[&str]) -> Result<String, String> {
    let each = |of: &Type| {
        let values: Result<Vec<_>, _> = texts.iter().map(|text| single(of, text)).collect();
        values.map(|values| format!("[{}]", values.join(",")))
    };
    match (ty, texts) {
        (Type::Option(of), _) => json(of, texts),
        (Type::List(of), _) => each(of),
        (Type::FixedList(of, length), _) if texts.len() == *length as usize => each(of),
        (Type::FixedList(_, length), _) => Err(format!("{length} values, and got {}", texts.len())),
        (Type::Flags(flags), _) => {
            let known = |text: &&str| flags.flags.iter().any(|flag| *flag.name == **text);
            match texts.iter().find(|text| !known(text)) {
                None => Ok(Value::from(texts).to_string()),
                Some(other) => Err(one_of(flags.flags.iter().map(|flag| &*flag.name), other)),
            }
        }
        (_, [text]) => single(ty, text),
        (_, texts) => Err(format!("one value, and got {}", texts.len())),
    }
}

fn single(ty: &Type, text: &str) -> Result<String, String> {
    match ty {
        Type::Bool => match text {
            "true" | "false" => Ok(text.to_owned()),
            _ => Err(one_of(["true", "false"].into_iter(), text)),
        },
        Type::S8 => integer(ty, text, i8::MIN, i8::MAX),
        Type::U8 => integer(ty, text, u8::MIN, u8::MAX),
        Type::S16 => integer(ty, text, i16::MIN, i16::MAX),
        Type::U16 => integer(ty, text, u16::MIN, u16::MAX),
        Type::S32 => integer(ty, text, i32::MIN, i32::MAX),
        Type::U32 => integer(ty, text, u32::MIN, u32::MAX),
        Type::S64 => integer(ty, text, i64::MIN, i64::MAX),
        Type::U64 => integer(ty, text, u64::MIN, u64::MAX),
        Type::F32 | Type::F64 => match text {
            "NaN" | "Infinity" | "-Infinity" => Ok(quoted(text)),
            // As it stands, so that it is rounded once and by whoever reads it.
            _ if serde_json::from_str::<Number>(text).is_ok() => Ok(text.to_owned()),
            _ => Err(format!("a number, and got `{}`", shown(text))),
        },
        Type::Char if text.chars().count() == 1 => Ok(quoted(text)),
        Type::Char => Err(format!("one character, and got `{}`", shown(text))),
        Type::String | Type::Bytes => Ok(quoted(text)),
        Type::Enum(cases) => named(cases.cases.iter().map(|case| &*case.name), text),
        Type::Variant(variant) => {
            named(variant.cases.iter().filter(|case| case.ty.is_none()).map(|case| &*case.name), text)
        }
        _ => Err(format!("a `{ty}`, which cannot be written here; it belongs into the body")),
    }
}

fn integer<T>(ty: &Type, text: &str, least: T, most: T) -> Result<String, String>
where
    T: std::str::FromStr + std::fmt::Display,
{
    let number: Result<T, _> = text.parse();
    number
        .map(|n| n.to_string())
        .map_err(|_| format!("a whole number from {least} to {most} ({ty}), and got `{}`", shown(text)))
}

fn named<'n>(known: impl Iterator<Item = &'n str> + Clone, text: &str) -> Result<String, String> {
    if known.clone().any(|name| name == text) { Ok(quoted(text)) } else { Err(one_of(known, text)) }
}

fn one_of<'n>(known: impl Iterator<Item = &'n str>, text: &str) -> String {
    let known: Vec<_> = known.take(20).map(|name| format!("`{name}`")).collect();
    format!("one of {}, and got `{}`", known.join(", "), shown(text))
}

fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

fn shown(text: &str) -> String {
    text.chars().take(60).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use busway_contract::{Case, Enum, Flags, Label, Variant};

    fn label(name: &str) -> Label {
        Label { name: name.into(), docs: None }
    }

    fn colours() -> Type {
        Type::Enum(Arc::new(Enum { name: None, docs: None, cases: vec![label("red"), label("dark-blue")] }))
    }

    fn rights() -> Type {
        Type::Flags(Arc::new(Flags { name: None, docs: None, flags: vec![label("read"), label("run")] }))
    }

    fn shape() -> Type {
        let cases = [("dot", Some(Type::U8)), ("nothing", None)];
        let cases = cases.map(|(name, ty)| Case { name: name.into(), docs: None, ty }).into();
        Type::Variant(Arc::new(Variant { name: None, docs: None, cases }))
    }

    #[test]
    fn texts_become_values_of_their_type() {
        let list = |of: Type| Type::List(Arc::new(of));
        let option = |of: Type| Type::Option(Arc::new(of));
        for (ty, texts, value) in [
            (Type::Bool, &["true"][..], "true"),
            (Type::S8, &["-128"], "-128"),
            (Type::U64, &["18446744073709551615"], "18446744073709551615"),
            (Type::F64, &["0.1"], "0.1"),
            (Type::F32, &["1e3"], "1e3"),
            (Type::F32, &["NaN"], "\"NaN\""),
            (Type::Char, &["ü"], "\"ü\""),
            (Type::String, &["a\"b"], "\"a\\\"b\""),
            (Type::String, &[""], "\"\""),
            (Type::Bytes, &["AP8="], "\"AP8=\""),
            (colours(), &["dark-blue"], "\"dark-blue\""),
            (shape(), &["nothing"], "\"nothing\""),
            (rights(), &["run", "read"], r#"["run","read"]"#),
            (list(Type::U16), &["1", "2"], "[1,2]"),
            (Type::FixedList(Arc::new(Type::Bool), 2), &["true", "false"], "[true,false]"),
            (option(Type::U8), &["7"], "7"),
            (option(list(Type::String)), &["x"], "[\"x\"]"),
        ] {
            assert_eq!(json(&ty, texts).as_deref(), Ok(value), "{ty} {texts:?}");
            assert!(is_textual(&ty, true), "{ty}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_what_would() {
        let list = Type::List(Arc::new(Type::U8));
        for (ty, texts, told) in [
            (Type::Bool, &["yes"][..], "one of `true`, `false`, and got `yes`"),
            (Type::U8, &["256"], "a whole number from 0 to 255 (u8), and got `256`"),
            (Type::U8, &["1.0"], "a whole number from 0 to 255 (u8), and got `1.0`"),
            (Type::U8, &["1", "2"], "one value, and got 2"),
            (Type::F64, &["1."], "a number, and got `1.`"),
            (Type::F64, &["inf"], "a number, and got `inf`"),
            (Type::Char, &["ab"], "one character, and got `ab`"),
            (colours(), &["green"], "one of `red`, `dark-blue`, and got `green`"),
            (shape(), &["dot"], "one of `nothing`, and got `dot`"),
            (rights(), &["read", "write"], "one of `read`, `run`, and got `write`"),
            (list.clone(), &["1", "x"], "a whole number from 0 to 255 (u8), and got `x`"),
            (Type::FixedList(Arc::new(Type::U8), 3), &["1"], "3 values, and got 1"),
            (
                Type::List(Arc::new(list)),
                &["1"],
                "a `list<u8>`, which cannot be written here; it belongs into the body",
            ),
        ] {
            assert_eq!(json(&ty, texts), Err(told.to_owned()), "{ty} {texts:?}");
        }
    }
}
