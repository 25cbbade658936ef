//! WIT and components, read and described.

use std::fs;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::*;
use crate::{Kind, Type};

const ORDERS: &str = "\
/// What a shop tells about orders.
package shop:orders@1.0.0;

/// What happens to an order.
interface order-events {
    /// A line.
    record line {
        /// Stock keeping unit.
        sku: string,
        quantity: u32,
    }
    enum colour {
        /// Like the sky.
        blue,
        red,
    }
    type cents = u64;
    record order { id: string, lines: list<line>, total: cents, colour: colour, picture: list<u8> }
    /// An order was placed.
    placed: func(key: string, event: order);
    quote: func(id: string) -> result<cents, string>;
}

interface helpers { record nothing { a: u8 } }
";

const WORLD: &str = "\
package shop:checkout;
world checkout { import shop:orders/order-events@1.0.0; }
";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    folder
}

/// A component that imports the contract, as tools make it from a core module.
fn component(wit: &Path) -> Vec<u8> {
    let mut resolve = Resolve::default();
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], None).unwrap();
    let core = r#"(module
        (import "shop:orders/order-events@1.0.0" "placed"
            (func (param i32 i32 i32 i32 i32 i32 i64 i32 i32 i32)))
        (memory (export "memory") 1)
        (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) unreachable)
    )"#;
    let mut module = wat::parse_str(core).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().module(&module).unwrap().encode().unwrap()
}

/// The contract's folder, the service's folder and the component's bytes.
fn service() -> (tempfile::TempDir, Vec<u8>) {
    let folder = folder(&[("wit/world.wit", WORLD), ("wit/deps/orders.wit", ORDERS), ("orders/orders.wit", ORDERS)]);
    let bytes = component(&folder.path().join("wit"));
    (folder, bytes)
}

#[test]
fn wit_is_read_with_names_and_docs() {
    let folder = folder(&[("orders.wit", ORDERS)]);
    let source = read(&folder.path().join("orders.wit")).unwrap();
    assert_eq!(source, read(folder.path()).unwrap());
    assert_eq!(source.problems, [""; 0]);
    let [found] = &source.found[..] else { panic!("{source:?}") };
    assert_eq!((found.direction, found.contract.id.to_string()), (None, "shop:orders/order-events@1.0.0".into()));
    assert_eq!(found.contract.docs.as_deref(), Some("What happens to an order."));
    let placed = found.contract.function("placed").unwrap();
    assert_eq!((placed.docs.as_deref(), placed.kind()), (Some("An order was placed."), Kind::Event));
    assert_eq!(placed.to_string(), "placed: func(key: string, event: order)");
    let Type::Record(order) = &placed.params[1].ty else { panic!("{placed}") };
    let types: Vec<_> = order.fields.iter().map(|field| field.ty.to_string()).collect();
    assert_eq!(types, ["string", "list<line>", "u64", "colour", "list<u8>"]);
    assert_eq!(order.fields[4].ty, Type::Bytes);
    assert_eq!(found.contract.function("quote").unwrap().kind(), Kind::Request);
}

#[test]
fn a_package_in_binary_form_is_read_like_its_text() {
    let folder = folder(&[("wit/orders.wit", ORDERS)]);
    let (resolve, package) = parse(&folder.path().join("wit")).unwrap();
    let binary = folder.path().join("orders.wasm");
    fs::write(&binary, wit_component::encode(&resolve, package, false).unwrap()).unwrap();
    assert_eq!(read(&binary).unwrap(), read(&folder.path().join("wit")).unwrap());
}

#[test]
fn worlds_say_what_is_done_with_contracts_of_other_packages() {
    let (folder, _) = service();
    let source = read(&folder.path().join("wit")).unwrap();
    let [found] = &source.found[..] else { panic!("{source:?}") };
    assert_eq!(found.direction, Some(Direction::Produces));
    assert_eq!(found.contract, read(&folder.path().join("orders")).unwrap().found[0].contract);
}

#[test]
fn a_component_has_its_functions_and_the_names_of_types() {
    let (folder, bytes) = service();
    let path = folder.path().join("checkout.wasm");
    fs::write(&path, &bytes).unwrap();
    let source = read(&path).unwrap();
    let [found] = &source.found[..] else { panic!("{source:?}") };
    assert_eq!(found.direction, Some(Direction::Produces));
    let functions: Vec<_> = found.contract.functions.iter().map(ToString::to_string).collect();
    assert_eq!(functions, ["placed: func(key: string, event: order)"]);
    assert_eq!(found.contract.docs, None);
}

