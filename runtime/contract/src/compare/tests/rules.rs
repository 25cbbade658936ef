//! The rules one by one, the text, and the pairs of an app.

use std::sync::Arc;

use super::super::{Change, Comparison, Verdict, compare, pairings};
use crate::{Case, Contract, Direction, Enum, Field, Flags, Function, Label, Param, Record, Type, Use, Variant};

fn of(ty: Type) -> Arc<Type> {
    Arc::new(ty)
}

fn option(ty: Type) -> Type {
    Type::Option(of(ty))
}

fn list(ty: Type) -> Type {
    Type::List(of(ty))
}

fn record(fields: &[(&str, Type)]) -> Type {
    let field = |(name, ty): &(&str, Type)| Field { name: (*name).into(), docs: None, ty: ty.clone() };
    Type::Record(Arc::new(Record { name: None, docs: None, fields: fields.iter().map(field).collect() }))
}

fn variant(cases: &[(&str, Option<Type>)]) -> Type {
    let case = |(name, ty): &(&str, Option<Type>)| Case { name: (*name).into(), docs: None, ty: ty.clone() };
    Type::Variant(Arc::new(Variant { name: None, docs: None, cases: cases.iter().map(case).collect() }))
}

fn labels(names: &[&str]) -> Vec<Label> {
    names.iter().map(|name| Label { name: (*name).into(), docs: None }).collect()
}

fn cases(names: &[&str]) -> Type {
    Type::Enum(Arc::new(Enum { name: None, docs: None, cases: labels(names) }))
}

fn flags(names: &[&str]) -> Type {
    Type::Flags(Arc::new(Flags { name: None, docs: None, flags: labels(names) }))
}

fn function(name: &str, params: &[(&str, Type)], result: Option<Type>) -> Function {
    let param = |(name, ty): &(&str, Type)| Param { name: (*name).into(), ty: ty.clone() };
    Function { name: name.into(), docs: None, params: params.iter().map(param).collect(), result }
}

fn contract(id: &str, functions: Vec<Function>) -> Contract {
    Contract { id: id.parse().unwrap(), docs: None, functions }
}

const ID: &str = "shop:orders/order-events@1.0.0";

fn sides(producer: Function, handler: Function) -> Comparison {
    compare(&contract(ID, vec![producer]), &contract(ID, vec![handler]))
}

/// Places and changes between two types of one parameter.
fn changes(sent: &Type, taken: &Type) -> Vec<(String, Change)> {
    let compared = sides(function("f", &[("x", sent.clone())], None), function("f", &[("x", taken.clone())], None));
    compared.functions[0].differences.iter().map(|found| (found.place.clone(), found.change)).collect()
}

#[track_caller]
fn one(sent: &Type, taken: &Type, place: &str, change: Change) {
    assert_eq!(changes(sent, taken), [(place.to_owned(), change)], "{sent} to {taken}");
}

#[test]
fn integers_go_into_those_that_hold_all_their_values() {
    let types = [Type::S8, Type::U8, Type::S16, Type::U16, Type::S32, Type::U32, Type::S64, Type::U64];
    let fits = |from: usize, to: usize| {
        let (bits, signed) = (from / 2, from.is_multiple_of(2));
        let (room, negative) = (to / 2, to.is_multiple_of(2));
        if signed == negative { bits <= room } else { !signed && bits < room }
    };
    for (from, sent) in types.iter().enumerate() {
        for (to, taken) in types.iter().enumerate() {
            match (from == to, fits(from, to)) {
                (true, _) => assert_eq!(changes(sent, taken), []),
                (_, true) => one(sent, taken, "f(x)", Change::Widened),
                (_, false) => one(sent, taken, "f(x)", Change::Narrowed),
            }
        }
    }
    one(&Type::F32, &Type::F64, "f(x)", Change::Widened);
    one(&Type::F64, &Type::F32, "f(x)", Change::Narrowed);
    one(&Type::U8, &Type::F64, "f(x)", Change::Type);
    one(&Type::Char, &Type::String, "f(x)", Change::Type);
}

#[test]
fn options_are_bridged_once_and_not_nested() {
    let text = || Type::String;
    one(&text(), &option(text()), "f(x)", Change::Wrapped);
    one(&option(text()), &text(), "f(x)", Change::Unwrapped);
    one(&option(text()), &option(option(text())), "f(x)", Change::NestedOption);
    one(&option(option(text())), &option(text()), "f(x)", Change::NestedOption);
    one(&text(), &option(option(text())), "f(x)", Change::NestedOption);
    assert_eq!(changes(&option(option(text())), &option(option(text()))), []);
    let both = changes(&Type::U8, &option(Type::U16));
    assert_eq!(both, [("f(x)".into(), Change::Wrapped), ("f(x)".into(), Change::Widened)]);
    one(&option(Type::U16), &option(Type::U8), "f(x?)", Change::Narrowed);
}

