//! Time, memory, rows and text length are bounded, and what is missing is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use platform_catalog::{AsOf, Audience, Catalog, RowsModel, Scope};
use platform_query::{Limits, QueryEngine, QueryError, QueryOptions, QueryResult};

use crate::world::{described, integers, model, options, text};

fn numbers(count: i64) -> Arc<Catalog> {
    let catalog = Catalog::new();
    let values: Vec<Option<i64>> = (0..count).map(Some).collect();
    let names: Vec<String> = (0..count).map(|n| format!("name {n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    catalog.register(Arc::new(model("usage.numbers", Audience::Operator, vec![("n", integers(&values)), ("name", text(&names))]))).unwrap();
    Arc::new(catalog)
}

fn ask(catalog: Arc<Catalog>, sql: &str, options: QueryOptions, limits: Limits) -> Result<QueryResult, QueryError> {
    let engine = QueryEngine::new(catalog, options).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let answer = runtime.block_on(engine.query(sql, &Scope::Operator, AsOf::default(), limits));
    runtime.shutdown_background();
    answer
}

#[test]
fn more_rows_than_the_limit_are_cut_off_and_told() {
    for (limit, shown, truncated) in
        [(Some(3), 3, true), (Some(20), 20, false), (Some(19), 19, true), (Some(0), 0, true), (None, 20, false)]
    {
        let limits = Limits { max_rows: limit, ..Limits::default() };
        let result = ask(numbers(20), "SELECT n FROM usage.numbers ORDER BY n", options(), limits).unwrap();
        assert_eq!((result.rows(), result.truncated), (shown, truncated), "{limit:?}");
    }
    let tight = QueryOptions { max_rows: 5, ..options() };
    let limits = Limits { max_rows: Some(100), ..Limits::default() };
    let result = ask(numbers(20), "SELECT n FROM usage.numbers", tight, limits).unwrap();
    assert_eq!((result.rows(), result.truncated), (5, true));
}

#[test]
fn a_query_that_takes_too_long_is_stopped() {
    let limits = Limits { timeout: Some(Duration::from_millis(300)), ..Limits::default() };
    let engine = QueryEngine::new(numbers(100_000), options()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let ask = |sql: &str, limits| runtime.block_on(engine.query(sql, &Scope::Operator, AsOf::default(), limits));
    for sql in [
        "SELECT count(*) FROM usage.numbers a JOIN usage.numbers b ON a.n + b.n <> 5",
        "SELECT count(*) FROM usage.numbers a JOIN usage.numbers b ON a.n + b.n = -5 OR a.n < b.n - 1000000",
        "SELECT count(*) FROM usage.numbers a LEFT JOIN usage.numbers b ON a.n * b.n < 0",
        "SELECT count(*) FROM usage.numbers a, usage.numbers b",
        "SELECT max(a.n + b.n) FROM usage.numbers a JOIN usage.numbers b ON a.n / 1000000 = b.n / 1000000 AND a.n + b.n < 0",
    ] {
        let started = Instant::now();
        let answer = ask(sql, limits);
        assert!(matches!(answer, Err(QueryError::Timeout { .. })), "{sql}: {answer:?}");
        assert!(started.elapsed() < Duration::from_secs(2), "{sql}: {:?}", started.elapsed());
        // The threads are free again: the next question is answered.
        let next = ask("SELECT sum(n) FROM usage.numbers", Limits { timeout: Some(Duration::from_secs(10)), ..Limits::default() });
        assert!(next.is_ok(), "after {sql}: {next:?}");
    }
}

#[test]
fn a_model_that_never_answers_is_stopped() {
    let catalog = Catalog::new();
    let schema = Arc::new(arrow::datatypes::Schema::new(vec![arrow::datatypes::Field::new("n", arrow::datatypes::DataType::Int64, false)]));
    let silent = RowsModel::new(described("usage.silent", Audience::Operator, &schema), |_| {
        Box::pin(async { Ok(futures::stream::pending().boxed()) })
    });
    catalog.register(Arc::new(silent)).unwrap();
    let limits = Limits { timeout: Some(Duration::from_millis(100)), ..Limits::default() };
    let answer = ask(Arc::new(catalog), "SELECT sum(n) FROM usage.silent", options(), limits);
    assert!(matches!(answer, Err(QueryError::Timeout { .. })), "{answer:?}");
}

#[test]
fn a_query_that_needs_too_much_memory_is_refused_and_the_next_one_answered() {
    let small = QueryOptions { memory_bytes: 1024 * 1024, max_rows: 1_000_000, ..options() };
    for sql in [
        "SELECT n, name FROM usage.numbers ORDER BY name",
        "SELECT name, sum(n) FROM usage.numbers GROUP BY name",
        "SELECT a.n FROM usage.numbers a JOIN usage.numbers b ON a.name = b.name",
        "SELECT n, name FROM usage.numbers",
    ] {
        let engine = QueryEngine::new(numbers(100_000), small.clone()).unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let answer = runtime.block_on(engine.query(sql, &Scope::Operator, AsOf::default(), Limits::default()));
        assert!(matches!(answer, Err(QueryError::Memory { bytes: 1_048_576 })), "{sql}: {answer:?}");
        let next = runtime.block_on(engine.query(
            "SELECT sum(n) FROM (VALUES (1), (2)) AS v(n)",
            &Scope::Operator,
            AsOf::default(),
            Limits::default(),
        ));
        assert!(next.is_ok(), "{next:?}");
    }
}

#[test]
fn what_others_use_cannot_make_a_query_fail_and_places_are_waited_for() {
    let engine = QueryEngine::new(numbers(100_000), QueryOptions { queries: 1, ..options() }).unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let (operator, short) = (Scope::Operator, Limits { timeout: Some(Duration::from_millis(400)), ..Limits::default() });
        let long =
            engine.query("SELECT count(*) FROM usage.numbers a, usage.numbers b WHERE a.n + b.n < 0", &operator, AsOf::default(), short);
        let waiting = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let little = Limits { timeout: Some(Duration::from_millis(50)), ..Limits::default() };
            let refused = engine.query("SELECT 1", &operator, AsOf::default(), little).await;
            assert!(matches!(refused, Err(QueryError::Timeout { .. })), "{refused:?}");
            engine.query("SELECT 1", &operator, AsOf::default(), Limits::default()).await
        };
        let (long, waited) = tokio::join!(long, waiting);
        assert!(matches!(long, Err(QueryError::Timeout { .. })), "{long:?}");
        assert!(waited.is_ok(), "{waited:?}");
    });
    let tight = Limits { memory_bytes: Some(100_000), ..Limits::default() };
    let answer = ask(numbers(100_000), "SELECT n, name FROM usage.numbers ORDER BY name", options(), tight);
    assert!(matches!(answer, Err(QueryError::Memory { bytes: 100_000 })), "{answer:?}");
}

