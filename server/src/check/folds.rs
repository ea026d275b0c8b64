//! Each fold and what stands beside it (books, catalog, hours, evidence, registry) against its own rules and against what the walk over the batch
//! log gathered. It reads the log no second time.

use std::collections::{BTreeMap, BTreeSet};

use platform_evidence::{SaltKey, Signer};
use platform_ingest::header::{Range, TableFile};
use platform_rating::charges_from_arrow;
use platform_registry::store::StoreError;
use platform_registry::{Control, ControlBody, carried};
use platform_usage::{IdentityKey, OWN_SOURCE};
use shared_db::Transaction;
use shared_lake::{RealFiles, ducklake};
use shared_types::{BatchNo, ControlNo, Digest, Instant, ShardId};

use super::{Gathered, KeyText, Report, Snapshots, units};
use crate::lake::CHARGES;
use crate::read_models::Readers;

/// The cuts of each fold follow each other and end at its cursor, and no cursor stands beyond the log.
pub(super) async fn cursors_hold(snapshots: &mut Snapshots, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let folds = [
        (&mut snapshots.books, platform_ledger::FOLD, snapshots.ledger),
        (&mut snapshots.catalog, "lake", snapshots.lake),
        (&mut snapshots.usage, platform_catalog::hours::FOLD, snapshots.hours),
        (&mut snapshots.evidence, platform_evidence::FOLD, snapshots.sealed),
    ];
    for (tx, fold, cursor) in folds {
        cursor_holds(tx, fold, cursor, gathered, report).await?;
    }
    cursor_holds(&mut snapshots.books, carried::FOLD, snapshots.levels, gathered, report).await
}

async fn cursor_holds(tx: &mut Transaction, fold: &str, cursor: BatchNo, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let (mut number, mut last) = (0_u64, BatchNo(0));
    for cut in shared_db::cuts(tx, fold).await? {
        if cut.number != number.saturating_add(1) || Some(cut.first) != last.next() || cut.last < cut.first {
            let found = format!("cut {} takes batches {} to {}; cut {number} ended at {last}", cut.number, cut.first, cut.last);
            report.add("cursor", fold, found);
        }
        (number, last) = (cut.number, cut.last);
    }
    if last != cursor || cursor > gathered.end {
        let found = format!("stands at batch {cursor}, its last cut ends at {last}, the log at {}", gathered.end);
        report.add("cursor", fold, found);
    }
    Ok(())
}

/// The ledger's own rules: chain, density, balances.
pub(super) async fn ledger_rules(snapshots: &mut Snapshots, report: &mut Report) -> anyhow::Result<()> {
    for violation in platform_ledger::verify(&mut snapshots.books).await? {
        report.add("ledger", "books", violation);
    }
    Ok(())
}

