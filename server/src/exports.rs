//! Writes what was booked in one accounting period as files that the second opinion re-rates: `docs/architecture/export-format.md`.
//! It selects rows and copies documents; it judges nothing.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use anyhow::{Context as _, bail};
use arrow::array::{Array as _, AsArray as _, BooleanArray, RecordBatch, StringArray};
use arrow::compute::{concat_batches, filter_record_batch};
use arrow::datatypes::Int32Type;
use platform_evidence::bundle::{DOCUMENTS, RegistryDocuments};
use platform_ingest::header::Header;
use serde_json::{Value, json};
use shared_db::Database;
use shared_lake::{Contents, RealFiles};
use shared_types::{BatchNo, Digest, Month, Sum, canonical_json};

use crate::commands::Refused;
use crate::lake::{CHARGES, Lake, TOTALS, shape};

/// Headers and postings read at once.
const PAGE: u32 = 500;

/// organization, contract, SKU, service period, currency.
type Key = (String, String, String, i32, String);

/// What was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Keys booked in the month.
    pub keys: usize,
    /// Readings of these keys.
    pub readings: u64,
    /// Digest of `export.json`.
    pub digest: Digest,
}

/// Exports a month into an empty folder, from every batch that the ledger has folded.
pub async fn export(log: &Database, books: &Database, lake: &Lake, period: Month, folder: &Path) -> anyhow::Result<Exported> {
    std::fs::create_dir_all(folder).with_context(|| format!("could not create {}", folder.display()))?;
    if std::fs::read_dir(folder)?.next().is_some() {
        bail!(Refused(format!("{} is not empty: an export gets a folder of its own", folder.display())));
    }
    // The cursor first: what was folded then is in the log for ever.
    let (through, revenue) = {
        let mut tx = books.read().await?;
        (shared_db::cursor(&mut tx, platform_ledger::FOLD).await?, revenue(&mut tx, period).await?)
    };
    let (mut headers, mut after): (Vec<Header>, _) = (Vec::new(), BatchNo(0));
    while after < through {
        let mut tx = log.read().await?;
        let page = platform_ingest::store::batches_after(&mut tx, after, PAGE).await?;
        after = page.last().map(|(header, _)| header.batch_no).context("the batch log ends before the ledger's cursor")?;
        headers.extend(page.into_iter().map(|(header, _)| header).filter(|header| header.batch_no <= through));
    }
    let mut keys: HashSet<Key> = HashSet::new();
    for header in &headers {
        // Of both tables: a key whose totals were lost is judged too.
        for table in [CHARGES, TOTALS] {
            for rows in lake.read(header, table, Some(&KEY_COLUMNS))? {
                let columns = Columns::of(&rows)?;
                let booked = |row: &usize| columns.keyed(*row) && columns.period(*row) == period.number();
                keys.extend((0..rows.num_rows()).filter(booked).map(|row| columns.key(row)));
            }
        }
    }
    let mut writer = Writer { folder, files: BTreeMap::new() };
    let (mut versions, mut readings) = (BTreeSet::new(), 0_u64);
    for header in &headers {
        for table in [CHARGES, TOTALS] {
            let Some(rows) = select(lake, header, table, &keys, period)? else { continue };
            if table == CHARGES {
                let addresses = rows.column_by_name("registry_version").context("charges have no registry version")?.as_fixed_size_binary();
                versions.extend((0..rows.num_rows()).filter_map(|row| Digest::from_slice(addresses.value(row))));
                readings += u64::try_from(rows.num_rows())?;
            }
            writer.table(header, table, &rows)?;
        }
    }
    let mut documents = RegistryDocuments::default();
    for address in versions {
        let mut tx = books.read().await?;
        let version = platform_registry::store::version(&mut tx, address).await?;
        let version = version.with_context(|| format!("registry version {address} is not there"))?;
        writer.text(&format!("registry/{address}.json"), &version.index())?;
        for entry in version.entries() {
            documents.insert(entry.digest, &entry.canonical);
        }
    }
    writer.text(DOCUMENTS, &documents.lines())?;
    let files: Vec<Value> = writer.files.into_values().collect();
    let text =
        canonical_json(&json!({"files": files, "period": period.number().to_string(), "revenue": revenue, "through": through, "v": "1"}))?;
    std::fs::write(folder.join("export.json"), &text)?;
    Ok(Exported { keys: keys.len(), readings, digest: Digest::of(text.as_bytes()) })
}

