//! `usage.charges`, `usage.events`, `usage.quarantine`, `usage.hours`.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, SchemaRef, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use futures::{StreamExt, stream};
use platform_catalog::{
    Audience, BatchStream, CatalogError, Comparison, Description, FileReading, FilesModel, Filter, FilterValue, ReadModel,
};
use platform_ingest::events::events_schema;
use platform_rating::{Key, SegmentState, Total, charges_schema, decode_segments, totals_from_arrow};
use shared_lake::ducklake;
use shared_types::{ControlNo, Month, OrganizationId, PriceId};

use super::Readers;
use super::prune::may_match;
use super::rows::{self, Cell, failed, instant, refuse_history};
use crate::lake::{CHARGES, EVENTS, TOTALS, rows_of, shape};

const OURS: Audience = Audience::Organizations { column: "organization" };

/// Where an event stands in the stream. Organizations share shards: the gaps between their numbers are the others' events.
const POSITION: &[&str] = &["shard", "incarnation", "sequence"];

/// Columns that do not exist for organizations.
fn kept(columns: &'static [&'static str]) -> &'static [&'static str] {
    #[cfg(feature = "plant")]
    let columns = crate::roles::plant::show_positions(columns);
    columns
}

/// All of them.
pub fn models(readers: &Readers) -> anyhow::Result<Vec<Arc<dyn ReadModel>>> {
    Ok(vec![charges(readers)?, events(readers)?, quarantine(readers)?, hours(readers)?])
}

/// A table's schema without the field ids of its files.
pub(super) fn plain(schema: &SchemaRef) -> SchemaRef {
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| Field::new(field.name(), field.data_type().clone(), field.is_nullable())).collect();
    Arc::new(Schema::new(fields))
}

/// A model over a table of the lake: the files that the catalog holds now.
fn files_model(readers: &Readers, description: Description, table: &'static str) -> Arc<dyn ReadModel> {
    let name = description.name().to_string();
    let (catalog, root) = (readers.catalog.clone(), readers.lake.root().to_owned());
    let listed = name.clone();
    Arc::new(FilesModel::new(
        description,
        move |request| {
            let (catalog, root, name) = (catalog.clone(), root.clone(), listed.clone());
            Box::pin(async move {
                refuse_history(&name, request.as_of)?;
                list(&catalog, &root, table, &request.filters).await.map_err(|error| failed(&name, &error))
            })
        },
        move |path: PathBuf, reading: FileReading| {
            let name = name.clone();
            Box::pin(async move {
                let batches = tokio::task::spawn_blocking(move || read(&path, &reading.schema))
                    .await
                    .map_err(|error| failed(&name, &error.into()))?
                    .map_err(|error| failed(&name, &error))?;
                Ok::<BatchStream, CatalogError>(stream::iter(batches.into_iter().map(Ok)).boxed())
            })
        },
    ))
}

/// The files of a table that may hold rows for which the filters are true.
async fn list(catalog: &shared_db::Database, root: &std::path::Path, table: &str, filters: &[Filter]) -> anyhow::Result<Vec<PathBuf>> {
    let mut tx = catalog.read().await?;
    let (files, schema) = (ducklake::files(&mut tx, table, None).await?, shape(table).schema);
    Ok(files.into_iter().filter(|file| may_match(file, &schema, filters)).map(|file| root.join(file.path)).collect())
}

/// Only rows with this text in a column.
fn only(column: &str, value: &str) -> Filter {
    Filter { column: column.to_owned(), comparison: Comparison::Eq, value: FilterValue::Text(value.to_owned()) }
}

/// The wanted columns of a file, in the wanted order.
fn read(path: &std::path::Path, wanted: &SchemaRef) -> anyhow::Result<Vec<RecordBatch>> {
    let names: Vec<&str> = wanted.fields().iter().map(|field| field.name().as_str()).collect();
    let mut batches = Vec::new();
    for batch in shared_lake::read_file(path, Some(&names))? {
        let columns: Result<Vec<usize>, _> = names.iter().map(|name| batch.schema().index_of(name)).collect();
        batches.push(batch.project(&columns?)?);
    }
    Ok(batches)
}

