//! The types of values that contracts carry.
//!
//! Role: WIT's value types with names and doc comments, independent of where they were read from. Two types are equal
//! (`==`) if everything including names and docs is; whether two sides understand each other is another question, answered
//! by comparison.

use std::fmt;
use std::sync::Arc;

/// A doc comment; empty where there is none or it is not known.
pub type Docs = Option<Arc<str>>;

/// A type of values. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names are WIT's")]
pub enum Type {
    Bool,
    S8,
    U8,
    S16,
    U16,
    S32,
    U32,
    S64,
    U64,
    F32,
    F64,
    Char,
    String,
    /// `list<u8>`, which has a mapping of its own.
    Bytes,
    List(Arc<Type>),
    /// `list<T, N>`.
    FixedList(Arc<Type>, u32),
    Map(Arc<Type>, Arc<Type>),
    Option(Arc<Type>),
    Result(Option<Arc<Type>>, Option<Arc<Type>>),
    Tuple(Arc<[Type]>),
    Record(Arc<Record>),
    Variant(Arc<Variant>),
    Enum(Arc<Enum>),
    Flags(Arc<Flags>),
}

/// A record. It has at least one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Its name in the WIT; none when it is not known.
    pub name: Option<Arc<str>>,
    /// Its doc comment.
    pub docs: Docs,
    /// The fields, in order.
    pub fields: Vec<Field>,
}

/// A field of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// Its name.
    pub name: Arc<str>,
    /// Its doc comment.
    pub docs: Docs,
    /// Its type.
    pub ty: Type,
}

/// A variant. It has at least one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variant {
    /// Its name in the WIT; none when it is not known.
    pub name: Option<Arc<str>>,
    /// Its doc comment.
    pub docs: Docs,
    /// The cases, in order.
    pub cases: Vec<Case>,
}

/// A case of a variant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// Its name.
    pub name: Arc<str>,
    /// Its doc comment.
    pub docs: Docs,
    /// What it carries.
    pub ty: Option<Type>,
}

/// An enum. It has at least one case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enum {
    /// Its name in the WIT; none when it is not known.
    pub name: Option<Arc<str>>,
    /// Its doc comment.
    pub docs: Docs,
    /// The cases, in order.
    pub cases: Vec<Label>,
}

/// Flags.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Flags {
    /// Their name in the WIT; none when it is not known.
    pub name: Option<Arc<str>>,
    /// Their doc comment.
    pub docs: Docs,
    /// The flags, in order.
    pub flags: Vec<Label>,
}

/// A case of an enum, or a flag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Its name.
    pub name: Arc<str>,
    /// Its doc comment.
    pub docs: Docs,
}

impl Type {
    /// Its name in the WIT, if it is a named type.
    pub fn name(&self) -> Option<&Arc<str>> {
        match self {
            Self::Record(record) => record.name.as_ref(),
            Self::Variant(variant) => variant.name.as_ref(),
            Self::Enum(cases) => cases.name.as_ref(),
            Self::Flags(flags) => flags.name.as_ref(),
            _ => None,
        }
    }

    /// Whether a missing field of this type has a value: none.
    pub fn is_optional(&self) -> bool {
        matches!(self, Self::Option(_))
    }

    /// The types directly inside, in order.
    pub fn inner(&self) -> Vec<&Type> {
        match self {
            Self::List(of) | Self::FixedList(of, _) | Self::Option(of) => vec![of],
            Self::Map(key, value) => vec![key, value],
            Self::Result(ok, err) => ok.iter().chain(err).map(|of| &**of).collect(),
            Self::Tuple(of) => of.iter().collect(),
            Self::Record(record) => record.fields.iter().map(|field| &field.ty).collect(),
            Self::Variant(variant) => variant.cases.iter().filter_map(|case| case.ty.as_ref()).collect(),
            _ => Vec::new(),
        }
    }
}

/// The type as WIT would write it where it is used: a named type by its name, an unnamed one in full.
impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::S8 => f.write_str("s8"),
            Self::U8 => f.write_str("u8"),
            Self::S16 => f.write_str("s16"),
            Self::U16 => f.write_str("u16"),
            Self::S32 => f.write_str("s32"),
            Self::U32 => f.write_str("u32"),
            Self::S64 => f.write_str("s64"),
            Self::U64 => f.write_str("u64"),
            Self::F32 => f.write_str("f32"),
            Self::F64 => f.write_str("f64"),
            Self::Char => f.write_str("char"),
            Self::String => f.write_str("string"),
            Self::Bytes => f.write_str("list<u8>"),
            Self::List(of) => write!(f, "list<{of}>"),
            Self::FixedList(of, length) => write!(f, "list<{of}, {length}>"),
            Self::Map(key, value) => write!(f, "map<{key}, {value}>"),
            Self::Option(of) => write!(f, "option<{of}>"),
            Self::Result(None, None) => f.write_str("result"),
            Self::Result(Some(ok), None) => write!(f, "result<{ok}>"),
            Self::Result(None, Some(err)) => write!(f, "result<_, {err}>"),
            Self::Result(Some(ok), Some(err)) => write!(f, "result<{ok}, {err}>"),
            Self::Tuple(of) => write!(f, "tuple<{}>", list(of.iter())),
            Self::Record(record) => {
                let Some(name) = &record.name else {
                    let fields = record.fields.iter().map(|field| format!("{}: {}", field.name, field.ty));
                    return write!(f, "record {{ {} }}", list(fields));
                };
                f.write_str(name)
            }
            Self::Variant(variant) => {
                let Some(name) = &variant.name else {
                    let cases = variant.cases.iter().map(|case| match &case.ty {
                        Some(ty) => format!("{}({ty})", case.name),
                        None => case.name.to_string(),
                    });
                    return write!(f, "variant {{ {} }}", list(cases));
                };
                f.write_str(name)
            }
            Self::Enum(cases) => match &cases.name {
                Some(name) => f.write_str(name),
                None => write!(f, "enum {{ {} }}", list(cases.cases.iter().map(|case| &case.name))),
            },
            Self::Flags(flags) => match &flags.name {
                Some(name) => f.write_str(name),
                None => write!(f, "flags {{ {} }}", list(flags.flags.iter().map(|flag| &flag.name))),
            },
        }
    }
}

fn list<T: ToString>(of: impl Iterator<Item = T>) -> String {
    of.map(|one| one.to_string()).collect::<Vec<_>>().join(", ")
}
