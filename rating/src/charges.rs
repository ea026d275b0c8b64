//! The `charges` table of a batch: one row for each reading of an accepted event, charged, free or quarantined.
//! It knows the table's shape, not how fates are decided ([`mod@crate::rate`]).

use std::collections::HashMap;
use std::sync::Arc;

use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::record_batch::RecordBatch;
use platform_usage::{Dimensions, Reason};
use shared_types::{
    Amount, AssetId, ContractId, Digest, IdentityHash, Incarnation, Instant, MeterId, Month, OrganizationId, Position, PriceId, ProjectId,
    Quantity, Sequence, ShardId, SkuId, SourceId, UnitId,
};

use crate::columns::{
    AMOUNTS, Known, QUANTITIES, RowError, amount_column, amounts, as_amount, as_count, as_instant, as_month, as_quantity, bytes,
    bytes_column, digest_column, fixed, hash_column, instant_column, instants, int32, int32_column, int64, int64_column, quantities,
    quantity_column, schema_of, text, text_column, timestamps,
};
use crate::evaluate::Rule;
use crate::state::Key;

/// The columns of a key's states.
pub const STATES: [&str; 2] = ["state_before", "state_after"];

/// Where a priced reading belongs and by what it was priced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Priced {
    /// UTC month of the reading's start: which of the organization's logs holds it.
    pub log_month: Month,
    /// Its place there, dense from 0.
    pub log_seq: u64,
    /// The agreement.
    pub contract: ContractId,
    /// `<contract>/<sku>`.
    pub contract_line: Arc<str>,
    /// When the usage happened: keys the total.
    pub service_period: Month,
    /// What is sold.
    pub sku: SkuId,
    /// The price row in force at its start.
    pub price: PriceId,
    /// How the row's model makes money of quantities.
    pub rule: Rule,
    /// Of the amount.
    pub currency: AssetId,
}

/// What became of a reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It moved its key's total, by zero perhaps.
    Charged {
        /// Key and price.
        priced: Priced,
        /// The key's state around it; none where the row takes another one back.
        states: Option<States>,
        /// T after minus T before.
        amount: Amount,
    },
    /// Nothing is owed by a named rule; it does not enter the key's state.
    Free {
        /// Key and price.
        priced: Priced,
        /// Name of the rule, for example `launch-promotion`.
        named: Arc<str>,
    },
    /// It could not be rated: visible, never counted.
    Quarantined {
        /// Why.
        reason: Reason,
    },
}

/// A key's state before and after a reading: [`crate::encode_segments`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct States {
    /// Before it.
    pub before: Arc<[u8]>,
    /// After it.
    pub after: Arc<[u8]>,
}

impl Fate {
    /// Stable code.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Charged { .. } => "charged",
            Self::Free { .. } => "free",
            Self::Quarantined { .. } => "quarantined",
        }
    }

    /// The named rule of a free reading, the reason of a quarantined one.
    pub fn reason(&self) -> Option<&str> {
        match self {
            Self::Charged { .. } => None,
            Self::Free { named, .. } => Some(named),
            Self::Quarantined { reason } => Some(reason.code()),
        }
    }

    /// Key and price, unless quarantined.
    pub fn priced(&self) -> Option<&Priced> {
        match self {
            Self::Charged { priced, .. } | Self::Free { priced, .. } => Some(priced),
            Self::Quarantined { .. } => None,
        }
    }

    /// Zero when free, none when quarantined.
    pub fn amount(&self) -> Option<Amount> {
        match self {
            Self::Charged { amount, .. } => Some(*amount),
            Self::Free { .. } => Some(Amount::ZERO),
            Self::Quarantined { .. } => None,
        }
    }

    /// The key's state before and after; charged readings only.
    pub fn states(&self) -> Option<&States> {
        match self {
            Self::Charged { states, .. } => states.as_ref(),
            Self::Free { .. } | Self::Quarantined { .. } => None,
        }
    }
}

