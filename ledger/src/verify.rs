//! Reads the whole book and names every row that does not fit. It trusts no trigger and repairs nothing.

use std::collections::{BTreeMap, BTreeSet};

use shared_db::{DbError, Transaction, Value, cuts};
use shared_types::Digest;

use crate::book::{AppendError, FOLD, balances, fold_cursor};
use crate::command::Command;
use crate::entry::{BookedPosting, Cause, Entry, RowsDigest};
use crate::store::{ACCOUNTS, ASSETS, COMMANDS, ENTRIES, PERIODS, POSTINGS, read_command, read_entry, read_posting};

/// How many postings are read at once.
const PAGE: u32 = 10_000;

/// One thing that is wrong with the book. The text names the row.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// A row holds something that the book does not write.
    #[error("{row} is unreadable: {problem}")]
    Unreadable {
        /// `entry` or `posting` with its place.
        row: String,
        /// What is wrong.
        problem: String,
    },
    /// Entries are not numbered densely, or do not continue the sequence, the chain or the batches.
    #[error("entry {entry_no} does not continue the one before it: {what}")]
    Chain {
        /// The entry.
        entry_no: u64,
        /// `number`, `first_seq`, `previous` or `first_batch`.
        what: &'static str,
    },
    /// The postings and numbers of an entry are not those that were digested.
    #[error("entry {entry_no} does not have its digest: one of its postings {first_seq} to {last_seq} or its header was changed")]
    EntryDigest {
        /// The entry.
        entry_no: u64,
        /// Its first posting.
        first_seq: u64,
        /// Its last posting.
        last_seq: u64,
    },
    /// A sequence number is missing.
    #[error("posting {seq} is missing")]
    Missing {
        /// The number.
        seq: u64,
    },
    /// A posting belongs to no entry, or to another than the one that covers its number.
    #[error("posting {seq} says entry {entry_no}, which does not cover it")]
    Stray {
        /// The posting.
        seq: u64,
        /// The entry it names.
        entry_no: u64,
    },
    /// A posting names an account that the book does not have in that asset.
    #[error("posting {seq} names {account}, which does not exist in {asset}")]
    Account {
        /// The posting.
        seq: u64,
        /// The account.
        account: String,
        /// The asset.
        asset: String,
    },
    /// An account is in an asset that the book does not have.
    #[error("account {account} is in {asset}, which does not exist")]
    Asset {
        /// The account.
        account: String,
        /// The asset.
        asset: String,
    },
    /// A posting stands in a period that was never opened, or was written after its close.
    #[error("posting {seq} stands in period {period}, which {what}")]
    Period {
        /// The posting.
        seq: u64,
        /// The accounting period.
        period: i32,
        /// `was not open` or `had been closed`.
        what: &'static str,
    },
    /// A balance is not the sum of its postings.
    #[error("balance of {account} in {asset} is {stored}, but its postings sum to {summed}")]
    Balance {
        /// The account.
        account: String,
        /// The asset.
        asset: String,
        /// Stored debits and credits.
        stored: String,
        /// Summed debits and credits.
        summed: String,
    },
    /// An entry does not end where a cut of the fold ends, or lies beyond the cursor.
    #[error("entry {entry_no} ends at batch {last_batch}, where no cut of the fold ends")]
    Cut {
        /// The entry.
        entry_no: u64,
        /// Its last batch.
        last_batch: u64,
    },
    /// A command is not the one of its entry, or its entry posts something else.
    #[error("the command of entry {entry_no} {problem}")]
    Command {
        /// The entry.
        entry_no: u64,
        /// What is wrong.
        problem: String,
    },
    /// The recorded cuts are not dense, or do not end at the cursor.
    #[error("cut {cut_no} of the fold does not continue the one before it, or does not end at the cursor")]
    Cursor {
        /// The cut; 0 when there is a cursor without cuts.
        cut_no: u64,
    },
}

/// Debits and credits in units of 10^-9.
type Sums = (i128, i128);

/// Checks the chain, the density of every number, references, balances and the fold's cuts. Empty when nothing is wrong.
///
/// A changed posting is named by its entry (the digest covers the group) and, if amounts or accounts changed, by the balances that no longer
/// fit. A book cut off at its end shows in balances, cursor and cuts; against an operator who rewrites all of them only a checkpoint kept
/// elsewhere helps.
pub async fn verify(tx: &mut Transaction) -> Result<Vec<Violation>, AppendError> {
    let mut found = Vec::new();
    let entries = check_entries(tx, &mut found).await?;
    check_cuts(tx, &entries, &mut found).await?;
    let commands = check_commands(tx, &entries, &mut found).await?;
    let references = References::read(tx, &mut found).await?;
    let sums = check_postings(tx, &entries, &commands, &references, &mut found).await?;
    check_balances(tx, sums, &mut found).await?;
    Ok(found)
}

