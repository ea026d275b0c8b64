//! What must hold over a home's rows, and where it does not: conservation, chains, and folds that equal the log.
//! Everything is recomputed from rows; nothing trusts a counter. A row that does not read is a finding, not an error: the others are still read.

mod again;
mod audit;
mod billing;
mod compaction;
mod folds;
mod levels;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type, Schema};
use arrow::record_batch::RecordBatch;
use platform_evidence::{SaltKey, Signer};
use platform_ingest::batch::ShardState;
use platform_ingest::events::{EVENTS_ORDER, events_schema};
use platform_ingest::header::{Header, Range};
use platform_ingest::store::{self, LogError};
use platform_rating::{CHARGES_ORDER, Charge, TOTALS_ORDER, Total, charges_from_arrow, charges_schema, totals_from_arrow, totals_schema};
use platform_usage::IdentityKey;
use shared_db::Transaction;
use shared_types::{BatchNo, Digest, Incarnation, Position, Sequence, ShardId};

use folds::{cursors_hold, evidence_equals, evidence_rules, ledger_equals, ledger_rules, registry_holds, usage_equals};

use crate::lake::{CHARGES, EVENTS, TOTALS};
use crate::read_models::Readers;

/// One broken rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Stable name of the rule.
    pub check: &'static str,
    /// Where: a position, key, batch, file or entry.
    pub subject: String,
    /// What was found and what belongs there.
    pub detail: String,
}

/// What was checked and what was found.
#[derive(Default)]
pub struct Report {
    /// Batches.
    pub batches: u64,
    /// Stream positions.
    pub events: u64,
    /// Readings.
    pub charges: u64,
    /// Broken rules, in the order found.
    pub violations: Vec<Violation>,
    /// Batches that do not read, each named by a violation: what follows from them was not compared.
    pub unread: Vec<BatchNo>,
}

impl Report {
    fn add(&mut self, check: &'static str, subject: impl ToString, detail: impl ToString) {
        self.violations.push(Violation { check, subject: subject.to_string(), detail: detail.to_string() });
    }

    /// A part that could not be read to its end is a finding too: rows stand in it that are never written there.
    fn unless(&mut self, check: &'static str, subject: &str, held: anyhow::Result<()>) {
        if let Err(error) = held {
            self.add(check, subject, format!("could not be read to its end: {error:#}"));
        }
    }
}

/// A key and accounting period as texts that sort: organization, contract line, service period, currency, accounting period.
type KeyText = (String, String, i32, String, i32);

/// What the pass over the batch log gathers for the folds to be compared with.
#[derive(Default)]
struct Gathered {
    /// Identity → first acceptance.
    accepted: HashMap<[u8; 16], Position>,
    /// T_key by key without accounting period.
    running: BTreeMap<(String, String, i32, String), i128>,
    /// Next log_seq of each organization's log.
    logs: BTreeMap<(String, i32), u64>,
    /// Last range of each shard.
    ends: BTreeMap<u8, Range>,
    /// Σ amounts by batch: what the ledger fold nets.
    booked: Vec<(BatchNo, BTreeMap<KeyText, i128>)>,
    headers: Vec<(Header, Digest)>,
    /// Where the log ends.
    end: BatchNo,
    /// Batches of usage that was rated again.
    again: BTreeSet<BatchNo>,
    /// What stands of each reading, where any was rated again.
    stands: Option<again::Stands>,
}

/// The folds as they stood before the log was read: so an owner at work never makes a fold seem to run ahead.
struct Snapshots {
    books: Transaction,
    ledger: BatchNo,
    levels: BatchNo,
    catalog: Transaction,
    lake: BatchNo,
    usage: Transaction,
    hours: BatchNo,
    evidence: Transaction,
    sealed: BatchNo,
}

impl Snapshots {
    /// Reading the cursor is what fixes each snapshot.
    async fn take(readers: &Readers) -> anyhow::Result<Self> {
        let (mut books, mut catalog) = (readers.books.read().await?, readers.catalog.read().await?);
        let (mut usage, mut evidence) = (readers.usage.read().await?, readers.evidence.read().await?);
        Ok(Self {
            sealed: shared_db::cursor(&mut evidence, platform_evidence::FOLD).await?,
            ledger: shared_db::cursor(&mut books, platform_ledger::FOLD).await?,
            levels: shared_db::cursor(&mut books, platform_registry::carried::FOLD).await?,
            lake: shared_db::cursor(&mut catalog, "lake").await?,
            hours: shared_db::cursor(&mut usage, platform_catalog::hours::FOLD).await?,
            books,
            catalog,
            usage,
            evidence,
        })
    }
}

