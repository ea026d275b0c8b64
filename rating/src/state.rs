//! What rating remembers: for each key the sums by price row and what was booked, and the sizes of the organization logs.
//! It knows no price and no reading; [`mod@crate::rate`] makes overlays, [`RatingState::apply`] takes them in after the commit.

mod detail;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use shared_types::{Amount, AssetId, ContractId, Instant, Month, OrganizationId, PriceId, Quantity, ShardId, SkuId};

pub(crate) use self::detail::counted;
pub use self::detail::{Classes, Detail, ENTRIES_MAX, Fact, Place, Refused, StepSum};
use crate::plan::PriceRow;
use crate::totals::Total;

/// What a running total is kept for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Who owes.
    pub organization: OrganizationId,
    /// Under which agreement.
    pub contract: ContractId,
    /// For what: with the contract, the contract line.
    pub sku: SkuId,
    /// When the usage happened: the UTC calendar month of its start.
    pub service_period: Month,
    /// In which currency.
    pub currency: AssetId,
}

/// What was charged under one price row.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct SegmentState {
    /// Σ quantity, in the meter's unit. Counting meters read 1 from each event, so this is a sum for them too.
    pub quantity: Quantity,
    /// How many readings.
    pub readings: u64,
    /// What the row's measure needs beyond the sums.
    pub detail: Detail,
}

impl SegmentState {
    /// Σ quantity of some readings, without detail.
    pub fn of_sums(quantity: Quantity, readings: u64) -> Self {
        Self { quantity, readings, detail: Detail::Sums }
    }

    /// The state with one more reading.
    ///
    /// - Errors: a sum that leaves its range or a detail without room; a reading without the dimension that is counted.
    pub fn with(&self, row: &PriceRow, fact: &Fact<'_>) -> Result<Self, Refused> {
        let quantity = self.quantity.checked_add(fact.quantity).map_err(|_| Refused::Range)?;
        let readings = self.readings.checked_add(1).ok_or(Refused::Range)?;
        let mut detail = self.detail.clone();
        detail.add(row, fact, self.readings == 0)?;
        Ok(Self { quantity, readings, detail })
    }
}

/// A key's state after some readings. A key that only free readings touched has no segment and owes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyState {
    /// Sums by price row; F is evaluated over them.
    pub segments: BTreeMap<PriceId, SegmentState>,
    /// Latest start of a charged or free reading; of billed time the last instant of the latest piece.
    pub last_at: Instant,
    /// T: what the key was charged so far.
    pub total: Amount,
    /// Revenue family, of the line that priced its latest reading in sealed order.
    pub family: Arc<str>,
    /// Shard of the organization.
    pub shard: ShardId,
}

/// Why bytes are not a state, or rows not a recovery.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// Not a version that this code writes.
    #[error("the state has version {version}, only {VERSION} and {VERSION_WITH_DETAILS} are known")]
    Version {
        /// What was found.
        version: u8,
    },
    /// Cut short, not sorted, a name or number out of range, or bytes left over.
    #[error("the state is malformed at byte {at}")]
    Malformed {
        /// Where.
        at: usize,
    },
}

const VERSION: u8 = 1;
/// States in which a segment has a detail.
const VERSION_WITH_DETAILS: u8 = 2;

/// The canonical bytes of a state's segments: equal segments have equal bytes.
///
/// Layout, numbers big-endian: version `u8` = 1, count `u32`, then by rising price id: length `u16`, price id (ASCII), Σ quantity `i128`
/// in units of 10^-9 of the meter's unit, readings `u64`. Where any segment has a detail, the version is 2 and every segment ends with a tag
/// `u8` and its detail: 0 none; 1 extreme `i128`; 2 latest: place, `i128`; 3 set: days `u32`, list of day `u32` and item of 16 bytes; 4 held:
/// Σ quantity × µs `i128`, µs of the period `i64`; 5 levels: µs of the period `i64`, list of place, `i128`, µs held `i64`; 6 buckets: how many
/// `u32`, list of number `u32` and `i128`; 7 transactions: Σ within `i128`, least `u64`, most `u64`, list of place and `i128`; 8 steps: list of lower bound `i128`, Σ quantity `i128`,
/// packages `i128`, fees `u64`; 9 sessions: µs of the period `i64`, list of session of 16 bytes, level `i128` and µs held `i64`. A place is start
/// in µs `i64`, identity of 16 bytes, ordinal `u16`; a list is its length `u32` and its rising entries.
pub fn encode_segments(segments: &BTreeMap<PriceId, SegmentState>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    encode_into(segments, &mut bytes);
    bytes
}

