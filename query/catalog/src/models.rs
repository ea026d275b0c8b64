//! Two ready-made read models: rows from anywhere, and rows from a list of files. Both apply the organization's filter and all
//! other filters to what their readers yield, so that a reader may use them or not; neither knows a file format or a database.

use std::sync::Arc;

use arrow::compute::concat_batches;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};

use crate::description::{Audience, Description};
use crate::error::CatalogError;
use crate::filter::{Comparison, Filter, FilterValue, keep};
use crate::model::{AsOf, BatchStream, ReadModel, Scope, Support};

/// What a reader is asked for. Using scope and filters early saves work; the model applies them to whatever the reader yields.
#[derive(Clone, Debug)]
pub struct Request {
    /// On whose behalf.
    pub scope: Scope,
    /// The conjunction of wanted conditions; with an organization's scope it ends with `organization column = id`.
    pub filters: Vec<Filter>,
    /// The last batch whose effects are shown. The reader honours it or answers `NoHistory`.
    pub as_of: AsOf,
}

/// What a file's reader is asked for.
#[derive(Clone, Debug)]
pub struct FileReading {
    /// The columns to yield, in this order, with the names and types of the model's schema.
    pub schema: SchemaRef,
    /// Conditions that may be used to skip row groups.
    pub filters: Vec<Filter>,
}

type ReadRows = dyn Fn(Request) -> BoxFuture<'static, Result<BatchStream, CatalogError>> + Send + Sync;
type ListFiles<F> = dyn Fn(Request) -> BoxFuture<'static, Result<Vec<F>, CatalogError>> + Send + Sync;
type ReadFile<F> = dyn Fn(F, FileReading) -> BoxFuture<'static, Result<BatchStream, CatalogError>> + Send + Sync;

/// The scope as a condition, refused where the model has no rows for it.
fn request(description: &Description, scope: &Scope, filters: &[Filter], as_of: AsOf) -> Result<Request, CatalogError> {
    let mut filters = filters.to_vec();
    match (scope, description.audience()) {
        (Scope::Operator, _) => {}
        (Scope::Organization(_), Audience::Operator) => {
            return Err(CatalogError::OperatorOnly { model: description.name().to_string() });
        }
        (Scope::Organization(organization), Audience::Organizations { column }) => filters.push(Filter {
            column: column.to_owned(),
            comparison: Comparison::Eq,
            value: FilterValue::Text(organization.as_str().to_owned()),
        }),
    }
    for filter in &filters {
        let column_type = column_type(description.schema_for(scope), description, &filter.column)?;
        if !filter.fits(column_type) {
            return Err(CatalogError::Filter {
                column: filter.column.clone(),
                column_type: column_type.to_string(),
                value: filter.value.to_string(),
            });
        }
    }
    Ok(Request { scope: scope.clone(), filters, as_of })
}

fn column_type<'a>(schema: &'a SchemaRef, description: &Description, column: &str) -> Result<&'a DataType, CatalogError> {
    let missing = |_| CatalogError::Column { model: description.name().to_string(), column: column.to_owned() };
    Ok(schema.field_with_name(column).map_err(missing)?.data_type())
}

fn support(description: &Description, filter: &Filter) -> Support {
    match column_type(description.schema(), description, &filter.column) {
        Ok(column_type) if filter.fits(column_type) => Support::Exact,
        Ok(_) | Err(_) => Support::Refused,
    }
}

/// Column numbers of the scope's schema, checked, as numbers of the whole schema; all that exist for the scope when `None`.
fn wanted(description: &Description, scope: &Scope, projection: Option<&[usize]>) -> Result<Vec<usize>, CatalogError> {
    let (all, shown) = (description.schema(), description.schema_for(scope));
    let whole = |column: usize| match shown.fields().get(column) {
        Some(field) => Ok(all.index_of(field.name())?),
        None => Err(CatalogError::Column { model: description.name().to_string(), column: column.to_string() }),
    };
    match projection {
        None => (0..shown.fields().len()).map(whole).collect(),
        Some(columns) => columns.iter().copied().map(whole).collect(),
    }
}

