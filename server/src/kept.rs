//! What stays as it is under every version, also where usage is rated again: fees and levels that were stated, and terms of closed months. Asked
//! where a version is published, and where it is previewed.

use std::collections::BTreeSet;

use platform_registry::{Schedule, TermSchedule, Version, carried, levels, store as registry};
use shared_db::Transaction;
use shared_types::OrganizationId;

/// Refuses a version that says otherwise of what stays.
///
/// - `used`: organizations with rated usage.
/// - Errors: [`platform_registry::recurring::Changed`], [`platform_registry::levels::LevelChanged`], [`platform_registry::TermsChanged`].
pub async fn refuse_changed(
    books: &mut Transaction,
    active: Option<&Version>,
    version: &Version,
    used: &BTreeSet<&OrganizationId>,
) -> anyhow::Result<()> {
    if let Some(last) = registry::tick_before(books, registry::LATEST).await? {
        Schedule::of(version).refuse_changed(&last)?;
    }
    if let Some(active) = active {
        levels::refuse_changed(&carried::meters(books).await?, active, version)?;
    }
    if let Some((_, closed)) = registry::closes(books).await?.last() {
        let before = active.map(TermSchedule::of).unwrap_or_default();
        before.refuse_changed(&TermSchedule::of(version), *closed, |organization| used.contains(organization))?;
    }
    Ok(())
}
