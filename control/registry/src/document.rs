//! The documents of a registry and their canonical JSON: what a version's address covers.
//! It knows no file, no TOML and no other document: references are checked elsewhere.

mod billable;
mod contract_term;
mod terms;
mod windows;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use shared_types::{
    AssetId, CanonicalError, ContractId, Digest, Instant, MeterId, Month, OrganizationId, Price, PriceId, Quantity, SkuId, UnitId,
    canonical_json,
};

pub use self::billable::{BillableStates, BilledMeter, Told};
pub(crate) use self::billable::{micros, minutes};
pub use self::contract_term::{DiscountTier, Term, TermRule, TermsOver, TrueUp};
pub use self::terms::{
    AppliesTo, BilledDuring, BlockTier, Bucket, ChargedAt, Clock, Convert, CutAt, Each, Percentage, RoundTo, StepRounding, StepsOf, Then,
    UniquePer,
};
pub use self::windows::{Promised, WindowCommitment, WindowTrueUp};

/// What a document is about. The order is the one of the kinds' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    /// Which time of a lease is billed.
    BillableStates,
    /// Who pays by which price book from when on.
    Contract,
    /// How a quantity is read from events.
    Meter,
    /// Prices of SKUs in one currency.
    PriceBook,
    /// How amounts of an asset are rounded on invoices.
    Rounding,
    /// What is sold.
    Sku,
    /// What quantities count.
    Unit,
}

impl Kind {
    /// Every kind, in order.
    pub const ALL: [Self; 7] = [Self::BillableStates, Self::Contract, Self::Meter, Self::PriceBook, Self::Rounding, Self::Sku, Self::Unit];

    /// The name in documents, for example `price_book`.
    pub fn name(self) -> &'static str {
        match self {
            Self::BillableStates => "billable_states",
            Self::Contract => "contract",
            Self::Meter => "meter",
            Self::PriceBook => "price_book",
            Self::Rounding => "rounding",
            Self::Sku => "sku",
            Self::Unit => "unit",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// One document. Its canonical JSON has the member `kind` beside the document's own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Document {
    /// Billable states.
    BillableStates(BillableStates),
    /// A contract.
    Contract(Contract),
    /// A meter.
    Meter(Meter),
    /// A price book.
    PriceBook(PriceBook),
    /// A rounding.
    Rounding(Rounding),
    /// A SKU.
    Sku(Sku),
    /// A unit.
    Unit(Unit),
}

/// What quantities count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Unit {
    /// Its name.
    pub id: UnitId,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// Decimal places that tier bounds, package sizes and unit sizes of prices in this unit may have, and that quantities are shown with: 0 to 9.
    #[serde(with = "text")]
    pub scale: u32,
}

/// How the readings of a meter add up to the quantity that is priced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Aggregation {
    /// The value of each event.
    Sum,
    /// One for each event.
    Count,
    /// The greatest value.
    Max,
    /// The smallest value.
    Min,
    /// The mean of the values.
    Average,
    /// The value of the latest event; zero where that is below zero.
    Latest,
    /// How many different values a dimension has.
    Unique {
        /// The dimension.
        of: String,
        /// Over what they are told apart.
        per: UniquePer,
    },
    /// Value × seconds held.
    TimeWeighted {
        /// What time is counted in.
        by: Clock,
    },
    /// Value × the share of the service period that it is held.
    Prorated {
        /// What time is counted in.
        by: Clock,
    },
    /// A value for each bucket of the service period.
    Bucketed {
        /// How long a bucket is.
        bucket: Bucket,
        /// What its value is.
        each: Each,
        /// What becomes of the values.
        then: Then,
    },
}

/// What becomes of a negative value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Negative {
    /// It is quarantined.
    Quarantine,
    /// It is rated.
    Accept,
}

