//! Bytes that differ a little from those of a corpus: for tests, which have no engine.

/// Longest piece that is put in, taken out or said again.
const PIECE_MAX: usize = 16;
/// Bytes at which readers turn.
const TELLING: [u8; 16] = *b"\0\x01\x7f\x80\xff\n\r\t \"'\\:/[{";

/// Makes inputs; the same seed makes the same.
#[derive(Debug, Clone)]
pub struct Mutator(u64);

impl Mutator {
    /// One with its own sequence.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// SplitMix64.
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `bound`, which is not 0.
    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).unwrap_or(0)
    }

    /// A few changes of `input`, with pieces of `other`.
    #[must_use]
    pub fn vary(&mut self, input: &[u8], other: &[u8], length_max: usize) -> Vec<u8> {
        let mut bytes = input.to_vec();
        for _ in 0..=self.below(4) {
            self.change(&mut bytes, other);
        }
        bytes.truncate(length_max);
        bytes
    }

    fn change(&mut self, bytes: &mut Vec<u8>, other: &[u8]) {
        let at = self.below(bytes.len() + 1);
        let end = (at + 1 + self.below(PIECE_MAX)).min(bytes.len());
        match self.below(7) {
            0 => drop(bytes.drain(at..end)),
            1 => drop(bytes.splice(at..at, bytes[at..end].to_vec())),
            2 => bytes.insert(at, TELLING[self.below(TELLING.len())]),
            3 => bytes.truncate(at),
            4 if !other.is_empty() => {
                let from = self.below(other.len());
                let to = (from + 1 + self.below(4 * PIECE_MAX)).min(other.len());
                drop(bytes.splice(at..end, other[from..to].iter().copied()));
            }
            kind => {
                if let Some(byte) = bytes.get_mut(at) {
                    let bit = 1 << self.below(8);
                    *byte =
                        if kind == 5 { *byte ^ bit } else { TELLING[self.below(TELLING.len())] };
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::{fs, path::Path};

    use super::*;
    use crate::Target;

    /// Runs a target on its corpus, and on variants of it.
    pub(crate) fn replay(target: &Target) {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name);
        let read = |entry: fs::DirEntry| (entry.path(), fs::read(entry.path()).unwrap());
        let mut corpus: Vec<_> = fs::read_dir(&dir).unwrap().flatten().map(read).collect();
        corpus.sort();
        let size: usize = corpus.iter().map(|(_, bytes)| bytes.len()).sum();
        assert!(!corpus.is_empty() && size <= 64 << 10, "{}: {size} bytes", dir.display());
        (target.run)(b"");
        for (path, bytes) in &corpus {
            // Where it fails, this is the last line that is told.
            println!("{}", path.display());
            (target.run)(bytes);
        }
        let mut mutator = Mutator::new(7);
        for ((path, bytes), number) in corpus.iter().zip(0..) {
            println!("variants of {}", path.display());
            let (_, other) = &corpus[(number + 1) % corpus.len()];
            for _ in 0..target.variants {
                (target.run)(&mutator.vary(bytes, other, target.length_max));
            }
        }
    }

    #[test]
    fn a_seed_makes_the_same_bytes_and_another_one_others() {
        let made = |seed| {
            let mut mutator = Mutator::new(seed);
            (0..100).map(|_| mutator.vary(b"hello", b"world", 8)).collect::<Vec<_>>()
        };
        assert_eq!(made(1), made(1));
        assert_ne!(made(1), made(2));
        assert!(made(1).iter().all(|bytes| bytes.len() <= 8));
    }
}
