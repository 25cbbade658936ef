//! Handles an event of a contract, and carries what the contract's WIT says about it.

#![expect(unsafe_code, missing_docs, clippy::same_length_and_capacity, reason = "what wit-bindgen generates")]

wit_bindgen::generate!({ path: "wit/greetings.wit", world: "documented" });
busway_guest::embed_contract!("wit/greetings.wit");

struct Service;

impl exports::test::greetings::door::Guest for Service {
    fn came(key: String, visitor: exports::test::greetings::door::Visitor) {
        println!("{key}: {} with {}", visitor.name, visitor.seats);
    }
}

export!(Service);
