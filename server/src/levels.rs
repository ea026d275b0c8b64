//! The changes of levels in rated batches: what readings without an end move, by organization, project, meter, dimensions and month. What is carried
//! of them into later service periods is the registry's to say.

use std::collections::{BTreeSet, HashMap, HashSet};

use anyhow::Context as _;
use platform_ingest::header::Header;
use platform_rating::{Charge, Fate, RATED, Rated, rated_from_arrow};
use platform_registry::levels::{LevelId, Sums, add};
use platform_registry::store as registry;
use platform_usage::{Dimensions, OWN_SOURCE};
use shared_db::Transaction;
use shared_types::{Digest, Instant, MeterId, OrganizationId, ProjectId, Quantity, SourceId};

use crate::lake::{CHARGES, Lake};

/// The meters that measure levels, by registry version.
#[derive(Default)]
pub struct LevelMeters(HashMap<Digest, HashSet<MeterId>>);

impl LevelMeters {
    /// Looks up versions that are not known yet.
    pub async fn learn(&mut self, books: &mut Transaction, versions: BTreeSet<Digest>) -> anyhow::Result<()> {
        for version in versions {
            if !self.knows(&version) {
                let found = registry::version(books, version).await?;
                let found = found.with_context(|| format!("registry version {version} is not in the books"))?;
                let meters = found.meters().filter(|meter| meter.is_level()).map(|meter| meter.id.clone()).collect();
                self.0.insert(version, meters);
            }
        }
        Ok(())
    }

    /// Whether a version was looked up.
    pub fn knows(&self, version: &Digest) -> bool {
        self.0.contains_key(version)
    }
}

/// What a row of `charges` says of a change.
#[derive(Clone, Copy)]
pub struct Change<'a> {
    organization: &'a OrganizationId,
    project: &'a Option<ProjectId>,
    meter: &'a MeterId,
    dimensions: &'a Dimensions,
    quantity: Quantity,
    start_at: Instant,
    /// The version that the row was rated under.
    pub version: Digest,
}

impl<'a> Change<'a> {
    /// None where it has an end, is in quarantine, or was stated by the deployment itself: these are what levels are carried by.
    fn of(source: &SourceId, end_at: Option<Instant>, fate: &Fate, change: Self) -> Option<Self> {
        (end_at.is_none() && fate.priced().is_some() && source.as_str() != OWN_SOURCE).then_some(change)
    }

    /// Of a charge.
    pub fn of_charge(charge: &'a Charge) -> Option<Self> {
        let Charge { organization, project, meter, dimensions, quantity, start_at, registry_version, .. } = charge;
        let change =
            Change { organization, project, meter, dimensions, quantity: *quantity, start_at: *start_at, version: *registry_version };
        Self::of(&charge.source, charge.end_at, &charge.fate, change)
    }

    fn of_rated(rated: &'a Rated) -> Option<Self> {
        let Rated { organization, project, meter, dimensions, quantity, start_at, registry_version, .. } = rated;
        let change =
            Change { organization, project, meter, dimensions, quantity: *quantity, start_at: *start_at, version: *registry_version };
        Self::of(&rated.source, rated.end_at, &rated.fate, change)
    }

    /// Adds it to the sums, if its meter measures a level. Rows that take others back have the opposite quantity.
    pub fn add_to(&self, sums: &mut Sums, meters: &LevelMeters) {
        if meters.0.get(&self.version).is_some_and(|meters| meters.contains(self.meter)) {
            let Self { organization, project, meter, dimensions, quantity, start_at, .. } = *self;
            let level = LevelId {
                organization: organization.clone(),
                project: project.clone(),
                meter: meter.clone(),
                dimensions: dimensions.clone(),
            };
            add(sums, level, start_at.month(), Some(quantity.units()));
        }
    }
}

/// Adds the changes of a committed batch to the sums.
pub async fn add_batch(
    lake: &Lake,
    books: &mut Transaction,
    header: &Header,
    meters: &mut LevelMeters,
    sums: &mut Sums,
) -> anyhow::Result<()> {
    for rows in lake.read(header, CHARGES, Some(RATED))? {
        let rows = rated_from_arrow(&rows)?;
        let changes: Vec<Change<'_>> = rows.iter().filter_map(Change::of_rated).collect();
        let versions = changes.iter().map(|change| change.version).collect();
        meters.learn(books, versions).await?;
        changes.iter().for_each(|change| change.add_to(sums, meters));
    }
    Ok(())
}
