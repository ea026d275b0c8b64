//! Who has used something before the months that a forecast reads: found in the rows of the batches, for keys do not say whether usage or a
//! recurring fee made them.

use std::collections::{BTreeSet, HashSet};

use anyhow::Context as _;
use arrow::array::{AsArray as _, StringArray};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use arrow::record_batch::RecordBatch;
use platform_usage::OWN_SOURCE;
use shared_types::{BatchNo, Month, OrganizationId};

use crate::lake::{CHARGES, TOTALS};
use crate::read_models::Readers;
use crate::roles::folds::page;

/// Headers read at once.
const PAGE: u32 = 500;

/// Those of the organizations that have used something in a month before this one. Recurring fees are no usage.
pub async fn used_before(
    readers: &Readers,
    through: BatchNo,
    mut asked: BTreeSet<OrganizationId>,
    month: Month,
) -> anyhow::Result<BTreeSet<OrganizationId>> {
    let mut found = BTreeSet::new();
    let mut after = BatchNo(0);
    while after < through && !asked.is_empty() {
        let headers = page(&readers.log, after, through, PAGE).await?;
        after = headers.last().map(|(header, _)| header.batch_no).context("the batch log ends before its head")?;
        for (header, _) in headers {
            let users = tokio::task::block_in_place(|| {
                // Totals are few, and name every organization and month with a row that counts.
                let totals = readers.lake.read(&header, TOTALS, Some(&["organization", "service_period"]))?;
                let mut users = BTreeSet::new();
                if any(&totals, |rows| touches(rows, &asked, month))? {
                    for rows in readers.lake.read(&header, CHARGES, Some(&["organization", "source", "start_at", "fate"]))? {
                        users.extend(users_of(&rows, &asked, month)?);
                    }
                }
                anyhow::Ok(users)
            })?;
            asked.retain(|organization| !users.contains(organization));
            found.extend(users);
            if asked.is_empty() {
                break;
            }
            // Whoever waits no more is not read for any longer.
            tokio::task::yield_now().await;
        }
    }
    readers.lake.forget();
    Ok(found)
}

fn any(batches: &[RecordBatch], holds: impl Fn(&RecordBatch) -> anyhow::Result<bool>) -> anyhow::Result<bool> {
    for rows in batches {
        if holds(rows)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether rows of `totals` name one of the organizations in a month before this one.
fn touches(rows: &RecordBatch, asked: &BTreeSet<OrganizationId>, month: Month) -> anyhow::Result<bool> {
    let (names, asked) = (text(rows, "organization")?, asked.iter().map(OrganizationId::as_str).collect::<HashSet<_>>());
    let periods = rows.column_by_name("service_period").context("there is no service_period")?.as_primitive::<Int32Type>();
    Ok((0..rows.num_rows()).any(|row| periods.value(row) < month.number() && asked.contains(names.value(row))))
}

/// Those of the organizations of which rows of `charges` are charged or free usage of a month before this one.
fn users_of(rows: &RecordBatch, asked: &BTreeSet<OrganizationId>, month: Month) -> anyhow::Result<BTreeSet<OrganizationId>> {
    let (names, sources, fates) = (text(rows, "organization")?, text(rows, "source")?, text(rows, "fate")?);
    let starts = rows.column_by_name("start_at").context("there is no start_at")?.as_primitive::<TimestampMicrosecondType>();
    let begins = month.start().micros();
    let counts = |row: &usize| starts.value(*row) < begins && sources.value(*row) != OWN_SOURCE && fates.value(*row) != "quarantined";
    let users: HashSet<&str> = (0..rows.num_rows()).filter(counts).map(|row| names.value(row)).collect();
    Ok(asked.iter().filter(|organization| users.contains(organization.as_str())).cloned().collect())
}

fn text<'a>(rows: &'a RecordBatch, name: &str) -> anyhow::Result<&'a StringArray> {
    Ok(rows.column_by_name(name).with_context(|| format!("there is no {name}"))?.as_string::<i32>())
}
