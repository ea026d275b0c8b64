//! `tally rebuild FOLD`: folds the batch log again, along the recorded cuts, into a fresh database, and compares or replaces.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::bail;
use clap::{Args, ValueEnum};
use platform_iam::Action;
use platform_ingest::merge::Merge;
use platform_ingest::store;
use platform_ledger::BookedCommand;
use serde_json::json;
use shared_db::{Cut, Database, Statement, Transaction, Value};
use shared_lake::ducklake::replace;
use shared_types::BatchNo;

use super::Refused;
use crate::clock::now;
use crate::home::{Home, Store};
use crate::lake::{EVENTS, Lake};
use crate::roles::folds::{EvidenceFold, Fold as _, LakeFold, LedgerFold, UsageFold, headers_of_cut};
use crate::{Common, Format, Outcome, access};

/// Arguments of `tally rebuild`.
#[derive(Args)]
pub struct RebuildArguments {
    /// Which fold.
    #[arg(value_enum)]
    fold: FoldName,
    /// Only compare the rebuilt fold with the one in use; exit 1 and the differing rows otherwise.
    #[arg(long)]
    compare: bool,
}

/// A fold of the batch log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FoldName {
    /// Postings and balances.
    Ledger,
    /// The DuckLake catalog.
    Lake,
    /// Hour buckets.
    Usage,
    /// Organization logs.
    Evidence,
}

impl FoldName {
    fn name(self) -> &'static str {
        match self {
            Self::Ledger => "ledger",
            Self::Lake => "lake",
            Self::Usage => "usage",
            Self::Evidence => "evidence",
        }
    }

    fn store(self) -> Store {
        match self {
            Self::Ledger => Store::Books,
            Self::Lake => Store::Lake,
            Self::Usage => Store::Usage,
            Self::Evidence => Store::Evidence,
        }
    }

    /// Tables whose rows follow from the batch log alone. Checkpoints do not: they are signed facts of their time.
    fn tables(self) -> &'static [&'static str] {
        match self {
            Self::Ledger => &[
                "platform_billing_closes",
                "platform_billing_passes",
                "platform_billing_reratings",
                "platform_billing_totals",
                "platform_ledger_accounts",
                "platform_ledger_commands",
                "platform_ledger_period_closes",
                "platform_ledger_periods",
                "platform_ledger_entries",
                "platform_ledger_postings",
                "platform_ledger_balances",
            ],
            Self::Lake => &[
                "ducklake_table",
                "ducklake_column",
                "ducklake_snapshot",
                "ducklake_snapshot_changes",
                "ducklake_data_file",
                "ducklake_file_column_stats",
                "ducklake_table_stats",
            ],
            Self::Usage => &["platform_catalog_hours"],
            Self::Evidence => &["platform_evidence_organizations", "platform_evidence_logs", "platform_evidence_sums"],
        }
    }
}

/// Rebuilds a fold.
pub async fn run(arguments: RebuildArguments, common: &Common) -> anyhow::Result<Outcome> {
    for _ in 0..ATTEMPTS {
        match once(&arguments, common).await {
            Err(error) if arguments.compare && is_gone(&error) => {}
            done => return done,
        }
    }
    once(&arguments, common).await
}

/// Beside an owner, files that a snapshot shows may be merged away while they are read; a later snapshot shows what took their place. So often
/// it is asked for before a file counts as lost.
const ATTEMPTS: u32 = 5;

fn is_gone(error: &anyhow::Error) -> bool {
    let not_found = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    error.chain().any(|cause| cause.downcast_ref().is_some_and(not_found))
}

