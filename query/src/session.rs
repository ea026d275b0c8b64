//! A session for one query: its catalog holds the read models of its scope and two tables about them, its functions are the closed list,
//! its analyser ends with the money rule. Sessions share nothing.

use std::collections::HashMap;
use std::sync::Arc;

use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemTable, MemoryCatalogProvider, MemoryCatalogProviderList, MemorySchemaProvider, SchemaProvider,
    TableProvider,
};
use datafusion::common::config::Dialect;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::{AggregateUDF, ScalarUDF, WindowUDF};
use datafusion::prelude::SessionConfig;
use platform_catalog::{AsOf, ReadModel, Scope};
use tokio::runtime::Handle;

use crate::functions;
use crate::information::{self, CATALOG};
use crate::money;
use crate::table::ModelTable;
use crate::workers::{Interruptible, Stop};

/// Where a table without a schema is looked for.
const DEFAULT_SCHEMA: &str = "usage";

/// What all sessions of an engine have in common.
#[derive(Debug)]
pub(crate) struct Sessions {
    config: SessionConfig,
    scalar: Vec<Arc<ScalarUDF>>,
    aggregate: Vec<Arc<AggregateUDF>>,
    window: Vec<Arc<WindowUDF>>,
}

impl Sessions {
    pub(crate) fn new(threads: usize) -> Self {
        let mut config = SessionConfig::new()
            .with_create_default_catalog_and_schema(false)
            .with_default_catalog_and_schema(CATALOG, DEFAULT_SCHEMA)
            .with_information_schema(false)
            .with_target_partitions(threads);
        let options = config.options_mut();
        options.sql_parser.parse_float_as_decimal = true;
        options.sql_parser.dialect = Dialect::PostgreSQL;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.execution.time_zone = Some("+00:00".to_owned());
        options.execution.enable_recursive_ctes = false;
        options.execution.collect_statistics = false;
        // Nothing spills, so nothing needs to be kept back for merging what was spilled.
        options.execution.sort_spill_reservation_bytes = 0;
        Self { config, scalar: functions::scalar(), aggregate: functions::aggregate(), window: functions::window() }
    }

    /// A session over the models that the scope may see, with memory of its own. They are read on the threads of `reader`; long joins
    /// look at `stop`. An organization's session computes in one part, so that the order of its rows follows from its rows alone.
    pub(crate) fn open(
        &self,
        models: &[Arc<dyn ReadModel>],
        scope: &Scope,
        as_of: AsOf,
        reader: &Handle,
        memory_bytes: usize,
        stop: Stop,
    ) -> Result<SessionState> {
        let catalogs = MemoryCatalogProviderList::new();
        catalogs.register_catalog(CATALOG.to_owned(), Arc::new(catalog(models, scope, as_of, reader)?));
        let config = match scope {
            Scope::Operator => self.config.clone(),
            Scope::Organization(_) => self.config.clone().with_target_partitions(1),
        };
        Ok(SessionStateBuilder::new()
            .with_session_id(String::new())
            .with_config(config)
            .with_runtime_env(memory_alone(memory_bytes)?)
            .with_catalog_list(Arc::new(catalogs))
            .with_expr_planners(SessionStateDefaults::default_expr_planners())
            .with_scalar_functions(self.scalar.clone())
            .with_aggregate_functions(self.aggregate.clone())
            .with_window_functions(self.window.clone())
            .with_analyzer_rule(money::rule())
            .with_physical_optimizer_rule(Arc::new(Interruptible { stop }))
            .build())
    }
}

/// Memory for one query: what others use cannot make it fail. Nothing is ever written to disk.
fn memory_alone(bytes: usize) -> Result<Arc<RuntimeEnv>> {
    RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(GreedyMemoryPool::new(bytes)))
        .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
        .build_arc()
}

fn catalog(models: &[Arc<dyn ReadModel>], scope: &Scope, as_of: AsOf, reader: &Handle) -> Result<MemoryCatalogProvider> {
    let mut schemas: HashMap<String, MemorySchemaProvider> = HashMap::new();
    for model in models {
        let table = ModelTable::new(Arc::clone(model), scope.clone(), as_of, reader.clone());
        let schema = schemas.entry(model.name().schema().to_owned()).or_default();
        schema.register_table(model.name().table().to_owned(), Arc::new(table))?;
    }
    let about = schemas.entry("information_schema".to_owned()).or_default();
    about.register_table("tables".to_owned(), constant(information::tables(models)?)?)?;
    about.register_table("columns".to_owned(), constant(information::columns(models, scope)?)?)?;
    let catalog = MemoryCatalogProvider::new();
    for (name, schema) in schemas {
        catalog.register_schema(&name, Arc::new(schema))?;
    }
    Ok(catalog)
}

fn constant(batch: RecordBatch) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    Ok(Arc::new(MemTable::try_new(batch.schema(), vec![vec![batch]])?))
}