/// One row of `charges`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The event's identity.
    pub identity: IdentityHash,
    /// Number of the reading within its event, from 0.
    pub ordinal: u16,
    /// Where the event stands in the stream.
    pub position: Position,
    /// Who owes.
    pub organization: OrganizationId,
    /// Sub-account, if the source named one.
    pub project: Option<ProjectId>,
    /// Who sent the event.
    pub source: SourceId,
    /// The meter that read it.
    pub meter: MeterId,
    /// What the quantity counts.
    pub unit: UnitId,
    /// What tells prices apart.
    pub dimensions: Dimensions,
    /// How much, in `unit`.
    pub quantity: Quantity,
    /// When the usage began.
    pub start_at: Instant,
    /// When it ended, for intervals.
    pub end_at: Option<Instant>,
    /// When the event entered the stream.
    pub accepted_at: Instant,
    /// In whose books it is posted.
    pub accounting_period: Month,
    /// The registry version it was rated under.
    pub registry_version: Digest,
    /// The event of the reading that a re-rating took back or rated again with this row; none for the reading's first row.
    pub supersedes: Option<IdentityHash>,
    /// H(salt ‖ every string that the source supplied).
    pub commitment: Digest,
    /// What became of it.
    pub fate: Fate,
}

impl Charge {
    /// The key that it moves; none when quarantined.
    pub fn key(&self) -> Option<Key> {
        let priced = self.fate.priced()?;
        Some(Key {
            organization: self.organization.clone(),
            contract: priced.contract.clone(),
            sku: priced.sku.clone(),
            service_period: priced.service_period,
            currency: priced.currency.clone(),
        })
    }

    /// Its place in sealed order. Rows of a re-rating stand at one position: identity and place in the log tell them apart.
    pub fn place(&self) -> (Position, u16, IdentityHash, u64) {
        (self.position, self.ordinal, self.identity, self.fate.priced().map_or(u64::MAX, |priced| priced.log_seq))
    }
}

/// Columns by which the rows of a batch are digested. The first four tell the readings of events apart, the others the rows of a re-rating.
pub const CHARGES_ORDER: &[&str] = &["shard", "incarnation", "sequence", "ordinal", "identity", "log_seq"];
/// Columns by which the file is sorted.
pub const CHARGES_SORT: &[&str] = &["organization", "shard", "incarnation", "sequence", "ordinal"];

/// The frozen shape of `charges`; field ids are dense from 1.
pub fn charges_schema() -> SchemaRef {
    schema_of(&[
        ("identity", DataType::FixedSizeBinary(16), false),
        ("ordinal", DataType::Int32, false),
        ("shard", DataType::Int32, false),
        ("incarnation", DataType::Int64, false),
        ("sequence", DataType::Int64, false),
        ("log_month", DataType::Int32, true),
        ("log_seq", DataType::Int64, true),
        ("organization", DataType::Utf8, false),
        ("project", DataType::Utf8, true),
        ("source", DataType::Utf8, false),
        ("meter", DataType::Utf8, false),
        ("unit", DataType::Utf8, false),
        ("dimensions", DataType::Utf8, false),
        ("quantity", QUANTITIES, false),
        ("start_at", instants(), false),
        ("end_at", instants(), true),
        ("accepted_at", instants(), false),
        ("fate", DataType::Utf8, false),
        ("reason", DataType::Utf8, true),
        ("contract", DataType::Utf8, true),
        ("contract_line", DataType::Utf8, true),
        ("service_period", DataType::Int32, true),
        ("accounting_period", DataType::Int32, false),
        ("sku_id", DataType::Utf8, true),
        ("price_id", DataType::Utf8, true),
        ("rule", DataType::Utf8, true),
        ("registry_version", DataType::FixedSizeBinary(32), false),
        ("state_before", DataType::Binary, true),
        ("state_after", DataType::Binary, true),
        ("amount", AMOUNTS, true),
        ("currency", DataType::Utf8, true),
        ("supersedes", DataType::FixedSizeBinary(16), true),
        ("commitment", DataType::FixedSizeBinary(32), false),
    ])
}

