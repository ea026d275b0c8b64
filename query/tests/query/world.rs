//! A small world of read models in memory, and the one way in which the tests ask it.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, Decimal128Array, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::datatypes::{Field, Schema, SchemaRef};
use arrow::record_batch::RecordBatch;
use platform_catalog::{AsOf, Audience, Catalog, Description, RowsModel, Scope};
use platform_query::{Format, Limits, QueryEngine, QueryError, QueryOptions, QueryResult, render};
use shared_types::OrganizationId;

pub const OURS: Audience = Audience::Organizations { column: "organization" };

pub fn described(name: &str, audience: Audience, schema: &SchemaRef) -> Description {
    let columns: Vec<(&'static str, &'static str)> =
        schema.fields().iter().map(|field| (&*Box::leak(field.name().clone().into_boxed_str()), "A column of a test.")).collect();
    Description::new(name, "platform-query", "Rows of a test.", audience, Arc::clone(schema), &columns).unwrap()
}

pub fn model(name: &str, audience: Audience, columns: Vec<(&str, ArrayRef)>) -> RowsModel {
    let fields: Vec<Field> =
        columns.iter().map(|(column, array)| Field::new(*column, array.data_type().clone(), *column != "organization")).collect();
    let schema = Arc::new(Schema::new(fields));
    let batch = RecordBatch::try_new(Arc::clone(&schema), columns.into_iter().map(|(_, array)| array).collect()).unwrap();
    // Two batches, so that partial results are merged.
    let middle = batch.num_rows() / 2;
    let batches = vec![batch.slice(0, middle), batch.slice(middle, batch.num_rows() - middle)];
    RowsModel::constant(described(name, audience, &schema), batches)
}

pub fn text(values: &[&str]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

pub fn decimal(values: &[Option<i128>], precision: u8, scale: i8) -> ArrayRef {
    Arc::new(Decimal128Array::from(values.to_vec()).with_precision_and_scale(precision, scale).unwrap())
}

pub fn integers(values: &[Option<i64>]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

fn instants(hours: &[i64]) -> ArrayRef {
    const START: i64 = 1_767_225_600_000_000; // 2026-01-01T00:00:00Z
    Arc::new(TimestampMicrosecondArray::from_iter_values(hours.iter().map(|hour| START + hour * 3_600_000_000)).with_timezone("UTC"))
}

pub fn catalog() -> Arc<Catalog> {
    let catalog = Catalog::new();
    let organizations = ["acme", "acme", "beta", "acme", "beta", "gamma"];
    catalog
        .register(Arc::new(model(
            "usage.charges",
            OURS,
            vec![
                ("organization", text(&organizations)),
                ("meter", text(&["gpu", "token", "gpu", "gpu", "token", "gpu"])),
                (
                    "quantity",
                    decimal(&[Some(1_500_000_000), Some(1_000_000_000_000), Some(250_000_000), Some(3), Some(7_000_000_000), None], 38, 9),
                ),
                (
                    "amount",
                    decimal(
                        &[Some(2_500_000_000), Some(100_000_000), Some(-500_000_000), Some(125_000_000), Some(375_000_000), None],
                        19,
                        9,
                    ),
                ),
                ("readings", integers(&[Some(1), Some(2), Some(3), Some(4), Some(5), None])),
                ("start_at", instants(&[0, 1, 1, 2, 30, 744])),
                ("load", Arc::new(Float64Array::from(vec![0.5, 0.25, 0.1, 1.0, 2.0, 0.0]))),
                ("identity", Arc::new(FixedSizeBinaryArray::try_from_iter((0_u8..6).map(|row| [row, 0xab, 0xcd, 0xff])).unwrap())),
            ],
        )))
        .unwrap();
    catalog
        .register(Arc::new(model(
            "ledger.balances",
            OURS,
            vec![
                ("organization", text(&["acme", "beta", "gamma"])),
                ("balance", decimal(&[Some(272_500), Some(-1_250), Some(0)], 19, 2)),
                ("limit_units", Arc::new(UInt64Array::from(vec![10, 20, 30]))),
            ],
        )))
        .unwrap();
    catalog
        .register(Arc::new(model(
            "sys.batches",
            Audience::Operator,
            vec![("batch_no", integers(&[Some(1), Some(2)])), ("note", text(&["first", "second"]))],
        )))
        .unwrap();
    // Two of these together exceed 38 digits; with the negative one they do not.
    let huge = 6 * 10_i128.pow(37);
    catalog
        .register(Arc::new(model(
            "ledger.huge",
            Audience::Operator,
            vec![
                ("name", text(&["a", "b", "c"])),
                ("money", decimal(&[Some(huge), Some(huge), Some(-huge)], 38, 12)),
                ("number", integers(&[Some(i64::MAX), Some(i64::MAX), Some(i64::MIN)])),
                ("whole", Arc::new(UInt64Array::from(vec![u64::MAX, 1, 0]))),
            ],
        )))
        .unwrap();
    Arc::new(catalog)
}

pub fn options() -> QueryOptions {
    QueryOptions { memory_bytes: 64 * 1024 * 1024, timeout: Duration::from_secs(60), max_rows: 1000, threads: 2, queries: 4 }
}

pub fn organization(id: &str) -> Scope {
    Scope::Organization(OrganizationId::parse(id).unwrap())
}

pub fn ask_over(catalog: Arc<Catalog>, sql: &str, scope: &Scope) -> Result<QueryResult, QueryError> {
    let engine = QueryEngine::new(catalog, options()).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(engine.query(sql, scope, AsOf::default(), Limits::default()))
}

pub fn ask_as(sql: &str, scope: &Scope) -> Result<QueryResult, QueryError> {
    ask_over(catalog(), sql, scope)
}

pub fn ask(sql: &str) -> Result<QueryResult, QueryError> {
    ask_as(sql, &Scope::Operator)
}

/// Rows as CSV without the header.
pub fn rows(result: &QueryResult) -> Vec<String> {
    let csv = String::from_utf8(render(result, Format::Csv).unwrap()).unwrap();
    csv.strip_suffix("\r\n").unwrap().split("\r\n").skip(1).map(str::to_owned).collect()
}

/// Asks as the operator and compares the rows.
pub fn check(sql: &str, expected: &[&str]) {
    match ask(sql) {
        Ok(result) => assert_eq!(rows(&result), expected, "{sql}"),
        Err(error) => panic!("{sql}\n{error:?}"),
    }
}