/// Conservation over rows: every position has one outcome, every reading one fate, and charges, totals and postings have equal sums.
pub async fn conservation(readers: &Readers) -> anyhow::Result<Vec<Violation>> {
    let mut report = Report::default();
    let mut snapshots = Snapshots::take(readers).await?;
    let gathered = walk(readers, &mut report, false).await?;
    if report.unread.is_empty() {
        let held = ledger_equals(&mut snapshots, &gathered, &mut report).await;
        report.unless("totals-postings", "books", held);
    }
    Ok(report.violations)
}

/// Everything.
pub async fn everything(readers: &Readers) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let secrets = readers.home.secrets()?;
    let (salt, signer) = (SaltKey::from_bytes(&secrets.salt), Signer::new(&readers.home.settings.evidence.origin, &secrets.log)?);
    let mut snapshots = Snapshots::take(readers).await?;
    let gathered = walk(readers, &mut report, true).await?;
    let held = cursors_hold(&mut snapshots, &gathered, &mut report).await;
    report.unless("cursor", "cursors", held);
    nothing_is_behind(readers, &snapshots, &gathered, &mut report);
    let held = compaction::merges_hold(readers, &gathered, &mut report).await;
    report.unless("merge-record", "merges", held);
    let held = registry_holds(&mut snapshots, &IdentityKey::new(&secrets.identity), &gathered, &mut report).await;
    report.unless("registry", "books", held);
    let held = ledger_rules(&mut snapshots, &mut report).await;
    report.unless("ledger", "books", held);
    audit::rules(&mut snapshots.books, &mut report).await;
    let evidence = evidence_rules(&mut snapshots, &salt, &signer, &mut report).await;
    // Sums over a log with holes differ from every fold: that would only bury what was found.
    if report.unread.is_empty() {
        let held = ledger_equals(&mut snapshots, &gathered, &mut report).await;
        report.unless("totals-postings", "books", held);
        let held = billing::rules(&mut snapshots.books, snapshots.ledger, &gathered, &mut report).await;
        report.unless("billing", "books", held);
        let held = compaction::lake_equals(readers, &mut snapshots, &gathered, &mut report).await;
        report.unless("lake", "catalog", held);
        let held = usage_equals(readers, &mut snapshots, &gathered, &mut report).await;
        report.unless("usage-hours", "buckets", held);
        let identity = IdentityKey::new(&secrets.identity);
        let held = levels::levels_hold(readers, &mut snapshots, &identity, &gathered, &mut report).await;
        report.unless("levels", "books", held);
        if let Some(state) = evidence {
            let held = evidence_equals(readers, &mut snapshots, &state, &salt, &gathered, &mut report).await;
            report.unless("evidence-logs", "logs", held);
        }
    }
    Ok(report)
}

/// Beside an owner at work a fold may lag. Without one, a fold that is behind shows too little to whoever asks.
fn nothing_is_behind(readers: &Readers, snapshots: &Snapshots, gathered: &Gathered, report: &mut Report) {
    let Some((last, _)) = gathered.headers.last() else { return };
    if readers.home.owner().is_some() {
        return;
    }
    let folds = [("ledger", snapshots.ledger), ("lake", snapshots.lake), ("usage", snapshots.hours), ("evidence", snapshots.sealed)];
    for (fold, at) in folds.into_iter().filter(|(_, at)| *at < last.batch_no) {
        report.add("fold-behind", fold, format!("stands at batch {at} of {}; run `tally drain`", last.batch_no));
    }
}

