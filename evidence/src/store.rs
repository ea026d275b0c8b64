//! Statements over `platform_evidence_*`, and the rows they read. Rows never leave the crate.

use std::collections::BTreeSet;

use shared_db::{DbError, Row, Statement, Transaction, Value, statement};
use shared_types::{AssetId, BatchNo, Digest, Instant, OrganizationId, Sum};

use crate::checkpoint::{Checkpoint, Entry};
use crate::salt::SaltKey;
use crate::state::State;
use crate::tree::{Frontier, Head};

pub(crate) const LOGS_OF: Statement = statement!("logs_of");
pub(crate) const LOGS_ALL: Statement = statement!("logs_all");
pub(crate) const LOG_PUT: Statement = statement!("log_put");
pub(crate) const SUMS_OF: Statement = statement!("sums_of");
pub(crate) const SUMS_ALL: Statement = statement!("sums_all");
pub(crate) const SUM_PUT: Statement = statement!("sum_put");
pub(crate) const ORGANIZATIONS_ALL: Statement = statement!("organizations_all");
pub(crate) const ORGANIZATION_PUT: Statement = statement!("organization_put");
pub(crate) const LEAF_HASHES: Statement = statement!("leaf_hashes");
pub(crate) const CHECKPOINT_LAST: Statement = statement!("checkpoint_last");
pub(crate) const CHECKPOINT_INSERT: Statement = statement!("checkpoint_insert");
pub(crate) const CHECKPOINTS_AFTER: Statement = statement!("checkpoints_after");
pub(crate) const NODE_INSERT: Statement = statement!("node_insert");
pub(crate) const NODES: Statement = statement!("nodes");
pub(crate) const NODE_FROM: Statement = statement!("node_from");

/// Every statement of the crate.
#[cfg(test)]
pub(crate) const ALL: [Statement; 15] = [
    LOGS_OF,
    LOGS_ALL,
    LOG_PUT,
    SUMS_OF,
    SUMS_ALL,
    SUM_PUT,
    ORGANIZATIONS_ALL,
    ORGANIZATION_PUT,
    LEAF_HASHES,
    CHECKPOINT_LAST,
    CHECKPOINT_INSERT,
    CHECKPOINTS_AFTER,
    NODE_INSERT,
    NODES,
    NODE_FROM,
];

/// Why the tables cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database refused or failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A column holds what this crate never writes.
    #[error("{table} holds an unreadable {what}: {value}")]
    Unreadable {
        /// The table.
        table: &'static str,
        /// What was expected there.
        what: &'static str,
        /// What is there, or which row it is.
        value: String,
    },
    /// A node of the tiled log is missing.
    #[error("the tiled log misses node {number} of level {level}")]
    NodeMissing {
        /// Level, 0 for entries.
        level: u32,
        /// Index in its level.
        number: u64,
    },
}

/// The state of some organizations, or of all.
pub(crate) async fn load_state(tx: &mut Transaction, only: Option<&BTreeSet<&OrganizationId>>) -> Result<State, StoreError> {
    let mut state = State::default();
    let (logs, sums) = match only {
        Some(only) => {
            let names: Vec<&str> = only.iter().map(|organization| organization.as_str()).collect();
            let names = Value::from(serde_json::Value::from(names).to_string());
            state.organizations.extend(only.iter().copied().cloned());
            (tx.query(&LOGS_OF, std::slice::from_ref(&names)).await?, tx.query(&SUMS_OF, &[names]).await?)
        }
        None => {
            for row in organizations(tx).await? {
                state.organizations.insert(row.organization);
            }
            (tx.query(&LOGS_ALL, &[]).await?, tx.query(&SUMS_ALL, &[]).await?)
        }
    };
    for row in logs {
        let organization = organization(&row, "platform_evidence_logs")?;
        let (month, size) = (row.month(1)?, row.unsigned(2)?);
        let frontier = Frontier::decode(row.bytes(3)?).ok().filter(|frontier| frontier.size() == size && size > 0).ok_or_else(|| {
            let value = format!("{organization} {month} of size {size}");
            StoreError::Unreadable { table: "platform_evidence_logs", what: "frontier", value }
        })?;
        state.logs.put(&organization, month, frontier);
    }
    for row in sums {
        let organization = organization(&row, "platform_evidence_sums")?;
        let unreadable = |what| StoreError::Unreadable { table: "platform_evidence_sums", what, value: organization.to_string() };
        let currency = AssetId::parse(row.text(1)?).map_err(|_| unreadable("currency"))?;
        let units = row.text(2)?.parse().map_err(|_| unreadable("amount"))?;
        let amount = Sum::from_units(units).map_err(|_| unreadable("amount"))?;
        state.sums.entry(organization).or_default().insert(currency, amount);
    }
    Ok(state)
}

