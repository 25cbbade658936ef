//! JSON Schemas of types: what their values look like as they travel.
//!
//! Named types become definitions, everything else is written where it is used. Objects are open, because a reader ignores
//! what it does not know; a variant's object has exactly one member. 64-bit integers may also be decimal strings, for those
//! whose numbers are floats.

use serde_json::{Map, Value, json};

use super::names::Names;
use crate::model::{Function, Param};
use crate::types::{Docs, Enum, Flags, Label, Record, Type, Variant};

/// The version of JSON Schema to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dialect {
    /// For `AsyncAPI`: tuples are written differently, and nothing may stand beside a reference.
    Draft7,
    /// For everything else.
    Draft2020,
}

/// Schemas with the definitions that they refer to.
#[derive(Debug)]
pub(super) struct Schemas {
    dialect: Dialect,
    root: &'static str,
    names: Names,
    /// The definitions, by name.
    pub(super) definitions: Map<String, Value>,
}

impl Schemas {
    /// No definitions yet; `root` is what a reference to one begins with.
    pub(super) fn new(dialect: Dialect, root: &'static str) -> Self {
        Self { dialect, root, names: Names::default(), definitions: Map::new() }
    }

    /// The data of an event or request: an object with a member for each parameter.
    pub(super) fn data(&mut self, title: &str, function: &Function) -> Value {
        let mut schema = self.params(title, &function.params);
        if let (Value::Object(schema), docs) = (&mut schema, &function.docs) {
            describe(schema, docs);
        }
        schema
    }

    /// An object with a member for each of some parameters.
    pub(super) fn params<'p>(&mut self, title: &str, params: impl IntoIterator<Item = &'p Param>) -> Value {
        let mut schema = self.object(params.into_iter().map(|param| (&*param.name, &param.ty, &None)));
        insert(&mut schema, "title", title.into());
        Value::Object(schema)
    }

    /// A type where it is used.
    pub(super) fn of(&mut self, ty: &Type) -> Value {
        let Some(name) = ty.name() else { return Value::Object(self.content(ty)) };
        let (name, new) = self.names.of(name, ty);
        if new {
            let mut content = self.content(ty);
            insert(&mut content, "title", name.as_str().into());
            self.definitions.insert(name.clone(), content.into());
        }
        json!({ "$ref": format!("{}{name}", self.root) })
    }

    fn object<'t>(&mut self, members: impl Iterator<Item = (&'t str, &'t Type, &'t Docs)>) -> Map<String, Value> {
        let (mut properties, mut required) = (Map::new(), Vec::new());
        for (name, ty, docs) in members {
            if !ty.is_optional() {
                required.push(name.into());
            }
            let schema = self.of(ty);
            properties.insert(name.to_owned(), self.with_docs(schema, docs));
        }
        let mut schema = Map::new();
        insert(&mut schema, "type", "object".into());
        insert(&mut schema, "properties", properties.into());
        if !required.is_empty() {
            insert(&mut schema, "required", Value::Array(required));
        }
        schema
    }

    fn with_docs(&self, schema: Value, docs: &Docs) -> Value {
        let Some(docs) = docs else { return schema };
        match schema {
            Value::Object(schema) if self.dialect == Dialect::Draft7 && schema.contains_key("$ref") => {
                json!({ "allOf": [schema], "description": &**docs })
            }
            Value::Object(mut schema) => {
                insert(&mut schema, "description", (**docs).into());
                schema.into()
            }
            other => other,
        }
    }

    fn content(&mut self, ty: &Type) -> Map<String, Value> {
        let schema = match ty {
            Type::Bool => json!({ "type": "boolean" }),
            Type::S8 => integer("int8", i8::MIN, i8::MAX),
            Type::U8 => integer("uint8", u8::MIN, u8::MAX),
            Type::S16 => integer("int16", i16::MIN, i16::MAX),
            Type::U16 => integer("uint16", u16::MIN, u16::MAX),
            Type::S32 => integer("int32", i32::MIN, i32::MAX),
            Type::U32 => integer("uint32", u32::MIN, u32::MAX),
            Type::S64 => long("int64", i64::MIN, i64::MAX, "^(0|-?[1-9][0-9]{0,18})$"),
            Type::U64 => long("uint64", u64::MIN, u64::MAX, "^(0|[1-9][0-9]{0,19})$"),
            Type::F32 => float("float"),
            Type::F64 => float("double"),
            Type::Char => json!({ "type": "string", "minLength": 1, "maxLength": 1 }),
            Type::String => json!({ "type": "string" }),
            Type::Bytes => json!({ "type": "string", "contentEncoding": "base64" }),
            Type::List(of) => json!({ "type": "array", "items": self.of(of) }),
            Type::FixedList(of, length) => {
                json!({ "type": "array", "items": self.of(of), "minItems": length, "maxItems": length })
            }
            Type::Map(key, value) => {
                let pair = self.tuple(&[Type::clone(key), Type::clone(value)]);
                json!({ "type": "array", "items": pair })
            }
            Type::Option(of) if of.is_optional() => {
                let some = one_member("some", self.of(of));
                json!({ "anyOf": [some, { "type": "null" }] })
            }
            Type::Option(of) => json!({ "anyOf": [self.of(of), { "type": "null" }] }),
            Type::Result(ok, err) => {
                let mut side = |name: &str, ty: Option<&Type>| {
                    let null = || json!({ "type": "null" });
                    let inner = ty.map_or_else(null, |ty| self.of(ty));
                    one_member(name, inner)
                };
                json!({ "oneOf": [side("ok", ok.as_deref()), side("err", err.as_deref())] })
            }
            Type::Tuple(of) => self.tuple(of),
            Type::Record(record) => return self.record(record),
            Type::Variant(variant) => return self.variant(variant),
            Type::Enum(cases) => return enumeration(cases),
            Type::Flags(flags) => return self::flags(flags),
        };
        match schema {
            Value::Object(schema) => schema,
            _ => Map::new(),
        }
    }

    fn tuple(&mut self, of: &[Type]) -> Value {
        let (places, length): (Vec<_>, _) = (of.iter().map(|ty| self.of(ty)).collect(), of.len());
        let mut schema = json!({ "type": "array", "minItems": length, "maxItems": length });
        match self.dialect {
            Dialect::Draft7 => {
                schema["items"] = places.into();
                schema["additionalItems"] = false.into();
            }
            Dialect::Draft2020 => {
                schema["prefixItems"] = places.into();
                schema["items"] = false.into();
            }
        }
        schema
    }

    fn record(&mut self, record: &Record) -> Map<String, Value> {
        let mut schema = self.object(record.fields.iter().map(|field| (&*field.name, &field.ty, &field.docs)));
        describe(&mut schema, &record.docs);
        schema
    }

    fn variant(&mut self, variant: &Variant) -> Map<String, Value> {
        let mut cases = Vec::with_capacity(variant.cases.len());
        for case in &variant.cases {
            let schema = match &case.ty {
                None => json!({ "const": &*case.name }),
                Some(ty) => one_member(&case.name, self.of(ty)),
            };
            cases.push(self.with_docs(schema, &case.docs));
        }
        let mut schema = Map::new();
        insert(&mut schema, "oneOf", Value::Array(cases));
        describe(&mut schema, &variant.docs);
        schema
    }
}

