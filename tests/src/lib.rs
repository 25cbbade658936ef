//! What the end-to-end tests share: the guests, built and listed by this crate's build script.
//!
//! `programs`, `bad` and `services` have a constant per guest (`programs::ECHO` is the path of its component, `bad::*` is
//! text for [`assemble`]); `foreach_program!` and `foreach_bad_component!` name them all.

pub mod node;

include!(concat!(env!("OUT_DIR"), "/guests.rs"));

/// The components of `examples/shop`, with the names of their services.
pub const SHOP: [(&str, &str); 7] = [
    ("checkout", services::CHECKOUT),
    ("loyalty", services::LOYALTY),
    ("payment", services::PAYMENT),
    ("quotes", services::QUOTES),
    ("shipping", services::SHIPPING),
    ("stock", services::STOCK),
    ("translate", services::TRANSLATE),
];

/// The binary of a component written as text.
///
/// # Panics
/// When the text is not valid.
pub fn assemble(text: &str) -> Vec<u8> {
    match wat::parse_str(text) {
        Ok(binary) => binary,
        Err(error) => panic!("the component's text is not valid: {error}"),
    }
}

/// The root of the repository.
pub fn root() -> std::path::PathBuf {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The `busway` binary that was built with this one, which is in `target/PROFILE/deps`.
///
/// # Panics
/// When it is not there: `cargo test --workspace` and `cargo xtask` build it.
pub fn busway() -> std::path::PathBuf {
    let own = std::env::current_exe().unwrap_or_default();
    let folder = own.ancestors().nth(2).map(std::path::Path::to_owned).unwrap_or_default();
    let binary = folder.join("busway");
    assert!(binary.is_file(), "{} is missing; build it with `cargo build -p busway-cli`", binary.display());
    binary
}
