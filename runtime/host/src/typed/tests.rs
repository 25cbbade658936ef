//! The mapping between values and JSON.

use std::sync::Arc;

use busway_contract::compare::{Verdict, compare_functions};
use busway_contract::testing::{Random, change, generate, sample};
use busway_contract::{Case, Enum, Field, Flags, Function, KeyPath, Label, Param, Record, Type, Variant};
use busway_types::{Entropy, Outcome, SplitMix};
use wasmtime::component::Val;

use super::failure::{outcome, refused};
use super::mismatch::Mismatch;
use super::read::{Unknown, check, check_with_key, read_into};
use super::write::{write, write_params};
use crate::capability::Refusal;

fn label(name: &str) -> Label {
    Label { name: name.into(), docs: None }
}

fn field(name: &str, ty: Type) -> Field {
    Field { name: name.into(), docs: None, ty }
}

fn case(name: &str, ty: Option<Type>) -> Case {
    Case { name: name.into(), docs: None, ty }
}

fn record(fields: Vec<Field>) -> Type {
    Type::Record(Record { name: None, docs: None, fields }.into())
}

fn variant(cases: Vec<Case>) -> Type {
    Type::Variant(Variant { name: None, docs: None, cases }.into())
}

fn enumeration(names: &[&str]) -> Type {
    Type::Enum(Enum { name: None, docs: None, cases: names.iter().map(|name| label(name)).collect() }.into())
}

fn flags(names: &[&str]) -> Type {
    Type::Flags(Flags { name: None, docs: None, flags: names.iter().map(|name| label(name)).collect() }.into())
}

fn option(of: Type) -> Type {
    Type::Option(Arc::new(of))
}