/// The contract of a component that describes itself.
#[track_caller]
fn described(bytes: &[u8]) {
    let source = from_component(bytes).unwrap();
    assert_eq!(source.problems, [""; 0]);
    let contract = &source.found[0].contract;
    assert_eq!(contract.docs.as_deref(), Some("What happens to an order."));
    assert_eq!(contract.functions.len(), 1);
    let Type::Record(order) = &contract.functions[0].params[1].ty else { panic!("{contract:?}") };
    let Type::List(line) = &order.fields[1].ty else { panic!("{order:?}") };
    let Type::Record(line) = &**line else { panic!("{line:?}") };
    assert_eq!((line.name.as_deref(), line.docs.as_deref()), (Some("line"), Some("A line.")));
    assert_eq!(line.fields[0].docs.as_deref(), Some("Stock keeping unit."));
    let Type::Enum(colour) = &order.fields[3].ty else { panic!("{order:?}") };
    assert_eq!(colour.cases[0].docs.as_deref(), Some("Like the sky."));
}

#[test]
fn embedded_wit_describes_the_component_and_changes_nothing_else() {
    let (folder, bytes) = service();
    let path = folder.path().join("checkout.wasm");
    fs::write(&path, &bytes).unwrap();
    for wit in ["orders", "wit"] {
        let made = embed(&path, &folder.path().join(wit)).unwrap();
        described(&made);
        assert_eq!(component::read(&made).unwrap(), component::read(&bytes).unwrap());
        assert!(made.starts_with(&bytes));
        fs::write(&path, &made).unwrap();
        let again = embed(&path, &folder.path().join(wit)).unwrap();
        assert_eq!(again, made, "an older section is replaced");
        fs::write(&path, &bytes).unwrap();
    }
}

#[test]
fn wit_as_text_in_a_section_describes_too_in_any_order() {
    let (_folder, bytes) = service();
    described(&section::put(&bytes, &[ORDERS]).unwrap());
    let text = format!("//// world.wit\n{WORLD}\n//// orders.wit\n{ORDERS}");
    described(&section::put(&bytes, &[text]).unwrap());
    let source = from_component(&section::put(&bytes, &["//// a.wit\npackage a:b;\ninterface {"]).unwrap()).unwrap();
    assert!(source.problems[0].contains("a.wit:2"), "{:?}", source.problems);
    assert_eq!(source.found.len(), 1);
}

#[test]
fn docs_of_another_version_describe_what_is_the_same() {
    let (_folder, bytes) = service();
    let newer = ORDERS.replace("@1.0.0", "@1.1.0").replace("quantity: u32", "quantity: u64").replace("sku", "unit");
    let source = from_component(&section::put(&bytes, &[newer]).unwrap()).unwrap();
    let contract = &source.found[0].contract;
    assert_eq!(contract.functions[0].docs.as_deref(), Some("An order was placed."));
    let Type::Record(order) = &contract.functions[0].params[1].ty else { panic!("{contract:?}") };
    let Type::List(line) = &order.fields[1].ty else { panic!("{order:?}") };
    let Type::Record(line) = &**line else { panic!("{line:?}") };
    assert_eq!((line.docs.as_deref(), &*line.fields[0].name), (None, "sku"));
}

#[test]
fn wit_that_does_not_fit_is_not_embedded() {
    let (folder, bytes) = service();
    let path = folder.path().join("checkout.wasm");
    fs::write(&path, &bytes).unwrap();
    let other = folder.path().join("other.wit");
    fs::write(&other, ORDERS.replace("sku: string", "sku: u64")).unwrap();
    let told = embed(&path, &other).unwrap_err().to_string();
    assert!(told.contains("is not the WIT that") && told.contains("placed(event.lines[].sku)"), "{told}");
    fs::write(&other, "package shop:stock@1.0.0; interface stock { gone: func(); }").unwrap();
    let told = embed(&path, &other).unwrap_err().to_string();
    assert!(told.ends_with("checkout.wasm, which has shop:orders/order-events@1.0.0"), "{told}");
}

