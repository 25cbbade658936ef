//! Making inputs out of a corpus.
//!
//! Without feedback from coverage: inputs are small and their formats shallow, and what matters is that entries of the
//! corpus reach the places of interest and are then bent a little.

use busway_types::{Entropy as _, SplitMix};

/// An input is never longer.
const LONGEST: usize = 64 * 1024;

fn below(random: &mut SplitMix, n: usize) -> usize {
    (random.next_u64() % n.max(1) as u64) as usize
}

/// The next input.
pub(crate) fn next(corpus: &[Vec<u8>], words: &[&str], random: &mut SplitMix) -> Vec<u8> {
    let mut input = corpus.get(below(random, corpus.len())).cloned().unwrap_or_default();
    for _ in 0..1 << below(random, 5) {
        change(&mut input, corpus, words, random);
    }
    input.truncate(LONGEST);
    input
}

fn change(input: &mut Vec<u8>, corpus: &[Vec<u8>], words: &[&str], random: &mut SplitMix) {
    let at = below(random, input.len() + 1);
    let end = (at + 1 + below(random, 16)).min(input.len());
    match below(random, 9) {
        0 if at < input.len() => input[at] ^= 1 << below(random, 8),
        1 if at < input.len() => input[at] = random.next_u64() as u8,
        2 if at < input.len() => {
            const EDGES: [u8; 8] = [0, 1, 0x7f, 0x80, 0xff, b'"', b'\n', b'.'];
            input[at] = EDGES[below(random, EDGES.len())];
        }
        3 => drop(input.drain(at..end)),
        4 => {
            let piece = input[at..end].to_vec();
            input.splice(at..at, piece);
        }
        5 => input.truncate(at),
        6 => {
            let other = corpus.get(below(random, corpus.len())).map_or(&[][..], Vec::as_slice);
            let from = below(random, other.len() + 1);
            let to = (from + below(random, 64)).min(other.len());
            input.splice(at..at, other[from..to].iter().copied());
        }
        7 if !words.is_empty() => {
            let word = words[below(random, words.len())];
            input.splice(at..end.max(at), word.bytes());
        }
        _ => input.insert(at, random.next_u64() as u8),
    }
}
