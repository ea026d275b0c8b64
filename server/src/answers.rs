//! What the API and the commands answer from: the query engine over the read models, and the registry's documents. Every question names
//! the scope on whose behalf it is asked; the filter sits below, in the read models.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use arrow::record_batch::RecordBatch;
use platform_catalog::{AsOf, Catalog, CatalogError, Filter, ModelName, Scope};
use platform_query::{Limits, QueryEngine, QueryError, QueryOptions, QueryResult, render};
use platform_registry::Compiled;
use platform_usage::IdentityKey;
use serde_json::{Map, Value};
use shared_types::Digest;

use crate::home::{Home, QuerySettings};
use crate::read_models::{self, Readers};

/// Cheap handle over a home's read models.
#[derive(Clone)]
pub struct Answers {
    engine: Arc<QueryEngine>,
    /// The databases of the home, opened for reading.
    pub readers: Readers,
    /// Keys the identity hashes.
    pub identity: IdentityKey,
    compiled: Arc<parking_lot::RwLock<HashMap<Digest, Arc<Compiled>>>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum AnswerError {
    /// The engine refused or failed.
    #[error(transparent)]
    Query(#[from] QueryError),
    /// A read model could not be read.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
    /// Anything else, for the operator's log.
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

/// One row of an answer: decimals and instants are texts, bytes hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row(Map<String, Value>);

impl Row {
    /// A text; none when it is null.
    pub fn text(&self, column: &str) -> Option<&str> {
        self.0.get(column).and_then(Value::as_str)
    }

    /// An integer; none when it is null.
    pub fn integer(&self, column: &str) -> Option<i64> {
        self.0.get(column).and_then(Value::as_i64)
    }

    /// A decimal without trailing zeros; none when it is null.
    pub fn decimal(&self, column: &str) -> Option<String> {
        let text = self.text(column)?;
        Some(if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text.to_owned() })
    }
}

impl Answers {
    /// Opens a home's read models.
    pub async fn open(home: &Home) -> anyhow::Result<Self> {
        let readers = Readers::open(home).await?;
        let engine = QueryEngine::new(read_models::catalog_over(&readers)?, options(&home.settings.query))?;
        Ok(Self { engine: Arc::new(engine), readers, identity: IdentityKey::new(&home.secrets()?.identity), compiled: Arc::default() })
    }

    /// The engine.
    pub fn engine(&self) -> &QueryEngine {
        &self.engine
    }

    fn catalog(&self) -> &Catalog {
        self.engine.catalog()
    }

    /// The rows of a question in SQL.
    pub async fn rows(&self, sql: &str, scope: &Scope) -> Result<Vec<Row>, AnswerError> {
        rows(&self.engine.query(sql, scope, AsOf(None), Limits::default()).await?)
    }

    /// The rows of a read model that pass the filters, read without the engine. Columns that do not exist for the scope are left out.
    pub async fn scan(&self, model: &str, scope: &Scope, columns: &[&str], filters: &[Filter]) -> Result<RecordBatch, AnswerError> {
        let name = ModelName::parse(model)?;
        let found = self.catalog().get(&name).with_context(|| format!("there is no read model {model}"))?;
        let shown = found.schema_for(scope);
        let wanted: Vec<usize> = columns.iter().filter_map(|column| shown.index_of(column).ok()).collect();
        let batches = found.scan(scope, Some(&wanted), filters, AsOf(None)).await?;
        let schema = shown.project(&wanted).map_err(CatalogError::from)?;
        Ok(platform_catalog::collect(&schema, batches).await?)
    }

    /// [`Answers::scan`] as rows.
    pub async fn scan_rows(&self, model: &str, scope: &Scope, columns: &[&str], filters: &[Filter]) -> Result<Vec<Row>, AnswerError> {
        let batch = self.scan(model, scope, columns, filters).await?;
        rows(&QueryResult { schema: batch.schema(), batches: vec![batch], truncated: false })
    }

    /// A registry version, compiled once; its content is hashed when it is read.
    pub async fn registry(&self, address: Digest) -> Result<Arc<Compiled>, AnswerError> {
        if let Some(found) = self.compiled.read().get(&address) {
            return Ok(Arc::clone(found));
        }
        let mut tx = self.readers.books.read().await.map_err(anyhow::Error::from)?;
        let version = platform_registry::store::version(&mut tx, address)
            .await
            .map_err(anyhow::Error::from)?
            .with_context(|| format!("registry version {address} is not in the books"))?;
        let compiled = Arc::new(platform_registry::compile(&version).map_err(anyhow::Error::from)?);
        self.compiled.write().insert(address, Arc::clone(&compiled));
        Ok(compiled)
    }
}

/// What queries of a home may use.
pub fn options(settings: &QuerySettings) -> QueryOptions {
    QueryOptions {
        memory_bytes: settings.memory_bytes_max,
        timeout: Duration::from_millis(settings.timeout_ms),
        max_rows: settings.rows_max,
        queries: settings.concurrent_max,
        ..QueryOptions::default()
    }
}

/// The rows of an answer.
pub fn rows(result: &QueryResult) -> Result<Vec<Row>, AnswerError> {
    let lines = render(result, platform_query::Format::Ndjson)?;
    let rows = serde_json::Deserializer::from_slice(&lines).into_iter::<Map<String, Value>>();
    Ok(rows.map(|row| row.map(Row)).collect::<Result<_, _>>().context("an answer does not read")?)
}
