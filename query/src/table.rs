//! A read model as a table of the engine. The scope is fixed when the table is made and goes down with every scan: nothing that a query
//! says can reach above it. For an organization every row is looked at once more on its way up.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::arrow::array::AsArray;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt, stream};
use platform_catalog::{AsOf, Audience, BatchStream, CatalogError, Comparison, Filter, FilterValue, ReadModel, Scope, Support};
use shared_types::Instant;
use tokio::runtime::Handle;
use tokio::sync::mpsc;

use crate::error::Raised;
use crate::workers::Running;

/// One read model for one scope, as of one batch.
#[derive(Clone)]
pub(crate) struct ModelTable {
    model: Arc<dyn ReadModel>,
    scope: Scope,
    as_of: AsOf,
    reader: Handle,
}

impl ModelTable {
    pub(crate) fn new(model: Arc<dyn ReadModel>, scope: Scope, as_of: AsOf, reader: Handle) -> Self {
        Self { model, scope, as_of, reader }
    }
}

impl fmt::Debug for ModelTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModelTable({})", self.model.name())
    }
}

#[async_trait]
impl TableProvider for ModelTable {
    fn schema(&self) -> SchemaRef {
        self.model.schema_for(&self.scope)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match filter_of(filter).map(|filter| self.model.support(&filter)) {
            Some(Support::Exact) => TableProviderFilterPushDown::Exact,
            Some(Support::Hint) => TableProviderFilterPushDown::Inexact,
            Some(Support::Refused) | None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        _: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let all = self.model.schema_for(&self.scope);
        let columns: Vec<usize> = match projection {
            Some(columns) => columns.clone(),
            None => (0..all.fields().len()).collect(),
        };
        let schema: SchemaRef = Arc::new(all.project(&columns)?);
        let mut wanted = Vec::with_capacity(filters.len());
        for filter in filters {
            let Some(filter) = filter_of(filter) else {
                return Err(DataFusionError::Internal(format!("the filter {filter} was pushed down without being supported")));
            };
            wanted.push(filter);
        }
        let rows = Rows { table: self.clone(), schema: Arc::clone(&schema), columns, filters: wanted };
        Ok(Arc::new(StreamingTableExec::try_new(schema, vec![Arc::new(rows)], None, None, false, limit)?))
    }
}

/// One scan.
#[derive(Debug, Clone)]
struct Rows {
    table: ModelTable,
    schema: SchemaRef,
    columns: Vec<usize>,
    filters: Vec<Filter>,
}

impl PartitionStream for Rows {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = match self.start() {
            Ok(batches) => batches,
            Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
        };
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

impl Rows {
    fn start(&self) -> Result<BoxStream<'static, Result<RecordBatch>>> {
        let ModelTable { model, scope, as_of, reader } = self.table.clone();
        let mut columns = self.columns.clone();
        // Behind the wanted columns comes the one that tells whose a row is.
        let guard = match (&scope, model.description().audience()) {
            (Scope::Organization(organization), Audience::Organizations { column }) => {
                columns.push(model.schema_for(&scope).index_of(column)?);
                Some(organization.clone())
            }
            _ => None,
        };
        let (name, wanted, filters) = (model.name().to_string(), self.columns.len(), self.filters.clone());
        let batches = read_on(&reader, async move { model.scan(&scope, Some(&columns), &filters, as_of).await });
        let passed = batches.map(move |batch| {
            let batch = batch?;
            let Some(organization) = &guard else {
                return Ok(batch);
            };
            let owners = batch.column(wanted).as_string::<i32>();
            if owners.iter().any(|owner| owner != Some(organization.as_str())) {
                return Err(Raised::Isolation { model: name.clone() }.into());
            }
            Ok(batch.project(&(0..wanted).collect::<Vec<_>>())?)
        });
        if matches!(self.table.scope, Scope::Organization(_)) {
            return Ok(even(Arc::clone(&self.schema), passed.boxed()).boxed());
        }
        Ok(passed.boxed())
    }
}

/// Rows in a batch that goes up to an organization's query.
const EVEN_ROWS: usize = 8_192;

/// The same rows in batches of one size. How they lay in files, between the rows of others, then shows neither in the order in which they
/// are worked on nor in where an answer is cut.
fn even(schema: SchemaRef, batches: BoxStream<'static, Result<RecordBatch>>) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    stream::try_unfold((batches, Vec::new(), 0_usize), move |(mut batches, mut held, mut rows)| {
        let schema = Arc::clone(&schema);
        async move {
            while rows < EVEN_ROWS {
                let Some(batch) = batches.next().await else { break };
                let batch = batch?;
                rows = rows.saturating_add(batch.num_rows());
                held.push(batch);
            }
            if rows == 0 {
                return Ok(None);
            }
            let all = concat_batches(&schema, &held)?;
            let full = rows.min(EVEN_ROWS);
            let rest = rows.saturating_sub(full);
            Ok(Some((all.slice(0, full), (batches, vec![all.slice(full, rest)], rest))))
        }
    })
}

