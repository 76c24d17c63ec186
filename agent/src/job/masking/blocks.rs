//! A quick look for many texts at once.
//!
//! An automaton reads every byte. Here only one block in [`STEP`] bytes is looked up in a set of the
//! blocks that the beginnings of the texts have, which almost none is in; only around those that
//! are, the automaton has to read.

use std::ops::Range;

/// Bytes of each text that are searched for. Shorter texts cannot be found so.
pub(super) const ANCHOR: usize = 8;
const BLOCK: usize = 4;
/// Wherever an anchor stands, one block in so many bytes lies in it as a whole.
const STEP: usize = ANCHOR - BLOCK + 1;
/// Size of the set: 32 KiB stay in the processor's nearest memory.
const BITS: u32 = 18;

/// The blocks of all anchors, by a hash.
pub(super) struct Blocks {
    bits: Vec<u64>,
}

impl Blocks {
    pub(super) fn of<'a>(anchors: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut bits = vec![0; (1 << BITS) / 64];
        for block in anchors.flat_map(|anchor| anchor.windows(BLOCK)) {
            let (word, bit) = slot(block);
            bits[word] |= bit;
        }
        Self { bits }
    }

    /// The parts of a text that an anchor may stand in, each as a whole.
    pub(super) fn suspects(&self, text: &[u8]) -> impl Iterator<Item = Range<usize>> {
        text.windows(BLOCK)
            .step_by(STEP)
            .enumerate()
            .filter(|(_, block)| {
                let (word, bit) = slot(block);
                self.bits[word] & bit != 0
            })
            .map(|(index, _)| {
                let at = index * STEP;
                at.saturating_sub(ANCHOR - BLOCK)..text.len().min(at + ANCHOR)
            })
    }
}

fn slot(block: &[u8]) -> (usize, u64) {
    let number = block
        .first_chunk::<BLOCK>()
        .map_or(0, |block| u32::from_le_bytes(*block));
    let hash = number.wrapping_mul(0x9e37_79b1) >> (32 - BITS);
    ((hash / 64) as usize, 1 << (hash % 64))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_anchor_is_in_a_suspect_wherever_it_stands(
            before in "[ab]{0,20}",
            anchor in "[abc]{8}",
            after in "[ab]{0,20}",
        ) {
            let blocks = Blocks::of([anchor.as_bytes()].into_iter());
            let text = format!("{before}{anchor}{after}");
            let place = before.len()..before.len() + ANCHOR;
            let mut suspects = blocks.suspects(text.as_bytes());
            prop_assert!(suspects.any(|part| part.start <= place.start && part.end >= place.end));
        }
    }
}
