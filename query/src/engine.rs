//! From a text and a scope to rows, within limits. It knows sessions and read models, no protocol and no output format.

use std::sync::Arc;
use std::time::Duration;

use datafusion::arrow::array::AsArray;
use datafusion::arrow::datatypes::{DataType, Decimal128Type, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::error::{DataFusionError, Result as EngineResult};
use datafusion::execution::context::SQLOptions;
use datafusion::execution::memory_pool::MemoryConsumer;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::LogicalPlan;
use datafusion::physical_plan::execute_stream;
use datafusion::sql::parser::Statement;
use futures::StreamExt;
use platform_catalog::{AsOf, Catalog, ModelName, ReadModel, Scope};
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::error::{QueryError, Raised};
use crate::information;
use crate::session::Sessions;
use crate::statement::{Ask, parse};
use crate::workers::{Stop, Workers};

/// What all queries of an engine may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueryOptions {
    /// Memory of each query, its result included. Nothing is ever written to disk.
    pub memory_bytes: usize,
    /// How long a query may take.
    pub timeout: Duration,
    /// How many rows an answer has at most.
    pub max_rows: usize,
    /// How many threads compute, and into how many parts the work of an operator's query is split.
    pub threads: usize,
    /// How many queries run at once; further ones wait for a place, and their time runs.
    pub queries: usize,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self { memory_bytes: 512 * 1024 * 1024, timeout: Duration::from_secs(30), max_rows: 10_000, threads: 2, queries: 4 }
    }
}

/// What one query may use, never more than the engine's options allow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// A shorter time than the engine's.
    pub timeout: Option<Duration>,
    /// Fewer rows than the engine's.
    pub max_rows: Option<usize>,
    /// Less memory than the engine's.
    pub memory_bytes: Option<usize>,
}

/// An answer.
#[derive(Clone, Debug)]
pub struct QueryResult {
    /// The columns.
    pub schema: SchemaRef,
    /// The rows, in order.
    pub batches: Vec<RecordBatch>,
    /// Whether there were more rows than the limit; those are missing.
    pub truncated: bool,
}

impl QueryResult {
    fn of(batch: RecordBatch) -> Self {
        Self { schema: batch.schema(), batches: vec![batch], truncated: false }
    }

    /// How many rows there are.
    pub fn rows(&self) -> usize {
        self.batches.iter().map(RecordBatch::num_rows).sum()
    }
}

/// Answers SQL over the read models of a catalog.
#[derive(Debug)]
pub struct QueryEngine {
    catalog: Arc<Catalog>,
    options: QueryOptions,
    sessions: Arc<Sessions>,
    workers: Workers,
    places: Arc<Semaphore>,
}

impl QueryEngine {
    /// An engine over a catalog, with threads of its own; models registered later are seen too.
    pub fn new(catalog: Arc<Catalog>, options: QueryOptions) -> Result<Self, QueryError> {
        let threads = options.threads.max(1);
        let workers = Workers::new(threads).map_err(|cause| QueryError::of(cause.into(), options.memory_bytes))?;
        let places = Arc::new(Semaphore::new(options.queries.clamp(1, Semaphore::MAX_PERMITS)));
        Ok(Self { catalog, sessions: Arc::new(Sessions::new(threads)), workers, places, options })
    }

    /// The read models that it answers from.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Answers one statement for a scope, as of a batch.
    ///
    /// - Nulls: as SQL has them.
    /// - Errors: see [`QueryError`]. An answer is whole, or marked as truncated, or an error: never wrong digits.
    /// - Computes on the engine's threads and reads the models on the current tokio runtime; dropping the future stops the query.
    pub async fn query(&self, sql: &str, scope: &Scope, as_of: AsOf, limits: Limits) -> Result<QueryResult, QueryError> {
        self.query_with(sql, scope, as_of, limits, &[]).await
    }

    /// [`QueryEngine::query`] with read models that exist for this question alone, beside those of the catalog.
    ///
    /// - `more`: names that the catalog does not have; what the scope may not know of is left out, as always.
    #[tracing::instrument(skip_all, err)]
    pub async fn query_with(
        &self,
        sql: &str,
        scope: &Scope,
        as_of: AsOf,
        limits: Limits,
        more: &[Arc<dyn ReadModel>],
    ) -> Result<QueryResult, QueryError> {
        let timeout = limits.timeout.map_or(self.options.timeout, |timeout| timeout.min(self.options.timeout));
        let late = |_| QueryError::Timeout { limit: timeout };
        let deadline = Instant::now().checked_add(timeout).ok_or(QueryError::Timeout { limit: timeout })?;
        let waiting = Arc::clone(&self.places).acquire_owned();
        let Ok(place) = tokio::time::timeout_at(deadline, waiting).await.map_err(late)? else {
            return Err(asked_too_late());
        };
        let stop = Stop::default();
        let memory_bytes = limits.memory_bytes.map_or(self.options.memory_bytes, |bytes| bytes.min(self.options.memory_bytes));
        let asked = Asked {
            sessions: Arc::clone(&self.sessions),
            models: self.catalog.visible(scope).into_iter().chain(more.iter().filter(|model| model.serves(scope)).cloned()).collect(),
            scope: scope.clone(),
            as_of,
            max_rows: limits.max_rows.map_or(self.options.max_rows, |rows| rows.min(self.options.max_rows)),
            memory_bytes,
            reader: Handle::current(),
            stop: stop.clone(),
            _place: place,
        };
        // Leaving this function, in whatever way, stops the task: at its next pause, or in a long join at its next step.
        let _stopped = stop.on_drop();
        let text = sql.to_owned();
        let Some(task) = self.workers.spawn(async move { asked.answer(&text).await }) else {
            return Err(asked_too_late());
        };
        match tokio::time::timeout_at(deadline, task).await.map_err(late)? {
            Ok(answer) => answer,
            Err(error) => Err(QueryError::of(DataFusionError::External(Box::new(error)), memory_bytes)),
        }
    }
}