/// Rows as Arrow columns in the order given.
///
/// - Nulls: quarantined readings have no log place, key, price, states or amount; free ones, and rows that take another one back, have no states.
/// - Errors: only Arrow's own, when a column cannot be built.
pub fn charges_to_arrow(rows: &[Charge]) -> Result<RecordBatch, ArrowError> {
    let mut canonical: HashMap<&Dimensions, Arc<str>> = HashMap::new();
    let dimensions = rows.iter().map(|row| {
        let text = canonical.entry(&row.dimensions).or_insert_with(|| row.dimensions.canonical().into());
        Some(Arc::clone(text))
    });
    let dimensions = text(dimensions);
    let fates = || rows.iter().map(|row| &row.fate);
    let priced = || fates().map(Fate::priced);
    RecordBatch::try_new(
        charges_schema(),
        vec![
            fixed(16, rows.iter().map(|row| Some(row.identity.0)))?,
            int32(rows.iter().map(|row| Some(i32::from(row.ordinal)))),
            int32(rows.iter().map(|row| Some(i32::from(row.position.shard.number())))),
            int64(rows.iter().map(|row| Some(u64::from(row.position.incarnation.0)))),
            int64(rows.iter().map(|row| Some(row.position.sequence.0))),
            int32(priced().map(|priced| priced.map(|priced| priced.log_month.number()))),
            int64(priced().map(|priced| priced.map(|priced| priced.log_seq))),
            text(rows.iter().map(|row| Some(row.organization.as_str()))),
            text(rows.iter().map(|row| row.project.as_ref().map(ProjectId::as_str))),
            text(rows.iter().map(|row| Some(row.source.as_str()))),
            text(rows.iter().map(|row| Some(row.meter.as_str()))),
            text(rows.iter().map(|row| Some(row.unit.as_str()))),
            dimensions,
            quantities(rows.iter().map(|row| Some(row.quantity))),
            timestamps(rows.iter().map(|row| Some(row.start_at))),
            timestamps(rows.iter().map(|row| row.end_at)),
            timestamps(rows.iter().map(|row| Some(row.accepted_at))),
            text(fates().map(|fate| Some(fate.code()))),
            text(fates().map(Fate::reason)),
            text(priced().map(|priced| priced.map(|priced| priced.contract.as_str()))),
            text(priced().map(|priced| priced.map(|priced| &priced.contract_line))),
            int32(priced().map(|priced| priced.map(|priced| priced.service_period.number()))),
            int32(rows.iter().map(|row| Some(row.accounting_period.number()))),
            text(priced().map(|priced| priced.map(|priced| priced.sku.as_str()))),
            text(priced().map(|priced| priced.map(|priced| priced.price.as_str()))),
            text(priced().map(|priced| priced.map(|priced| priced.rule.code()))),
            fixed(32, rows.iter().map(|row| Some(row.registry_version.0)))?,
            bytes(fates().map(|fate| fate.states().map(|states| &*states.before))),
            bytes(fates().map(|fate| fate.states().map(|states| &*states.after))),
            amounts(fates().map(Fate::amount)),
            text(priced().map(|priced| priced.map(|priced| priced.currency.as_str()))),
            fixed(16, rows.iter().map(|row| row.supersedes.map(|identity| identity.0)))?,
            fixed(32, rows.iter().map(|row| Some(row.commitment.0)))?,
        ],
    )
}

/// Reads what [`charges_to_arrow`] wrote; columns are found by name. Without the columns [`STATES`], which are large, no row has states.
///
/// - Errors: a missing or mistyped column, or the first row with a value it cannot have.
pub fn charges_from_arrow(batch: &RecordBatch) -> Result<Vec<Charge>, RowError> {
    let shard = int32_column(batch, "shard")?;
    let incarnation = int64_column(batch, "incarnation")?;
    let sequence = int64_column(batch, "sequence")?;
    let commitment = digest_column(batch, "commitment")?;
    rated_from_arrow(batch)?
        .into_iter()
        .enumerate()
        .map(|(row, rated)| {
            let Rated {
                identity,
                ordinal,
                organization,
                project,
                source,
                meter,
                unit,
                dimensions,
                quantity,
                start_at,
                end_at,
                accepted_at,
                accounting_period,
                registry_version,
                supersedes,
                fate,
            } = rated;
            Ok(Charge {
                identity,
                ordinal,
                position: Position {
                    shard: shard.required(row, |number| u8::try_from(number).ok().and_then(ShardId::new))?,
                    incarnation: incarnation.required(row, |number| u32::try_from(number).ok().map(Incarnation))?,
                    sequence: sequence.required(row, |number| as_count(number).map(Sequence))?,
                },
                organization,
                project,
                source,
                meter,
                unit,
                dimensions,
                quantity,
                start_at,
                end_at,
                accepted_at,
                accounting_period,
                registry_version,
                supersedes,
                commitment: commitment.required(row, Digest::from_slice)?,
                fate,
            })
        })
        .collect()
}

