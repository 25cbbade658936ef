//! Fuzzing of everything that reads what others wrote: disk contents, manifests, topics, lines of events, components and WIT.
//!
//! Role: mutate the entries of a corpus (in `corpus/TARGET/`, one file each) and give the result to a [`Target`]. A target
//! panics on what must never be. Runs on stable Rust with no tools beside it; a seed decides every input, so that a
//! failure is told by its input alone, which becomes an entry of the corpus.

mod contracts;
mod mutate;
mod targets;

use std::path::PathBuf;

use busway_types::SplitMix;

pub use targets::{ALL, Target};

/// The entries of a target's corpus, with the names of their files, sorted.
pub fn corpus(target: &Target) -> Vec<(String, Vec<u8>)> {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
    let mut entries = Vec::new();
    for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
        if let Ok(bytes) = std::fs::read(entry.path()) {
            entries.push((entry.file_name().to_string_lossy().into_owned(), unhex(&entry.path(), bytes)));
        }
    }
    entries.sort();
    entries.extend((target.made)().into_iter().zip(0..).map(|(bytes, number)| (format!("made {number}"), bytes)));
    entries
}

/// Entries that are no text are written as hexadecimal digits.
fn unhex(path: &std::path::Path, bytes: Vec<u8>) -> Vec<u8> {
    if path.extension().is_none_or(|extension| extension != "hex") {
        return bytes;
    }
    let digits: Vec<u8> = bytes.into_iter().filter_map(|b| (b as char).to_digit(16)).map(|d| d as u8).collect();
    digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect()
}

/// Gives a target `count` inputs; the first that makes it panic comes back with what it said.
pub fn run(target: &Target, seed: u64, count: u64) -> Result<u64, (Vec<u8>, String)> {
    let corpus: Vec<Vec<u8>> = corpus(target).into_iter().map(|(_, bytes)| bytes).collect();
    let mut random = SplitMix(seed);
    let mut accepted = 0;
    for entry in &corpus {
        accepted += u64::from(try_input(target, entry)?);
    }
    for _ in 0..count {
        let input = mutate::next(&corpus, target.words, &mut random);
        accepted += u64::from(try_input(target, &input)?);
    }
    Ok(accepted)
}

/// Whether the target took the input.
fn try_input(target: &Target, input: &[u8]) -> Result<bool, (Vec<u8>, String)> {
    let ran = std::panic::catch_unwind(|| (target.run)(input));
    ran.map_err(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        (input.to_vec(), text.unwrap_or_default())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_input_makes_a_reader_panic() {
        for target in ALL {
            assert!(corpus(target).len() > 2, "{} has a corpus", target.name);
            match run(target, 1, target.brief) {
                Ok(accepted) => assert!(accepted > 0, "{}: something is accepted", target.name),
                Err((input, panic)) => panic!("{}: {:?}: {panic}", target.name, String::from_utf8_lossy(&input)),
            }
        }
    }
}
