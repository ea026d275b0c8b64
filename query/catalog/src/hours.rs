//! The usage fold: readings by organization, project, meter and UTC hour. An interval counts in the hour of its start.
//! It knows no file: what batches brought comes in as deltas. Sums are exact 128-bit integers, never floats.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Decimal128Builder, Int64Builder, RecordBatch, StringBuilder, TimestampMicrosecondBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use futures::{StreamExt, stream};
use serde_json::json;
use shared_db::{Database, DbError, Row, Transaction};
use shared_types::{Amount, BatchNo, Instant, Quantity};

use crate::store::{HOURS_ALL, HOURS_BETWEEN, HOURS_FIND, HOURS_OF_ORGANIZATION, HOURS_PUT};
use crate::{Audience, CatalogError, Comparison, Description, Filter, FilterValue, Request, RowsModel, Scope};

/// The fold's name in cursors and cuts.
pub const FOLD: &str = "usage";

const HOUR: i64 = 3_600_000_000;
const MODEL: &str = "usage.hours";
/// Rows of one batch of the read model.
const BATCH_ROWS: usize = 8_192;

/// What one reading adds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HourDelta<'a> {
    /// Who owes.
    pub organization: &'a str,
    /// Sub-account, if named.
    pub project: Option<&'a str>,
    /// The meter.
    pub meter: &'a str,
    /// What the quantity counts.
    pub unit: &'a str,
    /// When the usage began.
    pub at: Instant,
    /// How much.
    pub quantity: Quantity,
    /// What it came to.
    pub amount: Amount,
    /// The asset of the amount.
    pub currency: &'a str,
}

/// Why hours cannot be folded or read. The transaction must be rolled back.
#[derive(Debug, thiserror::Error)]
pub enum HoursError {
    /// The database failed or refused.
    #[error("the hour buckets could not be read or written")]
    Db(#[from] DbError),
    /// A stored row is not what was written.
    #[error("the hour bucket of {organization} is damaged: {what} is {value:?}")]
    Damaged {
        /// Whose.
        organization: String,
        /// The column.
        what: &'static str,
        /// What it holds.
        value: String,
    },
    /// A sum leaves 128 bits.
    #[error("the {what} of {organization} in one hour does not fit")]
    Overflow {
        /// `quantity` or `amount`.
        what: &'static str,
        /// Whose.
        organization: String,
    },
}

/// A bucket's name: of the readings at hand, or as it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Key<T> {
    organization: T,
    project: T,
    meter: T,
    unit: T,
    currency: T,
    hour: i64,
}

impl Key<String> {
    fn borrowed(&self) -> Key<&str> {
        Key {
            organization: &self.organization,
            project: &self.project,
            meter: &self.meter,
            unit: &self.unit,
            currency: &self.currency,
            hour: self.hour,
        }
    }
}

#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    quantity: i128,
    amount: i128,
    readings: i64,
}

impl Sum {
    fn add(&mut self, other: &Self, organization: &str) -> Result<(), HoursError> {
        let overflow = |what| HoursError::Overflow { what, organization: organization.to_owned() };
        self.quantity = self.quantity.checked_add(other.quantity).ok_or_else(|| overflow("quantity"))?;
        self.amount = self.amount.checked_add(other.amount).ok_or_else(|| overflow("amount"))?;
        self.readings = self.readings.checked_add(other.readings).ok_or_else(|| overflow("number of readings"))?;
        Ok(())
    }
}

fn read(row: &Row) -> Result<(Key<String>, Sum), HoursError> {
    let number = |column, what| -> Result<i128, HoursError> {
        let text = row.text(column)?;
        text.parse().map_err(|_| HoursError::Damaged {
            organization: row.text(0).unwrap_or_default().to_owned(),
            what,
            value: text.to_owned(),
        })
    };
    let key = Key {
        organization: row.text(0)?.to_owned(),
        project: row.text(1)?.to_owned(),
        meter: row.text(2)?.to_owned(),
        unit: row.text(3)?.to_owned(),
        currency: row.text(4)?.to_owned(),
        hour: row.integer(5)?,
    };
    Ok((key, Sum { quantity: number(6, "quantity")?, amount: number(7, "amount")?, readings: row.integer(8)? }))
}

