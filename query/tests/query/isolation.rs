//! An organization's session answers as if no other organization existed, whatever is asked.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use futures::StreamExt;
use platform_catalog::{AsOf, BatchStream, Catalog, CatalogError, Description, Filter, ReadModel, RowsModel, Scope, Support};
use platform_query::{Format, QueryError, render};

use crate::world::{OURS, ask_as, ask_over, catalog, check, decimal, described, model, organization, rows, text};

const QUESTIONS: &[&str] = &[
    "SELECT * FROM usage.charges ORDER BY start_at, meter",
    "SELECT count(*) FROM usage.charges",
    "SELECT sum(amount), min(organization), max(organization) FROM usage.charges",
    "SELECT * FROM usage.charges WHERE organization = 'beta'",
    "SELECT * FROM usage.charges WHERE organization <> 'acme' OR true ORDER BY start_at",
    "SELECT a.organization, b.organization FROM usage.charges a JOIN usage.charges b ON true ORDER BY 1, 2",
    "SELECT a.meter, b.organization FROM usage.charges a FULL JOIN ledger.balances b ON a.organization <> b.organization ORDER BY 1, 2",
    "SELECT * FROM ledger.balances CROSS JOIN (SELECT count(*) FROM usage.charges) c",
    "SELECT organization FROM usage.charges UNION SELECT organization FROM ledger.balances ORDER BY 1",
    "SELECT organization FROM ledger.balances EXCEPT SELECT organization FROM usage.charges",
    "WITH all_rows AS (SELECT * FROM usage.charges) SELECT count(*), count(DISTINCT organization) FROM all_rows",
    "SELECT (SELECT count(*) FROM usage.charges), (SELECT max(balance) FROM ledger.balances)",
    "SELECT organization FROM ledger.balances b WHERE EXISTS (SELECT 1 FROM usage.charges c WHERE c.organization <> b.organization)",
    "SELECT organization FROM ledger.balances WHERE balance IN (SELECT balance FROM ledger.balances)",
    "SELECT meter, rank() OVER (PARTITION BY meter ORDER BY readings) FROM usage.charges ORDER BY 1, 2",
    "SELECT meter FROM usage.charges LIMIT 1 OFFSET 3",
    "TABLE ledger.balances",
    "SELECT * FROM information_schema.tables ORDER BY table_name",
    "SELECT * FROM information_schema.columns ORDER BY table_name, ordinal_position",
    "SHOW TABLES",
    "DESCRIBE usage.charges",
    "DESCRIBE sys.batches",
    "SELECT * FROM sys.batches",
    "SELECT * FROM ledger.huge",
    "SELECT beta FROM usage.charges",
    "SELECT CAST(organization AS bigint) FROM usage.charges",
    "EXPLAIN SELECT sum(amount) FROM usage.charges WHERE meter = 'gpu'",
    "EXPLAIN VERBOSE SELECT * FROM usage.charges",
    "EXPLAIN ANALYZE SELECT * FROM usage.charges",
    "SELECT * FROM usage.charges",
    "SELECT meter, count(*) FROM usage.charges GROUP BY meter",
];

/// The world with other rows for all but `acme`.
fn other_world() -> Arc<Catalog> {
    let other = Catalog::new();
    for model in catalog().list() {
        let Some(column) = model.schema().index_of("organization").ok() else {
            other.register(model).unwrap();
            continue;
        };
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let batches: Vec<RecordBatch> = runtime.block_on(async {
            let scope = organization("acme");
            model.scan(&scope, None, &[], AsOf::default()).await.unwrap().map(Result::unwrap).collect().await
        });
        // Only the rows of acme are left, in other batches, with a row of a stranger in front.
        let stranger = batches.iter().find(|batch| batch.num_rows() > 0).unwrap().slice(0, 1);
        let mut columns = stranger.columns().to_vec();
        columns[column] = text(&["zulu"]);
        let stranger = RecordBatch::try_new(stranger.schema(), columns).unwrap();
        let all = std::iter::once(stranger).chain(batches).collect();
        other.register(Arc::new(RowsModel::constant(model.description().clone(), all))).unwrap();
    }
    Arc::new(other)
}

#[test]
fn two_worlds_that_differ_only_in_other_organizations_answer_byte_for_byte_alike() {
    let (acme, other) = (organization("acme"), other_world());
    for sql in QUESTIONS {
        let told = |answer: Result<platform_query::QueryResult, QueryError>| match answer {
            // Two columns of one name are refused in JSON only.
            Ok(result) => {
                let shown = render(&result, Format::Json).or_else(|_| render(&result, Format::Csv));
                // Where batches are cut shows in Arrow.
                format!("{}{:?}", String::from_utf8(shown.unwrap()).unwrap(), render(&result, Format::Arrow).unwrap())
            }
            Err(error) => format!("{error:?}"),
        };
        let (one, two) = (told(ask_as(sql, &acme)), told(ask_over(Arc::clone(&other), sql, &acme)));
        assert_eq!(one, two, "{sql}");
        let asked = sql.to_lowercase();
        for canary in ["beta", "gamma", "zulu", "batch_no", "second", "huge"] {
            assert!(asked.contains(canary) || !one.contains(canary), "{sql} shows {canary}: {one}");
        }
    }
}

#[test]
fn the_operator_sees_all_and_an_organization_its_own() {
    check("SELECT count(*), count(DISTINCT organization) FROM usage.charges", &["6,3"]);
    let counted = |id: &str| rows(&ask_as("SELECT count(*), count(DISTINCT organization) FROM usage.charges", &organization(id)).unwrap());
    assert_eq!(counted("acme"), ["3,1"]);
    assert_eq!(counted("beta"), ["2,1"]);
    assert_eq!(counted("nobody"), ["0,0"]);
}

