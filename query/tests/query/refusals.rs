//! What is never answered, each with the word that tells why or what to use instead.

use platform_query::QueryError;

use crate::world::{ask, check};

fn refused(sql: &str, word: &str) {
    match ask(sql) {
        Err(QueryError::Refused { what, why }) => assert!(format!("{what}: {why}").contains(word), "{sql}: {what}: {why}"),
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn statements_that_change_anything_are_refused() {
    for sql in [
        "CREATE TABLE t (a int)",
        "CREATE TABLE t AS SELECT 1",
        "CREATE VIEW v AS SELECT 1",
        "CREATE EXTERNAL TABLE t STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE SCHEMA s",
        "DROP TABLE usage.charges",
        "ALTER TABLE usage.charges ADD COLUMN a int",
        "INSERT INTO usage.charges VALUES (1)",
        "UPDATE usage.charges SET amount = 0",
        "DELETE FROM usage.charges",
        "TRUNCATE TABLE usage.charges",
        "MERGE INTO usage.charges USING ledger.balances ON true WHEN MATCHED THEN DELETE",
        "COPY usage.charges TO '/tmp/x.csv'",
        "COPY (SELECT 1) TO '/tmp/x.csv'",
        "SET datafusion.execution.batch_size = 1",
        "SET search_path = ledger",
        "RESET datafusion.execution.batch_size",
        "SHOW ALL",
        "SHOW datafusion.execution.batch_size",
        "SHOW FUNCTIONS",
        "BEGIN",
        "COMMIT",
        "PREPARE p AS SELECT 1",
        "EXECUTE p",
        "DEALLOCATE p",
        "GRANT SELECT ON usage.charges TO everyone",
        "VACUUM",
        "EXPLAIN INSERT INTO usage.charges VALUES (1)",
        "EXPLAIN COPY usage.charges TO '/tmp/x.csv'",
        "EXPLAIN CREATE TABLE t AS SELECT 1",
        "SELECT 1; SELECT 2",
        "SELECT 1 INTO t",
        "SELECT * FROM usage.charges FOR UPDATE",
        "WITH RECURSIVE n AS (SELECT 1 AS i UNION ALL SELECT i + 1 FROM n) SELECT * FROM n",
    ] {
        match ask(sql) {
            Err(QueryError::Refused { .. } | QueryError::Syntax { .. }) => {}
            other => panic!("{sql}: {other:?}"),
        }
    }
    refused("DELETE FROM usage.charges", "nothing is ever changed");
    refused("SET search_path = ledger", "SET");
    refused("WITH d AS (DELETE FROM usage.charges RETURNING 1) SELECT * FROM d", "nothing is ever changed");
    assert!(matches!(ask(""), Err(QueryError::Syntax { .. })));
    assert!(matches!(ask("SELEC 1"), Err(QueryError::Syntax { .. })));
}

#[test]
fn functions_that_reach_out_or_grow_without_bound_do_not_exist() {
    for sql in [
        "SELECT * FROM generate_series(1, 1000000000)",
        "SELECT * FROM range(1, 10)",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM unnest(ARRAY[1, 2])",
        "SELECT unnest(ARRAY[1, 2])",
        "SELECT generate_series(1, 1000000000)",
        "SELECT repeat('x', 1000000000)",
        "SELECT lpad('x', 1000000000)",
        "SELECT random()",
        "SELECT now()",
        "SELECT current_date",
        "SELECT uuid()",
        "SELECT arrow_cast(amount, 'Float64') FROM usage.charges",
        "SELECT version()",
        "SELECT pg_sleep(10)",
    ] {
        refused(sql, "function");
    }
    for sql in ["SELECT * FROM '/etc/passwd'", "SELECT * FROM \"/etc/passwd\"", "SELECT * FROM information_schema.df_settings"] {
        assert!(ask(sql).is_err(), "{sql}");
    }
    refused("SELECT $1", "parameter");
    assert!(ask("SELECT @@version").is_err());
    assert!(ask("SELECT ARRAY[1, 2]").is_err());
    assert!(ask("SELECT 1 |> WHERE true").is_err());
}

#[test]
fn money_that_could_lose_digits_is_refused() {
    for (expression, word) in [
        ("avg(amount)", "divide_half_even"),
        ("avg(DISTINCT amount)", "divide_half_even"),
        ("sum(DISTINCT amount)", "DISTINCT"),
        ("median(amount)", "divide_half_even"),
        ("stddev(amount)", "floats"),
        ("var_pop(amount)", "floats"),
        ("corr(amount, quantity)", "floats"),
        ("approx_percentile_cont(amount, 0.5)", "exact"),
        ("sum(load)", "exact sum"),
        ("sum(load) FILTER (WHERE readings > 1)", "exact sum"),
    ] {
        let error = ask(&format!("SELECT {expression} FROM usage.charges")).unwrap_err();
        assert!(matches!(&error, QueryError::Refused { .. } if error.to_string().contains(word)), "{expression}: {error}");
    }
    for (expression, word) in [
        ("round(amount, 2)", "round_half_even"),
        ("trunc(amount)", "round_half_even"),
        ("ceil(amount)", "round_half_even"),
        ("floor(amount)", "round_half_even"),
        ("sqrt(amount)", "floats"),
        ("power(amount, 2)", "floats"),
        ("amount / 2", "divide_half_even"),
        ("1 / amount", "divide_half_even"),
        ("amount / quantity", "divide_half_even"),
        ("1.0 / 3", "divide_half_even"),
        ("CAST(amount AS decimal(10,2))", "round_half_even"),
        ("amount::decimal(19,8)", "round_half_even"),
        ("CAST(amount AS double)", "float"),
        ("CAST(amount AS real)", "float"),
        ("CAST(amount AS bigint)", "round_half_even"),
        ("CAST(amount AS boolean)", "conversion"),
        ("TRY_CAST(amount AS decimal(38,9))", "null"),
        ("CAST(load AS decimal(10,2))", "float"),
        ("CAST('0.125' AS decimal(10,2))", "exactly"),
        ("CAST('1e-1' AS decimal(10,2))", "exactly"),
        ("CAST(meter AS decimal(10,2))", "literals"),
        ("amount = load", "float"),
        ("amount > load", "float"),
        ("load > 0.5", "float"),
        ("load IN (0.5, 0.25)", "float"),
        ("load BETWEEN 0.1 AND 0.2", "float"),
        ("amount * load", "float"),
        ("amount + load", "float"),
        ("CASE WHEN true THEN amount ELSE load END", "float"),
        ("coalesce(amount, load)", "float"),
        ("greatest(amount, load)", "float"),
        ("amount = meter", "literals"),
        ("amount = '0.12345678901'", "exactly"),
        ("sum(amount) OVER ()", "window"),
        ("sum(amount) OVER (ORDER BY start_at)", "window"),
        ("avg(amount) OVER ()", "window"),
        ("min(amount) OVER (PARTITION BY meter)", "window"),
        ("lag(amount) OVER (ORDER BY start_at)", "window"),
        ("sum(load) OVER ()", "exact sum"),
        ("sum(DISTINCT readings) OVER ()", "DISTINCT"),
        ("rank() OVER (ORDER BY amount RANGE BETWEEN 1.0 PRECEDING AND CURRENT ROW)", ""),
        ("round_half_even(amount, readings)", "literal"),
        ("round_half_even(amount, 39)", "literal"),
        ("round_half_even(amount, -1)", "literal"),
        ("round_half_even(load, 2)", "decimals"),
        ("divide_half_even(load, 2, 2)", "decimals"),
        ("abs(load)", "decimals"),
        ("amount * 0.00000000000000000000000000001 * 0.01", ""),
        ("1e-39", "38 digits"),
        ("123456789012345678901234567890123456789", "38 digits"),
        ("CAST(amount AS decimal(50,9))", ""),
        ("to_char(amount, 'x')", ""),
        ("to_timestamp(amount)", ""),
        ("to_hex(amount)", ""),
    ] {
        let error = ask(&format!("SELECT {expression} FROM usage.charges")).unwrap_err();
        let kind = matches!(error, QueryError::Refused { .. }) || (word.is_empty() && matches!(error, QueryError::Invalid { .. }));
        assert!(kind && error.to_string().contains(word), "{expression}: {error:?}");
    }
}

#[test]
fn refusals_hold_wherever_the_expression_stands() {
    for sql in [
        "SELECT 1 FROM usage.charges WHERE amount / 2 > 1",
        "SELECT 1 FROM usage.charges GROUP BY meter HAVING avg(amount) > 1",
        "SELECT 1 FROM usage.charges ORDER BY amount / 2",
        "SELECT meter FROM usage.charges GROUP BY meter, amount / 2",
        "SELECT 1 FROM usage.charges c JOIN ledger.balances b ON c.amount = b.balance / 2",
        "SELECT 1 FROM usage.charges c JOIN usage.charges d ON c.amount = d.load",
        "SELECT (SELECT avg(amount) FROM usage.charges)",
        "SELECT 1 WHERE EXISTS (SELECT 1 FROM usage.charges WHERE amount / 2 > 1)",
        "SELECT 1 FROM ledger.balances WHERE balance IN (SELECT amount / 2 FROM usage.charges)",
        "SELECT 1 FROM ledger.balances WHERE balance IN (SELECT load FROM usage.charges)",
        "WITH w AS (SELECT avg(amount) AS a FROM usage.charges) SELECT a FROM w",
        "SELECT * FROM (SELECT amount / 2 FROM usage.charges) s",
        "SELECT amount FROM usage.charges UNION ALL SELECT load FROM usage.charges",
        "SELECT amount FROM usage.charges EXCEPT SELECT load FROM usage.charges",
        "VALUES (0.1 / 3)",
        "SELECT sum(amount / 2) FROM usage.charges",
        "SELECT sum(amount) FILTER (WHERE amount / 2 > 1) FROM usage.charges",
        "SELECT count(*) OVER (PARTITION BY amount / 2) FROM usage.charges",
        "SELECT DISTINCT ON (amount / 2) meter FROM usage.charges",
        "EXPLAIN SELECT avg(amount) FROM usage.charges",
        "EXPLAIN ANALYZE SELECT amount / 2 FROM usage.charges",
        "SELECT 1 FROM usage.charges WHERE false AND amount / 2 > 1",
        "SELECT CASE WHEN false THEN 1.0 / 3 ELSE 0 END",
    ] {
        refused(sql, "");
    }
}

#[test]
fn what_is_exact_is_not_refused() {
    check("SELECT CAST(amount AS decimal(38,12)) FROM usage.charges WHERE readings = 4", &["0.125000000000"]);
    check(
        "SELECT CAST(readings AS decimal(38,2)), CAST(CAST(5.0 AS decimal(4,1)) AS text) FROM usage.charges WHERE readings = 4",
        &["4.00,5.0"],
    );
    check("SELECT CAST(round_half_even(amount, 0) AS bigint) FROM usage.charges WHERE readings = 1", &["2"]);
    check("SELECT row_number() OVER (ORDER BY amount) FROM usage.charges WHERE organization = 'acme'", &["1", "2", "3"]);
    check(
        "SELECT upper(meter), substring(meter FROM 1 FOR 2), extract(month FROM start_at), length(meter) FROM usage.charges WHERE readings = 5",
        &["TOKEN,to,1,5"],
    );
    check("SELECT date_trunc('day', start_at), trim('  x ') FROM usage.charges WHERE readings = 5", &["2026-01-02T00:00:00Z,x"]);
    check("SELECT count(*) FROM usage.charges WHERE start_at >= '2026-01-01T01:00:00Z' AND start_at < timestamp '2026-02-01'", &["4"]);
    check("SELECT encode(identity, 'hex') FROM usage.charges WHERE identity = X'02abcdff'", &["02abcdff"]);
    check("SELECT max(load) FROM usage.charges", &["2"]);
    check(
        "SELECT meter || ':' || readings, meter || NULL, concat(meter, NULL, '!'), amount || ' EUR' FROM usage.charges WHERE readings = 5",
        &["token:5,,token!,0.375000000 EUR"],
    );
    check(
        "SELECT concat_ws('-', meter, 'x'), replace(meter, 'o', '00'), string_agg(meter, '+') FROM usage.charges WHERE readings = 5 GROUP BY meter",
        &["token-x,t00ken,token"],
    );
}