fn integer<T: Into<i64>>(format: &str, low: T, high: T) -> Value {
    json!({ "type": "integer", "format": format, "minimum": low.into(), "maximum": high.into() })
}

fn long<T: Into<Value>>(format: &str, low: T, high: T, pattern: &str) -> Value {
    let (low, high): (Value, Value) = (low.into(), high.into());
    json!({ "type": ["integer", "string"], "format": format, "minimum": low, "maximum": high, "pattern": pattern })
}

fn float(format: &str) -> Value {
    json!({ "anyOf": [{ "type": "number", "format": format }, { "enum": ["NaN", "Infinity", "-Infinity"] }] })
}

/// An object that has this member and no other.
fn one_member(name: &str, schema: Value) -> Value {
    json!({ "type": "object", "properties": { name: schema }, "required": [name], "additionalProperties": false })
}

fn enumeration(of: &Enum) -> Map<String, Value> {
    let mut schema = Map::new();
    insert(&mut schema, "type", "string".into());
    insert(&mut schema, "enum", of.cases.iter().map(|case| Value::from(&*case.name)).collect());
    describe(&mut schema, &with_labels(&of.docs, &of.cases));
    schema
}

fn flags(of: &Flags) -> Map<String, Value> {
    let names: Value = of.flags.iter().map(|flag| Value::from(&*flag.name)).collect();
    let mut schema = Map::new();
    insert(&mut schema, "type", "array".into());
    insert(&mut schema, "items", json!({ "type": "string", "enum": names }));
    insert(&mut schema, "uniqueItems", true.into());
    describe(&mut schema, &with_labels(&of.docs, &of.flags));
    schema
}

/// What is said about a type, with what is said about each of its labels.
fn with_labels(docs: &Docs, labels: &[Label]) -> Docs {
    let of = |label: &Label| label.docs.as_ref().map(|docs| format!("- `{}`: {}", label.name, docs.replace('\n', " ")));
    let lines: Vec<_> = labels.iter().filter_map(of).collect();
    if lines.is_empty() {
        return docs.clone();
    }
    let before = docs.as_ref().map_or_else(String::new, |docs| format!("{docs}\n\n"));
    Some(format!("{before}{}", lines.join("\n")).into())
}

fn describe(schema: &mut Map<String, Value>, docs: &Docs) {
    if let Some(docs) = docs {
        insert(schema, "description", (**docs).into());
    }
}

fn insert(schema: &mut Map<String, Value>, name: &str, value: Value) {
    schema.insert(name.to_owned(), value);
}
