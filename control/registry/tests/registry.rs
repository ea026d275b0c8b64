//! The registry from outside: frozen folders, reach-back, the tables on both engines.

#[cfg(test)]
#[path = "registry/golden.rs"]
mod golden;
#[cfg(test)]
#[path = "registry/models.rs"]
mod models;
#[cfg(test)]
#[path = "registry/reach.rs"]
mod reach;
#[cfg(test)]
#[path = "registry/store.rs"]
mod store;