fn json(ty: &Type, val: &Val) -> String {
    let mut out = Vec::new();
    write(ty, val, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn read_bytes(ty: &Type, json: &[u8]) -> Result<Val, String> {
    let params = [Param { name: "v".into(), ty: ty.clone() }];
    let whole = [b"{\"v\":", json, b"}"].concat();
    let mut arguments = Vec::new();
    let read = read_into(&params, &whole, &mut arguments, usize::MAX);
    read.map(|_| arguments.remove(0)).map_err(|mismatch| mismatch.to_string())
}

fn read(ty: &Type, json: &str) -> Result<Val, String> {
    read_bytes(ty, json.as_bytes())
}

/// Every type with a value and the JSON of it, as the README ("Typed events as JSON") tells.
#[test]
fn each_type_is_written_as_documented() {
    let text = |text: &str| Val::String(text.into());
    let some = |val: Val| Val::Option(Some(Box::new(val)));
    let of = |ty: Type| Some(Arc::new(ty));
    let line = || record(vec![field("sku", Type::String), field("note", option(Type::String))]);
    for (ty, val, wanted) in [
        (Type::Bool, Val::Bool(true), "true"),
        (Type::S8, Val::S8(-128), "-128"),
        (Type::U64, Val::U64(u64::MAX), "18446744073709551615"),
        (Type::S64, Val::S64(i64::MIN), "-9223372036854775808"),
        (Type::F32, Val::Float32(0.1), "0.1"),
        (Type::F64, Val::Float64(1e300), "1e300"),
        (Type::F64, Val::Float64(f64::NAN), r#""NaN""#),
        (Type::F64, Val::Float64(f64::INFINITY), r#""Infinity""#),
        (Type::F32, Val::Float32(f32::NEG_INFINITY), r#""-Infinity""#),
        (Type::F64, Val::Float64(-0.0), "-0.0"),
        (Type::Char, Val::Char('ü'), r#""ü""#),
        (Type::String, text("a\"\n\u{1}"), r#""a\"\n\u0001""#),
        (Type::Bytes, Val::List(vec![Val::U8(255), Val::U8(0)]), r#""/wA=""#),
        (Type::List(Arc::new(Type::U8)), Val::List(vec![Val::U8(1), Val::U8(2)]), "[1,2]"),
        (
            Type::FixedList(Arc::new(Type::Bool), 2),
            Val::FixedLengthList(vec![Val::Bool(true), Val::Bool(false)]),
            "[true,false]",
        ),
        (
            Type::Map(Arc::new(Type::String), Arc::new(Type::U8)),
            Val::Map(vec![(text("a"), Val::U8(1)), (text("a"), Val::U8(2))]),
            r#"[["a",1],["a",2]]"#,
        ),
        (option(Type::U8), Val::Option(None), "null"),
        (option(Type::U8), some(Val::U8(7)), "7"),
        (option(option(Type::U8)), Val::Option(None), "null"),
        (option(option(Type::U8)), some(Val::Option(None)), r#"{"some":null}"#),
        (option(option(Type::U8)), some(some(Val::U8(7))), r#"{"some":7}"#),
        (Type::Result(of(Type::U8), None), Val::Result(Ok(Some(Box::new(Val::U8(1))))), r#"{"ok":1}"#),
        (Type::Result(of(Type::U8), None), Val::Result(Err(None)), r#"{"err":null}"#),
        (Type::Tuple(vec![Type::U8, Type::String].into()), Val::Tuple(vec![Val::U8(1), text("x")]), r#"[1,"x"]"#),
        (
            line(),
            Val::Record(vec![("sku".into(), text("a")), ("note".into(), Val::Option(None))]),
            r#"{"sku":"a","note":null}"#,
        ),
        (variant(vec![case("a", None)]), Val::Variant("a".into(), None), r#""a""#),
        (
            variant(vec![case("a", None), case("b", Some(Type::U8))]),
            Val::Variant("b".into(), Some(Box::new(Val::U8(3)))),
            r#"{"b":3}"#,
        ),
        (enumeration(&["x", "y"]), Val::Enum("y".into()), r#""y""#),
        (flags(&["r", "w"]), Val::Flags(vec!["r".into(), "w".into()]), r#"["r","w"]"#),
    ] {
        assert_eq!(json(&ty, &val), wanted);
        assert_eq!(read(&ty, wanted).unwrap(), val, "{wanted}");
    }
}

#[test]
fn what_others_may_write_is_taken() {
    let line = record(vec![field("sku", Type::String), field("note", option(Type::String))]);
    let whole = Val::Record(vec![("sku".into(), Val::String("a".into())), ("note".into(), Val::Option(None))]);
    for (ty, given, val) in [
        (&line, r#"{"sku":"a"}"#, whole.clone()),
        (&line, r#" { "note" : null , "sku" : "\u0061" } "#, whole.clone()),
        (&line, r#"{"sku":"a","new":{"deep":[1,{}]}}"#, whole),
        (&Type::U64, r#""18446744073709551615""#, Val::U64(u64::MAX)),
        (&Type::S8, r#""-1""#, Val::S8(-1)),
        (&Type::U8, "2.0", Val::U8(2)),
        (&Type::U32, "1e3", Val::U32(1000)),
        (&Type::F64, "1", Val::Float64(1.0)),
        (&Type::F32, "9007199254740993", Val::Float32(9_007_199_254_740_992.0)),
        (&Type::F64, r#""NaN""#, Val::Float64(f64::NAN)),
        (&option(Type::F64), "null", Val::Option(None)),
        (&Type::Char, r#""\ud83d\ude00""#, Val::Char('😀')),
        (&variant(vec![case("a", None)]), r#"{"a":null}"#, Val::Variant("a".into(), None)),
    ] {
        assert_eq!(read(ty, given).as_ref(), Ok(&val), "{given}");
    }
}

/// What is told of a value alone, told of the parameter `v`.
fn under_v(told: &str) -> String {
    match told.strip_prefix('`') {
        _ if told.starts_with("it is not") => told.to_owned(),
        Some(rest) if rest.starts_with('[') => format!("`v{rest}"),
        Some(rest) => format!("`v.{rest}"),
        None => format!("`v`: {told}"),
    }
}

#[test]
fn what_does_not_fit_is_told_with_its_place() {
    let line = record(vec![field("sku", Type::String), field("quantity", Type::U32)]);
    let order = record(vec![field("id", Type::String), field("lines", Type::List(Arc::new(line)))]);
    let shapes = variant(vec![case("circle", Some(Type::F64)), case("point", None)]);
    for (ty, given, wanted) in [
        (
            &order,
            r#"{"id":"1","lines":[{"sku":"a","quantity":1},{"sku":"b","quantity":"three"}]}"#,
            "`lines[1].quantity`: expected an integer from 0 to 4294967295 (u32), got \"three\"",
        ),
        (
            &order,
            r#"{"id":"1","lines":[{"sku":"a"}]}"#,
            "`lines[0].quantity`: expected an integer from 0 to 4294967295 (u32), got nothing",
        ),
        (&order, r#"{"id":"1","id":"2","lines":[]}"#, "expected each member once, got a member `id`"),
        (&order, r#"{"id":"1","lines":[]"#, "it is not valid JSON: EOF while parsing an object at line 1 column 26"),
        (&order, r"[]", "expected an object (`id`, `lines`), got an array"),
        (&Type::U8, "256", "expected an integer from 0 to 255 (u8), got 256"),
        (&Type::U8, "1.5", "expected an integer from 0 to 255 (u8), got 1.5"),
        (
            &Type::U64,
            "18446744073709551616",
            "expected an integer from 0 to 18446744073709551615 (u64), got 18446744073709552000",
        ),
        (
            &Type::S64,
            r#""+1""#,
            "expected an integer from -9223372036854775808 to 9223372036854775807 (s64), got \"+1\"",
        ),
        (&Type::F64, "1e999", "expected a number (f64), \"NaN\", \"Infinity\" or \"-Infinity\", got 1e999"),
        (&Type::F32, "1e39", "expected a number (f32), \"NaN\", \"Infinity\" or \"-Infinity\", got 1e39"),
        (&Type::F64, r#""1.5""#, "expected a number (f64), \"NaN\", \"Infinity\" or \"-Infinity\", got \"1.5\""),
        (&Type::Char, r#""ab""#, "expected a string of one character (char), got \"ab\""),
        (&Type::Bytes, r#""%%%""#, "expected a string of base64 (list<u8>), got \"%%%\""),
        (&shapes, r#""square""#, "expected one of `circle`, `point`, got \"square\""),
        (
            &shapes,
            r#"{"circle":"x"}"#,
            "`circle`: expected a number (f64), \"NaN\", \"Infinity\" or \"-Infinity\", got \"x\"",
        ),
        (&shapes, r#""circle""#, "expected {\"circle\": f64}, since that case carries a value, got \"circle\""),
        (&shapes, r#"{"point":1}"#, "`point`: expected null, since that case carries no value, got 1"),
        (
            &shapes,
            r#"{"circle":1,"point":null}"#,
            "expected an object with one member, here `circle`, got a member `point`",
        ),
        (&flags(&["r"]), r#"["r","r"]"#, "expected each flag once, got \"r\""),
        (&Type::Tuple(vec![Type::U8, Type::U8].into()), "[1]", "expected an array of exactly 2 elements, got 1"),
        (&Type::FixedList(Arc::new(Type::U8), 2), "[1,2,3]", "expected an array of exactly 2 elements, got 3"),
        (&option(option(Type::U8)), "7", "expected null or {\"some\": option<u8>}, got 7"),
        (&Type::String, r#""\ud800""#, "it is not valid JSON: unexpected end of hex escape at line 1 column 13"),
    ] {
        assert_eq!(read(ty, given).unwrap_err(), under_v(wanted), "{given}");
    }
    let bad = read_bytes(&Type::String, b"\"\xff\"").unwrap_err();
    assert!(bad.starts_with("it is not valid JSON: invalid unicode code point"), "{bad}");
    let deep = format!("{{\"x\":{}{},\"id\":\"1\",\"lines\":[]}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(read(&order, &deep).is_ok(), "however deep an unknown member is, it is passed over");
}

#[test]
fn unknown_members_are_refused_when_somebody_wrote_them_by_hand() {
    let params =
        [Param { name: "id".into(), ty: Type::String }, Param { name: "note".into(), ty: option(Type::String) }];
    let given = br#"{"id":"1","noet":"x"}"#;
    assert_eq!(check(&params, given, Unknown::Ignore), Ok(()));
    let told = check(&params, given, Unknown::Refuse).unwrap_err().to_string();
    assert_eq!(told, "expected one of `id`, `note`, got a member `noet`");
    let told = check(&params, b"7", Unknown::Refuse).unwrap_err().to_string();
    assert_eq!(told, "expected an object, got 7");
}

/// Empty objects of a record that has only optional fields are short in JSON and long in memory.
#[test]
fn json_that_would_unfold_to_too_many_values_is_refused() {
    let fields = (0..100).map(|n| field(&format!("f{n}"), option(Type::U8))).collect();
    let params = [Param { name: "list".into(), ty: Type::List(Arc::new(record(fields))) }];
    let given = format!("{{\"list\":[{}{{}}]}}", "{},".repeat(20_000));
    let mut arguments = Vec::new();
    let told = read_into(&params, given.as_bytes(), &mut arguments, usize::MAX).unwrap_err().to_string();
    assert!(told.contains("at most 1000000 values in one event"), "{told}");
}

#[test]
fn the_key_is_found_in_the_data_by_its_type() {
    let key = |ty: Type, data: &str| {
        let param = |name: &str, ty: Type| Param { name: name.into(), ty };
        let params = vec![param("other", option(Type::U8)), param("key", ty)];
        let function = Function { name: "f".into(), docs: None, params, result: None };
        let path = function.key().map(|param| KeyPath { param, fields: Vec::new() });
        check_with_key(&function.params, path.as_ref(), data.as_bytes(), Unknown::Refuse).unwrap()
    };
    assert_eq!(key(Type::String, r#"{"key":"a\u0062"}"#).as_deref(), Some("ab"));
    assert_eq!(key(Type::String, r#"{"key":""}"#), None);
    assert_eq!(key(Type::U64, r#"{"key":"7","other":1}"#).as_deref(), Some("7"));
    assert_eq!(key(Type::Char, r#"{"key":"x"}"#).as_deref(), Some("x"));
    assert_eq!(key(enumeration(&["red"]), r#"{"key":"red"}"#).as_deref(), Some("red"));
    assert_eq!(key(Type::Bool, r#"{"key":true}"#), None, "nothing to order by");
}

#[test]
fn the_key_is_found_inside_records_where_the_app_says() {
    let event = record(vec![field("note", option(Type::String)), field("id", Type::U64)]);
    let params = [Param { name: "at".into(), ty: Type::Bool }, Param { name: "event".into(), ty: event }];
    let path = KeyPath { param: 1, fields: vec![1] };
    let data = r#"{"event":{"id":7},"at":true}"#;
    assert_eq!(check_with_key(&params, Some(&path), data.as_bytes(), Unknown::Refuse), Ok(Some("7".into())));
}

#[test]
fn values_take_no_more_memory_than_there_is_room_and_what_is_written_over_takes_none() {
    const ROOM: usize = 100_000;
    let options = (0..99).map(|n| field(&format!("a-rather-long-name-{n}"), option(Type::U8))).collect();
    let param = |ty: Type| [Param { name: "x".into(), ty }];
    let records = param(Type::List(record(options).into()));
    let bytes = param(Type::Bytes);
    let (objects, base64) = (vec!["{}"; 1_000].join(","), "A".repeat(4 * 1_000));
    for (params, given) in [
        (&records, format!(r#"{{"x":[{objects}]}}"#)),
        (&bytes, format!(r#"{{"x":"{base64}"}}"#)),
        (&param(Type::String), format!(r#"{{"x":"{}"}}"#, "x".repeat(2 * ROOM))),
    ] {
        let mut arguments = Vec::new();
        let told = read_into(params, given.as_bytes(), &mut arguments, ROOM).unwrap_err().to_string();
        assert!(told.contains("values that fit into what is left of the service's `memory`, got more"), "{told}");
        let made = read_into(params, given.as_bytes(), &mut Vec::new(), usize::MAX).unwrap();
        assert!(made > ROOM, "{made}");
    }
    // Checking counts as reading does.
    let many = format!(r#"{{"x":[{}]}}"#, vec!["{}"; 20_000].join(","));
    let told = read_into(&records, many.as_bytes(), &mut Vec::new(), usize::MAX).unwrap_err();
    assert_eq!(check(&records, many.as_bytes(), Unknown::Refuse), Err(told));
    let mut arguments = Vec::new();
    let few = br#"{"x":[{},{}]}"#;
    let made = read_into(&records, few, &mut arguments, ROOM).unwrap();
    assert!((8_000..40_000).contains(&made), "{made}");
    assert_eq!(read_into(&records, few, &mut arguments, ROOM).unwrap(), 0);
}

#[test]
fn whatever_json_is_given_for_whatever_type_it_is_told_with_its_place() {
    let choice = variant(vec![case("empty", None), case("full", Some(Type::U8))]);
    let types = [
        Type::Bool,
        Type::U8,
        Type::F64,
        Type::Char,
        Type::String,
        Type::Bytes,
        Type::List(Type::Bool.into()),
        Type::FixedList(Type::Bool.into(), 2),
        Type::Map(Type::String.into(), Type::U8.into()),
        option(Type::Bool),
        option(option(Type::Bool)),
        Type::Result(None, Some(Type::Bool.into())),
        Type::Tuple(vec![Type::Bool, Type::U8].into()),
        record(vec![field("a", Type::Bool)]),
        choice,
        enumeration(&["red"]),
        Type::Flags(Flags { name: None, docs: None, flags: vec![label("read")] }.into()),
    ];
    let values =
        ["true", "7", "-1.5", "\"x!\"", "null", "[5]", "[null,[]]", "[[]]", "[[1,2,3]]", "{}", r#"{"z":1,"y":2}"#];
    for ty in types {
        let params = [Param { name: "x".into(), ty: ty.clone() }];
        for value in values {
            if let Err(error) = check(&params, format!("{{\"x\":{value}}}").as_bytes(), Unknown::Refuse) {
                assert!(
                    matches!(&error, Mismatch::Type { path, .. } if path.starts_with('x')),
                    "{ty} from {value}: {error}"
                );
            }
        }
    }
    let flags = Type::Flags(Flags { name: None, docs: None, flags: vec![label("read")] }.into());
    let told = check(&[Param { name: "x".into(), ty: flags }], br#"{"x":["read",5]}"#, Unknown::Refuse);
    assert_eq!(told.unwrap_err().to_string(), "`x[1]`: expected a string, got 5");
}

fn below(random: &mut SplitMix, bound: u64) -> u64 {
    random.next_u64() % bound
}

fn some_type(random: &mut SplitMix, depth: u32) -> Type {
    let inner = |random: &mut SplitMix| some_type(random, depth - 1);
    match below(random, if depth == 0 { 15 } else { 25 }) {
        0 => Type::Bool,
        1 => Type::S8,
        2 => Type::U8,
        3 => Type::S16,
        4 => Type::U16,
        5 => Type::S32,
        6 => Type::U32,
        7 => Type::S64,
        8 => Type::U64,
        9 => Type::F32,
        10 => Type::F64,
        11 => Type::Char,
        12 => Type::String,
        13 => enumeration(&["one", "two", "some", "ok"]),
        14 => flags(&["a", "b", "c"]),
        15 => Type::Bytes,
        16 => match inner(random) {
            Type::U8 => Type::Bytes,
            of => Type::List(of.into()),
        },
        17 => Type::FixedList(inner(random).into(), below(random, 4) as u32 + 1),
        18 => Type::Map(Type::String.into(), inner(random).into()),
        19 | 20 => option(inner(random)),
        21 => {
            let mut side = || (below(random, 3) > 0).then(|| Arc::new(inner(random)));
            Type::Result(side(), side())
        }
        22 => Type::Tuple((0..=below(random, 3)).map(|_| inner(random)).collect()),
        23 => record((0..=below(random, 5)).map(|n| field(&format!("field-{n}"), inner(random))).collect()),
        _ => variant(
            (0..=below(random, 3)).map(|n| case(&format!("case-{n}"), (n > 0).then(|| inner(random)))).collect(),
        ),
    }
}

fn some_text(random: &mut SplitMix) -> String {
    (0..below(random, 6)).filter_map(|_| char::from_u32(below(random, 0x1_1000) as u32)).collect()
}

fn some_value(random: &mut SplitMix, ty: &Type) -> Val {
    let bits = random.next_u64();
    let boxed = |random: &mut SplitMix, ty: &Option<Arc<Type>>| ty.as_ref().map(|ty| Box::new(some_value(random, ty)));
    match ty {
        Type::Bool => Val::Bool(bits & 1 == 0),
        Type::S8 => Val::S8(bits as i8),
        Type::U8 => Val::U8(bits as u8),
        Type::S16 => Val::S16(bits as i16),
        Type::U16 => Val::U16(bits as u16),
        Type::S32 => Val::S32(bits as i32),
        Type::U32 => Val::U32(bits as u32),
        Type::S64 => Val::S64(bits.cast_signed()),
        Type::U64 => Val::U64(bits),
        Type::F32 => Val::Float32(f32::from_bits(bits as u32)),
        Type::F64 => Val::Float64(f64::from_bits(bits)),
        Type::Char => Val::Char(char::from_u32(bits as u32 & 0xffff).unwrap_or('x')),
        Type::String => Val::String(some_text(random)),
        Type::Bytes => Val::List((0..bits % 9).map(|_| Val::U8(random.next_u64() as u8)).collect()),
        Type::List(of) => Val::List((0..bits % 4).map(|_| some_value(random, of)).collect()),
        Type::FixedList(of, length) => Val::FixedLengthList((0..*length).map(|_| some_value(random, of)).collect()),
        Type::Map(key, value) => {
            Val::Map((0..bits % 4).map(|_| (some_value(random, key), some_value(random, value))).collect())
        }
        Type::Option(of) => Val::Option((bits & 1 == 0).then(|| Box::new(some_value(random, of)))),
        Type::Result(ok, _) if bits & 1 == 0 => Val::Result(Ok(boxed(random, ok))),
        Type::Result(_, err) => Val::Result(Err(boxed(random, err))),
        Type::Tuple(of) => Val::Tuple(of.iter().map(|ty| some_value(random, ty)).collect()),
        Type::Record(record) => {
            let field = |field: &Field| (field.name.to_string(), some_value(random, &field.ty));
            Val::Record(record.fields.iter().map(field).collect())
        }
        Type::Variant(variant) => {
            let case = &variant.cases[(bits % variant.cases.len() as u64) as usize];
            Val::Variant(case.name.to_string(), case.ty.as_ref().map(|ty| Box::new(some_value(random, ty))))
        }
        Type::Enum(cases) => Val::Enum(cases.cases[(bits % cases.cases.len() as u64) as usize].name.to_string()),
        Type::Flags(flags) => {
            let set = flags.flags.iter().enumerate().filter(|(place, _)| bits >> place & 1 == 1);
            Val::Flags(set.map(|(_, flag)| flag.name.to_string()).collect())
        }
    }
}

/// Values of random types, several of each type into the same arguments: value -> JSON -> value is the identity.
#[test]
fn values_survive_json_whatever_their_type_is() {
    for seed in 0..3_000 {
        let mut random = SplitMix(seed);
        let params: Vec<_> = (0..=below(&mut random, 3))
            .map(|n| Param { name: format!("param-{n}").into(), ty: some_type(&mut random, 4) })
            .collect();
        let mut arguments = Vec::new();
        for round in 0..4 {
            let values: Vec<_> = params.iter().map(|param| some_value(&mut random, &param.ty)).collect();
            let mut written = Vec::new();
            write_params(&params, &values, &mut written).unwrap();
            let text = String::from_utf8_lossy(&written);
            serde_json::from_slice::<serde_json::Value>(&written).expect("valid JSON");
            assert_eq!(check(&params, &written, Unknown::Refuse), Ok(()), "seed {seed}, round {round}: {text}");
            read_into(&params, &written, &mut arguments, usize::MAX).unwrap();
            assert_eq!(arguments, values, "seed {seed}, round {round}: {text}");
        }
    }
}

/// What the comparison of contracts calls compatible, the reader reads: random types, changed at random, with values of the
/// sender's type.
#[test]
fn what_is_called_compatible_is_read() {
    let function = |ty: &Type| {
        let params = vec![Param { name: "x".into(), ty: ty.clone() }];
        Function { name: "f".into(), docs: None, params, result: None }
    };
    let mut compatible = 0;
    for seed in 0..4_000 {
        let mut random = Random(seed);
        let sent = generate(&mut random, 4);
        let taken = change(&sent, &mut random);
        if compare_functions(&function(&sent), &function(&taken)).verdict == Verdict::Incompatible {
            continue;
        }
        compatible += 1;
        for _ in 0..5 {
            let data = serde_json::json!({ "x": sample(&sent, &mut random) }).to_string();
            let read = check(&function(&taken).params, data.as_bytes(), Unknown::Ignore);
            assert_eq!(read, Ok(()), "seed {seed}: {sent} to {taken}: {data}");
        }
    }
    assert!(compatible > 1_000, "only {compatible}");
}

#[test]
fn errors_of_handlers_and_refusals_of_producers_follow_the_cases_of_the_type() {
    let function = |error: Option<Type>| Function {
        name: "f".into(),
        docs: None,
        params: Vec::new(),
        result: Some(Type::Result(None, error.map(Arc::new))),
    };
    let failure = variant(vec![case("retry", Some(Type::U32)), case("reject", Some(Type::String)), case("odd", None)]);
    let failed =
        |error: Option<Type>, val: Option<Val>| outcome(&function(error), Some(&Val::Result(Err(val.map(Box::new)))));
    let of = |name: &str, payload: Option<Val>| Some(Val::Variant(name.into(), payload.map(Box::new)));
    let ms = std::time::Duration::from_millis;
    let retry = |reason: &str, after| Outcome::Retry { reason: reason.into(), after };
    assert_eq!(outcome(&function(None), Some(&Val::Result(Ok(None)))), Outcome::Acked);
    assert_eq!(failed(None, None), retry("the handler returned an error", None));
    let asked = failed(Some(failure.clone()), of("retry", Some(Val::U32(70))));
    assert_eq!(asked, retry("the handler asks to be called again in 70 ms", Some(ms(70))));
    let rejected = failed(Some(failure.clone()), of("reject", Some(Val::String("no".into()))));
    assert_eq!(rejected, Outcome::Rejected { reason: "no".into() });
    assert_eq!(failed(Some(failure.clone()), of("odd", None)), retry("the handler returned the error \"odd\"", None));
    let words = enumeration(&["retry", "reject", "other"]);
    let word = |word: &str| failed(Some(words.clone()), Some(Val::Enum(word.into())));
    assert!(
        matches!(word("retry"), Outcome::Retry { after: None, .. })
            && matches!(word("reject"), Outcome::Rejected { .. })
    );

    let (full, denied) = (Refusal::Overloaded("full".into()), Refusal::Denied("no".into()));
    let told = |error: Option<Type>, refusal: &Refusal| match refused(&function(error), refusal) {
        Some(Val::Result(Err(error))) => Some(error.map(|error| *error)),
        _ => None,
    };
    assert_eq!(told(None, &full), Some(None));
    assert_eq!(told(Some(Type::String), &full), Some(Some(Val::String("full".into()))));
    assert_eq!(told(Some(failure.clone()), &full), Some(of("retry", Some(Val::U32(1_000)))));
    assert_eq!(told(Some(failure), &denied), Some(of("reject", Some(Val::String("no".into())))));
    assert_eq!(told(Some(words), &denied), Some(Some(Val::Enum("reject".into()))));
    assert_eq!(told(Some(Type::U8), &full), None, "no room for it: the call traps");
    let silent = Function { name: "f".into(), docs: None, params: Vec::new(), result: None };
    assert_eq!(refused(&silent, &full), None);
}

/// Whatever the bytes are, the answer is a value, and checking says the same as reading.
#[test]
fn damaged_json_is_answered_alike_by_checking_and_reading() {
    let mut refused = 0;
    for seed in 0..3_000 {
        let mut random = SplitMix(seed);
        let params = [Param { name: "value".into(), ty: some_type(&mut random, 3) }];
        let values = [some_value(&mut random, &params[0].ty)];
        let mut written = Vec::new();
        write_params(&params, &values, &mut written).unwrap();
        for _ in 0..3 {
            let place = below(&mut random, written.len() as u64) as usize;
            written[place] = b"{}[],:\"0-enx\\\xff "[below(&mut random, 15) as usize];
        }
        let mut arguments = Vec::new();
        let read = read_into(&params, &written, &mut arguments, usize::MAX);
        assert_eq!(check(&params, &written, Unknown::Ignore), read.clone().map(drop), "seed {seed}");
        refused += usize::from(read.is_err());
    }
    assert!(refused > 1_000, "only {refused}");
}
