//! Help for tests of the log and of what is built on it.

#[cfg(test)]
pub(crate) mod arbitrary;
mod mem_fs;

pub use mem_fs::MemFs;
