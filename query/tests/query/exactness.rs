//! Money is exact: literals, sums, products, rounding and quotients against whole-number oracles; overflow raises and never wraps.

use std::sync::Arc;

use num_bigint::BigInt;
use platform_catalog::{Audience, Catalog, Scope};
use platform_query::{QueryError, QueryResult};
use proptest::prelude::*;

use crate::world::{ask, ask_over, check, decimal, integers, model, rows, text};

#[test]
fn literals_are_exact() {
    check("SELECT 0.1 + 0.2 = 0.3", &["true"]);
    check("SELECT 1e-3 = 0.001, 1.5E2 = 150, 1e3 * 0.1 = 100", &["true,true,true"]);
    check("SELECT 1e-38", &["0.00000000000000000000000000000000000001"]);
    check("SELECT 12345678901234567890123456789012345678", &["12345678901234567890123456789012345678"]);
    check("SELECT -0.5, .5, 1., 0.10", &["-0.5,0.5,1,0.10"]);
    check("SELECT sum(x) FROM (VALUES (0.1), (0.2), (0.3)) AS v(x)", &["0.6"]);
    check("SELECT sum(x) FROM (VALUES (0.1), (0.22), (1)) AS v(x)", &["1.32"]);
    check("SELECT '0.10'::decimal(3,2) = 0.1", &["true"]);
    check("SELECT quantity FROM usage.charges WHERE amount = '0.125'", &["0.000000003"]);
    check("SELECT 18446744073709551616 + 1", &["18446744073709551617"]);
}

#[test]
fn a_sum_that_does_not_fit_raises_and_one_that_fits_does_not_depend_on_the_way() {
    let overflow = |sql: &str, name: &str| match ask(sql) {
        Err(QueryError::Overflow { what }) => assert!(what.contains(name), "{sql}: {what}"),
        other => panic!("{sql}: {other:?}"),
    };
    overflow("SELECT sum(money) FROM ledger.huge WHERE name < 'c'", "sum(ledger.huge.money)");
    overflow("SELECT name < 'c' AS k, sum(money) AS total FROM ledger.huge GROUP BY 1", "sum(ledger.huge.money)");
    overflow("SELECT sum(number) FROM ledger.huge WHERE name < 'c'", "sum(ledger.huge.number)");
    overflow("SELECT sum(whole) FROM ledger.huge", "sum(ledger.huge.whole)");
    overflow("SELECT sum(number) OVER (ORDER BY name) FROM ledger.huge", "number");
    check("SELECT sum(money) = 60000000000000000000000000 FROM ledger.huge", &["true"]);
    check("SELECT sum(number) FROM ledger.huge", &["9223372036854775806"]);
    check("SELECT sum(money) FROM ledger.huge WHERE false", &[""]);
}

#[test]
fn operators_raise_instead_of_wrapping() {
    for sql in [
        "SELECT money + money FROM ledger.huge WHERE name = 'a'",
        "SELECT money - 2 * money - money FROM ledger.huge WHERE name = 'a'",
        "SELECT money * 10 FROM ledger.huge",
        "SELECT money * money FROM ledger.huge",
        "SELECT number + 1 FROM ledger.huge WHERE name = 'a'",
        "SELECT number - 1 FROM ledger.huge WHERE name = 'c'",
        "SELECT number * 2 FROM ledger.huge",
        "SELECT -number FROM ledger.huge",
        "SELECT abs(number) FROM ledger.huge",
        "SELECT whole + whole FROM ledger.huge",
        "SELECT 9223372036854775807 + 1",
        "SELECT 9223372036854775807 * 9223372036854775807",
        "SELECT -(-9223372036854775807 - 1)",
        "SELECT CAST(money AS decimal(20,12)) FROM ledger.huge",
        "SELECT CAST(number AS decimal(10,0)) FROM ledger.huge",
        "SELECT CAST(money AS decimal(38,13)) FROM ledger.huge",
        "SELECT CAST(number AS integer) FROM ledger.huge",
        "SELECT round_half_even(money, 14) FROM ledger.huge",
        "SELECT divide_half_even(money, 0.001, 12) FROM ledger.huge",
        "SELECT count(*) FROM ledger.huge WHERE number + 1 > 0",
        "SELECT sum(number + 1) FROM ledger.huge",
        "SELECT name FROM ledger.huge ORDER BY number + 1",
        "SELECT count(*) FROM ledger.huge GROUP BY number * 2",
        "SELECT (SELECT max(number) FROM ledger.huge) + 1",
        "SELECT 1 FROM ledger.huge a JOIN ledger.huge b ON a.number + 1 = b.number",
    ] {
        match ask(sql) {
            Err(QueryError::Overflow { .. } | QueryError::Data { .. }) => {}
            other => panic!("{sql}: {other:?}"),
        }
    }
    // Five tenths of the range twice is 39 digits: it fits the machine word, but not what the type promises.
    let nearly = ask("SELECT money + money FROM ledger.huge WHERE name = 'a'");
    assert!(matches!(nearly, Err(QueryError::Overflow { .. })), "{nearly:?}");
    check("SELECT number - 1 FROM ledger.huge WHERE name = 'a'", &["9223372036854775806"]);
    check("SELECT 7 / 2, -7 / 2, 7 % 4, 5.5 % 2", &["3,-3,3,1.5"]);
    check("SELECT sum(readings + 1) FROM usage.charges", &["20"]);
    check("SELECT readings + 1, count(*) FROM usage.charges GROUP BY readings + 1 ORDER BY readings + 1 LIMIT 2", &["2,1", "3,1"]);
    check("SELECT -amount, abs(amount), abs(-3), abs(readings) FROM usage.charges WHERE readings = 3", &["0.500000000,0.500000000,3,3"]);
}