/// How a quantity is read from events of a type.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meter {
    /// Its name.
    pub id: MeterId,
    /// The CloudEvents type that it reads.
    pub event_type: String,
    /// How readings add up.
    pub aggregation: Aggregation,
    /// Path of the value inside `data`; none for counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// What the quantity counts.
    pub unit: UnitId,
    /// Dimension name and its path inside `data`.
    pub dimensions: BTreeMap<String, String>,
    /// What becomes of a negative value.
    pub negative: Negative,
    /// Path inside `data` of the total that this value is a part of, with all other meters of the event type that name it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part_of: Option<String>,
    /// The billable states by which its time is billed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub billable: Option<String>,
    /// IANA zone of the days or hours that it counts; UTC where it counts none.
    #[serde(default = "zone::utc", skip_serializing_if = "zone::is_utc")]
    pub zone: String,
    /// Begin of the first service period into which its level is carried; none where a level without an end ends with its service period.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurring_from: Option<Instant>,
    /// Begin of the first service period behind that into which it is carried no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recurring_until: Option<Instant>,
}

impl Meter {
    /// Where days and hours begin unless a meter says otherwise.
    pub const UTC: &str = "UTC";

    /// Whether its readings are changes of a level that is held over time.
    pub fn is_level(&self) -> bool {
        self.billable.is_none() && matches!(self.aggregation, Aggregation::TimeWeighted { .. } | Aggregation::Prorated { .. })
    }

    /// Whether its level is carried into the service period.
    pub fn carries_into(&self, period: Month) -> bool {
        let begin = period.start();
        self.recurring_from.is_some_and(|from| from <= begin) && self.recurring_until.is_none_or(|until| begin < until)
    }
}

/// What is sold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Sku {
    /// Its name.
    pub id: SkuId,
    /// Revenue family.
    pub family: String,
    /// The meter whose readings it prices.
    pub meter: MeterId,
    /// Dimension values that a reading must carry.
    #[serde(rename = "match")]
    pub matches: BTreeMap<String, String>,
    /// Dimensions that must be numbers above these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub above: BTreeMap<String, Quantity>,
    /// Dimensions that must be numbers up to and including these.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub up_to: BTreeMap<String, Quantity>,
    /// For people: the text on an invoice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// Prices of SKUs in one currency.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceBook {
    /// Its name.
    pub id: String,
    /// The currency.
    pub currency: AssetId,
    /// Rows, sorted by SKU, then by `effective_at`.
    pub prices: Vec<PriceRow>,
}

/// A price for a SKU from an instant on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceRow {
    /// Its name; unless given, `<book>:<sku>:<effective_at in UTC>`.
    pub id: PriceId,
    /// What is priced.
    pub sku: SkuId,
    /// In force for usage that starts at or after this instant.
    pub effective_at: Instant,
    /// How a quantity becomes money.
    pub model: PriceModel,
}

/// How a quantity becomes money.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum PriceModel {
    /// Quantity × unit price.
    PerUnit {
        /// Units that `unit_price` pays for, above zero.
        per: Quantity,
        /// Money for `per` units.
        unit_price: Price,
    },
    /// Whole packages, begun ones counted.
    Package {
        /// Units in a package, above zero.
        size: Quantity,
        /// Money for a package.
        package_price: Price,
    },
    /// Each tier's part at the tier's price.
    Graduated {
        /// Units that the tiers' `unit_price` pays for, above zero.
        per: Quantity,
        /// Rising bounds, the last tier open.
        tiers: Vec<Tier>,
    },
    /// Everything at the price of the tier that the quantity reaches.
    Volume {
        /// Units that the tiers' `unit_price` pays for, above zero.
        per: Quantity,
        /// Rising bounds, the last tier open.
        tiers: Vec<Tier>,
    },
    /// Nothing is owed.
    Free {
        /// The rule's name.
        rule: String,
    },
    /// A share of a value, and fees for readings.
    Percentage(Percentage),
    /// Each tier's part of a value at the tier's percentage.
    GraduatedPercentage {
        /// Rising bounds, the last tier open; `unit_price` is the rate in percent.
        tiers: Vec<Tier>,
    },
    /// Each tier's part in blocks of the tier, begun ones counted.
    Blocks {
        /// Rising bounds, the last tier open.
        tiers: Vec<BlockTier>,
    },
    /// Everything in blocks of the tier that the quantity reaches, begun ones counted.
    TopBlocks {
        /// Rising bounds, the last tier open.
        tiers: Vec<BlockTier>,
    },
    /// Another model, of a quantity that is converted or partly free.
    Adjusted {
        /// The change of unit, where there is one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        convert: Option<Convert>,
        /// How much of the converted quantity is free.
        free_units: Quantity,
        /// What all of it is applied to.
        applies_to: AppliesTo,
        /// The model; never another adjusted one.
        model: Box<PriceModel>,
    },
    /// Another model, of windows that are priced alone, each against what was promised for it.
    Committed {
        /// What was promised for each window.
        commitment: WindowCommitment,
        /// The model, adjusted or not; never another committed one.
        model: Box<PriceModel>,
    },
}

