//! What must hold over a home's rows, and where it does not: conservation, chains, and folds that equal the log.
//! Everything is recomputed from rows; nothing trusts a counter.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use anyhow::Context;
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int32Type, Int64Type};
use arrow::record_batch::RecordBatch;
use platform_evidence::{SaltKey, Signer};
use platform_ingest::events::EVENTS_ORDER;
use platform_ingest::header::Header;
use platform_ingest::store;
use platform_rating::{CHARGES_ORDER, Charge, TOTALS_ORDER, Total, charges_from_arrow, totals_from_arrow};
use shared_db::Transaction;
use shared_lake::ducklake;
use shared_types::{BatchNo, Digest, Incarnation, Month, OrganizationId, Position, Sequence, ShardId};

use crate::lake::{CHARGES, EVENTS, TABLES, TOTALS};
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
}

impl Report {
    fn add(&mut self, check: &'static str, subject: impl ToString, detail: impl ToString) {
        self.violations.push(Violation { check, subject: subject.to_string(), detail: detail.to_string() });
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
    ends: BTreeMap<u8, (Incarnation, Sequence, Digest)>,
    /// Σ amounts by batch: what the ledger fold nets.
    booked: Vec<(BatchNo, BTreeMap<KeyText, i128>)>,
    /// Paths and rows by batch: what the lake fold publishes.
    files: Vec<(BatchNo, Vec<(String, u64)>)>,
    headers: Vec<(Header, Digest)>,
}

/// The folds as they stood before the log was read: so an owner at work never makes a fold seem to run ahead.
struct Snapshots {
    books: Transaction,
    ledger: BatchNo,
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
    ledger_equals(&mut snapshots, &gathered, &mut report).await?;
    Ok(report.violations)
}

/// Everything.
pub async fn everything(readers: &Readers) -> anyhow::Result<Report> {
    let mut report = Report::default();
    let mut snapshots = Snapshots::take(readers).await?;
    let gathered = walk(readers, &mut report, true).await?;
    registry_holds(&mut snapshots, &mut report).await?;
    ledger_rules(&mut snapshots, &mut report).await?;
    ledger_equals(&mut snapshots, &gathered, &mut report).await?;
    lake_equals(readers, &mut snapshots, &gathered, &mut report).await?;
    usage_equals(readers, &mut snapshots, &gathered, &mut report).await?;
    evidence_equals(readers, &mut snapshots, &gathered, &mut report).await?;
    Ok(report)
}

/// One pass over the batch log and its files.
async fn walk(readers: &Readers, report: &mut Report, files: bool) -> anyhow::Result<Gathered> {
    let mut gathered = Gathered::default();
    let mut previous = (BatchNo(0), Digest::ZERO);
    loop {
        let mut tx = readers.log.read().await?;
        let headers = match store::batches_after(&mut tx, previous.0, 200).await {
            Ok(headers) => headers,
            Err(store::LogError::Header { batch_no, .. }) => {
                report.add("batch-header", format!("batch {batch_no}"), "the stored header is not the one that its digest names");
                return Ok(gathered);
            }
            Err(error) => return Err(error.into()),
        };
        if headers.is_empty() {
            break;
        }
        for (header, digest) in headers {
            if Some(header.batch_no) != previous.0.next() || header.previous != previous.1 {
                report.add(
                    "batch-chain",
                    format!("batch {}", header.batch_no),
                    format!("follows batch {} with previous digest {}; expected {}", previous.0, header.previous, previous.1),
                );
            }
            previous = (header.batch_no, digest);
            ranges_hold(&mut tx, &header, &mut gathered, report).await?;
            batch_holds(readers, &header, files, &mut gathered, report)?;
            report.batches += 1;
            gathered.headers.push((header, digest));
        }
    }
    let mut tx = readers.log.read().await?;
    for state in store::shard_states(&mut tx).await? {
        let shard = state.position.shard.number();
        if let Some(end) = gathered.ends.get(&shard)
            && state.position.sequence.0 < end.1.0
            && state.position.incarnation <= end.0
        {
            report.add(
                "shard-position",
                format!("shard {shard}"),
                format!("stands at {}, the last range ends at {}", state.position, end.1),
            );
        } else if let Some(end) = gathered.ends.get(&shard)
            && (state.position.incarnation, state.position.sequence) == (end.0, end.1)
            && state.digest != end.2
        {
            report.add("shard-position", format!("shard {shard}"), format!("has digest {}, its last range {}", state.digest, end.2));
        }
    }
    Ok(gathered)
}

/// The ranges of a header are those of the table, and each continues its shard.
async fn ranges_hold(tx: &mut Transaction, header: &Header, gathered: &mut Gathered, report: &mut Report) -> anyhow::Result<()> {
    for range in &header.ranges {
        let subject = format!("batch {} shard {}", header.batch_no, range.shard);
        let expected = match gathered.ends.get(&range.shard.number()) {
            Some((incarnation, last, _)) if *incarnation == range.incarnation => last.0.saturating_add(1),
            _ => 1,
        };
        if range.first.0 != expected || range.last < range.first {
            report.add("range", &subject, format!("covers {} to {}; expected to begin at {expected}", range.first, range.last));
        }
        gathered.ends.insert(range.shard.number(), (range.incarnation, range.last, range.last_digest));
    }
    if store::ranges_of(tx, header.batch_no).await? != header.ranges {
        report.add("range", format!("batch {}", header.batch_no), "the ranges table differs from the header");
    }
    Ok(())
}

/// The files of a batch are whole and say the same as each other.
fn batch_holds(readers: &Readers, header: &Header, files: bool, gathered: &mut Gathered, report: &mut Report) -> anyhow::Result<()> {
    let subject = format!("batch {}", header.batch_no);
    let mut tables: BTreeMap<&str, Vec<RecordBatch>> = BTreeMap::new();
    for (table, order) in [(EVENTS, EVENTS_ORDER), (CHARGES, CHARGES_ORDER), (TOTALS, TOTALS_ORDER)] {
        let rows = match readers.lake.read(header, table, None) {
            Ok(rows) => rows,
            Err(error) => {
                report.add("file", &subject, format!("{error:#}"));
                return Ok(());
            }
        };
        let Some(file) = header.table(table) else {
            report.add("file", &subject, format!("names no {table}"));
            return Ok(());
        };
        let count: usize = rows.iter().map(RecordBatch::num_rows).sum();
        if u64::try_from(count)? != file.rows {
            report.add("file-rows", &file.path, format!("has {count} rows, the header says {}", file.rows));
        }
        if files && file.rows > 0 {
            let mut digest = shared_lake::RowDigest::new(order);
            for batch in &rows {
                digest.add(batch)?;
            }
            let found = digest.finish()?;
            if found != file.row_digest {
                report.add("file-rows", &file.path, format!("rows have digest {found}, the header says {}", file.row_digest));
            }
        }
        tables.insert(table, rows);
    }
    gathered
        .files
        .push((header.batch_no, header.tables.iter().filter(|file| file.rows > 0).map(|file| (file.path.clone(), file.rows)).collect()));
    let mut charges = Vec::new();
    for rows in tables.get(CHARGES).into_iter().flatten() {
        charges.extend(charges_from_arrow(rows).with_context(|| format!("the charges of {subject}"))?);
    }
    charges.sort_by_key(|charge: &Charge| (charge.position, charge.ordinal));
    let mut totals = Vec::new();
    for rows in tables.get(TOTALS).into_iter().flatten() {
        totals.extend(totals_from_arrow(rows).with_context(|| format!("the totals of {subject}"))?);
    }
    let events = tables.remove(EVENTS).unwrap_or_default();
    outcomes_hold(header, &events, &charges, gathered, report)?;
    sums_hold(header, &charges, &totals, gathered, report);
    report.charges += u64::try_from(charges.len())?;
    Ok(())
}

/// One row of `events`, as far as conservation needs it.
struct EventFact {
    outcome: String,
    readings: i32,
    identity: Option<[u8; 16]>,
    first: Option<Position>,
}

fn event_facts(batches: &[RecordBatch]) -> anyhow::Result<Vec<(Position, EventFact)>> {
    let position = |shard: i32, incarnation: i64, sequence: i64| -> anyhow::Result<Position> {
        Ok(Position {
            shard: u8::try_from(shard).ok().and_then(ShardId::new).context("a shard outside 0 to 63")?,
            incarnation: Incarnation(u32::try_from(incarnation)?),
            sequence: Sequence(u64::try_from(sequence)?),
        })
    };
    let mut facts = Vec::new();
    for batch in batches {
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
    }
    facts.sort_by_key(|(position, _)| *position);
    Ok(facts)
}

/// Every position of the ranges has exactly one row; accepted events have exactly their readings; identities are accepted once.
fn outcomes_hold(
    header: &Header,
    events: &[RecordBatch],
    charges: &[Charge],
    gathered: &mut Gathered,
    report: &mut Report,
) -> anyhow::Result<()> {
    let facts = event_facts(events)?;
    report.events += u64::try_from(facts.len())?;
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
    for charge in charges {
        if !readings.entry(charge.position).or_default().insert(charge.ordinal) {
            report.add("one-fate", charge.position, format!("reading {} has more than one row in charges", charge.ordinal));
        }
    }
    for (position, fact) in &facts {
        let found = readings.remove(position).unwrap_or_default();
        let complete = found.iter().enumerate().all(|(at, ordinal)| at == usize::from(*ordinal));
        if i32::try_from(found.len())? != fact.readings || !complete {
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
    for position in readings.into_keys() {
        report.add("one-fate", position, "has readings in charges but no event in its batch");
    }
    Ok(())
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

/// The ledger's own rules: chain, density, balances.
async fn ledger_rules(snapshots: &mut Snapshots, report: &mut Report) -> anyhow::Result<()> {
    for violation in platform_ledger::verify(&mut snapshots.books).await? {
        report.add("ledger", "books", violation);
    }
    Ok(())
}

/// The postings by key equal the totals of the batches that the ledger folded.
async fn ledger_equals(snapshots: &mut Snapshots, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let (tx, through) = (&mut snapshots.books, snapshots.ledger);
    let mut expected: BTreeMap<KeyText, i128> = BTreeMap::new();
    for (batch_no, booked) in &gathered.booked {
        if *batch_no <= through {
            for (key, amount) in booked {
                *expected.entry(key.clone()).or_default() += amount;
            }
        }
    }
    let mut posted: BTreeMap<KeyText, i128> = BTreeMap::new();
    let mut after = 0;
    loop {
        let postings = platform_ledger::postings(tx, after, 10_000).await?;
        let Some(last) = postings.last() else { break };
        after = last.seq;
        for posting in postings.iter().map(|booked| &booked.posting) {
            let Some(key) = posting.key() else { continue };
            // Usage is debited to the organization's unbilled account; a correction swaps the sides.
            let sign = if posting.debit().as_str().starts_with("org/") { 1 } else { -1 };
            let key = (
                key.organization.to_string(),
                key.contract_line.clone(),
                key.service_period.number(),
                key.currency.to_string(),
                posting.accounting_period().number(),
            );
            *posted.entry(key).or_default() += sign * i128::from(posting.amount().units());
        }
    }
    for key in expected.keys().chain(posted.keys()).collect::<BTreeSet<_>>() {
        let (wanted, found) = (expected.get(key).copied().unwrap_or(0), posted.get(key).copied().unwrap_or(0));
        if wanted != found {
            report.add(
                "totals-postings",
                format!("{} {} {} {} {}", key.0, key.1, key.2, key.3, key.4),
                format!("totals up to batch {through} sum to {}, postings to {}", units(Some(wanted)), units(Some(found))),
            );
        }
    }
    Ok(())
}

/// The catalog holds exactly the files of the batches that it folded, and their headers are published beside them.
async fn lake_equals(readers: &Readers, snapshots: &mut Snapshots, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let (tx, through) = (&mut snapshots.catalog, snapshots.lake);
    let mut listed: BTreeMap<String, u64> = BTreeMap::new();
    for table in TABLES {
        for file in ducklake::files(tx, table, None).await? {
            if listed.insert(file.path.clone(), file.rows).is_some() {
                report.add("lake", &file.path, "is in the catalog twice");
            }
        }
    }
    for (header, _) in gathered.headers.iter().filter(|(header, _)| header.batch_no <= through) {
        let path = readers.lake.root().join("headers").join(format!("{:020}.json", header.batch_no.0));
        if std::fs::read_to_string(&path).ok() != Some(header.canonical()?) {
            report.add("lake-header", path.display(), "is not the published header of its batch");
        }
    }
    for (batch_no, files) in &gathered.files {
        for (path, rows) in files {
            match listed.remove(path) {
                Some(found) if found == *rows => {}
                Some(found) => {
                    report.add("lake", path, format!("has {found} rows in the catalog, {rows} in the header of batch {batch_no}"))
                }
                None if *batch_no <= through => report.add("lake", path, format!("of batch {batch_no} is not in the catalog")),
                None => {}
            }
        }
    }
    for path in listed.into_keys() {
        report.add("lake", path, "is in the catalog but no batch names it");
    }
    Ok(())
}

/// The hour buckets are the sums of the charges of the batches that were folded.
async fn usage_equals(readers: &Readers, snapshots: &mut Snapshots, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let through = snapshots.hours;
    let found = platform_catalog::hours::totals(&mut snapshots.usage).await?;
    let mut expected: BTreeMap<(OrganizationId, Month), (i128, i128, u64)> = BTreeMap::new();
    for (header, _) in gathered.headers.iter().filter(|(header, _)| header.batch_no <= through) {
        for rows in readers.lake.read(header, CHARGES, None)? {
            for charge in charges_from_arrow(&rows)? {
                let Some(amount) = charge.fate.amount() else { continue };
                let sum = expected.entry((charge.organization, charge.start_at.month())).or_default();
                sum.0 += charge.quantity.units();
                sum.1 += i128::from(amount.units());
                sum.2 += 1;
            }
        }
    }
    for key in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
        if expected.get(key) != found.get(key) {
            report.add(
                "usage-hours",
                format!("{} {}", key.0, key.1),
                format!("buckets hold (quantity, amount, readings) {:?}, charges {:?}", found.get(key), expected.get(key)),
            );
        }
    }
    Ok(())
}

/// Checkpoints verify, and the logs are those that the charges make.
async fn evidence_equals(readers: &Readers, snapshots: &mut Snapshots, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let secrets = readers.home.secrets()?;
    let salt = SaltKey::from_bytes(&secrets.salt);
    let signer = Signer::new(&readers.home.settings.evidence.origin, &secrets.log)?;
    let (tx, through) = (&mut snapshots.evidence, snapshots.sealed);
    let verified = match platform_evidence::verify(tx, &salt, signer.key()).await {
        Ok(verified) => verified,
        Err(error) => {
            report.add("evidence", "checkpoints", error);
            return Ok(());
        }
    };
    let mut replayed = platform_evidence::State::default();
    for header in gathered.headers.iter().filter(|(header, _)| header.batch_no <= through) {
        let head = platform_evidence::LedgerHead { batch_no: header.0.batch_no, seq: 0, digest: Digest::ZERO };
        let cut = crate::roles::folds::cut_input(&readers.lake, std::slice::from_ref(header), head, header.0.accepted_to)?;
        if let Err(error) = replayed.apply(&cut) {
            report.add("evidence", format!("batch {}", header.0.batch_no), error);
            return Ok(());
        }
    }
    for organization in verified.state.organizations().chain(replayed.organizations()).collect::<BTreeSet<_>>() {
        let (stored, made) = (verified.state.leaf(organization, &salt), replayed.leaf(organization, &salt));
        if stored != made {
            report.add(
                "evidence-logs",
                organization,
                format!("its logs and sums are {}, its charges make {}", stored.canonical(), made.canonical()),
            );
        }
    }
    if let Some((_, digest)) = gathered.headers.iter().find(|(header, _)| header.batch_no == verified.batch_no)
        && let Some(latest) = platform_evidence::latest(tx).await?
        && latest.entry.batch_digest != *digest
    {
        report.add("evidence", format!("batch {}", verified.batch_no), "the last checkpoint names another digest for it");
    }
    Ok(())
}

/// Every published version has the address of its documents, and control numbers are dense.
async fn registry_holds(snapshots: &mut Snapshots, report: &mut Report) -> anyhow::Result<()> {
    let tx = &mut snapshots.books;
    for found in platform_registry::store::versions(tx).await? {
        match platform_registry::store::version(tx, found.address).await {
            Ok(Some(version)) if version.address() == found.address => {}
            Ok(Some(version)) => report.add("registry", found.address, format!("its documents have the address {}", version.address())),
            Ok(None) => report.add("registry", found.address, "has no documents"),
            Err(error) => report.add("registry", found.address, error),
        }
    }
    for (at, control) in platform_registry::store::controls_after(tx, shared_types::ControlNo(0)).await?.iter().enumerate() {
        if control.control_no.0 != u64::try_from(at)?.saturating_add(1) {
            report.add("registry-controls", format!("control record {}", control.control_no), "does not follow the one before");
        }
    }
    Ok(())
}