#[test]
fn lists_tuples_and_maps_are_compared_by_what_is_in_them() {
    one(&list(Type::U16), &list(Type::U32), "f(x[])", Change::Widened);
    one(&Type::Bytes, &list(Type::U16), "f(x)", Change::Bytes);
    one(&list(Type::S8), &Type::Bytes, "f(x)", Change::Bytes);
    let fixed = |length| Type::FixedList(of(Type::U8), length);
    one(&fixed(4), &Type::Bytes, "f(x)", Change::Bytes);
    one(&fixed(4), &fixed(5), "f(x)", Change::Length);
    let texts = Type::FixedList(of(Type::String), 2);
    one(&texts, &list(Type::String), "f(x)", Change::AnyLength);
    one(&list(Type::String), &texts, "f(x)", Change::Length);
    let map = |key, value| Type::Map(of(key), of(value));
    one(&map(Type::String, Type::U32), &map(Type::String, Type::U8), "f(x[value])", Change::Narrowed);
    one(&map(Type::U8, Type::U32), &map(Type::String, Type::U32), "f(x[key])", Change::Type);
    let tuple = |types: &[Type]| Type::Tuple(types.into());
    one(&tuple(&[Type::U8, Type::U8]), &tuple(&[Type::U8, Type::String]), "f(x[1])", Change::Type);
    one(&tuple(&[Type::U8, Type::U8]), &tuple(&[Type::U8]), "f(x)", Change::Length);
}

#[test]
fn records_meet_by_the_names_of_their_fields() {
    let old = record(&[("id", Type::String), ("lines", list(record(&[("sku", Type::String)])))]);
    let new =
        record(&[("lines", list(record(&[("sku", Type::String), ("quantity", Type::U32)]))), ("id", Type::String)]);
    assert_eq!(
        changes(&new, &old),
        [("f(x)".into(), Change::Reordered), ("f(x.lines[].quantity)".into(), Change::Ignored)]
    );
    assert_eq!(
        changes(&old, &new),
        [("f(x)".into(), Change::Reordered), ("f(x.lines[].quantity)".into(), Change::Missing)]
    );
    let noted = record(&[("id", Type::String), ("note", option(Type::String))]);
    one(&record(&[("id", Type::String)]), &noted, "f(x.note)", Change::Absent);
}

#[test]
fn the_sender_may_know_fewer_cases_and_flags_but_not_more() {
    one(&cases(&["a", "b"]), &cases(&["a", "b", "c"]), "f(x.c)", Change::NeverSent);
    one(&cases(&["a", "b", "c"]), &cases(&["a", "b"]), "f(x.c)", Change::Unknown);
    one(&cases(&["a", "b"]), &cases(&["b", "a"]), "f(x)", Change::Reordered);
    one(&flags(&["a"]), &flags(&["a", "b"]), "f(x.b)", Change::NeverSent);
    one(&flags(&["a", "b"]), &flags(&["a"]), "f(x.b)", Change::Unknown);
    let known = variant(&[("none", None), ("some", Some(Type::U8))]);
    one(&variant(&[("none", None)]), &known, "f(x.some)", Change::NeverSent);
    one(&known, &variant(&[("none", None)]), "f(x.some)", Change::Unknown);
    one(&known, &variant(&[("none", None), ("some", Some(Type::U16))]), "f(x.some)", Change::Widened);
    one(&known, &variant(&[("none", None), ("some", None)]), "f(x.some)", Change::Payload);
    one(&known, &variant(&[("none", Some(option(Type::U8))), ("some", Some(Type::U8))]), "f(x.none)", Change::Payload);
    let result = |ok: Option<Type>, err: Option<Type>| Type::Result(ok.map(Arc::new), err.map(Arc::new));
    one(&result(Some(Type::U8), None), &result(None, None), "f(x.ok)", Change::Payload);
    one(&result(None, Some(Type::U8)), &result(None, Some(Type::String)), "f(x.err)", Change::Type);
    assert_eq!(changes(&cases(&["a"]), &variant(&[("a", None)])), [("f(x)".into(), Change::Type)]);
}

#[test]
fn parameters_meet_by_name_as_the_members_of_one_object() {
    let sent = function("placed", &[("event", Type::U8), ("key", Type::String)], None);
    let taken = function("placed", &[("key", Type::String), ("event", Type::U8), ("note", option(Type::Bool))], None);
    let compared = sides(sent.clone(), taken.clone());
    assert_eq!(compared.verdict, Verdict::Compatible);
    let found: Vec<_> = compared.functions[0].differences.iter().map(|d| (&*d.place, d.change)).collect();
    assert_eq!(found, [("placed", Change::Reordered), ("placed(note)", Change::Absent)]);
    let back = sides(taken, sent);
    assert_eq!(back.functions[0].differences[1].change, Change::Ignored);
}