/// Σ of what was posted to `revenue/…` in the month, by currency.
async fn revenue(tx: &mut shared_db::Transaction, period: Month) -> anyhow::Result<Vec<Value>> {
    let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
    let mut after = 0;
    loop {
        let page = platform_ledger::postings(tx, after, PAGE).await?;
        let Some(last) = page.last() else { break };
        after = last.seq;
        for booked in page.iter().filter(|booked| booked.posting.accounting_period() == period) {
            let posting = &booked.posting;
            let sum = sums.entry(posting.asset().to_string()).or_default();
            if posting.credit().as_str().starts_with("revenue/") {
                *sum = sum.checked_add(posting.amount().into())?;
            }
            if posting.debit().as_str().starts_with("revenue/") {
                *sum = sum.checked_sub(posting.amount().into())?;
            }
        }
    }
    sums.retain(|_, amount| *amount != Sum::ZERO);
    Ok(sums.into_iter().map(|(currency, amount)| json!({"amount": amount, "currency": currency})).collect())
}

const KEY_COLUMNS: [&str; 6] = ["organization", "contract", "sku_id", "service_period", "currency", "accounting_period"];

/// The columns that make a key, of `charges` or `totals`.
struct Columns<'a> {
    organizations: &'a StringArray,
    contracts: &'a StringArray,
    skus: &'a StringArray,
    services: &'a arrow::array::PrimitiveArray<Int32Type>,
    currencies: &'a StringArray,
    periods: &'a arrow::array::PrimitiveArray<Int32Type>,
}

impl<'a> Columns<'a> {
    fn of(rows: &'a RecordBatch) -> anyhow::Result<Self> {
        let column = |name: &str| rows.column_by_name(name).with_context(|| format!("a batch file has no column {name}"));
        Ok(Self {
            organizations: column("organization")?.as_string(),
            contracts: column("contract")?.as_string(),
            skus: column("sku_id")?.as_string(),
            services: column("service_period")?.as_primitive(),
            currencies: column("currency")?.as_string(),
            periods: column("accounting_period")?.as_primitive(),
        })
    }

    fn period(&self, row: usize) -> i32 {
        self.periods.value(row)
    }

    /// Quarantined readings have no key.
    fn keyed(&self, row: usize) -> bool {
        !self.contracts.is_null(row)
    }

    fn key(&self, row: usize) -> Key {
        (
            self.organizations.value(row).to_owned(),
            self.contracts.value(row).to_owned(),
            self.skus.value(row).to_owned(),
            self.services.value(row),
            self.currencies.value(row).to_owned(),
        )
    }
}

/// Rows of the keys, up to the month. The same rows make the same file, before and after their batches were merged.
fn select(lake: &Lake, header: &Header, table: &str, keys: &HashSet<Key>, period: Month) -> anyhow::Result<Option<RecordBatch>> {
    let read = lake.read(header, table, None)?;
    let Some(first) = read.first() else { return Ok(None) };
    let rows = concat_batches(&first.schema(), &read)?;
    let wanted: BooleanArray = {
        let columns = Columns::of(&rows)?;
        let wanted = |row| columns.keyed(row) && columns.period(row) <= period.number() && keys.contains(&columns.key(row));
        (0..rows.num_rows()).map(|row| Some(wanted(row))).collect()
    };
    let rows = shared_lake::sort(&filter_record_batch(&rows, &wanted)?, shape(table).order)?;
    Ok((rows.num_rows() > 0).then_some(rows))
}

struct Writer<'a> {
    folder: &'a Path,
    files: BTreeMap<String, Value>,
}

impl Writer<'_> {
    fn table(&mut self, header: &Header, table: &str, rows: &RecordBatch) -> anyhow::Result<()> {
        let path = format!("{table}/{:020}.parquet", header.batch_no.0);
        std::fs::create_dir_all(self.folder.join(table))?;
        let contents = Contents {
            schema: &rows.schema(),
            batches: std::slice::from_ref(rows),
            metadata: &[("tallystick.table", table)],
            statistics: &[],
        };
        let meta = shared_lake::write_file(&RealFiles, self.folder, &path, &contents)?;
        let bytes = std::fs::read(self.folder.join(&path))?;
        let file = json!({"path": path, "rows": meta.rows, "sha256": Digest::of(&bytes), "size": bytes.len()});
        self.files.insert(path, file);
        Ok(())
    }

    fn text(&mut self, path: &str, text: &str) -> anyhow::Result<()> {
        let file = self.folder.join(path);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent)?;
        }
        std::fs::write(&file, text)?;
        self.files.insert(path.to_owned(), json!({"path": path, "sha256": Digest::of(text.as_bytes()), "size": text.len()}));
        Ok(())
    }
}
