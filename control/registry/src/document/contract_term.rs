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
    /// The SKUs that it looks at, with those of the families; all of the contract where neither is named.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub skus: BTreeSet<SkuId>,
    /// The revenue families that it looks at.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub families: BTreeSet<String>,
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
    pub const KINDS: [&str; 5] = ["discount", "capacity", "commitment", "maximum_spend", "minimum_spend"];

    /// The kind in documents, for example `minimum_spend`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Discount { .. } => "discount",
            Self::Capacity {} => "capacity",
            Self::Commitment { .. } => "commitment",
            Self::MaximumSpend { .. } => "maximum_spend",
            Self::MinimumSpend { .. } => "minimum_spend",
        }
    }

    /// The amount that it names; a discount and a capacity name none.
    pub fn amount(&self) -> Option<Amount> {
        match self {
            Self::Discount { .. } | Self::Capacity {} => None,
            Self::Commitment { amount, .. } | Self::MaximumSpend { amount } | Self::MinimumSpend { amount } => Some(*amount),
        }
    }

    /// Whether it can be owed without anything used.
    pub fn owed_unused(&self) -> bool {
        matches!(self, Self::MinimumSpend { .. } | Self::Commitment { true_up: TrueUp::Owed, .. })
    }
}
