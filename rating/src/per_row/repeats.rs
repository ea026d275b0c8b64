//! Repeats among rows of usage: of the rows with one identity, the one that arrived first counts.
//!
//! Three passes over the identities in place of a table of them all. First four bytes of each identity's hash are noted, apart by the
//! hash's first bits ([`Noted`]). In each such partition they set one bit each, in a table that fits the processor's cache; one that
//! finds its bit set becomes a suspect ([`suspects`]). Then the arrivals of suspects are gathered ([`Arrivals`]), and sorting them decides
//! ([`repeats`]). Two different identities with one bit cost a comparison, never a row: so the answer is exact, and it depends neither on
//! the order of the rows nor on how threads share them. For 16 bits a row and 1 % of repeats some 7 % of the rows are gathered.

use arrow::array::{Array, FixedSizeBinaryArray};
use arrow::datatypes::TimestampMicrosecondType;
use arrow::record_batch::RecordBatch;

use super::{PerRowError, numbers, spread};
use crate::columns::{RowError, hash_column, instants};

/// Partitions of the identities, by the first six bits of their hashes.
pub const PARTITIONS: usize = 64;
const PARTITION_BITS: u32 = 6;
/// Bits of a hash that are noted beside its partition.
const NOTED_BITS: u32 = 32;
/// Bits for each row, rounded up to a power of two.
const BITS_PER_ROW: u64 = 16;
/// Bits of a partition's table, as exponents of two.
const EXPONENT_MIN: u32 = 10;
const EXPONENT_MAX: u32 = NOTED_BITS;
/// Bits of a table for one bit of what is suspected, as an exponent of two.
const SHARE: u32 = 4;

/// What is noted of identities. Each thread has its own.
#[derive(Debug)]
pub struct Noted(Vec<Vec<u32>>);

/// Which identities may be there more than once: every one that is, and a few that are not.
#[derive(Debug)]
pub struct Suspected {
    words: Vec<u64>,
    /// How far a 64-bit hash is shifted to give the number of a bit.
    shift: u32,
}

/// The rows whose identities are suspected.
#[derive(Debug, Default)]
pub struct Arrivals(Vec<Arrival>);

/// In the order in which the first of an identity counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    identity: u128,
    accepted_at: i64,
    row: u64,
}

impl Noted {
    /// With room for so many rows; more can come.
    ///
    /// - Units: memory of 4 bytes a row.
    pub fn with_room(rows: u64) -> Self {
        // Hashes spread evenly, but not quite.
        let room = usize::try_from(rows.saturating_add(rows / 16) >> PARTITION_BITS).unwrap_or_default();
        Self(std::iter::repeat_with(|| Vec::with_capacity(room)).take(PARTITIONS).collect())
    }

    /// First pass: notes the identities of rows.
    ///
    /// - Nulls: none may be in `identity`.
    pub fn note(&mut self, rows: &RecordBatch) -> Result<(), PerRowError> {
        for identity in identities(rows)? {
            let hash = hash_of(identity);
            if let Some(partition) = self.0.get_mut((hash >> (64 - PARTITION_BITS)) as usize) {
                partition.push((hash >> (64 - PARTITION_BITS - NOTED_BITS)) as u32);
            }
        }
        Ok(())
    }
}

/// Second pass, after the whole of the first: the suspects of one partition, as bits for [`Suspected::of`].
pub fn suspects(noted: &[Noted], partition: usize) -> Vec<u64> {
    let rows: usize = noted.iter().flat_map(|noted| &noted.0).map(Vec::len).sum();
    let bits = (rows as u64).saturating_mul(BITS_PER_ROW).max(1).next_power_of_two().trailing_zeros();
    let exponent = bits.saturating_sub(PARTITION_BITS).clamp(EXPONENT_MIN, EXPONENT_MAX);
    let table = |exponent: u32| vec![0_u64; 1 << exponent.saturating_sub(6)];
    let (mut seen, mut suspected) = (table(exponent), table(exponent.saturating_sub(SHARE)));
    for hash in noted.iter().filter_map(|noted| noted.0.get(partition)).flatten() {
        let bit = hash >> NOTED_BITS.saturating_sub(exponent);
        if set(&mut seen, bit) {
            set(&mut suspected, bit >> SHARE);
        }
    }
    suspected
}

/// Sets a bit and says whether it was set.
fn set(words: &mut [u64], bit: u32) -> bool {
    let Some(word) = words.get_mut((bit >> 6) as usize) else { return true };
    let (before, bit) = (*word, 1 << (bit & 63));
    *word |= bit;
    before & bit != 0
}

impl Suspected {
    /// From the suspects of all partitions, in their order.
    pub fn of(partitions: &[Vec<u64>]) -> Self {
        let words = partitions.concat();
        let shift = 64_u32.saturating_sub(words.len().max(1).trailing_zeros().saturating_add(6));
        Self { words, shift }
    }

    fn contains(&self, hash: u64) -> bool {
        let bit = hash >> self.shift;
        // Where a partition is missing, everything is suspected.
        self.words.get((bit >> 6) as usize).is_none_or(|word| word & (1 << (bit & 63)) != 0)
    }
}

impl Arrivals {
    /// Third pass: gathers the rows whose identity is suspected. `first_row` is the number of the first.
    ///
    /// - Nulls: none may be in `identity` and `accepted_at`.
    pub fn gather(&mut self, first_row: u64, rows: &RecordBatch, suspected: &Suspected) -> Result<(), PerRowError> {
        let accepted = numbers::<TimestampMicrosecondType>(rows, "accepted_at", &instants(), "timestamp(µs, UTC)")?;
        for ((row, identity), accepted_at) in (first_row..).zip(identities(rows)?).zip(accepted) {
            if suspected.contains(hash_of(identity)) {
                self.0.push(Arrival { identity: u128::from_be_bytes(*identity), accepted_at: *accepted_at, row });
            }
        }
        Ok(())
    }

    /// Takes those of another part of the rows.
    pub fn join(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// The numbers of the rows that are not the first of their identity, ascending. Of two that arrived at one time the first row counts.
pub fn repeats(arrivals: Arrivals) -> Vec<u64> {
    let mut arrivals = arrivals.0;
    arrivals.sort_unstable();
    let pairs = arrivals.iter().zip(arrivals.iter().skip(1));
    let mut rows: Vec<u64> = pairs.filter(|(one, next)| one.identity == next.identity).map(|(_, next)| next.row).collect();
    rows.sort_unstable();
    rows
}

pub(super) fn identities(rows: &RecordBatch) -> Result<&[[u8; 16]], RowError> {
    let column: &FixedSizeBinaryArray = hash_column(rows, "identity")?.without_nulls()?;
    let bytes = column.value_data().get(..column.len().saturating_mul(16)).unwrap_or_default();
    Ok(bytes.as_chunks().0)
}

fn hash_of(identity: &[u8; 16]) -> u64 {
    let number = u128::from_le_bytes(*identity);
    spread(spread(number as u64) ^ (number >> 64) as u64)
}