/// What the columns of charges say.
pub(super) const CHARGES_SENTENCES: &[(&str, &str)] = &[
    ("identity", "Keyed hash of (organization, source, event id)."),
    ("ordinal", "Number of the reading in its event, from 0."),
    ("shard", "Position of the event, of a row of rating again that of its record: shard."),
    ("incarnation", "Position of the event, of a row of rating again that of its record: life of the stream."),
    ("sequence", "Position of the event, of a row of rating again that of its record: dense number in the shard."),
    ("log_month", "UTC month of the reading's start: which of the organization's evidence logs holds it."),
    ("log_seq", "Gapless number in that log; null for quarantined readings."),
    ("organization", "Who owes."),
    ("project", "Sub-account, if named."),
    ("source", "Who sent the event."),
    ("meter", "The meter."),
    ("unit", "What the quantity counts."),
    ("dimensions", "What tells prices apart, as JSON."),
    ("quantity", "How much."),
    ("start_at", "When the usage began."),
    ("end_at", "When it ended, for intervals."),
    ("accepted_at", "When the event entered the stream, of a row of rating again its record."),
    ("fate", "charged, free or quarantined."),
    ("reason", "The rule of a free reading, the reason of a quarantined one."),
    ("contract", "The contract."),
    ("contract_line", "Contract and SKU: with service period and currency, the key."),
    ("service_period", "Month of usage, yyyymm: it keys the running total."),
    ("accounting_period", "Month of the books, yyyymm."),
    ("sku_id", "What was sold."),
    ("price_id", "The price row."),
    ("rule", "Price model and version of its semantics."),
    ("registry_version", "Content address of the registry in force."),
    ("state_before", "Encoded state of the key before this reading; none where the row takes another one back."),
    ("state_after", "Encoded state of the key after it."),
    ("amount", "Running total of the key after minus before."),
    ("currency", "The asset of the amount."),
    ("supersedes", "The charge that this one corrects, if any."),
    ("commitment", "Evidence: H(salt, source-supplied strings)."),
];

/// The states of keys behind everything that was booked up to and in a month; of one of which nothing was there is none.
///
/// - A range of the stream ends where a month closes, so no batch has rows of both sides of one.
pub async fn states_through(
    readers: &Readers,
    keys: BTreeSet<Key>,
    through: Month,
) -> anyhow::Result<BTreeMap<Key, BTreeMap<PriceId, SegmentState>>> {
    let mut found = BTreeMap::new();
    let mut periods: BTreeMap<(OrganizationId, Month), BTreeSet<Key>> = BTreeMap::new();
    for key in keys {
        periods.entry((key.organization.clone(), key.service_period)).or_default().insert(key);
    }
    for ((organization, period), keys) in periods {
        let number = |column: &str, comparison, month: Month| Filter {
            column: column.to_owned(),
            comparison,
            value: FilterValue::Integer(i64::from(month.number())),
        };
        let filters = [
            only("organization", organization.as_str()),
            number("service_period", Comparison::Eq, period),
            number("accounting_period", Comparison::Le, through),
        ];
        let files = list(&readers.catalog, readers.lake.root(), TOTALS, &filters).await?;
        found.extend(tokio::task::spawn_blocking(move || last_states(&files, &organization, &keys, through)).await??);
    }
    Ok(found)
}

/// The states of the keys' last rows up to and in a month: each batch that touches a key lengthens its log.
fn last_states(
    files: &[PathBuf],
    organization: &OrganizationId,
    keys: &BTreeSet<Key>,
    through: Month,
) -> anyhow::Result<BTreeMap<Key, BTreeMap<PriceId, SegmentState>>> {
    let mut last: BTreeMap<Key, (u64, Total)> = BTreeMap::new();
    for path in files {
        for rows in shared_lake::read_file(path, None)? {
            let Some(rows) = rows_of(&rows, organization)? else { continue };
            for total in totals_from_arrow(&rows)?.into_iter().filter(|total| total.accounting_period <= through) {
                let Some(key) = keys.get(&total.key()) else { continue };
                let size = total.log_sizes.get(&key.service_period).copied().unwrap_or_default();
                if last.get(key).is_none_or(|(known, _)| *known <= size) {
                    last.insert(key.clone(), (size, total));
                }
            }
        }
    }
    last.into_iter().map(|(key, (_, total))| Ok((key, decode_segments(&total.state)?))).collect()
}

