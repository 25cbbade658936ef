//! A task that publishes by calling the functions of a contract, until one is refused.

#![expect(missing_docs, clippy::pedantic, reason = "what wit-bindgen generates")]

use test::values::outputs;

wit_bindgen::generate!({ path: ["../../wit", "wit/values.wit"], world: "test:values/source", generate_all });

fn main() -> Result<(), String> {
    outputs::nothing();
    outputs::refused("k", "accepted")?;
    match outputs::refused(&"k".repeat(300), "") {
        Err(reason) if reason.contains("key") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}