/// A row of `charges` without its position and its commitment: what an organization sees of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rated {
    /// The event's identity.
    pub identity: IdentityHash,
    /// Number of the reading within its event, from 0.
    pub ordinal: u16,
    /// Who owes.
    pub organization: OrganizationId,
    /// Sub-account, if the source named one.
    pub project: Option<ProjectId>,
    /// Who sent the event.
    pub source: SourceId,
    /// The meter that read it.
    pub meter: MeterId,
    /// What the quantity counts.
    pub unit: UnitId,
    /// What tells prices apart.
    pub dimensions: Dimensions,
    /// How much, in `unit`.
    pub quantity: Quantity,
    /// When the usage began.
    pub start_at: Instant,
    /// When it ended, for intervals.
    pub end_at: Option<Instant>,
    /// When the event entered the stream.
    pub accepted_at: Instant,
    /// In whose books it is posted.
    pub accounting_period: Month,
    /// The registry version it was rated under.
    pub registry_version: Digest,
    /// The reading it replaces, after a re-rating.
    pub supersedes: Option<IdentityHash>,
    /// What became of it.
    pub fate: Fate,
}

/// The columns that [`rated_from_arrow`] reads.
pub const RATED: &[&str] = &[
    "identity",
    "ordinal",
    "log_month",
    "log_seq",
    "organization",
    "project",
    "source",
    "meter",
    "unit",
    "dimensions",
    "quantity",
    "start_at",
    "end_at",
    "accepted_at",
    "fate",
    "reason",
    "contract",
    "contract_line",
    "service_period",
    "accounting_period",
    "sku_id",
    "price_id",
    "rule",
    "registry_version",
    "state_before",
    "state_after",
    "amount",
    "currency",
    "supersedes",
];

/// What a charged or free row of `charges` counts: by whom, of what, how much, what it came to. As the row holds it: nothing is parsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted<'a> {
    /// Who owes.
    pub organization: &'a str,
    /// Sub-account, if the source named one.
    pub project: Option<&'a str>,
    /// The meter that read it.
    pub meter: &'a str,
    /// What the quantity counts.
    pub unit: &'a str,
    /// How much, in `unit`.
    pub quantity: Quantity,
    /// When the usage began.
    pub start_at: Instant,
    /// What it came to: zero when free.
    pub amount: Amount,
    /// The asset of the amount.
    pub currency: &'a str,
}

/// The columns that [`counted_from_arrow`] reads.
pub const COUNTED: &[&str] = &["organization", "project", "meter", "unit", "quantity", "start_at", "fate", "amount", "currency"];

/// Reads what the charged and free rows count, for those who need no more than that of whole rows.
///
/// - Errors: a missing or mistyped column, or the first row with a value it cannot have.
pub fn counted_from_arrow(batch: &RecordBatch) -> Result<Vec<Counted<'_>>, RowError> {
    let organization = text_column(batch, "organization")?;
    let project = text_column(batch, "project")?;
    let meter = text_column(batch, "meter")?;
    let unit = text_column(batch, "unit")?;
    let quantity = quantity_column(batch, "quantity")?;
    let start_at = instant_column(batch, "start_at")?;
    let fate = text_column(batch, "fate")?;
    let amount = amount_column(batch, "amount")?;
    let currency = text_column(batch, "currency")?;
    let mut counted = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let amount = match fate.required(row, Some)? {
            "charged" => amount.required(row, as_amount)?,
            "free" => Amount::ZERO,
            "quarantined" => continue,
            _ => return Err(RowError::Value { column: "fate", row }),
        };
        counted.push(Counted {
            organization: organization.required(row, Some)?,
            project: project.optional(row, Some)?,
            meter: meter.required(row, Some)?,
            unit: unit.required(row, Some)?,
            quantity: quantity.required(row, as_quantity)?,
            start_at: start_at.required(row, as_instant)?,
            amount,
            currency: currency.required(row, Some)?,
        });
    }
    Ok(counted)
}