fn charges(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let description = Description::new(
        "usage.charges",
        "platform-rating",
        "One row for each reading of an accepted event: what it came to, and why.",
        OURS,
        plain(&charges_schema()),
        CHARGES_SENTENCES,
    )?
    .for_the_operator(kept(POSITION))?;
    Ok(files_model(readers, description, CHARGES))
}

fn events(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let description = Description::new(
        "usage.events",
        "platform-ingest",
        "One row for each stream position: what became of the record.",
        OURS,
        plain(&events_schema()),
        &[
            ("shard", "Shard."),
            ("incarnation", "Life of the stream."),
            ("sequence", "Dense number in the shard."),
            ("identity", "Keyed hash of (organization, source, event id)."),
            ("content_digest", "SHA-256 of the canonical event."),
            ("outcome", "accepted, duplicate, conflict, quarantined or control."),
            ("first_shard", "First acceptance of a duplicate or conflict: shard."),
            ("first_incarnation", "First acceptance: life of the stream."),
            ("first_sequence", "First acceptance: number."),
            ("organization", "As far as readable."),
            ("project", "As far as readable."),
            ("source", "As far as readable."),
            ("event_id", "As far as readable."),
            ("event_type", "As far as readable."),
            ("subject", "As far as readable."),
            ("start_at", "When the usage began."),
            ("end_at", "When it ended, for intervals."),
            ("accepted_at", "When the record entered the stream."),
            ("attributes", "Canonical JSON of an accepted event."),
            ("readings", "How many rows it has in usage.charges."),
            ("reason", "Why it was quarantined."),
            ("detail", "The same in words."),
            ("raw", "What the source sent, for quarantined and conflicting events."),
            ("lane_epoch", "Sequenced sources: epoch of the lane."),
            ("lane_sequence", "Sequenced sources: number in the lane."),
        ],
    )?
    .for_the_operator(kept(POSITION))?
    // A lane leads to a shard, not to an organization.
    .for_the_operator(kept(&["first_shard", "first_incarnation", "first_sequence", "lane_epoch", "lane_sequence"]))?;
    Ok(files_model(readers, description, EVENTS))
}

/// Columns of a quarantined event or reading.
const QUARANTINE: fn() -> [rows::Column; 15] = || {
    [
        ("shard", DataType::Int32, false, "Shard."),
        ("incarnation", DataType::Int64, false, "Life of the stream."),
        ("sequence", DataType::Int64, false, "Dense number in the shard."),
        ("ordinal", DataType::Int32, true, "The reading; null when the whole event is quarantined."),
        ("organization", DataType::Utf8, true, "As far as readable."),
        ("source", DataType::Utf8, true, "As far as readable."),
        ("event_id", DataType::Utf8, true, "As far as readable; null for single readings."),
        ("event_type", DataType::Utf8, true, "As far as readable; null for single readings."),
        ("meter", DataType::Utf8, true, "The meter of a quarantined reading."),
        ("quantity", DataType::Decimal128(38, 9), true, "The quantity of a quarantined reading, where it could be read."),
        ("start_at", instant(), true, "When the usage began."),
        ("accepted_at", instant(), false, "When the record entered the stream."),
        ("reason", DataType::Utf8, false, "Stable code of the reason."),
        ("detail", DataType::Utf8, true, "The reason in words."),
        ("raw", DataType::Utf8, true, "What the source sent, invalid UTF-8 replaced."),
    ]
};