fn organization(row: &Row, table: &'static str) -> Result<OrganizationId, StoreError> {
    let text = row.text(0)?;
    OrganizationId::parse(text).map_err(|_| StoreError::Unreadable { table, what: "organization", value: text.to_owned() })
}

/// Writes what a cut changed: the logs and sums it touched, and the leaf of each of its organizations.
pub(crate) async fn save_state(
    tx: &mut Transaction,
    state: &State,
    logs: &BTreeSet<(&OrganizationId, shared_types::Month)>,
    sums: &BTreeSet<(&OrganizationId, &AssetId)>,
    salts: &SaltKey,
) -> Result<(), StoreError> {
    for organization in &state.organizations {
        let leaf = state.leaf(organization, salts);
        let values = [organization.as_str().into(), leaf.organization.into(), leaf.hash().into()];
        tx.execute(&ORGANIZATION_PUT, &values).await?;
    }
    for (organization, month) in logs {
        if let Some(log) = state.logs.get(organization, *month) {
            let values = [organization.as_str().into(), (*month).into(), log.size().try_into()?, log.encode().into()];
            tx.execute(&LOG_PUT, &values).await?;
        }
    }
    for (organization, currency) in sums {
        if let Some(sum) = state.sums.get(organization).and_then(|sums| sums.get(currency)) {
            tx.execute(&SUM_PUT, &[organization.as_str().into(), currency.as_str().into(), sum.units().to_string().into()]).await?;
        }
    }
    Ok(())
}

/// One row of `platform_evidence_organizations`.
pub(crate) struct OrganizationRow {
    pub(crate) organization: OrganizationId,
    pub(crate) salted: Digest,
    pub(crate) leaf_hash: Digest,
}

/// All organizations, by salted organization.
pub(crate) async fn organizations(tx: &mut Transaction) -> Result<Vec<OrganizationRow>, StoreError> {
    let rows = tx.query(&ORGANIZATIONS_ALL, &[]).await?;
    rows.iter()
        .map(|row| {
            Ok(OrganizationRow {
                organization: organization(row, "platform_evidence_organizations")?,
                salted: row.digest(1)?,
                leaf_hash: row.digest(2)?,
            })
        })
        .collect()
}

/// Hashes of all organizations' leaves in the order of the tree.
pub(crate) async fn leaf_hashes(tx: &mut Transaction) -> Result<Vec<Digest>, StoreError> {
    let rows = tx.query(&LEAF_HASHES, &[]).await?;
    Ok(rows.iter().map(|row| row.digest(0)).collect::<Result<_, _>>()?)
}

/// One row of `platform_evidence_checkpoints`, as it is stored.
pub(crate) struct CheckpointRow {
    pub(crate) tree_size: u64,
    pub(crate) batch_no: BatchNo,
    pub(crate) entry: String,
    pub(crate) root: Digest,
    pub(crate) note: String,
    pub(crate) recorded_at: Instant,
}