#[test]
fn what_an_event_returns_does_not_travel() {
    let result = |err: Option<Type>| Some(Type::Result(None, err.map(Arc::new)));
    for (a, b) in
        [(None, result(None)), (result(Some(Type::String)), result(Some(Type::U8))), (None, result(Some(Type::U8)))]
    {
        assert_eq!(sides(function("f", &[], a), function("f", &[], b)).verdict, Verdict::Same);
    }
}

#[test]
fn the_result_of_a_request_travels_back() {
    let quote =
        |ok: Type| function("quote", &[("id", Type::U32)], Some(Type::Result(Some(of(ok)), Some(of(Type::String)))));
    let compared = sides(quote(Type::U64), quote(Type::U32));
    assert_eq!(compared.verdict, Verdict::Compatible);
    let found = &compared.functions[0].differences[0];
    assert_eq!((&*found.place, found.change, found.answer), ("quote -> result.ok", Change::Widened, true));
    assert_eq!((found.producer.as_deref(), found.handler.as_deref()), (Some("u64"), Some("u32")));
    let compared = sides(quote(Type::U32), quote(Type::U64));
    assert_eq!(compared.verdict, Verdict::Incompatible);
    let found = &compared.functions[0].differences[0];
    assert_eq!(found.mend("shop", "prices").unwrap(), "take a `u64` in shop");
    let event = function("quote", &[("id", Type::U32)], None);
    let compared = sides(event, quote(Type::U32));
    assert_eq!(compared.functions[0].differences[0].change, Change::Kind);
}

#[test]
fn a_diff_says_who_what_where_and_how_to_mend() {
    let order = |total: Type, note: &[(&str, Type)]| {
        let fields = [&[("id", Type::String), ("total-cents", total)], note].concat();
        function("placed", &[("key", Type::String), ("event", record(&fields))], None)
    };
    let reason = function("cancelled", &[("reason", Type::String)], None);
    let producer = contract(ID, vec![order(Type::U64, &[]), reason.clone(), function("returned", &[], None)]);
    let handler = contract(
        "shop:orders/order-events@1.2.0",
        vec![order(Type::U32, &[("note", option(Type::String))]), reason, function("refunded", &[], None)],
    );
    assert_eq!(
        compare(&producer, &handler).diff("checkout", "shipping").to_string(),
        "\
incompatible: shop:orders/order-events@1.0.0 from checkout to shop:orders/order-events@1.2.0 in shipping
  placed: incompatible
    broken  placed(event.total-cents): shipping cannot hold all values that checkout may send
      checkout  u64
      shipping  u32
      to mend: take a `u64` in shipping
    bridged  placed(event.note): checkout does not send it, shipping gets none
      checkout  (nothing)
      shipping  option<string>
  cancelled: same
  not in shipping: returned
  not called by checkout: refunded"
    );
}

#[test]
fn long_diffs_are_cut_and_long_types_shortened() {
    let fields = |what: &str| -> Vec<(String, Type)> { (0..50).map(|n| (format!("{what}-{n}"), Type::U8)).collect() };
    let borrowed = |fields: &[(String, Type)]| {
        record(&fields.iter().map(|(name, ty)| (name.as_str(), ty.clone())).collect::<Vec<_>>())
    };
    let f = |ty: Type| function("f", &[("x", ty)], None);
    let text = sides(f(borrowed(&fields("a"))), f(borrowed(&fields("b")))).diff("p", "h").to_string();
    assert!(text.ends_with("and 70 more"), "{text}");
    let text = sides(f(borrowed(&fields("a"))), f(Type::U8)).diff("p", "h").to_string();
    assert!(text.contains("a-2: u8") && text.contains("..."), "{text}");
    assert!(text.lines().nth(3).unwrap().len() < 115, "{text}");
}