async fn check_entries(tx: &mut Transaction, found: &mut Vec<Violation>) -> Result<Vec<Entry>, DbError> {
    let mut entries: Vec<Entry> = Vec::new();
    let (mut number, mut seq, mut batch, mut digest) = (0, 0, 0, Digest::ZERO);
    for row in tx.query(&ENTRIES, &[]).await? {
        let entry = match read_entry(&row) {
            Ok(entry) => entry,
            Err(problem) => {
                found.push(Violation::Unreadable { row: format!("the entry after {number}"), problem });
                continue;
            }
        };
        let continues = match entry.cause {
            Cause::Batches { first, .. } => first.0 == batch + 1,
            Cause::Command { .. } => true,
        };
        let checks = [
            ("number", entry.number == number + 1),
            ("first_seq", entry.first_seq == seq + 1),
            ("first_batch", continues),
            ("previous", entry.previous == digest),
        ];
        for (what, fits) in checks {
            if !fits {
                found.push(Violation::Chain { entry_no: entry.number, what });
            }
        }
        (number, seq, digest) = (entry.number, entry.last_seq, entry.digest);
        if let Cause::Batches { last, .. } = entry.cause {
            batch = last.0;
        }
        entries.push(entry);
    }
    Ok(entries)
}

async fn check_cuts(tx: &mut Transaction, entries: &[Entry], found: &mut Vec<Violation>) -> Result<(), DbError> {
    let cuts = cuts(tx, FOLD).await?;
    let cursor = fold_cursor(tx).await?;
    let (mut number, mut last) = (0, 0);
    for cut in &cuts {
        if cut.number != number + 1 || cut.first.0 != last + 1 || cut.last < cut.first {
            found.push(Violation::Cursor { cut_no: cut.number });
        }
        (number, last) = (cut.number, cut.last.0);
    }
    if last != cursor.0 {
        found.push(Violation::Cursor { cut_no: number });
    }
    let ends: BTreeSet<u64> = cuts.iter().map(|cut| cut.last.0).collect();
    for entry in entries {
        if let Cause::Batches { last, .. } = entry.cause
            && !ends.contains(&last.0)
        {
            found.push(Violation::Cut { entry_no: entry.number, last_batch: last.0 });
        }
    }
    Ok(())
}

/// Commands by their entry; each has an entry that names its digest, and each entry of a command has it.
async fn check_commands(tx: &mut Transaction, entries: &[Entry], found: &mut Vec<Violation>) -> Result<BTreeMap<u64, Command>, DbError> {
    let mut named: BTreeMap<u64, Digest> = BTreeMap::new();
    for entry in entries {
        if let Cause::Command { digest } = entry.cause {
            named.insert(entry.number, digest);
        }
    }
    let mut commands = BTreeMap::new();
    let mut after = 0;
    loop {
        let rows = tx.query(&COMMANDS, &[Value::try_from(after)?, PAGE.into()]).await?;
        for row in &rows {
            let (entry_no, command) = read_command(row)?;
            after = entry_no;
            let mut wrong = |problem: String| found.push(Violation::Command { entry_no, problem });
            match (named.remove(&entry_no), command) {
                (_, Err(problem)) => wrong(format!("is unreadable: {problem}")),
                (None, Ok(_)) => wrong("has no entry that names it".to_owned()),
                (Some(digest), Ok(command)) if digest != command.digest() => wrong("is not the one that its entry names".to_owned()),
                (Some(_), Ok(command)) => {
                    commands.insert(entry_no, command);
                }
            }
        }
        if u32::try_from(rows.len()).is_ok_and(|count| count < PAGE) {
            break;
        }
    }
    found.extend(named.into_keys().map(|entry_no| Violation::Command { entry_no, problem: "is missing".to_owned() }));
    Ok(commands)
}

/// What postings refer to.
struct References {
    accounts: BTreeSet<(String, String)>,
    /// Opened periods and the last posting before their close.
    periods: BTreeMap<i64, Option<i64>>,
}

impl References {
    async fn read(tx: &mut Transaction, found: &mut Vec<Violation>) -> Result<Self, DbError> {
        let mut assets = BTreeSet::new();
        for row in tx.query(&ASSETS, &[]).await? {
            assets.insert(row.text(0)?.to_owned());
        }
        let mut accounts = BTreeSet::new();
        for row in tx.query(&ACCOUNTS, &[]).await? {
            let (account, asset) = (row.text(0)?.to_owned(), row.text(1)?.to_owned());
            if !assets.contains(&asset) {
                found.push(Violation::Asset { account: account.clone(), asset: asset.clone() });
            }
            accounts.insert((account, asset));
        }
        let mut periods = BTreeMap::new();
        for row in tx.query(&PERIODS, &[]).await? {
            periods.insert(row.integer(0)?, row.optional_integer(1)?);
        }
        Ok(Self { accounts, periods })
    }