/// As [`encode_segments`], into a buffer that is emptied first.
pub(crate) fn encode_into(segments: &BTreeMap<PriceId, SegmentState>, bytes: &mut Vec<u8>) {
    bytes.clear();
    let detailed = segments.values().any(|segment| segment.detail != Detail::Sums);
    bytes.push(if detailed { VERSION_WITH_DETAILS } else { VERSION });
    // A price id has at most 128 characters and a key never sees 2^32 price rows.
    bytes.extend_from_slice(&u32::try_from(segments.len()).unwrap_or(u32::MAX).to_be_bytes());
    for (price, segment) in segments {
        bytes.extend_from_slice(&u16::try_from(price.as_str().len()).unwrap_or(u16::MAX).to_be_bytes());
        bytes.extend_from_slice(price.as_str().as_bytes());
        bytes.extend_from_slice(&segment.quantity.units().to_be_bytes());
        bytes.extend_from_slice(&segment.readings.to_be_bytes());
        if detailed {
            segment.detail.encode_into(bytes);
        }
    }
}

/// Reads what [`encode_segments`] wrote; anything else is refused.
pub fn decode_segments(bytes: &[u8]) -> Result<BTreeMap<PriceId, SegmentState>, StateError> {
    let mut rest = bytes;
    let malformed = |rest: &[u8]| StateError::Malformed { at: bytes.len().saturating_sub(rest.len()) };
    let [version] = take(&mut rest).ok_or_else(|| malformed(rest))?;
    if !(VERSION..=VERSION_WITH_DETAILS).contains(&version) {
        return Err(StateError::Version { version });
    }
    let detailed = version == VERSION_WITH_DETAILS;
    let count = u32::from_be_bytes(take(&mut rest).ok_or_else(|| malformed(rest))?);
    let mut segments = BTreeMap::new();
    for _ in 0..count {
        let at = rest;
        let (price, segment) = segment(&mut rest, detailed).ok_or_else(|| malformed(at))?;
        if segments.last_key_value().is_some_and(|(last, _)| *last >= price) {
            return Err(malformed(at));
        }
        segments.insert(price, segment);
    }
    // A state without details has one spelling only.
    let canonical = !detailed || segments.values().any(|segment| segment.detail != Detail::Sums);
    if rest.is_empty() && canonical { Ok(segments) } else { Err(malformed(rest)) }
}

fn segment(rest: &mut &[u8], detailed: bool) -> Option<(PriceId, SegmentState)> {
    let length = u16::from_be_bytes(take(rest)?);
    let (name, after) = rest.split_at_checked(usize::from(length))?;
    *rest = after;
    let price = PriceId::parse(std::str::from_utf8(name).ok()?).ok()?;
    let quantity = Quantity::from_units(i128::from_be_bytes(take(rest)?)).ok()?;
    let readings = u64::from_be_bytes(take(rest)?);
    let detail = if detailed { Detail::decode(rest)? } else { Detail::Sums };
    Some((price, SegmentState { quantity, readings, detail }))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, after) = rest.split_first_chunk()?;
    *rest = after;
    Some(*head)
}

/// What a batch changes: the new state of every key and log that it touched. Valid only for the state it was rated on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    pub(crate) keys: Vec<(Key, KeyState)>,
    pub(crate) logs: Vec<((OrganizationId, Month), u64)>,
}

/// Everything that rating remembers between batches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RatingState {
    keys: HashMap<Key, KeyState>,
    logs: HashMap<(OrganizationId, Month), u64>,
}

