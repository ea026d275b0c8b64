//! The registry from outside: frozen folders, imported prices, reach-back, the tables on both engines.

#[cfg(test)]
#[path = "registry/band.rs"]
mod band;
#[cfg(test)]
#[path = "registry/billable.rs"]
mod billable;
#[cfg(test)]
#[path = "registry/checks.rs"]
mod checks;
#[cfg(test)]
#[path = "registry/diff.rs"]
mod diff;
#[cfg(test)]
#[path = "registry/drafts.rs"]
mod drafts;
#[cfg(test)]
#[path = "registry/golden.rs"]
mod golden;
#[cfg(test)]
#[path = "registry/import.rs"]
mod import;
#[cfg(test)]
#[path = "registry/levels.rs"]
mod levels;
#[cfg(test)]
#[path = "registry/models.rs"]
mod models;
#[cfg(test)]
#[path = "registry/plausibility.rs"]
mod plausibility;
#[cfg(test)]
#[path = "registry/reach.rs"]
mod reach;
#[cfg(test)]
#[path = "registry/schema.rs"]
mod schema;
#[cfg(test)]
#[path = "registry/store.rs"]
mod store;
#[cfg(test)]
#[path = "registry/terms.rs"]
mod terms;
#[cfg(test)]
#[path = "registry/windows.rs"]
mod windows;
#[cfg(test)]
#[path = "registry/zones.rs"]
mod zones;