#[test]
fn columns_for_the_operator_are_unknown_to_an_organization() {
    let schema =
        Arc::new(Schema::new(vec![Field::new("organization", DataType::Utf8, false), Field::new("position", DataType::Int64, false)]));
    let batch =
        RecordBatch::try_new(Arc::clone(&schema), vec![text(&["acme", "beta"]), crate::world::integers(&[Some(7), Some(8)])]).unwrap();
    let catalog = Catalog::new();
    let description = described("usage.kept", OURS, &schema).for_the_operator(&["position"]).unwrap();
    catalog.register(Arc::new(RowsModel::constant(description, vec![batch]))).unwrap();
    let catalog = Arc::new(catalog);
    let acme = organization("acme");
    let asked = |sql: &str, scope: &Scope| ask_over(Arc::clone(&catalog), sql, scope);
    for sql in [
        "SELECT position FROM usage.kept",
        "SELECT 1 FROM usage.kept WHERE position > 1",
        "SELECT organization FROM usage.kept ORDER BY position",
    ] {
        assert!(asked(sql, &Scope::Operator).is_ok(), "{sql}");
        let told = asked(sql, &acme).unwrap_err();
        assert!(matches!(told, QueryError::Invalid { .. }), "{sql}: {told:?}");
        let nobody = asked(&sql.replace("position", "nonsense"), &acme).unwrap_err();
        assert_eq!(told.to_string(), nobody.to_string().replace("nonsense", "position"), "{sql}");
    }
    assert_eq!(rows(&asked("SELECT * FROM usage.kept", &acme).unwrap()), ["acme"]);
    for sql in ["DESCRIBE usage.kept", "SELECT column_name FROM information_schema.columns", "EXPLAIN SELECT * FROM usage.kept"] {
        let shown = rows(&asked(sql, &acme).unwrap()).join("\n");
        assert!(!shown.contains("position"), "{sql}: {shown}");
    }
}

/// A model that forgets the scope.
struct Careless(RowsModel);

#[async_trait]
impl ReadModel for Careless {
    fn description(&self) -> &Description {
        self.0.description()
    }

    fn support(&self, filter: &Filter) -> Support {
        self.0.support(filter)
    }

    async fn scan(&self, _: &Scope, projection: Option<&[usize]>, filters: &[Filter], as_of: AsOf) -> Result<BatchStream, CatalogError> {
        self.0.scan(&Scope::Operator, projection, filters, as_of).await
    }
}

#[test]
fn a_model_that_forgets_the_scope_is_caught() {
    let catalog = Catalog::new();
    let inner =
        model("usage.careless", OURS, vec![("organization", text(&["acme", "beta"])), ("amount", decimal(&[Some(1), Some(2)], 9, 2))]);
    catalog.register(Arc::new(Careless(inner))).unwrap();
    let catalog = Arc::new(catalog);
    for sql in [
        "SELECT sum(amount) FROM usage.careless",
        "SELECT count(*) FROM usage.careless",
        "SELECT amount FROM usage.careless ORDER BY amount",
    ] {
        let answer = ask_over(Arc::clone(&catalog), sql, &organization("acme"));
        assert!(matches!(answer, Err(QueryError::Isolation { .. })), "{sql}: {answer:?}");
        assert!(ask_over(Arc::clone(&catalog), sql, &Scope::Operator).is_ok(), "{sql}");
    }
    let filtered = "SELECT amount FROM usage.careless WHERE organization = 'acme'";
    assert!(ask_over(catalog, filtered, &organization("acme")).is_ok());
}

#[test]
fn as_of_and_filters_reach_the_model_and_its_errors_come_back() {
    let schema = Arc::new(Schema::new(vec![Field::new("organization", DataType::Utf8, false), Field::new("n", DataType::Int64, false)]));
    let catalog = Catalog::new();
    let failing = RowsModel::new(described("usage.failing", OURS, &schema), |request| {
        Box::pin(async move {
            assert_eq!(request.as_of, AsOf(None));
            let names: Vec<String> =
                request.filters.iter().map(|filter| format!("{} {:?} {}", filter.column, filter.comparison, filter.value)).collect();
            Err(CatalogError::read("usage.failing", names.join(" and ")))
        })
    });
    catalog.register(Arc::new(failing)).unwrap();
    match ask_over(Arc::new(catalog), "SELECT 1 FROM usage.failing WHERE 5 < n AND n <> 7", &organization("acme")) {
        Err(QueryError::Read { detail, source }) => {
            assert_eq!(detail, "could not read usage.failing");
            let cause = format!("{source:?}");
            assert!(cause.contains("n Gt 5 and organization Eq the text"), "{cause}");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_model_that_panics_is_an_error_and_not_a_short_answer() {
    let schema = Arc::new(Schema::new(vec![Field::new("organization", DataType::Utf8, false)]));
    let catalog = Catalog::new();
    let inner = Arc::clone(&schema);
    let panicking = RowsModel::new(described("usage.panicking", OURS, &schema), move |_| {
        let first = RecordBatch::try_new(Arc::clone(&inner), vec![text(&["acme"])]);
        Box::pin(async move {
            let batches = futures::stream::iter([first]).chain(futures::stream::once(async { panic!("in the middle") }));
            Ok(batches.map(|batch| batch.map_err(CatalogError::from)).boxed())
        })
    });
    catalog.register(Arc::new(panicking)).unwrap();
    let answer = ask_over(Arc::new(catalog), "SELECT count(*) FROM usage.panicking", &Scope::Operator);
    assert!(matches!(answer, Err(QueryError::Failed { .. })), "{answer:?}");
}
