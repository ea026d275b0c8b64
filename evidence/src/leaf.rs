//! The leaf: what an organization's log says about one reading. Canonical JSON, every number as text.
//! It knows neither the organization (the checkpoint binds it) nor prices (the registry version does).

use shared_types::{Digest, Instant, MeterId, Quantity, UnitId};

use crate::tree::leaf_hash;

/// One accepted reading as its log records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafInput {
    /// Dense number in its log (organization and UTC month of `start_at`), from 0: the index of the leaf in the tree.
    pub log_seq: u64,
    /// The meter.
    pub meter: MeterId,
    /// What the quantity counts.
    pub unit: UnitId,
    /// How much.
    pub quantity: Quantity,
    /// When the usage began (or happened).
    pub start_at: Instant,
    /// When it ended, for intervals.
    pub end_at: Option<Instant>,
    /// The registry version in force.
    pub registry_version: Digest,
    /// Commitment to every string that the source supplied: see [`crate::salt`].
    pub commitment: Digest,
}

impl LeafInput {
    /// Appends the canonical text: RFC 8785, keys in order, numbers and instants as strings, `end_at` null for a moment.
    pub fn write(&self, out: &mut String) {
        out.push_str("{\"commitment\":\"");
        push_hex(&self.commitment, out);
        out.push_str("\",\"end_at\":");
        match self.end_at {
            Some(at) => {
                out.push('"');
                push_instant(at, out);
                out.push('"');
            }
            None => out.push_str("null"),
        }
        out.push_str(",\"log_seq\":\"");
        push_number(self.log_seq.into(), out);
        out.push_str("\",\"meter\":\"");
        // Ids consist of characters that JSON never escapes.
        out.push_str(self.meter.as_str());
        out.push_str("\",\"quantity\":\"");
        push_quantity(self.quantity, out);
        out.push_str("\",\"registry_version\":\"");
        push_hex(&self.registry_version, out);
        out.push_str("\",\"start_at\":\"");
        push_instant(self.start_at, out);
        out.push_str("\",\"unit\":\"");
        out.push_str(self.unit.as_str());
        out.push_str("\"}");
    }

    /// The canonical text.
    pub fn canonical(&self) -> String {
        let mut out = String::with_capacity(400);
        self.write(&mut out);
        out
    }

    /// The RFC 6962 hash of the canonical text.
    pub fn hash(&self) -> Digest {
        leaf_hash(self.canonical().as_bytes())
    }
}

fn push_hex(digest: &Digest, out: &mut String) {
    for byte in digest.0 {
        out.extend([char::from_digit(u32::from(byte >> 4), 16), char::from_digit(u32::from(byte & 15), 16)].into_iter().flatten());
    }
}

/// Plain decimal digits.
fn push_number(number: u128, out: &mut String) {
    match u64::try_from(number) {
        Ok(number) if number < 10 => push_digits(number, 1, out),
        Ok(number) => push_digits(number, number.ilog10() + 1, out),
        Err(_) => out.push_str(&number.to_string()),
    }
}

/// The last `width` digits, leading zeros included.
fn push_digits(number: u64, width: u32, out: &mut String) {
    let mut power = 10_u64.pow(width.saturating_sub(1));
    while power > 0 {
        out.extend(char::from_digit(u32::try_from(number / power % 10).unwrap_or(0), 10));
        power /= 10;
    }
}

/// As `Quantity` shows itself: no trailing zeros.
fn push_quantity(quantity: Quantity, out: &mut String) {
    const ONE: u128 = 10_u128.pow(Quantity::SCALE);
    if quantity.units() < 0 {
        out.push('-');
    }
    let magnitude = quantity.units().unsigned_abs();
    push_number(magnitude / ONE, out);
    let mut fraction = u64::try_from(magnitude % ONE).unwrap_or(0);
    if fraction > 0 {
        let mut width = Quantity::SCALE;
        while fraction % 10 == 0 {
            fraction /= 10;
            width -= 1;
        }
        out.push('.');
        push_digits(fraction, width, out);
    }
}

/// As `Instant` shows itself: RFC 3339 in UTC, six decimal places or none.
fn push_instant(at: Instant, out: &mut String) {
    let month = at.month();
    let number = u64::try_from(month.number()).unwrap_or(0);
    let micros = u64::try_from(at.micros() - month.start().micros()).unwrap_or(0);
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    push_digits(number / 100, 4, out);
    out.push('-');
    push_digits(number % 100, 2, out);
    out.push('-');
    push_digits(seconds / 86_400 + 1, 2, out);
    out.push('T');
    push_digits(seconds / 3_600 % 24, 2, out);
    out.push(':');
    push_digits(seconds / 60 % 60, 2, out);
    out.push(':');
    push_digits(seconds % 60, 2, out);
    if fraction > 0 {
        out.push('.');
        push_digits(fraction, 6, out);
    }
    out.push('Z');
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(leaf: &LeafInput) {
        let same = serde_json::json!({
            "log_seq": leaf.log_seq, "meter": leaf.meter, "unit": leaf.unit, "quantity": leaf.quantity, "start_at": leaf.start_at,
            "end_at": leaf.end_at, "registry_version": leaf.registry_version, "commitment": leaf.commitment,
        });
        assert_eq!(leaf.canonical(), shared_types::canonical_json(&same).unwrap());
    }

    proptest! {
        #[test]
        fn the_writer_equals_canonical_json(
            log_seq in any::<u64>(),
            units in any::<i128>(),
            small in -2_000_000_000_i128..2_000_000_000,
            start in 0_i64..253_402_300_800_000_000,
            whole in any::<bool>(),
            interval in any::<bool>(),
            commitment in any::<[u8; 32]>(),
        ) {
            let start_at = Instant::from_micros(if whole { start / 1_000_000 * 1_000_000 } else { start }).unwrap();
            for units in [units % 10_i128.pow(38), small, small * 1_000_000_000] {
                check(&LeafInput {
                    log_seq,
                    meter: MeterId::parse("llm.tokens/in:v1@x_y-z").unwrap(),
                    unit: UnitId::parse("token").unwrap(),
                    quantity: Quantity::from_units(units).unwrap(),
                    start_at,
                    end_at: interval.then_some(start_at),
                    registry_version: Digest([9; 32]),
                    commitment: Digest(commitment),
                });
            }
        }
    }
}