/// One pass over the batch log and its files.
async fn walk(readers: &Readers, report: &mut Report, digests: bool) -> anyhow::Result<Gathered> {
    let mut gathered = Gathered { stands: again::Stands::of(readers).await, ..Gathered::default() };
    let mut previous = Some(Digest::ZERO);
    loop {
        let mut tx = readers.log.read().await?;
        if gathered.end.0.is_multiple_of(1_000) {
            // An owner at work may have merged meanwhile.
            readers.lake.refresh(&mut tx).await?;
        }
        // One at a time: a header that does not read hides no other.
        let (header, digest) = match store::batches_after(&mut tx, gathered.end, 1).await.map(|mut found| found.pop()) {
            Ok(Some(found)) => found,
            Ok(None) => {
                positions_hold(&mut tx, &gathered, report).await;
                return Ok(gathered);
            }
            Err(LogError::Header { batch_no, .. }) => {
                report.add("batch-header", format!("batch {batch_no}"), "the stored header is not the one that its digest names");
                report.unread.push(batch_no);
                // The shards go on behind it: where, says the table of ranges too.
                let ranges = store::ranges_of(&mut tx, batch_no).await.unwrap_or_default();
                gathered.ends.extend(ranges.into_iter().map(|range| (range.shard.number(), range)));
                (gathered.end, previous) = (batch_no, None);
                continue;
            }
            Err(error) => {
                report.add("batch-header", format!("the batch after {}", gathered.end), format!("{:#}", anyhow::Error::from(error)));
                report.unread.extend(gathered.end.next());
                return Ok(gathered);
            }
        };
        let follows = Some(header.batch_no) == gathered.end.next() && previous.is_none_or(|previous| previous == header.previous);
        if !follows {
            report.add(
                "batch-chain",
                format!("batch {}", header.batch_no),
                format!(
                    "names the digest {} as that of the batch before; batch {} has {}",
                    header.previous,
                    gathered.end,
                    previous.map_or_else(|| "none that holds".to_owned(), |previous| previous.to_string())
                ),
            );
        }
        (gathered.end, previous) = (header.batch_no, Some(digest));
        ranges_hold(&mut tx, &header, &mut gathered, report).await;
        batch_holds(readers, &header, digests, &mut gathered, report)?;
        report.batches += 1;
        gathered.headers.push((header, digest));
    }
}

/// The ranges of a header are those of the table, and each continues its shard.
async fn ranges_hold(tx: &mut Transaction, header: &Header, gathered: &mut Gathered, report: &mut Report) {
    for range in &header.ranges {
        let subject = format!("batch {} shard {}", header.batch_no, range.shard);
        let expected = match gathered.ends.get(&range.shard.number()) {
            Some(end) if end.incarnation == range.incarnation => end.last.0.saturating_add(1),
            _ => 1,
        };
        if range.first.0 != expected || range.last < range.first {
            report.add("range", &subject, format!("covers {} to {}; expected to begin at {expected}", range.first, range.last));
        }
        gathered.ends.insert(range.shard.number(), range.clone());
    }
    let subject = format!("batch {}", header.batch_no);
    match store::ranges_of(tx, header.batch_no).await {
        Ok(ranges) if ranges == header.ranges => {}
        Ok(_) => report.add("range", subject, "the ranges table differs from the header"),
        Err(error) => report.add("range", subject, format!("{:#}", anyhow::Error::from(error))),
    }
}

/// Each shard stands where its last range ends. `tx` is the one that saw the end of the log.
async fn positions_hold(tx: &mut Transaction, gathered: &Gathered, report: &mut Report) {
    let states = match store::shard_states(tx).await {
        Ok(states) => states,
        Err(error) => return report.add("shard-position", "positions", format!("{:#}", anyhow::Error::from(error))),
    };
    let mut ends = gathered.ends.clone();
    for state in states {
        let shard = state.position.shard;
        match ends.remove(&shard.number()) {
            Some(end) => {
                let reached = ShardState {
                    position: Position { shard, incarnation: end.incarnation, sequence: end.last },
                    digest: end.last_digest,
                    control_no: end.control_no,
                    registry_version: end.registry_version,
                    oldest_open: end.oldest_open,
                };
                if state != reached {
                    report.add("shard-position", format!("shard {shard}"), format!("is {state:?}, its last range makes it {reached:?}"));
                }
            }
            None if state.position.sequence.0 > 0 => {
                report.add("shard-position", format!("shard {shard}"), format!("stands at {}, where no range ends", state.position));
            }
            None => {}
        }
    }
    for (shard, end) in ends {
        report.add("shard-position", format!("shard {shard}"), format!("has no position; its last range ends at {}", end.last));
    }
}