/// Adds the readings of the batches after `from` up to `to` and moves the cursor, all in the caller's transaction.
///
/// - Errors: a cursor elsewhere, an overflow named by organization, a damaged row.
pub async fn fold_hours(tx: &mut Transaction, from: BatchNo, to: BatchNo, deltas: &[HourDelta<'_>]) -> Result<(), HoursError> {
    shared_db::advance(tx, FOLD, from, to).await?;
    let mut sums: HashMap<Key<&str>, Sum> = HashMap::new();
    for delta in deltas {
        let key = Key {
            organization: delta.organization,
            project: delta.project.unwrap_or_default(),
            meter: delta.meter,
            unit: delta.unit,
            currency: delta.currency,
            hour: delta.at.micros() - delta.at.micros().rem_euclid(HOUR),
        };
        let fresh = Sum { quantity: delta.quantity.units(), amount: i128::from(delta.amount.units()), readings: 1 };
        sums.entry(key).or_default().add(&fresh, delta.organization)?;
    }
    if sums.is_empty() {
        return Ok(());
    }
    let mut sums: Vec<(Key<&str>, Sum)> = sums.into_iter().collect();
    sums.sort_unstable_by_key(|(key, _)| *key);
    let wanted: Vec<serde_json::Value> = sums
        .iter()
        .map(|(key, _)| {
            json!({
                "organization": key.organization, "project": key.project, "meter": key.meter, "unit": key.unit,
                "currency": key.currency, "hour": key.hour,
            })
        })
        .collect();
    let found = tx.query(&HOURS_FIND, &[serde_json::Value::Array(wanted).to_string().into()]).await?;
    let found: Vec<(Key<String>, Sum)> = found.iter().map(read).collect::<Result<_, _>>()?;
    let before: HashMap<Key<&str>, Sum> = found.iter().map(|(key, sum)| (key.borrowed(), *sum)).collect();
    let mut rows: Vec<serde_json::Value> = Vec::with_capacity(sums.len());
    for (key, mut sum) in sums {
        if let Some(before) = before.get(&key) {
            sum.add(before, key.organization)?;
        }
        rows.push(json!({
            "organization": key.organization, "project": key.project, "meter": key.meter, "unit": key.unit,
            "currency": key.currency, "hour": key.hour, "quantity": sum.quantity.to_string(),
            "amount": sum.amount.to_string(), "readings": sum.readings,
        }));
    }
    tx.execute(&HOURS_PUT, &[serde_json::Value::Array(rows).to_string().into()]).await?;
    Ok(())
}

/// One bucket as it is stored. Quantity and amount are in units of 10^-9.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bucket {
    /// Who owes.
    pub organization: String,
    /// Sub-account; empty when none was named.
    pub project: String,
    /// The meter.
    pub meter: String,
    /// What the quantity counts.
    pub unit: String,
    /// The asset of the amount.
    pub currency: String,
    /// Begin of the hour in microseconds.
    pub hour: i64,
    /// Sum of the quantities.
    pub quantity: i128,
    /// Sum of the charges.
    pub amount: i128,
    /// How many.
    pub readings: i64,
}

/// All buckets, for comparison with the charges. Their ids are not parsed: what is stored is what is compared.
pub async fn buckets(tx: &mut Transaction) -> Result<Vec<Bucket>, HoursError> {
    let rows = tx.query(&HOURS_ALL, &[]).await?;
    rows.iter()
        .map(|row| {
            let (Key { organization, project, meter, unit, currency, hour }, Sum { quantity, amount, readings }) = read(row)?;
            Ok(Bucket { organization, project, meter, unit, currency, hour, quantity, amount, readings })
        })
        .collect()
}

fn schema() -> SchemaRef {
    let money = DataType::Decimal128(38, 9);
    Arc::new(Schema::new(vec![
        Field::new("organization", DataType::Utf8, false),
        Field::new("project", DataType::Utf8, true),
        Field::new("meter", DataType::Utf8, false),
        Field::new("unit", DataType::Utf8, false),
        Field::new("currency", DataType::Utf8, false),
        Field::new("hour", DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())), false),
        Field::new("quantity", money.clone(), false),
        Field::new("amount", money, false),
        Field::new("readings", DataType::Int64, false),
    ]))
}