fn quarantine(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    let (readers, columns) = (readers.clone(), QUARANTINE());
    let description = Description::new(
        "usage.quarantine",
        "platform-ingest",
        "One row for each quarantined event or reading.",
        OURS,
        rows::schema(&columns),
        &rows::sentences(&columns),
    )?
    .for_the_operator(kept(POSITION))?;
    Ok(rows::described(description, move || {
        let readers = readers.clone();
        Box::pin(async move {
            let root = readers.lake.root();
            let events = list(&readers.catalog, root, EVENTS, &[only("outcome", "quarantined")]).await?;
            let charges = list(&readers.catalog, root, CHARGES, &[only("fate", "quarantined")]).await?;
            // What was rated again since is not in quarantine any more; it is looked for only where anything was.
            let controls = platform_registry::store::controls_after(&mut readers.books.read().await?, ControlNo(0)).await?;
            let again = match controls.iter().any(platform_registry::Control::rerates) && !charges.is_empty() {
                true => list(&readers.catalog, root, CHARGES, &[]).await?,
                false => Vec::new(),
            };
            tokio::task::spawn_blocking(move || quarantined(&events, &charges, &again)).await?
        })
    }))
}

/// The quarantined rows of these files of events and of charges, but for readings of which `again` has a later row.
fn quarantined(events: &[PathBuf], charges: &[PathBuf], again: &[PathBuf]) -> anyhow::Result<Vec<Vec<Cell>>> {
    let of_events = [
        "shard",
        "incarnation",
        "sequence",
        "organization",
        "source",
        "event_id",
        "event_type",
        "start_at",
        "accepted_at",
        "outcome",
        "reason",
        "detail",
        "raw",
    ];
    let of_charges = [
        "identity",
        "ordinal",
        "shard",
        "incarnation",
        "sequence",
        "organization",
        "source",
        "meter",
        "quantity",
        "start_at",
        "accepted_at",
        "fate",
        "reason",
    ];
    let mut rows = Vec::new();
    for path in events {
        for batch in shared_lake::read_file(path, Some(&of_events))? {
            quarantined_events(&batch, &mut rows)?;
        }
    }
    let last = Last::of(again)?;
    for path in charges {
        for batch in shared_lake::read_file(path, Some(&of_charges))? {
            quarantined_readings(&batch, &last, &mut rows)?;
        }
    }
    Ok(rows)
}

/// Where the last row of each reading that was rated again stands: incarnation and sequence of the record, and the place in the log, behind all
/// others for a row in quarantine. An organization lies in one shard.
struct Last(HashMap<([u8; 16], i32), (i64, i64, i64)>);

impl Last {
    fn of(paths: &[PathBuf]) -> anyhow::Result<Self> {
        let columns = ["identity", "ordinal", "incarnation", "sequence", "log_seq", "supersedes"];
        let mut last = HashMap::new();
        for path in paths {
            let superseding = shared_lake::read_file(path, Some(&["supersedes"]))?;
            if superseding.iter().filter_map(|rows| rows.column_by_name("supersedes")).all(|column| column.null_count() == column.len()) {
                continue;
            }
            for batch in shared_lake::read_file(path, Some(&columns))? {
                let supersedes = column(&batch, "supersedes")?;
                for row in (0..batch.num_rows()).filter(|row| !supersedes.is_null(*row)) {
                    let (name, place) = (Self::name(&batch, row)?, Self::place(&batch, row)?);
                    let known = last.entry(name).or_insert(place);
                    *known = place.max(*known);
                }
            }
        }
        Ok(Self(last))
    }

    fn name(batch: &RecordBatch, row: usize) -> anyhow::Result<([u8; 16], i32)> {
        let identity = column(batch, "identity")?.as_fixed_size_binary().value(row).try_into()?;
        Ok((identity, column(batch, "ordinal")?.as_primitive::<Int32Type>().value(row)))
    }

    fn place(batch: &RecordBatch, row: usize) -> anyhow::Result<(i64, i64, i64)> {
        let long = |name: &str| anyhow::Ok(column(batch, name)?.as_primitive::<Int64Type>());
        let logs = long("log_seq")?;
        let log_seq = if logs.is_null(row) { i64::MAX } else { logs.value(row) };
        Ok((long("incarnation")?.value(row), long("sequence")?.value(row), log_seq))
    }