/// Runs a scan on the reader's threads and hands its batches over, a few ahead. A scan that panics is an error, never a short answer.
fn read_on(
    reader: &Handle,
    scan: impl Future<Output = Result<BatchStream, CatalogError>> + Send + 'static,
) -> impl Stream<Item = Result<RecordBatch>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(2);
    let task = Running(reader.spawn(async move {
        let mut batches = match scan.await {
            Ok(batches) => batches,
            Err(error) => stream::once(std::future::ready(Err(error))).boxed(),
        };
        while let Some(batch) = batches.next().await {
            // Nobody listens any more when the query has ended.
            if sender.send(batch).await.is_err() {
                break;
            }
        }
    }));
    stream::try_unfold((receiver, Some(task)), |(mut receiver, mut task)| async move {
        match receiver.recv().await {
            Some(Ok(batch)) => Ok(Some((batch, (receiver, task)))),
            Some(Err(error)) => Err(DataFusionError::External(Box::new(error))),
            None => match task.take() {
                Some(task) => match task.await {
                    Ok(()) => Ok(None),
                    Err(error) => Err(DataFusionError::External(Box::new(error))),
                },
                None => Ok(None),
            },
        }
    })
}

/// `column comparison literal`, either way round, as a filter; `None` for everything else.
fn filter_of(expr: &Expr) -> Option<Filter> {
    let Expr::BinaryExpr(BinaryExpr { left, op, right }) = expr else {
        return None;
    };
    let (column, op, literal) = match (left.as_ref(), right.as_ref()) {
        (Expr::Column(column), Expr::Literal(literal, _)) => (column, *op, literal),
        (Expr::Literal(literal, _), Expr::Column(column)) => (column, op.swap()?, literal),
        _ => return None,
    };
    let comparison = match op {
        Operator::Eq => Comparison::Eq,
        Operator::Lt => Comparison::Lt,
        Operator::LtEq => Comparison::Le,
        Operator::Gt => Comparison::Gt,
        Operator::GtEq => Comparison::Ge,
        _ => return None,
    };
    Some(Filter { column: column.name.clone(), comparison, value: value_of(literal)? })
}

fn value_of(literal: &ScalarValue) -> Option<FilterValue> {
    Some(match literal {
        ScalarValue::Utf8(Some(text)) | ScalarValue::LargeUtf8(Some(text)) | ScalarValue::Utf8View(Some(text)) => {
            FilterValue::Text(text.clone())
        }
        ScalarValue::Int8(Some(number)) => FilterValue::Integer(i64::from(*number)),
        ScalarValue::Int16(Some(number)) => FilterValue::Integer(i64::from(*number)),
        ScalarValue::Int32(Some(number)) => FilterValue::Integer(i64::from(*number)),
        ScalarValue::Int64(Some(number)) => FilterValue::Integer(*number),
        ScalarValue::UInt64(Some(number)) => FilterValue::Integer(i64::try_from(*number).ok()?),
        ScalarValue::Decimal128(Some(units), _, scale) => FilterValue::Decimal { units: *units, scale: *scale },
        ScalarValue::TimestampMicrosecond(Some(micros), _) => FilterValue::At(Instant::from_micros(*micros).ok()?),
        ScalarValue::Binary(Some(bytes)) | ScalarValue::FixedSizeBinary(_, Some(bytes)) => FilterValue::Bytes(bytes.clone()),
        ScalarValue::Boolean(Some(truth)) => FilterValue::Boolean(*truth),
        _ => return None,
    })
}
