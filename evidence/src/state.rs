//! The state that a checkpoint commits to: every organization's logs and sums, as one tree.
//! Pure: the fold loads the part it touches, a rebuild keeps all of it. It knows no storage and no signature.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use shared_types::{AssetId, Digest, Month, NumberError, OrganizationId, Sum, canonical_json};

use crate::fold::CutInput;
use crate::log::{LogError, OrganizationLogs};
use crate::salt::SaltKey;
use crate::tree::{Frontier, Head, leaf_hash, root};

/// Why a cut cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StateError {
    /// The leaves do not continue a log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A sum left its range.
    #[error("the sum of {organization} in {currency} does not fit: {sum} and {amount}")]
    Sum {
        /// Whose sum.
        organization: OrganizationId,
        /// The currency.
        currency: AssetId,
        /// The sum before.
        sum: Sum,
        /// What was to be added.
        amount: Sum,
        /// Why.
        #[source]
        source: NumberError,
    },
}

/// What the checkpoint tree says about one organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OrganizationLeaf {
    /// Salted organization.
    pub organization: Digest,
    /// Its logs by rising month.
    pub logs: Vec<(Month, Head)>,
    /// Its sums by currency.
    pub sums: Vec<(AssetId, Sum)>,
}

impl OrganizationLeaf {
    /// Canonical JSON: `{"logs":[{"month":"202611","root":"…","size":"3"}],"organization":"…","sums":[{"amount":"1.5","currency":"USD"}]}`.
    pub fn canonical(&self) -> String {
        let logs: Vec<_> = self.logs.iter().map(|(month, head)| json!({"month": month, "size": head.size, "root": head.root})).collect();
        let sums: Vec<_> = self.sums.iter().map(|(currency, amount)| json!({"currency": currency, "amount": amount})).collect();
        // Texts and integers always have a canonical form.
        canonical_json(&json!({"organization": self.organization, "logs": logs, "sums": sums})).unwrap_or_default()
    }

    /// The RFC 6962 hash of the canonical text.
    pub fn hash(&self) -> Digest {
        leaf_hash(self.canonical().as_bytes())
    }
}

/// Logs and sums of organizations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    pub(crate) logs: OrganizationLogs,
    pub(crate) sums: BTreeMap<OrganizationId, BTreeMap<AssetId, Sum>>,
    pub(crate) organizations: BTreeSet<OrganizationId>,
}

impl State {
    /// Applies leaves and sums of a cut. After an error the state is useless.
    pub fn apply(&mut self, cut: &CutInput) -> Result<(), StateError> {
        self.organizations.extend(cut.touched().into_iter().cloned());
        for (organization, month, leaves) in &cut.leaves {
            self.logs.append(organization, *month, leaves)?;
        }
        for (organization, currency, amount) in &cut.sums {
            let sum = self.sums.entry(organization.clone()).or_default().entry(currency.clone()).or_default();
            *sum = sum.checked_add(*amount).map_err(|source| StateError::Sum {
                organization: organization.clone(),
                currency: currency.clone(),
                sum: *sum,
                amount: *amount,
                source,
            })?;
        }
        Ok(())
    }

    /// Every organization known, idle ones included.
    pub fn organizations(&self) -> impl ExactSizeIterator<Item = &OrganizationId> {
        self.organizations.iter()
    }

    /// The frontier of one log.
    pub fn log(&self, organization: &OrganizationId, month: Month) -> Option<&Frontier> {
        self.logs.get(organization, month)
    }

    /// The leaf of one organization.
    pub fn leaf(&self, organization: &OrganizationId, salts: &SaltKey) -> OrganizationLeaf {
        OrganizationLeaf {
            organization: salts.salted_organization(organization),
            logs: self.logs.of(organization).map(|(month, log)| (month, Head { size: log.size(), root: log.root() })).collect(),
            sums: self.sums.get(organization).into_iter().flatten().map(|(currency, sum)| (currency.clone(), *sum)).collect(),
        }
    }

    /// All leaves in the order of the tree: by salted organization.
    pub fn leaves(&self, salts: &SaltKey) -> Vec<OrganizationLeaf> {
        let mut leaves: Vec<_> = self.organizations.iter().map(|organization| self.leaf(organization, salts)).collect();
        leaves.sort_by_key(|leaf| leaf.organization);
        leaves
    }

    /// How many organizations, and the root over their leaves.
    pub fn head(&self, salts: &SaltKey) -> Head {
        let hashes: Vec<_> = self.leaves(salts).iter().map(OrganizationLeaf::hash).collect();
        Head { size: u64::try_from(hashes.len()).unwrap_or(u64::MAX), root: root(&hashes) }
    }
}