#[test]
fn aggregates_work_with_filters_groups_and_windows_over_integers() {
    check(
        "SELECT sum(amount) FILTER (WHERE meter = 'gpu'), sum(amount) FILTER (WHERE meter = 'none') FROM usage.charges",
        &["2.125000000,"],
    );
    check(
        "SELECT meter, sum(amount), min(amount), max(amount), count(amount), count(DISTINCT amount) FROM usage.charges GROUP BY meter ORDER BY meter",
        &["gpu,2.125000000,-0.500000000,2.500000000,3,3", "token,0.475000000,0.100000000,0.375000000,2,2"],
    );
    check(
        "SELECT readings, sum(readings) OVER (ORDER BY readings ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) FROM usage.charges WHERE readings < 4",
        &["1,1", "2,3", "3,5"],
    );
    check(
        "SELECT meter, sum(amount), grouping(meter) FROM usage.charges GROUP BY ROLLUP (meter) ORDER BY meter NULLS LAST",
        &["gpu,2.125000000,0", "token,0.475000000,0", ",2.600000000,1"],
    );
    check("SELECT count(DISTINCT meter), sum(readings) FROM usage.charges", &["2,15"]);
    check("SELECT avg(readings) FROM usage.charges", &["3"]);
}

#[test]
fn comparisons_across_scales_and_integers_are_exact() {
    check("SELECT count(*) FROM usage.charges WHERE amount > 0.0999999999999", &["4"]);
    check("SELECT count(*) FROM usage.charges WHERE quantity = 1000", &["1"]);
    check("SELECT count(*) FROM usage.charges WHERE readings > 1.5 AND readings < 4.5", &["3"]);
    check("SELECT count(*) FROM usage.charges WHERE readings = 1.5", &["0"]);
    check("SELECT count(*) FROM usage.charges WHERE amount BETWEEN 0.1 AND 0.375", &["3"]);
    check("SELECT count(*) FROM usage.charges WHERE amount IN (0.1, 2.5, 0.12500000000000000001)", &["2"]);
    check(
        "SELECT b.organization FROM ledger.balances b JOIN usage.charges c ON b.balance = c.amount * 1090 AND b.organization = c.organization",
        &["acme"],
    );
    check(
        "SELECT CASE WHEN amount > 1 THEN amount ELSE 0 END FROM usage.charges WHERE meter = 'token' ORDER BY amount",
        &["0.000000000", "0.000000000"],
    );
    check(
        "SELECT coalesce(amount, 0), nullif(readings, 5), greatest(amount, 0.3) FROM usage.charges WHERE organization = 'gamma'",
        &["0.000000000,,0.300000000"],
    );
    check(
        "SELECT amount FROM usage.charges WHERE organization = 'acme' UNION ALL SELECT balance FROM ledger.balances ORDER BY 1 LIMIT 2",
        &["-12.500000000", "0.000000000"],
    );
}

#[test]
fn rounding_goes_to_even_both_ways() {
    check(
        "SELECT round_half_even(2.5, 0), round_half_even(3.5, 0), round_half_even(-2.5, 0), round_half_even(-3.5, 0), round_half_even(2.51, 0)",
        &["2,4,-2,-4,3"],
    );
    check(
        "SELECT round_half_even(0.125, 2), round_half_even(0.375, 2), round_half_even(1, 2), round_half_even(9.995, 2)",
        &["0.12,0.38,1.00,10.00"],
    );
    check("SELECT round_half_even(amount, 1) FROM usage.charges ORDER BY start_at", &["2.5", "0.1", "-0.5", "0.1", "0.4", ""]);
    check(
        "SELECT divide_half_even(1, 3, 4), divide_half_even(2, 3, 4), divide_half_even(1, 8, 2), divide_half_even(NULL, 8, 2)",
        &["0.3333,0.6667,0.12,"],
    );
    check("SELECT divide_half_even(sum(amount), count(amount), 9) FROM usage.charges", &["0.520000000"]);
    assert!(matches!(ask("SELECT divide_half_even(amount, 0, 2) FROM usage.charges"), Err(QueryError::Data { .. })));
}

fn units(value: &str) -> BigInt {
    value.replace('.', "").parse().unwrap()
}

fn half_even(n: &BigInt, d: &BigInt) -> BigInt {
    // floor, then compare twice the rest with the divisor (d > 0).
    let zero = BigInt::from(0);
    let (mut q, mut r) = (n / d, n % d);
    if r < zero {
        q -= 1;
        r += d;
    }
    let twice = &r * 2;
    if twice > *d || (twice == *d && &q % 2 != zero) { q + 1 } else { q }
}