async fn once(arguments: &RebuildArguments, common: &Common) -> anyhow::Result<Outcome> {
    let home = Home::open(&common.home)?;
    let fold = arguments.fold;
    if !arguments.compare && matches!(fold, FoldName::Ledger | FoldName::Evidence) {
        bail!(Refused(format!(
            "the {0} holds facts beside its fold (commands, signed checkpoints) and is never replaced; use `tally rebuild {0} --compare`",
            fold.name()
        )));
    }
    // Replacing needs the home for itself; comparing reads snapshots beside an owner.
    let lock = if arguments.compare { None } else { Some(home.lock(None)?) };
    let scratch = tempfile::tempdir_in(home.path("db"))?;
    let file = scratch.path().join(format!("{}.db", fold.store().name()));
    let bar = super::ingest::spinner("rebuilding");
    // One snapshot of the fold in use: its cuts and its rows, however much an owner folds meanwhile.
    let mut used = home.database_read_only(fold.store()).await?.read().await?;
    let cuts = shared_db::cuts(&mut used, fold.name()).await?;
    let commands = match fold {
        FoldName::Ledger => platform_ledger::commands(&mut used, 0, u32::MAX).await?,
        _ => Vec::new(),
    };
    let log = home.database_read_only(Store::Log).await?;
    let mut lake = Lake::open(&home, &log).await?;
    if fold == FoldName::Lake && arguments.compare {
        lake = as_shown(&lake, &log, &mut used).await?;
    }
    let work = Work { home: &home, fold, log, lake, publishes: !arguments.compare };
    rebuild(&work, &cuts, &commands, &file, scratch.path()).await?;
    bar.finish_and_clear();
    if lock.is_some() {
        let permit = access::local(Action::FoldRebuild)?;
        // Recorded before the fold is replaced: nothing is replaced without a record.
        let mut tx = home.database(Store::Books).await?.begin().await?;
        platform_audit::record(&mut tx, &permit.record(None, fold.name(), BTreeMap::new(), now())).await?;
        tx.commit().await?;
        let target = home.database_file(fold.store());
        std::fs::rename(&file, &target)?;
        for ending in ["-wal", "-shm"] {
            let left = target.with_file_name(format!("{}.db{ending}", fold.store().name()));
            if left.exists() {
                std::fs::remove_file(left)?;
            }
        }
        report(common.format, fold, cuts.len(), &[], "replaced");
        return Ok(Outcome::Done);
    }
    let merged = fold == FoldName::Lake && !work.lake.merges().is_empty();
    let differences = compare(&mut used, fold, &file, merged).await?;
    report(common.format, fold, cuts.len(), &differences, if differences.is_empty() { "equal" } else { "different" });
    Ok(if differences.is_empty() { Outcome::Done } else { Outcome::Found })
}

fn report(format: Format, fold: FoldName, cuts: usize, differences: &[String], verdict: &str) {
    if format == Format::Json {
        println!("{}", json!({"fold": fold.name(), "cuts": cuts, "verdict": verdict, "differences": differences}));
        return;
    }
    for difference in differences {
        println!("{difference}");
    }
    println!("{} rebuilt along {cuts} recorded cuts: {verdict}", fold.name());
}

/// What is folded again, and from what.
struct Work<'a> {
    home: &'a Home,
    fold: FoldName,
    log: Database,
    lake: Lake,
    /// Whether the objects beside the lake's files are written: not beside an owner, to whom they belong.
    publishes: bool,
}

/// The lake as it was when a catalog showed its last merge: an owner may have merged since, even what is shown, into larger files.
async fn as_shown(lake: &Lake, log: &Database, catalog: &mut Transaction) -> anyhow::Result<Lake> {
    let mut tx = log.read().await?;
    let (mut merges, mut after): (Vec<Merge>, u64) = (Vec::new(), 0);
    loop {
        let found = store::merges_after(&mut tx, after, 1_000).await?;
        let Some((last, _)) = found.last() else { break };
        after = last.merge_no;
        merges.extend(found.into_iter().map(|(merge, _)| merge));
    }
    let paths: Vec<String> = merges.iter().filter_map(|merge| Some(merge.table(EVENTS)?.path.clone())).collect();
    let shown = if paths.is_empty() { Vec::new() } else { replace::shown(catalog, EVENTS, &paths).await? };
    let is_shown = |merge: &&Merge| merge.table(EVENTS).is_some_and(|file| shown.binary_search(&file.path).is_ok());
    let last = merges.iter().filter(is_shown).map(|merge| merge.merge_no).max().unwrap_or(0);
    merges.retain(|merge| merge.merge_no <= last);
    Ok(lake.with_merges(merges))
}

