//! What rating again moved, by key and batch: why an invoice has an adjustment. It knows no price; the version that moved it is named.

use serde_json::json;
use shared_db::{DbError, Row, Transaction};
use shared_types::{Amount, AssetId, BatchNo, ContractId, Digest, Month, OrganizationId, SkuId};

use crate::close::CloseError;
use crate::store::{RERATINGS_ALL, RERATINGS_INSERT, RERATINGS_OF};
use crate::usage::KeyDelta;

/// Which re-rating a row of totals comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rerated {
    /// The batch.
    pub batch_no: BatchNo,
    /// The version under which it was rated again.
    pub registry_version: Digest,
}

/// What a re-rating added to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerating {
    /// Who owes.
    pub organization: OrganizationId,
    /// Under which agreement.
    pub contract: ContractId,
    /// For what.
    pub sku: SkuId,
    /// When the usage happened.
    pub service_period: Month,
    /// In which currency.
    pub currency: AssetId,
    /// In whose books it is posted.
    pub accounting_period: Month,
    /// Which re-rating.
    pub by: Rerated,
    /// What T moved by; zero where readings only changed places.
    pub amount: Amount,
}

/// Takes the deltas of a cut that come from re-ratings, in the transaction of the ledger's fold.
pub(crate) async fn fold_reratings(tx: &mut Transaction, deltas: &[KeyDelta]) -> Result<(), CloseError> {
    let rows: Vec<_> = deltas
        .iter()
        .filter_map(|delta| {
            let by = delta.rerated?;
            Some(json!([
                delta.organization,
                delta.contract,
                delta.sku,
                delta.service_period.number(),
                delta.currency,
                by.batch_no.0,
                delta.accounting_period.number(),
                by.registry_version.to_string(),
                i64::try_from(delta.amount).ok(),
            ]))
        })
        .collect();
    if !rows.is_empty() {
        tx.execute(&RERATINGS_INSERT, &[json!(rows).to_string().into()]).await?;
    }
    Ok(())
}

/// What was rated again for an organization in the books of the months behind `after`, up to `through`, in the order of batches.
pub async fn reratings_of(
    tx: &mut Transaction,
    organization: &OrganizationId,
    after: Option<Month>,
    through: Month,
) -> Result<Vec<Rerating>, CloseError> {
    let after = after.map_or(0, Month::number);
    let rows = tx.query(&RERATINGS_OF, &[organization.as_str().into(), after.into(), through.into()]).await?;
    rows.iter().map(read).collect()
}

/// Everything that was rated again, in the order of batches.
pub async fn reratings(tx: &mut Transaction) -> Result<Vec<Rerating>, CloseError> {
    let rows = tx.query(&RERATINGS_ALL, &[]).await?;
    rows.iter().map(read).collect()
}

fn read(row: &Row) -> Result<Rerating, CloseError> {
    let damaged = |what: &str| CloseError::Totals { problem: format!("a re-rating has no {what}") };
    let text = |column| -> Result<&str, DbError> { row.text(column) };
    Ok(Rerating {
        organization: OrganizationId::parse(text(0)?).map_err(|_| damaged("organization"))?,
        contract: ContractId::parse(text(1)?).map_err(|_| damaged("contract"))?,
        sku: SkuId::parse(text(2)?).map_err(|_| damaged("SKU"))?,
        service_period: row.month(3)?,
        currency: AssetId::parse(text(4)?).map_err(|_| damaged("currency"))?,
        by: Rerated { batch_no: row.batch_no(5)?, registry_version: row.digest(7)? },
        accounting_period: row.month(6)?,
        amount: Amount::from_units(row.integer(8)?.into()).map_err(|_| damaged("amount"))?,
    })
}