/// The files of a batch are whole and say the same as each other.
fn batch_holds(readers: &Readers, header: &Header, digests: bool, gathered: &mut Gathered, report: &mut Report) -> anyhow::Result<()> {
    let Some(rows) = rows_of(readers, header, digests, report) else {
        report.unread.push(header.batch_no);
        return Ok(());
    };
    report.charges += u64::try_from(rows.charges.len())?;
    report.events += u64::try_from(rows.facts.len())?;
    // Behind a batch that does not read, every running number would seem wrong.
    if report.unread.is_empty() {
        outcomes_hold(header, &rows.facts, &rows.charges, gathered, report);
        if rows.charges.iter().any(|charge| charge.supersedes.is_some()) {
            gathered.again.insert(header.batch_no);
        }
        if let Some(stands) = &mut gathered.stands {
            stands.hold(header, &rows.charges, &gathered.accepted, report);
        }
        sums_hold(header, &rows.charges, &rows.totals, gathered, report);
    }
    Ok(())
}

/// What the files of a batch hold, in the order of the stream.
struct Rows {
    facts: Vec<(Position, EventFact)>,
    charges: Vec<Charge>,
    totals: Vec<Total>,
}

/// What the files of a batch hold; none when one of them does not read, which is reported then.
fn rows_of(readers: &Readers, header: &Header, digests: bool, report: &mut Report) -> Option<Rows> {
    let facts = table_holds(readers, header, EVENTS, &events_schema(), EVENTS_ORDER, digests, event_facts, report);
    let charges =
        table_holds(readers, header, CHARGES, &charges_schema(), CHARGES_ORDER, digests, |rows| Ok(charges_from_arrow(rows)?), report);
    let totals = table_holds(readers, header, TOTALS, &totals_schema(), TOTALS_ORDER, digests, |rows| Ok(totals_from_arrow(rows)?), report);
    let (mut facts, mut charges, totals) = (facts?, charges?, totals?);
    facts.sort_by_key(|(position, _)| *position);
    charges.sort_by_key(Charge::place);
    Some(Rows { facts, charges, totals })
}

/// The rows of one table of a batch, in the order of the file; none when it does not read, which is reported then.
#[expect(clippy::too_many_arguments, reason = "a table is its name, columns and order, and how its rows read")]
fn table_holds<T>(
    readers: &Readers,
    header: &Header,
    table: &str,
    schema: &Schema,
    order: &[&str],
    digests: bool,
    read: impl Fn(&RecordBatch) -> anyhow::Result<Vec<T>>,
    report: &mut Report,
) -> Option<Vec<T>> {
    let Some(file) = header.table(table) else {
        report.add("file", format!("batch {}", header.batch_no), format!("names no {table}"));
        return None;
    };
    // A batch may lie in a file that holds others too: findings name the file that was read.
    let path = readers.lake.path_of(header, table).unwrap_or_else(|| file.path.clone());
    let batches = match readers.lake.read(header, table, None) {
        Ok(batches) => batches,
        Err(error) => {
            report.add("file", &path, format!("{error:#}"));
            return None;
        }
    };
    if let Some(column) = batches.first().and_then(|batch| other_column(&batch.schema(), schema)) {
        report.add("file", &path, format!("is not a file of {table}: {column}"));
        return None;
    }
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if u64::try_from(count) != Ok(file.rows) {
        report.add("file-rows", &path, format!("has {count} rows, the header says {}", file.rows));
    }
    if digests && file.rows > 0 {
        match digest_of(&batches, order) {
            Ok(found) if found == file.row_digest => {}
            Ok(found) => report.add("file-rows", &path, format!("rows have digest {found}, the header says {}", file.row_digest)),
            Err(error) => report.add("file-rows", &path, format!("{error:#}")),
        }
    }
    let rows: anyhow::Result<Vec<Vec<T>>> = batches.iter().map(read).collect();
    match rows {
        Ok(rows) => Some(rows.into_iter().flatten().collect()),
        Err(error) => {
            report.add("file-rows", &path, format!("{error:#}"));
            None
        }
    }
}

/// The first column that is not as the table has it. Nullability and field ids do not matter to readers.
fn other_column(found: &Schema, wanted: &Schema) -> Option<String> {
    if found.fields().len() != wanted.fields().len() {
        return Some(format!("it has {} columns, {} belong there", found.fields().len(), wanted.fields().len()));
    }
    let mut pairs = found.fields().iter().zip(wanted.fields());
    let (found, wanted) = pairs.find(|(found, wanted)| (found.name(), found.data_type()) != (wanted.name(), wanted.data_type()))?;
    Some(format!("it has the column {} {}, {} {} belongs there", found.name(), found.data_type(), wanted.name(), wanted.data_type()))
}

