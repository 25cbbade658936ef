//! What is said about files that are, or are not, components.

use busway_host::inspect::{Capability, InspectError, MAX_BYTES, Problem, inspect, read};
use busway_host::{Bus, LinkError, LoadError};
use std::sync::Arc;

use crate::support::{TestBus, component, guest, host, settings};

/// A core module with the exports that a world without imports needs.
fn module(exports: &str) -> String {
    format!(
        r#"(module (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable) {exports})"#
    )
}

fn refusal(bytes: &[u8]) -> String {
    inspect(bytes).expect_err("it was taken").to_string()
}

#[test]
fn a_component_is_described() {
    let found = inspect(guest()).expect("a component");
    assert_eq!(found.to_string(), "handler, task");
    assert_eq!(found.handler.as_deref(), Some("busway:bus/handler@0.1.0"));
    assert!(found.produces() && found.needs(Capability::KeyValue) && !found.needs(Capability::Network));
    assert!(found.core_modules >= 1);
    assert!(found.wit.contains("export busway:bus/handler@0.1.0"), "{}", found.wit);
    assert_eq!(found.problems, []);
}

#[test]
fn files_that_are_no_components_are_told_apart() {
    assert!(matches!(inspect(b""), Err(InspectError::Empty)));
    assert_eq!(
        refusal(b"#!/bin/sh\necho"),
        "this is not WebAssembly: it starts with \"#!/bin/sh\\nec\", not with `\\0asm`"
    );
    assert!(refusal(&[0xde, 0xad, 0xbe]).contains("starts with de ad be"));
    assert!(matches!(inspect(b"\0asm"), Err(InspectError::Truncated { bytes: 4 })));
    let core = wat::parse_str("(module)").unwrap();
    assert!(refusal(&core).contains("wasm-tools component new IN.wasm -o OUT.wasm"));
    let old = wat::parse_str(r#"(module (import "wasi_snapshot_preview1" "fd_write" (func)))"#).unwrap();
    assert!(refusal(&old).contains("--adapt wasi_snapshot_preview1.reactor.wasm"));
}

#[test]
fn every_cut_and_every_flipped_byte_gives_an_answer() {
    let bytes = guest();
    for cut in (8..bytes.len()).step_by(97) {
        assert!(inspect(&bytes[..cut]).map_or(true, |found| !found.problems.is_empty()), "cut at {cut} was taken");
    }
    assert!(matches!(inspect(&bytes[..bytes.len() / 2]), Err(InspectError::Truncated { .. })));
    let mut damaged = bytes.to_vec();
    for index in (8..bytes.len()).step_by(61) {
        damaged[index] ^= 0x55;
        let _ = host().compile("damaged", &damaged);
        damaged[index] ^= 0x55;
    }
}

#[test]
fn a_file_that_is_too_large_is_not_read() {
    let file = tempfile::NamedTempFile::new().unwrap();
    file.as_file().set_len(2 * MAX_BYTES).unwrap();
    assert!(matches!(read(file.path()), Err(InspectError::TooLarge { bytes }) if bytes == 2 * MAX_BYTES));
    assert!(matches!(read(std::path::Path::new("/nowhere")), Err(InspectError::Unreadable(_))));
}

#[test]
fn an_import_that_the_host_does_not_have_is_named_with_the_closest_one() {
    let wit = "package test:guest;
        package busway:bus@0.1.0 { interface key-values { get: func(); } }
        world guest { import busway:bus/key-values@0.1.0; }";
    let wit = wit.replace("busway:bus", "busway:buss");
    let core = r#"(module (import "busway:buss/key-values@0.1.0" "get" (func)))"#;
    let problems = inspect(&component(core, &wit, "guest")).expect("a component").problems;
    assert_eq!(
        problems[0].to_string(),
        "it imports `busway:buss/key-values@0.1.0`, which this host does not have; the closest that it has is \
         `busway:bus/key-value@0.1`"
    );
    assert!(matches!(problems[1], Problem::RunsNothing { .. }));
}

#[test]
fn a_component_that_exports_nothing_we_run_is_told_what_it_exports() {
    let wit = "package test:guest; world guest { export frobnicate: func(); }";
    let bytes = component(&module(r#"(func (export "frobnicate"))"#), wit, "guest");
    let compiled = host().compile("odd", &bytes).expect("it compiles");
    let bus: Arc<dyn Bus> = Arc::new(TestBus::default());
    let error = compiled.link(host(), settings(), bus).expect_err("it was linked");
    assert!(matches!(error, LinkError::Unfit { .. }));
    let text = error.to_string();
    assert!(text.contains("exports nothing that busway runs") && text.contains("`frobnicate`"), "{text}");
}

#[test]
fn a_handler_of_another_type_is_told_where_it_differs() {
    let wit = "package busway:bus@0.1.0;
        interface handler {
          record event { id: string, topic: string, key: option<string>, content-type: option<string>,
                         headers: list<tuple<string, string>>, data: string }
          subscriptions: func() -> list<string>;
          handle: func(event: event) -> result<_, string>;
        }
        world guest { export handler; }";
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("other.wit", wit).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let exports = r#"
        (func (export "busway:bus/handler@0.1.0#handle") (param i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32 i32)
          (result i32) unreachable)
        (func (export "busway:bus/handler@0.1.0#subscriptions") (result i32) unreachable)"#;
    let mut module = wat::parse_str(module(exports)).unwrap();
    let utf8 = wit_component::StringEncoding::UTF8;
    wit_component::embed_component_metadata(&mut module, &resolve, world, utf8, false).unwrap();
    let mut encoder = wit_component::ComponentEncoder::default();
    let bytes = encoder.module(&module).unwrap().encode().unwrap();
    let problems = inspect(&bytes).expect("a component").problems;
    assert_eq!(
        problems.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["`busway:bus/handler@0.1.0` has another `handle`: event.headers[] is tuple<string, string>, expected header \
             (expected func(event: event) -> result<_, failure>, found func(event: event) -> result<_, string>); it was built against another busway:bus; rebuild it with this \
             version's wit"]
    );
}

/// What is wrong with a component that imports an interface of ours as `wit` says.
fn problems_of_import(wit: &str, core: &str) -> Vec<String> {
    let wit = format!("package busway:bus@0.1.0; {wit}");
    let mut resolve = wit_parser::Resolve::default();
    let package = resolve.push_str("other.wit", &wit).unwrap();
    let world = resolve.select_world(&[package], Some("guest")).unwrap();
    let mut module = wat::parse_str(core).unwrap();
    wit_component::embed_component_metadata(&mut module, &resolve, world, wit_component::StringEncoding::UTF8, false)
        .unwrap();
    let bytes = wit_component::ComponentEncoder::default().module(&module).unwrap().encode().unwrap();
    inspect(&bytes).expect("a component").problems.iter().map(ToString::to_string).collect()
}

/// Key-value as it was before compare-and-set and listing came.
const FIRST_KEY_VALUE: &str = "interface key-value {
    variant error { denied(string), too-large(string), invalid(string), overloaded(string) }
    get: func(key: string) -> result<option<list<u8>>, error>;
    set: func(key: string, value: list<u8>) -> result<_, error>;
    delete: func(key: string) -> result<_, error>;
    increment: func(key: string, by: s64) -> result<s64, error>;
  }
  world guest { import key-value; }";

/// A module that imports these functions of key-value.
fn imports_of_key_value(functions: &[(&str, &str)]) -> String {
    let import = |(name, params): &(&str, &str)| {
        format!(r#"(import "busway:bus/key-value@0.1.0" "{name}" (func (param {params})))"#)
    };
    let imports: String = functions.iter().map(import).collect();
    format!(
        r#"(module {imports} (memory (export "memory") 1)
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable))"#
    )
}

#[test]
fn a_component_that_was_built_against_the_first_key_value_still_fits() {
    let core = imports_of_key_value(&[
        ("get", "i32 i32 i32"),
        ("set", "i32 i32 i32 i32 i32"),
        ("delete", "i32 i32 i32"),
        ("increment", "i32 i32 i64 i32"),
    ]);
    let problems = problems_of_import(FIRST_KEY_VALUE, &core);
    assert!(problems.iter().all(|problem| !problem.contains("key-value@")), "{problems:?}");
}

#[test]
fn another_version_of_our_interface_is_told_with_what_to_do() {
    let wit = FIRST_KEY_VALUE.replace("overloaded(string) }", "overloaded(string), other }");
    let problems = problems_of_import(&wit, &imports_of_key_value(&[("get", "i32 i32 i32")]));
    assert_eq!(
        problems[0],
        "`busway:bus/key-value@0.1.0` has another `get`: its result.err has the cases denied, too-large, invalid, \
         overloaded, other, expected denied, too-large, invalid, overloaded; it was built against another busway:bus; \
         rebuild it with this version's wit"
    );
    let wit = FIRST_KEY_VALUE.replace("delete:", "delte:");
    let problems = problems_of_import(&wit, &imports_of_key_value(&[("delte", "i32 i32 i32")]));
    assert!(problems[0].contains("`delte`: there is no such function; did you mean `delete`?"), "{problems:?}");
}

#[test]
fn errors_of_the_engine_are_told() {
    let error = host().compile("text", b"not wasm at all").expect_err("it was taken");
    assert!(matches!(&error, LoadError::Inspect(InspectError::NotWasm { .. })) && !error.is_retryable());
}
