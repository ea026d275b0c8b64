//! Changes of levels and what was stated of them, in the books' database. It does not decide what has to be stated.

use std::collections::BTreeSet;

use platform_usage::Dimensions;
use serde_json::{Value as Json, json};
use shared_db::{DbError, Row, Statement, Transaction, Value, statement};
use shared_types::{BatchNo, ControlNo, MeterId, Month, OrganizationId};

use crate::levels::{Carried, LevelId, Sums, add};
use crate::{StoreError, Version};

const LEVELS_MEASURED: Statement = statement!("levels_measured");
const LEVEL_SUMS: Statement = statement!("level_sums");
const LEVEL_SUMS_FIND: Statement = statement!("level_sums_find");
const LEVEL_SUMS_PUT: Statement = statement!("level_sums_put");
const LEVELS_STATED: Statement = statement!("levels_stated");
const LEVELS_LAST: Statement = statement!("levels_last");
const LEVEL_METERS: Statement = statement!("level_meters");
const LEVELS_OF: Statement = statement!("levels_of");
const LEVELS_INSERT: Statement = statement!("levels_insert");
const LEVEL_TICK_INSERT: Statement = statement!("level_tick_insert");
const LEVEL_TICK_LAST: Statement = statement!("level_tick_last");

/// The fold's name in cursors and cuts.
pub const FOLD: &str = "levels";

/// An event that states a level.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stated {
    /// Whose level.
    pub organization: OrganizationId,
    /// The event's id.
    pub event_id: String,
    /// Its canonical JSON.
    pub event: String,
}

/// Whether any recorded meter may measure a level.
pub async fn measured(tx: &mut Transaction) -> Result<bool, StoreError> {
    Ok(tx.query_optional(&LEVELS_MEASURED, &[]).await?.is_some())
}

/// Adds the changes of the batches after `from` up to `to` and moves the cursor, all in the caller's transaction.
///
/// - Errors: a cursor elsewhere, a damaged row.
pub async fn fold_changes(tx: &mut Transaction, from: BatchNo, to: BatchNo, changed: &Sums) -> Result<(), StoreError> {
    shared_db::advance(tx, FOLD, from, to).await?;
    let named = |(level, month): (&LevelId, Month)| {
        json!({
            "organization": level.organization.as_str(), "project": project(level), "meter": level.meter.as_str(),
            "dimensions": level.dimensions.canonical(), "month": month.number(),
        })
    };
    let wanted: Vec<Json> = changed.iter().flat_map(|(level, months)| months.keys().map(move |month| named((level, *month)))).collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let found = tx.query(&LEVEL_SUMS_FIND, &[Json::Array(wanted).to_string().into()]).await?;
    let mut sums = sums_of(&found)?;
    for (level, months) in changed {
        for (month, units) in months {
            add(&mut sums, level.clone(), *month, *units);
        }
    }
    let rows: Vec<Json> = sums
        .iter()
        .flat_map(|(level, months)| {
            months.iter().map(move |(month, units)| {
                let mut row = named((level, *month));
                if let Some(members) = row.as_object_mut() {
                    members.insert("quantity".to_owned(), units.map_or(Json::Null, |units| units.to_string().into()));
                }
                row
            })
        })
        .collect();
    tx.execute(&LEVEL_SUMS_PUT, &[Json::Array(rows).to_string().into()]).await?;
    Ok(())
}

fn project(level: &LevelId) -> &str {
    level.project.as_ref().map_or("", |project| project.as_str())
}

/// The changes of every level by month, up to the fold's cursor.
pub async fn changed(tx: &mut Transaction) -> Result<Sums, StoreError> {
    sums_of(&tx.query(&LEVEL_SUMS, &[]).await?)
}

/// What was stated of every level by service period.
pub async fn stated(tx: &mut Transaction) -> Result<Sums, StoreError> {
    sums_of(&tx.query(&LEVELS_STATED, &[]).await?)
}