fn digest_of(batches: &[RecordBatch], order: &[&str]) -> anyhow::Result<Digest> {
    let mut digest = shared_lake::RowDigest::new(order);
    for batch in batches {
        digest.add(batch)?;
    }
    Ok(digest.finish()?)
}

/// One row of `events`, as far as conservation needs it.
struct EventFact {
    outcome: String,
    readings: i32,
    identity: Option<[u8; 16]>,
    first: Option<Position>,
}

fn event_facts(batch: &RecordBatch) -> anyhow::Result<Vec<(Position, EventFact)>> {
    let position = |shard: i32, incarnation: i64, sequence: i64| -> anyhow::Result<Position> {
        Ok(Position {
            shard: u8::try_from(shard).ok().and_then(ShardId::new).context("a shard outside 0 to 63")?,
            incarnation: Incarnation(u32::try_from(incarnation)?),
            sequence: Sequence(u64::try_from(sequence)?),
        })
    };
    let column = |name: &str| batch.column_by_name(name).with_context(|| format!("events have no column {name}"));
    let shards = column("shard")?.as_primitive::<Int32Type>();
    let incarnations = column("incarnation")?.as_primitive::<Int64Type>();
    let sequences = column("sequence")?.as_primitive::<Int64Type>();
    let first_shards = column("first_shard")?.as_primitive::<Int32Type>();
    let first_incarnations = column("first_incarnation")?.as_primitive::<Int64Type>();
    let first_sequences = column("first_sequence")?.as_primitive::<Int64Type>();
    let outcomes = column("outcome")?.as_string::<i32>();
    let readings = column("readings")?.as_primitive::<Int32Type>();
    let identities = column("identity")?.as_fixed_size_binary();
    let mut facts = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let first = if first_shards.is_null(row) {
            None
        } else {
            Some(position(first_shards.value(row), first_incarnations.value(row), first_sequences.value(row))?)
        };
        facts.push((
            position(shards.value(row), incarnations.value(row), sequences.value(row))?,
            EventFact {
                outcome: outcomes.value(row).to_owned(),
                readings: readings.value(row),
                identity: (!identities.is_null(row)).then(|| identities.value(row).try_into().ok()).flatten(),
                first,
            },
        ));
    }
    Ok(facts)
}

/// Every position of the ranges has exactly one row; accepted events have exactly their readings; identities are accepted once.
fn outcomes_hold(header: &Header, facts: &[(Position, EventFact)], charges: &[Charge], gathered: &mut Gathered, report: &mut Report) {
    let mut rows = facts.iter().peekable();
    for range in &header.ranges {
        for sequence in range.first.0..=range.last.0 {
            let position = Position { shard: range.shard, incarnation: range.incarnation, sequence: Sequence(sequence) };
            let mut found = 0;
            while rows.next_if(|(at, _)| *at == position).is_some() {
                found += 1;
            }
            if found != 1 {
                report.add("one-outcome", position, format!("has {found} rows in events; exactly one belongs there"));
            }
            // A row before the expected position belongs to no range.
            while let Some((stray, _)) = rows.next_if(|(at, _)| *at < Position { sequence: Sequence(sequence + 1), ..position }) {
                report.add("one-outcome", stray, "has a row in events but lies in no range of its batch");
            }
        }
    }
    for (stray, _) in rows {
        report.add("one-outcome", stray, "has a row in events but lies in no range of its batch");
    }
    let mut readings: HashMap<Position, BTreeSet<u16>> = HashMap::new();
    // Rows of usage that was rated again stand at the control record that asks for it.
    let mut again: HashMap<Position, i32> = HashMap::new();
    for charge in charges {
        if charge.supersedes.is_some() {
            let rows = again.entry(charge.position).or_default();
            *rows = rows.saturating_add(1);
        } else if !readings.entry(charge.position).or_default().insert(charge.ordinal) {
            report.add("one-fate", charge.position, format!("reading {} has more than one row in charges", charge.ordinal));
        }
    }
    for (position, fact) in facts {
        let found = readings.remove(position).unwrap_or_default();
        let complete = found.iter().enumerate().all(|(at, ordinal)| at == usize::from(*ordinal));
        if fact.outcome == "control" && found.is_empty() {
            let rows = again.remove(position).unwrap_or(0);
            if rows != fact.readings {
                report.add("one-fate", position, format!("has {rows} rows of usage rated again; its record says {}", fact.readings));
            }
        } else if i32::try_from(found.len()) != Ok(fact.readings) || !complete {
            report.add("one-fate", position, format!("has readings {found:?} in charges; its event has {}", fact.readings));
        }
        match (fact.outcome.as_str(), fact.identity) {
            ("accepted", Some(identity)) => {
                if let Some(before) = gathered.accepted.insert(identity, *position) {
                    report.add("counted-once", position, format!("the same identity was accepted at {before}"));
                }
            }
            ("accepted", None) => report.add("counted-once", position, "was accepted without an identity"),
            ("duplicate" | "conflict", Some(identity)) if gathered.accepted.get(&identity) != fact.first.as_ref() => {
                report.add("counted-once", position, "names a first acceptance that is not one");
            }
            ("quarantined" | "control" | "duplicate" | "conflict", _) => {}
            (other, _) => report.add("one-outcome", position, format!("has the unknown outcome {other:?}")),
        }
    }
    for position in again.into_keys() {
        report.add("one-fate", position, "has rows of usage rated again but no control record");
    }
    for position in readings.into_keys() {
        report.add("one-fate", position, "has readings in charges but no event in its batch");
    }
}