/// One tier.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tier {
    /// Upper bound, inclusive; none for the last tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Quantity>,
    /// Money for `per` units.
    pub unit_price: Price,
    /// Money that falls due once any usage lies in this tier.
    pub flat_fee: Price,
}

/// Whom a contract binds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Covers {
    /// Organizations without a contract of their own.
    Default,
    /// The named ones, at least one.
    Organizations(BTreeSet<OrganizationId>),
}

/// How long a service period is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BillingPeriod {
    /// A UTC calendar month.
    Month,
}

/// Who pays by which price book from when on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Contract {
    /// Its name.
    pub id: ContractId,
    /// Whom it binds.
    pub covers: Covers,
    /// The price book.
    pub price_book: String,
    /// For usage that starts at or after this instant, until the next contract.
    pub effective_at: Instant,
    /// How long a service period is.
    pub billing_period: BillingPeriod,
    /// What is owed in every service period whether or not anything is used, sorted by id. Only where organizations are named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recurring: Vec<Recurring>,
    /// What holds of the spend of a service period as a whole, sorted by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<Term>,
    /// What the terms look at; none where there are no terms.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terms_over: Option<TermsOver>,
}

/// A fee of every service period: when time has come, an event states it for each organization of the contract. Meters, SKUs and prices make
/// money of it as of any other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recurring {
    /// Its name in the contract.
    pub id: String,
    /// CloudEvents type of its events: [`Recurring::EVENT_TYPE`], or that and a part of its own where a second meter reads it otherwise.
    pub event_type: String,
    /// What is provided: `data.item` of its events.
    pub item: String,
    /// How much of it: `data.quantity` of its events, above zero.
    pub quantity: Quantity,
    /// When it is charged.
    pub charged_at: ChargedAt,
    /// Provided from this instant on; the contract's beginning when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<Instant>,
    /// Provided up to this instant; as long as the contract is in force when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Instant>,
}

/// Which way a half goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RoundingMode {
    /// 0.5 to 1, -0.5 to -1.
    HalfAwayFromZero,
    /// To the even neighbour.
    HalfEven,
}

/// How amounts of an asset are rounded on invoices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rounding {
    /// The currency.
    pub asset: AssetId,
    /// Decimal places of an invoice line, 0 to 9.
    #[serde(with = "text")]
    pub scale: u32,
    /// Which way a half goes.
    pub mode: RoundingMode,
}

