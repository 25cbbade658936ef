//! The conformance suite: what services and publishers may rely on, asked of every engine in the same way, from outside.
//!
//! Role: one column per engine and one row per behaviour. A cell holds, is absent, or cannot be, and has to be what the table of
//! guarantees ([`busway_engine::guarantees`]) says of that engine. Each test leaves its column under `target/tmp/conformance`,
//! from which `cargo xtask conformance` puts the table together.
//!
//! ```text
//!   main.rs --a column--> quiet.rs     one node that goes on: order, redelivery, delay, payloads ...
//!                         trouble.rs   nodes and brokers that end, freeze and come back
//!             bus.rs      a node process of the real binary, what is asked of it
//!             engines.rs  where the queues live; real brokers
//! ```

mod bus;
mod engines;
mod quiet;
mod table;
mod trouble;

use crate::engines::Place;
use crate::table::{Column, Row};

/// All behaviours, in the order in which they are asked; what breaks the broker comes last.
fn rows() -> Vec<Row> {
    quiet::rows().into_iter().chain(trouble::rows()).collect()
}

/// Asks an engine for everything.
fn conforms(place: &mut Place) {
    let column = Column::of(place, &rows());
    column.write();
    let wrong = column.wrong();
    assert!(
        wrong.is_empty(),
        "{} of {} behaviours are not as promised:\n{}",
        wrong.len(),
        rows().len(),
        wrong.join("\n")
    );
}

#[test]
fn memory_is_what_the_table_of_guarantees_says() {
    conforms(&mut Place::memory());
}

#[test]
fn file_is_what_the_table_of_guarantees_says() {
    conforms(&mut Place::file());
}

#[test]
fn nats_is_what_the_table_of_guarantees_says() {
    conforms(&mut Place::nats());
}

#[test]
fn amqp_is_what_the_table_of_guarantees_says() {
    conforms(&mut Place::amqp());
}