/// Reads rows of `charges` that need not show their position.
///
/// - Errors: a missing or mistyped column, or the first row with a value it cannot have.
pub fn rated_from_arrow(batch: &RecordBatch) -> Result<Vec<Rated>, RowError> {
    let identity = hash_column(batch, "identity")?;
    let ordinal = int32_column(batch, "ordinal")?;
    let organization = text_column(batch, "organization")?;
    let project = text_column(batch, "project")?;
    let source = text_column(batch, "source")?;
    let meter = text_column(batch, "meter")?;
    let unit = text_column(batch, "unit")?;
    let dimensions = text_column(batch, "dimensions")?;
    let quantity = quantity_column(batch, "quantity")?;
    let start_at = instant_column(batch, "start_at")?;
    let end_at = instant_column(batch, "end_at")?;
    let accepted_at = instant_column(batch, "accepted_at")?;
    let accounting_period = int32_column(batch, "accounting_period")?;
    let registry_version = digest_column(batch, "registry_version")?;
    let supersedes = hash_column(batch, "supersedes")?;
    let (mut organizations, mut projects, mut sources) = (Known::new(), Known::new(), Known::new());
    let (mut meters, mut units, mut dimensions_known) = (Known::new(), Known::new(), Known::new());
    fates_from_arrow(batch)?
        .into_iter()
        .enumerate()
        .map(|(row, fate)| {
            Ok(Rated {
                identity: identity.required(row, IdentityHash::from_slice)?,
                ordinal: ordinal.required(row, |number| u16::try_from(number).ok())?,
                organization: organization.required(row, |id| organizations.get(id, |id| OrganizationId::parse(id).ok()))?,
                project: project.optional(row, |id| projects.get(id, |id| ProjectId::parse(id).ok()))?,
                source: source.required(row, |id| sources.get(id, |id| SourceId::parse(id).ok()))?,
                meter: meter.required(row, |id| meters.get(id, |id| MeterId::parse(id).ok()))?,
                unit: unit.required(row, |id| units.get(id, |id| UnitId::parse(id).ok()))?,
                dimensions: dimensions.required(row, |text| dimensions_known.get(text, Dimensions::parse))?,
                quantity: quantity.required(row, as_quantity)?,
                start_at: start_at.required(row, as_instant)?,
                end_at: end_at.optional(row, as_instant)?,
                accepted_at: accepted_at.required(row, as_instant)?,
                accounting_period: accounting_period.required(row, as_month)?,
                registry_version: registry_version.required(row, Digest::from_slice)?,
                supersedes: supersedes.optional(row, IdentityHash::from_slice)?,
                fate,
            })
        })
        .collect()
}

