//! Values by pairs of numbers, without a hash where the numbers are small: sixteen neighbours in the second number share a block, and the
//! block of a small pair stands at a place that is computed. Any pair has a value; large or negative numbers find their block by a hash.

use std::collections::HashMap;

use super::{BuildSpread, pair};

/// Values of a block.
const BLOCK: usize = 16;
/// What of a second number names its block.
const BEGIN: i32 = !15;
/// First numbers below this are small, and second numbers of this many blocks.
const SMALL: usize = 1 << 16;
const SMALL_BLOCKS: usize = 16;
/// No block yet; blocks count from 1.
const NONE: u32 = 0;

/// Values by (first, second) number; one that was never asked for is the default.
#[derive(Clone, Debug)]
pub(crate) struct Cells<T> {
    /// The block of a small pair: those of one stretch of second numbers lie together, by first number.
    near: Vec<u32>,
    /// The blocks of all others, by first number and number of the block.
    far: HashMap<u64, u32, BuildSpread>,
    /// The first number of each block, and the second number that it begins with.
    begins: Vec<(i32, i32)>,
    values: Vec<T>,
}

impl<T> Default for Cells<T> {
    fn default() -> Self {
        Self { near: Vec::new(), far: HashMap::default(), begins: Vec::new(), values: Vec::new() }
    }
}

impl<T: Copy + Default> Cells<T> {
    /// The value of a pair; none where nothing of its block was ever asked for.
    #[inline]
    pub(crate) fn get(&self, first: i32, second: i32) -> Option<&T> {
        let block = self.block(first, second);
        self.values.get(index(block.checked_sub(1)?, second))
    }

    /// The value of a pair, made if need be.
    #[inline]
    pub(crate) fn get_mut(&mut self, first: i32, second: i32) -> &mut T {
        let known = self.block(first, second);
        let block = if known == NONE { self.begin(first, second) } else { known };
        #[expect(clippy::indexing_slicing, reason = "a block is named only once its values are there")]
        &mut self.values[index(block.saturating_sub(1), second)]
    }

    #[inline]
    fn block(&self, first: i32, second: i32) -> u32 {
        match place(first, second) {
            Some(place) => self.near.get(place).copied().unwrap_or(NONE),
            None => self.far.get(&far(first, second)).copied().unwrap_or(NONE),
        }
    }

    #[cold]
    fn begin(&mut self, first: i32, second: i32) -> u32 {
        self.begins.push((first, second & BEGIN));
        self.values.resize(self.values.len().saturating_add(BLOCK), T::default());
        // So many blocks as 32 bits cannot count would take more than 64 GiB.
        let block = self.begins.len() as u32;
        match place(first, second) {
            Some(place) => {
                if self.near.len() <= place {
                    self.near.resize(place.saturating_add(1), NONE);
                }
                if let Some(near) = self.near.get_mut(place) {
                    *near = block;
                }
            }
            None => {
                self.far.insert(far(first, second), block);
            }
        }
        block
    }

    /// All values of all blocks with their pairs, in no order; among them are defaults that nobody asked for.
    pub(crate) fn iter(&self) -> impl Iterator<Item = ((i32, i32), &T)> {
        self.begins
            .iter()
            .zip(self.values.chunks(BLOCK))
            .flat_map(|((first, begin), values)| values.iter().zip(*begin..=i32::MAX).map(|(value, second)| ((*first, second), value)))
    }
}

/// Where the block of a small pair is noted.
fn place(first: i32, second: i32) -> Option<usize> {
    let (first, block) = (first.cast_unsigned() as usize, second.cast_unsigned() as usize / BLOCK);
    (first < SMALL && block < SMALL_BLOCKS).then(|| block.wrapping_mul(SMALL).wrapping_add(first))
}

fn far(first: i32, second: i32) -> u64 {
    pair(first, second & BEGIN)
}

fn index(block: u32, second: i32) -> usize {
    (block as usize).wrapping_mul(BLOCK).wrapping_add(second.cast_unsigned() as usize % BLOCK)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn small_large_and_negative_numbers_have_values_of_their_own() {
        let numbers = [0, 1, 15, 16, 17, 255, 256, 65_535, 65_536, i32::MAX, i32::MIN, -1, -16, -17];
        let (mut cells, mut wanted) = (Cells::default(), BTreeMap::new());
        for (count, (first, second)) in (1_u32..).zip(numbers.iter().flat_map(|first| numbers.iter().map(move |second| (*first, *second))))
        {
            assert_eq!(cells.get(first, second).copied().unwrap_or_default(), 0, "{first} {second}");
            *cells.get_mut(first, second) = count;
            wanted.insert((first, second), count);
        }
        for ((first, second), count) in &wanted {
            assert_eq!(cells.get(*first, *second), Some(count), "{first} {second}");
            assert_eq!(cells.get_mut(*first, *second), count);
        }
        assert_eq!(cells.iter().filter(|(_, count)| **count != 0).map(|(pair, count)| (pair, *count)).collect::<BTreeMap<_, _>>(), wanted);
    }
}
