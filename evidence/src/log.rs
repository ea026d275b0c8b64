//! One log per organization and UTC month of the reading's start: leaves in sealed order, numbered without gap from 0.
//! Pure state: it does not know storage, and of past leaves it keeps only the frontier.

use std::collections::BTreeMap;

use shared_types::{Month, OrganizationId};

use crate::leaf::LeafInput;
use crate::tree::{Frontier, TreeError, leaf_hash};

/// Why leaves were not appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// Numbers are missing between the log and the leaf.
    #[error("the log of {organization} for {month} continues with {expected}: leaf {found} leaves a gap")]
    Gap {
        /// Whose log.
        organization: OrganizationId,
        /// Its month.
        month: Month,
        /// The next number of the log.
        expected: u64,
        /// The number of the leaf.
        found: u64,
    },
    /// The log holds this number already.
    #[error("the log of {organization} for {month} continues with {expected}: leaf {found} repeats")]
    Repeat {
        /// Whose log.
        organization: OrganizationId,
        /// Its month.
        month: Month,
        /// The next number of the log.
        expected: u64,
        /// The number of the leaf.
        found: u64,
    },
    /// The reading started in another month.
    #[error("leaf {log_seq} of {organization} for {month} started in {found}")]
    WrongMonth {
        /// Whose log.
        organization: OrganizationId,
        /// The log's month.
        month: Month,
        /// The number of the leaf.
        log_seq: u64,
        /// The month of its start.
        found: Month,
    },
    /// The tree cannot take another leaf.
    #[error("could not append to the log of {organization} for {month}")]
    Tree {
        /// Whose log.
        organization: OrganizationId,
        /// Its month.
        month: Month,
        /// Why.
        #[source]
        source: TreeError,
    },
}

/// The frontiers of organizations' logs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OrganizationLogs {
    logs: BTreeMap<OrganizationId, BTreeMap<Month, Frontier>>,
}

impl OrganizationLogs {
    /// Appends leaves to one log. An error leaves the log as it was.
    pub fn append(&mut self, organization: &OrganizationId, month: Month, leaves: &[LeafInput]) -> Result<(), LogError> {
        if leaves.is_empty() {
            return Ok(());
        }
        let mut frontier = self.logs.get(organization).and_then(|logs| logs.get(&month)).cloned().unwrap_or_default();
        let mut text = String::with_capacity(400);
        for leaf in leaves {
            let (organization, expected, found) = (organization.clone(), frontier.size(), leaf.log_seq);
            if found > expected {
                return Err(LogError::Gap { organization, month, expected, found });
            }
            if found < expected {
                return Err(LogError::Repeat { organization, month, expected, found });
            }
            if leaf.start_at.month() != month {
                return Err(LogError::WrongMonth { organization, month, log_seq: found, found: leaf.start_at.month() });
            }
            text.clear();
            leaf.write(&mut text);
            frontier.append(leaf_hash(text.as_bytes())).map_err(|source| LogError::Tree { organization, month, source })?;
        }
        self.put(organization, month, frontier);
        Ok(())
    }

    /// Puts a stored frontier in place.
    pub fn put(&mut self, organization: &OrganizationId, month: Month, frontier: Frontier) {
        self.logs.entry(organization.clone()).or_default().insert(month, frontier);
    }

    /// The frontier of one log.
    pub fn get(&self, organization: &OrganizationId, month: Month) -> Option<&Frontier> {
        self.logs.get(organization)?.get(&month)
    }

    /// An organization's logs by month.
    pub fn of(&self, organization: &OrganizationId) -> impl Iterator<Item = (Month, &Frontier)> {
        self.logs.get(organization).into_iter().flatten().map(|(month, frontier)| (*month, frontier))
    }

    /// Organizations that have a log.
    pub fn organizations(&self) -> impl Iterator<Item = &OrganizationId> {
        self.logs.keys()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shared_types::{Digest, Instant, MeterId, Quantity, UnitId};

    fn leaf(log_seq: u64, start_at: &str) -> LeafInput {
        LeafInput {
            log_seq,
            meter: MeterId::parse("tokens").unwrap(),
            unit: UnitId::parse("token").unwrap(),
            quantity: Quantity::parse("1.5").unwrap(),
            start_at: Instant::parse(start_at).unwrap(),
            end_at: None,
            registry_version: Digest::ZERO,
            commitment: Digest::ZERO,
        }
    }

    #[test]
    fn gaps_repeats_and_strange_months_are_refused_by_name_and_change_nothing() {
        let organization = OrganizationId::parse("acme").unwrap();
        let month = Month::from_number(202_611).unwrap();
        let (day, other) = ("2026-11-02T00:00:00Z", "2026-12-01T00:00:00Z");
        let mut logs = OrganizationLogs::default();
        logs.append(&organization, month, &[leaf(0, day), leaf(1, day)]).unwrap();
        let before = logs.clone();
        for (leaves, message) in [
            (vec![leaf(2, day), leaf(4, day)], "the log of acme for 2026-11 continues with 3: leaf 4 leaves a gap"),
            (vec![leaf(1, day)], "the log of acme for 2026-11 continues with 2: leaf 1 repeats"),
            (vec![leaf(0, day)], "the log of acme for 2026-11 continues with 2: leaf 0 repeats"),
            (vec![leaf(2, other)], "leaf 2 of acme for 2026-11 started in 2026-12"),
        ] {
            assert_eq!(logs.append(&organization, month, &leaves).unwrap_err().to_string(), message);
            assert_eq!(logs, before);
        }
        logs.append(&organization, month.next().unwrap(), &[leaf(0, other)]).unwrap();
        let sizes: Vec<_> = logs.of(&organization).map(|(month, log)| (month.to_string(), log.size())).collect();
        assert_eq!(sizes, [("2026-11".to_owned(), 2), ("2026-12".to_owned(), 1)]);
    }

    #[test]
    fn the_cut_of_appends_does_not_change_the_root() {
        let organization = OrganizationId::parse("acme").unwrap();
        let month = Month::from_number(202_611).unwrap();
        let leaves: Vec<_> = (0..20).map(|log_seq| leaf(log_seq, "2026-11-02T00:00:00Z")).collect();
        let roots = [1, 3, 7, 20].map(|size| {
            let mut logs = OrganizationLogs::default();
            for part in leaves.chunks(size) {
                logs.append(&organization, month, part).unwrap();
            }
            logs.get(&organization, month).unwrap().root()
        });
        let hashes: Vec<_> = leaves.iter().map(LeafInput::hash).collect();
        assert_eq!(roots, [crate::tree::root(&hashes); 4]);
    }
}