    fn check(&self, booked: &BookedPosting, found: &mut Vec<Violation>) {
        let (seq, posting) = (booked.seq, &booked.posting);
        for account in [posting.debit(), posting.credit()] {
            let named = (account.to_string(), posting.asset().to_string());
            if !self.accounts.contains(&named) {
                found.push(Violation::Account { seq, account: named.0, asset: named.1 });
            }
        }
        let period = posting.accounting_period().number();
        match self.periods.get(&i64::from(period)) {
            None => found.push(Violation::Period { seq, period, what: "was not open" }),
            Some(Some(last_seq)) if u64::try_from(*last_seq).is_ok_and(|last_seq| seq > last_seq) => {
                found.push(Violation::Period { seq, period, what: "had been closed" });
            }
            Some(_) => {}
        }
    }
}

/// Walks postings and entries together and sums the sides.
async fn check_postings(
    tx: &mut Transaction,
    entries: &[Entry],
    commands: &BTreeMap<u64, Command>,
    references: &References,
    found: &mut Vec<Violation>,
) -> Result<BTreeMap<(String, String), Sums>, DbError> {
    let mut sums: BTreeMap<(String, String), Sums> = BTreeMap::new();
    let mut walk = Walk { entries: entries.iter(), commands, open: None, next_seq: 1 };
    let mut after = 0;
    loop {
        let rows = tx.query(&POSTINGS, &[Value::try_from(after)?, PAGE.into()]).await?;
        for row in &rows {
            after = row.unsigned(0)?;
            match read_posting(row) {
                Ok(booked) => {
                    references.check(&booked, found);
                    let posting = &booked.posting;
                    let units = i128::from(posting.amount().units());
                    let asset = posting.asset().to_string();
                    sums.entry((posting.debit().to_string(), asset.clone())).or_default().0 += units;
                    sums.entry((posting.credit().to_string(), asset)).or_default().1 += units;
                    walk.take(after, Some(&booked), found);
                }
                Err(problem) => {
                    found.push(Violation::Unreadable { row: format!("posting {after}"), problem });
                    walk.take(after, None, found);
                }
            }
        }
        if u32::try_from(rows.len()).is_ok_and(|count| count < PAGE) {
            break;
        }
    }
    walk.finish(found);
    Ok(sums)
}

/// Where the walk over the postings stands among the entries.
struct Walk<'a> {
    entries: std::slice::Iter<'a, Entry>,
    commands: &'a BTreeMap<u64, Command>,
    open: Option<(&'a Entry, RowsDigest)>,
    next_seq: u64,
}

impl Walk<'_> {
    /// Takes the posting with number `seq`: `None` when it could not be read.
    fn take(&mut self, seq: u64, booked: Option<&BookedPosting>, found: &mut Vec<Violation>) {
        // a gap is named by its first number: the entries' digests show how far it reaches
        if seq > self.next_seq {
            found.push(Violation::Missing { seq: self.next_seq });
        }
        self.next_seq = seq.saturating_add(1);
        while self.open.as_ref().is_none_or(|(entry, _)| entry.last_seq < seq) {
            self.close(found);
            match self.entries.next() {
                Some(entry) => self.open = Some((entry, RowsDigest::new())),
                None => break,
            }
        }
        let Some(booked) = booked else { return };
        match &mut self.open {
            Some((entry, digest)) if entry.number == booked.entry_no && seq >= entry.first_seq => {
                digest.add(seq, booked.entry_no, &booked.posting);
                let commanded = self.commands.get(&entry.number).map(|command| {
                    let at = usize::try_from(seq.saturating_sub(entry.first_seq)).ok();
                    at.and_then(|at| command.postings().get(at))
                });
                if commanded.is_some_and(|commanded| commanded != Some(&booked.posting)) {
                    let problem = format!("does not say what posting {seq} posts");
                    found.push(Violation::Command { entry_no: entry.number, problem });
                }
            }
            _ => found.push(Violation::Stray { seq, entry_no: booked.entry_no }),
        }
    }

    fn close(&mut self, found: &mut Vec<Violation>) {
        if let Some((entry, digest)) = self.open.take()
            && entry.digest_over(&digest.finish()) != entry.digest
        {
            found.push(Violation::EntryDigest { entry_no: entry.number, first_seq: entry.first_seq, last_seq: entry.last_seq });
        }
    }

    fn finish(mut self, found: &mut Vec<Violation>) {
        self.close(found);
        for entry in self.entries {
            found.push(Violation::Missing { seq: entry.first_seq });
        }
    }
}

async fn check_balances(
    tx: &mut Transaction,
    mut sums: BTreeMap<(String, String), Sums>,
    found: &mut Vec<Violation>,
) -> Result<(), AppendError> {
    let shown = |(debits, credits): Sums| format!("{debits} debit, {credits} credit");
    for balance in balances(tx).await? {
        let key = (balance.account.to_string(), balance.asset.to_string());
        let summed = sums.remove(&key).unwrap_or_default();
        let stored = (balance.debits, balance.credits);
        if stored != summed {
            found.push(Violation::Balance { account: key.0, asset: key.1, stored: shown(stored), summed: shown(summed) });
        }
    }
    for ((account, asset), summed) in sums {
        found.push(Violation::Balance { account, asset, stored: "absent".to_owned(), summed: shown(summed) });
    }
    Ok(())
}
