//! Help for tests of the log and of what is built on it.

#[cfg(test)]
pub(crate) mod arbitrary;
mod clock;
mod mem_fs;

pub use clock::ManualClock;
pub use mem_fs::MemFs;
