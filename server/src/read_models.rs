//! The read models of a home: what `tally sql` can name. Everything is opened for reading only, beside an owner or without one.

pub mod audit;
pub mod billing;
pub mod evidence;
pub mod ledger;
pub mod prune;
pub mod registry;
pub mod rows;
pub mod sys;
pub mod usage;
pub mod what_if;

use std::sync::Arc;

use platform_catalog::Catalog;
use shared_db::Database;

use crate::home::{Home, Store};
use crate::lake::Lake;

/// The databases of a home, opened for reading.
#[derive(Clone)]
pub struct Readers {
    /// The home.
    pub home: Home,
    /// Batch log.
    pub log: Database,
    /// Registry and ledger.
    pub books: Database,
    /// DuckLake catalog.
    pub catalog: Database,
    /// Usage buckets.
    pub usage: Database,
    /// Evidence.
    pub evidence: Database,
    /// Data files.
    pub lake: Lake,
}

impl Readers {
    /// Opens them.
    pub async fn open(home: &Home) -> anyhow::Result<Self> {
        let log = home.database_read_only(Store::Log).await?;
        Ok(Self {
            home: home.clone(),
            lake: Lake::open_lenient(home, &log).await?,
            log,
            books: home.database_read_only(Store::Books).await?,
            catalog: home.database_read_only(Store::Lake).await?,
            usage: home.database_read_only(Store::Usage).await?,
            evidence: home.database_read_only(Store::Evidence).await?,
        })
    }
}

/// Every read model.
pub fn catalog_over(readers: &Readers) -> anyhow::Result<Arc<Catalog>> {
    let catalog = Catalog::new();
    for model in usage::models(readers)? {
        catalog.register(model)?;
    }
    for model in ledger::models(readers)? {
        catalog.register(model)?;
    }
    for model in billing::models(readers)? {
        catalog.register(model)?;
    }
    for model in registry::models(readers)? {
        catalog.register(model)?;
    }
    for model in evidence::models(readers)? {
        catalog.register(model)?;
    }
    for model in audit::models(readers)? {
        catalog.register(model)?;
    }
    for model in sys::models(readers)? {
        catalog.register(model)?;
    }
    Ok(Arc::new(catalog))
}
