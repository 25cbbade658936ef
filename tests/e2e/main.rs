//! The end-to-end tests: one binary, one module per behaviour.

mod bad_components;
mod coverage;
mod guests;
mod harness;
mod lifecycle;
mod misbehaviour;
mod process;
mod programs;
mod tidy;
