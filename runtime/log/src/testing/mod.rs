//! Help for tests of the log and of what is built on it.

#[cfg(test)]
pub(crate) mod arbitrary;
mod clock;
mod mem_fs;
mod record;

pub use clock::ManualClock;
pub use mem_fs::MemFs;
pub use record::{read_record, write_record};
