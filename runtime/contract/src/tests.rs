//! What components say of their contracts.

use crate::component::{Uses, read};
use crate::{Direction, Kind, Type};

fn uses(wat: &str) -> Uses {
    read(&wat::parse_str(wat).unwrap()).unwrap()
}

const ORDERS: &str = r#"(component
  (import "shop:orders/order-events@1.0.0" (instance
    (type $line (record (field "sku" string) (field "quantity" u32)))
    (export "line" (type $l (eq $line)))
    (type $order (record (field "id" string) (field "lines" (list $l)) (field "note" (option string))))
    (export "order" (type $o (eq $order)))
    (export "placed" (func (param "key" string) (param "event" $o)))
    (export "cancelled" (func (param "key" string) (result (result (error string)))))
    (export "quote" (func (param "id" string) (result (result u64 (error string)))))
    (export "picture" (func (param "bytes" (list u8))))
  ))
  (import "shop:orders/types@1.0.0" (instance (type $t (enum "a" "b")) (export "t" (type (eq $t)))))
  (import "wasi:cli/environment@0.2.0" (instance (export "get" (func (result string)))))
  (import "alone" (func))
)"#;

#[test]
fn an_imported_interface_is_a_contract_that_is_produced() {
    let found = uses(ORDERS);
    assert_eq!(found.refused, []);
    let [one] = &found.uses[..] else { panic!("{found:?}") };
    assert_eq!(one.direction, Direction::Produces);
    assert_eq!(one.contract.id.to_string(), "shop:orders/order-events@1.0.0");
    let kinds: Vec<_> = one.contract.functions.iter().map(|function| (&*function.name, function.kind())).collect();
    let (event, request) = (Kind::Event, Kind::Request);
    assert_eq!(kinds, [("placed", event), ("cancelled", event), ("quote", request), ("picture", event)]);
    let placed = one.contract.function("placed").unwrap();
    assert_eq!(placed.key(), Some(0));
    assert_eq!(
        placed.to_string(),
        "placed: func(key: string, event: record { id: string, lines: list<record { sku: string, quantity: u32 }>, note: \
         option<string> })"
    );
    assert_eq!(one.contract.function("picture").unwrap().params[0].ty, Type::Bytes);
    assert_eq!(one.contract.function("cancelled").unwrap().error(), Some(&Type::String));
}

#[test]
fn what_cannot_be_stored_is_refused_with_its_place() {
    let found = uses(
        r#"(component
          (import "a:b/c@1.0.0" (instance
            (export "r" (type $r (sub resource)))
            (export "f" (func (param "x" (own $r))))))
          (import "a:b/d@1.0.0" (instance
            (export "g" (func (param "event" (list (stream u8)))))))
        )"#,
    );
    let told: Vec<_> = found.refused.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "`a:b/c@1.0.0` cannot be carried by the bus: r: a resource cannot leave its process; pass its data as a record",
            "`a:b/d@1.0.0` cannot be carried by the bus: g(event[]): a stream cannot be stored; pass a list, or publish an \
             event for each part",
        ]
    );
}

/// Each type holds the previous one twice, so that the tree doubles with each.
#[test]
fn types_that_explode_are_refused() {
    let next = |n: usize| format!("(type $t{n} (tuple $t{m} $t{m}))", m = n - 1);
    let types: String = std::iter::once("(type $t0 (tuple u8 u8))".to_owned()).chain((1..14).map(next)).collect();
    let found =
        uses(&format!(r#"(component (import "a:b/c@1.0.0" (instance {types} (export "f" (func (param "x" $t13))))))"#));
    assert!(found.refused[0].reason.contains("more than 10000 parts"), "{found:?}");
}

#[test]
fn bytes_that_are_no_component_are_an_error() {
    assert!(read(b"\0asm\x0d\0\x01\0\xff\xff").is_err());
    assert!(read(b"").is_err());
}

#[test]
fn names_are_bounded_and_fixed_lists_count_all_that_is_in_them() {
    let record = |name: &str| {
        format!(
            r#"(component (import "a:b/c@1.0.0" (instance
              (type $r (record (field "{name}" u8)))
              (export "r" (type $e (eq $r)))
              (export "f" (func (param "x" $e))))))"#
        )
    };
    assert_eq!(uses(&record(&"n".repeat(128))).refused, []);
    let far = crate::component::read(&wat::parse_str(record(&"n".repeat(1_025))).unwrap()).unwrap_err().to_string();
    assert!(far.contains("has 1025 letters"), "{far}");
    let cases = (0..10_000).map(|n| format!("\"c{n}\" ")).collect::<Vec<_>>().concat();
    let many = format!(
        r#"(component (import "a:b/c@1.0.0" (instance (type $r (enum {cases})) (export "r" (type $e (eq $r)))
          (export "f" (func (param "x" $e))))))"#
    );
    assert!(uses(&many).refused[0].to_string().contains("more than 10000 parts"));
    let told = uses(&record(&"n".repeat(129))).refused[0].to_string();
    assert!(told.contains("has 129 letters; at most 128 are allowed"), "{told}");
    let folder = tempfile::tempdir().unwrap();
    let source = |length: u32| {
        let path = folder.path().join("fixed.wit");
        let wit = format!("package a:b@1.0.0; interface c {{ f: func(x: list<list<u16, {length}>, {length}>); }}");
        std::fs::write(&path, wit).unwrap();
        crate::source::read(&path).unwrap()
    };
    assert_eq!((source(90).found.len(), source(90).problems.len()), (1, 0));
    assert!(source(110).problems[0].contains("more than 10000 parts"), "{:?}", source(110));
}

#[test]
fn the_types_of_all_functions_of_a_component_are_bounded_together() {
    let component = |functions: usize| {
        let fields = (0..1_000).map(|n| format!("(field \"f{n}\" u8) ")).collect::<Vec<_>>().concat();
        let functions =
            (0..functions).map(|n| format!("(export \"g{n}\" (func (param \"x\" $e)))\n")).collect::<Vec<_>>().concat();
        format!(
            "(component (import \"a:b/c@1.0.0\" (instance (type $r (record {fields})) (export \"r\" (type $e (eq $r)))
              {functions})))"
        )
    };
    assert_eq!(uses(&component(199)).refused, []);
    let told = uses(&component(200)).refused[0].to_string();
    assert!(told.contains("have more than 200000 parts"), "{told}");
}