/// Checks the shape of a yielded batch, then applies filters and projection. `columns` are positions in `expected`.
fn shaped(
    batch: RecordBatch,
    model: &str,
    expected: &SchemaRef,
    filters: &[Filter],
    columns: &[usize],
) -> Result<RecordBatch, CatalogError> {
    let shape = |defect: String| CatalogError::Shape { model: model.to_owned(), defect };
    if batch.num_columns() != expected.fields().len() {
        return Err(shape(format!("{} columns instead of {}", batch.num_columns(), expected.fields().len())));
    }
    for (found, field) in batch.schema_ref().fields().iter().zip(expected.fields()) {
        if found.name() != field.name() || found.data_type() != field.data_type() {
            return Err(shape(format!(
                "column {} {} where {} {} was expected",
                found.name(),
                found.data_type(),
                field.name(),
                field.data_type()
            )));
        }
    }
    // Field metadata of the reader (Parquet field ids) is dropped: the model's schema is the one that was promised.
    let options = arrow::record_batch::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    let batch = RecordBatch::try_new_with_options(Arc::clone(expected), batch.columns().to_vec(), &options)
        .map_err(|error| shape(error.to_string()))?;
    Ok(keep(&batch, filters)?.project(columns)?)
}

/// A read model whose rows come from a closure, for example from a table of the owner's database.
pub struct RowsModel {
    description: Description,
    read: Arc<ReadRows>,
}

impl RowsModel {
    /// `read` yields batches with all columns of the schema, in order. It may ignore scope and filters, never `as_of`.
    pub fn new<R>(description: Description, read: R) -> Self
    where
        R: Fn(Request) -> BoxFuture<'static, Result<BatchStream, CatalogError>> + Send + Sync + 'static,
    {
        Self { description, read: Arc::new(read) }
    }

    /// A model over rows in memory, for small constant tables and tests. It is the same as of every batch.
    pub fn constant(description: Description, batches: Vec<RecordBatch>) -> Self {
        Self::new(description, move |_| {
            let batches = batches.clone();
            Box::pin(async move { Ok(stream::iter(batches.into_iter().map(Ok)).boxed()) })
        })
    }
}

#[async_trait]
impl ReadModel for RowsModel {
    fn description(&self) -> &Description {
        &self.description
    }

    fn support(&self, filter: &Filter) -> Support {
        support(&self.description, filter)
    }

    async fn scan(
        &self,
        scope: &Scope,
        projection: Option<&[usize]>,
        filters: &[Filter],
        as_of: AsOf,
    ) -> Result<BatchStream, CatalogError> {
        let request = request(&self.description, scope, filters, as_of)?;
        let columns = wanted(&self.description, scope, projection)?;
        let (filters, schema) = (request.filters.clone(), self.schema());
        let model = self.name().to_string();
        let batches = (self.read)(request).await?;
        Ok(batches.map(move |batch| shaped(batch?, &model, &schema, &filters, &columns)).boxed())
    }
}

/// A read model whose rows lie in files: one closure lists them (and may leave out those that cannot match), another reads one.
pub struct FilesModel<F> {
    description: Description,
    list: Arc<ListFiles<F>>,
    read: Arc<ReadFile<F>>,
}

impl<F: Send + 'static> FilesModel<F> {
    /// `list` answers the files as of the wanted batch; `read` yields the wanted columns of one.
    pub fn new<L, R>(description: Description, list: L, read: R) -> Self
    where
        L: Fn(Request) -> BoxFuture<'static, Result<Vec<F>, CatalogError>> + Send + Sync + 'static,
        R: Fn(F, FileReading) -> BoxFuture<'static, Result<BatchStream, CatalogError>> + Send + Sync + 'static,
    {
        Self { description, list: Arc::new(list), read: Arc::new(read) }
    }
}

#[async_trait]
impl<F: Send + 'static> ReadModel for FilesModel<F> {
    fn description(&self) -> &Description {
        &self.description
    }

    fn support(&self, filter: &Filter) -> Support {
        support(&self.description, filter)
    }

    async fn scan(
        &self,
        scope: &Scope,
        projection: Option<&[usize]>,
        filters: &[Filter],
        as_of: AsOf,
    ) -> Result<BatchStream, CatalogError> {
        let request = request(&self.description, scope, filters, as_of)?;
        let columns = wanted(&self.description, scope, projection)?;
        let schema = self.schema();
        // Read: the wanted columns and those that the filters need, in the order of the schema.
        let mut read: Vec<usize> = columns.clone();
        for filter in &request.filters {
            read.push(schema.index_of(&filter.column)?);
        }
        read.sort_unstable();
        read.dedup();
        let narrow: SchemaRef = Arc::new(schema.project(&read)?);
        let columns: Vec<usize> = columns.iter().map(|column| read.iter().position(|other| other == column).unwrap_or_default()).collect();
        let reading = FileReading { schema: Arc::clone(&narrow), filters: request.filters.clone() };
        let filters = request.filters.clone();
        let (model, reader) = (self.name().to_string(), Arc::clone(&self.read));
        let files = (self.list)(request).await?;
        let batches = stream::iter(files).map(Ok).and_then(move |file| reader(file, reading.clone())).try_flatten();
        Ok(batches.map(move |batch| shaped(batch?, &model, &narrow, &filters, &columns)).boxed())
    }
}