/// Rows of organization, project, meter, dimensions, month and quantity, summed.
fn sums_of(rows: &[Row]) -> Result<Sums, StoreError> {
    let mut sums = Sums::new();
    for row in rows {
        let damaged = |what| StoreError::Level { organization: row.text(0).unwrap_or_default().to_owned(), what };
        let project = match row.text(1)? {
            "" => None,
            project => Some(project.parse().map_err(|_| damaged("project"))?),
        };
        let level = LevelId {
            organization: row.text(0)?.parse().map_err(|_| damaged("organization"))?,
            project,
            meter: row.text(2)?.parse().map_err(|_| damaged("meter"))?,
            dimensions: Dimensions::parse(row.text(3)?).ok_or_else(|| damaged("dimensions"))?,
        };
        let units = row.optional_text(5)?.map(str::parse).transpose().map_err(|_| damaged("quantity"))?;
        add(&mut sums, level, row.month(4)?, units);
    }
    Ok(sums)
}

/// The meters of which a level was stated.
pub async fn meters(tx: &mut Transaction) -> Result<BTreeSet<MeterId>, StoreError> {
    let rows = tx.query(&LEVEL_METERS, &[]).await?;
    let damaged = |meter: &str| StoreError::Level { organization: meter.to_owned(), what: "meter" };
    rows.iter().map(|row| row.text(0)?.parse().map_err(|_| damaged(row.text(0).unwrap_or_default()))).collect()
}

/// Records what a tick states, with the batch up to which the changes were summed. The tick's control record was appended in this transaction.
pub async fn state(
    tx: &mut Transaction,
    control_no: ControlNo,
    through: BatchNo,
    version: &Version,
    carried: &[Carried],
) -> Result<(), StoreError> {
    let last = tx.query_one(&LEVELS_LAST, &[]).await?.unsigned(0)?;
    let control = Value::try_from(control_no.0)?;
    let mut rows = Vec::with_capacity(carried.len());
    for (level_no, carried) in (last.saturating_add(1)..).zip(carried) {
        let Some(meter) = version.meters().find(|meter| meter.id == carried.level.meter) else { continue };
        rows.push(json!({
            "level_no": level_no, "organization": carried.level.organization.as_str(), "project": project(&carried.level),
            "meter": meter.id.as_str(), "dimensions": carried.level.dimensions.canonical(), "period": carried.period.number(),
            "quantity": carried.quantity.units().to_string(), "event": carried.event(meter, level_no),
        }));
    }
    tx.execute(&LEVELS_INSERT, &[control.clone(), Json::Array(rows).to_string().into()]).await?;
    tx.execute(&LEVEL_TICK_INSERT, &[control, Value::try_from(through)?]).await?;
    Ok(())
}

/// The events by which a tick states levels, in order of their numbers.
pub async fn stated_by(tx: &mut Transaction, control_no: ControlNo) -> Result<Vec<Stated>, StoreError> {
    let rows = tx.query(&LEVELS_OF, &[Value::try_from(control_no.0)?]).await?;
    rows.iter()
        .map(|row| {
            let damaged = |_| StoreError::Level { organization: row.text(0).unwrap_or_default().to_owned(), what: "organization" };
            Ok(Stated {
                organization: row.text(0)?.parse().map_err(damaged)?,
                event_id: format!("{}/{}/level-{}", row.text(1)?, row.month(2)?, row.unsigned(3)?),
                event: row.text(4)?.to_owned(),
            })
        })
        .collect()
}

/// The last tick that looked at levels, and the batch up to which it summed; none before the first.
pub async fn last_tick(tx: &mut Transaction) -> Result<Option<(ControlNo, BatchNo)>, StoreError> {
    let row = tx.query_optional(&LEVEL_TICK_LAST, &[]).await?;
    Ok(row.map(|row| Ok::<_, DbError>((ControlNo(row.unsigned(0)?), row.batch_no(1)?))).transpose()?)
}