impl RatingState {
    /// Rebuilds the state from all rows of `totals`, in order of their batches (rows of one batch in any order).
    ///
    /// - Errors: a row whose state cannot be decoded.
    /// - Source: `RAT-5`.
    pub fn restore<'a>(totals: impl IntoIterator<Item = &'a Total>) -> Result<Self, StateError> {
        let mut state = Self::default();
        totals.into_iter().try_for_each(|total| state.absorb(total))?;
        Ok(state)
    }

    /// Takes in one row of `totals`; rows of later batches come later.
    pub fn absorb(&mut self, total: &Total) -> Result<(), StateError> {
        let key_state = KeyState {
            segments: decode_segments(&total.state)?,
            last_at: total.last_at,
            total: total.total,
            family: Arc::clone(&total.family),
            shard: total.shard,
        };
        self.keys.insert(total.key(), key_state);
        for (month, size) in &total.log_sizes {
            self.logs.insert((total.organization.clone(), *month), *size);
        }
        Ok(())
    }

    /// Takes in what a batch changed, after its commit.
    pub fn apply(&mut self, overlay: Overlay) {
        self.keys.extend(overlay.keys);
        self.logs.extend(overlay.logs);
    }

    /// The state of a key.
    pub fn get(&self, key: &Key) -> Option<&KeyState> {
        self.keys.get(key)
    }

    /// All keys, in no particular order.
    pub fn keys(&self) -> impl ExactSizeIterator<Item = (&Key, &KeyState)> {
        self.keys.iter()
    }

    /// What it knows of some organizations and months.
    #[must_use]
    pub fn part(&self, wanted: impl Fn(&OrganizationId, Month) -> bool) -> Self {
        let keys = self.keys.iter().filter(|(key, _)| wanted(&key.organization, key.service_period));
        let logs = self.logs.iter().filter(|((organization, month), _)| wanted(organization, *month));
        Self {
            keys: keys.map(|(key, state)| (key.clone(), state.clone())).collect(),
            logs: logs.map(|(log, size)| (log.clone(), *size)).collect(),
        }
    }

    /// How many leaves the log of an organization and UTC month has: the next `log_seq`.
    pub fn log_size(&self, organization: &OrganizationId, month: Month) -> u64 {
        self.logs.get(&(organization.clone(), month)).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segments() -> BTreeMap<PriceId, SegmentState> {
        [("b/2", "-0.000000001", 7), ("a/1", "12345678901234567890123456789.5", u64::MAX)]
            .into_iter()
            .map(|(price, quantity, readings)| (PriceId::parse(price).unwrap(), SegmentState::of_sums(quantity.parse().unwrap(), readings)))
            .collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Frozen: batches on disk hold these bytes for ever.
    #[test]
    fn states_keep_their_bytes() {
        assert_eq!(hex(&encode_segments(&BTreeMap::new())), "0100000000");
        let frozen = concat!(
            "01",
            "00000002",
            "0003",
            "612f31",
            "0949b0f6f0023313c4499050fb49f700",
            "ffffffffffffffff",
            "0003",
            "622f32",
            "ffffffffffffffffffffffffffffffff",
            "0000000000000007",
        );
        assert_eq!(hex(&encode_segments(&segments())), frozen);
        assert_eq!(decode_segments(&encode_segments(&segments())), Ok(segments()));
    }

    /// One segment with each detail.
    fn detailed() -> BTreeMap<PriceId, SegmentState> {
        let place = |second: i64| Place {
            at: Instant::from_micros(second * 1_000_000).unwrap(),
            identity: shared_types::IdentityHash([7; 16]),
            ordinal: 258,
        };
        let quantity = |text: &str| text.parse::<Quantity>().unwrap();
        let details = [
            Detail::Sums,
            Detail::Extreme(quantity("-1")),
            Detail::Latest(place(1), quantity("2")),
            Detail::Set { days: 31, items: [(1, [9; 16]), (2, [8; 16])].into() },
            Detail::Held { unit_micros: -5, period_micros: 6 },
            Detail::Levels { period_micros: 6, changes: [(place(1), (quantity("1"), 4)), (place(2), (quantity("-1"), 3))].into() },
            Detail::Buckets { count: 744, values: [(0, quantity("1")), (743, quantity("3"))].into() },
            Detail::Transactions { head: [(place(3), quantity("4"))].into(), tail: Classes { within: quantity("5"), least: 1, most: 2 } },
            Detail::Steps([(quantity("2"), StepSum { quantity: quantity("3"), packages: 4, fees: 5 })].into()),
            Detail::Sessions { period_micros: 6, held: [(([1; 16], quantity("8")), 7), (([2; 16], quantity("1")), -2)].into() },
        ];
        let segment = |(number, detail)| {
            (PriceId::parse(&format!("p{number}")).unwrap(), SegmentState { quantity: quantity("1"), readings: 1, detail })
        };
        (0..).zip(details).map(segment).collect()
    }

    /// Frozen like version 1: batches on disk hold these bytes for ever.
    #[test]
    fn states_with_details_keep_their_bytes() {
        let bytes = encode_segments(&detailed());
        assert_eq!(decode_segments(&bytes), Ok(detailed()));
        let frozen = include_str!("../tests/golden/state_version_2.hex");
        assert_eq!(hex(&bytes), frozen.lines().collect::<String>());
        for cut in 0..bytes.len() {
            assert!(decode_segments(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut plain = encode_segments(&segments());
        plain[0] = 2;
        assert!(matches!(decode_segments(&plain), Err(StateError::Malformed { .. })), "version 2 without a detail");
    }

    #[test]
    fn anything_but_canonical_bytes_is_refused() {
        let bytes = encode_segments(&segments());
        for cut in 0..bytes.len() {
            assert!(decode_segments(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert_eq!(decode_segments(&longer), Err(StateError::Malformed { at: bytes.len() }));
        let mut unsorted = bytes.clone();
        unsorted[7] = b'c';
        assert!(matches!(decode_segments(&unsorted), Err(StateError::Malformed { .. })));
        let mut newer = bytes;
        newer[0] = 3;
        assert_eq!(decode_segments(&newer), Err(StateError::Version { version: 3 }));
    }
}