    /// Whether a later row stands for a reading than this one, which is in quarantine.
    fn replaces(&self, batch: &RecordBatch, row: usize) -> anyhow::Result<bool> {
        let Some(last) = (!self.0.is_empty()).then(|| Self::name(batch, row)).transpose()?.and_then(|name| self.0.get(&name)) else {
            return Ok(false);
        };
        let long = |name: &str| anyhow::Ok(column(batch, name)?.as_primitive::<Int64Type>().value(row));
        Ok(*last > (long("incarnation")?, long("sequence")?, i64::MAX))
    }
}

/// A text cell of a row, null kept.
fn text(batch: &RecordBatch, name: &str, row: usize) -> anyhow::Result<Cell> {
    let column = column(batch, name)?;
    let column = column.as_string::<i32>();
    Ok(if column.is_null(row) { Cell::Null } else { Cell::from(column.value(row)) })
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> anyhow::Result<&'a arrow::array::ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| anyhow::anyhow!("the file has no column {name}"))
}

fn long(batch: &RecordBatch, name: &str, row: usize) -> anyhow::Result<Cell> {
    Ok(Cell::Integer(column(batch, name)?.as_primitive::<Int64Type>().value(row)))
}

fn int(batch: &RecordBatch, name: &str, row: usize) -> anyhow::Result<Cell> {
    Ok(Cell::Integer(i64::from(column(batch, name)?.as_primitive::<Int32Type>().value(row))))
}

fn at(batch: &RecordBatch, name: &str, row: usize) -> anyhow::Result<Cell> {
    let column = column(batch, name)?.as_primitive::<TimestampMicrosecondType>();
    Ok(if column.is_null(row) { Cell::Null } else { Cell::Integer(column.value(row)) })
}

fn quarantined_events(batch: &RecordBatch, rows: &mut Vec<Vec<Cell>>) -> anyhow::Result<()> {
    let outcomes = column(batch, "outcome")?.as_string::<i32>();
    let raw = column(batch, "raw")?.as_binary::<i32>();
    for row in (0..batch.num_rows()).filter(|row| outcomes.value(*row) == "quarantined") {
        let sent = (!raw.is_null(row)).then(|| String::from_utf8_lossy(raw.value(row)).into_owned());
        rows.push(vec![
            int(batch, "shard", row)?,
            long(batch, "incarnation", row)?,
            long(batch, "sequence", row)?,
            Cell::Null,
            text(batch, "organization", row)?,
            text(batch, "source", row)?,
            text(batch, "event_id", row)?,
            text(batch, "event_type", row)?,
            Cell::Null,
            Cell::Null,
            at(batch, "start_at", row)?,
            at(batch, "accepted_at", row)?,
            text(batch, "reason", row)?,
            text(batch, "detail", row)?,
            sent.into(),
        ]);
    }
    Ok(())
}

fn quarantined_readings(batch: &RecordBatch, last: &Last, rows: &mut Vec<Vec<Cell>>) -> anyhow::Result<()> {
    let fates = column(batch, "fate")?.as_string::<i32>();
    let quantities = column(batch, "quantity")?.as_primitive::<arrow::datatypes::Decimal128Type>();
    for row in (0..batch.num_rows()).filter(|row| fates.value(*row) == "quarantined") {
        if last.replaces(batch, row)? {
            continue;
        }
        rows.push(vec![
            int(batch, "shard", row)?,
            long(batch, "incarnation", row)?,
            long(batch, "sequence", row)?,
            int(batch, "ordinal", row)?,
            text(batch, "organization", row)?,
            text(batch, "source", row)?,
            Cell::Null,
            Cell::Null,
            text(batch, "meter", row)?,
            Cell::Decimal(quantities.value(row)),
            at(batch, "start_at", row)?,
            at(batch, "accepted_at", row)?,
            text(batch, "reason", row)?,
            Cell::Null,
            Cell::Null,
        ]);
    }
    Ok(())
}

fn hours(readers: &Readers) -> anyhow::Result<Arc<dyn ReadModel>> {
    Ok(Arc::new(platform_catalog::hours::read_model(readers.usage.clone())?))
}
