//! busway.
fn main() {}