fn fates_from_arrow(batch: &RecordBatch) -> Result<Vec<Fate>, RowError> {
    let fate = text_column(batch, "fate")?;
    let reason = text_column(batch, "reason")?;
    let log_month = int32_column(batch, "log_month")?;
    let log_seq = int64_column(batch, "log_seq")?;
    let contract = text_column(batch, "contract")?;
    let contract_line = text_column(batch, "contract_line")?;
    let service_period = int32_column(batch, "service_period")?;
    let sku = text_column(batch, "sku_id")?;
    let price = text_column(batch, "price_id")?;
    let rule = text_column(batch, "rule")?;
    let currency = text_column(batch, "currency")?;
    let with_states = batch.column_by_name("state_before").is_some() || batch.column_by_name("state_after").is_some();
    let states = with_states.then(|| Ok((bytes_column(batch, "state_before")?, bytes_column(batch, "state_after")?))).transpose()?;
    let supersedes = hash_column(batch, "supersedes")?;
    let states = |row| -> Result<Option<States>, RowError> {
        let Some((before, after)) = &states else { return Ok(None) };
        let bytes = |state: &[u8]| Some(Arc::from(state));
        match (before.optional(row, bytes)?, after.optional(row, bytes)?) {
            (Some(before), Some(after)) => Ok(Some(States { before, after })),
            (None, None) if supersedes.optional(row, IdentityHash::from_slice)?.is_some() => Ok(None),
            (None, _) => Err(RowError::Value { column: "state_before", row }),
            (Some(_), None) => Err(RowError::Value { column: "state_after", row }),
        }
    };
    let amount = amount_column(batch, "amount")?;
    let (mut contracts, mut lines, mut skus) = (Known::new(), Known::new(), Known::new());
    let (mut prices, mut currencies) = (Known::new(), Known::new());
    let mut priced = |row| {
        Ok::<_, RowError>(Priced {
            log_month: log_month.required(row, as_month)?,
            log_seq: log_seq.required(row, as_count)?,
            contract: contract.required(row, |id| contracts.get(id, |id| ContractId::parse(id).ok()))?,
            contract_line: contract_line.required(row, |line| lines.get(line, |line| Some(Arc::from(line))))?,
            service_period: service_period.required(row, as_month)?,
            sku: sku.required(row, |id| skus.get(id, |id| SkuId::parse(id).ok()))?,
            price: price.required(row, |id| prices.get(id, |id| PriceId::parse(id).ok()))?,
            rule: rule.required(row, Rule::from_code)?,
            currency: currency.required(row, |id| currencies.get(id, |id| AssetId::parse(id).ok()))?,
        })
    };
    (0..batch.num_rows())
        .map(|row| match fate.required(row, Some)? {
            "charged" => Ok(Fate::Charged { priced: priced(row)?, states: states(row)?, amount: amount.required(row, as_amount)? }),
            "free" => Ok(Fate::Free { priced: priced(row)?, named: reason.required(row, |named| Some(Arc::from(named)))? }),
            "quarantined" => Ok(Fate::Quarantined { reason: reason.required(row, Reason::from_code)? }),
            _ => Err(RowError::Value { column: "fate", row }),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn priced(rule: Rule) -> Priced {
        Priced {
            log_month: Month::from_number(202_611).unwrap(),
            log_seq: 4,
            contract: ContractId::parse("c-1").unwrap(),
            contract_line: "c-1/tokens".into(),
            service_period: Month::from_number(202_611).unwrap(),
            sku: SkuId::parse("tokens").unwrap(),
            price: PriceId::parse("tokens-1").unwrap(),
            rule,
            currency: AssetId::parse("USD").unwrap(),
        }
    }

    fn with(fate: Fate) -> Charge {
        Charge {
            identity: IdentityHash([3; 16]),
            ordinal: 1,
            position: Position { shard: ShardId::new(9).unwrap(), incarnation: Incarnation(2), sequence: Sequence(77) },
            organization: OrganizationId::parse("acme").unwrap(),
            project: ProjectId::parse("p").ok(),
            source: SourceId::parse("gateway").unwrap(),
            meter: MeterId::parse("tokens").unwrap(),
            unit: UnitId::parse("token").unwrap(),
            dimensions: Dimensions::new([("model".into(), "m \"1\"".into()), ("kind".into(), "input".into())]),
            quantity: "-1.000000001".parse().unwrap(),
            start_at: Instant::parse("2026-11-30T23:59:59.999999Z").unwrap(),
            end_at: None,
            accepted_at: Instant::parse("2026-12-01T00:00:01Z").unwrap(),
            accounting_period: Month::from_number(202_612).unwrap(),
            registry_version: Digest([8; 32]),
            supersedes: None,
            commitment: Digest([9; 32]),
            fate,
        }
    }

    #[test]
    fn rows_survive_the_way_through_arrow() {
        let rows: Vec<Charge> = [
            Fate::Charged {
                priced: priced(Rule::Graduated),
                states: Some(States { before: Arc::from([1, 0, 0, 0, 0]), after: Arc::from([1, 0]) }),
                amount: "-0.000000001".parse().unwrap(),
            },
            Fate::Free { priced: priced(Rule::Free), named: "launch".into() },
            Fate::Quarantined { reason: Reason::Unpriced },
        ]
        .into_iter()
        .map(with)
        .collect();
        let taken_back = Fate::Charged { priced: priced(Rule::Graduated), states: None, amount: "0.000000001".parse().unwrap() };
        let named = rows[0].identity;
        let rows: Vec<Charge> = rows.into_iter().chain([Charge { supersedes: Some(named), ..with(taken_back.clone()) }]).collect();
        assert!(charges_from_arrow(&charges_to_arrow(&[with(taken_back)]).unwrap()).is_err(), "it takes nothing back");
        let batch = charges_to_arrow(&rows).unwrap();
        assert_eq!(batch.column_by_name("amount").unwrap().null_count(), 1);
        let counted = counted_from_arrow(&batch).unwrap();
        let priced = rows.iter().filter_map(|row| Some((row, row.fate.amount()?, row.fate.priced()?)));
        let wanted: Vec<Counted<'_>> = priced
            .map(|(row, amount, priced)| Counted {
                organization: row.organization.as_str(),
                project: row.project.as_ref().map(ProjectId::as_str),
                meter: row.meter.as_str(),
                unit: row.unit.as_str(),
                quantity: row.quantity,
                start_at: row.start_at,
                amount,
                currency: priced.currency.as_str(),
            })
            .collect();
        assert_eq!((counted.len(), counted), (3, wanted));
        assert_eq!(charges_from_arrow(&batch), Ok(rows));
    }

    fn shape(schema: &SchemaRef) -> String {
        let fields = schema.fields().iter().map(|field| {
            let null = if field.is_nullable() { "?" } else { "" };
            format!("{} {} {}{null}\n", field.metadata()["PARQUET:field_id"], field.name(), field.data_type())
        });
        fields.collect()
    }

    /// Frozen: files on disk have these shapes for ever; columns are only added at the end.
    #[test]
    fn tables_keep_their_shape() {
        assert_eq!(shape(&charges_schema()), include_str!("../tests/golden/charges.txt"));
        assert_eq!(shape(&crate::totals::totals_schema()), include_str!("../tests/golden/totals.txt"));
    }
}
