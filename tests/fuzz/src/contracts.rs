//! Contracts that others wrote: components with WIT inside, and WIT.

use busway_contract::compare::{Verdict, compare};
use busway_contract::document::{Api, Format};
use busway_contract::source::{self, SECTION, Source};
use busway_contract::{Contract, component};

/// Pieces of WIT.
pub(crate) const WIT: &[&str] = &[
    "package a:b@1.0.0;\n",
    "interface c {\n",
    "record ",
    "variant ",
    "enum ",
    "flags ",
    "type t = ",
    "option<",
    "result<",
    "list<",
    "tuple<",
    "map<",
    "_, ",
    ", 4>",
    ">",
    "}",
    "u64",
    "string",
    ": func(",
    ") -> ",
    ";\n",
    "/// said\n",
    "/*",
    "%type",
    "use d:e/f@2.0.0.{g};\n",
    "//// b.wit\n",
    "@since(version = 1.0.0)\n",
];

const TYPES: &str = r#"
    (type $l (record (field "sku" string) (field "quantity" u32))) (export "line" (type $line (eq $l)))
    (type $v (variant (case "cash") (case "card" (option string)))) (export "pay" (type $pay (eq $v)))
    (type $o (record (field "lines" (list $line)) (field "pay" $pay) (field "on" (tuple u64 f64 char))))
    (export "order" (type $order (eq $o)))
    (export "placed" (func (param "key" string) (param "event" $order)))
    (export "quote" (func (param "of" (list $line)) (result (result u64 (error string)))))"#;

/// Components that use a contract, with and without its WIT inside.
pub(crate) fn components() -> Vec<Vec<u8>> {
    let wit = "package a:b@1.0.0; /// Said.\\n interface c { record line { sku: string } placed: func(key: string); }";
    let binary = |text: &str| wat::parse_str(text).expect("a component as text");
    vec![
        binary(&format!(r#"(component (import "a:b/c@1.0.0" (instance {TYPES})))"#)),
        binary(&format!(r#"(component (import "a:b/c@1.0.0" (instance {TYPES})) (@custom "{SECTION}" "{wit}"))"#)),
        binary(&format!(r#"(component (import "x" (instance $i {TYPES})) (export "a:b/c@0.1.0" (instance $i)))"#)),
    ]
}

/// A component is refused or read; what was read can be documented.
pub(crate) fn component(input: &[u8]) -> bool {
    let Ok(source) = source::from_component(input) else {
        assert!(component::read(input).is_err(), "names and docs never make a component unreadable");
        return false;
    };
    let found = !source.found.is_empty();
    document(source);
    found
}

/// WIT is refused or read; what was read can be documented.
pub(crate) fn wit(input: &[u8]) -> bool {
    let Ok(source) = source::from_text(&String::from_utf8_lossy(input)) else { return false };
    let found = !source.found.is_empty();
    document(source);
    found
}

/// Documents can be made of whatever was read, and the WIT among them is the same contracts.
fn document(source: Source) {
    let mut api = Api::new("fuzzed");
    api.add(None, source);
    let contracts = api.contracts();
    for (_, format) in Format::ALL {
        // Names may be too long for a topic.
        let Ok(document) = api.document(format) else { return };
        if format == Format::Wit && !contracts.is_empty() {
            let again = source::from_text(&document).unwrap_or_else(|error| panic!("{error}\n{document}"));
            for contract in &contracts {
                same(contract, &again, &document);
            }
        }
    }
}

fn same(contract: &Contract, again: &Source, document: &str) {
    let other = again.found.iter().find(|found| found.contract.id == contract.id);
    let Some(other) = other else { panic!("{} is not in\n{document}", contract.id) };
    let compared = compare(contract, &other.contract);
    let told = compared.diff("before", "after");
    assert_eq!((compared.verdict, compared.only_producer.len()), (Verdict::Same, 0), "{told}\n{document}");
}