/// The postings by key equal the totals of the batches that the ledger folded.
pub(super) async fn ledger_equals(snapshots: &mut Snapshots, gathered: &Gathered, report: &mut Report) -> anyhow::Result<()> {
    let (tx, through) = (&mut snapshots.books, snapshots.ledger);
    let mut expected: BTreeMap<KeyText, i128> = BTreeMap::new();
    for (batch_no, booked) in &gathered.booked {
        if *batch_no <= through {
            for (key, amount) in booked {
                *expected.entry(key.clone()).or_default() += amount;
            }
        }
    }
    // Entries of commands move what usage booked; they are held to their invoices.
    let usage = |entry: platform_ledger::Entry| matches!(entry.cause, platform_ledger::Cause::Batches { .. }).then_some(entry.number);
    let booked: BTreeSet<u64> = platform_ledger::entries(tx).await?.into_iter().filter_map(usage).collect();
    let mut posted: BTreeMap<KeyText, i128> = BTreeMap::new();
    let mut after = 0;
    loop {
        let postings = platform_ledger::postings(tx, after, 10_000).await?;
        let Some(last) = postings.last() else { break };
        after = last.seq;
        for posting in postings.iter().filter(|posting| booked.contains(&posting.entry_no)).map(|booked| &booked.posting) {
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

/// The catalog describes a file as it is: by what it says, readers find the file's end and leave files out.
pub(super) fn catalogued_holds(readers: &Readers, file: &TableFile, table: &str, mut found: ducklake::LakeFile, report: &mut Report) {
    let mut described = match shared_lake::describe_file(&RealFiles, readers.lake.root(), &file.path) {
        Ok(described) => described,
        Err(error) => return report.add("lake", &file.path, format!("{:#}", anyhow::Error::from(error))),
    };
    found.statistics.sort_by_key(|column| column.field_id);
    described.statistics.sort_by_key(|column| column.field_id);
    if described.bytes != file.bytes {
        report.add("file", &file.path, format!("has {} bytes, the header says {}", described.bytes, file.bytes));
    }
    if table != file.table {
        report.add("lake", &file.path, format!("is in the catalog as a file of {table}, but holds {}", file.table));
    }
    if (found.rows, found.bytes) != (file.rows, file.bytes) {
        let detail =
            format!("has {} rows and {} bytes in the catalog, {} and {} in the header", found.rows, found.bytes, file.rows, file.bytes);
        report.add("lake", &file.path, detail);
    }
    let differs = |(found, described): &(_, _)| found != described;
    if let Some((found, described)) = found.statistics.iter().zip(&described.statistics).find(differs) {
        report.add("lake", &file.path, format!("has the statistics {found:?} in the catalog; the file says {described:?}"));
    } else if found.statistics.len() != described.statistics.len() {
        let detail =
            format!("has statistics of {} columns in the catalog; the file of {}", found.statistics.len(), described.statistics.len());
        report.add("lake", &file.path, detail);
    }
}

/// The hour buckets are the sums of the charges of the batches that were folded.
pub(super) async fn usage_equals(
    readers: &Readers,
    snapshots: &mut Snapshots,
    gathered: &Gathered,
    report: &mut Report,
) -> anyhow::Result<()> {
    const HOUR: i64 = 3_600_000_000;
    type Bucket = (String, i64, String, String, String, String);
    let through = snapshots.hours;
    let mut expected: BTreeMap<Bucket, (i128, i128, u64)> = BTreeMap::new();
    for (header, _) in gathered.headers.iter().filter(|(header, _)| header.batch_no <= through) {
        for rows in readers.lake.read(header, CHARGES, None)? {
            for charge in charges_from_arrow(&rows)? {
                let (Some(priced), Some(amount)) = (charge.fate.priced(), charge.fate.amount()) else { continue };
                let bucket = (
                    charge.organization.to_string(),
                    charge.start_at.micros().div_euclid(HOUR).saturating_mul(HOUR),
                    charge.meter.to_string(),
                    charge.unit.to_string(),
                    priced.currency.to_string(),
                    charge.project.as_ref().map(ToString::to_string).unwrap_or_default(),
                );
                let sum = expected.entry(bucket).or_default();
                sum.0 += charge.quantity.units();
                sum.1 += i128::from(amount.units());
                sum.2 += 1;
            }
        }
    }
    let subject = |bucket: &Bucket| {
        let hour = Instant::from_micros(bucket.1).map_or_else(|_| bucket.1.to_string(), |hour| hour.to_string());
        let project = if bucket.5.is_empty() { String::new() } else { format!(" project {}", bucket.5) };
        format!("{}{project} {} in {} and {} at {hour}", bucket.0, bucket.2, bucket.3, bucket.4)
    };
    let shown = |(quantity, amount, readings): (i128, i128, u64)| {
        format!("{readings} readings of {} for {}", units(Some(quantity)), units(Some(amount)))
    };
    for found in platform_catalog::hours::buckets(&mut snapshots.usage).await? {
        let bucket = (found.organization, found.hour, found.meter, found.unit, found.currency, found.project);
        let sum = (found.quantity, found.amount, u64::try_from(found.readings).unwrap_or(0));
        match expected.remove(&bucket) {
            Some(made) if made == sum => {}
            Some(made) => report.add("usage-hours", subject(&bucket), format!("holds {}; its charges make {}", shown(sum), shown(made))),
            None => report.add("usage-hours", subject(&bucket), format!("holds {}; it has no charges", shown(sum))),
        }
    }
    for (bucket, made) in expected {
        report.add("usage-hours", subject(&bucket), format!("is missing; its charges make {}", shown(made)));
    }
    Ok(())
}

/// The checkpoints' own rules: signatures, tree, and the state that the last one names; the state, if they hold.
pub(super) async fn evidence_rules(
    snapshots: &mut Snapshots,
    salt: &SaltKey,
    signer: &Signer,
    report: &mut Report,
) -> Option<platform_evidence::State> {
    match platform_evidence::verify(&mut snapshots.evidence, salt, signer.key()).await {
        Ok(verified) => Some(verified.state),
        Err(error) => {
            report.add("evidence", "checkpoints", format!("{:#}", anyhow::Error::from(error)));
            None
        }
    }
}

/// The logs are those that the charges make, and the last checkpoint names batches and books as they are.
pub(super) async fn evidence_equals(
    readers: &Readers,
    snapshots: &mut Snapshots,
    state: &platform_evidence::State,
    salt: &SaltKey,
    gathered: &Gathered,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut replayed = platform_evidence::State::default();
    for header in gathered.headers.iter().filter(|(header, _)| header.batch_no <= snapshots.sealed) {
        let head = platform_evidence::LedgerHead { batch_no: header.0.batch_no, seq: 0, digest: Digest::ZERO };
        let cut = crate::roles::folds::cut_input(&readers.lake, std::slice::from_ref(header), head, header.0.accepted_to)?;
        if let Err(error) = replayed.apply(&cut) {
            report.add("evidence-logs", format!("batch {}", header.0.batch_no), error);
            return Ok(());
        }
    }
    for organization in state.organizations().chain(replayed.organizations()).collect::<BTreeSet<_>>() {
        let (stored, made) = (state.leaf(organization, salt), replayed.leaf(organization, salt));
        if stored != made {
            report.add(
                "evidence-logs",
                organization,
                format!("its logs and sums are {}, its charges make {}", stored.canonical(), made.canonical()),
            );
        }
    }
    let Some(latest) = platform_evidence::latest(&mut snapshots.evidence).await? else { return Ok(()) };
    let (batch_no, ledger) = (latest.entry.batch_no, latest.entry.ledger);
    if gathered.headers.iter().any(|(header, digest)| header.batch_no == batch_no && *digest != latest.entry.batch_digest) {
        report.add("evidence", format!("batch {batch_no}"), "the last checkpoint names another digest for it");
    }
    // The books were looked at after the evidence: every entry that a checkpoint names is in them.
    let entries = platform_ledger::entries(&mut snapshots.books).await?;
    if ledger.seq > 0 && !entries.iter().any(|entry| entry.number == ledger.seq && entry.digest == ledger.digest) {
        report.add("evidence", format!("ledger entry {}", ledger.seq), "the last checkpoint names another digest for it");
    }
    if let Some(audit) = latest.entry.audit {
        let found = platform_audit::heads_at(&mut snapshots.books, audit.records).await?.head;
        if (found.chains, found.records, found.digest) != (audit.chains, audit.records, audit.digest) {
            let subject = format!("{} audit records", audit.records);
            report.add("evidence", subject, "the last checkpoint names another digest for the ends of their chains");
        }
    }
    Ok(())
}

/// Control numbers are dense, every version in force has the address of its documents, and the batches applied what was recorded.
pub(super) async fn registry_holds(
    snapshots: &mut Snapshots,
    identity_key: &IdentityKey,
    gathered: &Gathered,
    report: &mut Report,
) -> anyhow::Result<()> {
    let tx = &mut snapshots.books;
    let controls = match platform_registry::store::controls_after(tx, ControlNo(0)).await {
        Ok(controls) => controls,
        Err(StoreError::Control { control_no, source }) => {
            let why = source.map_or_else(|| "its row, text and digest differ".to_owned(), |source| source.to_string());
            report.add("registry-controls", format!("control record {control_no}"), why);
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let mut in_force = BTreeMap::from([(ControlNo(0), Digest::ZERO)]);
    let (mut last, mut version) = (ControlNo(0), Digest::ZERO);
    for control in &controls {
        if Some(control.control_no) != last.next() {
            report.add("registry-controls", format!("control record {}", control.control_no), format!("follows {last}"));
        }
        last = control.control_no;
        version = control.registry_version().unwrap_or(version);
        in_force.insert(last, version);
    }
    for address in controls.iter().filter_map(platform_registry::Control::registry_version).collect::<BTreeSet<_>>() {
        match platform_registry::store::version(tx, address).await {
            Ok(Some(_)) => {}
            Ok(None) => report.add("registry", address, "was put in force, but is not recorded"),
            Err(error) => report.add("registry", address, format!("{:#}", anyhow::Error::from(error))),
        }
    }
    drafts_hold(tx, &controls, report).await?;
    fees_hold(tx, &controls, identity_key, gathered, report).await?;
    // Later batches may have applied records that the snapshot of the books does not show.
    for (header, _) in gathered.headers.iter().filter(|(header, _)| header.batch_no <= snapshots.ledger) {
        let differs = |range: &&Range| in_force.get(&range.control_no) != Some(&range.registry_version);
        if let Some(range) = header.ranges.iter().find(differs) {
            report.add(
                "registry-controls",
                format!("control record {}", range.control_no),
                format!(
                    "batch {} put version {} in force by it; recorded is {}",
                    header.batch_no,
                    range.registry_version,
                    in_force.get(&range.control_no).map_or_else(|| "nothing".to_owned(), ToString::to_string)
                ),
            );
        }
    }
    Ok(())
}

/// Every draft is made of the documents that its address names, and a published one is what its control record put in force.
async fn drafts_hold(tx: &mut Transaction, controls: &[Control], report: &mut Report) -> anyhow::Result<()> {
    for draft in platform_registry::drafts::drafts(tx).await? {
        let subject = format!("draft-{}", draft.draft_no);
        if let Err(error) = platform_registry::drafts::version_of(tx, &draft).await {
            report.add("registry-drafts", &subject, format!("{:#}", anyhow::Error::from(error)));
        }
        let Some((control_no, _)) = draft.published else { continue };
        let control = controls.iter().find(|control| control.control_no == control_no);
        if control.and_then(Control::registry_version) != Some(draft.version) {
            report.add("registry-drafts", subject, format!("was published by control record {control_no}, which says something else"));
        }
    }
    Ok(())
}

/// Where a shard stands behind a tick, every fee that the tick called due was counted.
async fn fees_hold(
    tx: &mut Transaction,
    controls: &[Control],
    identity_key: &IdentityKey,
    gathered: &Gathered,
    report: &mut Report,
) -> anyhow::Result<()> {
    for control in controls {
        let ControlBody::Tick { at } = control.body else { continue };
        for fee in platform_registry::store::fees_called(tx, control.control_no, at).await? {
            let organization = fee.organization.as_str();
            let shard = ShardId::of_organization(organization).number();
            let applied = gathered.ends.get(&shard).is_some_and(|end| end.control_no >= control.control_no);
            let identity = identity_key.hash(organization, OWN_SOURCE, &fee.event_id());
            if applied && !gathered.accepted.contains_key(&identity.0) {
                let subject = format!("fee {} of organization {organization}", fee.event_id());
                report.add(
                    "recurring-fees",
                    subject,
                    format!("tick {} at {at} called it due, and it was never accepted", control.control_no),
                );
            }
        }
    }
    Ok(())
}
