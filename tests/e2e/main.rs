//! The end-to-end tests: one binary, one module per behaviour.

mod guests;
mod tidy;