fn overflows(answer: &Result<QueryResult, QueryError>) -> bool {
    matches!(answer, Err(QueryError::Overflow { .. }))
}

fn limit() -> BigInt {
    BigInt::from(10).pow(38)
}

fn catalog_of(money: &[i128], scale: i8, groups: &[u8]) -> Arc<Catalog> {
    let catalog = Catalog::new();
    let money: Vec<Option<i128>> = money.iter().copied().map(Some).collect();
    let names: Vec<String> = groups.iter().map(|group| format!("g{group}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let low: Vec<Option<i64>> = money.iter().map(|units| units.map(|units| units as i64)).collect();
    let columns = vec![("name", text(&names)), ("money", decimal(&money, 38, scale)), ("low", integers(&low))];
    catalog.register(Arc::new(model("ledger.random", Audience::Operator, columns))).unwrap();
    Arc::new(catalog)
}

fn magnitude() -> impl Strategy<Value = i128> {
    let largest = 10_i128.pow(38) - 1;
    prop_oneof![-1000_i128..1000, -largest..=largest, Just(largest), Just(-largest), (-50_i128..50).prop_map(|n| n * 10_i128.pow(36))]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sums_agree_with_big_integers(rows_in in proptest::collection::vec((magnitude(), 0_u8..4), 1..40), scale in 0_i8..=38) {
        let (money, groups): (Vec<i128>, Vec<u8>) = rows_in.into_iter().unzip();
        let catalog = catalog_of(&money, scale, &groups);
        let total: BigInt = money.iter().map(|units| BigInt::from(*units)).sum();
        let answer = ask_over(Arc::clone(&catalog), "SELECT sum(money) FROM ledger.random", &Scope::Operator);
        if total < limit() && total > -limit() {
            prop_assert_eq!(units(&rows(&answer.unwrap())[0]), total);
        } else {
            prop_assert!(overflows(&answer));
        }
        let mut expected = Vec::new();
        for group in 0..4 {
            let members: Vec<BigInt> = money.iter().zip(&groups).filter(|(_, of)| **of == group).map(|(units, _)| BigInt::from(*units)).collect();
            if !members.is_empty() {
                expected.push((format!("g{group}"), members.into_iter().sum::<BigInt>()));
            }
        }
        let answer = ask_over(Arc::clone(&catalog), "SELECT name, sum(money) FROM ledger.random GROUP BY name ORDER BY name", &Scope::Operator);
        if expected.iter().all(|(_, sum)| *sum < limit() && *sum > -limit()) {
            let found: Vec<(String, BigInt)> = rows(&answer.unwrap()).iter().map(|row| {
                let (name, sum) = row.split_once(',').unwrap();
                (name.to_owned(), units(sum))
            }).collect();
            prop_assert_eq!(found, expected);
        } else {
            prop_assert!(overflows(&answer));
        }
        let low: i128 = money.iter().map(|units| i128::from(*units as i64)).sum();
        let answer = ask_over(catalog, "SELECT sum(low) FROM ledger.random", &Scope::Operator);
        match i64::try_from(low) {
            Ok(low) => prop_assert_eq!(&rows(&answer.unwrap())[0], &low.to_string()),
            Err(_) => prop_assert!(overflows(&answer)),
        }
    }

    #[test]
    fn rounding_quotients_and_products_agree_with_big_integers(x in magnitude(), y in magnitude(), scale in 0_i8..=18, digits in 0_i8..=18) {
        let catalog = catalog_of(&[x, y], scale, &[0, 1]);
        let from = "FROM ledger.random a, ledger.random b WHERE a.name = 'g0' AND b.name = 'g1'";
        let ten = |power: i8| BigInt::from(10).pow(u32::try_from(power).unwrap());
        let (big_x, big_y) = (BigInt::from(x), BigInt::from(y));
        let compare = |sql: String, expected: BigInt| {
            let answer = ask_over(Arc::clone(&catalog), &sql, &Scope::Operator);
            if expected < limit() && expected > -limit() {
                assert_eq!(units(&rows(&answer.unwrap())[0]), expected, "{sql}");
            } else {
                assert!(matches!(answer, Err(QueryError::Overflow { .. } | QueryError::Data { .. })), "{sql} {answer:?}");
            }
        };
        compare(format!("SELECT round_half_even(a.money, {digits}) {from}"), half_even(&(&big_x * ten(digits)), &ten(scale)));
        compare(format!("SELECT a.money * b.money {from}"), &big_x * &big_y);
        compare(format!("SELECT a.money + b.money {from}"), &big_x + &big_y);
        compare(format!("SELECT a.money - b.money {from}"), &big_x - &big_y);
        if y != 0 {
            let (n, d) = if y < 0 { (-&big_x, -&big_y) } else { (big_x.clone(), big_y.clone()) };
            compare(format!("SELECT divide_half_even(a.money, b.money, {digits}) {from}"), half_even(&(n * ten(digits)), &d));
        }
    }
}
