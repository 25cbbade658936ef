//! Faults built on purpose, to show that the proofs notice them.
//!
//! Role: `if mutant("name")` stands where a careless change could break a guarantee; `cargo xtask mutants` builds with
//! the feature `mutants`, chooses one after the other through `BUSWAY_MUTANT`, and wants each to be caught. Without the
//! feature, and so in everything that is released, this is a constant and the code behind it is gone.

/// Whether the fault of this name is chosen: never without the feature `mutants`.
#[cfg(not(feature = "mutants"))]
#[inline]
pub const fn mutant(_name: &str) -> bool {
    false
}

/// Whether the fault of this name is chosen.
#[cfg(feature = "mutants")]
pub fn mutant(name: &str) -> bool {
    static CHOSEN: std::sync::LazyLock<Option<String>> =
        std::sync::LazyLock::new(|| std::env::var("BUSWAY_MUTANT").ok());
    CHOSEN.as_deref() == Some(name)
}
