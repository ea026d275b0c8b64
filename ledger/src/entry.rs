//! Entries and the bytes that their digests cover. Pure; it does not know how rows are stored.
//!
//! Row: big-endian `seq u64, entry_no u64, kind u8, ref_seq u64 (0 = none), amount i64, accounting_period i32, effective_at i64`, then the texts
//! `debit, credit, asset`, then `0` or `1` and `service_period i32, organization, contract, contract_line, currency`, then `0` or `1` and the
//! quantity as plain decimal text. A text is its length as `u32`, then its UTF-8 bytes.
//! Rows digest: SHA-256 of the tag `tallystick ledger rows 1\n` and all rows in order.
//! Entry digest: SHA-256 of the tag `tallystick ledger entry 1\n`, the previous digest, `entry_no, first_seq, last_seq, first_batch,
//! last_batch` as `u64`, and the rows digest.
//! Digest of a command's entry: SHA-256 of the tag `tallystick ledger command entry 1\n`, the previous digest, `entry_no, first_seq, last_seq` as
//! `u64`, the command's digest, and the rows digest.

use sha2::{Digest as _, Sha256};
use shared_types::{BatchNo, Digest};

use crate::posting::Posting;

const ROWS_TAG: &[u8] = b"tallystick ledger rows 1\n";
const ENTRY_TAG: &[u8] = b"tallystick ledger entry 1\n";
const COMMAND_TAG: &[u8] = b"tallystick ledger command entry 1\n";

/// What an entry comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// Usage: a cut of the batch log.
    Batches {
        /// First batch covered: the one after the last that an entry covers. Batches that posted nothing are covered by the next entry.
        first: BatchNo,
        /// Last batch covered.
        last: BatchNo,
    },
    /// A command of the command log.
    Command {
        /// Digest of its payload.
        digest: Digest,
    },
}

/// The header of a group: which postings have one cause, what it is, and its link in the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Dense number, from 1.
    pub number: u64,
    /// Sequence number of its first posting.
    pub first_seq: u64,
    /// Sequence number of its last posting.
    pub last_seq: u64,
    /// What it comes from.
    pub cause: Cause,
    /// Digest of the entry before; zeros for the first.
    pub previous: Digest,
    /// Digest of this entry.
    pub digest: Digest,
}

/// A posting as it stands in the book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BookedPosting {
    /// Dense number in the book, from 1.
    pub seq: u64,
    /// The entry it belongs to.
    pub entry_no: u64,
    /// What is posted.
    pub posting: Posting,
}

impl Entry {
    /// The digest of an entry with these numbers over these rows.
    pub(crate) fn digest_over(&self, rows: &Digest) -> Digest {
        let mut hasher = Sha256::new();
        hasher.update(match self.cause {
            Cause::Batches { .. } => ENTRY_TAG,
            Cause::Command { .. } => COMMAND_TAG,
        });
        hasher.update(self.previous.0);
        for number in [self.number, self.first_seq, self.last_seq] {
            hasher.update(number.to_be_bytes());
        }
        match self.cause {
            Cause::Batches { first, last } => {
                hasher.update(first.0.to_be_bytes());
                hasher.update(last.0.to_be_bytes());
            }
            Cause::Command { digest } => hasher.update(digest.0),
        }
        hasher.update(rows.0);
        Digest(hasher.finalize().into())
    }
}

/// Takes rows in order and answers their digest.
pub(crate) struct RowsDigest {
    hasher: Sha256,
    row: Vec<u8>,
}

impl RowsDigest {
    pub(crate) fn new() -> Self {
        let mut hasher = Sha256::new();
        hasher.update(ROWS_TAG);
        Self { hasher, row: Vec::with_capacity(256) }
    }

    pub(crate) fn add(&mut self, seq: u64, entry_no: u64, posting: &Posting) {
        self.row.clear();
        encode(seq, entry_no, posting, &mut self.row);
        self.hasher.update(&self.row);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.hasher.finalize().into())
    }
}

fn encode(seq: u64, entry_no: u64, posting: &Posting, out: &mut Vec<u8>) {
    out.extend(seq.to_be_bytes());
    out.extend(entry_no.to_be_bytes());
    out.push(posting.kind().number());
    out.extend(0_u64.to_be_bytes());
    out.extend(posting.amount().units().to_be_bytes());
    out.extend(posting.accounting_period().number().to_be_bytes());
    out.extend(posting.effective_at().micros().to_be_bytes());
    text(posting.debit().as_str(), out);
    text(posting.credit().as_str(), out);
    text(posting.asset().as_str(), out);
    match posting.key() {
        None => out.push(0),
        Some(key) => {
            out.push(1);
            out.extend(key.service_period.number().to_be_bytes());
            text(key.organization.as_str(), out);
            text(key.contract.as_str(), out);
            text(&key.contract_line, out);
            text(key.currency.as_str(), out);
        }
    }
    match posting.quantity() {
        None => out.push(0),
        Some(quantity) => {
            out.push(1);
            text(&quantity.to_string(), out);
        }
    }
}

/// Texts of a posting are a few hundred bytes at most: ids are bounded, and a longer contract line is refused by `append`.
fn text(text: &str, out: &mut Vec<u8>) {
    out.extend(u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::posting::{AccountId, PostingKey, Sides};
    use shared_types::{Amount, AssetId, ContractId, Month, OrganizationId, Quantity};

    fn posting(line: &str) -> Posting {
        let month = Month::from_number(202_611).unwrap();
        let usd = AssetId::parse("USD").unwrap();
        let sides =
            Sides { debit: AccountId::of(&["org", "acme", "unbilled"]).unwrap(), credit: AccountId::of(&["revenue", "gpu"]).unwrap() };
        let key = PostingKey {
            organization: OrganizationId::parse("acme").unwrap(),
            contract: ContractId::parse("c-1").unwrap(),
            contract_line: line.to_owned(),
            service_period: month,
            currency: usd.clone(),
        };
        let posting = Posting::new(sides, usd, Amount::parse("12.5").unwrap(), month, month.start()).unwrap();
        posting.about(key, Quantity::parse("3.25").unwrap()).unwrap()
    }

    /// The format is frozen: evidence depends on it. The values were computed by another program (Python's `struct` and `hashlib`).
    #[test]
    fn the_digest_of_a_known_entry_stays_the_same() {
        let mut rows = RowsDigest::new();
        rows.add(1, 1, &posting("h200"));
        let rows = rows.finish();
        let entry = Entry {
            number: 1,
            first_seq: 1,
            last_seq: 1,
            cause: Cause::Batches { first: BatchNo(1), last: BatchNo(3) },
            previous: Digest::ZERO,
            digest: Digest::ZERO,
        };
        assert_eq!(rows.to_string(), "1a575b5946986078e77b696e79fede72ac4f0b4e54489c889f4064a49d1d4cea");
        assert_eq!(entry.digest_over(&rows).to_string(), "6b15444f385c2230aa561b5a27352b66096f2a3c21b314a9dfee7e2ff56b093e");
        let command = Entry { cause: Cause::Command { digest: Digest([7; 32]) }, ..entry };
        assert_eq!(command.digest_over(&rows).to_string(), "c507880e62ce85ce2718604d54b46115c54cf5e3a33fc8c66acaac9e8045bb46");
    }

    #[test]
    fn text_lengths_keep_neighbours_apart() {
        let digest = |line| {
            let mut rows = RowsDigest::new();
            rows.add(1, 1, &posting(line));
            rows.finish()
        };
        assert_ne!(digest("h200"), digest("h200U"));
    }
}