fn asked_too_late() -> QueryError {
    QueryError::of(DataFusionError::Internal("the engine is being closed".to_owned()), 0)
}

fn find(models: &[Arc<dyn ReadModel>], name: &[String]) -> Result<Arc<dyn ReadModel>, QueryError> {
    let missing = || QueryError::Invalid { detail: format!("there is no table {}", name.join(".")) };
    let wanted = ModelName::parse(&name.join(".")).map_err(|_| missing())?;
    models.iter().find(|model| *model.name() == wanted).cloned().ok_or_else(missing)
}

/// One question, on its way.
struct Asked {
    sessions: Arc<Sessions>,
    models: Vec<Arc<dyn ReadModel>>,
    scope: Scope,
    as_of: AsOf,
    max_rows: usize,
    memory_bytes: usize,
    reader: Handle,
    stop: Stop,
    /// Given back when the work has ended, not when nobody waits for it any more.
    _place: OwnedSemaphorePermit,
}

impl Asked {
    async fn answer(self, sql: &str) -> Result<QueryResult, QueryError> {
        let error = |error| QueryError::of(error, self.memory_bytes);
        let ask = parse(sql)?;
        if let Ask::Describe(name) = &ask {
            let model = find(&self.models, name)?;
            return information::described(model.as_ref(), &self.scope).map(QueryResult::of).map_err(|cause| error(cause.into()));
        }
        let Ask::Query(statement) = ask else {
            return information::shown_tables(&self.models).map(QueryResult::of).map_err(|cause| error(cause.into()));
        };
        if let (Statement::Explain(explain), Scope::Organization(_)) = (statement.as_ref(), &self.scope)
            && explain.options.analyze
        {
            return Err(QueryError::refused("EXPLAIN ANALYZE", "its figures are those of the machine, which others use too; use EXPLAIN"));
        }
        let opened = self.sessions.open(&self.models, &self.scope, self.as_of, &self.reader, self.memory_bytes, self.stop.clone());
        let state = opened.map_err(error)?;
        run(state, *statement, self.max_rows).await.map_err(error)
    }
}

/// Plans, checks, runs and collects.
async fn run(state: SessionState, statement: Statement, max_rows: usize) -> EngineResult<QueryResult> {
    let plan = checked(&state, statement).await?;
    let plan = state.create_physical_plan(&plan).await?;
    let schema = plan.schema();
    let mut stream = execute_stream(plan, state.task_ctx())?;
    let held = MemoryConsumer::new("result").register(&state.runtime_env().memory_pool);
    let (mut batches, mut rows, mut truncated) = (Vec::new(), 0_usize, false);
    while let Some(batch) = stream.next().await {
        let batch = batch?;
        let room = max_rows.saturating_sub(rows);
        truncated = batch.num_rows() > room;
        let batch = if truncated { batch.slice(0, room) } else { batch };
        check_digits(&batch)?;
        held.try_grow(bytes_of(&batch)?)?;
        rows = rows.saturating_add(batch.num_rows());
        if batch.num_rows() > 0 {
            batches.push(batch);
        }
        if truncated {
            break;
        }
    }
    Ok(QueryResult { schema, batches, truncated })
}

/// Bytes of the rows themselves: a slice does not count for the whole of what it is a part of.
fn bytes_of(batch: &RecordBatch) -> EngineResult<usize> {
    let mut bytes = 0_usize;
    for column in batch.columns() {
        bytes = bytes.saturating_add(column.to_data().get_slice_memory_size()?);
    }
    Ok(bytes)
}

/// The plan of a statement that has passed every check. EXPLAIN is checked like the query that it explains: the engine would print a
/// refusal as a plan.
async fn checked(state: &SessionState, statement: Statement) -> EngineResult<LogicalPlan> {
    let plan = state.statement_to_plan(statement).await?;
    SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false).verify_plan(&plan)?;
    let body = match &plan {
        LogicalPlan::Explain(explain) => explain.plan.as_ref().clone(),
        other => other.clone(),
    };
    state.analyzer().execute_and_check(body, state.config_options(), |_, _| {})?;
    Ok(plan)
}

/// Sums and products of 38 digits may have one digit more than their type says: exact, but not what was promised.
fn check_digits(batch: &RecordBatch) -> EngineResult<()> {
    for (field, column) in batch.schema().fields().iter().zip(batch.columns()) {
        if let DataType::Decimal128(precision, _) = column.data_type() {
            column
                .as_primitive::<Decimal128Type>()
                .validate_decimal_precision(*precision)
                .map_err(|_| Raised::overflow(format!("{} does not fit {}", field.name(), column.data_type())))?;
        }
    }
    Ok(())
}