/// Folds the log along the recorded cuts of the fold in use; the ledger takes its commands again where it took them.
async fn rebuild(work: &Work<'_>, cuts: &[Cut], commands: &[BookedCommand], file: &Path, scratch: &Path) -> anyhow::Result<()> {
    let (home, fold, log, lake) = (work.home, work.fold, &work.log, work.lake.clone());
    let owners: &[&str] = match fold {
        FoldName::Ledger => &["platform-ledger", "platform-billing"],
        _ => fold.store().owners(),
    };
    let fresh = Database::open_sqlite(file, owners).await?;
    match fold {
        FoldName::Ledger => {
            let ledger = LedgerFold::new(log.clone(), fresh.clone(), lake);
            let mut commands = commands.iter().peekable();
            for cut in cuts {
                while let Some(booked) = commands.next_if(|booked| booked.batch_no < cut.last) {
                    take(&fresh, booked).await?;
                }
                ledger.fold(&headers_of_cut(log, cut.first, cut.last).await?).await?;
            }
            for booked in commands {
                take(&fresh, booked).await?;
            }
        }
        FoldName::Lake => {
            let mut catalog = LakeFold::open(log.clone(), fresh.clone(), lake.clone()).await?;
            if !work.publishes {
                catalog = catalog.catalog_only();
            }
            // Once files were merged, those that an early cut took may be gone: then it is cut anew, along the merges.
            let (end, anew) = (cuts.last().map_or(BatchNo(0), |cut| cut.last), !lake.merges().is_empty());
            for cut in cuts.iter().filter(|_| !anew) {
                catalog.fold(&headers_of_cut(log, cut.first, cut.last).await?).await?;
            }
            while catalog.cursor().await? < end {
                catalog.cut(end).await?;
            }
        }
        FoldName::Usage => {
            let usage = UsageFold::new(log.clone(), fresh.clone(), lake);
            for cut in cuts {
                usage.fold(&headers_of_cut(log, cut.first, cut.last).await?).await?;
            }
        }
        FoldName::Evidence => {
            let books = home.database_read_only(Store::Books).await?;
            let tiles = scratch.join("tiles");
            let evidence = EvidenceFold::open(home, &home.secrets()?, log.clone(), books, fresh.clone(), lake, tiles).await?;
            for cut in cuts {
                evidence.fold(&headers_of_cut(log, cut.first, cut.last).await?).await?;
            }
        }
    }
    fresh.close().await;
    Ok(())
}

async fn take(books: &Database, booked: &BookedCommand) -> anyhow::Result<()> {
    let mut tx = books.begin().await?;
    platform_ledger::execute(&mut tx, &booked.command).await?;
    tx.commit().await?;
    Ok(())
}

/// Rows that differ between the fold in use and the rebuilt one, table by table.
///
/// - `merged`: the fold is the catalog of a lake with merged files.
async fn compare(used: &mut Transaction, fold: FoldName, file: &Path, merged: bool) -> anyhow::Result<Vec<String>> {
    let mut fresh = Database::open_sqlite_read_only(file).await?.read().await?;
    let mut differences = Vec::new();
    if merged {
        // Which snapshot brought which file is history that went with the files; what the catalog shows must be the same.
        let used = replace::content(used).await?;
        let fresh = replace::content(&mut fresh).await?;
        differences.extend(
            used.iter().filter(|line| fresh.binary_search(line).is_err()).map(|line| format!("in use, not in the rebuilt fold: {line}")),
        );
        differences.extend(
            fresh.iter().filter(|line| used.binary_search(line).is_err()).map(|line| format!("in the rebuilt fold, not in use: {line}")),
        );
        return Ok(differences);
    }
    for table in fold.tables() {
        let (used, fresh) = (dump(used, table).await?, dump(&mut fresh, table).await?);
        for row in used.iter().filter(|row| fresh.binary_search(row).is_err()) {
            differences.push(format!("{table}: in use, not in the rebuilt fold: {row}"));
        }
        for row in fresh.iter().filter(|row| used.binary_search(row).is_err()) {
            differences.push(format!("{table}: in the rebuilt fold, not in use: {row}"));
        }
        if used.len() != fresh.len() && differences.is_empty() {
            differences.push(format!("{table}: {} rows in use, {} rebuilt", used.len(), fresh.len()));
        }
    }
    Ok(differences)
}

/// Rows of a table as sorted text, without the columns that record when or under which random name something was written.
async fn dump(tx: &mut Transaction, table: &str) -> anyhow::Result<Vec<String>> {
    // Statements live as long as the process; a rebuild reads a handful of tables once.
    let sql: &'static str = Box::leak(format!("SELECT * FROM {table}").into_boxed_str());
    let statement = Statement { name: "rebuild.dump", sqlite: sql, postgres: sql };
    let mut rows = Vec::new();
    for row in tx.query(&statement, &[]).await? {
        let mut text = Vec::new();
        for (name, value) in row.names().iter().zip(row.values()) {
            if name == "recorded_at" || name.ends_with("uuid") {
                continue;
            }
            text.push(match value {
                Value::Null => format!("{name}=null"),
                Value::Integer(number) => format!("{name}={number}"),
                Value::Text(text) => format!("{name}={text}"),
                Value::Bytes(bytes) => format!("{name}={}", hex::encode(bytes)),
            });
        }
        rows.push(text.join(" "));
    }
    rows.sort_unstable();
    Ok(rows)
}