/// `usage.hours` over a database that this fold writes.
pub fn read_model(database: Database) -> Result<RowsModel, CatalogError> {
    let description = Description::new(
        MODEL,
        "platform-catalog",
        "One row for each organization, project, meter and UTC hour with charged or free readings.",
        Audience::Organizations { column: "organization" },
        schema(),
        &[
            ("organization", "Who owes."),
            ("project", "Sub-account, if named."),
            ("meter", "The meter."),
            ("unit", "What the quantity counts."),
            ("currency", "The asset of the amount."),
            ("hour", "Begin of the hour in which the usage began."),
            ("quantity", "Sum of the quantities."),
            ("amount", "Sum of the charges."),
            ("readings", "How many."),
        ],
    )?;
    Ok(RowsModel::new(description, move |request| {
        let database = database.clone();
        Box::pin(async move {
            if request.as_of.0.is_some() {
                return Err(CatalogError::NoHistory { model: MODEL.to_owned() });
            }
            let rows = rows(&database, &request).await.map_err(|error| CatalogError::read(MODEL, error))?;
            let batches: Vec<_> = rows.chunks(BATCH_ROWS).map(batch).collect();
            Ok(stream::iter(batches).boxed())
        })
    }))
}

/// The rows of the scope between the hours that the filters name; the model applies the filters exactly.
async fn rows(database: &Database, request: &Request) -> Result<Vec<(Key<String>, Sum)>, HoursError> {
    let (first, last) = between(&request.filters);
    let mut tx = database.read().await?;
    let rows = match &request.scope {
        Scope::Operator => tx.query(&HOURS_BETWEEN, &[first.into(), last.into()]).await?,
        Scope::Organization(organization) => {
            tx.query(&HOURS_OF_ORGANIZATION, &[organization.as_str().into(), first.into(), last.into()]).await?
        }
    };
    rows.iter().map(read).collect()
}

/// The first and the last hour that can pass the filters, in microseconds.
fn between(filters: &[Filter]) -> (i64, i64) {
    let (mut first, mut last) = (i64::MIN, i64::MAX);
    for filter in filters.iter().filter(|filter| filter.column == "hour") {
        let FilterValue::At(at) = &filter.value else {
            continue;
        };
        if matches!(filter.comparison, Comparison::Eq | Comparison::Ge | Comparison::Gt) {
            first = first.max(at.micros());
        }
        if matches!(filter.comparison, Comparison::Eq | Comparison::Le | Comparison::Lt) {
            last = last.min(at.micros());
        }
    }
    (first, last)
}

