//! Terms of a contract: what holds of the spend of a service period as a whole. It knows no key and no amount that was spent.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use shared_types::{Amount, Quantity, SkuId};

use super::terms::words;

words!(
    /// Whether what was promised and not spent is owed.
    TrueUp {
        /// It is.
        Owed = "owed",
        /// It is not: the commitment only says where overage begins.
        None = "none",
    }
);

words!(
    /// What the terms of a contract look at.
    TermsOver {
        /// Usage and recurring fees.
        Everything = "everything",
        /// Usage alone.
        Usage = "usage",
    }
);

/// A term of a contract, for each organization of it and each service period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// Its name in the contract.
    pub id: String,
    /// For people: the text on an invoice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// What it asks for.
    pub rule: TermRule,
    /// How many service periods it looks at together, counted from the contract's first one; 1: at each by itself.
    #[serde(default = "one", skip_serializing_if = "is_one", with = "super::text")]
    pub months: u32,
    /// The SKUs that it looks at, with those of the families; all of the contract where neither is named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skus: BTreeSet<SkuId>,
    /// The revenue families that it looks at.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub families: BTreeSet<String>,
}

impl Term {
    /// How many service periods it can look at together.
    pub const MONTHS: std::ops::RangeInclusive<u32> = 2..=120;
}

fn one() -> u32 {
    1
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks by reference")]
fn is_one(months: &u32) -> bool {
    *months == 1
}

/// A percentage off a part of what is spent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DiscountTier {
    /// Up to where, inclusive; none for the last tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub up_to: Option<Amount>,
    /// How many percent, 0 to 100.
    pub percent: Quantity,
}

/// What a term asks for. The order is the one in which terms are applied.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum TermRule {
    /// A percentage off what each SKU comes to.
    Discount {
        /// How many percent, above zero and at most 100.
        percent: Quantity,
    },
    /// Of several SKUs the one that comes to the most is owed, the others are not.
    Capacity {},
    /// A percentage off what is spent, by how much it is.
    GraduatedDiscount {
        /// In rising order, the last one without a bound.
        tiers: Vec<DiscountTier>,
    },
    /// A promise to spend.
    Commitment {
        /// How much, above zero.
        amount: Amount,
        /// What spend beyond it costs, as a multiple; above zero.
        overage_factor: Quantity,
        /// Whether what was promised and not spent is owed.
        true_up: TrueUp,
    },
    /// The most that the period costs.
    MaximumSpend {
        /// How much, above zero.
        amount: Amount,
    },
    /// The least that the period costs.
    MinimumSpend {
        /// How much, above zero.
        amount: Amount,
    },
}

impl TermRule {
    /// Every kind, in the order of application.
    pub const KINDS: [&str; 6] = ["discount", "capacity", "graduated_discount", "commitment", "maximum_spend", "minimum_spend"];

    /// The kind in documents, for example `minimum_spend`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Discount { .. } => "discount",
            Self::Capacity {} => "capacity",
            Self::GraduatedDiscount { .. } => "graduated_discount",
            Self::Commitment { .. } => "commitment",
            Self::MaximumSpend { .. } => "maximum_spend",
            Self::MinimumSpend { .. } => "minimum_spend",
        }
    }

    /// What is promised, or where it ends; discounts and a capacity name no such amount.
    pub fn amount(&self) -> Option<Amount> {
        match self {
            Self::Discount { .. } | Self::Capacity {} | Self::GraduatedDiscount { .. } => None,
            Self::Commitment { amount, .. } | Self::MaximumSpend { amount } | Self::MinimumSpend { amount } => Some(*amount),
        }
    }

    /// Every amount that it names.
    pub fn amounts(&self) -> impl Iterator<Item = Amount> {
        let tiers = if let Self::GraduatedDiscount { tiers } = self { tiers.as_slice() } else { &[] };
        self.amount().into_iter().chain(tiers.iter().filter_map(|tier| tier.up_to))
    }

    /// Whether it can look at several service periods together.
    pub fn can_span(&self) -> bool {
        !matches!(self, Self::Discount { .. } | Self::Capacity {})
    }

    /// Whether it can be owed without anything used.
    pub fn owed_unused(&self) -> bool {
        matches!(self, Self::MinimumSpend { .. } | Self::Commitment { true_up: TrueUp::Owed, .. })
    }
}