#[test]
fn long_and_deep_texts_are_refused_and_do_no_harm() {
    let long = format!("SELECT '{}'", "x".repeat(40_000));
    assert!(matches!(ask(numbers(1), &long, options(), Limits::default()), Err(QueryError::TooLong { .. })));
    let deep = format!("SELECT {}1{}", "(".repeat(2_000), ")".repeat(2_000));
    assert!(matches!(ask(numbers(1), &deep, options(), Limits::default()), Err(QueryError::Syntax { .. })));
    // A chain is a deep tree: within the limit it is answered, beyond it refused, and the process lives.
    for (text, link, tail) in [
        ("1", "+1", ""),
        ("true", " AND n=1", " FROM usage.numbers"),
        ("true", " OR n + 1.5 > n", " FROM usage.numbers"),
        ("n", "::text::bigint", " FROM usage.numbers"),
        ("'x'", "||'x'", ""),
    ] {
        let chain = |links: usize| format!("SELECT {text}{}{tail}", link.repeat(links));
        let answer = ask(numbers(1), &chain(120), options(), Limits::default());
        assert!(answer.is_ok(), "{link}: {answer:?}");
        for links in [240, 1_000, 30_000 / link.len()] {
            let answer = ask(numbers(1), &chain(links), options(), Limits::default());
            assert!(matches!(answer, Ok(_) | Err(QueryError::Refused { .. })), "{link}: {answer:?}");
        }
    }
    let unions = |count: usize| format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(count));
    let joins =
        |count: usize| format!("SELECT 1 FROM usage.numbers{}", (0..count).map(|n| format!(", usage.numbers t{n}")).collect::<String>());
    for wide in [unions(50), joins(50)] {
        assert!(ask(numbers(1), &wide, options(), Limits::default()).is_ok());
    }
    for wide in [unions(1_500), joins(1_000)] {
        assert!(matches!(ask(numbers(1), &wide, options(), Limits::default()), Err(QueryError::Refused { .. })));
    }
    let many =
        format!("SELECT count(*) FROM usage.numbers WHERE n IN ({})", (0..4_000).map(|n| n.to_string()).collect::<Vec<_>>().join(","));
    assert!(ask(numbers(1), &many, options(), Limits::default()).is_ok());
}

#[test]
fn a_text_that_doubles_itself_is_refused_before_it_grows() {
    let mut text = "WITH t0 AS (SELECT n FROM usage.numbers)".to_owned();
    for level in 1..40 {
        text.push_str(&format!(", t{level} AS (SELECT a.n FROM t{0} a JOIN t{0} b ON a.n = b.n)", level - 1));
    }
    text.push_str(" SELECT count(*) FROM t39");
    let started = Instant::now();
    let answer = ask(numbers(1), &text, options(), Limits::default());
    assert!(matches!(answer, Err(QueryError::Refused { .. })), "{answer:?}");
    let nested = text.replace("SELECT a.n FROM", "SELECT (SELECT max(n) FROM t0) AS n FROM");
    assert!(matches!(ask(numbers(1), &nested, options(), Limits::default()), Err(QueryError::Refused { .. })));
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
}

#[test]
fn texts_that_double_in_every_step_are_stopped() {
    for growth in ["x || x", "concat(x, x)", "concat_ws(x, x, x)", "replace(x, 'name', x || x)", "encode(CAST(x AS bytea), 'hex')"] {
        let mut text = "WITH t0 AS (SELECT name AS x FROM usage.numbers)".to_owned();
        for level in 1..=40 {
            text.push_str(&format!(", t{level} AS (SELECT {growth} AS x FROM t{})", level - 1));
        }
        text.push_str(" SELECT max(length(x)) FROM t40");
        let started = Instant::now();
        let answer = ask(numbers(100), &text, options(), Limits::default());
        assert!(matches!(answer, Err(QueryError::Data { .. } | QueryError::Memory { .. })), "{growth}: {answer:?}");
        assert!(started.elapsed() < Duration::from_secs(20), "{growth}: {:?}", started.elapsed());
    }
}