#[test]
fn every_producer_is_compared_with_every_handler_and_the_lonely_are_named() {
    let f = |name: &str| function(name, &[("x", Type::U8)], None);
    let used = |direction, id: &str, names: &[&str]| Use {
        direction,
        contract: contract(id, names.iter().map(|name| f(name)).collect()),
    };
    let (produces, handles) = (Direction::Produces, Direction::Handles);
    let uses = [
        ("checkout", used(produces, "shop:orders/events@1.0.0", &["placed", "returned"])),
        ("till", used(produces, "shop:orders/events@1.1.0", &["placed"])),
        ("shipping", used(handles, "shop:orders/events@1.2.0", &["placed", "cancelled"])),
        ("mail", used(handles, "shop:orders/events@1.0.0", &["placed"])),
        ("books", used(handles, "shop:orders/events@2.0.0", &["placed"])),
        ("stock", used(produces, "shop:stock/events@1.0.0", &["gone"])),
    ];
    let found = pairings(uses.iter().map(|(service, used)| (*service, used)));
    let pairs: Vec<_> = found.pairs.iter().map(|pair| (&*pair.producer, &*pair.handler)).collect();
    let expected = [("checkout", "shipping"), ("checkout", "mail"), ("till", "shipping"), ("till", "mail")];
    assert_eq!(pairs, expected);
    assert_eq!(
        (found.verdict(), found.incompatible().count()),
        (Verdict::Compatible, 0),
        "an event passes a handler by"
    );
    let alone: Vec<_> = found.alone.iter().map(ToString::to_string).collect();
    assert_eq!(
        alone,
        [
            "checkout produces returned of shop:orders/events@1.0.0, and no service handles that; another version is handled \
             by books (shop:orders/events@2.0.0)",
            "shipping handles cancelled of shop:orders/events@1.2.0, and no service produces that",
            "books handles shop:orders/events@2.0.0, and no service produces that; another version is produced by checkout \
             (shop:orders/events@1.0.0), till (shop:orders/events@1.1.0)",
            "stock produces shop:stock/events@1.0.0, and no service handles that",
        ]
    );
}

#[test]
fn comparisons_are_json_for_programs() {
    let f = |ty: Type| function("f", &[("x", ty)], None);
    let value = serde_json::to_value(sides(f(Type::U16), f(Type::U8))).unwrap();
    assert_eq!(
        value,
        serde_json::json!({
            "verdict": "incompatible", "producer": ID, "handler": ID, "only_producer": [], "only_handler": [],
            "functions": [{ "name": "f", "verdict": "incompatible", "differences": [{
                "place": "f(x)", "producer": "u16", "handler": "u8", "change": "narrowed", "answer": false, "bridged": false,
            }] }],
        })
    );
}

#[test]
fn of_two_that_do_not_understand_each_other_the_handler_is_kept_out() {
    let used = |service: &'static str, direction, interface: &str, ty: Type| {
        let contract = contract(&format!("a:b/{interface}@1.0.0"), vec![function("f", &[("x", ty)], None)]);
        (service, Use { direction, contract })
    };
    let (produces, handles) = (Direction::Produces, Direction::Handles);
    let out = |uses: &[(&'static str, Use)]| {
        let found = pairings(uses.iter().map(|(service, used)| (*service, used)));
        let out = found.kept_out();
        out.iter().map(|(service, pairs)| format!("{service} {}", pairs.len())).collect::<Vec<_>>()
    };
    // A producer stays, also when its name comes last and it handles something itself.
    let zeta = [used("zeta", produces, "i", Type::U16), used("zeta", handles, "else", Type::Bool)];
    let (alpha, beta) = (used("alpha", handles, "i", Type::U8), used("beta", handles, "i", Type::U16));
    assert_eq!(out(&[zeta.to_vec(), vec![alpha.clone(), beta]].concat()), ["alpha 1"]);
    // Who is kept out keeps nobody else out.
    let chain = [used("alpha", produces, "j", Type::U64), used("gamma", handles, "j", Type::U8)];
    assert_eq!(out(&[zeta.to_vec(), vec![alpha], chain.to_vec()].concat()), ["alpha 1"]);
    // In a circle one goes, and the other may stay.
    let circle = [
        used("alpha", produces, "i", Type::U16),
        used("alpha", handles, "j", Type::U8),
        used("beta", produces, "j", Type::U16),
        used("beta", handles, "i", Type::U8),
    ];
    assert_eq!(out(&circle), ["beta 1"]);
    let alone = [used("self", produces, "i", Type::U16), used("self", handles, "i", Type::U8)];
    assert_eq!(out(&alone), ["self 1"]);
    assert_eq!(out(&[]), Vec::<String>::new());
}

#[test]
fn a_pair_is_told_in_a_line() {
    let used =
        |direction, ty| Use { direction, contract: contract("a:b/i@1.0.0", vec![function("f", &[("x", ty)], None)]) };
    let line = |taken| {
        let (sent, taken) = (used(Direction::Produces, Type::U16), used(Direction::Handles, taken));
        pairings([("p", &sent), ("h", &taken)]).pairs[0].in_a_line()
    };
    assert_eq!(line(Type::U16), "same: a:b/i@1.0.0 from p to h");
    assert_eq!(line(Type::U32), "compatible: a:b/i@1.0.0 from p to h, 1 difference");
}