impl CheckpointRow {
    pub(crate) fn read(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            tree_size: row.unsigned(0)?,
            batch_no: row.batch_no(1)?,
            entry: row.text(2)?.to_owned(),
            root: row.digest(3)?,
            note: row.text(4)?.to_owned(),
            recorded_at: row.instant(5)?,
        })
    }

    pub(crate) fn head(&self) -> Head {
        Head { size: self.tree_size, root: self.root }
    }

    pub(crate) fn checkpoint(self) -> Result<Checkpoint, StoreError> {
        let entry = Entry::parse(&self.entry).map_err(|error| StoreError::Unreadable {
            table: "platform_evidence_checkpoints",
            what: "entry",
            value: format!("{}: {error}", self.tree_size),
        })?;
        Ok(Checkpoint { entry, head: self.head(), note: self.note })
    }
}

/// The latest checkpoint.
pub(crate) async fn last_checkpoint(tx: &mut Transaction) -> Result<Option<CheckpointRow>, StoreError> {
    tx.query_optional(&CHECKPOINT_LAST, &[]).await?.as_ref().map(CheckpointRow::read).transpose()
}

/// At most `limit` checkpoints after a tree size, in order.
pub(crate) async fn checkpoints_after(tx: &mut Transaction, size: u64, limit: u32) -> Result<Vec<CheckpointRow>, StoreError> {
    let rows = tx.query(&CHECKPOINTS_AFTER, &[size.try_into()?, limit.into()]).await?;
    rows.iter().map(CheckpointRow::read).collect()
}

/// Stores a checkpoint and the nodes that its entry completed.
pub(crate) async fn insert_checkpoint(
    tx: &mut Transaction,
    checkpoint: &Checkpoint,
    nodes: &[(u32, u64, Digest)],
) -> Result<(), StoreError> {
    let values = [
        checkpoint.head.size.try_into()?,
        checkpoint.entry.batch_no.try_into()?,
        checkpoint.entry.canonical().into(),
        checkpoint.head.root.into(),
        checkpoint.note.as_str().into(),
        checkpoint.entry.recorded_at.into(),
    ];
    tx.execute(&CHECKPOINT_INSERT, &values).await?;
    for (level, number, hash) in nodes {
        tx.execute(&NODE_INSERT, &[(*level).into(), (*number).try_into()?, (*hash).into()]).await?;
    }
    Ok(())
}

/// `count` hashes of a level of the tiled log, from `first` on.
pub(crate) async fn nodes(tx: &mut Transaction, level: u32, first: u64, count: u64) -> Result<Vec<Digest>, StoreError> {
    let end = first.saturating_add(count);
    let rows = tx.query(&NODES, &[level.into(), first.try_into()?, end.try_into()?]).await?;
    let mut hashes = Vec::with_capacity(rows.len());
    for (number, row) in (first..).zip(&rows) {
        if row.unsigned(0)? != number {
            return Err(StoreError::NodeMissing { level, number });
        }
        hashes.push(row.digest(1)?);
    }
    match u64::try_from(hashes.len()) {
        Ok(found) if found == count => Ok(hashes),
        found => Err(StoreError::NodeMissing { level, number: first.saturating_add(found.unwrap_or(0)) }),
    }
}

/// Whether a level of the tiled log has a node at `first` or behind it.
pub(crate) async fn has_node(tx: &mut Transaction, level: u32, first: u64) -> Result<bool, StoreError> {
    Ok(tx.query_optional(&NODE_FROM, &[level.into(), first.try_into()?]).await?.is_some())
}

/// The frontier of the tiled log at a size.
pub(crate) async fn tiled_frontier(tx: &mut Transaction, size: u64) -> Result<Frontier, StoreError> {
    let mut hashes = Vec::new();
    for level in (0..u64::BITS).rev().filter(|level| size >> level & 1 == 1) {
        hashes.extend(nodes(tx, level, (size >> level) - 1, 1).await?);
    }
    Frontier::from_parts(size, hashes).ok_or(StoreError::NodeMissing { level: 0, number: size })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn every_statement_fits_the_schema_of_both_engines() {
        shared_testkit::on_both_engines(&["platform-evidence"], async |db| {
            let mut tx = db.begin().await.unwrap();
            for statement in &ALL {
                tx.prepare(statement).await.unwrap();
            }
        })
        .await;
    }
}