/// Why a text is not the canonical JSON of a document.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// It is no document.
    #[error("not a registry document")]
    Json(#[from] serde_json::Error),
    /// It holds something that has no canonical form.
    #[error("the document has no canonical form")]
    Canonical(#[from] CanonicalError),
    /// It says the same as another text, and only that one is canonical.
    #[error("the document is not in canonical form")]
    NotCanonical,
    /// Two documents have one name.
    #[error("{kind} {id:?} is there twice")]
    Repeated {
        /// What both are.
        kind: Kind,
        /// Their name.
        id: String,
    },
}

impl Document {
    /// What it is about.
    pub fn kind(&self) -> Kind {
        match self {
            Self::BillableStates(_) => Kind::BillableStates,
            Self::Contract(_) => Kind::Contract,
            Self::Meter(_) => Kind::Meter,
            Self::PriceBook(_) => Kind::PriceBook,
            Self::Rounding(_) => Kind::Rounding,
            Self::Sku(_) => Kind::Sku,
            Self::Unit(_) => Kind::Unit,
        }
    }

    /// Its name among documents of its kind; a rounding is named by its asset.
    pub fn id(&self) -> &str {
        match self {
            Self::BillableStates(policy) => &policy.id,
            Self::Contract(contract) => contract.id.as_str(),
            Self::Meter(meter) => meter.id.as_str(),
            Self::PriceBook(book) => &book.id,
            Self::Rounding(rounding) => rounding.asset.as_str(),
            Self::Sku(sku) => sku.id.as_str(),
            Self::Unit(unit) => unit.id.as_str(),
        }
    }

    /// Its canonical JSON: every default written out, instants in UTC, numbers as plain quoted decimals.
    pub fn canonical(&self) -> Result<String, DocumentError> {
        Ok(canonical_json(&serde_json::to_value(self)?)?)
    }

    /// From canonical JSON; any other spelling is refused.
    pub fn parse(canonical: &str) -> Result<Self, DocumentError> {
        let document: Self = serde_json::from_str(canonical)?;
        if document.canonical()? == canonical { Ok(document) } else { Err(DocumentError::NotCanonical) }
    }

    /// SHA-256 of the canonical JSON.
    pub fn digest(&self) -> Result<Digest, DocumentError> {
        Ok(Digest::of(self.canonical()?.as_bytes()))
    }
}

impl Recurring {
    /// What the CloudEvents types of its events are or begin with.
    pub const EVENT_TYPE: &str = "tallystick.recurring";
    /// Where its item stands in `data`.
    pub const ITEM: &str = "item";
    /// Where its quantity stands in `data`.
    pub const QUANTITY: &str = "quantity";

    /// Whether events of this type state recurring fees: the own type, or a part of it behind a dot.
    pub fn is_own(event_type: &str) -> bool {
        event_type.strip_prefix(Self::EVENT_TYPE).is_some_and(|rest| rest.is_empty() || rest.starts_with('.') && rest.len() > 1)
    }
}

impl Aggregation {
    /// The name in documents, for example `time_weighted`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Sum => "sum",
            Self::Count => "count",
            Self::Max => "max",
            Self::Min => "min",
            Self::Average => "average",
            Self::Latest => "latest",
            Self::Unique { .. } => "unique",
            Self::TimeWeighted { .. } => "time_weighted",
            Self::Prorated { .. } => "prorated",
            Self::Bucketed { .. } => "bucketed",
        }
    }

    /// Whether it counts what intake reads as one, so that there is no value to be read.
    pub fn counts(&self) -> bool {
        matches!(self, Self::Count | Self::Unique { .. })
    }
}

impl PriceModel {
    /// The name in documents, for example `per_unit`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::PerUnit { .. } => "per_unit",
            Self::Package { .. } => "package",
            Self::Graduated { .. } => "graduated",
            Self::Volume { .. } => "volume",
            Self::Free { .. } => "free",
            Self::Percentage(_) => "percentage",
            Self::GraduatedPercentage { .. } => "graduated_percentage",
            Self::Blocks { .. } => "blocks",
            Self::TopBlocks { .. } => "top_blocks",
            Self::Adjusted { model, .. } | Self::Committed { model, .. } => model.name(),
        }
    }

    /// The model with what is done before it: conversion, free units, and to what they are applied.
    pub fn parts(&self) -> (Option<&Convert>, Quantity, AppliesTo, &Self) {
        match self {
            Self::Adjusted { convert, free_units, applies_to, model } => (convert.as_ref(), *free_units, *applies_to, model),
            Self::Committed { model, .. } => model.parts(),
            model => (None, Quantity::ZERO, AppliesTo::Period, model),
        }
    }

    /// What was promised for each window; none where nothing was.
    pub fn commitment(&self) -> Option<&WindowCommitment> {
        if let Self::Committed { commitment, .. } = self { Some(commitment) } else { None }
    }
}

impl RoundingMode {
    /// The name in documents.
    pub fn name(self) -> &'static str {
        match self {
            Self::HalfAwayFromZero => "half_away_from_zero",
            Self::HalfEven => "half_even",
        }
    }
}

/// The zone that is left out.
mod zone {
    use super::Meter;

    pub(super) fn utc() -> String {
        Meter::UTC.to_owned()
    }

    pub(super) fn is_utc(zone: &str) -> bool {
        zone == Meter::UTC
    }
}

/// Small numbers as text: canonical JSON has no other numbers.
mod text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(number: &u32, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(number)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}