/// All rows of a stream as one batch, for callers that want few rows at once.
pub async fn collect(schema: &Schema, batches: BatchStream) -> Result<RecordBatch, CatalogError> {
    let batches: Vec<RecordBatch> = batches.try_collect().await?;
    Ok(concat_batches(&Arc::new(schema.clone()), &batches)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Catalog;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use arrow::datatypes::Field;
    use parking_lot::Mutex;
    use shared_types::{BatchNo, OrganizationId};

    fn schema() -> SchemaRef {
        Arc::new(Schema::new(vec![
            Field::new("number", DataType::Int64, false),
            Field::new("organization", DataType::Utf8, false),
            Field::new("note", DataType::Utf8, true),
        ]))
    }

    fn described(name: &str, audience: Audience) -> Description {
        let columns = [("number", "A number."), ("organization", "Whose."), ("note", "Anything.")];
        Description::new(name, "platform-catalog", "Rows of a test.", audience, schema(), &columns).unwrap()
    }

    fn rows(rows: &[(i64, &str)]) -> RecordBatch {
        let numbers = Int64Array::from_iter_values(rows.iter().map(|(number, _)| *number));
        let organizations = StringArray::from_iter_values(rows.iter().map(|(_, organization)| *organization));
        let notes = StringArray::from(vec![None::<&str>; rows.len()]);
        RecordBatch::try_new(schema(), vec![Arc::new(numbers), Arc::new(organizations), Arc::new(notes)]).unwrap()
    }

    const OURS: Audience = Audience::Organizations { column: "organization" };

    fn organization(id: &str) -> Scope {
        Scope::Organization(OrganizationId::parse(id).unwrap())
    }

    async fn numbers(model: &dyn ReadModel, scope: &Scope, filters: &[Filter]) -> Vec<i64> {
        let batches: Vec<RecordBatch> = model.scan(scope, Some(&[0]), filters, AsOf::default()).await.unwrap().try_collect().await.unwrap();
        let mut numbers = Vec::new();
        for batch in &batches {
            assert_eq!(batch.num_columns(), 1);
            let column: &ArrayRef = batch.column(0);
            numbers.extend(column.as_any().downcast_ref::<Int64Array>().unwrap().values().iter().copied());
        }
        numbers
    }

    #[tokio::test]
    async fn an_organization_sees_its_rows_and_the_operator_all() {
        let model = RowsModel::constant(described("usage.test", OURS), vec![rows(&[(1, "a"), (2, "b")]), rows(&[(3, "a")])]);
        assert_eq!(numbers(&model, &Scope::Operator, &[]).await, [1, 2, 3]);
        assert_eq!(numbers(&model, &organization("a"), &[]).await, [1, 3]);
        assert_eq!(numbers(&model, &organization("c"), &[]).await, [0; 0]);
        let above = Filter { column: "number".into(), comparison: Comparison::Gt, value: FilterValue::Integer(1) };
        assert_eq!(numbers(&model, &organization("a"), &[above]).await, [3]);
    }

    #[tokio::test]
    async fn a_model_of_the_operator_refuses_an_organization() {
        let model = RowsModel::constant(described("sys.test", Audience::Operator), vec![rows(&[(1, "a")])]);
        let refused = model.scan(&organization("a"), None, &[], AsOf::default()).await;
        assert!(matches!(refused, Err(CatalogError::OperatorOnly { .. })));
        let catalog = Catalog::new();
        catalog.register(Arc::new(model)).unwrap();
        assert_eq!(catalog.visible(&organization("a")).len(), 0);
        assert_eq!(catalog.visible(&Scope::Operator).len(), 1);
        let again = RowsModel::constant(described("sys.test", Audience::Operator), vec![]);
        assert!(matches!(catalog.register(Arc::new(again)), Err(CatalogError::Duplicate { .. })));
    }

    #[tokio::test]
    async fn files_are_read_with_the_columns_that_filters_need_and_in_order() {
        type Asked = Vec<(String, Vec<String>)>;
        let asked: Arc<Mutex<Asked>> = Arc::default();
        let log = Arc::clone(&asked);
        let model = FilesModel::new(
            described("usage.files", OURS),
            |request: Request| {
                assert_eq!(request.as_of, AsOf(Some(BatchNo(7))));
                Box::pin(async { Ok(vec!["one", "two"]) })
            },
            move |file: &'static str, reading: FileReading| {
                log.lock().push((file.to_owned(), reading.schema.fields().iter().map(|field| field.name().clone()).collect()));
                Box::pin(async move {
                    let all = if file == "one" { rows(&[(1, "a"), (2, "b")]) } else { rows(&[(3, "a")]) };
                    let columns: Vec<usize> =
                        reading.schema.fields().iter().map(|field| schema().index_of(field.name()).unwrap()).collect();
                    Ok(stream::iter([all.project(&columns).map_err(CatalogError::from)]).boxed())
                })
            },
        );
        let batches: Vec<RecordBatch> =
            model.scan(&organization("a"), Some(&[2, 0]), &[], AsOf(Some(BatchNo(7)))).await.unwrap().try_collect().await.unwrap();
        let names: Vec<_> =
            batches.iter().flat_map(|batch| batch.schema().fields().iter().map(|f| f.name().clone()).collect::<Vec<_>>()).collect();
        assert_eq!(names, ["note", "number", "note", "number"]);
        assert_eq!(batches.iter().map(RecordBatch::num_rows).sum::<usize>(), 2);
        let columns: Vec<String> = ["number", "organization", "note"].map(str::to_owned).to_vec();
        assert_eq!(*asked.lock(), [("one".to_owned(), columns.clone()), ("two".to_owned(), columns)]);
    }

    #[tokio::test]
    async fn rows_of_another_shape_are_refused() {
        let narrow = rows(&[(1, "a")]).project(&[1, 0, 2]).unwrap();
        let model = RowsModel::constant(described("usage.test", OURS), vec![narrow]);
        let mut batches = model.scan(&Scope::Operator, None, &[], AsOf::default()).await.unwrap();
        assert!(matches!(batches.next().await, Some(Err(CatalogError::Shape { .. }))));
        let missing = model.scan(&Scope::Operator, Some(&[3]), &[], AsOf::default()).await;
        assert!(matches!(missing, Err(CatalogError::Column { .. })));
    }

    #[tokio::test]
    async fn a_column_for_the_operator_does_not_exist_for_an_organization() {
        let ours = Audience::Organizations { column: "organization" };
        let description = described("usage.kept", ours).for_the_operator(&["number"]).unwrap();
        let model = RowsModel::constant(description, vec![rows(&[(1, "a"), (2, "b")])]);
        let a = Scope::Organization(OrganizationId::parse("a").unwrap());
        let names = |scope: &Scope| model.schema_for(scope).fields().iter().map(|field| field.name().clone()).collect::<Vec<_>>();
        assert_eq!((names(&Scope::Operator).len(), names(&a)), (3, vec!["organization".to_owned(), "note".to_owned()]));
        let read = collect(&model.schema_for(&a), model.scan(&a, Some(&[0, 1]), &[], AsOf::default()).await.unwrap()).await.unwrap();
        assert_eq!((read.num_rows(), read.schema().field(0).name().as_str()), (1, "organization"));
        let filter = Filter { column: "number".to_owned(), comparison: Comparison::Eq, value: FilterValue::Integer(1) };
        for (projection, filters) in [(&[2][..], vec![]), (&[0], vec![filter])] {
            let refused = model.scan(&a, Some(projection), &filters, AsOf::default()).await;
            assert!(matches!(refused, Err(CatalogError::Column { .. })));
            assert!(model.scan(&Scope::Operator, Some(projection), &filters, AsOf::default()).await.is_ok());
        }
        assert!(described("usage.kept", ours).for_the_operator(&["nothing"]).is_err());
        assert!(described("usage.kept", ours).for_the_operator(&["organization"]).is_err(), "whose a row is must be known");
    }

    #[test]
    fn a_description_must_fit_its_schema() {
        let described = |name: &str, audience, columns: &[(&'static str, &'static str)]| {
            Description::new(name, "platform-catalog", "", audience, schema(), columns).is_ok()
        };
        let all = [("number", ""), ("organization", ""), ("note", "")];
        assert!(described("usage.test", OURS, &all));
        assert!(!described("usage.test", OURS, &all[..2]));
        assert!(!described("usage.test", OURS, &[all[0], all[1], all[2], ("other", "")]));
        assert!(!described("usage.test", Audience::Organizations { column: "number" }, &all));
        for name in ["usage", "Usage.test", "usage.a.b", ".a", "a.", "a.1"] {
            assert!(!described(name, OURS, &all), "{name}");
        }
    }
}