fn key_text(total: &Total) -> KeyText {
    (
        total.organization.to_string(),
        total.contract_line.to_string(),
        total.service_period.number(),
        total.currency.to_string(),
        total.accounting_period.number(),
    )
}

/// Σ charges of each key = its totals; T_key runs on; log numbers are gapless.
fn sums_hold(header: &Header, charges: &[Charge], totals: &[Total], gathered: &mut Gathered, report: &mut Report) {
    let mut charged: BTreeMap<KeyText, i128> = BTreeMap::new();
    for charge in charges {
        let (Some(priced), Some(amount)) = (charge.fate.priced(), charge.fate.amount()) else { continue };
        let key = (
            charge.organization.to_string(),
            priced.contract_line.to_string(),
            priced.service_period.number(),
            priced.currency.to_string(),
            charge.accounting_period.number(),
        );
        *charged.entry(key).or_default() += i128::from(amount.units());
        let next = gathered.logs.entry((charge.organization.to_string(), priced.log_month.number())).or_default();
        if priced.log_seq != *next {
            report.add(
                "log-sequence",
                format!("{} {} at {}", charge.organization, priced.log_month, charge.position),
                format!("has number {}; {next} belongs there", priced.log_seq),
            );
        }
        *next = priced.log_seq.saturating_add(1);
    }
    let mut booked: BTreeMap<KeyText, i128> = BTreeMap::new();
    let mut after: BTreeMap<(String, String, i32, String), i128> = BTreeMap::new();
    for total in totals {
        let key = key_text(total);
        *booked.entry(key.clone()).or_default() += i128::from(total.amount.units());
        after.insert((key.0, key.1, key.2, key.3), i128::from(total.total.units()));
    }
    for key in charged.keys().chain(booked.keys()).collect::<BTreeSet<_>>() {
        let (charged, booked) = (charged.get(key).copied(), booked.get(key).copied());
        if charged != booked {
            report.add(
                "charges-totals",
                format!("batch {} {} {} {} {}", header.batch_no, key.0, key.1, key.2, key.3),
                format!("charges sum to {}, totals say {}", units(charged), units(booked)),
            );
        }
        let running = gathered.running.entry((key.0.clone(), key.1.clone(), key.2, key.3.clone())).or_default();
        *running += booked.unwrap_or(0);
    }
    for (key, total) in after {
        let running = gathered.running.get(&key).copied();
        if running != Some(total) {
            report.add(
                "running-total",
                format!("batch {} {} {} {} {}", header.batch_no, key.0, key.1, key.2, key.3),
                format!("T is {}, the amounts so far sum to {}", units(Some(total)), units(running)),
            );
        }
    }
    gathered.booked.push((header.batch_no, booked));
}

/// Units of 10^-9 for a person.
fn units(amount: Option<i128>) -> String {
    match amount {
        None => "nothing".to_owned(),
        Some(units) => shared_types::Quantity::from_units(units).map_or_else(|_| format!("{units}e-9"), |amount| amount.to_string()),
    }
}