#[test]
fn mistakes_are_told_with_file_line_and_what_to_do() {
    let folder = folder(&[
        ("typo.wit", "package a:b;\n\ninterface c {\n  f: func(x: strng);\n}\n"),
        ("uses.wit", "package a:b;\ninterface c {\n  use d:e/f.{g};\n  h: func(x: g);\n}\n"),
        ("empty/readme.txt", ""),
        ("notes.txt", "hello"),
        ("resource.wit", "package a:b;\ninterface c { resource r; f: func(x: list<r>); }\ninterface d { g: func(); }"),
        ("late.wit", "package a:b;\ninterface c { f: func(x: list<future<u8>>); }"),
    ]);
    let told = |name: &str| read(&folder.path().join(name)).unwrap_err().to_string();
    assert!(told("typo.wit").contains("typo.wit:4:14"), "{}", told("typo.wit"));
    assert!(told("uses.wit").contains("uses.wit:3"), "{}", told("uses.wit"));
    assert!(told("uses.wit").ends_with("into its folder `deps`"), "{}", told("uses.wit"));
    assert!(told("empty").ends_with("no .wit file is in this folder"));
    assert!(told("notes.txt").ends_with("WIT is in files that end in .wit"));
    assert!(told("missing.wit").contains("missing.wit cannot be read"));
    let source = read(&folder.path().join("resource.wit")).unwrap();
    assert_eq!(source.found.len(), 1);
    assert!(source.problems[0].starts_with("`a:b/c` cannot be carried by the bus: r: a resource"), "{source:?}");
    let source = read(&folder.path().join("late.wit")).unwrap();
    assert!(source.problems[0].contains("f(x[]): a future cannot be stored"), "{source:?}");
}

#[test]
fn every_type_of_wit_is_read_as_components_have_it() {
    let wit = "package a:b@1.0.0;
        interface c {
            flags f { x, y }
            variant v { none, some(tuple<s8, s16, f32, char>) }
            record r { a: option<option<bool>>, b: result<u16, s64>, c: map<string, v>, d: list<u8, 4>, e: f }
            all: func(r: r, l: list<list<u8>>, res: result) -> result<_, v>;
        }
        world w { import c; }";
    let folder = folder(&[("w.wit", wit)]);
    let (resolve, package) = parse(&folder.path().join("w.wit")).unwrap();
    let read = &read(&folder.path().join("w.wit")).unwrap().found[0].contract;
    let component = wat::parse_str(
        r#"(component (import "a:b/c@1.0.0" (instance
            (type $f' (flags "x" "y")) (export "f" (type $f (eq $f')))
            (type $v' (variant (case "none") (case "some" (tuple s8 s16 f32 char)))) (export "v" (type $v (eq $v')))
            (type $r' (record (field "a" (option (option bool))) (field "b" (result u16 (error s64)))
                (field "c" (map string $v)) (field "d" (list u8 4)) (field "e" $f)))
            (export "r" (type $r (eq $r')))
            (export "all" (func (param "r" $r) (param "l" (list (list u8))) (param "res" (result))
                (result (result (error $v))))))))"#,
    )
    .unwrap();
    let found = &component::read(&component).unwrap().uses[0].contract;
    assert_eq!(compare(read, found).verdict, Verdict::Same, "{}", compare(read, found).diff("a", "b"));
    let mut named = found.clone();
    overlay::contract(&mut named, read);
    assert_eq!(&named, read);
    assert!(wit_component::encode(&resolve, package, false).is_ok());
}

#[test]
fn types_that_explode_are_refused_without_being_built() {
    let types: Vec<_> = (1..40).map(|n| format!("  type t{n} = tuple<t{m}, t{m}>;\n", m = n - 1)).collect();
    let types = types.concat();
    let wit = format!("package a:b;\ninterface c {{\n  type t0 = tuple<u8, u8>;\n{types}  f: func(x: t39);\n}}\n");
    let folder = folder(&[("w.wit", &wit)]);
    let source = read(&folder.path().join("w.wit")).unwrap();
    let [problem] = &source.problems[..] else { panic!("{source:?}") };
    assert!(problem.contains("more than 10000 parts") || problem.contains("nested more than 32"), "{problem}");
}

#[test]
fn text_that_is_carried_has_a_bound() {
    let many = "//// a.wit\npackage a:b;\n".repeat(MOST_FILES + 1);
    assert!(from_text(&many).unwrap_err().to_string().contains("more than 100 files"));
    let long = format!("package a:b;\n// {}", "x".repeat(MOST_TEXT));
    assert!(from_text(&long).unwrap_err().to_string().contains("more than 100 files or 1048576 bytes"));
    assert_eq!(from_text(ORDERS).unwrap(), from_text(&format!("{WORLD}\n//// b\n{ORDERS}")).unwrap());
}
