//! The trait of read models and the list of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::stream::BoxStream;
use parking_lot::RwLock;
use shared_types::{BatchNo, OrganizationId};

use crate::description::{Audience, Description, ModelName};
use crate::error::CatalogError;
use crate::filter::Filter;

/// On whose behalf rows are read. There is no read without one.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Scope {
    /// All rows of all models.
    Operator,
    /// The rows of one organization, and only of models that have such rows.
    Organization(OrganizationId),
}

/// The last committed batch whose effects are shown; `None` is the newest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct AsOf(pub Option<BatchNo>);

/// Rows as they are read.
pub type BatchStream = BoxStream<'static, Result<RecordBatch, CatalogError>>;

/// What a scan does with a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// Only rows that pass are yielded.
    Exact,
    /// Files or rows that cannot pass may be skipped; rows that do not pass may be yielded.
    Hint,
    /// The scan answers an error when it is given this filter.
    Refused,
}

/// A table that its owner lets queries see.
#[async_trait]
pub trait ReadModel: Send + Sync {
    /// Name, owner, columns, audience.
    fn description(&self) -> &Description;

    /// What `scan` does with this filter.
    fn support(&self, filter: &Filter) -> Support;

    /// Reads the rows of the scope that pass the filters.
    ///
    /// - `projection`: numbers of columns of the schema for this scope, in the order wanted; `None` is all of them.
    /// - `filters`: a conjunction, none of them [`Support::Refused`].
    /// - Errors: `OperatorOnly` when the scope may not see the model, `NoHistory` when `as_of` cannot be honoured; never other rows instead.
    async fn scan(&self, scope: &Scope, projection: Option<&[usize]>, filters: &[Filter], as_of: AsOf)
    -> Result<BatchStream, CatalogError>;

    /// `schema.table`.
    fn name(&self) -> &ModelName {
        self.description().name()
    }

    /// The crate that owns the rows.
    fn owner(&self) -> &'static str {
        self.description().owner()
    }

    /// The columns, the operator's included.
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.description().schema())
    }

    /// The columns that exist for the scope.
    fn schema_for(&self, scope: &Scope) -> SchemaRef {
        Arc::clone(self.description().schema_for(scope))
    }

    /// Whether the scope may know of the model.
    fn serves(&self, scope: &Scope) -> bool {
        match (scope, self.description().audience()) {
            (Scope::Operator, _) | (Scope::Organization(_), Audience::Organizations { .. }) => true,
            (Scope::Organization(_), Audience::Operator) => false,
        }
    }
}

impl std::fmt::Debug for dyn ReadModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ReadModel({})", self.name())
    }
}

/// All read models of a process, by name.
#[derive(Debug, Default)]
pub struct Catalog {
    models: RwLock<BTreeMap<ModelName, Arc<dyn ReadModel>>>,
}

impl Catalog {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a model; a second one of the same name is refused.
    pub fn register(&self, model: Arc<dyn ReadModel>) -> Result<(), CatalogError> {
        let mut models = self.models.write();
        if models.contains_key(model.name()) {
            return Err(CatalogError::Duplicate { model: model.name().to_string() });
        }
        models.insert(model.name().clone(), model);
        Ok(())
    }

    /// The model of a name.
    pub fn get(&self, name: &ModelName) -> Option<Arc<dyn ReadModel>> {
        self.models.read().get(name).cloned()
    }

    /// All models, by name.
    pub fn list(&self) -> Vec<Arc<dyn ReadModel>> {
        self.models.read().values().cloned().collect()
    }

    /// The models that the scope may know of, by name.
    pub fn visible(&self, scope: &Scope) -> Vec<Arc<dyn ReadModel>> {
        self.models.read().values().filter(|model| model.serves(scope)).cloned().collect()
    }
}