fn batch(rows: &[(Key<String>, Sum)]) -> Result<RecordBatch, CatalogError> {
    let text = |of: fn(&Key<String>) -> &str, nullable: bool| {
        let mut builder = StringBuilder::new();
        for (key, _) in rows {
            let value = of(key);
            builder.append_option((!nullable || !value.is_empty()).then_some(value));
        }
        Arc::new(builder.finish())
    };
    let money = |of: fn(&Sum) -> i128| -> Result<_, CatalogError> {
        let mut builder = Decimal128Builder::new().with_precision_and_scale(38, 9)?;
        for (_, sum) in rows {
            builder.append_value(of(sum));
        }
        Ok(Arc::new(builder.finish()))
    };
    let mut hours = TimestampMicrosecondBuilder::new().with_timezone("UTC");
    let mut readings = Int64Builder::new();
    for (key, sum) in rows {
        hours.append_value(key.hour);
        readings.append_value(sum.readings);
    }
    Ok(RecordBatch::try_new(
        schema(),
        vec![
            text(|key| &key.organization, false),
            text(|key| &key.project, true),
            text(|key| &key.meter, false),
            text(|key| &key.unit, false),
            text(|key| &key.currency, false),
            Arc::new(hours.finish()),
            money(|sum| sum.quantity)?,
            money(|sum| sum.amount)?,
            Arc::new(readings.finish()),
        ],
    )?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{AsOf, ReadModel, collect};
    use shared_testkit::on_both_engines;
    use shared_types::OrganizationId;

    fn delta(at: &str, quantity: &str, amount: &str) -> HourDelta<'static> {
        HourDelta {
            organization: "org",
            project: None,
            meter: "tokens",
            unit: "token",
            at: Instant::parse(at).unwrap(),
            quantity: Quantity::parse(quantity).unwrap(),
            amount: Amount::parse(amount).unwrap(),
            currency: "USD",
        }
    }

    #[tokio::test]
    async fn the_read_model_shows_the_hours_of_its_scope_and_range() {
        on_both_engines(&["platform-catalog"], |db| async move {
            let mut tx = db.begin().await.unwrap();
            let other = HourDelta { organization: "other", ..delta("2026-10-05T11:10:00Z", "7", "0.7") };
            let ours = HourDelta { project: Some("p"), ..delta("2026-10-05T12:10:00Z", "3", "0.3") };
            let deltas = [delta("2026-10-05T10:10:00Z", "1", "0.1"), delta("2026-10-05T11:10:00Z", "2", "0.2"), ours, other];
            fold_hours(&mut tx, BatchNo(0), BatchNo(1), &deltas).await.unwrap();
            tx.commit().await.unwrap();
            let model = read_model(db).unwrap();
            let organization = Scope::Organization(OrganizationId::parse("org").unwrap());
            let at = |comparison, text: &str| Filter {
                column: "hour".to_owned(),
                comparison,
                value: FilterValue::At(Instant::parse(text).unwrap()),
            };
            let eleven = "2026-10-05T11:00:00Z";
            for (scope, filters, rows) in [
                (&Scope::Operator, vec![], 4),
                (&organization, vec![], 3),
                (&organization, vec![at(Comparison::Ge, eleven)], 2),
                (&organization, vec![at(Comparison::Gt, eleven)], 1),
                (&organization, vec![at(Comparison::Eq, eleven)], 1),
                (&Scope::Operator, vec![at(Comparison::Lt, eleven)], 1),
                (&Scope::Operator, vec![at(Comparison::Le, eleven), at(Comparison::Ge, eleven)], 2),
            ] {
                let batches = model.scan(scope, None, &filters, AsOf::default()).await.unwrap();
                let batch = collect(&model.schema(), batches).await.unwrap();
                assert_eq!(batch.num_rows(), rows, "{scope:?} {filters:?}");
            }
            let past = model.scan(&organization, None, &[], AsOf(Some(BatchNo(1)))).await;
            assert!(matches!(past, Err(CatalogError::NoHistory { .. })));
        })
        .await;
    }

    #[tokio::test]
    async fn hours_add_up_exactly_over_cuts_and_a_cut_is_folded_once() {
        on_both_engines(&["platform-catalog"], |db| async move {
            let mut tx = db.begin().await.unwrap();
            for statement in crate::store::ALL {
                tx.prepare(&statement).await.unwrap();
            }
            let first = [delta("2026-10-05T10:00:00Z", "0.000000001", "0.1"), delta("2026-10-05T10:59:59.999999Z", "2", "0.2")];
            fold_hours(&mut tx, BatchNo(0), BatchNo(3), &first).await.unwrap();
            tx.commit().await.unwrap();
            let mut tx = db.begin().await.unwrap();
            let huge = "99999999999999999999999999999";
            fold_hours(&mut tx, BatchNo(3), BatchNo(4), &[delta("2026-10-05T10:30:00Z", huge, "-0.3")]).await.unwrap();
            tx.commit().await.unwrap();
            let mut tx = db.begin().await.unwrap();
            assert!(fold_hours(&mut tx, BatchNo(3), BatchNo(4), &first).await.is_err(), "the same cut again");
            tx.rollback().await.unwrap();
            let mut tx = db.read().await.unwrap();
            let found = buckets(&mut tx).await.unwrap();
            let units = Quantity::parse(huge).unwrap().units() + 2_000_000_001;
            let hour = Instant::parse("2026-10-05T10:00:00Z").unwrap().micros();
            let sums: Vec<_> =
                found.iter().map(|found| (&*found.organization, found.hour, found.quantity, found.amount, found.readings)).collect();
            assert_eq!(sums, [("org", hour, units, 0, 3)]);
        })
        .await;
    }
}
