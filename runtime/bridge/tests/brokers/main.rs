//! Bridges and real brokers, with a bus that the tests look into.

mod harness;
mod nats;
mod rabbit;
